//! Splits by rule: in the middle of the largest group, and where gradients disagree.

use dlt_state::growth::{Disagreement, TIE};
use dlt_state::{State, StateError};
use proptest::prelude::*;

use crate::brute_force::all_states;

/// Cosines of plane vectors at these angles, in degrees.
fn cosines(angles: &[f64]) -> Disagreement {
    let cosine = |one: &f64, other: &f64| (one - other).to_radians().cos();
    let row = |one| angles.iter().map(move |other| cosine(one, other));
    Disagreement::of_cosines(angles.len(), angles.iter().flat_map(row).collect()).unwrap()
}

#[test]
fn law_the_largest_group_is_split_in_its_middle() {
    for n_layers in 1..=7 {
        for owners in all_states(n_layers) {
            let state = State::new(owners).unwrap();
            let Some(grown) = state.split_largest() else {
                assert_eq!(state, State::independent(n_layers));
                continue;
            };

            assert_eq!(grown.n_independent(), state.n_independent() + 1);
            let largest = |state: &State| {
                state.groups().iter().map(|group| group.members.len()).max().unwrap()
            };
            let group = state.groups().into_iter().find(|g| g.members.len() == largest(&state));
            let members = group.unwrap().members;
            let half = members.len().div_ceil(2);
            assert!(members[..half].iter().all(|&layer| grown.owner(layer) == members[0]));
            assert!(members[half..].iter().all(|&layer| grown.owner(layer) == members[half]));
        }
    }
}

proptest! {
    /// No bipartition of any group disagrees more than the one that is found.
    #[test]
    fn law_no_split_disagrees_more(angles in proptest::collection::vec(0.0..360.0_f64, 1..6)) {
        let n_layers = angles.len();
        let disagreement = cosines(&angles);

        for owners in all_states(n_layers) {
            let state = State::new(owners).unwrap();
            let mut most = f64::NEG_INFINITY;
            for group in state.groups() {
                for chosen in 1..1_usize << (group.members.len() - 1) {
                    let is_chosen = |&&layer: &&usize| {
                        let place = group.members.iter().position(|&other| other == layer);
                        chosen << 1 >> place.unwrap() & 1 == 1
                    };
                    let part: Vec<_> = group.members.iter().filter(is_chosen).copied().collect();
                    let rest: Vec<_> =
                        group.members.iter().filter(|layer| !part.contains(layer)).copied().collect();
                    most = most.max(disagreement.of(&part, &rest));
                }
            }

            match disagreement.greatest(&state) {
                None => prop_assert_eq!(state, State::independent(n_layers)),
                Some(division) => {
                    prop_assert!((division.disagreement - most).abs() <= TIE);
                    prop_assert!(!division.part.contains(&division.owner));
                    let split = state.split(division.owner, &division.part).unwrap();
                    prop_assert_eq!(split.n_independent(), state.n_independent() + 1);
                }
            }
        }
    }
}

#[test]
fn rejects_another_number_of_cosines() {
    let wrong = Disagreement::of_cosines(3, vec![1.0; 8]).unwrap_err();
    assert_eq!(wrong, StateError::ValueCount { expected: 9, got: 8 });
}
