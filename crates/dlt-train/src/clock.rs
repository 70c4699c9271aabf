//! The one place where training reads the clock.

use std::time::Instant;

/// The rate per second; `None` if the clock shows no elapsed time, as a coarse clock can.
pub(crate) fn per_second(amount: f64, seconds: f64) -> Option<f64> {
    Some(amount / seconds).filter(|rate| seconds > 0.0 && rate.is_finite())
}

/// Time since a start, plus the time of earlier processes if a run was resumed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    before_s: f64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self::resumed(0.0)
    }

    /// A clock that has already run for `before_s` seconds.
    pub(crate) fn resumed(before_s: f64) -> Self {
        Self { start: Instant::now(), before_s }
    }

    pub(crate) fn elapsed_s(&self) -> f64 {
        self.before_s + self.start.elapsed().as_secs_f64()
    }

    pub(crate) fn elapsed_ms(&self) -> f64 {
        self.elapsed_s() * 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_without_time_is_none() {
        assert_eq!(per_second(6.0, 2.0), Some(3.0));
        for seconds in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE] {
            assert_eq!(per_second(1e30, seconds), None, "{seconds}");
        }
    }
}
