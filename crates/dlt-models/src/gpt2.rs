//! GPT-2: pre-norm blocks, learned positions, output head tied to the token table.

use dlt_kernels::{Gelu, Mask};
use dlt_spec::{CheckedSpec, spec};

use crate::Result;
use crate::architecture::Architecture;
use crate::graph::{Graph, Node};
use crate::parameters::{Entry, Init, Layout};

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

    fn width(&self) -> usize {
        self.width
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn n_layers(&self) -> usize {
        self.layers
    }

    fn embed(&self, graph: &mut Graph, rows: Node) -> Result<Node> {
        let x = graph.add_rows(rows, "wpe.weight")?;
        Ok(graph.dropout(x))
    }

    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let normed = graph.layer_norm(x, "ln_1.weight", "ln_1.bias", self.norm_epsilon)?;
        let qkv = graph.linear(normed, "attn.c_attn.weight", "attn.c_attn.bias")?;
        let mixed = graph.attention(qkv, self.heads, Mask::Causal);
        let attended = graph.linear(mixed, "attn.c_proj.weight", "attn.c_proj.bias")?;
        let attended = graph.dropout(attended);
        let x = graph.add(x, attended);
        let normed = graph.layer_norm(x, "ln_2.weight", "ln_2.bias", self.norm_epsilon)?;
        let risen = graph.linear_gelu(normed, "mlp.c_fc.weight", "mlp.c_fc.bias", self.gelu)?;
        let fallen = graph.linear(risen, "mlp.c_proj.weight", "mlp.c_proj.bias")?;
        let fallen = graph.dropout(fallen);
        Ok(graph.add(x, fallen))
    }

    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        graph.layer_norm(x, "ln_f.weight", "ln_f.bias", self.norm_epsilon)
    }
}
