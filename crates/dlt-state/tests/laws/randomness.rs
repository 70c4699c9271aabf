//! Random actions, changes, splits and merges: everything that can come out is equally likely.

use std::collections::BTreeMap;

use dlt_state::{Action, ActionSpace, Draw, State, random_permutation};

/// A source that is asked the same questions again and again, and gives every sequence of answers
/// once.
#[derive(Default)]
struct EveryAnswer {
    /// The answers of this round, each with its bound.
    answers: Vec<(usize, usize)>,
    place: usize,
}

impl Draw for EveryAnswer {
    fn below(&mut self, bound: usize) -> usize {
        if self.place == self.answers.len() {
            self.answers.push((0, bound));
        }

        let (answer, of) = self.answers[self.place];
        assert_eq!(of, bound, "the same question");
        self.place += 1;
        answer
    }
}

impl EveryAnswer {
    /// Whether there is another sequence of answers: like the next number of an odometer.
    fn advance(&mut self) -> bool {
        self.place = 0;
        while let Some((answer, bound)) = self.answers.pop() {
            if answer + 1 < bound {
                self.answers.push((answer + 1, bound));
                return true;
            }
        }

        false
    }
}

/// How often each result comes out over all sequences of answers.
fn outcomes<T: Ord>(mut draw: impl FnMut(&mut EveryAnswer) -> T) -> BTreeMap<T, usize> {
    let mut source = EveryAnswer::default();
    let mut counts = BTreeMap::new();
    loop {
        *counts.entry(draw(&mut source)).or_insert(0) += 1;
        if !source.advance() {
            return counts;
        }
    }
}

#[test]
fn law_each_action_change_and_permutation_is_drawn_once() {
    for n_layers in 1..=5 {
        let actions = outcomes(|source| Action::random(n_layers, source));
        assert_eq!(Some(actions.len() as u128), ActionSpace::new(n_layers).n_actions());
        assert!(actions.values().all(|&count| count == 1));

        let permutations = outcomes(|source| random_permutation(n_layers, source));
        assert_eq!(permutations.len(), actions.len(), "L! of both");
        assert!(permutations.values().all(|&count| count == 1));
    }

    let changes = outcomes(|source| ActionSpace::new(4).random_change(source).unwrap());
    let all = (1..4).flat_map(|layer| (0..=layer).map(move |choice| (layer, choice)));
    assert!(changes.into_keys().eq(all));
    assert_eq!(ActionSpace::new(1).random_change(&mut EveryAnswer::default()), None);
}

#[test]
fn law_each_pair_of_groups_is_merged_equally_often() {
    for owners in [vec![0, 1], vec![0, 1, 2, 0], vec![0, 1, 2, 3, 1]] {
        let state = State::new(owners).unwrap();
        let groups = state.n_independent();
        let merged = outcomes(|source| state.random_merge(source).unwrap());

        assert_eq!(merged.len(), groups * (groups - 1) / 2);
        assert!(
            merged.iter().all(|(state, &count)| state.n_independent() == groups - 1 && count == 2)
        );
    }

    assert_eq!(State::all_tied(3).random_merge(&mut EveryAnswer::default()), None);
}

/// SplitMix64: an own source, since this crate has none.
fn bits(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Fails if a count is more than five standard deviations from the expected one.
fn assert_uniform<T: std::fmt::Debug>(counts: &BTreeMap<T, usize>, outcomes: usize, draws: usize) {
    assert_eq!(counts.len(), outcomes);
    let expected = draws as f64 / outcomes as f64;
    for (outcome, &count) in counts {
        let off = (count as f64 - expected).abs();
        assert!(off < 5.0 * expected.sqrt(), "{outcome:?} {count} times, expected {expected}");
    }
}

/// An empty part is drawn again, so the answers cannot be listed.
#[test]
fn law_each_split_of_a_group_is_equally_likely() {
    const DRAWS: usize = 14_000;
    let mut source = bits(3);
    let mut counts = BTreeMap::new();
    for _ in 0..DRAWS {
        let state = State::all_tied(4).random_split(&mut source).unwrap();
        assert_eq!(state.n_independent(), 2);
        *counts.entry(state).or_insert(0) += 1;
    }

    assert_uniform(&counts, 7, DRAWS);
    assert_eq!(State::independent(4).random_split(&mut source), None);
}

#[test]
fn law_a_closure_draws_uniformly_below_any_bound() {
    const DRAWS: usize = 12_000;
    let mut source = bits(4);
    for bound in 1..=12 {
        let mut counts = BTreeMap::new();
        for _ in 0..DRAWS {
            *counts.entry(source.below(bound)).or_insert(0) += 1;
        }
        assert_uniform(&counts, bound, DRAWS);
    }
}

/// 2^64 leaves 1 when it is divided by 3, so the greatest number would make 0 more likely.
#[test]
fn numbers_that_would_favour_low_results_are_drawn_again() {
    let mut drawn = [u64::MAX, 5].into_iter();
    assert_eq!((|| drawn.next().unwrap()).below(3), 2);
    let mut drawn = [u64::MAX].into_iter();
    assert_eq!((|| drawn.next().unwrap()).below(2), 1, "a power of two uses every number");
}
