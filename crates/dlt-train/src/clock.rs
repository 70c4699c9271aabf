//! The one place where training reads the clock.

use std::time::Instant;

/// Time since a start, with what went before where a run was resumed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    before_s: f64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self::resumed(0.0)
    }

    /// A clock that has run for so long already.
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
