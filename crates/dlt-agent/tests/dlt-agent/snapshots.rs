//! An agent that is saved and restored goes on exactly as if nothing had happened.

use crate::settings::{DECISIONS, NETWORKS, REGULAR, agent, agent_spec, tying_spec};
use dlt_agent::{Agent, AgentError, AgentSnapshot, Measured, PolicySnapshot};
use dlt_spec::spec::{AgentSpec, DecayPer, Decision, Network, PolicyKind, Reward, StateVector};
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

/// Something that no two decisions share.
fn measured(decision: usize) -> f64 {
    2.0 + (decision as f64 * 0.37).sin()
}

fn run(agent: &mut Agent, decisions: std::ops::Range<usize>) -> Vec<String> {
    let mut seen = Vec::new();
    for index in decisions {
        let decision = match agent.pending() {
            Some(decision) => decision.clone(),
            None => agent.decide(&REGULAR).unwrap(),
        };
        let reward = agent.reward(Measured::of_loss(measured(index)), None).unwrap();
        // Debug prints the shortest text that reads back as the same float, so equal text is equal bits.
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
    let kinds = POLICIES.into_iter().flat_map(|policy| DECISIONS.map(|decision| (policy, decision)));
    kinds.flat_map(|(policy, decision)| {
        NETWORKS.map(|network| {
            let mut spec = agent_spec(policy);
            spec.network = network;
            spec.reward = Reward::LossDelta;
            spec.hidden = 16;
            spec.permutation = vec![3, 0, 2, 4, 1];
            spec.epsilon_floor = 0.3;
            if network == Network::Reference {
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
            let mut tying = tying_spec(decision);
            tying.state_vector = StateVector::Raw;
            let recording = recording();
            let build = |seed| Agent::new(&spec, &tying, LAYERS, seed, Some(&recording)).unwrap();
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
            let case = format!("{:?} {decision:?} {:?} {waits_for_reward}", spec.policy, spec.network);
            assert_eq!(run(&mut agent, 6..20), run(&mut restored, 6..20), "{case}");
            assert_eq!(agent.snapshot(), restored.snapshot(), "{case}");
        }
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
