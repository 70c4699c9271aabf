//! Temporal-difference learning of the Q-network (Eq. 3 and 4).

use crate::adamw::AdamW;
use crate::error::AgentError;
use crate::layout::QLayout;
use crate::network::{Parameters, QNetwork};
use std::ops::Range;

/// A Q-network that learns from one decision at a time: no replay memory, no target network.
#[derive(Clone, Debug)]
pub struct QLearner {
    network: QNetwork,
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
}

/// One decision and what came of it. Both vectors have L entries.
#[derive(Clone, Debug)]
pub struct Experience<'a> {
    /// The state vector that was decided upon.
    pub before: &'a [usize],
    /// The action: what each layer was asked to copy. Only `layers` of it counts.
    pub action: &'a [usize],
    /// The layers that the decision covered.
    pub layers: Range<usize>,
    /// Its reward.
    pub reward: f64,
    /// The state vector that it led to.
    pub after: &'a [usize],
}

/// What one update of the Q-network saw, before it.
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
    /// Learns from scratch with the given network.
    #[must_use]
    pub fn new(network: QNetwork, settings: LearnerSettings) -> Self {
        Self { optimizer: AdamW::new(network.parameters()), network, settings }
    }

    /// Continues with the given network and moments.
    ///
    /// # Errors
    /// [`AgentError::Mismatch`] where a moment has another length than its parameter.
    pub fn resume(
        network: QNetwork,
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
        Ok(Self { network, optimizer, settings })
    }

    /// One gradient step on `(predicted - target)^2` of one decision, or nothing where the decision covered no
    /// layer. The maximum over actions is the sum of the maxima of the decided layers' slices, because Q is a
    /// sum of independent terms; a per-layer decision so looks at its own layer's slice only (row 13).
    ///
    /// # Errors
    /// [`AgentError::NotFinite`] where the reward, or the loss that follows from it, is not finite; nothing
    /// changes then.
    pub fn learn(&mut self, experience: &Experience<'_>) -> Result<Option<Update>, AgentError> {
        finite("the reward", experience.reward)?;
        if experience.layers.is_empty() {
            return Ok(None);
        }
        let layout = self.network.layout();
        let kept = self.network.forward(experience.before);
        let chosen = |layer: usize| layout.slice(layer).start + experience.action[layer];
        let predicted: f32 = experience.layers.clone().map(|layer| kept.outputs[chosen(layer)]).sum();
        let next = self.network.values(experience.after);
        let best_next: f32 =
            experience.layers.clone().map(|layer| next[best_index(layout, &next, layer)]).sum();
        let target = experience.reward as f32 + self.settings.gamma as f32 * best_next;
        let difference = predicted - target;
        finite("the loss of the Q-network", f64::from(difference * difference))?;

        let mut slopes = vec![0.0; kept.outputs.len()];
        for layer in experience.layers.clone() {
            slopes[chosen(layer)] = 2.0 * difference;
        }
        let gradient = self.network.backward(&kept, &slopes);
        let LearnerSettings { learning_rate, weight_decay, .. } = self.settings;
        self.optimizer.step(self.network.parameters_mut(), &gradient, learning_rate, weight_decay);
        Ok(Some(Update {
            predicted: predicted.into(),
            target: target.into(),
            loss: (difference * difference).into(),
        }))
    }

    /// The best choice of each of `layers` when the state vector is `vector`; the lowest of equals.
    #[must_use]
    pub fn best(&self, vector: &[usize], layers: Range<usize>) -> Vec<usize> {
        let layout = self.network.layout();
        let values = self.network.values(vector);
        layers.map(|layer| best_index(layout, &values, layer) - layout.slice(layer).start).collect()
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &QNetwork {
        &self.network
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

/// Index of the greatest output of `layer`, the lowest of equals.
fn best_index(layout: &QLayout, values: &[f32], layer: usize) -> usize {
    let slice = layout.slice(layer);
    let first = slice.start;
    slice.fold(first, |best, index| if values[index] > values[best] { index } else { best })
}

/// Fails where `value` is infinite or not a number, or too great for f32.
pub(crate) fn finite(quantity: &'static str, value: f64) -> Result<(), AgentError> {
    if (value as f32).is_finite() { Ok(()) } else { Err(AgentError::NotFinite { quantity, value }) }
}
