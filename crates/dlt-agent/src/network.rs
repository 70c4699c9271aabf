//! The Q-network: one hidden layer of ReLU units on plain f32 arrays.

use crate::error::AgentError;
use crate::exact;
use crate::layout::QLayout;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// `outputs = output_weight relu(hidden_weight inputs + hidden_bias) + output_bias`.
///
/// It is so small and so rarely used that it always runs on the host, whatever device the
/// transformer runs on.
#[derive(Clone, Debug)]
pub struct QNetwork {
    layout: QLayout,
    parameters: Parameters,
}

/// One number per parameter of a Q-network: the parameters themselves, their gradient, or a moment
/// of it. Matrices are stored row by row, `(outputs, inputs)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// `(hidden, inputs)`.
    #[serde(with = "exact::f32_list")]
    pub hidden_weight: Vec<f32>,
    /// `(hidden)`.
    #[serde(with = "exact::f32_list")]
    pub hidden_bias: Vec<f32>,
    /// `(outputs, hidden)`.
    #[serde(with = "exact::f32_list")]
    pub output_weight: Vec<f32>,
    /// `(outputs)`.
    #[serde(with = "exact::f32_list")]
    pub output_bias: Vec<f32>,
}

/// Values of a forward pass that the backward pass needs.
pub(crate) struct Activations {
    inputs: Vec<f32>,
    hidden: Vec<f32>,
    pub(crate) outputs: Vec<f32>,
}

impl QNetwork {
    /// A network with `hidden` units. Initial values are PyTorch's default for a linear layer:
    /// weights and biases uniform in `±1 / sqrt(inputs of that layer)`, drawn in the order of the
    /// fields of [`Parameters`].
    ///
    /// The paper states no initialisation, so both layouts use that of the authors' code.
    pub fn new(layout: QLayout, hidden: usize, rng: &mut impl Rng) -> Self {
        let mut draw = |count: usize, fan_in: usize| -> Vec<f32> {
            // A model with one layer has no inputs under `paper`; the bound would be infinite.
            let bound = if fan_in == 0 { 0.0 } else { 1.0 / (fan_in as f32).sqrt() };
            (0..count).map(|_| rng.random_range(-bound..=bound)).collect()
        };

        let inputs = layout.n_inputs();
        let [hidden_weight, hidden_bias, output_weight, output_bias] =
            Self::lengths(&layout, hidden);
        let parameters = Parameters {
            hidden_weight: draw(hidden_weight, inputs),
            hidden_bias: draw(hidden_bias, inputs),
            output_weight: draw(output_weight, hidden),
            output_bias: draw(output_bias, hidden),
        };

        Self { layout, parameters }
    }

    /// Lengths of the fields of [`Parameters`], for `hidden` units. They saturate, because a spec
    /// can set any number of units.
    pub(crate) fn lengths(layout: &QLayout, hidden: usize) -> [usize; 4] {
        let inputs = layout.n_inputs();
        let outputs = layout.n_outputs();
        [hidden.saturating_mul(inputs), hidden, outputs.saturating_mul(hidden), outputs]
    }

    /// A network with given parameters. The length of `hidden_bias` is the number of hidden units.
    ///
    /// # Errors
    /// [`AgentError::Mismatch`] if a length does not fit the layout.
    pub fn from_parameters(layout: QLayout, parameters: Parameters) -> Result<Self, AgentError> {
        let expected = Self::lengths(&layout, parameters.hidden_bias.len());
        let got = parameters.tensors().map(<[f32]>::len);
        if expected != got {
            return Err(AgentError::Mismatch {
                place: "lengths of the Q-network's parameters",
                expected: format!("{expected:?}"),
                got: format!("{got:?}"),
            });
        }

        Ok(Self { layout, parameters })
    }

    /// Every Q value for the state vector `vector`, which has L entries; see [`QLayout::slice`] for
    /// their order.
    #[must_use]
    pub fn values(&self, vector: &[usize]) -> Vec<f32> {
        self.forward(vector).outputs
    }

    /// The inputs and outputs.
    #[must_use]
    pub fn layout(&self) -> &QLayout {
        &self.layout
    }

    /// The weights and biases.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(crate) fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    pub(crate) fn forward(&self, vector: &[usize]) -> Activations {
        let p = &self.parameters;
        let inputs = self.layout.inputs(vector);
        let mut hidden = linear(&p.hidden_weight, &p.hidden_bias, &inputs);

        for value in &mut hidden {
            *value = value.max(0.0);
        }

        let outputs = linear(&p.output_weight, &p.output_bias, &hidden);
        Activations { inputs, hidden, outputs }
    }

    /// The gradient of a loss with respect to the parameters, from its gradient at the outputs.
    pub(crate) fn backward(&self, kept: &Activations, output_gradient: &[f32]) -> Parameters {
        let mut gradient = self.parameters.zeros();
        gradient.output_bias.copy_from_slice(output_gradient);

        let n_hidden = kept.hidden.len();
        // Only the chosen outputs have a slope: a few of (L + 2)(L - 1) / 2, so the others are
        // skipped.
        for (output, &slope) in
            output_gradient.iter().enumerate().filter(|(_, slope)| **slope != 0.0)
        {
            let row = output * n_hidden..(output + 1) * n_hidden;
            add_scaled(&mut gradient.output_weight[row.clone()], slope, &kept.hidden);
            // `hidden_bias` first collects the slopes at the hidden values; ReLU is applied to them
            // below.
            add_scaled(&mut gradient.hidden_bias, slope, &self.parameters.output_weight[row]);
        }

        let n_inputs = kept.inputs.len();
        for (unit, &active) in kept.hidden.iter().enumerate() {
            // The slope of ReLU at 0 is 0, as in PyTorch.
            if active > 0.0 {
                let row = unit * n_inputs..(unit + 1) * n_inputs;
                add_scaled(
                    &mut gradient.hidden_weight[row],
                    gradient.hidden_bias[unit],
                    &kept.inputs,
                );
            } else {
                gradient.hidden_bias[unit] = 0.0;
            }
        }

        gradient
    }
}

impl Parameters {
    /// The same shapes, filled with zeros.
    #[must_use]
    pub fn zeros(&self) -> Self {
        let zeros = |values: &[f32]| vec![0.0; values.len()];
        Self {
            hidden_weight: zeros(&self.hidden_weight),
            hidden_bias: zeros(&self.hidden_bias),
            output_weight: zeros(&self.output_weight),
            output_bias: zeros(&self.output_bias),
        }
    }

    /// Adds `other`, element by element.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sums, values) in self.tensors_mut().into_iter().zip(other.tensors()) {
            add_scaled(sums, 1.0, values);
        }
    }

    /// The four tensors in the order of the fields.
    #[must_use]
    pub fn tensors(&self) -> [&[f32]; 4] {
        [&self.hidden_weight, &self.hidden_bias, &self.output_weight, &self.output_bias]
    }

    pub(crate) fn tensors_mut(&mut self) -> [&mut [f32]; 4] {
        [
            &mut self.hidden_weight,
            &mut self.hidden_bias,
            &mut self.output_weight,
            &mut self.output_bias,
        ]
    }
}

/// `weight inputs + bias`.
fn linear(weight: &[f32], bias: &[f32], inputs: &[f32]) -> Vec<f32> {
    let row = |index: usize| &weight[index * inputs.len()..(index + 1) * inputs.len()];
    let dot = |row: &[f32]| row.iter().zip(inputs).map(|(w, x)| w * x).sum::<f32>();
    bias.iter().enumerate().map(|(index, bias)| bias + dot(row(index))).collect()
}

/// `sum += factor * values`.
fn add_scaled(sum: &mut [f32], factor: f32, values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += factor * value;
    }
}
