//! Splits and swaps: which states each policy asks for, and what it refuses.

use crate::settings::{REGULAR, SPLIT, SWAP, agent_in, agent_spec, setup};
use dlt_agent::{
    Agent, AgentError, ConflictPolicy, EvenPolicy, Evidence, GrowPolicy, Occasion, Policy,
    RandomPolicy, Turn, Visit, Wants,
};
use dlt_spec::seeds;
use dlt_spec::spec::{Decision, PolicyKind, Reward};
use dlt_state::{Action, State};
use rand::Rng;

/// Values that differ by less than this are equal, as in the policies, so that both break the same
/// ties.
const TIE: f64 = 1e-9;

/// Tolerance for the difference of two sums of at most 2,000 products of numbers below 1.
const TOLERANCE: f64 = 1e-10;

/// The evidence that follows from a gradient and a vector of weights for each layer.
fn evidence_of(gradients: &[Vec<f64>], weights: &[Vec<f64>]) -> Evidence {
    let dot = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
    let square = |entry: &dyn Fn(usize, usize) -> f64| {
        let n = gradients.len();
        (0..n * n).map(|index| entry(index / n, index % n)).collect()
    };

    let apart = |one: usize, other: usize| {
        weights[one].iter().zip(&weights[other]).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    };

    Evidence {
        n_layers: gradients.len(),
        products: square(&|one, other| dot(&gradients[one], &gradients[other])),
        distances: if weights.is_empty() { Vec::new() } else { square(&apart) },
        norms: weights.iter().map(|weights| dot(weights, weights)).collect(),
    }
}

/// What a policy decides in a state, which may be that of a single layer. A spec refuses a policy
/// there.
fn decide_with(
    policy: PolicyKind,
    decision: Decision,
    owners: &[usize],
    occasion: &Occasion<'_>,
) -> dlt_agent::Decision {
    let policy: Box<dyn Policy> = match policy {
        PolicyKind::Grow => Box::new(GrowPolicy),
        PolicyKind::Conflict => Box::new(ConflictPolicy),
        PolicyKind::Even => Box::new(EvenPolicy),
        PolicyKind::Random => Box::new(RandomPolicy::new(seeds::stream(1, "policy"))),
        other => panic!("{other:?} makes no splits"),
    };

    let initial = State::new(owners.to_vec()).unwrap();
    Agent::with_policy(policy, Reward::NegPpl, decision, initial).decide(occasion).unwrap()
}

fn grown(owners: &[usize], gradients: &[Vec<f64>]) -> dlt_agent::Decision {
    let evidence = evidence_of(gradients, &[]);
    let occasion = Occasion { turn: Turn::Split, evidence: Some(&evidence) };
    decide_with(PolicyKind::Grow, Decision::Split, owners, &occasion)
}

/// Disagreement by its definition: the squared distance of the means of unit gradients, weighted by
/// the sizes of the parts.
fn disagreement(gradients: &[Vec<f64>], one: &[usize], other: &[usize]) -> f64 {
    let width = gradients[0].len();
    let mean = |part: &[usize]| {
        let mut mean = vec![0.0; width];
        for &layer in part {
            let norm = gradients[layer].iter().map(|value| value * value).sum::<f64>().sqrt();
            if norm > 0.0 {
                mean.iter_mut()
                    .zip(&gradients[layer])
                    .for_each(|(sum, value)| *sum += value / norm);
            }
        }

        mean.into_iter().map(|sum| sum / part.len() as f64).collect::<Vec<f64>>()
    };

    let distance: f64 = mean(one).iter().zip(mean(other)).map(|(a, b)| (a - b).powi(2)).sum();
    let one = one.len() as f64;
    let other = other.len() as f64;

    one * other / (one + other) * distance
}

/// Every way to split a state: its value, owner and part, in the order in which ties are broken.
fn every_split(state: &State, gradients: &[Vec<f64>]) -> Vec<(f64, usize, Vec<usize>)> {
    let mut splits = Vec::new();
    for group in state.groups() {
        let others = &group.members[1..];
        let mut parts: Vec<Vec<usize>> = (1_usize..1 << others.len())
            .map(|bits| {
                (0..others.len())
                    .filter(|index| bits >> index & 1 == 1)
                    .map(|index| others[index])
                    .collect()
            })
            .collect();
        parts.sort();

        for part in parts {
            let rest: Vec<_> =
                group.members.iter().copied().filter(|layer| !part.contains(layer)).collect();
            splits.push((disagreement(gradients, &rest, &part), group.owner, part));
        }
    }

    splits
}

#[test]
fn law_grow_splits_where_brute_force_does() {
    let mut rng = seeds::stream(11, "test");

    for case in 0..300 {
        let n_layers = rng.random_range(1..=9);
        let action =
            Action::new((0..n_layers).map(|layer| rng.random_range(0..=layer)).collect()).unwrap();

        // Every third case starts with all layers tied, so that there are large groups.
        let state =
            if case % 3 == 0 { State::all_tied(n_layers) } else { State::from_action(&action) };
        let width = rng.random_range(1..=6);
        let gradients: Vec<Vec<f64>> = (0..n_layers)
            .map(|_| (0..width).map(|_| f64::from(rng.random_range(-3..=3_i32))).collect())
            .collect();

        let made = grown(state.owners(), &gradients);
        let mut best: Option<(f64, usize, Vec<usize>)> = None;
        for split in every_split(&state, &gradients) {
            if best.as_ref().is_none_or(|best| split.0 > best.0 + TIE) {
                best = Some(split);
            }
        }

        let Some((value, owner, part)) = best else {
            assert_eq!((made.state, made.visit, made.conflict), (state, Visit::Nothing, None));
            continue;
        };

        assert_eq!(made.state, state.split(owner, &part).unwrap(), "{state:?} {gradients:?}");
        assert_eq!((made.visit, made.unlikeness), (Visit::All, None));
        assert!((made.conflict.unwrap() - value).abs() < TOLERANCE, "{:?} {value}", made.conflict);
    }
}

#[test]
fn grow_breaks_ties_by_the_lowest_owner_and_then_the_first_part() {
    let same = |layers| vec![vec![1.0, 2.0]; layers];
    assert_eq!(grown(&[0; 5], &same(5)).state.owners(), [0, 1, 0, 0, 0]);
    assert_eq!(grown(&[0, 1, 1, 1], &same(4)).state.owners(), [0, 1, 2, 1]);

    // All gradients have one direction, but their products round differently. No part may win by
    // rounding.
    for n_layers in 3..=12_u8 {
        let scale = |layer: u8| 0.1 + 1.7 * f64::from(layer);
        let scaled =
            (0..n_layers).map(|layer| [0.3, 0.7, -0.11].map(|value| value * scale(layer)).to_vec());
        let scaled: Vec<Vec<f64>> = scaled.collect();
        let mut expected = vec![0; scaled.len()];

        expected[1] = 1;
        assert_eq!(grown(&vec![0; scaled.len()], &scaled).state.owners(), expected);
    }

    // Both groups consist of two opposed halves.
    let opposed: Vec<Vec<f64>> = [1.0, 1.0, -1.0, -1.0].map(|value| vec![value]).to_vec();
    assert_eq!(grown(&[0, 1, 0, 1], &opposed).state.owners(), [0, 1, 2, 1]);

    // {1, 2} disagrees with {0, 3} as much as {2, 3} with {0, 1}, and more than any single layer
    // with the others.
    let cross: Vec<Vec<f64>> = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]
        .map(|gradient| gradient.to_vec())
        .to_vec();
    assert_eq!(grown(&[0; 4], &cross).state.owners(), [0, 1, 1, 0]);
}

#[test]
fn a_gradient_of_norm_zero_counts_as_zero() {
    let gradients = vec![vec![0.0, 0.0], vec![5.0, 0.0], vec![0.0, 0.0]];
    let made = grown(&[0, 0, 0], &gradients);
    assert_eq!(made.state.owners(), [0, 1, 0]);
    assert!((made.conflict.unwrap() - 2.0 / 3.0).abs() < TOLERANCE);
}

/// Gradients around one direction for each kind of layer, so that layers of a kind belong together.
fn clusters(n_layers: usize, kind: impl Fn(usize) -> usize) -> Vec<Vec<f64>> {
    let mut rng = seeds::stream(5, "test");
    let noisy = |layer: usize, rng: &mut rand_chacha::ChaCha8Rng| {
        let axis = |index: usize| f64::from(u8::from(index == kind(layer)));
        (0..8).map(|index| axis(index) + rng.random_range(-0.2..0.2)).collect()
    };

    (0..n_layers).map(|layer| noisy(layer, &mut rng)).collect()
}

#[test]
fn law_groups_beyond_sixteen_are_split_where_no_single_move_improves() {
    for n_layers in [17, 24, 40] {
        for (name, gradients) in [
            ("halves", clusters(n_layers, |layer| usize::from(layer >= n_layers / 3))),
            ("cycle", clusters(n_layers, |layer| layer % 2)),
            ("three kinds", clusters(n_layers, |layer| layer % 3)),
        ] {
            let made = grown(&vec![0; n_layers], &gradients);
            let groups = made.state.groups();
            let [one, other] = [&groups[0].members, &groups[1].members];
            let value = made.conflict.unwrap();
            let case = format!("{n_layers} {name}: {:?}", made.state);

            assert!((value - disagreement(&gradients, one, other)).abs() < TOLERANCE, "{case}");
            for layer in 0..n_layers {
                let moved = |part: &[usize]| -> Vec<usize> {
                    let kept = part.iter().copied().filter(|&member| member != layer);
                    let got = (!part.contains(&layer)).then_some(layer);
                    kept.chain(got).collect()
                };

                let one = moved(one);
                let other = moved(other);
                if !one.is_empty() && !other.is_empty() {
                    let after = disagreement(&gradients, &one, &other);
                    assert!(
                        after <= value + 2.0 * TIE,
                        "{case}: {layer} moves, {value} to {after}"
                    );
                }
            }

            let expected: Vec<usize> = match name {
                "halves" => (0..n_layers)
                    .map(|layer| if layer >= n_layers / 3 { n_layers / 3 } else { 0 })
                    .collect(),
                "cycle" => (0..n_layers).map(|layer| layer % 2).collect(),
                _ => continue,
            };

            assert_eq!(made.state.owners(), expected, "{case}");
        }
    }
}

#[test]
fn conflict_splits_as_grow_does_and_swaps_at_a_constant_number_of_groups() {
    let mut rng = seeds::stream(12, "test");
    let mut n_changed = 0;

    for _ in 0..200 {
        let n_layers = rng.random_range(2..=9);
        let state = State::from_action(
            &Action::new((0..n_layers).map(|layer| rng.random_range(0..=layer)).collect()).unwrap(),
        );
        let mut vectors = |count: usize, width: usize| -> Vec<Vec<f64>> {
            (0..count).map(|_| (0..width).map(|_| rng.random_range(-1.0..1.0)).collect()).collect()
        };

        let gradients = vectors(n_layers, 3);
        let own = vectors(n_layers, 4);
        let weights: Vec<_> = state.owners().iter().map(|&owner| own[owner].clone()).collect();
        let evidence = evidence_of(&gradients, &weights);

        let decide = |policy, decision, turn| {
            decide_with(
                policy,
                decision,
                state.owners(),
                &Occasion { turn, evidence: Some(&evidence) },
            )
        };

        let split = decide(PolicyKind::Conflict, Decision::Swap, Turn::Split);
        assert_eq!(split, decide(PolicyKind::Grow, Decision::Split, Turn::Split));

        let swap = decide(PolicyKind::Conflict, Decision::Swap, Turn::Swap);
        assert_eq!(swap.state.n_independent(), state.n_independent());
        assert_eq!(swap.state == state, swap.visit == Visit::Nothing, "{swap:?}");
        assert_eq!(swap.conflict.is_some(), swap.visit == Visit::All);
        assert_eq!(swap.unlikeness.is_some(), swap.visit == Visit::All);
        n_changed += usize::from(swap.visit == Visit::All);
    }
    assert!((20..180).contains(&n_changed), "{n_changed} swaps of 200 change the state");
}

#[test]
fn conflict_merges_the_two_that_are_most_alike_and_keeps_them_apart_where_nothing_disagrees_more() {
    let vectors = |values: [[f64; 2]; 5]| values.map(|value| value.to_vec()).to_vec();
    // 1 and 2 agree and are close; 3 and 4 are opposed.
    let gradients = vectors([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]);
    let weights = vectors([[9.0, 0.0], [0.0, 9.0], [0.0, 8.0], [5.0, 5.0], [5.0, 5.0]]);
    let evidence = evidence_of(&gradients, &weights);
    let occasion = Occasion { turn: Turn::Swap, evidence: Some(&evidence) };

    let made = decide_with(PolicyKind::Conflict, Decision::Swap, &[0, 1, 2, 3, 3], &occasion);
    assert_eq!(made.state.owners(), [0, 1, 1, 3, 4]);

    // |A||B| / (|A| + |B|) is 1/2, the squared distance of the two unit gradients 4.
    assert!((made.conflict.unwrap() - 2.0).abs() < TOLERANCE);

    // Squared distance 1 over the mean of 81 and 64, and gradients that agree.
    assert!((made.unlikeness.unwrap() - 1.0 / 72.5).abs() < TOLERANCE);

    // Without the two opposed layers, nothing disagrees more than the pair that would be merged.
    let agreeing = vectors([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]);
    let evidence = evidence_of(&agreeing, &weights);
    let occasion = Occasion { turn: Turn::Swap, evidence: Some(&evidence) };
    let kept = decide_with(PolicyKind::Conflict, Decision::Swap, &[0, 1, 2, 3, 3], &occasion);

    assert_eq!((kept.state.owners(), kept.visit), (&[0, 1, 2, 3, 3][..], Visit::Nothing));
}

#[test]
fn even_halves_the_largest_group_in_its_middle() {
    let mut agent = agent_in(&agent_spec(PolicyKind::Even), Decision::Split, &[0; 7], 1);
    let mut seen = Vec::new();

    for _ in 0..7 {
        let made = agent.decide(&SPLIT).unwrap();
        agent.learn(0.0).unwrap();
        assert_eq!((made.conflict, made.unlikeness), (None, None));
        seen.push((made.state.into_owners(), made.visit));
    }

    let expected = [
        ([0, 0, 0, 0, 4, 4, 4], Visit::All),
        ([0, 0, 2, 2, 4, 4, 4], Visit::All),
        ([0, 0, 2, 2, 4, 4, 6], Visit::All),
        ([0, 1, 2, 2, 4, 4, 6], Visit::All),
        ([0, 1, 2, 3, 4, 4, 6], Visit::All),
        ([0, 1, 2, 3, 4, 5, 6], Visit::All),
        ([0, 1, 2, 3, 4, 5, 6], Visit::Nothing),
    ];
    assert_eq!(seen, expected.map(|(owners, visit)| (owners.to_vec(), visit)));

    // Members of a group need not be neighbours.
    let spread = decide_with(PolicyKind::Even, Decision::Split, &[0, 1, 0, 1, 0, 0], &SPLIT);
    assert_eq!(spread.state.owners(), [0, 1, 0, 1, 4, 4]);
}

#[test]
fn law_a_split_adds_one_group_and_a_swap_none() {
    for seed in 1..=20 {
        for (decision, occasion, policy, added) in [
            (Decision::Split, SPLIT, PolicyKind::Random, 1),
            (Decision::Split, SPLIT, PolicyKind::Even, 1),
            (Decision::Swap, SPLIT, PolicyKind::Random, 1),
            (Decision::Swap, SWAP, PolicyKind::Random, 0),
        ] {
            let mut agent = agent_in(&agent_spec(policy), decision, &[0, 0, 2, 2, 0, 5, 2], seed);
            for _ in 0..10 {
                let before = agent.current_state().n_independent();
                let made = agent.decide(&occasion).unwrap();
                agent.learn(0.0).unwrap();

                let expected = (before + added).min(7);
                assert_eq!(
                    made.state.n_independent(),
                    expected,
                    "{policy:?} {decision:?} {made:?}"
                );
                assert_eq!(made.action, *made.state.as_action());
            }
        }
    }
}

#[test]
fn law_policies_of_splits_change_nothing_where_no_group_has_two_layers() {
    for (policy, decision) in [
        (PolicyKind::Grow, Decision::Split),
        (PolicyKind::Conflict, Decision::Swap),
        (PolicyKind::Even, Decision::Split),
        (PolicyKind::Random, Decision::Split),
        (PolicyKind::Random, Decision::Swap),
    ] {
        for owners in [&[0][..], &[0, 1, 2]] {
            let made = decide_with(policy, decision, owners, &SPLIT);
            assert_eq!((made.state.owners(), made.visit), (owners, Visit::Nothing), "{policy:?}");
            assert!(made.visit.layers(owners.len()).is_empty());
        }
    }

    // A swap needs two groups.
    for policy in [PolicyKind::Conflict, PolicyKind::Random] {
        let made = decide_with(policy, Decision::Swap, &[0, 0, 0], &SWAP);
        assert_eq!(
            (made.state.owners(), made.visit),
            (&[0, 0, 0][..], Visit::Nothing),
            "{policy:?}"
        );
    }
}

#[test]
fn policies_say_what_they_want_to_know() {
    let wants = |policy, decision| agent_in(&agent_spec(policy), decision, &[0, 0], 1).wants();
    let nothing = Wants { products: false, distances: false };
    assert_eq!(wants(PolicyKind::Grow, Decision::Split), Wants { products: true, ..nothing });
    assert_eq!(
        wants(PolicyKind::Conflict, Decision::Swap),
        Wants { products: true, distances: true }
    );

    for policy in
        [PolicyKind::Even, PolicyKind::Random, PolicyKind::Q, PolicyKind::None, PolicyKind::Fixed]
    {
        assert_eq!(wants(policy, policy.decisions()[0]), nothing, "{policy:?}");
    }
}

#[test]
fn law_what_is_said_of_a_policy_is_what_it_does() {
    for &policy in PolicyKind::ALL.iter().filter(|policy| !policy.replays()) {
        for &decision in Decision::ALL {
            let setup = setup(&agent_spec(policy), decision, 3, 1).check();
            assert_eq!(setup.is_ok(), policy.decisions().contains(&decision), "{policy:?}");
            let Ok(setup) = setup else { continue };

            let mut agent = Agent::new(&setup, None).unwrap();
            assert_eq!(agent.wants().products, policy.reads_gradients(), "{policy:?}");

            // With all that it may want to know, it decides the turns of each of its decisions.
            let occasion = match decision {
                Decision::Split => SPLIT,
                Decision::Swap => SWAP,
                Decision::Joint | Decision::PerLayer | Decision::Single => REGULAR,
            };
            let vectors = [vec![1.0], vec![2.0], vec![-1.0]];
            let evidence = evidence_of(&vectors, &vectors);
            let occasion = Occasion { evidence: Some(&evidence), ..occasion };
            let alone = agent.decide(&occasion);
            assert_eq!(matches!(alone, Err(AgentError::NoJudge)), policy.searches(), "{alone:?}");

            if policy.searches() {
                let mut judge = |_: &State| Ok(1.0);
                let made = agent.decide_by(&occasion, &mut judge);
                assert!(made.is_ok(), "{policy:?} {decision:?}: {made:?}");
            } else {
                assert!(alone.is_ok(), "{policy:?} {decision:?}: {alone:?}");
            }
        }
    }
}

#[test]
fn rejects_a_turn_that_a_policy_does_not_decide() {
    for (policy, decision, occasions) in [
        (PolicyKind::Grow, Decision::Split, &[REGULAR, SWAP][..]),
        (PolicyKind::Even, Decision::Split, &[REGULAR, SWAP]),
        (PolicyKind::Conflict, Decision::Swap, &[REGULAR]),
        (PolicyKind::Random, Decision::Split, &[REGULAR]),
        (PolicyKind::Random, Decision::Swap, &[REGULAR]),
        (PolicyKind::Q, Decision::Single, &[SPLIT, SWAP]),
    ] {
        for occasion in occasions {
            let mut agent = agent_in(&agent_spec(policy), decision, &[0, 0, 2], 1);
            let before = agent.snapshot();
            let error = agent.decide(occasion).unwrap_err();

            assert!(
                matches!(error, AgentError::OtherTurn { turn, .. } if turn == occasion.turn),
                "{error}"
            );
            assert_eq!(agent.snapshot(), before);
        }
    }
}

#[test]
fn rejects_evidence_that_is_missing_or_does_not_fit() {
    let good = evidence_of(&[vec![1.0], vec![2.0], vec![-1.0]], &[vec![1.0], vec![1.0], vec![3.0]]);
    for (policy, decision, turn) in [
        (PolicyKind::Grow, Decision::Split, Turn::Split),
        (PolicyKind::Conflict, Decision::Swap, Turn::Split),
        (PolicyKind::Conflict, Decision::Swap, Turn::Swap),
    ] {
        let mut agent = agent_in(&agent_spec(policy), decision, &[0, 0, 2], 1);
        let error = agent.decide(&Occasion { turn, evidence: None }).unwrap_err();
        assert!(matches!(error, AgentError::NoEvidence { .. }), "{error}");
        assert!(
            error.to_string().contains("expected a training step since the last decision"),
            "{error}"
        );

        let shallow = evidence_of(&[vec![1.0], vec![2.0]], &[vec![1.0], vec![1.0]]);
        let error = agent.decide(&Occasion { turn, evidence: Some(&shallow) }).unwrap_err();
        assert!(matches!(error, AgentError::Depth { expected: 3, got: 2, .. }), "{error}");

        let short = Evidence { products: vec![1.0; 8], ..good.clone() };
        let error = agent.decide(&Occasion { turn, evidence: Some(&short) }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "products of gradients: expected 9 numbers for 3 layers, got 8"
        );

        let mut wild = good.clone();
        wild.products[4] = f64::NAN;

        let error = agent.decide(&Occasion { turn, evidence: Some(&wild) }).unwrap_err();
        assert!(
            matches!(error, AgentError::NotFinite { quantity: "products of gradients", .. }),
            "{error}"
        );
        assert!(agent.decide(&Occasion { turn, evidence: Some(&good) }).is_ok());
    }
    let mut agent = agent_in(&agent_spec(PolicyKind::Conflict), Decision::Swap, &[0, 0, 2], 1);
    let flawed = [
        Evidence { distances: vec![0.0; 3], ..good.clone() },
        Evidence { norms: Vec::new(), ..good.clone() },
        Evidence { norms: vec![1.0, f64::INFINITY, 1.0], ..good.clone() },
    ];

    for evidence in &flawed {
        let error =
            agent.decide(&Occasion { turn: Turn::Swap, evidence: Some(evidence) }).unwrap_err();
        assert!(
            matches!(error, AgentError::Mismatch { .. } | AgentError::NotFinite { .. }),
            "{error}"
        );

        // Parts of the evidence that are not wanted can hold anything.
        decide_with(
            PolicyKind::Grow,
            Decision::Split,
            &[0, 0, 2],
            &Occasion { turn: Turn::Split, evidence: Some(evidence) },
        );
    }
}
