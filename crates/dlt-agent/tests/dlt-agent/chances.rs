//! Random splits, swaps and single changes are as likely as they should be.

use crate::settings::{REGULAR, SPLIT, SWAP, agent_in, agent_spec};
use dlt_agent::{Occasion, Visit};
use dlt_spec::spec::{Decision, Network, PolicyKind};
use dlt_state::State;
use std::collections::BTreeMap;

/// Tolerance for sums of a few shares.
const TOLERANCE: f64 = 1e-10;

/// How often each state follows from `owners` in `draws` decisions, each of them made in that
/// state.
fn frequencies(
    decision: Decision,
    occasion: &Occasion<'_>,
    owners: &[usize],
    draws: usize,
) -> BTreeMap<Vec<usize>, usize> {
    let mut agent = agent_in(&agent_spec(PolicyKind::Random), decision, owners, 3);
    let mut counts = BTreeMap::new();

    for _ in 0..draws {
        let made = agent.decide(occasion).unwrap();
        agent.refuse().unwrap();
        agent.learn(0.0).unwrap();
        *counts.entry(made.state.into_owners()).or_insert(0) += 1;
    }

    counts
}

/// Fails if a count is off by more than five standard deviations, or if an outcome is impossible.
fn check_frequencies(
    counts: &BTreeMap<Vec<usize>, usize>,
    shares: &BTreeMap<Vec<usize>, f64>,
    draws: usize,
) {
    assert_eq!(counts.keys().collect::<Vec<_>>(), shares.keys().collect::<Vec<_>>());
    assert!((shares.values().sum::<f64>() - 1.0).abs() < TOLERANCE);

    let mut chi_square = 0.0;
    for (state, share) in shares {
        let expected = share * draws as f64;
        let got = counts[state] as f64;
        assert!(
            (got - expected).abs() < 5.0 * expected.sqrt(),
            "{state:?}: expected {expected}, got {got}"
        );
        chi_square += (got - expected).powi(2) / expected;
    }

    // Chi-squared has a mean of n - 1 and a deviation of sqrt(2 (n - 1)). Five deviations are
    // hardly ever exceeded.
    let freedom = shares.len() as f64 - 1.0;
    assert!(chi_square < freedom + 5.0 * (2.0 * freedom).sqrt() + 5.0, "{chi_square} of {freedom}");
}

/// The shares of random splits of `state`, added to `shares` by `weight`.
fn add_splits(state: &State, weight: f64, shares: &mut BTreeMap<Vec<usize>, f64>) {
    let mut groups = state.groups();
    groups.retain(|group| group.members.len() > 1);

    for group in &groups {
        let others = group.members.len() - 1;
        let n_parts = (1_usize << others) - 1;
        for bits in 1..=n_parts {
            let part: Vec<_> = (0..others)
                .filter(|index| bits >> index & 1 == 1)
                .map(|index| group.members[index + 1])
                .collect();
            let after = state.split(group.owner, &part).unwrap().into_owners();
            *shares.entry(after).or_default() += weight / (groups.len() * n_parts) as f64;
        }
    }
}

#[test]
fn law_random_splits_draw_a_uniform_group_and_a_uniform_bipartition() {
    const DRAWS: usize = 20_000;
    for owners in [&[0, 0, 0, 0][..], &[0, 0, 2, 2, 2, 5], &[0, 1, 0, 1, 0]] {
        let mut shares = BTreeMap::new();
        add_splits(&State::new(owners.to_vec()).unwrap(), 1.0, &mut shares);

        for decision in [Decision::Split, Decision::Swap] {
            check_frequencies(&frequencies(decision, &SPLIT, owners, DRAWS), &shares, DRAWS);
        }
    }
}

#[test]
fn law_random_swaps_merge_a_uniform_pair_first() {
    const DRAWS: usize = 20_000;

    for owners in [&[0, 1, 2][..], &[0, 0, 2, 3], &[0, 1, 1, 0, 4]] {
        let state = State::new(owners.to_vec()).unwrap();
        let groups: Vec<usize> = state.independent_layers().collect();
        let n_pairs = (groups.len() * (groups.len() - 1) / 2) as f64;
        let mut shares = BTreeMap::new();

        for (index, &one) in groups.iter().enumerate() {
            for &other in &groups[index + 1..] {
                add_splits(&state.merge(one, other).unwrap(), 1.0 / n_pairs, &mut shares);
            }
        }

        check_frequencies(&frequencies(Decision::Swap, &SWAP, owners, DRAWS), &shares, DRAWS);
    }
}

#[test]
fn law_random_and_exploring_single_changes_are_uniform() {
    const DRAWS: usize = 20_000;

    for (policy, network) in [
        (PolicyKind::Random, Network::Paper),
        (PolicyKind::Q, Network::Paper),
        (PolicyKind::Q, Network::Reference),
    ] {
        let mut spec = agent_spec(policy);
        spec.network = network;
        spec.epsilon_floor = 1.0;
        spec.hidden = 2;

        let mut agent = agent_in(&spec, Decision::Single, &[0, 1, 0, 1], 3);
        let mut counts = BTreeMap::new();

        for _ in 0..DRAWS {
            let before = agent.current_action().clone();
            let made = agent.decide(&REGULAR).unwrap();
            agent.refuse().unwrap();
            agent.learn(0.0).unwrap();

            let Visit::Layer(layer) = made.visit else { panic!("a single change visits a layer") };
            for other in (0..4).filter(|&other| other != layer) {
                assert_eq!(before.values()[other], made.action.values()[other]);
            }

            *counts.entry(vec![layer, made.action.values()[layer]]).or_insert(0) += 1;
        }

        let mut shares = BTreeMap::new();
        for layer in 1..4 {
            for entry in 0..=layer {
                shares.insert(vec![layer, entry], 1.0 / 3.0 / (layer + 1) as f64);
            }
        }

        check_frequencies(&counts, &shares, DRAWS);
    }
}
