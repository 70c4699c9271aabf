//! Values, greedy actions, targets, losses and updates equal those of PyTorch.

use crate::settings::REGULAR;
use dlt_agent::{
    Agent, Experience, ExplorationSettings, LearnerSettings, Measured, Parameters, QLayout,
    QLearner, QNetwork, QPolicy, Update,
};
use dlt_spec::spec::{DecayPer, Decision, Network, Reward, Scaling, StateVector};
use dlt_state::State;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Deserialize;

/// Q values, targets, losses and weights are sums of at most a hundred f32 products in another
/// order than PyTorch's, over ten or more updates. The greatest relative difference observed is
/// 2e-6.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Oracle {
    gamma: f64,
    learning_rate: f64,
    updates: Vec<UpdatesCase>,
    episodes: Vec<EpisodeCase>,
}

#[derive(Deserialize)]
struct Shape {
    name: String,
    layers: usize,
    layout: Network,
    decision: Decision,
    scaling: Scaling,
    hidden: usize,
    weight_decay: f64,
}

#[derive(Deserialize)]
struct UpdatesCase {
    #[serde(flatten)]
    shape: Shape,
    first_vector: Vec<usize>,
    first_values: Vec<f64>,
    first_greedy: Vec<usize>,
    steps: Vec<UpdateStep>,
    last_values: Vec<f64>,
    last_parameters: Option<[Vec<f64>; 4]>,
}

#[derive(Deserialize)]
struct UpdateStep {
    before: Vec<usize>,
    action: Vec<usize>,
    visited: Vec<usize>,
    reward: f64,
    #[serde(flatten)]
    seen: Seen,
}

#[derive(Deserialize)]
struct EpisodeCase {
    #[serde(flatten)]
    shape: Shape,
    vector: StateVector,
    steps: Vec<EpisodeStep>,
}

#[derive(Deserialize)]
struct EpisodeStep {
    action: Vec<usize>,
    state: Vec<usize>,
    reward: f64,
    #[serde(flatten)]
    seen: Seen,
}

#[derive(Deserialize)]
struct Seen {
    predicted: f64,
    target: f64,
    loss: f64,
}

#[test]
fn matches_reference_values_and_greedy_actions() {
    for case in &oracle().updates {
        let learner = learner(&case.shape, &oracle());
        let name = &case.shape.name;
        let values = learner.network().values(&case.first_vector);

        assert_close(name, &values, &case.first_values);
        let greedy = learner.best(&case.first_vector, 1..case.shape.layers);
        assert_eq!(greedy, case.first_greedy, "{name}: greedy action");
    }
}

#[test]
fn matches_reference_ten_updates() {
    let oracle = oracle();
    assert_eq!(oracle.updates.len(), 27, "cases of the fixture");

    for case in &oracle.updates {
        let mut learner = learner(&case.shape, &oracle);
        let name = &case.shape.name;
        assert_eq!(case.steps.len(), 10, "{name}: steps");

        for step in &case.steps {
            let after = state_of(&step.action);
            let experience = Experience {
                before: &step.before,
                action: &step.action,
                layers: &step.visited,
                reward: step.reward,
                after: after.owners(),
            };

            assert_seen(name, learner.learn(&experience).unwrap(), &step.seen);
        }

        assert_close(name, &learner.network().values(&case.first_vector), &case.last_values);
        if let Some(expected) = &case.last_parameters {
            for (got, expected) in
                learner.network().parameters().tensors().into_iter().zip(expected)
            {
                assert_close(name, got, expected);
            }
        }
    }
}

#[test]
fn matches_reference_greedy_episodes() {
    let oracle = oracle();
    assert_eq!(oracle.episodes.len(), 12, "cases of the fixture");

    for case in &oracle.episodes {
        let exploration =
            ExplorationSettings { start: 0.0, decay: 1.0, floor: 0.0, per: DecayPer::Decision };
        let rng = ChaCha8Rng::seed_from_u64(0);
        let policy = QPolicy::new(learner(&case.shape, &oracle), exploration, rng);

        let policy = Box::new(policy);
        let initial = State::all_tied(case.shape.layers);
        let mut agent = Agent::with_policy(policy, Reward::NegLoss, case.shape.decision, initial)
            .seeing(case.vector);
        let name = &case.shape.name;

        for step in &case.steps {
            let decision = agent.decide(&REGULAR).unwrap();
            assert_eq!(decision.action.values(), step.action, "{name}: action");
            assert_eq!(decision.state.owners(), step.state, "{name}: state");

            let reward = agent.reward(Measured::of_loss(-step.reward), None).unwrap();
            assert_seen(name, agent.learn(reward).unwrap(), &step.seen);
            assert_eq!(agent.current_state().owners(), step.state, "{name}: state in force");
        }
    }
}

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("../../../../data/fixtures/agent/agent_oracle.json")).unwrap()
}

/// The learner whose weights follow the fixture's formula.
fn learner(shape: &Shape, oracle: &Oracle) -> QLearner {
    let layout = QLayout::new(shape.layout, shape.scaling, shape.layers);
    let inputs = layout.n_inputs();
    let hidden = shape.hidden;
    let outputs = layout.n_outputs();

    let tensor = |index: usize, count: usize| -> Vec<f32> {
        let scale = if index == 2 && hidden >= 100 { 0.1 } else { 0.3 };
        let value = |k: usize| (scale * (0.7 * k as f64 + 1.0 + index as f64).sin()) as f32;
        (0..count).map(value).collect()
    };

    let parameters = Parameters {
        hidden_weight: tensor(0, hidden * inputs),
        hidden_bias: tensor(1, hidden),
        output_weight: tensor(2, outputs * hidden),
        output_bias: tensor(3, outputs),
    };

    let settings = LearnerSettings {
        learning_rate: oracle.learning_rate,
        weight_decay: shape.weight_decay,
        gamma: oracle.gamma,
        target_every: 0,
    };

    QLearner::new(QNetwork::from_parameters(layout, parameters).unwrap(), settings)
}

fn state_of(action: &[usize]) -> State {
    State::from_action(&dlt_state::Action::new(action.to_vec()).unwrap())
}

fn assert_seen(name: &str, update: Option<Update>, expected: &Seen) {
    let update = update.unwrap();
    let got = [update.predicted, update.target, update.loss];
    for (got, expected) in got.into_iter().zip([expected.predicted, expected.target, expected.loss])
    {
        assert_near(name, got, expected);
    }
}

fn assert_close(name: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{name}: count");
    for (&got, &expected) in got.iter().zip(expected) {
        assert_near(name, got.into(), expected);
    }
}

fn assert_near(name: &str, got: f64, expected: f64) {
    let difference = (got - expected).abs() / expected.abs().max(1.0);
    assert!(difference <= TOLERANCE, "{name}: expected {expected}, got {got}");
}
