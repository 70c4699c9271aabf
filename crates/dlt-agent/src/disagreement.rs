//! How much the gradients of layers that share weights disagree (DEVIATIONS row 45).

use crate::error::{AgentError, grouping};
use crate::occasion::Evidence;
use dlt_state::growth::Disagreement;

/// The disagreement of the gradients whose products are in `evidence`.
pub(crate) fn disagreement(evidence: &Evidence) -> Result<Disagreement, AgentError> {
    let n_layers = evidence.n_layers;
    let product = |one: usize, other: usize| evidence.products[one * n_layers + other];
    let scale = |layer: usize| match product(layer, layer) {
        // A gradient of norm 0 has no direction. It stays 0 and must not become NaN.
        square if square > 0.0 => square.sqrt().recip(),
        _ => 0.0,
    };

    let scales: Vec<f64> = (0..n_layers).map(scale).collect();
    let cosine = |index: usize| {
        let one = index / n_layers;
        let other = index % n_layers;
        product(one, other) * scales[one] * scales[other]
    };

    let cosines = (0..n_layers * n_layers).map(cosine).collect();
    Disagreement::of_cosines(n_layers, cosines).map_err(grouping("the products of gradients"))
}
