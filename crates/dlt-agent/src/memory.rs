//! The memory that an agent takes, computed from its shapes before it is made.

use crate::exact::f32_list::DIGITS;
use crate::experience::{Experience, Remembered};
use crate::layout::QLayout;
use crate::network::QNetwork;
use dlt_spec::spec::{AgentSpec, PolicyKind};
use dlt_state::ActionSpace;

/// Bytes that a draw takes for each remembered experience: its index, and the borrowed experience
/// if it is drawn.
const DRAWN_BYTES: usize = size_of::<usize>() + size_of::<Experience<'_>>();

/// Bytes of one remembered experience: three lists of all layers, and one of the layers that the
/// reward is for.
fn experience_bytes(n_layers: usize) -> usize {
    let lists = n_layers.saturating_mul(4).saturating_mul(size_of::<usize>());
    lists.saturating_add(size_of::<Remembered>())
}

/// Upper bound of the characters of one remembered experience as text: its lists, each number with
/// a comma, names and the reward.
fn experience_text(n_layers: usize) -> usize {
    let number = n_layers.ilog10() as usize + 2;
    n_layers.saturating_mul(4).saturating_mul(number).saturating_add(100)
}

/// Bytes of one candidate of a search: its state twice, with the headers of the lists, its loss and
/// cost and its place in a tree of keys; and its changes, each a layer and an entry.
fn candidate_bytes(n_layers: usize) -> usize {
    let changes = ActionSpace::new(n_layers).n_q_values();
    let numbers = changes.saturating_add(n_layers).saturating_mul(2);
    numbers.saturating_mul(size_of::<usize>()).saturating_add(CANDIDATE_BYTES)
}

/// Bytes of a candidate besides its lists of layers and changes.
const CANDIDATE_BYTES: usize = 256;

/// Bytes of an agent. Policies that do not learn hold too little to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentMemory {
    /// Bytes of the Q-network, both moments of its optimizer, the target network, and the replay
    /// memory once it is full.
    pub held: usize,
    /// Bytes on top of [`held`](Self::held) while the agent decides or learns: the gradient and the
    /// values of forward passes; with a replay memory also the sum of gradients and the drawn
    /// experiences. For a policy that searches, the judged states and their changes.
    pub learning: usize,
    /// Bytes on top of [`held`](Self::held) while a snapshot is made and written as text.
    pub saving: usize,
    /// Length of that text.
    pub text: usize,
}

impl AgentMemory {
    /// The memory of the agent that a spec describes, for a model of `n_layers` layers. Sizes that
    /// overflow are given as the greatest number.
    #[must_use]
    pub fn of(spec: &AgentSpec, n_layers: usize) -> Self {
        if spec.policy.searches() {
            // Every state is judged at most once.
            let states = ActionSpace::new(n_layers).n_states();
            let states = states.and_then(|states| usize::try_from(states).ok());
            let most = spec.budget / spec.reward_batches.max(1);
            let candidates = most.min(states.unwrap_or(usize::MAX));
            let learning = candidates.saturating_mul(candidate_bytes(n_layers));
            return Self { learning, ..Self::default() };
        }

        if spec.policy != PolicyKind::Q || n_layers == 0 {
            return Self::default();
        }

        let layout = QLayout::new(spec.network, spec.state_scaling, n_layers);
        let lengths = QNetwork::lengths(&layout, spec.hidden);
        let numbers = lengths.into_iter().fold(0usize, usize::saturating_add);
        let f32s = |numbers: usize| numbers.saturating_mul(size_of::<f32>());
        let text = |numbers: usize| numbers.saturating_mul(DIGITS);

        // The network and two moments of it, and perhaps a target network.
        let networks = f32s(numbers).saturating_mul(if spec.target_every > 0 { 4 } else { 3 });

        let remembered = spec.replay_memory.saturating_mul(experience_bytes(n_layers));
        let held = networks.saturating_add(remembered);

        // Two forward passes (hidden values and outputs of each), and the slopes at the outputs.
        let passes =
            spec.hidden.saturating_mul(2).saturating_add(layout.n_outputs().saturating_mul(3));
        let once = f32s(numbers.saturating_add(passes));
        let again = f32s(numbers).saturating_add(spec.replay_memory.saturating_mul(DRAWN_BYTES));
        let learning = if spec.replay_memory > 0 { once.saturating_add(again) } else { once };

        // A snapshot copies everything and then becomes text; the longest list is a string by
        // itself before it is copied into that.
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
    use dlt_spec::{AgentSetup, Spec};
    use dlt_state::State;

    fn agent(agent: &AgentSpec, layers: usize) -> Agent {
        let setup =
            AgentSetup { agent: agent.clone(), layers, ..AgentSetup::from(&Spec::default()) };
        Agent::new(&setup.check().expect("a setup"), None).expect("an agent")
    }

    #[test]
    fn law_the_bytes_are_those_of_the_agent_that_is_made() {
        for (layers, hidden) in [(2, 1), (2, 3), (7, 16), (40, 5)] {
            let agent_spec = AgentSpec { policy: PolicyKind::Q, hidden, ..Spec::default().agent };
            let memory = AgentMemory::of(&agent_spec, layers);
            let agent = agent(&agent_spec, layers);
            let crate::PolicySnapshot::Q(snapshot) = agent.snapshot().policy else {
                panic!("a Q policy")
            };

            let bytes = |parameters: &crate::Parameters| -> usize {
                parameters.tensors().map(size_of_val).into_iter().sum()
            };
            let moments =
                bytes(&snapshot.optimizer.first_moment) + bytes(&snapshot.optimizer.second_moment);
            assert_eq!(memory.held, bytes(&snapshot.parameters) + moments, "{layers} {hidden}");

            // Besides the numbers, the text of a snapshot holds names and the random stream.
            let text = serde_json::to_string(&snapshot).expect("text").len();
            assert!((memory.text..memory.text + 2000).contains(&text), "{text} {}", memory.text);
        }
    }

    #[test]
    fn law_the_bytes_of_a_full_memory_and_of_a_target_network_are_counted() {
        for layers in [3, 12] {
            let plain = AgentSpec { policy: PolicyKind::Q, hidden: 4, ..Spec::default().agent };
            let agent_spec =
                AgentSpec { replay_memory: 8, replay_batch: 3, target_every: 2, ..plain.clone() };
            let mut agent = agent(&agent_spec, layers);

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

            // A joint decision covers every layer but layer 0.
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

    /// A search holds each judged state twice, and its changes as pairs of numbers.
    #[test]
    fn law_the_bytes_of_a_search_cover_what_it_holds_and_follow_its_budget() {
        let of = |policy, budget, reward_batches, layers| {
            let spec = AgentSpec { policy, budget, reward_batches, ..Spec::default().agent };
            AgentMemory::of(&spec, layers).learning
        };

        for layers in [2, 5, 48] {
            let state = size_of_val(State::independent(layers).owners());
            let changes = (1..layers).sum::<usize>() * 2 * size_of::<usize>();
            let least = 2 * state + changes;
            for policy in [PolicyKind::Backtrack, PolicyKind::Beam, PolicyKind::Mcts] {
                let one = of(policy, 1, 1, layers);
                assert!((least..2 * least + 1000).contains(&one), "{layers}: {one}");
                assert_eq!(of(policy, 60, 2, layers), [2, 30][usize::from(layers > 2)] * one);
            }
        }

        assert_eq!(of(PolicyKind::RandomSearch, usize::MAX, 1, 48), usize::MAX);
        assert_eq!(of(PolicyKind::Even, 64, 1, 48), 0);
    }

    #[test]
    fn policies_that_do_not_learn_take_nothing_and_no_size_overflows() {
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
