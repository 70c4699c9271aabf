//! What is gathered from gradients between two decisions, for policies that want it.

use dlt_agent::{Agent, Evidence, Wants};
use dlt_models::Model;
use dlt_models::backward::PositionSketches;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Sums of the inner products of the gradients at each two positions, over the training steps since
/// the last decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statistics {
    /// L x L sums; empty before the first step.
    products: Vec<f64>,
    /// Training steps in them.
    steps: u64,
    /// Whether a decision used them: the next step starts new sums. A second decision before that
    /// step sees the same ones, as a change of groups does not change the gradient at a position.
    used: bool,
}

impl Statistics {
    /// Adds what a training step has shown.
    pub(crate) fn add(&mut self, sketches: &PositionSketches) {
        if self.used {
            *self = Self::default();
        }

        let products = sketches.products();
        self.products.resize(products.len(), 0.0);
        self.products.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        self.steps += 1;
    }

    /// What an agent wants to know, as far as it is known; nothing where it wants nothing, or no
    /// step has been made since the last decision.
    ///
    /// # Errors
    /// Fails where the device does.
    pub(crate) fn evidence(&mut self, agent: &Agent, model: &Model) -> Result<Option<Evidence>> {
        let Wants { products, distances } = agent.wants();
        if !(products || distances) || (products && self.steps == 0) {
            return Ok(None);
        }

        self.used = true;
        let (distances, norms) = match distances {
            true => model.weight_distances()?,
            false => Default::default(),
        };

        let mean = |sum: &f64| sum / self.steps as f64;
        let products = if products { self.products.iter().map(mean).collect() } else { Vec::new() };
        Ok(Some(Evidence { n_layers: agent.n_layers(), products, distances, norms }))
    }

    /// Whether they are of so many layers, and finite: what a file holds may be anything.
    pub(crate) fn fit(&self, n_layers: usize) -> bool {
        let expected = if self.steps == 0 { 0 } else { n_layers * n_layers };
        self.products.len() == expected && self.products.iter().all(|sum| sum.is_finite())
    }

    /// Whether nothing has been gathered.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps == 0
    }
}
