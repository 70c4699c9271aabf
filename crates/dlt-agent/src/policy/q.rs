//! Epsilon-greedy under a learned Q-network (Eq. 2).

use super::{Choice, Policy, PolicySnapshot, Situation};
use crate::adamw::AdamW;
use crate::error::{AgentError, grouping, same_depth};
use crate::exact;
use crate::learner::{Experience, QLearner, Update};
use crate::network::{Parameters, QNetwork};
use dlt_spec::spec::{DecayPer, Network};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// With probability `1 - epsilon` the best action under Q, else a uniform one.
#[derive(Clone, Debug)]
pub struct QPolicy {
    learner: QLearner,
    exploration: ExplorationSettings,
    epsilon: f64,
    rng: ChaCha8Rng,
}

/// How exploration fades: `epsilon = max(decay * epsilon, floor)` (Alg. 1, line 27, and row 8).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExplorationSettings {
    /// First exploration probability.
    pub start: f64,
    /// Factor of each decay.
    pub decay: f64,
    /// Least exploration probability.
    pub floor: f64,
    /// How often it decays.
    pub per: DecayPer,
}

/// How an epsilon-greedy action came about.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exploration {
    /// The exploration probability.
    #[serde(with = "exact::f64_bits")]
    pub epsilon: f64,
    /// Whether the action was drawn, not chosen.
    pub explored: bool,
}

/// The changing part of a [`QPolicy`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QSnapshot {
    /// Weights and biases of the network.
    pub parameters: Parameters,
    /// Moments and step count.
    pub optimizer: AdamW,
    /// The present exploration probability.
    #[serde(with = "exact::f64_bits")]
    pub epsilon: f64,
    /// The random stream of exploration.
    pub rng: ChaCha8Rng,
}

impl QPolicy {
    /// Chooses by `learner`, explores with draws from `rng`.
    #[must_use]
    pub fn new(learner: QLearner, exploration: ExplorationSettings, rng: ChaCha8Rng) -> Self {
        Self { learner, exploration, epsilon: exploration.start, rng }
    }

    /// A uniform choice among `0..=layer`. The authors' code draws from `-1..layer`, where -1 stands for the
    /// layer's own weights: equally likely choices, by another use of the same draw.
    fn draw(&mut self, layer: usize) -> usize {
        let drawn = self.rng.random_range(0..=layer);
        match self.learner.network().layout().network() {
            Network::Paper => drawn,
            Network::Reference => drawn.checked_sub(1).unwrap_or(layer),
        }
    }
}

impl Policy for QPolicy {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        let n_layers = self.learner.network().layout().n_layers();
        same_depth("the state vector of the Q-network", n_layers, situation.vector.len())?;
        let explored = self.rng.random::<f64>() < self.epsilon;
        let action = if explored {
            situation.replace(|layer| self.draw(layer))
        } else {
            let layers = situation.visit.layers(n_layers);
            let best = self.learner.best(situation.vector, layers.clone());
            situation.replace(|layer| best[layer - layers.start])
        };
        let action = action.map_err(grouping("the action of the Q-network"))?;
        let exploration = Some(Exploration { epsilon: self.epsilon, explored });
        Ok(Choice { exploration, ..Choice::new(action, situation.visit) })
    }

    fn learn(
        &mut self,
        experience: &Experience<'_>,
        sweep_ended: bool,
    ) -> Result<Option<Update>, AgentError> {
        let update = self.learner.learn(experience)?;
        let ExplorationSettings { decay, floor, per, .. } = self.exploration;
        if per == DecayPer::Decision || sweep_ended {
            self.epsilon = (decay * self.epsilon).max(floor);
        }
        Ok(update)
    }

    fn q_values(&self, vector: &[usize]) -> Option<Vec<f32>> {
        Some(self.learner.network().values(vector))
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::Q(Box::new(QSnapshot {
            parameters: self.learner.network().parameters().clone(),
            optimizer: self.learner.optimizer().clone(),
            epsilon: self.epsilon,
            rng: self.rng.clone(),
        }))
    }

    fn restore(&mut self, snapshot: &PolicySnapshot) -> Result<(), AgentError> {
        let PolicySnapshot::Q(snapshot) = snapshot else { return Err(snapshot.mismatch("q")) };
        let (present, got) = (self.learner.network(), snapshot.parameters.hidden_bias.len());
        if present.parameters().hidden_bias.len() != got {
            return Err(AgentError::Mismatch {
                place: "hidden units of the Q-network",
                expected: present.parameters().hidden_bias.len().to_string(),
                got: got.to_string(),
            });
        }
        let network = QNetwork::from_parameters(present.layout().clone(), snapshot.parameters.clone())?;
        self.learner = QLearner::resume(network, snapshot.optimizer.clone(), self.learner.settings())?;
        self.epsilon = snapshot.epsilon;
        self.rng = snapshot.rng.clone();
        Ok(())
    }
}
