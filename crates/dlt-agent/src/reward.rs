//! The reward of a decision (DEVIATIONS rows 7, 15 and 46).

use crate::error::AgentError;
use crate::exact;
use crate::learner::finite;
use dlt_spec::spec::Reward;
use serde::{Deserialize, Serialize};

/// Mean cross-entropy in nats from which on the negative perplexity no longer changes. `exp(20)` is
/// 4.9e8, thousands of times the perplexity of a uniform guess over a large vocabulary. Its square
/// is still far from overflowing f32 in the Q-network's loss and moments.
pub const MAX_LOSS: f64 = 20.0;

/// Bound of the clipped negative perplexity on both sides, as in the authors' code.
pub const CLIP: f64 = 10.0;

/// Measurements of a model in one state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Share of right classes; `None` if the model predicts tokens.
    pub accuracy: Option<f64>,
}

impl Measured {
    /// A measurement of a loss alone, in nats.
    #[must_use]
    pub fn of_loss(loss: f64) -> Self {
        Self { loss, accuracy: None }
    }
}

/// Turns measurements into rewards.
///
/// ```
/// use dlt_agent::{Measured, Rewarder};
/// use dlt_spec::spec::Reward;
///
/// let mut rewarder = Rewarder::new(Reward::LossDelta);
/// assert_eq!(rewarder.reward(Measured::of_loss(5.0), None)?, 0.0);
/// assert_eq!(rewarder.reward(Measured::of_loss(4.5), None)?, 0.5);
/// # Ok::<(), dlt_agent::AgentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewarder {
    kind: Reward,
    #[serde(with = "exact::f64_option")]
    previous_loss: Option<f64>,
}

impl Rewarder {
    /// A rewarder that has seen no measurement.
    #[must_use]
    pub fn new(kind: Reward) -> Self {
        Self { kind, previous_loss: None }
    }

    /// The kind of reward.
    #[must_use]
    pub fn kind(&self) -> Reward {
        self.kind
    }

    /// The reward for a measurement. `before` is the loss before the decision on the same batches
    /// as `measured`; only [`Reward::Gain`] needs it.
    ///
    /// # Errors
    /// [`AgentError::NotFinite`] if a loss is not finite, which means that the run has diverged, or
    /// if the accuracy is needed and was not measured. [`AgentError::NoLossBefore`] if the loss
    /// before the decision is needed and missing.
    pub fn reward(&mut self, measured: Measured, before: Option<f64>) -> Result<f64, AgentError> {
        let Measured { loss, accuracy } = measured;
        finite("the measurement for the reward", loss)?;

        let accuracy = || {
            let accuracy = accuracy.unwrap_or(f64::NAN);
            finite("the accuracy for the reward", accuracy).map(|()| accuracy)
        };

        // Capped before `exp`, not after: a large loss would overflow, and the first decisions of a
        // run have large losses.
        let negative_perplexity = -loss.min(MAX_LOSS).exp();

        Ok(match self.kind {
            Reward::NegPpl => negative_perplexity,
            Reward::NegPplClipped => negative_perplexity.clamp(-CLIP, CLIP),
            Reward::NegLoss => -loss,
            Reward::Accuracy => accuracy()?,
            Reward::NegAccuracy => -accuracy()?,
            Reward::Gain => {
                let before = before.ok_or(AgentError::NoLossBefore)?;
                finite("the loss before the decision", before)?;
                before - loss
            }
            Reward::LossDelta => {
                let previous = self.previous_loss.replace(loss);
                previous.map_or(0.0, |previous| previous - loss)
            }
        })
    }
}
