//! An agent that is saved and restored continues exactly as if nothing had happened.

use crate::settings::{DECISIONS, NETWORKS, REGULAR, agent, agent_of, agent_spec, setup};
use dlt_agent::{
    Agent, AgentError, AgentSnapshot, Evidence, Measured, Occasion, PolicySnapshot, QSnapshot,
    Remembered, Turn,
};
use dlt_spec::AgentSetup;
use dlt_spec::spec::{
    AgentSpec, Credit, DecayPer, Decision, Initial, InitialName, Network, PolicyKind, Reward,
    StateVector,
};
use dlt_state::{Action, Recording};

const LAYERS: usize = 5;
const POLICIES: [PolicyKind; 6] = [
    PolicyKind::None,
    PolicyKind::Q,
    PolicyKind::Random,
    PolicyKind::Fixed,
    PolicyKind::Replay,
    PolicyKind::PermutedReplay,
];

/// A loss that no two decisions share.
fn measured(decision: usize) -> f64 {
    2.0 + (decision as f64 * 0.37).sin()
}

fn run(agent: &mut Agent, decisions: std::ops::Range<usize>) -> Vec<String> {
    run_turns(agent, decisions, |_| Turn::Regular)
}

/// The evidence before a decision; no two decisions share it.
fn evidence(decision: usize) -> Evidence {
    let wave = |index: usize| ((index * 7 + decision * 13) as f64).sin();
    let gradients: Vec<[f64; 3]> =
        (0..LAYERS).map(|layer| [0, 1, 2].map(|axis| wave(layer * 3 + axis))).collect();
    let dot = |one: usize, other: usize| {
        (0..3).map(|axis| gradients[one][axis] * gradients[other][axis]).sum()
    };

    let square = |entry: &dyn Fn(usize, usize) -> f64| {
        (0..LAYERS * LAYERS).map(|index| entry(index / LAYERS, index % LAYERS)).collect()
    };

    Evidence {
        n_layers: LAYERS,
        products: square(&dot),
        distances: square(&|one, other| (one as f64 - other as f64).powi(2)),
        norms: (0..LAYERS).map(|layer| 1.0 + layer as f64).collect(),
    }
}

/// Every third split and swap is refused.
fn run_turns(
    agent: &mut Agent,
    decisions: std::ops::Range<usize>,
    turn: impl Fn(usize) -> Turn,
) -> Vec<String> {
    let mut seen = Vec::new();
    for index in decisions {
        let evidence = evidence(index);
        let occasion = Occasion { turn: turn(index), evidence: Some(&evidence) };
        let decision = match agent.pending() {
            Some(decision) => decision.clone(),
            None => agent.decide(&occasion).unwrap(),
        };

        if occasion.turn != Turn::Regular && index % 3 == 2 {
            agent.refuse().unwrap();
        }

        let before = Some(measured(index + 100));
        let reward = agent.reward(Measured::of_loss(measured(index)), before).unwrap();

        // Debug prints the shortest text that reads back as the same float, so equal text is equal
        // bits.
        seen.push(format!("{decision:?} {reward:?} {:?}", agent.learn(reward).unwrap()));
    }

    seen
}

fn recording() -> Recording {
    let mut recording = Recording::new(LAYERS);
    for row in [[0, 1, 0, 3, 2], [0, 0, 2, 1, 4], [0, 1, 1, 1, 3]] {
        let step = recording.rows().len() * 15;
        recording.push(step, Action::new(row.to_vec()).unwrap(), None).unwrap();
    }

    recording
}

fn through_text(snapshot: &AgentSnapshot) -> AgentSnapshot {
    serde_json::from_str(&serde_json::to_string(snapshot).unwrap()).unwrap()
}

fn every_spec() -> impl Iterator<Item = (AgentSpec, Decision)> {
    let kinds =
        POLICIES.into_iter().flat_map(|policy| DECISIONS.map(|decision| (policy, decision)));

    kinds.flat_map(|(policy, decision)| {
        NETWORKS.map(|network| {
            let mut spec = agent_spec(policy);
            spec.network = network;
            spec.reward = Reward::LossDelta;
            spec.hidden = 16;
            spec.epsilon_floor = 0.3;

            if policy == PolicyKind::PermutedReplay {
                spec.permutation = vec![3, 0, 2, 4, 1];
            }
            if network == Network::Reference && decision == Decision::PerLayer {
                spec.epsilon_decay_per = DecayPer::Sweep;
            }

            (spec, decision)
        })
    })
}

#[test]
fn law_a_restored_agent_goes_on_bit_for_bit() {
    for (spec, decision) in every_spec() {
        for waits_for_reward in [false, true] {
            let recording = recording();
            let build = |seed| {
                let setup = setup(&spec, decision, LAYERS, seed).check().unwrap();
                // Raw also where a spec would refuse it: more of the agent has to be restored.
                Agent::new(&setup, Some(&recording)).unwrap().seeing(StateVector::Raw)
            };
            let mut agent = build(1);

            run(&mut agent, 0..6);
            if waits_for_reward {
                agent.decide(&REGULAR).unwrap();
            }

            let saved = agent.snapshot();
            let read = through_text(&saved);
            assert_eq!(read, saved);

            let mut restored = build(2);
            restored.restore(&read).unwrap();
            assert_eq!(restored.snapshot(), saved);

            let case =
                format!("{:?} {decision:?} {:?} {waits_for_reward}", spec.policy, spec.network);
            assert_eq!(run(&mut agent, 6..20), run(&mut restored, 6..20), "{case}");
            assert_eq!(agent.snapshot(), restored.snapshot(), "{case}");
        }
    }
}

/// Additions to the paper's method: policies of splits and swaps, single changes, a memory, a
/// target network, refusals.
fn every_added_spec() -> Vec<(AgentSpec, Decision)> {
    let splitting = [
        (PolicyKind::Grow, Decision::Split),
        (PolicyKind::Even, Decision::Split),
        (PolicyKind::Random, Decision::Split),
        (PolicyKind::Conflict, Decision::Swap),
        (PolicyKind::Random, Decision::Swap),
        (PolicyKind::Random, Decision::Single),
    ];

    let mut specs: Vec<_> =
        splitting.map(|(policy, decision)| (agent_spec(policy), decision)).to_vec();

    for decision in [Decision::Joint, Decision::PerLayer, Decision::Single] {
        for (replay_memory, target_every) in [(0, 3), (3, 0), (6, 2)] {
            for credit in [Credit::All, Credit::Changed] {
                let spec = AgentSpec {
                    hidden: 16,
                    epsilon_floor: 0.3,
                    credit,
                    replay_memory,
                    replay_batch: 2,
                    target_every,
                    reward: Reward::Gain,
                    ..agent_spec(PolicyKind::Q)
                };

                specs.push((spec, decision));
            }
        }
    }

    specs
}

/// Splits first, then swaps, if the decision has any.
fn turn_of(decision: Decision) -> impl Fn(usize) -> Turn {
    move |index| match decision {
        Decision::Split => Turn::Split,
        Decision::Swap if index < 2 => Turn::Split,
        Decision::Swap => Turn::Swap,
        Decision::Joint | Decision::PerLayer | Decision::Single => Turn::Regular,
    }
}

#[test]
fn law_an_agent_with_what_we_added_goes_on_bit_for_bit() {
    for (spec, decision) in every_added_spec() {
        for (waits_for_reward, refused) in [(false, false), (true, false), (true, true)] {
            let initial = Initial::Named(InitialName::Tied);
            let build = |seed| {
                let initial = initial.clone();
                agent_of(&AgentSetup { initial, ..setup(&spec, decision, LAYERS, seed) })
            };
            let mut agent = build(1);

            run_turns(&mut agent, 0..9, turn_of(decision));
            if waits_for_reward {
                let evidence = evidence(9);
                let turn = turn_of(decision)(9);
                agent.decide(&Occasion { turn, evidence: Some(&evidence) }).unwrap();
            }

            if refused {
                agent.refuse().unwrap();
            }

            let saved = agent.snapshot();
            let read = through_text(&saved);
            assert_eq!(read, saved);

            let mut restored = build(2);
            restored.restore(&read).unwrap();

            let case = format!("{spec:?} {decision:?} {waits_for_reward} {refused}");
            assert_eq!((restored.snapshot(), restored.is_refused()), (saved, refused), "{case}");

            let go_on = |agent: &mut Agent| run_turns(agent, 9..24, turn_of(decision));
            assert_eq!(go_on(&mut agent), go_on(&mut restored), "{case}");
            assert_eq!(agent.snapshot(), restored.snapshot(), "{case}");
        }
    }
}

/// The text of a snapshot from before there were refusals, memories and target networks.
#[test]
fn law_a_snapshot_without_what_we_added_is_written_and_read_as_before() {
    let mut agent = agent(&agent_spec(PolicyKind::Q), Decision::Joint, 2, 1);
    agent.decide(&REGULAR).unwrap();

    let text = serde_json::to_string(&agent.snapshot()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();

    assert_eq!(keys(&value), ["action", "pending", "policy", "rewarder", "turn"]);
    assert_eq!(keys(&value["pending"]), ["action", "exploration", "sweep_ended", "visit"]);
    assert_eq!(keys(&value["policy"]["q"]), ["epsilon", "optimizer", "parameters", "rng"]);

    let read: AgentSnapshot = serde_json::from_str(&text).unwrap();
    agent.restore(&read).unwrap();
    assert_eq!((agent.snapshot(), agent.is_refused()), (read, false));
}

#[test]
fn law_without_a_memory_its_batch_changes_nothing() {
    let seen = |replay_batch, credit| {
        let spec = AgentSpec { replay_batch, credit, ..agent_spec(PolicyKind::Q) };
        let mut agent = agent(&spec, Decision::Joint, LAYERS, 1);
        (run(&mut agent, 0..12), agent.snapshot())
    };

    assert_eq!(seen(1, Credit::All), seen(50, Credit::All));
    assert_ne!(seen(1, Credit::All), seen(1, Credit::Changed));
}

#[test]
fn rejects_a_memory_and_a_target_network_that_do_not_fit() {
    let spec = AgentSpec { replay_memory: 3, target_every: 2, ..agent_spec(PolicyKind::Q) };
    let mut agent = agent(&spec, Decision::Joint, LAYERS, 1);
    run(&mut agent, 0..5);

    let good = agent.snapshot();
    let change = |change: &dyn Fn(&mut QSnapshot)| {
        let mut snapshot = good.clone();
        let PolicySnapshot::Q(q) = &mut snapshot.policy else {
            panic!("the snapshot of a Q policy")
        };
        change(q);
        snapshot
    };

    let memory = |change_memory: &dyn Fn(&mut Vec<Remembered>)| {
        change(&|q| change_memory(&mut q.memory.as_mut().unwrap().experiences))
    };
    let flawed = [
        change(&|q| q.target = None),
        change(&|q| q.target.as_mut().unwrap().hidden_bias.truncate(3)),
        change(&|q| q.memory = None),
        memory(&|experiences| experiences.push(experiences[0].clone())),
        memory(&|experiences| experiences[0].action[1] = 2),
        memory(&|experiences| experiences[1].before.truncate(2)),
        memory(&|experiences| experiences[1].after.push(0)),
        memory(&|experiences| experiences[2].layers = vec![1, LAYERS]),
        memory(&|experiences| experiences[2].layers = vec![0, 1]),
        memory(&|experiences| experiences[2].layers = vec![2, 1]),
        memory(&|experiences| experiences[2].layers.clear()),
    ];

    for (index, flawed) in flawed.iter().enumerate() {
        let error = agent.restore(flawed).unwrap_err();
        assert!(matches!(error, AgentError::Mismatch { .. }), "{index}: {error}");
        assert_eq!(agent.snapshot(), good, "{index}: a refused snapshot changes nothing");
    }

    let mut plain = crate::settings::agent(&agent_spec(PolicyKind::Q), Decision::Joint, LAYERS, 1);

    for snapshot in [change(&|q| q.target = None), change(&|q| q.memory = None)] {
        assert!(matches!(plain.restore(&snapshot), Err(AgentError::Mismatch { .. })));
    }
}

#[test]
fn rejects_a_reward_that_is_too_great_and_remembers_nothing_of_it() {
    let spec = AgentSpec { replay_memory: 3, target_every: 1, ..agent_spec(PolicyKind::Q) };
    let mut agent = agent(&spec, Decision::Joint, LAYERS, 1);
    run(&mut agent, 0..5);
    agent.decide(&REGULAR).unwrap();

    let before = agent.snapshot();
    for reward in [f64::NAN, -1e30] {
        assert!(matches!(agent.learn(reward), Err(AgentError::NotFinite { .. })));
        assert_eq!(agent.snapshot(), before);
    }
}

#[test]
fn law_the_seed_decides_everything_that_is_drawn() {
    for policy in [PolicyKind::Q, PolicyKind::Random] {
        for decision in DECISIONS {
            let spec = agent_spec(policy);
            let seen = |seed| run(&mut agent(&spec, decision, LAYERS, seed), 0..12);
            assert_eq!(seen(1), seen(1));
            assert_ne!(seen(1), seen(2));
        }
    }
}

#[test]
fn law_a_snapshot_keeps_values_that_text_formats_lose() {
    let mut agent = agent(&agent_spec(PolicyKind::Q), Decision::Joint, LAYERS, 1);
    run(&mut agent, 0..3);

    let mut snapshot = agent.snapshot();
    let PolicySnapshot::Q(q) = &mut snapshot.policy else { panic!("the snapshot of a Q policy") };
    q.epsilon = 0.1 + 0.2;

    let odd = [f32::MIN_POSITIVE / 2.0, -0.0, f32::INFINITY, 0.1 + 0.2, f32::MAX];
    q.parameters.hidden_bias[..5].copy_from_slice(&odd);

    let PolicySnapshot::Q(read) = through_text(&snapshot).policy else { panic!("the same kind") };
    let bits = |values: &[f32]| values[..5].iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read.parameters.hidden_bias), bits(&odd));
    assert_eq!(read.epsilon.to_bits(), (0.1_f64 + 0.2).to_bits());
}

#[test]
fn rejects_a_snapshot_of_another_agent() {
    let mut small = agent_spec(PolicyKind::Q);
    small.hidden = 16;

    let mut other_reward = agent_spec(PolicyKind::Q);
    other_reward.reward = Reward::NegLoss;

    let mut other_layout = agent_spec(PolicyKind::Q);
    other_layout.network = Network::Reference;

    let others = [
        agent(&agent_spec(PolicyKind::Random), Decision::Joint, LAYERS, 1),
        agent(&agent_spec(PolicyKind::Q), Decision::PerLayer, LAYERS, 1),
        agent(&agent_spec(PolicyKind::Q), Decision::Joint, LAYERS + 1, 1),
        agent(&small, Decision::Joint, LAYERS, 1),
        agent(&other_reward, Decision::Joint, LAYERS, 1),
        agent(&other_layout, Decision::Joint, LAYERS, 1),
    ];

    for other in others {
        let mut agent = agent(&agent_spec(PolicyKind::Q), Decision::Joint, LAYERS, 1);
        run(&mut agent, 0..3);

        let before = agent.snapshot();
        let error = agent.restore(&other.snapshot()).unwrap_err();
        assert!(matches!(error, AgentError::Mismatch { .. } | AgentError::Depth { .. }), "{error}");
        assert_eq!(agent.snapshot(), before, "a refused snapshot changes nothing");
    }
}

#[test]
fn rejects_a_snapshot_with_impossible_numbers() {
    let mut agent = agent(&agent_spec(PolicyKind::Random), Decision::PerLayer, LAYERS, 1);
    agent.decide(&REGULAR).unwrap();

    let good = agent.snapshot();
    let mut action = good.clone();
    action.action[1] = 2;

    let mut turn = good.clone();
    turn.turn = Some(LAYERS);

    let mut pending = good.clone();
    pending.pending.as_mut().unwrap().visit = dlt_agent::Visit::Layer(LAYERS);

    for bad in [action, turn, pending] {
        assert!(agent.restore(&bad).is_err());
    }

    agent.restore(&good).unwrap();
    let text = serde_json::to_string(&good).unwrap().replace("\"turn\":1", "\"turns\":1");
    assert!(serde_json::from_str::<AgentSnapshot>(&text).is_err());
}
