//! The epsilon-greedy policy under a learned Q-network (Eq. 2).

use super::{Choice, Policy, PolicySnapshot, Situation, Visit};
use crate::adamw::AdamW;
use crate::error::{AgentError, grouping, same_depth};
use crate::exact;
use crate::experience::{Experience, MemorySnapshot, ReplayMemory};
use crate::layout::QLayout;
use crate::learner::{LearnerSettings, QLearner, Update};
use crate::network::{Parameters, QNetwork};
use crate::occasion::Turn;
use dlt_spec::spec::{DecayPer, Decision, Network};
use dlt_spec::{CheckedAgent, seeds};
use dlt_state::{Action, Exempt, StateError};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Chooses the best action under Q with probability `1 - epsilon`, else a uniform one.
#[derive(Clone, Debug)]
pub struct QPolicy {
    learner: QLearner,
    memory: Option<ReplayMemory>,
    exploration: ExplorationSettings,
    epsilon: f64,
    rng: ChaCha8Rng,
}

/// How exploration decays: `epsilon = max(decay * epsilon, floor)` (Algorithm 1, line 27;
/// DEVIATIONS row 8).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExplorationSettings {
    /// First exploration probability.
    pub start: f64,
    /// Factor of each decay.
    pub decay: f64,
    /// Least exploration probability.
    pub floor: f64,
    /// Whether it decays at every decision or once a sweep over the layers.
    pub per: DecayPer,
}

/// How an epsilon-greedy action was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exploration {
    /// The exploration probability.
    #[serde(with = "exact::f64_bits")]
    pub epsilon: f64,
    /// Whether the action was drawn at random, not chosen by Q.
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
    /// The current exploration probability.
    #[serde(with = "exact::f64_bits")]
    pub epsilon: f64,
    /// The random stream for exploration.
    pub rng: ChaCha8Rng,
    /// Weights and biases of the target network, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Parameters>,
    /// The replay memory, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySnapshot>,
}

impl QPolicy {
    /// A policy that chooses by `learner`, and explores with draws from `rng`.
    #[must_use]
    pub fn new(learner: QLearner, exploration: ExplorationSettings, rng: ChaCha8Rng) -> Self {
        Self { learner, memory: None, exploration, epsilon: exploration.start, rng }
    }

    /// The policy of these settings, with fresh weights. It draws from the streams `q-network`,
    /// `policy` and `replay-memory` of the root seed. Each purpose has its own stream: with a
    /// replay memory, say, the agent still explores by the same draws.
    pub(crate) fn of_setup(setup: &CheckedAgent) -> Self {
        let spec = &setup.agent;
        let stream = |name| seeds::stream(setup.seed, name);
        let layout = QLayout::new(spec.network, spec.state_scaling, setup.layers);
        let layout = layout.sparing(setup.exempt());
        let network = QNetwork::new(layout, spec.hidden, &mut stream("q-network"));

        let settings = LearnerSettings {
            learning_rate: spec.learning_rate,
            weight_decay: spec.weight_decay,
            gamma: spec.gamma,
            target_every: spec.target_every,
        };

        let exploration = ExplorationSettings {
            start: spec.epsilon_start,
            decay: spec.epsilon_decay,
            floor: spec.epsilon_floor,
            per: spec.epsilon_decay_per,
        };

        let policy = Self::new(QLearner::new(network, settings), exploration, stream("policy"));
        match spec.replay_memory {
            0 => policy,
            capacity => {
                let rng = stream("replay-memory");
                policy.remembering(ReplayMemory::new(capacity, spec.replay_batch, rng))
            }
        }
    }

    /// Adds a replay memory, which each update draws experiences from.
    #[must_use]
    pub fn remembering(self, memory: ReplayMemory) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// A uniform choice among `0..=layer`, without exempt layers. The authors' code draws from `-1..layer`, where -1 means
    /// the layer's own weights. Both are uniform; they only map the same draw to another choice.
    fn draw(&mut self, layer: usize, exempt: &Exempt) -> usize {
        let choices = exempt.choices(layer);
        let drawn = self.rng.random_range(0..choices.len());
        match self.learner.network().layout().network() {
            Network::Paper => choices[drawn],
            Network::Reference => drawn.checked_sub(1).map_or(layer, |drawn| choices[drawn]),
        }
    }

    /// The current action with new entries for the layers whose turn it is: drawn, or the best
    /// under Q.
    fn choose_entries(
        &mut self,
        situation: &Situation<'_>,
        explored: bool,
    ) -> Result<Action, StateError> {
        if explored {
            return situation.replace(|layer| self.draw(layer, situation.exempt));
        }

        let layers = situation.visit.layers(situation.action.n_layers());
        let best = self.learner.best(situation.vector, layers.clone());
        situation.replace(|layer| best[layer - layers.start])
    }

    /// One layer and its entry: a uniform draw, or the change with the greatest gain `Q(entry) -
    /// Q(present entry)`. If no change promises a gain, the layer of the best change keeps its
    /// entry, so that its value still learns. `None` if no layer has a choice.
    fn choose_change(
        &mut self,
        situation: &Situation<'_>,
        explored: bool,
    ) -> Option<(usize, usize)> {
        let present = situation.action.values();
        let deciding = situation.exempt.deciding();
        let first = *deciding.first()?;

        if explored {
            let layer = deciding[self.rng.random_range(0..deciding.len())];
            return Some((layer, self.draw(layer, situation.exempt)));
        }

        let layout = self.learner.network().layout();
        let values = self.learner.network().values(situation.vector);
        let mut best = (first, present[first]);
        let mut most = f32::NEG_INFINITY;

        for layer in deciding {
            let kept = present[layer];
            let slice = &values[layout.slice(layer)];
            for entry in situation.exempt.choices(layer).into_iter().filter(|&entry| entry != kept)
            {
                if slice[entry] - slice[kept] > most {
                    best = (layer, entry);
                    most = slice[entry] - slice[kept];
                }
            }
        }

        Some(if most > 0.0 { best } else { (best.0, present[best.0]) })
    }
}

impl Policy for QPolicy {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        if situation.turn != Turn::Regular {
            return Err(AgentError::OtherTurn { policy: "q", turn: situation.turn });
        }

        let n_layers = self.learner.network().layout().n_layers();
        same_depth("the state vector of the Q-network", n_layers, situation.vector.len())?;

        // Drawn at every decision, even if epsilon is 0, so that the stream's position only depends
        // on the number of decisions and explorations.
        let explored = self.rng.random::<f64>() < self.epsilon;
        let exploration = Some(Exploration { epsilon: self.epsilon, explored });
        let wrong = grouping("the action of the Q-network");

        if situation.decision != Decision::Single {
            let action = self.choose_entries(situation, explored).map_err(wrong)?;
            return Ok(Choice { exploration, ..Choice::new(action, situation.visit) });
        }

        let Some((layer, entry)) = self.choose_change(situation, explored) else {
            return Ok(Choice { exploration, ..Choice::nothing(situation) });
        };

        let mut action = situation.action.clone();
        action.replace(layer, entry).map_err(wrong)?;

        Ok(Choice { exploration, ..Choice::new(action, Visit::Layer(layer)) })
    }

    fn learn(
        &mut self,
        experience: &Experience<'_>,
        sweep_ended: bool,
    ) -> Result<Option<Update>, AgentError> {
        let update = match &mut self.memory {
            Some(memory) if !experience.layers.is_empty() => {
                // Drawn before the newest experience is added, which the update has anyway.
                let (drawn, rng) = memory.draw();
                let update = self.learner.learn_again(experience, &drawn)?;

                memory.remember(experience, rng);
                update
            }
            _ => self.learner.learn(experience)?,
        };

        // After the update, which can fail: a failed one must not decay epsilon.
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
            target: self.learner.target().map(|target| target.parameters().clone()),
            memory: self.memory.as_ref().map(ReplayMemory::snapshot),
        }))
    }

    fn restore(&mut self, snapshot: &PolicySnapshot) -> Result<(), AgentError> {
        let PolicySnapshot::Q(snapshot) = snapshot else { return Err(snapshot.mismatch("q")) };
        let present = self.learner.network();
        let got = snapshot.parameters.hidden_bias.len();

        if present.parameters().hidden_bias.len() != got {
            return Err(AgentError::Mismatch {
                place: "hidden units of the Q-network",
                expected: present.parameters().hidden_bias.len().to_string(),
                got: got.to_string(),
            });
        }

        let layout = present.layout();
        let network_of =
            |parameters: &Parameters| QNetwork::from_parameters(layout.clone(), parameters.clone());
        let network = network_of(&snapshot.parameters)?;
        let target = snapshot.target.as_ref().map(network_of).transpose()?;

        let memory = match (&self.memory, &snapshot.memory) {
            (Some(memory), Some(saved)) => Some(memory.restored(saved, layout.n_layers())?),
            (None, None) => None,
            (present, _) => {
                let [expected, got] =
                    if present.is_some() { ["one", "none"] } else { ["none", "one"] };
                let [expected, got] = [expected, got].map(str::to_owned);
                return Err(AgentError::Mismatch { place: "replay memory", expected, got });
            }
        };

        // Everything is built and checked before the first assignment.
        let settings = self.learner.settings();
        self.learner = QLearner::resume(network, target, snapshot.optimizer.clone(), settings)?;
        self.memory = memory;
        self.epsilon = snapshot.epsilon;
        self.rng = snapshot.rng.clone();

        Ok(())
    }
}
