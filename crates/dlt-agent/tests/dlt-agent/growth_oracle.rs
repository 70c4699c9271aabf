//! Updates with a replay memory and a target network equal those of PyTorch. Splits and swaps are
//! those that brute force finds.

use crate::settings::{REGULAR, agent_in, agent_spec};
use dlt_agent::{
    Agent, AgentError, Choice, Evidence, Experience, ExplorationSettings, LearnerSettings,
    Occasion, Parameters, Policy, PolicySnapshot, QLayout, QLearner, QNetwork, QPolicy,
    ReplayMemory, Situation, Turn, Update,
};
use dlt_spec::spec::{
    Credit, DecayPer, Decision, Network, PolicyKind, Reward, Scaling, StateVector,
};
use dlt_state::{Action, State};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Deserialize;
use std::collections::VecDeque;

/// As in the updates without a memory: sums of f32 in another order. The greatest relative
/// difference observed is below 1e-6.
const TOLERANCE: f64 = 5e-6;

/// Disagreements are sums of f64 in another order, printed with eight digits.
const DISAGREEMENT_TOLERANCE: f64 = 1e-7;

#[derive(Deserialize)]
struct Oracle {
    gamma: f64,
    learning_rate: f64,
    remembered: Vec<RememberedCase>,
    drawn: Vec<DrawnCase>,
    splits: Vec<SplitCase>,
    swaps: Vec<SwapCase>,
}

#[derive(Deserialize)]
struct Learned {
    name: String,
    layers: usize,
    layout: Network,
    scaling: Scaling,
    hidden: usize,
    weight_decay: f64,
    target_every: usize,
    last_vector: Vec<usize>,
    last_values: Vec<f64>,
    last_target_values: Option<Vec<f64>>,
    last_parameters: Option<[Vec<f64>; 4]>,
}

#[derive(Deserialize)]
struct RememberedCase {
    #[serde(flatten)]
    learned: Learned,
    decision: Decision,
    vector: StateVector,
    credit: Credit,
    memory: usize,
    steps: Vec<RememberedStep>,
}

#[derive(Deserialize)]
struct RememberedStep {
    asked: Vec<usize>,
    refused: bool,
    reward: f64,
    credited: Vec<usize>,
    seen: Option<Seen>,
}

#[derive(Deserialize)]
struct DrawnCase {
    #[serde(flatten)]
    learned: Learned,
    steps: Vec<DrawnStep>,
}

#[derive(Deserialize)]
struct DrawnStep {
    before: Vec<usize>,
    action: Vec<usize>,
    layers: Vec<usize>,
    reward: f64,
    after: Vec<usize>,
    earlier: Vec<usize>,
    seen: Seen,
}

#[derive(Deserialize)]
struct Seen {
    predicted: f64,
    target: f64,
    loss: f64,
}

#[derive(Deserialize)]
struct SplitCase {
    name: String,
    owners: Vec<usize>,
    products: Vec<f64>,
    split: Option<Split>,
}

#[derive(Deserialize)]
struct Split {
    owner: usize,
    part: Vec<usize>,
    state: Vec<usize>,
    conflict: f64,
}

#[derive(Deserialize)]
struct SwapCase {
    name: String,
    owners: Vec<usize>,
    products: Vec<f64>,
    distances: Vec<f64>,
    norms: Vec<f64>,
    swap: Option<Swap>,
}

#[derive(Deserialize)]
struct Swap {
    state: Vec<usize>,
    conflict: f64,
    unlikeness: f64,
}

/// Asks for given actions, and learns as the inner policy does.
#[derive(Debug)]
struct Scripted {
    within: QPolicy,
    actions: VecDeque<Vec<usize>>,
}

impl Policy for Scripted {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        let action = self.actions.pop_front().expect("as many actions as decisions");
        Ok(Choice::new(Action::new(action).unwrap(), situation.visit))
    }

    fn learn(
        &mut self,
        experience: &Experience<'_>,
        ended: bool,
    ) -> Result<Option<Update>, AgentError> {
        self.within.learn(experience, ended)
    }

    fn snapshot(&self) -> PolicySnapshot {
        self.within.snapshot()
    }

    fn restore(&mut self, snapshot: &PolicySnapshot) -> Result<(), AgentError> {
        self.within.restore(snapshot)
    }
}

#[test]
fn matches_reference_ten_updates_with_replay_memory_and_target_network() {
    let oracle = oracle();
    assert_eq!(oracle.remembered.len(), 24, "cases of the fixture");

    for case in &oracle.remembered {
        let name = &case.learned.name;
        let mut agent = scripted_agent(case, &oracle);
        let mut raw = vec![0; case.learned.layers];

        assert_eq!(case.steps.len(), 10, "{name}: steps");
        for step in &case.steps {
            agent.decide(&REGULAR).unwrap();
            if step.refused {
                agent.refuse().unwrap();
            } else {
                raw.clone_from(&step.asked);
            }

            let update = agent.learn(step.reward).unwrap();
            assert_eq!(
                update.is_some(),
                !step.credited.is_empty(),
                "{name}: whether something is learned"
            );

            if let Some(expected) = &step.seen {
                assert_seen(name, update, expected);
            }

            assert_eq!(agent.current_action().values(), raw, "{name}: action in force");
        }

        let PolicySnapshot::Q(snapshot) = agent.snapshot().policy else {
            panic!("the snapshot of a Q policy")
        };
        let network = |parameters: &Parameters| {
            QNetwork::from_parameters(layout(&case.learned), parameters.clone()).unwrap()
        };

        let target = snapshot.target.as_ref().map(network);
        check_learned(&case.learned, &network(&snapshot.parameters), target.as_ref());
    }
}

#[test]
fn matches_reference_ten_updates_with_drawn_experiences() {
    let oracle = oracle();
    assert_eq!(oracle.drawn.len(), 4, "cases of the fixture");

    for case in &oracle.drawn {
        let mut learner = learner(&case.learned, &oracle);
        let experience = |step: usize| {
            let DrawnStep { before, action, layers, reward, after, .. } = &case.steps[step];
            Experience { before, action, layers, reward: *reward, after }
        };

        for (number, step) in case.steps.iter().enumerate() {
            let earlier: Vec<_> = step.earlier.iter().map(|&step| experience(step)).collect();
            let update = learner.learn_again(&experience(number), &earlier).unwrap();
            assert_seen(&case.learned.name, update, &step.seen);
        }

        check_learned(&case.learned, learner.network(), learner.target());
    }
}

#[test]
fn matches_reference_splits_where_gradients_disagree_most() {
    let oracle = oracle();
    assert_eq!(oracle.splits.len(), 17, "cases of the fixture");

    for case in &oracle.splits {
        let evidence = evidence(&case.owners, &case.products, &[], &[]);
        let occasion = Occasion { turn: Turn::Split, evidence: Some(&evidence) };
        let made = policy_agent(PolicyKind::Grow, Decision::Split, &case.owners)
            .decide(&occasion)
            .unwrap();

        let Some(expected) = &case.split else {
            assert_eq!(made.state.owners(), case.owners, "{}: nothing to split", case.name);
            continue;
        };

        assert_eq!(made.state.owners(), expected.state, "{}", case.name);
        let before = State::new(case.owners.clone()).unwrap();
        assert_eq!(
            made.state,
            before.split(expected.owner, &expected.part).unwrap(),
            "{}",
            case.name
        );

        assert_within(
            &case.name,
            made.conflict.unwrap(),
            expected.conflict,
            DISAGREEMENT_TOLERANCE,
        );
    }
}

#[test]
fn matches_reference_swaps_of_the_groups_that_are_most_alike() {
    let oracle = oracle();
    assert_eq!(oracle.swaps.len(), 25, "cases of the fixture");
    assert!(
        oracle.swaps.iter().filter(|case| case.swap.is_none()).count() >= 3,
        "cases where nothing changes"
    );

    for case in &oracle.swaps {
        let evidence = evidence(&case.owners, &case.products, &case.distances, &case.norms);
        let occasion = Occasion { turn: Turn::Swap, evidence: Some(&evidence) };
        let made = policy_agent(PolicyKind::Conflict, Decision::Swap, &case.owners)
            .decide(&occasion)
            .unwrap();

        let Some(expected) = &case.swap else {
            assert_eq!(made.state.owners(), case.owners, "{}: nothing to gain", case.name);
            assert_eq!((made.conflict, made.unlikeness), (None, None), "{}", case.name);
            continue;
        };

        assert_eq!(made.state.owners(), expected.state, "{}", case.name);
        assert_within(
            &case.name,
            made.conflict.unwrap(),
            expected.conflict,
            DISAGREEMENT_TOLERANCE,
        );

        assert_within(
            &case.name,
            made.unlikeness.unwrap(),
            expected.unlikeness,
            DISAGREEMENT_TOLERANCE,
        );
    }
}

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("../../../../data/fixtures/agent/growth_oracle.json"))
        .unwrap()
}

fn evidence(owners: &[usize], products: &[f64], distances: &[f64], norms: &[f64]) -> Evidence {
    Evidence {
        n_layers: owners.len(),
        products: products.to_vec(),
        distances: distances.to_vec(),
        norms: norms.to_vec(),
    }
}

fn policy_agent(policy: PolicyKind, decision: Decision, owners: &[usize]) -> Agent {
    agent_in(&agent_spec(policy), decision, owners, 1)
}

fn scripted_agent(case: &RememberedCase, oracle: &Oracle) -> Agent {
    let exploration =
        ExplorationSettings { start: 0.0, decay: 1.0, floor: 0.0, per: DecayPer::Decision };
    let rng = || ChaCha8Rng::seed_from_u64(0);
    let policy = QPolicy::new(learner(&case.learned, oracle), exploration, rng());

    // A draw of as many experiences as are kept returns all of them.
    let within = match case.memory {
        0 => policy,
        memory => policy.remembering(ReplayMemory::new(memory, memory, rng())),
    };

    let actions = case.steps.iter().map(|step| step.asked.clone()).collect();
    let initial = State::all_tied(case.learned.layers);
    let policy = Box::new(Scripted { within, actions });

    Agent::with_policy(policy, Reward::NegLoss, case.decision, initial)
        .seeing(case.vector)
        .crediting(case.credit)
}

fn layout(learned: &Learned) -> QLayout {
    QLayout::new(learned.layout, learned.scaling, learned.layers)
}

/// The learner whose weights follow the fixture's formula.
fn learner(learned: &Learned, oracle: &Oracle) -> QLearner {
    let layout = layout(learned);
    let inputs = layout.n_inputs();
    let hidden = learned.hidden;
    let outputs = layout.n_outputs();
    let tensor = |index: usize, count: usize| -> Vec<f32> {
        (0..count).map(|k| (0.3 * (0.7 * k as f64 + 1.0 + index as f64).sin()) as f32).collect()
    };

    let parameters = Parameters {
        hidden_weight: tensor(0, hidden * inputs),
        hidden_bias: tensor(1, hidden),
        output_weight: tensor(2, outputs * hidden),
        output_bias: tensor(3, outputs),
    };

    let settings = LearnerSettings {
        learning_rate: oracle.learning_rate,
        weight_decay: learned.weight_decay,
        gamma: oracle.gamma,
        target_every: learned.target_every,
    };

    QLearner::new(QNetwork::from_parameters(layout, parameters).unwrap(), settings)
}

fn check_learned(learned: &Learned, network: &QNetwork, target: Option<&QNetwork>) {
    let name = &learned.name;
    assert_close(name, &network.values(&learned.last_vector), &learned.last_values);
    assert_eq!(target.is_some(), learned.last_target_values.is_some(), "{name}: target network");

    if let (Some(target), Some(expected)) = (target, &learned.last_target_values) {
        assert_close(name, &target.values(&learned.last_vector), expected);
    }

    if let Some(expected) = &learned.last_parameters {
        for (got, expected) in network.parameters().tensors().into_iter().zip(expected) {
            assert_close(name, got, expected);
        }
    }
}

fn assert_seen(name: &str, update: Option<Update>, expected: &Seen) {
    let update = update.unwrap();
    let got = [update.predicted, update.target, update.loss];
    for (got, expected) in got.into_iter().zip([expected.predicted, expected.target, expected.loss])
    {
        assert_within(name, got, expected, TOLERANCE);
    }
}

fn assert_close(name: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{name}: count");
    for (&got, &expected) in got.iter().zip(expected) {
        assert_within(name, got.into(), expected, TOLERANCE);
    }
}

fn assert_within(name: &str, got: f64, expected: f64, tolerance: f64) {
    let difference = (got - expected).abs() / expected.abs().max(1.0);
    assert!(difference <= tolerance, "{name}: expected {expected}, got {got}");
}
