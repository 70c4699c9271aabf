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

/// The kind of a reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardKind {
    /// `-exp(loss)`, with the loss no more than [`MAX_LOSS`].
    NegPpl,
    /// The same, clipped to `±`[`CLIP`]: the constant -10 as long as perplexity is above 10.
    NegPplClipped,
    /// `-loss`.
    NegLoss,
    /// The loss of the previous measurement minus this one; 0 the first time.
    LossDelta,
    /// The share of right answers.
    Accuracy,
    /// The negative of that share, which rewards wrong answers: the authors' code for images.
    NegAccuracy,
    /// The loss before the decision minus the loss now, on the same batches.
    Gain,
}

impl From<Reward> for RewardKind {
    fn from(reward: Reward) -> Self {
        match reward {
            Reward::NegPpl => Self::NegPpl,
            Reward::NegPplClipped => Self::NegPplClipped,
            Reward::NegLoss => Self::NegLoss,
            Reward::LossDelta => Self::LossDelta,
            Reward::Gain => Self::Gain,
            Reward::Accuracy => Self::Accuracy,
            Reward::NegAccuracy => Self::NegAccuracy,
        }
    }
}

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
/// use dlt_agent::{Measured, RewardKind, Rewarder};
///
/// let mut rewarder = Rewarder::new(RewardKind::LossDelta);
/// assert_eq!(rewarder.reward(Measured::of_loss(5.0), None)?, 0.0);
/// assert_eq!(rewarder.reward(Measured::of_loss(4.5), None)?, 0.5);
/// # Ok::<(), dlt_agent::AgentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewarder {
    kind: RewardKind,
    #[serde(with = "exact::f64_option")]
    previous_loss: Option<f64>,
}

impl Rewarder {
    /// A rewarder that has seen no measurement.
    #[must_use]
    pub fn new(kind: RewardKind) -> Self {
        Self { kind, previous_loss: None }
    }

    /// The kind of reward.
    #[must_use]
    pub fn kind(&self) -> RewardKind {
        self.kind
    }

    /// The reward for a measurement. `before` is the loss before the decision on the same batches
    /// as `measured`; only [`RewardKind::Gain`] needs it.
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
            RewardKind::NegPpl => negative_perplexity,
            RewardKind::NegPplClipped => negative_perplexity.clamp(-CLIP, CLIP),
            RewardKind::NegLoss => -loss,
            RewardKind::Accuracy => accuracy()?,
            RewardKind::NegAccuracy => -accuracy()?,
            RewardKind::Gain => {
                let before = before.ok_or(AgentError::NoLossBefore)?;
                finite("the loss before the decision", before)?;
                before - loss
            }
            RewardKind::LossDelta => {
                let previous = self.previous_loss.replace(loss);
                previous.map_or(0.0, |previous| previous - loss)
            }
        })
    }
}
