//! Fixed ways of sharing weights, for comparison with learned ones.
//!
//! [`cycle`], [`cycle_reversed`] and [`sequence`] pair the layers up. At an odd depth one layer has
//! no partner and is independent. So each of the three has `L / 2`, rounded up, independent layers
//! and no group of more than two.
//!
//! ```
//! use dlt_state::pattern;
//!
//! assert_eq!(pattern::cycle(6).owners(), [0, 1, 2, 0, 1, 2]);
//! assert_eq!(pattern::cycle_reversed(6).owners(), [0, 1, 2, 2, 1, 0]);
//! assert_eq!(pattern::sequence(6).owners(), [0, 0, 2, 2, 4, 4]);
//! ```

use crate::{State, StateError};

/// Layers `i` and `L/2 + i` share: the lower half is run twice. At an odd depth the middle layer is
/// independent.
///
/// # Panics
///
/// If `n_layers` is 0.
///
/// ```
/// use dlt_state::pattern;
///
/// assert_eq!(pattern::cycle(4).owners(), [0, 1, 0, 1]);
/// assert_eq!(pattern::cycle(5).owners(), [0, 1, 2, 0, 1]);
/// ```
#[must_use]
pub fn cycle(n_layers: usize) -> State {
    let half = n_layers.div_ceil(2);
    from_owners(n_layers, |layer| if layer < half { layer } else { layer - half })
}

/// Layers `i` and `L - 1 - i` share: the lower half is run forwards, then backwards. At an odd
/// depth the middle layer is independent.
///
/// # Panics
///
/// If `n_layers` is 0.
///
/// ```
/// use dlt_state::pattern;
///
/// assert_eq!(pattern::cycle_reversed(4).owners(), [0, 1, 1, 0]);
/// assert_eq!(pattern::cycle_reversed(5).owners(), [0, 1, 2, 1, 0]);
/// ```
#[must_use]
pub fn cycle_reversed(n_layers: usize) -> State {
    from_owners(n_layers, |layer| layer.min(n_layers - 1 - layer))
}

/// `n_groups` groups: the first `n_groups - 1` layers are independent, and all others are one
/// group.
///
/// # Panics
///
/// If `n_groups` is 0 or above `n_layers`.
///
/// ```
/// use dlt_state::pattern;
///
/// assert_eq!(pattern::leading(5, 3).owners(), [0, 1, 2, 2, 2]);
/// assert_eq!(pattern::leading(5, 1).owners(), [0; 5]);
/// ```
#[must_use]
pub fn leading(n_layers: usize, n_groups: usize) -> State {
    assert!((1..=n_layers).contains(&n_groups), "expected 1 to {n_layers} groups, got {n_groups}");
    from_owners(n_layers, |layer| layer.min(n_groups - 1))
}

/// Layers `i` and `L - i` share, as Table 4 of the paper writes it. Layer 0 has no partner and is
/// independent, and so is layer `L/2` at an even depth. There are `L/2 + 1`, rounded down,
/// independent layers.
///
/// # Panics
///
/// If `n_layers` is 0.
///
/// ```
/// use dlt_state::pattern;
///
/// assert_eq!(pattern::cycle_reversed_as_written(4).owners(), [0, 1, 2, 1]);
/// assert_eq!(pattern::cycle_reversed_as_written(5).owners(), [0, 1, 2, 2, 1]);
/// ```
#[must_use]
pub fn cycle_reversed_as_written(n_layers: usize) -> State {
    from_owners(n_layers, |layer| layer.min(n_layers - layer))
}

/// Neighbours share, two by two: `2 i` and `2 i + 1`. At an odd depth the last layer is
/// independent.
///
/// # Panics
///
/// If `n_layers` is 0.
///
/// ```
/// use dlt_state::pattern;
///
/// assert_eq!(pattern::sequence(4).owners(), [0, 0, 2, 2]);
/// assert_eq!(pattern::sequence(5).owners(), [0, 0, 2, 2, 4]);
/// ```
#[must_use]
pub fn sequence(n_layers: usize) -> State {
    from_owners(n_layers, |layer| layer - layer % 2)
}

/// Contiguous blocks of layers share, `groups` of them, whose sizes differ by at most one.
///
/// # Errors
///
/// [`StateError::GroupCount`] unless `1 <= groups <= n_layers`, [`StateError::Empty`] without a
/// layer.
///
/// ```
/// use dlt_state::{StateError, pattern};
///
/// assert_eq!(pattern::evenly_grouped(6, 2)?.owners(), [0, 0, 0, 3, 3, 3]);
/// assert_eq!(pattern::evenly_grouped(7, 3)?.owners(), [0, 0, 0, 3, 3, 5, 5]);
/// let error = pattern::evenly_grouped(6, 7).unwrap_err();
/// assert_eq!(error, StateError::GroupCount { groups: 7, n_layers: 6 });
/// # Ok::<(), StateError>(())
/// ```
pub fn evenly_grouped(n_layers: usize, groups: usize) -> Result<State, StateError> {
    if n_layers == 0 {
        return Err(StateError::Empty);
    }
    if groups == 0 || groups > n_layers {
        return Err(StateError::GroupCount { groups, n_layers });
    }

    // Layer i is in group i * groups / L, whose first layer is the least one with that quotient.
    Ok(from_owners(n_layers, |layer| (layer * groups / n_layers * n_layers).div_ceil(groups)))
}

fn from_owners(n_layers: usize, owner: impl Fn(usize) -> usize) -> State {
    assert!(n_layers > 0, "expected at least one layer, got none");
    State::from_valid((0..n_layers).map(owner).collect())
}
