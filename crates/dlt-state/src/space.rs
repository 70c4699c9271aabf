//! All single choices of a decision, in one row.

use core::ops::Range;

mod counts;
mod values;

/// All single choices at a given depth, in one row. A network that scores them has its outputs in
/// this order.
///
/// Layer 0 has no choice and no place in the row. Each layer `i = 1..L` has its choices `0..=i`, in
/// the order of the layers: `(L + 2)(L - 1) / 2` values in all.
///
/// ```
/// use dlt_state::ActionSpace;
///
/// let space = ActionSpace::new(4);
/// assert_eq!(space.n_q_values(), 9);
/// assert_eq!(space.slice(1), 0..2);
/// assert_eq!(space.slice(2), 2..5);
/// assert_eq!(space.slice(3), 5..9);
///
/// // The value of "layer 3 copies layer 1":
/// let q_values = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
/// assert_eq!(q_values[space.slice(3)][1], 0.6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ActionSpace {
    n_layers: usize,
}

impl ActionSpace {
    /// The choices at depth `n_layers`. With 0 or 1 layers there are none.
    ///
    /// ```
    /// use dlt_state::ActionSpace;
    ///
    /// assert_eq!(ActionSpace::new(48).n_q_values(), 1_175);
    /// assert_eq!(ActionSpace::new(0).n_q_values(), 0);
    /// ```
    #[must_use]
    pub fn new(n_layers: usize) -> Self {
        Self { n_layers }
    }

    /// Number of layers, L.
    ///
    /// ```
    /// assert_eq!(dlt_state::ActionSpace::new(12).n_layers(), 12);
    /// ```
    #[must_use]
    pub fn n_layers(self) -> usize {
        self.n_layers
    }

    /// Length of the row: `(L + 2)(L - 1) / 2`, and 0 where there is no layer.
    ///
    /// ```
    /// assert_eq!(dlt_state::ActionSpace::new(12).n_q_values(), 77);
    /// ```
    #[must_use]
    pub fn n_q_values(self) -> usize {
        start(self.n_layers)
    }

    /// The range of the choices of `layer` in the row: choice `c` is at `slice(layer).start + c`.
    /// Layer 0 has an empty range.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    ///
    /// ```
    /// let space = dlt_state::ActionSpace::new(3);
    /// assert!(space.slice(0).is_empty());
    /// assert_eq!(space.slice(2), 2..5);
    /// ```
    #[must_use]
    pub fn slice(self, layer: usize) -> Range<usize> {
        let n_layers = self.n_layers;
        assert!(layer < n_layers, "expected one of the {n_layers} layers, got layer {layer}");
        start(layer)..start(layer + 1)
    }

    /// Number of choices of `layer`, `layer + 1`. Layer 0 has 1, that is, nothing to choose.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    ///
    /// ```
    /// assert_eq!(dlt_state::ActionSpace::new(12).n_choices(5), 6);
    /// ```
    #[must_use]
    pub fn n_choices(self, layer: usize) -> usize {
        let n_layers = self.n_layers;
        assert!(layer < n_layers, "expected one of the {n_layers} layers, got layer {layer}");
        layer + 1
    }

    /// The layers that have a choice, `1..L`. A decision for all layers is for these.
    ///
    /// ```
    /// assert_eq!(dlt_state::ActionSpace::new(4).deciding_layers(), 1..4);
    /// assert!(dlt_state::ActionSpace::new(1).deciding_layers().is_empty());
    /// ```
    #[must_use]
    pub fn deciding_layers(self) -> Range<usize> {
        1..self.n_layers.max(1)
    }

    /// Number of actions, `L!`. It fits for up to 34 layers; above that, `None`.
    ///
    /// ```
    /// use dlt_state::ActionSpace;
    ///
    /// assert_eq!(ActionSpace::new(5).n_actions(), Some(120));
    /// assert_eq!(ActionSpace::new(48).n_actions(), None);
    /// ```
    #[must_use]
    pub fn n_actions(self) -> Option<u128> {
        (1..=self.n_layers)
            .try_fold(1_u128, |product, choices| product.checked_mul(choices as u128))
    }
}

/// Number of choices of all layers below `layer`, without layer 0: `2 + 3 + ... + layer`.
fn start(layer: usize) -> usize {
    (layer + 2) * layer.saturating_sub(1) / 2
}
