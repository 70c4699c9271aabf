//! Llama: pre-norm decoder with root-mean-square norms, rotary positions, gated feed-forward layers and grouped
//! queries; no biases.

use std::sync::Arc;

use dlt_kernels::{Mask, Rotary, Stretch};
use dlt_spec::spec::Output;

use crate::Result;
use crate::architecture::{Architecture, Form, ONE, Projection, StemInput, entry};
use crate::graph::{Graph, Node};
use crate::parameters::Layout;

/// Sizes and settings of a Llama.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    /// What every family has.
    pub form: Form,
    /// Heads of keys and values, G, which divides H.
    pub key_heads: usize,
    /// Longest window.
    pub positions: usize,
    /// Size of the vocabulary, V.
    pub vocabulary: usize,
    /// Base of the rotary frequencies.
    pub rotary_base: f64,
    /// Stretching of the rotary frequencies: factor, factors of the low and the high bound, tokens of the original
    /// context. A factor of 1 is none.
    pub rotary_stretch: [f64; 4],
}

const CLASSES: &str = "score.weight";
const OWN_OUTPUT: &str = "lm_head.weight";
const WORDS: &str = "embed_tokens.weight";

impl Llama {
    fn rotary(&self) -> Result<Rotary> {
        let [factor, low, high, original_context] = self.rotary_stretch;
        let stretch = (factor != 1.0).then_some(Stretch {
            factor,
            low,
            high,
            original_context: original_context.round() as usize,
        });
        Ok(Rotary::new(self.form.head_width(), self.rotary_base, stretch)?)
    }
}

impl Architecture for Llama {
    fn form(&self) -> &Form {
        &self.form
    }

    fn shared_layout(&self) -> Layout {
        let (c, normal, head) = (self.form.width, self.form.normal(), self.form.head);
        let mut entries = vec![entry(WORDS, &[self.vocabulary, c], normal), entry("norm.weight", &[c], ONE)];
        match (head.has_classes(), head.output) {
            (true, _) => entries.push(entry(CLASSES, &[head.classes, c], normal)),
            (false, Output::Own) => entries.push(entry(OWN_OUTPUT, &[self.vocabulary, c], normal)),
            (false, Output::Tied) => {}
        }
        Layout::new(entries)
    }

    fn block_layout(&self) -> Layout {
        let (c, f) = (self.form.width, self.form.feed_forward);
        let keys = self.key_heads * self.form.head_width();
        let (normal, residual) = (self.form.normal(), self.form.residual());
        Layout::new(vec![
            entry("input_layernorm.weight", &[c], ONE),
            entry("self_attn.qkv_proj.weight", &[c + 2 * keys, c], normal),
            entry("self_attn.o_proj.weight", &[c, c], residual),
            entry("post_attention_layernorm.weight", &[c], ONE),
            entry("mlp.gate_up_proj.weight", &[2 * f, c], normal),
            entry("mlp.down_proj.weight", &[c, f], residual),
        ])
    }

    fn stem_input(&self) -> StemInput {
        StemInput::Tokens { table: WORDS, vocabulary: self.vocabulary }
    }

    fn output(&self) -> Projection {
        let head = self.form.head;
        let (table, rows) = match (head.has_classes(), head.output) {
            (true, _) => (CLASSES, head.told_classes()),
            (false, Output::Own) => (OWN_OUTPUT, self.vocabulary),
            (false, Output::Tied) => (WORDS, self.vocabulary),
        };
        Projection { table, bias: None, rows }
    }

    fn own_head(&self) -> &'static [&'static str] {
        match (self.form.head.has_classes(), self.form.head.output) {
            (true, _) => &[CLASSES],
            (false, Output::Own) => &[OWN_OUTPUT],
            (false, Output::Tied) => &[],
        }
    }

    fn block_prefix(&self, layer: usize) -> String {
        format!("model.layers.{layer}.")
    }

    fn shared_prefix(&self) -> &'static str {
        "model."
    }

    fn max_tokens(&self) -> usize {
        self.positions
    }

    fn key_heads(&self) -> usize {
        self.key_heads
    }

    fn embed(&self, graph: &mut Graph, rows: Node) -> Result<Node> {
        graph.expect_tokens(rows, self.positions)?;
        Ok(graph.dropout(rows))
    }

    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let Form { heads, norm_epsilon, .. } = self.form;
        let normed = graph.rms_norm(x, "input_layernorm.weight", norm_epsilon)?;
        let qkv = graph.linear(normed, "self_attn.qkv_proj.weight", None)?;
        let qkv = graph.rotate(qkv, heads + self.key_heads, Arc::new(self.rotary()?));
        let mixed = graph.attention(qkv, [heads, self.key_heads], Mask::Causal);
        let attended = graph.linear(mixed, "self_attn.o_proj.weight", None)?;
        let attended = graph.dropout(attended);
        let x = graph.add(x, attended);
        let normed = graph.rms_norm(x, "post_attention_layernorm.weight", norm_epsilon)?;
        let gated = graph.linear(normed, "mlp.gate_up_proj.weight", None)?;
        let risen = graph.swiglu(gated);
        let fallen = graph.linear(risen, "mlp.down_proj.weight", None)?;
        let fallen = graph.dropout(fallen);
        Ok(graph.add(x, fallen))
    }

    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let x = graph.pick(x);
        let x = graph.rms_norm(x, "norm.weight", self.form.norm_epsilon)?;
        Ok(graph.average(x))
    }
}
