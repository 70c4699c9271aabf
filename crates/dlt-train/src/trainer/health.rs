//! Whether the numbers of a run are sound: steps that are not finite, and losses that explode.

use dlt_spec::spec::NonFinite;

use crate::explosion::LossWatch;
use crate::{Result, TrainError};

/// What a run does about a step that is not finite, and what it has seen so far.
pub(super) struct Health {
    /// Whether such a step ends the run.
    rule: NonFinite,
    /// Steps skipped so far. A checkpoint saves this number; the losses that `watch` remembers
    /// are not saved, because they only decide about warnings.
    pub(super) skipped_steps: usize,
    watch: LossWatch,
}

impl Health {
    pub(super) fn new(rule: NonFinite) -> Self {
        Self { rule, skipped_steps: 0, watch: LossWatch::default() }
    }

    /// Handles a step whose loss or gradient is not a finite number: counts it as skipped, or
    /// ends the run, as `training.non_finite` says.
    pub(super) fn not_finite(&mut self, step: usize, loss: f64, tensor: String) -> Result<()> {
        match self.rule {
            NonFinite::Stop => Err(TrainError::Diverged { step, loss, tensor }),
            NonFinite::Skip => {
                self.skipped_steps += 1;
                tracing::warn!(
                    step,
                    loss,
                    tensor,
                    skipped = self.skipped_steps,
                    "step skipped: not finite"
                );
                Ok(())
            }
        }
    }

    /// Steps skipped so far, as the metrics show them: `None` for none.
    pub(super) fn skipped(&self) -> Option<usize> {
        (self.skipped_steps > 0).then_some(self.skipped_steps)
    }

    /// Logs a warning if the loss of a step explodes.
    pub(super) fn watch(&mut self, step: usize, loss: f64) {
        if let Some(median) = self.watch.see(step, loss) {
            tracing::warn!(step, loss, median, "the loss is far above the median of recent losses");
        }
    }
}
