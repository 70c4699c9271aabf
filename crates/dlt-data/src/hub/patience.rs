//! How long to wait and how often to try.

use std::time::Duration;

/// How long to wait for the hub and how often to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Tries that bring nothing, one after the other, before it is given up.
    pub tries: u32,
    /// Pause after the first of them; it doubles each time. The hub's own `Retry-After` comes before it.
    pub first_wait: Duration,
    /// Longest pause, also where the hub asks for a longer one.
    pub longest_wait: Duration,
    /// How long to wait for a connection, an answer or the next bytes.
    pub stall: Duration,
    /// A download that brings less is broken off and begun again where it stands; measured over `stall`.
    pub least_bytes_per_s: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            least_bytes_per_s: 200,
        }
    }
}

impl Patience {
    /// The pause after `failed` tries without success.
    pub(super) fn wait(&self, failed: u32, retry_after: Option<Duration>) -> Duration {
        let doubled = self.first_wait.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)));
        retry_after.unwrap_or(doubled).min(self.longest_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_the_hub_has_its_say() {
        let patience = Patience::default();
        let waits: Vec<u64> = (1..=9).map(|failed| patience.wait(failed, None).as_millis() as u64).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(patience.wait(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(patience.wait(u32::MAX, Some(Duration::from_secs(7_000))), Duration::from_secs(60));
    }
}
