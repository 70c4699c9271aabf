//! Single changes, refused decisions, and which layers learn from a reward.

use crate::settings::{NO_LEARNING, REGULAR, agent, agent_in, agent_spec};
use dlt_agent::{
    Agent, AgentError, Choice, Experience, Policy, PolicySnapshot, Remembered, Situation, Update,
    Visit,
};
use dlt_spec::spec::{Credit, Decision, PolicyKind, Reward};
use dlt_state::{Action, State};
use std::sync::mpsc::{Sender, channel};

/// An agent of four layers whose Q values are `values` in every state: layer 1's two, layer 2's
/// three, layer 3's four.
fn agent_with_values(action: [usize; 4], values: [f32; 9]) -> Agent {
    let mut spec = agent_spec(PolicyKind::Q);
    spec.epsilon_start = 0.0;
    spec.epsilon_floor = 0.0;
    spec.learning_rate = NO_LEARNING;

    let mut agent = agent(&spec, Decision::Single, 4, 1);
    let mut snapshot = agent.snapshot();
    snapshot.action = action.to_vec();
    let PolicySnapshot::Q(q) = &mut snapshot.policy else { panic!("the snapshot of a Q policy") };
    q.parameters = q.parameters.zeros();
    q.parameters.output_bias = values.to_vec();
    agent.restore(&snapshot).unwrap();
    agent
}

#[test]
fn a_single_change_is_the_one_that_promises_most() {
    let change = |action, values| {
        let made = agent_with_values(action, values).decide(&REGULAR).unwrap();
        assert!(!made.exploration.unwrap().explored && made.sweep_ended);
        (made.action.into_values(), made.visit)
    };

    // Layer 3 has the greatest value, but layer 2 gains more: 1.0 - 0.2 against 5.0 - 4.5.
    let values = [0.5, 0.2, 0.2, 1.0, 0.3, 4.5, 5.0, 0.0, 0.0];
    assert_eq!(change([0, 0, 0, 0], values), (vec![0, 0, 1, 0], Visit::Layer(2)));

    // From here layer 3 gains most. After that every change costs; that of layer 1 costs least:
    // 0.3.
    assert_eq!(change([0, 0, 1, 0], values), (vec![0, 0, 1, 1], Visit::Layer(3)));
    assert_eq!(change([0, 0, 1, 1], values), (vec![0, 0, 1, 1], Visit::Layer(1)));

    // The present entry is the raw one: layer 3 copies layer 2, at 8.5, and not the owner of layer
    // 2, at 1.0.
    let values = [0.0, 0.1, 4.0, 0.1, 0.0, 9.0, 1.0, 8.5, 0.0];
    assert_eq!(change([0, 1, 1, 2], values), (vec![0, 1, 0, 2], Visit::Layer(2)));

    // Equal gains: the lowest layer, then the lowest entry; 0 everywhere is no change.
    assert_eq!(
        change([0; 4], [0.0, 0.0, 0.0, 2.0, 2.0, 0.0, 2.0, 0.0, 0.0]),
        (vec![0, 0, 1, 0], Visit::Layer(2))
    );
    assert_eq!(change([0; 4], [0.0; 9]), (vec![0; 4], Visit::Layer(1)));
}

#[test]
fn a_kept_entry_learns() {
    let mut agent = agent_with_values([0, 0, 1, 1], [0.5, 0.2, 0.2, 1.0, 0.3, 4.5, 5.0, 0.0, 0.0]);
    agent.decide(&REGULAR).unwrap();

    let update = agent.learn(2.0).unwrap().unwrap();
    // Predicted: Q of layer 1's kept entry. Target: the reward plus 0.99 times its greatest value,
    // which is the same value.
    assert_eq!(update.predicted, 0.5);
    assert!((update.target - (2.0 + 0.99 * 0.5)).abs() < 1e-6);
}

/// Asks for given actions, one after the other, and sends on the experiences that it should learn
/// from.
#[derive(Debug)]
struct Student {
    actions: Vec<Vec<usize>>,
    learned: Sender<Remembered>,
}

impl Policy for Student {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        Ok(Choice::new(Action::new(self.actions.remove(0)).unwrap(), situation.visit))
    }

    fn learn(&mut self, seen: &Experience<'_>, _: bool) -> Result<Option<Update>, AgentError> {
        self.learned.send(Remembered::from(seen)).unwrap();
        Ok(None)
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::None
    }

    fn restore(&mut self, _: &PolicySnapshot) -> Result<(), AgentError> {
        Ok(())
    }
}

#[test]
fn credit_goes_to_all_decided_layers_or_to_those_with_another_owner() {
    let actions = vec![vec![0, 1, 1, 0], vec![0, 1, 2, 1], vec![0, 1, 2, 1]];

    for (credit, expected) in [
        (Credit::All, [vec![1, 2, 3], vec![1, 2, 3], vec![1, 2, 3]]),
        // From 0, 0, 0, 0 through 0, 1, 1, 0 to 0, 1, 2, 1, where layer 1 keeps its owner.
        (Credit::Changed, [vec![1, 2], vec![2, 3], vec![]]),
    ] {
        let (learned, seen) = channel();
        let policy = Box::new(Student { actions: actions.clone(), learned });
        let initial = State::all_tied(4);
        let mut agent =
            Agent::with_policy(policy, Reward::NegLoss, Decision::Joint, initial).crediting(credit);

        for _ in 0..3 {
            agent.decide(&REGULAR).unwrap();
            agent.learn(-1.0).unwrap();
        }

        let layers: Vec<_> = seen.try_iter().map(|seen| seen.layers).collect();
        assert_eq!(layers, expected, "{credit:?}");
    }
}

#[test]
fn the_spec_names_the_credit() {
    let mut spec = agent_spec(PolicyKind::Q);
    spec.epsilon_start = 0.0;
    spec.epsilon_floor = 0.0;
    spec.credit = Credit::Changed;

    let mut agent = agent_in(&spec, Decision::PerLayer, &[0, 0, 0, 0], 1);
    let mut learned = Vec::new();

    for _ in 0..30 {
        let before = agent.current_state().clone();
        let made = agent.decide(&REGULAR).unwrap();
        let Visit::Layer(layer) = made.visit else { panic!("layers take turns") };
        let changed = made.state.owner(layer) != before.owner(layer);

        assert_eq!(agent.learn(-1.0).unwrap().is_some(), changed);
        learned.push(changed);
    }

    assert!(learned.contains(&true) && learned.contains(&false), "{learned:?}");
}

#[test]
fn a_refused_decision_is_learned_from_and_changes_nothing() {
    let (learned, seen) = channel();
    let policy =
        Box::new(Student { actions: vec![vec![0, 1, 1], vec![0, 0, 2], vec![0, 1, 2]], learned });
    let initial = State::all_tied(3);
    let mut agent = Agent::with_policy(policy, Reward::NegLoss, Decision::Joint, initial)
        .crediting(Credit::Changed);

    for refused in [false, true, false] {
        let made = agent.decide(&REGULAR).unwrap();
        let action = agent.current_action().clone();
        let state = agent.current_state().clone();

        assert!(!agent.is_refused());
        if refused {
            agent.refuse().unwrap();
            assert_eq!((agent.is_refused(), agent.pending()), (true, Some(&made)));
        }

        agent.learn(-1.0).unwrap();
        assert_eq!((agent.is_refused(), agent.pending()), (false, None));

        let (expected_action, expected_state) =
            if refused { (action, state) } else { (made.action, made.state) };
        assert_eq!(
            (agent.current_action(), agent.current_state()),
            (&expected_action, &expected_state)
        );
    }

    let lists = |lists: [&[usize]; 4]| {
        let [before, action, layers, after] = lists.map(<[usize]>::to_vec);
        Remembered { before, action, layers, reward: -1.0, after }
    };

    let expected = [
        lists([&[0, 0, 0], &[0, 1, 1], &[1, 2], &[0, 1, 1]]),
        // It would have changed both layers, and it led back to the same state.
        lists([&[0, 1, 1], &[0, 0, 2], &[1, 2], &[0, 1, 1]]),
        lists([&[0, 1, 1], &[0, 1, 2], &[2], &[0, 1, 2]]),
    ];
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), expected);
    assert!(matches!(agent.refuse(), Err(AgentError::NoDecision)));
}

#[test]
fn layers_take_turns_past_a_refused_decision() {
    let mut agent = agent(&agent_spec(PolicyKind::Random), Decision::PerLayer, 4, 1);
    for turn in [1, 2, 3, 1] {
        assert_eq!(agent.decide(&REGULAR).unwrap().visit, Visit::Layer(turn));
        agent.refuse().unwrap();
        agent.learn(-1.0).unwrap();
        assert_eq!(agent.current_state(), &State::all_tied(4));
    }
}
