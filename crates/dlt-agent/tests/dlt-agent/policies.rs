//! Which actions each policy asks for, in which order, and what it refuses.

use crate::settings::{
    DECISIONS, NETWORKS, NO_LEARNING, REGULAR, agent, agent_of, agent_spec, setup,
};
use dlt_agent::{
    Agent, AgentError, Choice, ExplorationSettings, FixedPolicy, LearnerSettings, NoPolicy, Policy,
    PolicySnapshot, QLayout, QLearner, QNetwork, QPolicy, RandomPolicy, ReplayPolicy, Situation,
    Visit, replay_permutation,
};
use dlt_spec::spec::{
    AgentSpec, DecayPer, Decision, Initial, InitialName, Network, PolicyKind, Reward, Scaling,
    StateVector,
};
use dlt_spec::{AgentSetup, seeds};
use dlt_state::{Action, Recording, State};
use std::collections::BTreeMap;

const LEARNED: [PolicyKind; 3] = [PolicyKind::Q, PolicyKind::Random, PolicyKind::Fixed];

/// The policy of an untrained Q-network, whose exploration is halved down to 0.2.
fn q_policy(network: Network, n_layers: usize, per: DecayPer) -> QPolicy {
    let layout = QLayout::new(network, Scaling::Unit, n_layers);
    let network = QNetwork::new(layout, 8, &mut seeds::stream(1, "q-network"));
    let settings =
        LearnerSettings { learning_rate: 1e-3, weight_decay: 0.0, gamma: 0.99, target_every: 0 };
    let exploration = ExplorationSettings { start: 1.0, decay: 0.5, floor: 0.2, per };

    QPolicy::new(QLearner::new(network, settings), exploration, seeds::stream(1, "policy"))
}

/// Half the width of a band around `expected`. A count of uniform draws is outside of it once in
/// about two million times.
fn five_deviations(expected: f64) -> f64 {
    5.0 * expected.sqrt()
}

fn step(agent: &mut Agent) -> dlt_agent::Decision {
    let decision = agent.decide(&REGULAR).unwrap();
    agent.learn(-1.0).unwrap();
    decision
}

fn recording<const L: usize>(rows: &[([usize; L], Option<usize>)]) -> Recording {
    let mut recording = Recording::new(L);
    for (index, (row, layer)) in rows.iter().enumerate() {
        recording.push(index * 15, Action::new(row.to_vec()).unwrap(), *layer).unwrap();
    }
    recording
}

fn replaying(
    spec: &AgentSpec,
    recording: &Recording,
    decision: Decision,
) -> Result<Agent, AgentError> {
    Agent::new(&setup(spec, decision, 4, 1).check().unwrap(), Some(recording))
}

#[test]
fn the_layouts_have_the_sizes_of_the_paper_and_of_the_code() {
    let layout = |network| QLayout::new(network, Scaling::None, 48);
    assert_eq!((layout(Network::Paper).n_inputs(), layout(Network::Paper).n_outputs()), (47, 1175));
    assert_eq!(
        (layout(Network::Reference).n_inputs(), layout(Network::Reference).n_outputs()),
        (48, 1176)
    );

    for network in NETWORKS {
        let mut next = layout(network).n_outputs() - 1175;
        for layer in 1..48 {
            let slice = layout(network).slice(layer);
            assert_eq!((slice.start, slice.len()), (next, layer + 1));
            next = slice.end;
        }

        assert_eq!(next, layout(network).n_outputs());
    }

    let unit = QLayout::new(Network::Reference, Scaling::Unit, 3);
    assert_eq!(unit.inputs(&[0, 1, 2]), [0.0, 0.5, 1.0]);
    assert_eq!(QLayout::new(Network::Paper, Scaling::None, 3).inputs(&[0, 1, 2]), [1.0, 2.0]);
}

#[test]
fn law_initial_weights_fill_the_bounds_of_their_layer() {
    let layout = QLayout::new(Network::Paper, Scaling::None, 12);
    let network = QNetwork::new(layout, 128, &mut seeds::stream(1, "q-network"));
    let fan_in = [11.0_f32, 11.0, 128.0, 128.0];

    for (values, fan_in) in network.parameters().tensors().into_iter().zip(fan_in) {
        let bound = 1.0 / fan_in.sqrt();
        let (least, most) = values
            .iter()
            .fold((f32::MAX, f32::MIN), |(least, most), v| (least.min(*v), most.max(*v)));
        assert!(least >= -bound && least < -0.9 * bound, "{least} against {bound}");
        assert!(most <= bound && most > 0.9 * bound, "{most} against {bound}");

        let mean = values.iter().sum::<f32>() / values.len() as f32;
        // The mean of n uniform values deviates by bound / sqrt(3 n).
        assert!(mean.abs() < 5.0 * bound / (3.0 * values.len() as f32).sqrt(), "mean {mean}");
    }
}

#[test]
fn law_random_and_exploring_actions_are_uniform() {
    const DRAWS: usize = 12_000;

    for (policy, network) in [
        (PolicyKind::Random, Network::Paper),
        (PolicyKind::Q, Network::Paper),
        (PolicyKind::Q, Network::Reference),
    ] {
        let mut spec = agent_spec(policy);
        spec.network = network;
        spec.epsilon_floor = 1.0;
        spec.hidden = 2;

        let mut agent = agent(&spec, Decision::Joint, 4, 3);
        let mut counts = BTreeMap::new();
        for _ in 0..DRAWS {
            *counts.entry(step(&mut agent).action).or_insert(0_usize) += 1;
        }

        assert_eq!(counts.len(), 24, "{policy:?} {network:?}: all of the 4! actions");
        let expected = DRAWS as f64 / 24.0;
        for (action, count) in counts {
            let off = (count as f64 - expected).abs();
            assert!(
                off < five_deviations(expected),
                "{policy:?} {network:?}: {action:?} {count} times"
            );
        }
    }
}

#[test]
fn law_exploration_is_as_frequent_as_epsilon_says() {
    let mut spec = agent_spec(PolicyKind::Q);
    spec.epsilon_start = 0.25;
    spec.epsilon_floor = 0.25;
    spec.hidden = 2;

    let mut agent = agent(&spec, Decision::PerLayer, 4, 3);
    let explored = (0..4000).filter(|_| step(&mut agent).exploration.unwrap().explored).count();
    assert!(
        (explored as f64 - 1000.0).abs() < five_deviations(1000.0),
        "explored {explored} of 4000 times"
    );
}

#[test]
fn exploration_decays_per_decision_or_per_sweep_down_to_its_floor() {
    let epsilons = |per, decision| {
        let policy = Box::new(q_policy(Network::Paper, 4, per));
        let initial = State::all_tied(4);
        let mut agent = Agent::with_policy(policy, Reward::NegLoss, decision, initial);
        std::array::from_fn::<f64, 8, _>(|_| step(&mut agent).exploration.unwrap().epsilon)
    };

    let each = [1.0, 0.5, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2];
    assert_eq!(epsilons(DecayPer::Decision, Decision::Joint), each);
    assert_eq!(epsilons(DecayPer::Sweep, Decision::Joint), each, "a joint decision is a sweep");
    assert_eq!(epsilons(DecayPer::Decision, Decision::PerLayer), each);

    let swept = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25];
    assert_eq!(epsilons(DecayPer::Sweep, Decision::PerLayer), swept);
}

#[test]
fn law_equal_values_choose_the_lowest_layer() {
    let mut spec = agent_spec(PolicyKind::Q);
    spec.epsilon_start = 0.0;
    spec.epsilon_floor = 0.0;
    spec.learning_rate = NO_LEARNING;

    for decision in DECISIONS {
        for network in NETWORKS {
            spec.network = network;
            let initial = Initial::Named(InitialName::Independent);
            let mut agent = agent_of(&AgentSetup { initial, ..setup(&spec, decision, 5, 1) });
            let mut snapshot = agent.snapshot();
            let PolicySnapshot::Q(q) = &mut snapshot.policy else {
                panic!("the snapshot of a Q policy")
            };

            q.parameters = q.parameters.zeros();
            agent.restore(&snapshot).unwrap();
            (1..5).for_each(|_| drop(step(&mut agent)));
            assert_eq!(agent.current_action().values(), [0; 5], "{decision:?} {network:?}");
        }
    }
}

#[test]
fn law_a_per_layer_decision_replaces_only_the_choice_of_its_layer_in_turn() {
    for policy in LEARNED {
        let mut agent = agent(&agent_spec(policy), Decision::PerLayer, 5, 2);
        for index in 0..20 {
            let before = agent.current_action().clone();
            let decision = step(&mut agent);
            let turn = 1 + index % 4;

            assert_eq!(decision.visit, Visit::Layer(turn));
            assert_eq!(decision.sweep_ended, turn == 4);

            for layer in (0..5).filter(|&layer| layer != turn) {
                assert_eq!(before.values()[layer], decision.action.values()[layer], "{policy:?}");
            }

            assert_eq!(decision.state, State::from_action(&decision.action));
        }
    }
}

#[test]
fn a_decision_takes_effect_when_it_is_learned_from() {
    let mut agent = agent(&agent_spec(PolicyKind::Fixed), Decision::Joint, 4, 1);
    assert_eq!(agent.current_state(), &State::all_tied(4));

    let decision = agent.decide(&REGULAR).unwrap();
    assert_eq!(decision.state.owners(), [0, 0, 2, 2]);
    assert_eq!((agent.current_state(), agent.pending()), (&State::all_tied(4), Some(&decision)));
    agent.learn(-1.0).unwrap();
    assert_eq!((agent.current_state(), agent.pending()), (&decision.state, None));
}

#[test]
fn a_fixed_pattern_is_reached_at_once_or_after_one_sweep() {
    for (name, owners) in [
        (InitialName::Tied, [0, 0, 0, 0]),
        (InitialName::Independent, [0, 1, 2, 3]),
        (InitialName::Cycle, [0, 1, 0, 1]),
        (InitialName::CycleReversed, [0, 1, 1, 0]),
        (InitialName::CycleReversedAsWritten, [0, 1, 2, 1]),
        (InitialName::Sequence, [0, 0, 2, 2]),
    ] {
        let spec = AgentSpec { pattern: Initial::Named(name), ..agent_spec(PolicyKind::Fixed) };
        assert_eq!(step(&mut agent(&spec, Decision::Joint, 4, 1)).state.owners(), owners);

        let mut visits = agent(&spec, Decision::PerLayer, 4, 1);
        (1..4).for_each(|_| drop(step(&mut visits)));
        assert_eq!(visits.current_state().owners(), owners);
    }

    let owners = Initial::Owners(vec![0, 1, 1, 3]);
    let spec = AgentSpec { pattern: owners, ..agent_spec(PolicyKind::Fixed) };
    assert_eq!(step(&mut agent(&spec, Decision::Joint, 4, 1)).state.owners(), [0, 1, 1, 3]);
}

#[test]
fn nobody_decides_and_nothing_changes() {
    for decision in DECISIONS {
        let initial = Initial::Named(InitialName::Cycle);
        let nobody = setup(&agent_spec(PolicyKind::None), decision, 4, 1);
        let mut agent = agent_of(&AgentSetup { initial, ..nobody });
        for _ in 0..5 {
            let made = step(&mut agent);
            assert_eq!((made.visit, made.visit.layers(4)), (Visit::Nothing, 0..0));
            assert_eq!(made.state.owners(), [0, 1, 0, 1]);
        }
    }
}

#[test]
fn a_replay_follows_its_rows_and_stays_at_the_last() {
    let recording = recording(&[([0, 1, 1, 2], None), ([0, 0, 2, 1], None)]);
    let mut agent =
        replaying(&agent_spec(PolicyKind::Replay), &recording, Decision::Joint).unwrap();
    let seen: Vec<_> = (0..4).map(|_| step(&mut agent)).collect();
    let actions: Vec<_> = seen.iter().map(|decision| decision.action.values()).collect();

    assert_eq!(actions, [[0, 1, 1, 2], [0, 0, 2, 1], [0, 0, 2, 1], [0, 0, 2, 1]]);
    assert_eq!(seen[0].state.owners(), [0, 1, 1, 1]);

    assert!(
        seen.iter().all(|decision| decision.visit == Visit::All && decision.exploration.is_none())
    );
}

#[test]
fn law_a_replay_repeats_a_recorded_run_of_any_agent() {
    for decision in DECISIONS {
        let mut recorded = agent(&agent_spec(PolicyKind::Q), decision, 4, 5);
        let mut recording = Recording::new(4);
        let mut made = Vec::new();

        for index in 0..10 {
            let decision = step(&mut recorded);
            let layer = match decision.visit {
                Visit::Layer(layer) => Some(layer),
                Visit::All | Visit::Nothing => None,
            };

            recording.push(index, decision.action.clone(), layer).unwrap();
            made.push(decision);
        }

        let mut replayed =
            replaying(&agent_spec(PolicyKind::Replay), &recording, decision).unwrap();

        for expected in made {
            let expected = dlt_agent::Decision { exploration: None, ..expected };
            assert_eq!(step(&mut replayed), expected);
        }
    }
}

#[test]
fn a_permuted_replay_relabels_every_state() {
    let recording = recording(&[([0, 1, 0, 3], Some(2)), ([0, 1, 0, 1], Some(3))]);
    let mut spec = agent_spec(PolicyKind::PermutedReplay);
    spec.permutation = vec![3, 0, 2, 1];

    for decision in DECISIONS {
        let mut agent = replaying(&spec, &recording, decision).unwrap();
        // Groups {0, 2}, {1}, {3} become {3, 2}, {0}, {1}; {0, 2}, {1, 3} become {3, 2}, {0, 1}.
        for owners in [[0, 1, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]] {
            assert_eq!(step(&mut agent).state.owners(), owners);
        }

        assert_eq!(
            replaying(&spec, &recording, decision).unwrap().decide(&REGULAR).unwrap().visit,
            Visit::All
        );
    }
}

#[test]
fn law_a_permutation_is_drawn_from_the_seed_where_none_is_given() {
    let mut spec = agent_spec(PolicyKind::PermutedReplay);
    let permutation = |spec: &AgentSpec, layers, seed| {
        replay_permutation(&setup(spec, Decision::Joint, layers, seed).check().unwrap())
    };

    let drawn = permutation(&spec, 12, 1);
    let mut sorted = drawn.clone();

    sorted.sort_unstable();
    assert_eq!(sorted, (0..12).collect::<Vec<_>>());
    assert_eq!(permutation(&spec, 12, 1), drawn);
    assert_ne!(permutation(&spec, 12, 2), drawn);
    spec.permutation = vec![1, 0];
    assert_eq!(permutation(&spec, 2, 1), [1, 0]);
}

#[test]
fn a_single_layer_leaves_no_choice() {
    let recording = recording(&[([0], None)]);

    let alone = State::all_tied(1);
    let policies = || -> Vec<Box<dyn Policy>> {
        let mut policies: Vec<Box<dyn Policy>> = vec![
            Box::new(RandomPolicy::new(seeds::stream(1, "policy"))),
            Box::new(FixedPolicy::new(alone.clone())),
            Box::new(NoPolicy),
            Box::new(ReplayPolicy::new(&recording, &alone).unwrap()),
            Box::new(ReplayPolicy::permuted(&recording, &[0], 1).unwrap()),
        ];

        for network in NETWORKS {
            policies.push(Box::new(q_policy(network, 1, DecayPer::Decision)));
        }

        policies
    };

    for decision in DECISIONS {
        for policy in policies() {
            let mut agent = Agent::with_policy(policy, Reward::NegPpl, decision, alone.clone());
            for _ in 0..3 {
                let decision = agent.decide(&REGULAR).unwrap();
                assert_eq!(decision.state.owners(), [0]);
                assert!(decision.sweep_ended && decision.visit.layers(1).is_empty());
                assert_eq!(agent.learn(-1.0).unwrap(), None, "there is nothing to learn");
            }

            let snapshot = agent.snapshot();
            agent.restore(&snapshot).unwrap();
        }
    }
}

/// Asks for layer 3 to copy layer 2, which copies layer 0, and sends on the state vectors that it
/// sees.
#[derive(Debug)]
struct Watcher(std::sync::mpsc::Sender<Vec<usize>>);

impl Policy for Watcher {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        self.0.send(situation.vector.to_vec()).unwrap();
        let action = Action::new(vec![0, 1, 0, 2]).unwrap();
        Ok(Choice::new(action, situation.visit))
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::None
    }

    fn restore(&mut self, _: &PolicySnapshot) -> Result<(), AgentError> {
        Ok(())
    }
}

#[test]
fn the_state_vector_is_the_state_or_the_raw_action() {
    for (kind, expected) in
        [(StateVector::Canonical, [0, 1, 0, 0]), (StateVector::Raw, [0, 1, 0, 2])]
    {
        let (sender, shown) = std::sync::mpsc::channel();
        let policy = Box::new(Watcher(sender));
        let initial = State::all_tied(4);
        let mut agent =
            Agent::with_policy(policy, Reward::NegLoss, Decision::Joint, initial).seeing(kind);

        step(&mut agent);
        step(&mut agent);
        assert_eq!(shown.try_iter().collect::<Vec<_>>(), [[0; 4], expected]);
    }
}

#[test]
fn rejects_decide_and_learn_out_of_order() {
    for policy in LEARNED {
        let mut agent = agent(&agent_spec(policy), Decision::Joint, 4, 1);
        assert!(matches!(agent.learn(-1.0), Err(AgentError::NoDecision)));
        agent.decide(&REGULAR).unwrap();
        assert!(matches!(agent.decide(&REGULAR), Err(AgentError::DecisionPending)));
        agent.learn(-1.0).unwrap();
        assert!(matches!(agent.learn(-1.0), Err(AgentError::NoDecision)));
    }
}

#[test]
fn rejects_a_reward_that_is_not_finite_and_changes_nothing() {
    for policy in LEARNED {
        let mut agent = agent(&agent_spec(policy), Decision::PerLayer, 4, 1);
        agent.decide(&REGULAR).unwrap();

        let before = agent.snapshot();
        for reward in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert!(matches!(agent.learn(reward), Err(AgentError::NotFinite { .. })));
        }

        assert_eq!(agent.snapshot(), before);
        agent.learn(-1.0).unwrap();
    }

    // Its square, the loss of the Q-network, is too great for f32.
    let mut agent = agent(&agent_spec(PolicyKind::Q), Decision::Joint, 4, 1);
    agent.decide(&REGULAR).unwrap();

    let before = agent.snapshot();
    assert!(matches!(agent.learn(-1e30), Err(AgentError::NotFinite { .. })));
    assert_eq!(agent.snapshot(), before);
}

#[test]
fn rejects_recordings_that_cannot_be_followed() {
    let [replay, permuted] = [PolicyKind::Replay, PolicyKind::PermutedReplay].map(agent_spec);
    for spec in [&replay, &permuted] {
        let missing = Agent::new(&setup(spec, Decision::Joint, 4, 1).check().unwrap(), None);
        assert!(matches!(missing, Err(AgentError::Recording { .. })));

        let empty = replaying(spec, &Recording::new(4), Decision::Joint);
        assert!(matches!(empty, Err(AgentError::Recording { .. })));

        let shallow = replaying(spec, &recording(&[([0, 1, 1], None)]), Decision::Joint);
        assert!(matches!(shallow, Err(AgentError::Depth { expected: 4, got: 3, .. })));
    }

    let edited = recording(&[([0, 1, 0, 0], Some(1)), ([0, 1, 2, 3], Some(2))]);
    let error = replaying(&replay, &edited, Decision::PerLayer).unwrap_err();
    assert!(matches!(error, AgentError::OtherChoice { row: 1, visited: 2, changed: 3 }), "{error}");

    let good = recording(&[([0, 1, 0, 0], None)]);

    for permutation in [vec![0, 1, 2], vec![0, 1, 1, 3], vec![0, 1, 2, 4]] {
        let refused = ReplayPolicy::permuted(&good, &permutation, 4);
        assert!(matches!(refused, Err(AgentError::Grouping { .. })));
    }
}

#[test]
fn rejects_parameters_of_another_shape() {
    let layout = |layers| QLayout::new(Network::Paper, Scaling::None, layers);
    let parameters =
        QNetwork::new(layout(4), 8, &mut seeds::stream(1, "q-network")).parameters().clone();
    assert!(QNetwork::from_parameters(layout(4), parameters.clone()).is_ok());

    let error = QNetwork::from_parameters(layout(5), parameters).unwrap_err();
    assert!(matches!(error, AgentError::Mismatch { .. }), "{error}");
}
