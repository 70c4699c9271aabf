//! The input of a decision: its kind, and evidence about gradients and weights.

use crate::error::AgentError;

/// Evidence about gradients and weights, by layer. Matrices have (L, L) entries, row by row. Parts
/// that a policy does not want (see [`Wants`]) can be empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Number of layers, L.
    pub n_layers: usize,
    /// Entry `i * L + j`: the inner product of the gradients of the mean loss with respect to the
    /// block weights at positions `i` and `j`, as a mean over the training steps since the last
    /// decision.
    pub products: Vec<f64>,
    /// Entry `i * L + j`: squared distance between the weights that layers `i` and `j` use, 0
    /// within a group.
    pub distances: Vec<f64>,
    /// Squared norm of the weights that each layer uses.
    pub norms: Vec<f64>,
}

/// The evidence that a policy wants before it decides. Parts that are not wanted are not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// [`Evidence::products`].
    pub products: bool,
    /// [`Evidence::distances`] and [`Evidence::norms`].
    pub distances: bool,
}

/// The kind of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The kind that `tying.decision` names: for all layers, for the next one, or for one of the
    /// policy's choice.
    Regular,
    /// One group is split in two.
    Split,
    /// Two groups are merged, and one group is split in two.
    Swap,
}

/// A decision that is due.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The kind of the decision.
    pub turn: Turn,
    /// The evidence; `None` if nothing is wanted, or if there was no training step to take it from.
    pub evidence: Option<&'a Evidence>,
}

impl Evidence {
    /// Fails if a part that `wants` names has another length than `n_layers` layers need, or holds
    /// a value that is not finite.
    pub(crate) fn check(&self, wants: Wants, n_layers: usize) -> Result<(), AgentError> {
        let square = n_layers.saturating_mul(n_layers);
        let parts = [
            (wants.products, "products of gradients", &self.products, square),
            (wants.distances, "distances of weights", &self.distances, square),
            (wants.distances, "norms of weights", &self.norms, n_layers),
        ];

        for (_, quantity, values, expected) in parts.into_iter().filter(|(wanted, ..)| *wanted) {
            if values.len() != expected {
                return Err(AgentError::Mismatch {
                    place: quantity,
                    expected: format!("{expected} numbers for {n_layers} layers"),
                    got: values.len().to_string(),
                });
            }

            // A NaN would lose every comparison, so a group would silently be split at an arbitrary
            // place.
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(AgentError::NotFinite { quantity, value });
            }
        }

        Ok(())
    }
}
