//! What an agent takes in memory, told from its shapes before it is made.

use crate::exact::f32_list::DIGITS;
use crate::experience::{Experience, Remembered};
use crate::layout::QLayout;
use crate::network::QNetwork;
use dlt_spec::spec::{AgentSpec, PolicyKind};

/// What a draw takes for each remembered experience: its number, and the borrowed experience where
/// it is drawn.
const DRAWN_BYTES: usize = size_of::<usize>() + size_of::<Experience<'_>>();

/// Bytes of one remembered experience: three lists of all layers, and one of those that the reward
/// is for.
fn experience_bytes(n_layers: usize) -> usize {
    let lists = n_layers.saturating_mul(4).saturating_mul(size_of::<usize>());
    lists.saturating_add(size_of::<Remembered>())
}

/// Most characters of one remembered experience: its lists, each number with a comma, and names and
/// the reward.
fn experience_text(n_layers: usize) -> usize {
    let number = n_layers.ilog10() as usize + 2;
    n_layers.saturating_mul(4).saturating_mul(number).saturating_add(100)
}

/// Bytes of an agent. The policies that do not learn have no numbers worth counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentMemory {
    /// Q-network, both moments of its optimizer, target network and replay memory, once that is
    /// full.
    pub held: usize,
    /// What comes to that while the agent learns: the gradient, and values of a forward pass; with
    /// a replay memory the sum of gradients besides, and the numbers of what is drawn.
    pub learning: usize,
    /// What comes to [`held`](Self::held) while a snapshot is taken and written as text.
    pub saving: usize,
    /// Length of that text.
    pub text: usize,
}

impl AgentMemory {
    /// The memory of the agent that a spec describes, for a model of `n_layers` layers. Sizes
    /// beyond all memory are told as the greatest number.
    #[must_use]
    pub fn of(spec: &AgentSpec, n_layers: usize) -> Self {
        if spec.policy != PolicyKind::Q || n_layers == 0 {
            return Self::default();
        }

        let layout = QLayout::new(spec.network, spec.state_scaling, n_layers);
        let lengths = QNetwork::lengths(&layout, spec.hidden);
        let numbers = lengths.into_iter().fold(0usize, usize::saturating_add);
        let f32s = |numbers: usize| numbers.saturating_mul(size_of::<f32>());
        let text = |numbers: usize| numbers.saturating_mul(DIGITS);

        let networks = f32s(numbers).saturating_mul(if spec.target_every > 0 { 4 } else { 3 });

        let remembered = spec.replay_memory.saturating_mul(experience_bytes(n_layers));
        let held = networks.saturating_add(remembered);

        // Two forward passes with the hidden values of one, and the slopes at the outputs.
        let passes =
            spec.hidden.saturating_mul(2).saturating_add(layout.n_outputs().saturating_mul(3));
        let once = f32s(numbers.saturating_add(passes));
        let again = f32s(numbers).saturating_add(spec.replay_memory.saturating_mul(DRAWN_BYTES));
        let learning = if spec.replay_memory > 0 { once.saturating_add(again) } else { once };

        // Everything as it is copied, its text, and the text of the longest list by itself.
        let memory_text = spec.replay_memory.saturating_mul(experience_text(n_layers));
        let whole_text =
            networks.saturating_mul(DIGITS / size_of::<f32>()).saturating_add(memory_text);
        let longest = text(lengths.into_iter().max().unwrap_or(0));
        let saving = held.saturating_add(whole_text).saturating_add(longest);

        Self { held, learning, saving, text: whole_text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Agent, Occasion, Turn};
    use dlt_spec::Spec;

    #[test]
    fn law_the_bytes_are_those_of_the_agent_that_is_made() {
        for (layers, hidden) in [(1, 1), (2, 3), (7, 16), (40, 5)] {
            let spec = Spec::default();
            let agent_spec = AgentSpec { policy: PolicyKind::Q, hidden, ..spec.agent };
            let memory = AgentMemory::of(&agent_spec, layers);
            let agent = Agent::new(&agent_spec, &spec.tying, layers, 1, None).expect("an agent");
            let crate::PolicySnapshot::Q(snapshot) = agent.snapshot().policy else {
                panic!("a Q policy")
            };

            let bytes = |parameters: &crate::Parameters| -> usize {
                parameters.tensors().map(size_of_val).into_iter().sum()
            };
            let moments =
                bytes(&snapshot.optimizer.first_moment) + bytes(&snapshot.optimizer.second_moment);
            assert_eq!(memory.held, bytes(&snapshot.parameters) + moments, "{layers} {hidden}");

            // Beside the numbers, the text of a snapshot holds names and the random stream.
            let text = serde_json::to_string(&snapshot).expect("text").len();
            assert!((memory.text..memory.text + 2000).contains(&text), "{text} {}", memory.text);
        }
    }

    #[test]
    fn law_the_bytes_of_a_full_memory_and_of_a_target_network_are_counted() {
        for layers in [3, 12] {
            let spec = Spec::default();
            let plain = AgentSpec { policy: PolicyKind::Q, hidden: 4, ..spec.agent };
            let agent_spec =
                AgentSpec { replay_memory: 8, replay_batch: 3, target_every: 2, ..plain.clone() };
            let mut agent =
                Agent::new(&agent_spec, &spec.tying, layers, 1, None).expect("an agent");

            for _ in 0..10 {
                agent
                    .decide(&Occasion { turn: Turn::Regular, evidence: None })
                    .expect("a decision");
                agent.learn(-1234.5678).expect("an update");
            }

            let crate::PolicySnapshot::Q(snapshot) = agent.snapshot().policy else {
                panic!("a Q policy")
            };
            let list = |values: &Vec<usize>| size_of_val(values.as_slice());
            let experiences = &snapshot.memory.as_ref().expect("a memory").experiences;

            let numbers = |one: &Remembered| {
                let lists = list(&one.before) + list(&one.action) + list(&one.after);
                lists + list(&one.layers) + size_of::<Remembered>()
            };

            let remembered: usize = experiences.iter().map(numbers).sum();
            let target =
                snapshot.target.as_ref().expect("a target network").tensors().map(size_of_val);
            let memory = AgentMemory::of(&agent_spec, layers);
            let without = AgentMemory::of(&plain, layers);

            // A joint decision leaves out layer 0 alone.
            let most = experiences.len() * size_of::<usize>();
            let expected = remembered + target.into_iter().sum::<usize>() + most;
            assert_eq!(
                (experiences.len(), memory.held - without.held),
                (8, expected),
                "{layers} layers"
            );
            assert!(memory.learning > without.learning && memory.saving > without.saving);

            let text = serde_json::to_string(&snapshot).expect("text").len();
            assert!(text < memory.text + 2000 && memory.text < 2 * text, "{text} {}", memory.text);
        }
    }

    #[test]
    fn what_does_not_learn_takes_nothing_and_no_size_is_too_large_to_be_told() {
        let spec = Spec::default().agent;
        let of =
            |policy, hidden| AgentMemory::of(&AgentSpec { policy, hidden, ..spec.clone() }, 1000);
        assert_eq!(of(PolicyKind::Random, 64), AgentMemory::default());
        assert_eq!(of(PolicyKind::Grow, 64), AgentMemory::default());
        assert_eq!(of(PolicyKind::Q, usize::MAX).held, usize::MAX);

        let forgets_nothing =
            AgentSpec { policy: PolicyKind::Q, replay_memory: usize::MAX, ..spec };
        assert_eq!(AgentMemory::of(&forgets_nothing, 1000).saving, usize::MAX);
    }
}
