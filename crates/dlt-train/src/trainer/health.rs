//! Whether the numbers of a run are sound: steps that are not finite, and losses that explode.

use dlt_spec::spec::NonFinite;

use crate::explosion::LossWatch;
use crate::{Result, TrainError};

/// What a run does about a step that is not finite, and the losses it has seen. A checkpoint does
/// not save them, because they only decide about warnings.
pub(super) struct Health {
    /// Whether such a step ends the run.
    rule: NonFinite,
    watch: LossWatch,
}

impl Health {
    pub(super) fn new(rule: NonFinite) -> Self {
        Self { rule, watch: LossWatch::default() }
    }

    /// Handles a step whose loss or gradient is not a finite number: counts it in `skipped`, or
    /// ends the run, as `training.non_finite` says.
    pub(super) fn not_finite(
        &self,
        step: usize,
        loss: f64,
        tensor: String,
        skipped: &mut usize,
    ) -> Result<()> {
        match self.rule {
            NonFinite::Stop => Err(TrainError::Diverged { step, loss, tensor }),
            NonFinite::Skip => {
                *skipped += 1;
                tracing::warn!(step, loss, tensor, skipped, "step skipped: not finite");
                Ok(())
            }
        }
    }

    /// Logs a warning if the loss of a step explodes.
    pub(super) fn watch(&mut self, step: usize, loss: f64) {
        if let Some(median) = self.watch.see(step, loss) {
            tracing::warn!(step, loss, median, "the loss is far above the median of recent losses");
        }
    }
}
