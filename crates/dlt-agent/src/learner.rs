//! Temporal-difference learning of the Q-network (Eq. 3 and 4).

use crate::adamw::AdamW;
use crate::error::AgentError;
use crate::experience::Experience;
use crate::network::{Activations, Parameters, QNetwork};
use std::ops::Range;

/// A Q-network that learns from one decision at a time, and from remembered ones with it if they
/// are given.
#[derive(Clone, Debug)]
pub struct QLearner {
    network: QNetwork,
    /// A copy of the network from some updates ago, which gives the maxima in targets (DEVIATIONS
    /// row 49).
    target: Option<QNetwork>,
    optimizer: AdamW,
    settings: LearnerSettings,
}

/// How a [`QLearner`] learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnerSettings {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Discount factor.
    pub gamma: f64,
    /// Updates between two copies of the network into the target network. 0 means that there is no
    /// target network; the network that learns then gives the targets.
    pub target_every: usize,
}

/// The values of the newest decision in one update of the Q-network, computed before the update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// `Q(s, a)`: the sum of the chosen values over the decided layers.
    pub predicted: f64,
    /// `r + gamma * max Q(s', .)`.
    pub target: f64,
    /// The square of their difference.
    pub loss: f64,
}

impl QLearner {
    /// A learner with the given network and fresh moments.
    #[must_use]
    pub fn new(network: QNetwork, settings: LearnerSettings) -> Self {
        let target = (settings.target_every > 0).then(|| network.clone());
        Self { optimizer: AdamW::new(network.parameters()), network, target, settings }
    }

    /// A learner with the given network, target network and moments.
    ///
    /// # Errors
    /// [`AgentError::Mismatch`] if a moment has another length than its parameter, or if there is a
    /// target network where `settings` have none, or the reverse.
    pub fn resume(
        network: QNetwork,
        target: Option<QNetwork>,
        optimizer: AdamW,
        settings: LearnerSettings,
    ) -> Result<Self, AgentError> {
        let lengths = |parameters: &Parameters| parameters.tensors().map(<[f32]>::len);
        let expected = lengths(network.parameters());
        for moment in [&optimizer.first_moment, &optimizer.second_moment] {
            if lengths(moment) != expected {
                return Err(AgentError::Mismatch {
                    place: "lengths of the Q-network's moments",
                    expected: format!("{expected:?}"),
                    got: format!("{:?}", lengths(moment)),
                });
            }
        }

        if target.is_some() != (settings.target_every > 0) {
            let words = |has: bool| if has { "one" } else { "none" }.to_owned();
            return Err(AgentError::Mismatch {
                place: "target network",
                expected: words(settings.target_every > 0),
                got: words(target.is_some()),
            });
        }

        Ok(Self { network, target, optimizer, settings })
    }

    /// One gradient step on `(predicted - target)^2` of one decision; `None` if its reward is for
    /// no layer. Q is a sum of independent terms. So the maximum over actions is the sum of the
    /// maxima of the decided layers' slices, and a per-layer decision only looks at the slice of
    /// its own layer (DEVIATIONS row 13).
    ///
    /// # Errors
    /// [`AgentError::NotFinite`] if the reward, or the loss that follows from it, is not finite.
    /// Nothing changes then.
    pub fn learn(&mut self, experience: &Experience<'_>) -> Result<Option<Update>, AgentError> {
        self.learn_again(experience, &[])
    }

    /// [`learn`](Self::learn) on the mean of the losses of `newest` and of each of `remembered`.
    /// The returned update is that of `newest`.
    ///
    /// # Errors
    /// As [`learn`](Self::learn).
    pub fn learn_again(
        &mut self,
        newest: &Experience<'_>,
        remembered: &[Experience<'_>],
    ) -> Result<Option<Update>, AgentError> {
        finite("the reward", newest.reward)?;
        if newest.layers.is_empty() {
            return Ok(None);
        }

        let share = 1.0 / (1 + remembered.len()) as f32;

        // Every gradient is computed, and can fail, before the optimizer step: a failed update
        // changes nothing.
        let (update, mut gradient) = self.gradient(newest, share)?;
        for experience in remembered {
            gradient.add(&self.gradient(experience, share)?.1);
        }

        let LearnerSettings { learning_rate, weight_decay, target_every, .. } = self.settings;
        self.optimizer.step(self.network.parameters_mut(), &gradient, learning_rate, weight_decay);

        if let Some(target) = &mut self.target
            && self.optimizer.steps.is_multiple_of(target_every as u64)
        {
            target.clone_from(&self.network);
        }

        Ok(Some(update))
    }

    /// The values of one decision, and the gradient of `share` times its loss.
    fn gradient(
        &self,
        experience: &Experience<'_>,
        share: f32,
    ) -> Result<(Update, Parameters), AgentError> {
        let layout = self.network.layout();
        let layers = experience.layers.iter().copied();
        let kept: Activations = self.network.forward(experience.before);
        let space = layout.space();
        let values = layout.values(&kept.outputs);
        let predicted = space.q_value_over(values, experience.action, layers.clone());
        let next = self.target.as_ref().unwrap_or(&self.network).values(experience.after);

        // The target is a constant: no gradient flows into `next`, so that forward pass keeps
        // nothing.
        let best_of = |layer| next[layout.slice(layer).start + layout.best(&next, layer)];
        let best_next: f32 = layers.clone().map(best_of).sum();
        let target = experience.reward as f32 + self.settings.gamma as f32 * best_next;
        let difference = predicted - target;

        finite("the loss of the Q-network", f64::from(difference * difference))?;

        // `predicted` is a plain sum of the chosen outputs, so each of them gets the whole slope
        // and all others get none.
        let mut slopes = vec![0.0; kept.outputs.len()];
        for layer in layers {
            let chosen = layout.slice(layer).start + experience.action[layer];
            slopes[chosen] = 2.0 * difference * share;
        }

        let update = Update {
            predicted: predicted.into(),
            target: target.into(),
            loss: (difference * difference).into(),
        };

        Ok((update, self.network.backward(&kept, &slopes)))
    }

    /// The best choice of each of `layers` for the state vector `vector`; of equal values the
    /// lowest layer.
    #[must_use]
    pub fn best(&self, vector: &[usize], layers: Range<usize>) -> Vec<usize> {
        let layout = self.network.layout();
        let outputs = self.network.values(vector);
        layers.map(|layer| layout.best(&outputs, layer)).collect()
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &QNetwork {
        &self.network
    }

    /// The target network, if there is one.
    #[must_use]
    pub fn target(&self) -> Option<&QNetwork> {
        self.target.as_ref()
    }

    /// Its moments and step count.
    #[must_use]
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// How it learns.
    #[must_use]
    pub fn settings(&self) -> LearnerSettings {
        self.settings
    }
}

/// Fails if `value` is infinite, not a number, or too great for f32.
pub(crate) fn finite(quantity: &'static str, value: f64) -> Result<(), AgentError> {
    if (value as f32).is_finite() { Ok(()) } else { Err(AgentError::NotFinite { quantity, value }) }
}
