//! What an agent is built from, checked by itself, and what is said of policies and rewards.

use std::collections::BTreeSet;

use dlt_spec::spec::{Decision, Initial, PolicyKind, Reward};
use dlt_spec::{AgentSetup, Spec, SpecError, Violation};

use crate::with;

fn violations<T>(checked: Result<T, SpecError>) -> Vec<Violation> {
    match checked {
        Ok(_) => Vec::new(),
        Err(SpecError::Invalid { violations }) => violations,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn law_an_agent_is_held_to_the_rules_of_a_run_with_the_same_messages() {
    for (assignments, key) in [
        (&["model.layers=0"][..], "model.layers"),
        (&["model.layers=1"], "agent.policy"),
        (&["model.layers=3", "tying.initial=[0, 0, 1, 1]"], "tying.initial"),
        (&["model.layers=3", "tying.initial=[0, 0, 1]"], "tying.initial"),
        (&["tying.initial=trainable", "agent.policy=none"], "tying.initial"),
        (&["tying.state_vector=raw"], "tying.state_vector"),
        (&["agent.hidden=0"], "agent.hidden"),
        (&["agent.learning_rate=-1.0"], "agent.learning_rate"),
        (&["agent.learning_rate=inf"], "agent.learning_rate"),
        (&["agent.weight_decay=nan"], "agent.weight_decay"),
        (&["agent.gamma=1.5"], "agent.gamma"),
        (&["agent.epsilon_start=-0.1"], "agent.epsilon_start"),
        (&["agent.epsilon_start=0.05"], "agent.epsilon_start"),
        (&["agent.epsilon_decay=2.0"], "agent.epsilon_decay"),
        (&["agent.epsilon_floor=nan"], "agent.epsilon_floor"),
        (&["agent.epsilon_decay_per=sweep"], "agent.epsilon_decay_per"),
        (&["agent.policy=grow"], "agent.policy"),
        (&["tying.decision=single", "agent.policy=fixed", "agent.pattern=cycle"], "agent.policy"),
        (&["agent.policy=fixed"], "agent.pattern"),
        (&["agent.policy=fixed", "agent.pattern=[0, 3]"], "agent.pattern"),
        (&["agent.permutation=[1, 0]"], "agent.permutation"),
    ] {
        let spec = with(assignments).unwrap();
        let alone = violations(AgentSetup::from(&spec).check());
        assert_eq!(alone.iter().map(|found| found.key).collect::<Vec<_>>(), [key]);
        assert_eq!(alone, violations(spec.check()), "{assignments:?}");
    }
}

#[test]
fn law_the_agent_of_a_checked_run_is_one_that_passes_by_itself() {
    for assignments in [
        &[][..],
        &["tying.decision=per-layer", "tying.state_vector=raw", "seed=7"],
        &["model.layers=4", "tying.initial=[0, 1, 0, 1]", "agent.policy=random"],
        &["model.layers=1", "agent.policy=none"],
        &["agent.policy=replay", "agent.recording=states.jsonl"],
    ] {
        let spec = with(assignments).unwrap();
        let checked = spec.check().unwrap();
        assert_eq!(checked.agent_setup(), AgentSetup::from(&spec).check().unwrap());
        assert_eq!(checked.agent_setup().initial_state(), checked.initial_state());
    }
}

#[test]
fn an_agent_by_itself_needs_neither_the_path_of_a_recording_nor_an_objective() {
    let spec = with(&["agent.policy=permuted-replay", "agent.reward=accuracy"]).unwrap();
    assert!(spec.check().is_err());

    let mut setup = AgentSetup::from(&spec);
    assert!(setup.check().is_ok());

    setup.layers = 2;
    setup.initial = Initial::Owners(vec![0, 1]);
    setup.agent.permutation = vec![1, 0];
    assert_eq!(setup.check().unwrap().initial_state().owners(), [0, 1]);

    setup.agent.permutation = vec![1, 1];
    let found = violations(setup.check());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].to_string(),
        "`agent.permutation` is [1, 1]: must be each of 0 to 1 once, or empty"
    );
}

#[test]
fn a_policy_that_does_not_fit_names_those_that_do() {
    let message = |assignments: &[&str]| {
        let found = violations(AgentSetup::from(&with(assignments).unwrap()).check());
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].rule.clone()
    };

    assert_eq!(
        message(&["tying.decision=split", "agent.policy=q"]),
        "\"grow\", \"even\", \"random\" or \"none\", or a replay, where tying.decision is \
         \"split\""
    );
    assert_eq!(
        message(&["tying.decision=swap", "agent.policy=grow"]),
        "\"conflict\", \"random\" or \"none\", or a replay, where tying.decision is \"swap\""
    );
    assert_eq!(
        message(&["tying.decision=single", "agent.policy=even"]),
        "\"q\", \"random\" or \"none\", or a replay, where tying.decision is \"single\""
    );
    assert_eq!(
        message(&["tying.decision=per-layer", "agent.policy=even"]),
        "a policy other than \"grow\", \"even\" (tying.decision = \"split\"), \"conflict\" (\"swap\") \
         and \"backtrack\", \"beam\", \"mcts\", \"random-search\" (\"joint\") where tying.decision is \
         \"per-layer\""
    );
    assert_eq!(
        message(&["tying.decision=joint", "agent.policy=even"]),
        "a policy other than \"grow\", \"even\" (tying.decision = \"split\") and \"conflict\" \
         (\"swap\") where tying.decision is \"joint\""
    );
    assert_eq!(
        message(&["tying.decision=single", "agent.policy=beam"]),
        "\"q\", \"random\" or \"none\", or a replay, where tying.decision is \"single\""
    );
}

#[test]
fn each_policy_and_each_reward_has_a_name_in_reports() {
    let titles: BTreeSet<_> = PolicyKind::ALL
        .iter()
        .flat_map(|policy| policy.decisions().iter().map(|&decision| policy.title(decision)))
        .collect();
    let axes: BTreeSet<_> = Reward::ALL.iter().map(|reward| reward.axis()).collect();

    // A random policy has three: it can also split and swap.
    assert_eq!(titles.len(), PolicyKind::ALL.len() + 2, "{titles:?}");
    assert_eq!(axes.len(), Reward::ALL.len(), "{axes:?}");
    assert_eq!(PolicyKind::Random.title(Decision::Swap), "growth and swaps at random");
}

#[test]
fn conventional_training_decides_nothing_and_ties_nothing() {
    let is_conventional = |assignments: &[&str]| with(assignments).unwrap().is_conventional();
    assert!(is_conventional(&["agent.policy=none", "tying.initial=independent"]));
    assert!(!is_conventional(&["agent.policy=none"]));
    assert!(!is_conventional(&["tying.initial=independent"]));
    assert!(!Spec::default().is_conventional());
}
