//! The one place where training reads the clock.

use std::time::Instant;

/// Time since a start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed_s(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    pub(crate) fn elapsed_ms(&self) -> f64 {
        self.elapsed_s() * 1e3
    }
}
