//! GPT-2: pre-norm blocks, learned positions, output head tied to the token table.

use candle_core::Tensor;
use dlt_kernels::{Gelu, Mask};
use dlt_spec::{CheckedSpec, spec};

use crate::architecture::{Architecture, Pass};
use crate::parameters::{Entry, Init, Layout, Weights};
use crate::{ModelError, Result};

/// Sizes and settings of a GPT-2.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2 {
    /// Number of layers, L.
    pub layers: usize,
    /// Width of the residual stream, C.
    pub width: usize,
    /// Attention heads, H.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Size of the vocabulary, V.
    pub vocabulary: usize,
    /// Activation of the feed-forward layer.
    pub gelu: Gelu,
    /// Epsilon of the layer norms.
    pub norm_epsilon: f64,
    /// Standard deviation of initial weights; projections into the residual stream get it times
    /// 1 / sqrt(2 L), as GPT-2 has it.
    pub initial_std: f64,
}

impl Gpt2 {
    /// The model that a spec describes.
    #[must_use]
    pub fn from_spec(spec: &CheckedSpec, vocabulary: usize) -> Self {
        let model = &spec.model;
        Self {
            layers: model.layers,
            width: model.width,
            heads: model.heads,
            feed_forward: spec.feed_forward(),
            positions: spec.positions(),
            vocabulary: model.vocabulary.or(vocabulary),
            gelu: match model.gelu {
                spec::Gelu::Tanh => Gelu::Tanh,
                spec::Gelu::Erf => Gelu::Erf,
            },
            norm_epsilon: model.norm_epsilon,
            initial_std: model.initial_std,
        }
    }

    fn norm(&self, weights: &Weights, name: [&str; 2], x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let [weight, bias] = name;
        Ok(pass.kernels.layer_norm(x, weights.get(weight)?, weights.get(bias)?, self.norm_epsilon)?)
    }
}

fn entry(name: &'static str, shape: &[usize], init: Init) -> Entry {
    Entry { name, shape: shape.to_vec(), init }
}

const ZERO: Init = Init::Constant(0.0);
const ONE: Init = Init::Constant(1.0);

impl Architecture for Gpt2 {
    fn shared_layout(&self) -> Layout {
        let (c, normal) = (self.width, Init::Normal(self.initial_std));
        Layout::new(vec![
            entry("wte.weight", &[self.vocabulary, c], normal),
            entry("wpe.weight", &[self.positions, c], normal),
            entry("ln_f.weight", &[c], ONE),
            entry("ln_f.bias", &[c], ZERO),
        ])
    }

    fn block_layout(&self) -> Layout {
        let (c, f) = (self.width, self.feed_forward);
        let normal = Init::Normal(self.initial_std);
        let residual = Init::Normal(self.initial_std / (2.0 * self.layers as f64).sqrt());
        Layout::new(vec![
            entry("ln_1.weight", &[c], ONE),
            entry("ln_1.bias", &[c], ZERO),
            entry("attn.c_attn.weight", &[3 * c, c], normal),
            entry("attn.c_attn.bias", &[3 * c], ZERO),
            entry("attn.c_proj.weight", &[c, c], residual),
            entry("attn.c_proj.bias", &[c], ZERO),
            entry("ln_2.weight", &[c], ONE),
            entry("ln_2.bias", &[c], ZERO),
            entry("mlp.c_fc.weight", &[f, c], normal),
            entry("mlp.c_fc.bias", &[f], ZERO),
            entry("mlp.c_proj.weight", &[c, f], residual),
            entry("mlp.c_proj.bias", &[c], ZERO),
        ])
    }

    fn token_table(&self) -> &'static str {
        "wte.weight"
    }

    fn output_table(&self) -> &'static str {
        "wte.weight"
    }

    fn block_prefix(&self, layer: usize) -> String {
        format!("transformer.h.{layer}.")
    }

    fn shared_prefix(&self) -> &'static str {
        "transformer."
    }

    fn max_tokens(&self) -> usize {
        self.positions
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn n_layers(&self) -> usize {
        self.layers
    }

    fn embed(&self, shared: &Weights, rows: &Tensor, pass: &Pass) -> Result<Tensor> {
        let n_tokens = rows.dim(1)?;
        if n_tokens > self.positions {
            return Err(ModelError::Batch {
                expected: format!("at most {} tokens a window", self.positions),
                came: n_tokens.to_string(),
            });
        }
        let positions = shared.get("wpe.weight")?.narrow(0, 0, n_tokens)?;
        pass.drop(rows.broadcast_add(&positions)?, 0)
    }

    fn block(&self, weights: &Weights, layer: usize, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (k, site) = (pass.kernels, 1 + 3 * layer);
        let n_tokens = x.dim(1)?;
        let normed = self.norm(weights, ["ln_1.weight", "ln_1.bias"], x, pass)?;
        let qkv =
            k.linear(&normed, weights.get("attn.c_attn.weight")?, Some(weights.get("attn.c_attn.bias")?))?;
        let dropout = pass.dropout_at(site, self.heads * n_tokens * n_tokens);
        let mixed = k.attention(&qkv, self.heads, Mask::Causal, dropout)?;
        let attended =
            k.linear(&mixed, weights.get("attn.c_proj.weight")?, Some(weights.get("attn.c_proj.bias")?))?;
        let x = (x + pass.drop(attended, site + 1)?)?;
        let normed = self.norm(weights, ["ln_2.weight", "ln_2.bias"], &x, pass)?;
        let risen = k.linear_gelu(
            &normed,
            weights.get("mlp.c_fc.weight")?,
            Some(weights.get("mlp.c_fc.bias")?),
            self.gelu,
        )?;
        let fallen =
            k.linear(&risen, weights.get("mlp.c_proj.weight")?, Some(weights.get("mlp.c_proj.bias")?))?;
        Ok((x + pass.drop(fallen, site + 2)?)?)
    }

    fn head(&self, shared: &Weights, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.norm(shared, ["ln_f.weight", "ln_f.bias"], x, pass)
    }
}
