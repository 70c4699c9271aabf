//! Layers that no tie may touch, for every policy.

use crate::settings::{REGULAR, SPLIT, SWAP, agent_of, agent_spec, setup};
use dlt_agent::{
    Agent, Choice, Evidence, Occasion, Policy, PolicySnapshot, QLayout, Situation, Visit,
};
use dlt_spec::AgentSetup;
use dlt_spec::spec::{
    AgentSpec, Decision, Exempt, ExemptName, Initial, InitialName, Network, PolicyKind, Reward,
    Scaling,
};
use dlt_state::{Action, Recording, State};

const LAYERS: usize = 6;

/// A setup in which the first and the last layer are exempt.
fn sparing(spec: &AgentSpec, decision: Decision, initial: InitialName) -> AgentSetup {
    AgentSetup {
        exempt: Exempt::Named(ExemptName::Ends),
        initial: Initial::Named(initial),
        ..setup(spec, decision, LAYERS, 3)
    }
}

fn ends() -> dlt_state::Exempt {
    dlt_state::Exempt::new(LAYERS, &[0, LAYERS - 1]).unwrap()
}

/// Fails if a tie touches an exempt layer.
fn check(state: &State) {
    assert_eq!(ends().spare_state(state), *state);
}

/// Decides 200 times, with a reward that depends on the state. Returns the states.
fn states(agent: &mut Agent) -> Vec<State> {
    check(agent.current_state());
    (0..200)
        .map(|_| {
            let decision = agent.decide(&REGULAR).unwrap();
            check(&decision.state);
            assert_eq!(State::from_action(&decision.action), decision.state);
            agent.learn(-(decision.state.n_independent() as f64)).unwrap();
            decision.state
        })
        .collect()
}

#[test]
fn law_no_learned_or_random_tie_touches_an_exempt_layer_and_all_others_are_possible() {
    for policy in [PolicyKind::Q, PolicyKind::Random] {
        for network in [Network::Paper, Network::Reference] {
            for decision in [Decision::Joint, Decision::PerLayer, Decision::Single] {
                let spec = AgentSpec { network, ..agent_spec(policy) };
                let spec = AgentSpec { epsilon_floor: 0.5, ..spec };
                let mut agent = agent_of(&sparing(&spec, decision, InitialName::Frozen));
                let reached = states(&mut agent);

                // Layers 1 to 4 have 15 states.
                let mut distinct: Vec<_> = reached.iter().map(State::owners).collect();
                distinct.sort_unstable();
                distinct.dedup();
                assert!(distinct.len() > 10, "{policy:?} {decision:?}: {}", distinct.len());
            }
        }
    }
}

/// Turns go round the layers with a choice: neither exempt ones nor the lowest of the others.
#[test]
fn exempt_layers_have_no_turn() {
    let spec = agent_spec(PolicyKind::Random);
    let mut agent = agent_of(&sparing(&spec, Decision::PerLayer, InitialName::Frozen));
    let mut visits = Vec::new();
    let mut ends_of_sweeps = Vec::new();

    for _ in 0..7 {
        let decision = agent.decide(&REGULAR).unwrap();
        visits.push(decision.visit);
        ends_of_sweeps.push(decision.sweep_ended);
        agent.learn(-1.0).unwrap();
    }

    let [two, three, four] = [2, 3, 4].map(Visit::Layer);
    assert_eq!(visits, [two, three, four, two, three, four, two]);
    assert_eq!(ends_of_sweeps, [false, false, true, false, false, true, false]);
}

/// Values of choices that touch exempt layers are never read, so an agent without exploration
/// reaches states of the others alone, whatever the network says about those choices.
#[test]
fn law_the_best_choice_is_that_of_the_allowed_ones() {
    let layout = QLayout::new(Network::Paper, Scaling::None, 4);
    let spared = layout.clone().sparing(dlt_state::Exempt::new(4, &[0]).unwrap());
    assert_eq!(spared.n_outputs(), layout.n_outputs());

    let spec = AgentSpec { epsilon_start: 0.0, epsilon_floor: 0.0, ..agent_spec(PolicyKind::Q) };
    for seed in 0..20 {
        let setup = AgentSetup { seed, ..sparing(&spec, Decision::Joint, InitialName::Frozen) };
        let mut agent = agent_of(&setup);
        let decision = agent.decide(&REGULAR).unwrap();
        let values = agent.q_values().unwrap();
        let layout = QLayout::new(Network::Paper, Scaling::None, LAYERS);

        for layer in 1..LAYERS - 1 {
            let slice = &values[layout.slice(layer)];
            let chosen = decision.action.values()[layer];
            assert!(chosen >= 1);
            assert!((1..=layer).all(|other| slice[other] <= slice[chosen]), "seed {seed}");
        }
    }
}

/// Products that say: layers 1, 2 and 3, 4 differ; layer 0 is like layer 1, layer 5 like layer 4.
fn evidence() -> Evidence {
    let side = |layer: usize| if layer < 3 { 1.0 } else { -1.0 };
    let pairs = (0..LAYERS * LAYERS).map(|at| (at / LAYERS, at % LAYERS));
    Evidence {
        n_layers: LAYERS,
        products: pairs.clone().map(|(one, other)| side(one) * side(other)).collect(),
        distances: vec![0.0; LAYERS * LAYERS],
        norms: vec![1.0; LAYERS],
    }
}

#[test]
fn law_no_split_or_swap_touches_an_exempt_layer() {
    let evidence = evidence();
    for policy in [PolicyKind::Grow, PolicyKind::Even, PolicyKind::Conflict, PolicyKind::Random] {
        let decision =
            if policy == PolicyKind::Conflict { Decision::Swap } else { Decision::Split };
        let spec = agent_spec(policy);
        let mut setup = sparing(&spec, decision, InitialName::Tied);
        setup.initial = Initial::Owners(vec![0, 1, 1, 3, 3, 0]);
        let mut agent = agent_of(&setup);
        assert_eq!(agent.current_state().owners(), [0, 1, 1, 3, 3, 5]);

        for occasion in [SPLIT, SPLIT, SPLIT] {
            let decision =
                agent.decide(&Occasion { evidence: Some(&evidence), ..occasion }).unwrap();
            check(&decision.state);
            agent.learn(-1.0).unwrap();
        }
        assert_eq!(agent.current_state().n_independent(), LAYERS, "{policy:?}");
    }

    // Two groups of two: the merge is that of these, never with an exempt layer, which is as like.
    for policy in [PolicyKind::Conflict, PolicyKind::Random] {
        for seed in 0..30 {
            let spec = agent_spec(policy);
            let mut setup = sparing(&spec, Decision::Swap, InitialName::Tied);
            setup.initial = Initial::Owners(vec![0, 1, 1, 3, 3, 5]);
            let mut agent = agent_of(&AgentSetup { seed, ..setup });
            for _ in 0..5 {
                let swap = Occasion { evidence: Some(&evidence), ..SWAP };
                let decision = agent.decide(&swap).unwrap();
                check(&decision.state);
                assert_eq!(decision.state.n_independent(), 4);
                agent.learn(-1.0).unwrap();
            }
        }
    }
}

/// A search judges no state with a tie that is not allowed, and finds the cheapest of the others.
#[test]
fn law_no_search_touches_an_exempt_layer() {
    let searches =
        [PolicyKind::Backtrack, PolicyKind::Beam, PolicyKind::Mcts, PolicyKind::RandomSearch];
    for policy in searches {
        let spec = AgentSpec { budget: 15, price: 0.3, ..agent_spec(policy) };
        let mut agent = agent_of(&sparing(&spec, Decision::Joint, InitialName::Independent));

        // Layers 1 to 4 in pairs have the least loss. They have 15 states, which the budget allows.
        let mut judged = 0;
        let mut judge = |candidate: &State| {
            check(candidate);
            judged += 1;
            let apart = candidate.owners().iter().zip([0, 1, 1, 3, 3, 5]);
            Ok(1.0 + apart.filter(|(owner, wanted)| *owner != wanted).count() as f64)
        };

        let decision = agent.decide_by(&REGULAR, &mut judge).unwrap();
        check(&decision.state);
        if policy != PolicyKind::RandomSearch {
            assert_eq!((decision.state.owners(), judged), (&[0, 1, 1, 3, 3, 5][..], 15));
        }
    }
}

#[test]
fn patterns_and_recordings_lose_their_ties_with_exempt_layers() {
    let spec =
        AgentSpec { pattern: Initial::Named(InitialName::Tied), ..agent_spec(PolicyKind::Fixed) };
    let mut agent = agent_of(&sparing(&spec, Decision::Joint, InitialName::Independent));
    assert_eq!(states(&mut agent).pop().unwrap().owners(), [0, 1, 1, 1, 1, 5]);

    let mut recording = Recording::new(LAYERS);
    let row = Action::new(vec![0, 0, 2, 0, 2, 1]).unwrap();
    recording.push(15, row, None).unwrap();
    let replay = agent_spec(PolicyKind::Replay);
    let checked = sparing(&replay, Decision::Joint, InitialName::Frozen).check().unwrap();
    let mut agent = Agent::new(&checked, Some(&recording)).unwrap();
    assert_eq!(states(&mut agent).pop().unwrap().owners(), [0, 1, 2, 1, 2, 5]);
}

/// A policy of a user's that knows nothing of exempt layers.
#[derive(Debug)]
struct AllTied;

impl Policy for AllTied {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, dlt_agent::AgentError> {
        let n_layers = situation.state.n_layers();
        Ok(Choice::new(Action::all_zero(n_layers), situation.visit))
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::None
    }
}

#[test]
fn any_action_is_mapped() {
    let tied = State::all_tied(LAYERS);
    let mut agent = Agent::with_policy(Box::new(AllTied), Reward::NegLoss, Decision::Joint, tied)
        .sparing(ends());
    assert_eq!(agent.current_state().owners(), [0, 1, 1, 1, 1, 5]);
    assert_eq!(states(&mut agent).pop().unwrap().owners(), [0, 1, 1, 1, 1, 5]);
}

#[test]
fn law_a_sparing_agent_continues_from_its_snapshot() {
    for decision in [Decision::Joint, Decision::PerLayer, Decision::Single] {
        let setup = sparing(&agent_spec(PolicyKind::Q), decision, InitialName::Frozen);
        let mut agent = agent_of(&setup);
        for _ in 0..7 {
            agent.decide(&REGULAR).unwrap();
            agent.learn(-2.0).unwrap();
        }

        let mut restored = agent_of(&setup);
        restored.restore(&agent.snapshot()).unwrap();
        assert_eq!(states(&mut agent), states(&mut restored));
        assert_eq!(agent.snapshot(), restored.snapshot());
    }
}
