//! What a decision is rewarded with (method section 3, rows 7 and 15).

use crate::error::AgentError;
use crate::exact;
use crate::learner::finite;
use dlt_spec::spec::Reward;
use serde::{Deserialize, Serialize};

/// Mean cross-entropy from which on the negative perplexity stays the same: `exp(20)` is 4.9e8, thousands of
/// times the perplexity of a uniform guess over a large vocabulary, and its square still is far from
/// overflowing f32 in the Q-network's loss and moments.
pub const MAX_LOSS: f64 = 20.0;

/// Bound of the clipped negative perplexity on either side, the authors'.
pub const CLIP: f64 = 10.0;

/// Which reward, and what it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardKind {
    /// `-exp(loss)`, with the loss no more than [`MAX_LOSS`].
    NegPpl,
    /// The same, clipped to `±`[`CLIP`]: the constant -10 wherever perplexity is above 10.
    NegPplClipped,
    /// `-loss`.
    NegLoss,
    /// The loss of the measurement before, minus this one; 0 the first time.
    LossDelta,
    /// The share of right answers.
    Accuracy,
    /// Its negative, which rewards being wrong: the authors' code for images.
    NegAccuracy,
}

impl From<Reward> for RewardKind {
    fn from(reward: Reward) -> Self {
        match reward {
            Reward::NegPpl => Self::NegPpl,
            Reward::NegPplClipped => Self::NegPplClipped,
            Reward::NegLoss => Self::NegLoss,
            Reward::LossDelta => Self::LossDelta,
        }
    }
}

/// Turns measurements into rewards.
///
/// ```
/// use dlt_agent::{RewardKind, Rewarder};
///
/// let mut rewarder = Rewarder::new(RewardKind::LossDelta);
/// assert_eq!(rewarder.reward(5.0)?, 0.0);
/// assert_eq!(rewarder.reward(4.5)?, 0.5);
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
    /// Nothing measured yet.
    #[must_use]
    pub fn new(kind: RewardKind) -> Self {
        Self { kind, previous_loss: None }
    }

    /// Which reward it is.
    #[must_use]
    pub fn kind(&self) -> RewardKind {
        self.kind
    }

    /// The reward for `measured`: the mean cross-entropy in nats, or for the two accuracies the share of right
    /// answers.
    ///
    /// # Errors
    /// [`AgentError::NotFinite`] where `measured` is not finite: the run has diverged.
    pub fn reward(&mut self, measured: f64) -> Result<f64, AgentError> {
        finite("the measurement for the reward", measured)?;
        let negative_perplexity = -measured.min(MAX_LOSS).exp();
        Ok(match self.kind {
            RewardKind::NegPpl => negative_perplexity,
            RewardKind::NegPplClipped => negative_perplexity.clamp(-CLIP, CLIP),
            RewardKind::NegLoss | RewardKind::NegAccuracy => -measured,
            RewardKind::Accuracy => measured,
            RewardKind::LossDelta => {
                let previous = self.previous_loss.replace(measured);
                previous.map_or(0.0, |previous| previous - measured)
            }
        })
    }
}
