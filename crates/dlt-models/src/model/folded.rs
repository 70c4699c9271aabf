//! Moves the factors of residual branches into the weights that end the branches.

use std::sync::Arc;

use candle_core::Tensor;

use crate::architecture::Architecture;
use crate::binding::Binding;
use crate::file::ParameterLocation;
use crate::{Model, ModelError, Result};

impl Model {
    /// Whether any layer multiplies its residual branches by another factor than 1.
    #[must_use]
    pub fn has_residual_factors(&self) -> bool {
        (0..self.binding.n_layers()).any(|layer| self.architecture.residual_factor(layer) != 1.0)
    }

    /// A model without factors of residual branches that computes the same function, up to the
    /// rounding of weights. It is for readers that know no such factors. `plain` is this
    /// architecture with factors of 1.
    ///
    /// Layers that use one block with different factors do not share it in the result, because the
    /// factors are now part of the weights. Frozen weights are stored in the result.
    ///
    /// # Errors
    /// [`ModelError::Export`] if `plain` has factors itself; fails if the device has no memory
    /// left.
    pub fn folded(&self, plain: Arc<dyn Architecture>) -> Result<Self> {
        let layers = 0..self.binding.n_layers();
        if let Some(factor) =
            layers.map(|layer| plain.residual_factor(layer)).find(|&factor| factor != 1.0)
        {
            return Err(factors_left(factor));
        }

        let binding = self.folded_binding();
        let lookup = |name: &str| self.folded_parameter(name);
        let rules = self.rules;
        let kernels = self.kernels;
        let folded =
            Self::from_weights(plain, binding, rules, kernels, &lookup, None, &self.device)?;

        Ok(folded.training(self.trains).computing_in(self.activations))
    }

    /// A parameter for readers that know no scales, by its number in the layout of shared parameters
    /// or of a layer's block. One that ends a branch is multiplied by the scale of its half.
    pub(crate) fn plain_parameter(&self, layer: Option<usize>, number: usize) -> Result<Tensor> {
        let Some(layer) = layer else {
            return self.parameter(ParameterLocation::Shared, number);
        };

        let weights = self.layer_parameter(layer, number)?;
        let layout = self.bank.division().all();
        let name = layout.entries()[number].name;
        let scale = self.architecture.block_parts().half(name).scale();
        let Ok(scale) = layout.number(scale) else { return Ok(weights) };
        if !self.architecture.branch_ends().contains(&name) {
            return Ok(weights);
        }

        // A factor for each row: (C, in) or (C).
        let scale = self.layer_parameter(layer, scale)?.detach();
        let weights = weights.detach();
        Ok(match weights.rank() {
            1 => (weights * scale)?,
            _ => weights.broadcast_mul(&scale.unsqueeze(1)?)?,
        })
    }

    /// The binding of the result: layers share if they use one block with one factor.
    fn folded_binding(&self) -> Binding {
        let before = self.binding.partition();
        let layers = 0..self.binding.n_layers();
        let factor = |layer: usize| self.architecture.residual_factor(layer).to_bits();
        let lowest = |layer: usize| {
            let same =
                |other: &usize| before[*other] == before[layer] && factor(*other) == factor(layer);
            (0..layer).find(same).unwrap_or(layer)
        };

        let after: Vec<_> = layers.clone().map(lowest).collect();
        let frozen: Vec<_> =
            layers.clone().filter(|&layer| self.binding.is_frozen(layer)).collect();

        // A layer that no longer shares has its own block, so it trains by itself.
        let is_split = |layer: usize| after[layer] == layer && before[layer] != layer;
        let trains = |&layer: &usize| self.binding.trains_alone(layer) || is_split(layer);
        let independent: Vec<_> = layers.filter(trains).collect();

        Binding::from_parts(&after, &frozen, &independent)
            .expect("each layer names the lowest layer of its group, which names itself")
    }

    /// A parameter by its name. If it ends a branch, it is multiplied by the factor of its layer.
    fn folded_parameter(&self, name: &str) -> Result<Option<Tensor>> {
        for layer in 0..self.binding.n_layers() {
            let Some(own) = name.strip_prefix(self.architecture.block_prefix(layer).as_str())
            else {
                continue;
            };

            let weights = self.layer_parameter(layer, self.bank.division().all().number(own)?)?;
            let factor = self.architecture.residual_factor(layer);
            let is_scaled = factor != 1.0 && self.architecture.branch_ends().contains(&own);

            return Ok(Some(if is_scaled {
                self.kernels.scaled(&weights, factor as f32)?
            } else {
                weights
            }));
        }

        let Some(own) = name.strip_prefix(self.architecture.shared_prefix()) else {
            return Ok(None);
        };
        let number = self.shared.layout().number(own)?;

        Ok(Some(self.shared.variables()[number].as_detached_tensor()))
    }
}

/// The refusal of a model whose factors are not in its weights.
pub(crate) fn factors_left(factor: f64) -> ModelError {
    ModelError::Export {
        setting: "tying.residual_scale",
        expected: "none, with the factors of residual branches in the weights",
        got: format!("a factor of {factor}"),
    }
}
