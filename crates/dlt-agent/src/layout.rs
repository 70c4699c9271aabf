//! The meaning of each input and output of the Q-network (DEVIATIONS row 22).

use dlt_spec::spec::{Network, Scaling};
use dlt_state::{ActionSpace, Exempt};
use std::ops::Range;

/// Inputs and outputs of a Q-network for a given number of layers.
///
/// | | inputs | outputs |
/// |---|---|---|
/// | `paper` | the state without its constant first entry, `L - 1` | for `i = 1..L-1` one value per choice `0..=i`, `(L + 2)(L - 1) / 2` |
/// | `reference` | the whole state, `L` | for `i = 0..L-1` one value per choice, `L (L + 1) / 2`; the first, of layer 0, is never used |
#[derive(Clone, Debug)]
pub struct QLayout {
    network: Network,
    scaling: Scaling,
    n_layers: usize,
    space: ActionSpace,
    exempt: Exempt,
}

impl QLayout {
    /// The layout for `n_layers` layers, at least one.
    #[must_use]
    pub fn new(network: Network, scaling: Scaling, n_layers: usize) -> Self {
        let exempt = Exempt::none(n_layers);
        Self { network, scaling, n_layers, space: ActionSpace::new(n_layers), exempt }
    }

    /// Sets the layers that no tie may touch. Values of choices that touch them are never read.
    #[must_use]
    pub fn sparing(self, exempt: Exempt) -> Self {
        Self { exempt, ..self }
    }

    /// The choice of greatest value of `layer`, by the outputs of the network; of equal values the
    /// lowest layer.
    pub(crate) fn best(&self, outputs: &[f32], layer: usize) -> usize {
        let values = &outputs[self.slice(layer)];
        let better = |best, next| if values[next] > values[best] { next } else { best };
        self.exempt.choices(layer).into_iter().reduce(better).unwrap_or(layer)
    }

    /// Which of the two layouts it is.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// Number of layers, L.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.n_layers
    }

    /// Number of inputs of the network.
    #[must_use]
    pub fn n_inputs(&self) -> usize {
        self.n_layers - self.first_input()
    }

    /// Number of outputs of the network.
    #[must_use]
    pub fn n_outputs(&self) -> usize {
        self.space.n_q_values() + self.unused_outputs()
    }

    /// Indices of the outputs of `layer`: one for each choice `0..=layer`.
    #[must_use]
    pub fn slice(&self, layer: usize) -> Range<usize> {
        let slice = self.space.slice(layer);
        slice.start + self.unused_outputs()..slice.end + self.unused_outputs()
    }

    /// The choices that have a value.
    pub(crate) fn space(&self) -> ActionSpace {
        self.space
    }

    /// The outputs that are the value of a choice, in the order of [`ActionSpace`].
    pub(crate) fn values<'a>(&self, outputs: &'a [f32]) -> &'a [f32] {
        &outputs[self.unused_outputs()..]
    }

    /// The inputs of the network for the state vector `vector`, which has L entries.
    #[must_use]
    pub fn inputs(&self, vector: &[usize]) -> Vec<f32> {
        let unit = match self.scaling {
            Scaling::None => 1.0,
            // With one layer the only entry is 0; the 1 avoids 0 / 0.
            Scaling::Unit => (self.n_layers - 1).max(1) as f32,
        };
        vector[self.first_input()..].iter().map(|&entry| entry as f32 / unit).collect()
    }

    /// First entry of the state vector that is an input.
    fn first_input(&self) -> usize {
        match self.network {
            Network::Paper => 1,
            Network::Reference => 0,
        }
    }

    /// Outputs before those of layer 1. The authors' network has one for layer 0, which has no choice.
    fn unused_outputs(&self) -> usize {
        match self.network {
            Network::Paper => 0,
            Network::Reference => 1,
        }
    }
}
