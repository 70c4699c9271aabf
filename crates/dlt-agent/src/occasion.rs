//! What is handed over with each decision: what is to be decided, and what is known of gradients
//! and weights.

use crate::error::AgentError;

/// What is known of gradients and weights, by layer. Matrices have L x L entries, row by row. What
/// a policy does not want (see [`Wants`]) may be empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Layers, L.
    pub n_layers: usize,
    /// Entry `i * L + j`: the mean, over the training steps since the last decision, of the inner
    /// product of two gradients of the mean loss, those with respect to the block weights at
    /// positions `i` and `j`.
    pub products: Vec<f64>,
    /// Entry `i * L + j`: squared distance between the weights that layers `i` and `j` use, 0
    /// within a group.
    pub distances: Vec<f64>,
    /// Squared norm of the weights that each layer uses.
    pub norms: Vec<f64>,
}

/// What a policy wants to know before it decides. What nobody wants is not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// [`Evidence::products`].
    pub products: bool,
    /// [`Evidence::distances`] and [`Evidence::norms`].
    pub distances: bool,
}

/// What is to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// What `tying.decision` says: all layers, the next one, or one of the policy's choice.
    Regular,
    /// One group is divided in two.
    Split,
    /// Two groups become one, and one group is divided in two.
    Swap,
}

/// A decision that is due.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// What is to be decided.
    pub turn: Turn,
    /// What is known; `None` where nothing is wanted, or there was no training step to learn it
    /// from.
    pub evidence: Option<&'a Evidence>,
}

impl Evidence {
    /// Fails where a part that `wants` names has another length than `n_layers` layers ask for, or
    /// holds a number that is infinite or not a number.
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

            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(AgentError::NotFinite { quantity, value });
            }
        }

        Ok(())
    }
}
