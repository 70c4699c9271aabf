//! Statistics of gradients between two decisions, for policies that use them.

use dlt_agent::{Agent, Evidence, Wants};
use dlt_models::Model;
use dlt_models::backward::PositionSketches;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Sums of the inner products of the gradients at every two positions, over the training steps
/// since the last decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statistics {
    /// (L, L) sums, row by row; empty before the first step.
    products: Vec<f64>,
    /// Training steps in the sums.
    steps: u64,
    /// Whether a decision has used the sums; the next step then starts new ones. A second decision
    /// before that step sees the same sums, because a change of groups does not change the gradient
    /// at a position.
    used: bool,
}

impl Statistics {
    /// Adds the products of one training step.
    pub(crate) fn add(&mut self, sketches: &PositionSketches) {
        // Reset here and not when the sums are used: a second decision between the same two steps
        // still needs them.
        if self.used {
            *self = Self::default();
        }

        let products = sketches.products();
        self.products.resize(products.len(), 0.0);
        self.products.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        self.steps += 1;
    }

    /// The evidence that the agent's policy wants; `None` if it wants nothing, or if it wants
    /// products and there is no step to take them from.
    ///
    /// # Errors
    /// Fails if the device does.
    pub(crate) fn evidence(&mut self, agent: &Agent, model: &Model) -> Result<Option<Evidence>> {
        let Wants { products, distances } = agent.wants();
        if !(products || distances) || (products && self.steps == 0) {
            return Ok(None);
        }

        self.used = true;
        let (distances, norms) =
            if distances { model.weight_distances()? } else { Default::default() };

        // A mean, so that evidence does not grow with the number of steps between decisions.
        let mean = |sum: &f64| sum / self.steps as f64;
        let products = if products { self.products.iter().map(mean).collect() } else { Vec::new() };
        Ok(Some(Evidence { n_layers: agent.n_layers(), products, distances, norms }))
    }

    /// Whether the sums are for this number of layers, and finite. Sums from a checkpoint must be
    /// checked, because a file can hold anything.
    pub(crate) fn fit(&self, n_layers: usize) -> bool {
        let expected = if self.steps == 0 { 0 } else { n_layers * n_layers };
        self.products.len() == expected && self.products.iter().all(|sum| sum.is_finite())
    }

    /// Whether there are no sums yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps == 0
    }
}
