//! Rules of an agent by itself. They read nothing of a spec but its section `agent` and the fields of
//! [`OTHERS`].

use dlt_state::State;

use super::Rules;
use crate::check::grouping;
use crate::fields::word;
use crate::spec::*;

/// The fields outside the section `agent` that an agent is built from.
pub(super) const OTHERS: &[&str] = &[
    "seed",
    "model.layers",
    "tying.initial",
    "tying.exempt",
    "tying.decision",
    "tying.state_vector",
];

impl Rules<'_> {
    pub(super) fn agent(&mut self) {
        let Spec { agent, tying, .. } = self.spec;
        self.grouping("tying.initial", &tying.initial);

        self.holds_given(
            "tying.initial",
            &["agent.policy"],
            || {
                agent.policy != PolicyKind::None
                    || tying.initial != Initial::Named(InitialName::Trainable)
            },
            "\"independent\" where agent.policy is \"none\": \"trainable\" waits for a first \
             decision",
        );

        self.holds(
            "tying.state_vector",
            || tying.state_vector != StateVector::Raw || tying.decision == Decision::PerLayer,
            "\"canonical\" unless tying.decision is \"per-layer\"",
        );

        self.deciders();
        self.grouping("agent.pattern", &agent.pattern);

        self.holds(
            "agent.pattern",
            || {
                agent.policy != PolicyKind::Fixed
                    || agent.pattern != Initial::Named(InitialName::Frozen)
            },
            "a grouping other than \"frozen\" for the policy \"fixed\"",
        );

        self.holds(
            "agent.pattern",
            || agent.pattern != Initial::Named(InitialName::Trainable),
            "a grouping of layers: \"trainable\" only says how a run starts",
        );

        self.holds_given(
            "agent.epsilon_start",
            &["agent.epsilon_floor"],
            || agent.epsilon_start >= agent.epsilon_floor,
            || format!("at least agent.epsilon_floor = {}", agent.epsilon_floor),
        );

        self.holds(
            "agent.epsilon_decay_per",
            || agent.epsilon_decay_per != DecayPer::Sweep || tying.decision == Decision::PerLayer,
            "\"decision\" unless tying.decision is \"per-layer\": a joint decision has no sweep",
        );

        self.permutation();
        self.exempt();
        self.search();
    }

    /// Layers that no tie may touch must exist, and leave two that can be tied.
    fn exempt(&mut self) {
        let layers = self.spec.model.layers;
        let exempt = &self.spec.tying.exempt;
        self.holds_given(
            "tying.exempt",
            &["model.layers"],
            || exempt.of(layers).is_ok(),
            || format!("layers from 0 to {}: model.layers is {layers}", layers.saturating_sub(1)),
        );

        self.holds_given(
            "tying.exempt",
            &["model.layers"],
            || exempt.of(layers).is_ok_and(|all| !all.has_any() || all.free().len() > 1),
            || format!("fewer of the {layers} layers: two or more must be left to be tied"),
        );
    }

    /// A search judges the present state and at least one other.
    fn search(&mut self) {
        let agent = &self.spec.agent;
        let least = agent.reward_batches.saturating_mul(2);
        self.holds_given(
            "agent.budget",
            &["agent.reward_batches", "agent.policy"],
            || !agent.policy.searches() || agent.budget >= least,
            || {
                format!(
                    "at least {least}, which judges the present state and one other \
                     (agent.reward_batches = {})",
                    agent.reward_batches
                )
            },
        );
    }

    /// Which policy can make which decision.
    fn deciders(&mut self) {
        let policy = self.spec.agent.policy;
        let layers = self.spec.model.layers;
        let decision = self.spec.tying.decision;

        self.holds_given(
            "agent.policy",
            &["model.layers"],
            || policy == PolicyKind::None || layers >= 2,
            "\"none\" in a model of one layer: there is nothing to decide",
        );

        self.holds(
            "agent.policy",
            || policy.decisions().contains(&decision),
            || format!("{} where tying.decision is {:?}", fitting(decision), word(&decision)),
        );
    }

    /// The permutation of `permuted-replay`.
    fn permutation(&mut self) {
        let agent = &self.spec.agent;
        let layers = self.spec.model.layers;

        self.holds(
            "agent.permutation",
            || agent.permutation.is_empty() || agent.policy == PolicyKind::PermutedReplay,
            "empty unless agent.policy is \"permuted-replay\"",
        );

        self.holds_given(
            "agent.permutation",
            &["model.layers"],
            || {
                agent.permutation.is_empty()
                    || State::independent(layers).relabel(&agent.permutation).is_ok()
            },
            || format!("each of 0 to {} once, or empty", layers - 1),
        );
    }

    /// A grouping written out must be a state of this many layers. The rule also says why it is
    /// not.
    fn grouping(&mut self, key: &'static str, asked: &Initial) {
        let layers = self.spec.model.layers;
        let mut reason = String::new();
        self.holds_given(
            key,
            &["model.layers"],
            || grouping(asked, layers).map_err(|error| reason = error.to_string()).is_ok(),
            || format!("the owners of model.layers = {layers} layers"),
        );

        if let Some(found) =
            self.violations.iter_mut().find(|found| found.key == key && !reason.is_empty())
        {
            found.rule.push_str(&format!(" ({reason})"));
        }
    }
}

/// The policies that can make a decision, in words.
fn fitting(decision: Decision) -> String {
    let quoted = |includes: &dyn Fn(&[Decision]) -> bool| -> Vec<String> {
        let listed = |policy: &&PolicyKind| !policy.replays() && includes(policy.decisions());
        PolicyKind::ALL.iter().filter(listed).map(|policy| format!("{:?}", word(policy))).collect()
    };

    if matches!(decision, Decision::Joint | Decision::PerLayer) {
        // Nearly every policy fits. The others are named with the decision that each needs.
        let others = [Decision::Split, Decision::Swap, Decision::Joint]
            .into_iter()
            .filter(|other| *other != decision)
            .map(|other| (other, quoted(&|decisions| decisions == [other]).join(", ")));
        let named = others.map(|(other, policies)| format!("{policies} ({:?})", word(&other)));
        return format!("a policy other than {}", listed(&Vec::from_iter(named)));
    }

    // Policies for this kind of decision first, then those for any kind: "random" or "none".
    let any = quoted(&|decisions| decisions == Decision::ALL);
    let mut words =
        quoted(&|decisions| decisions != Decision::ALL && decisions.contains(&decision));
    words.extend(any.into_iter().rev());

    let last = words.pop().unwrap_or_default();
    format!("{} or {last}, or a replay,", words.join(", "))
}

/// Parts of a sentence, the first with the key that all of them are about.
fn listed(parts: &[String]) -> String {
    let with_key = |part: &String| part.replacen(" (", " (tying.decision = ", 1);
    match parts {
        [first, middle @ .., last] => {
            let middle: String = middle.iter().map(|part| format!(", {part}")).collect();
            format!("{}{middle} and {last}", with_key(first))
        }
        parts => parts.concat(),
    }
}
