//! Searches find what an enumeration of all states finds, judge what an independent implementation
//! judges, and stay within their budget.

use crate::settings::{REGULAR, SPLIT, SWAP, agent_in, agent_of, agent_spec, setup};
use dlt_agent::{Agent, AgentError, AgentSnapshot, Judge, SearchSettings, Strategy};
use dlt_spec::AgentSetup;
use dlt_spec::spec::{AgentSpec, Decision, Initial, PolicyKind};
use dlt_state::{Action, Draw, State};
use serde::Deserialize;
use std::collections::BTreeSet;

/// The policies that search by single changes.
const SEARCHES: [PolicyKind; 3] = [PolicyKind::Backtrack, PolicyKind::Beam, PolicyKind::Mcts];

const ALL: [PolicyKind; 4] =
    [PolicyKind::Backtrack, PolicyKind::Beam, PolicyKind::Mcts, PolicyKind::RandomSearch];

/// Every state of a model of so many layers, by Eq. 1 of every action.
fn every_state(layers: usize) -> Vec<State> {
    let mut actions = vec![Vec::new()];
    for layer in 0..layers {
        let longer = |action: &Vec<usize>| {
            (0..=layer).map(|entry| [&action[..], &[entry]].concat()).collect::<Vec<_>>()
        };
        actions = actions.iter().flat_map(longer).collect();
    }

    let states =
        actions.into_iter().map(|entries| State::from_action(&Action::new(entries).unwrap()));
    states.collect::<BTreeSet<_>>().into_iter().collect()
}

/// A loss for every state that says little about its neighbours: a hash of state and problem.
fn loss(state: &State, problem: u64) -> f64 {
    let mixed =
        state.owners().iter().fold(problem.wrapping_mul(0x9e37_79b9_7f4a_7c15), |sum, &owner| {
            let next = (sum ^ (owner as u64 + 1)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            next ^ (next >> 31)
        });
    1.0 + (mixed >> 40) as f64 / (1 << 24) as f64
}

fn cost(state: &State, loss: f64, price: f64) -> f64 {
    loss + price * (state.n_independent() as f64 / state.n_layers() as f64)
}

/// A judge of a problem that remembers what it was asked.
struct Recorder {
    problem: u64,
    asked: Vec<State>,
}

impl Recorder {
    fn new(problem: u64) -> Self {
        Self { problem, asked: Vec::new() }
    }
}

impl Judge for Recorder {
    fn loss(&mut self, candidate: &State) -> Result<f64, AgentError> {
        self.asked.push(candidate.clone());
        Ok(loss(candidate, self.problem))
    }
}

fn spec(policy: PolicyKind, budget: usize) -> AgentSpec {
    AgentSpec { budget, price: 0.3, ..agent_spec(policy) }
}

#[test]
fn law_each_search_finds_the_enumerated_best_of_four_layers() {
    let states = every_state(4);
    assert_eq!(states.len(), 15);

    for policy in SEARCHES {
        for problem in 0..40 {
            let start = &states[problem as usize % states.len()];
            let mut agent = agent_in(&spec(policy, 15), Decision::Joint, start.owners(), problem);
            let made = agent.decide_by(&REGULAR, &mut Recorder::new(problem)).unwrap();

            let price = |state: &&State| cost(state, loss(state, problem), 0.3);
            let best = states.iter().min_by(|one, other| price(one).total_cmp(&price(other)));
            assert_eq!(Some(&made.state), best, "{policy:?} {problem}");

            let searched = made.searched.unwrap();
            assert_eq!((searched.candidates, searched.passes), (15, 15));
            assert_eq!(searched.loss_before, loss(start, problem));
            assert_eq!(searched.loss_after, loss(&made.state, problem));
        }
    }
}

/// A search of all states would find the best one in any order. In a problem whose layers each have
/// a cost of their own, a search by single changes needs only a part of the 877 states of seven layers.
#[test]
fn searches_by_single_changes_find_the_best_where_random_candidates_do_not() {
    let states = every_state(7);
    assert_eq!(states.len(), 877);
    let wanted = |problem: usize| states[problem * 29].clone();

    let found = |policy| {
        let hits = |&problem: &usize| {
            let best = wanted(problem);
            let mut judge = |state: &State| {
                let pairs = state.owners().iter().zip(best.owners());
                Ok(1.0 + pairs.filter(|(one, other)| one != other).count() as f64)
            };

            let spec = AgentSpec { budget: 90, price: 0.0, beam_width: 2, ..agent_spec(policy) };
            let start: Vec<_> = (0..7).collect();
            let mut agent = agent_in(&spec, Decision::Joint, &start, problem as u64);
            agent.decide_by(&REGULAR, &mut judge).unwrap().state == best
        };
        (0..30).filter(hits).count()
    };

    let [backtrack, beam, mcts, random] = ALL.map(found);
    assert!(
        backtrack == 30 && beam.min(mcts) > 2 * random,
        "backtrack {backtrack}, beam {beam}, mcts {mcts}, random {random}"
    );
}

#[test]
fn law_a_search_stays_within_its_budget_and_judges_every_state_once() {
    for policy in ALL {
        for (budget, reward_batches) in [(2, 1), (7, 3), (20, 2), (64, 1), (1000, 3)] {
            for problem in 0..5 {
                let spec = AgentSpec { reward_batches, ..spec(policy, budget) };
                let mut agent = agent_in(&spec, Decision::Joint, &[0, 0, 2, 0, 2], problem);
                let mut judge = Recorder::new(problem);
                let made = agent.decide_by(&REGULAR, &mut judge).unwrap();

                let searched = made.searched.unwrap();
                let distinct: BTreeSet<_> = judge.asked.iter().collect();
                assert_eq!(distinct.len(), judge.asked.len(), "{policy:?}");
                assert_eq!(searched.candidates, judge.asked.len());
                assert_eq!(searched.passes, judge.asked.len() * reward_batches);
                assert!(searched.passes <= budget);
                assert_eq!(judge.asked[0].owners(), [0, 0, 2, 0, 2]);

                // Only the baseline judges anything but single changes of what it knows.
                for (place, state) in judge.asked.iter().enumerate().skip(1) {
                    let from = &judge.asked[..place];
                    let is_step = from.iter().any(|from| is_single_change(from, state));
                    assert!(is_step || policy == PolicyKind::RandomSearch, "{policy:?} {state}");
                }

                let price = |state: &State| cost(state, loss(state, problem), 0.3);
                let least = judge.asked.iter().map(price).fold(f64::INFINITY, f64::min);
                assert_eq!(price(&made.state), least, "{policy:?}");
            }
        }
    }
}

fn is_single_change(from: &State, to: &State) -> bool {
    (1..from.n_layers()).any(|layer| {
        (0..=layer).any(|entry| {
            let mut action = from.as_action().clone();
            action.replace(layer, entry).unwrap();
            State::from_action(&action) == *to
        })
    })
}

#[test]
fn the_order_of_candidates_follows_from_the_seed() {
    let asked = |policy, seed| {
        let mut judge = Recorder::new(1);
        let mut agent = agent_in(&spec(policy, 10), Decision::Joint, &[0, 1, 2, 3, 4], seed);
        agent.decide_by(&REGULAR, &mut judge).unwrap();
        judge.asked
    };

    for policy in ALL {
        assert_eq!(asked(policy, 1), asked(policy, 1), "{policy:?}");
        assert_ne!(asked(policy, 1), asked(policy, 2), "{policy:?}");
    }
}

#[test]
fn a_search_that_gains_nothing_changes_nothing() {
    for policy in ALL {
        let spec = AgentSpec { price: 0.0, ..spec(policy, 64) };
        let mut agent = agent_in(&spec, Decision::Joint, &[0, 1, 0, 1], 1);
        let mut judge = |_: &State| Ok(2.0);
        let made = agent.decide_by(&REGULAR, &mut judge).unwrap();
        assert_eq!(made.state.owners(), [0, 1, 0, 1], "{policy:?}");

        // At a price, of states with equal losses the one with a single group wins.
        let spec = AgentSpec { price: 0.01, ..spec.clone() };
        let mut agent = agent_in(&spec, Decision::Joint, &[0, 1, 0, 1], 1);
        let made = agent.decide_by(&REGULAR, &mut judge).unwrap();
        assert_eq!(made.state.owners(), [0, 0, 0, 0], "{policy:?}");
    }
}

#[test]
fn a_loss_that_is_no_number_is_never_chosen() {
    for policy in ALL {
        let mut judge = |state: &State| match state.n_independent() {
            4 => Ok(3.0),
            3 => Ok(4.0),
            2 => Ok(f64::NAN),
            _ => Ok(f64::NEG_INFINITY),
        };

        let mut agent = agent_in(&spec(policy, 64), Decision::Joint, &[0, 1, 2, 3], 1);
        let made = agent.decide_by(&REGULAR, &mut judge).unwrap();
        assert_eq!(made.state.owners(), [0, 1, 2, 3], "{policy:?}");
    }
}

#[test]
fn rejects_a_search_without_a_judge_with_one_that_fails_and_at_another_turn() {
    for policy in ALL {
        let mut agent = agent_in(&spec(policy, 64), Decision::Joint, &[0, 1, 2, 3], 1);
        let before = agent.snapshot();

        let error = agent.decide(&REGULAR).unwrap_err();
        assert!(matches!(error, AgentError::NoJudge), "{error}");

        let mut asked = 0;
        let mut failing = |_: &State| {
            asked += 1;
            if asked < 5 { Ok(1.0) } else { Err(AgentError::NotJudged) }
        };
        let error = agent.decide_by(&REGULAR, &mut failing).unwrap_err();
        assert!(matches!(error, AgentError::NotJudged), "{error}");

        let error = agent.decide_by(&REGULAR, &mut |_: &State| Ok(f64::NAN)).unwrap_err();
        assert!(matches!(error, AgentError::NotFinite { .. }), "{error}");

        for occasion in [SPLIT, SWAP] {
            let error = agent.decide_by(&occasion, &mut Recorder::new(1)).unwrap_err();
            assert!(
                matches!(error, AgentError::OtherTurn { turn, .. } if turn == occasion.turn),
                "{error}"
            );
        }

        assert_eq!(agent.snapshot(), before, "{policy:?}");
    }
}

#[test]
fn rejects_decisions_and_budgets_that_no_search_can_use() {
    let refused = |agent: AgentSpec, decision| {
        let initial = Initial::Owners(vec![0, 1, 2]);
        let setup = AgentSetup { initial, ..setup(&agent, decision, 3, 1) };
        setup.check().unwrap_err().to_string()
    };

    for policy in ALL {
        for decision in [Decision::PerLayer, Decision::Single, Decision::Split, Decision::Swap] {
            let message = refused(spec(policy, 64), decision);
            assert!(message.contains("agent.policy"), "{message}");
        }

        let message = refused(spec(policy, 0), Decision::Joint);
        assert!(message.contains("`agent.budget` is 0"), "{message}");

        let message = refused(spec(policy, 1), Decision::Joint);
        assert!(message.contains("at least 2, which judges the present state"), "{message}");

        let few = AgentSpec { reward_batches: 5, ..spec(policy, 9) };
        let message = refused(few, Decision::Joint);
        assert!(message.contains("at least 10"), "{message}");

        let message = refused(AgentSpec { beam_width: 0, ..spec(policy, 64) }, Decision::Joint);
        assert!(message.contains("`agent.beam_width` is 0"), "{message}");

        let message = refused(AgentSpec { price: -0.5, ..spec(policy, 64) }, Decision::Joint);
        assert!(message.contains("`agent.price` is -0.5"), "{message}");
    }

    // Per layer, the message names the decision that a search needs.
    let message = refused(spec(PolicyKind::Beam, 64), Decision::PerLayer);
    assert!(message.contains("\"beam\"") && message.contains("(\"joint\")"), "{message}");
}

/// Decisions, each with what was judged before it. Every second one is saved before its reward.
fn decided(agent: &mut Agent, decisions: std::ops::Range<u64>) -> Vec<String> {
    let mut seen = Vec::new();
    for index in decisions {
        let mut judge = Recorder::new(index);
        let made = match agent.pending() {
            Some(pending) => pending.clone(),
            None => agent.decide_by(&REGULAR, &mut judge).unwrap(),
        };

        agent.learn(-1.0).unwrap();
        seen.push(format!("{made:?}"));
    }

    seen
}

#[test]
fn law_an_agent_that_searches_goes_on_bit_for_bit() {
    for policy in ALL {
        let new = || agent_in(&spec(policy, 9), Decision::Joint, &[0, 1, 2, 3, 4], 5);
        let whole = decided(&mut new(), 0..6);

        for pending in [false, true] {
            let mut first = new();
            let mut seen = decided(&mut first, 0..3);
            if pending {
                first.decide_by(&REGULAR, &mut Recorder::new(3)).unwrap();
            }

            let text = serde_json::to_string(&first.snapshot()).unwrap();
            let snapshot: AgentSnapshot = serde_json::from_str(&text).unwrap();
            let mut second = new();
            second.restore(&snapshot).unwrap();
            assert_eq!(second.snapshot(), first.snapshot());

            seen.extend(decided(&mut second, 3..6));
            assert_eq!(seen, whole, "{policy:?} {pending}");
        }
    }
}

#[test]
fn rejects_the_snapshot_of_another_search() {
    for policy in ALL {
        for other in ALL.into_iter().filter(|other| *other != policy) {
            let of = |policy| agent_in(&spec(policy, 9), Decision::Joint, &[0, 1, 2], 5);
            let error = of(policy).restore(&of(other).snapshot()).unwrap_err();
            assert!(matches!(error, AgentError::Mismatch { .. }), "{error}");
        }
    }
}

#[test]
fn a_model_of_two_layers_has_one_other_state() {
    for policy in ALL {
        let spec = AgentSpec { price: 1.0, ..spec(policy, 64) };
        let initial = Initial::Owners(vec![0, 1]);
        let mut agent = agent_of(&AgentSetup { initial, ..setup(&spec, Decision::Joint, 2, 1) });
        let made = agent.decide_by(&REGULAR, &mut |_: &State| Ok(1.0)).unwrap();
        assert_eq!((made.state.owners(), made.searched.unwrap().candidates), (&[0, 0][..], 2));
    }
}

#[derive(Deserialize)]
struct Oracle {
    searches: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    policy: Strategy,
    budget: usize,
    width: usize,
    price: f64,
    start: Vec<usize>,
    losses: Vec<(Vec<usize>, Option<f64>)>,
    judged: Vec<Vec<usize>>,
    best: Vec<usize>,
}

/// Leaves every list in its order.
struct InOrder;

impl Draw for InOrder {
    fn below(&mut self, bound: usize) -> usize {
        bound - 1
    }
}

#[test]
fn matches_reference_candidates_and_choices_of_searches() {
    let text = include_str!("../../../../data/fixtures/agent/search_oracle.json");
    let oracle: Oracle = serde_json::from_str(text).unwrap();
    assert_eq!(oracle.searches.len(), 96);

    for case in oracle.searches {
        let settings = SearchSettings {
            strategy: case.policy,
            budget: case.budget,
            passes_each: 1,
            beam_width: case.width,
            price: case.price,
        };

        let mut judged = Vec::new();
        let mut judge = |state: &State| {
            judged.push(state.owners().to_vec());
            let (_, loss) =
                case.losses.iter().find(|(owners, _)| owners == state.owners()).unwrap();
            Ok(loss.unwrap_or(f64::NAN))
        };

        let start = State::new(case.start).unwrap();
        let (best, searched) = settings.search(&start, &mut InOrder, &mut judge).unwrap();
        assert_eq!(judged, case.judged, "{}", case.name);
        assert_eq!(best.owners(), case.best, "{}", case.name);
        assert_eq!(searched.candidates, case.judged.len(), "{}", case.name);
    }
}
