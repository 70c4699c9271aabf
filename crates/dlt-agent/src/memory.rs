//! What an agent takes in memory, told from its shapes before it is made.

use crate::layout::QLayout;
use crate::network::QNetwork;
use dlt_spec::spec::{AgentSpec, PolicyKind};

/// Bytes of an agent. The policies that do not learn have no numbers worth counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentMemory {
    /// Q-network and both moments of its optimizer, throughout the run.
    pub held: usize,
    /// What comes to that while the agent learns: the gradient, and values of a forward pass.
    pub learning: usize,
    /// What comes to [`held`](Self::held) while a snapshot is taken and written as text.
    pub saving: usize,
    /// Length of that text.
    pub text: usize,
}

impl AgentMemory {
    /// The memory of the agent that a spec describes, for a model of `n_layers` layers. Sizes beyond all memory are told
    /// as the greatest number.
    #[must_use]
    pub fn of(spec: &AgentSpec, n_layers: usize) -> Self {
        if spec.policy != PolicyKind::Q || n_layers == 0 {
            return Self::default();
        }
        let layout = QLayout::new(spec.network, spec.state_scaling, n_layers);
        let lengths = QNetwork::lengths(&layout, spec.hidden);
        let numbers = lengths.into_iter().fold(0usize, usize::saturating_add);
        let f32s = |numbers: usize| numbers.saturating_mul(size_of::<f32>());
        let text = |numbers: usize| numbers.saturating_mul(crate::exact::f32_list::DIGITS);

        let held = f32s(numbers).saturating_mul(3);
        // Two forward passes with the hidden values of one, and the slopes at the outputs.
        let passes = spec.hidden.saturating_mul(2).saturating_add(layout.n_outputs().saturating_mul(3));
        let learning = f32s(numbers.saturating_add(passes));
        // Parameters and moments as they are copied, their text, and the text of the longest list by itself.
        let whole_text = text(numbers).saturating_mul(3);
        let longest = lengths.into_iter().max().unwrap_or(0);
        let saving = held.saturating_add(whole_text).saturating_add(text(longest));
        Self { held, learning, saving, text: whole_text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Agent;
    use dlt_spec::Spec;

    #[test]
    fn law_the_bytes_are_those_of_the_agent_that_is_made() {
        for (layers, hidden) in [(1, 1), (2, 3), (7, 16), (40, 5)] {
            let spec = Spec::default();
            let agent_spec = AgentSpec { policy: PolicyKind::Q, hidden, ..spec.agent };
            let memory = AgentMemory::of(&agent_spec, layers);
            let agent = Agent::new(&agent_spec, &spec.tying, layers, 1, None).expect("an agent");
            let crate::PolicySnapshot::Q(snapshot) = agent.snapshot().policy else { panic!("a Q policy") };
            let bytes = |parameters: &crate::Parameters| -> usize {
                parameters.tensors().map(size_of_val).into_iter().sum()
            };
            let moments = bytes(&snapshot.optimizer.first_moment) + bytes(&snapshot.optimizer.second_moment);
            assert_eq!(memory.held, bytes(&snapshot.parameters) + moments, "{layers} {hidden}");
            // Beside the numbers, the text of a snapshot holds names and the random stream.
            let text = serde_json::to_string(&snapshot).expect("text").len();
            assert!((memory.text..memory.text + 2000).contains(&text), "{text} {}", memory.text);
        }
    }

    #[test]
    fn what_does_not_learn_takes_nothing_and_no_size_is_too_large_to_be_told() {
        let spec = Spec::default().agent;
        let of = |policy, hidden| AgentMemory::of(&AgentSpec { policy, hidden, ..spec.clone() }, 1000);
        assert_eq!(of(PolicyKind::Random, 64), AgentMemory::default());
        assert_eq!(of(PolicyKind::Q, usize::MAX).held, usize::MAX);
    }
}
