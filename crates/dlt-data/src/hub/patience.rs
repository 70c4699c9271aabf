//! How long to wait and how often to try.

use std::time::{Duration, Instant};

/// How long to wait for the hub and how often to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Failed tries, one after the other, before the request is given up.
    pub tries: u32,
    /// Pause after the first failed try; it doubles each time. The hub's own `Retry-After` takes
    /// precedence.
    pub first_wait: Duration,
    /// Longest pause, even if the hub asks for a longer one.
    pub longest_wait: Duration,
    /// How long to wait for a connection, an answer or the next bytes.
    pub stall: Duration,
    /// Least speed, measured over `stall`. A slower answer is broken off and tried again; a file
    /// resumes where it stopped.
    pub least_bytes_per_s: u64,
    /// Longest time that one answer with a list of files may take.
    pub listing: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            least_bytes_per_s: 200,
            // Enough for the longest list that is read, 64 MiB, at some 200 kB a second.
            listing: Duration::from_secs(300),
        }
    }
}

impl Patience {
    /// For a question that the cache can answer too: at most two tries.
    pub(crate) fn brief(&self) -> Self {
        Self { tries: self.tries.min(2), ..self.clone() }
    }

    /// Begins to watch the speed of an answer.
    pub(super) fn pace(&self) -> Pace<'_> {
        Pace { patience: self, window: Instant::now(), in_window: 0 }
    }

    /// Bytes that arrive within `stall` at the least speed.
    pub(super) fn least_bytes(&self) -> u64 {
        least_bytes(self.least_bytes_per_s, self.stall)
    }

    /// The pause after `failed` tries without success.
    pub(super) fn wait(&self, failed: u32, retry_after: Option<Duration>) -> Duration {
        let doubled =
            self.first_wait.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)));
        retry_after.unwrap_or(doubled).min(self.longest_wait)
    }
}

/// The speed of an answer, measured over windows of [`Patience::stall`].
pub(super) struct Pace<'a> {
    patience: &'a Patience,
    window: Instant,
    in_window: u64,
}

impl Pace<'_> {
    /// Counts bytes that have arrived. Returns whether the answer is still fast enough.
    pub(super) fn is_kept(&mut self, bytes: usize) -> bool {
        self.in_window += bytes as u64;
        let elapsed = self.window.elapsed();
        if elapsed < self.patience.stall {
            return true;
        }

        let is_kept = self.in_window >= least_bytes(self.patience.least_bytes_per_s, elapsed);
        self.window = Instant::now();
        self.in_window = 0;
        is_kept
    }
}

fn least_bytes(per_s: u64, time: Duration) -> u64 {
    (per_s as f64 * time.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_the_hub_has_its_say() {
        let patience = Patience::default();
        let waits: Vec<u64> =
            (1..=9).map(|failed| patience.wait(failed, None).as_millis() as u64).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(patience.wait(1, Some(Duration::from_secs(7))), Duration::from_secs(7));

        assert_eq!(
            patience.wait(u32::MAX, Some(Duration::from_secs(7_000))),
            Duration::from_secs(60)
        );
    }
}
