//! Llama: a pre-norm decoder with root-mean-square norms, rotary positions, gated feed-forward
//! layers and grouped queries. Mistral and Qwen2 are variants of it: both may bound how far back a
//! token attends, and Qwen2 has biases of queries, keys and values.

use std::sync::Arc;

use dlt_kernels::{Mask, Rotary, Stretch};
use dlt_spec::spec::{AttentionBias, FeedForwardBias, Output, RotaryKind};

use crate::Result;
use crate::architecture::{Architecture, Form, ONE, Projection, StemInput, ZERO, entry};
use crate::graph::{Graph, Node};
use crate::parameters::Layout;

/// Sizes and settings of a Llama.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    /// What every family has.
    pub form: Form,
    /// Heads of keys and values, G, which divides H.
    pub key_heads: usize,
    /// Width of a head, D.
    pub head_width: usize,
    /// Which projections of attention have a bias; `auto` is none.
    pub attention_bias: AttentionBias,
    /// Whether the projections of the feed-forward layer have biases; `auto` is none.
    pub feed_forward_bias: FeedForwardBias,
    /// Longest window.
    pub positions: usize,
    /// Size of the vocabulary, V.
    pub vocabulary: usize,
    /// How positions rotate queries and keys.
    pub turning: Turning,
}

/// How positions rotate queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Turning {
    /// Base of the rotary frequencies.
    pub base: f64,
    /// How the frequencies are stretched.
    pub kind: RotaryKind,
    /// Factor, low bound, high bound, and tokens of the original context. Under `llama3` and
    /// `linear` a factor of 1 stretches nothing.
    pub stretch: [f64; 4],
    /// What rotated queries and keys are multiplied by.
    pub attention: f64,
    /// Under `longrope`, what each frequency is divided by.
    pub short: Vec<f64>,
    /// The same for texts longer than the original context.
    pub long: Vec<f64>,
}

impl Turning {
    /// Frequencies without any stretching.
    #[must_use]
    pub fn plain(base: f64) -> Self {
        Self {
            base,
            kind: RotaryKind::Llama3,
            stretch: [1.0, 1.0, 4.0, 8192.0],
            attention: 1.0,
            short: Vec::new(),
            long: Vec::new(),
        }
    }

    fn rotary(&self, head_width: usize) -> Result<Rotary> {
        let [factor, low, high, original_context] = self.stretch;
        let original_context = original_context.round() as usize;
        let attention = self.attention;
        let stretch = match self.kind {
            RotaryKind::Llama3 | RotaryKind::Linear if factor == 1.0 => None,
            RotaryKind::Llama3 => Some(Stretch::Llama3 { factor, low, high, original_context }),
            RotaryKind::Linear => Some(Stretch::Linear { factor }),
            RotaryKind::Dynamic => Some(Stretch::Dynamic { factor, original_context }),
            RotaryKind::Yarn | RotaryKind::YarnUnrounded => Some(Stretch::Yarn {
                factor,
                low,
                high,
                original_context,
                is_rounded: self.kind == RotaryKind::Yarn,
                attention,
            }),
            RotaryKind::LongRope => Some(Stretch::LongRope {
                short: self.short.clone(),
                long: self.long.clone(),
                original_context,
                attention,
            }),
        };

        Ok(Rotary::new(head_width, self.base, stretch)?)
    }
}

const CLASSES: &str = "score.weight";
const OWN_OUTPUT: &str = "lm_head.weight";
const WORDS: &str = "embed_tokens.weight";

/// The biases that a block may have.
const INPUTS_BIAS: &str = "self_attn.qkv_proj.bias";
const OUTPUT_BIAS: &str = "self_attn.o_proj.bias";
const GATE_UP_BIAS: &str = "mlp.gate_up_proj.bias";
const DOWN_BIAS: &str = "mlp.down_proj.bias";

impl Llama {
    fn has_inputs_bias(&self) -> bool {
        matches!(self.attention_bias, AttentionBias::Inputs | AttentionBias::All)
    }

    fn has_output_bias(&self) -> bool {
        self.attention_bias == AttentionBias::All
    }

    fn has_feed_forward_bias(&self) -> bool {
        self.feed_forward_bias == FeedForwardBias::All
    }
}

/// The parameters that end the two residual branches.
const BRANCH_ENDS: [&str; 4] =
    ["self_attn.o_proj.weight", OUTPUT_BIAS, "mlp.down_proj.weight", DOWN_BIAS];

impl Architecture for Llama {
    fn form(&self) -> &Form {
        &self.form
    }

    fn shared_layout(&self) -> Layout {
        let c = self.form.width;
        let normal = self.form.normal();
        let head = self.form.head;
        let mut entries =
            vec![entry(WORDS, &[self.vocabulary, c], normal), entry("norm.weight", &[c], ONE)];

        match (head.has_classes(), head.output) {
            (true, _) => entries.push(entry(CLASSES, &[head.classes, c], normal)),
            (false, Output::Own) => entries.push(entry(OWN_OUTPUT, &[self.vocabulary, c], normal)),
            (false, Output::Tied) => {}
        }

        Layout::new(entries)
    }

    fn block_layout(&self) -> Layout {
        let c = self.form.width;
        let f = self.form.feed_forward;
        let queries = self.form.heads * self.head_width;
        let keys = self.key_heads * self.head_width;
        let normal = self.form.normal();
        let residual = self.form.residual();

        let bias = |is_there: bool, name, size| is_there.then(|| entry(name, &[size], ZERO));
        let entries = [
            Some(entry("input_layernorm.weight", &[c], ONE)),
            Some(entry("self_attn.qkv_proj.weight", &[queries + 2 * keys, c], normal)),
            bias(self.has_inputs_bias(), INPUTS_BIAS, queries + 2 * keys),
            Some(entry("self_attn.o_proj.weight", &[c, queries], residual)),
            bias(self.has_output_bias(), OUTPUT_BIAS, c),
            Some(entry("post_attention_layernorm.weight", &[c], ONE)),
            Some(entry("mlp.gate_up_proj.weight", &[2 * f, c], normal)),
            bias(self.has_feed_forward_bias(), GATE_UP_BIAS, 2 * f),
            Some(entry("mlp.down_proj.weight", &[c, f], residual)),
            bias(self.has_feed_forward_bias(), DOWN_BIAS, c),
        ];

        Layout::new(entries.into_iter().flatten().collect())
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

    fn branch_ends(&self) -> &'static [&'static str] {
        &BRANCH_ENDS
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

    fn head_width(&self) -> usize {
        self.head_width
    }

    fn embed(&self, graph: &mut Graph, rows: Node) -> Result<Node> {
        // No table of positions bounds the window here, so the bound is checked by itself.
        graph.expect_tokens(rows, self.positions)?;
        Ok(graph.dropout(rows))
    }

    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let Form { heads, norm_epsilon, .. } = self.form;

        // Attention: (B, T, C) -> (B, T, (H + 2 G) D) -> (B, T, H D) -> (B, T, C)
        let normed = graph.rms_norm(x, "input_layernorm.weight", norm_epsilon)?;
        let inputs_bias = self.has_inputs_bias().then_some(INPUTS_BIAS);
        let qkv = graph.linear(normed, "self_attn.qkv_proj.weight", inputs_bias)?;

        // Queries and keys are the first H + G heads; values are not rotated.
        let rotary = self.turning.rotary(self.head_width)?;
        let qkv = graph.rotate(qkv, heads + self.key_heads, Arc::new(rotary));
        let mixed = graph.attention(qkv, [heads, self.key_heads], Mask::Causal);
        let output_bias = self.has_output_bias().then_some(OUTPUT_BIAS);
        let attended = graph.linear(mixed, "self_attn.o_proj.weight", output_bias)?;
        let attended = graph.dropout(attended);
        let x = graph.add_branch(x, attended);

        // Feed-forward: (B, T, C) -> (B, T, 2 F) -> (B, T, F) -> (B, T, C)
        let normed = graph.rms_norm(x, "post_attention_layernorm.weight", norm_epsilon)?;
        let has_bias = self.has_feed_forward_bias();
        let gated =
            graph.linear(normed, "mlp.gate_up_proj.weight", has_bias.then_some(GATE_UP_BIAS))?;
        let expanded = graph.swiglu(gated);
        let projected =
            graph.linear(expanded, "mlp.down_proj.weight", has_bias.then_some(DOWN_BIAS))?;
        let projected = graph.dropout(projected);

        Ok(graph.add_branch(x, projected))
    }

    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let x = graph.pick(x);
        let x = graph.rms_norm(x, "norm.weight", self.form.norm_epsilon)?;
        Ok(graph.average(x))
    }
}
