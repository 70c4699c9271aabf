//! Llama: a pre-norm decoder with root-mean-square norms, rotary positions, gated feed-forward
//! layers and grouped queries. Mistral and Qwen2 are variants of it: both may bound how far back a
//! token attends, and Qwen2 has biases of queries, keys and values.

use std::sync::Arc;

use dlt_kernels::Mask;
use dlt_spec::CheckedSpec;
use dlt_spec::spec::{AttentionBias, FeedForwardBias, ModelSpec, Output, Size};
use serde_json::{Map, Value, json};

use super::Family;
use super::decoder::{OWN_OUTPUT, decodes, head_entry, output, own_head};
use super::rotary::{
    Turning, Usual, attention_bias, layered_window, layered_window_keys, read, window, windowed,
    write,
};
use crate::architecture::{Architecture, Form, ONE, Projection, StemInput, ZERO, entry};
use crate::division::{BlockParts, Half};
use crate::graph::{Graph, Node};
use crate::huggingface::config::{HeadKind, ModelType};
use crate::huggingface::settings::Settings;
use crate::huggingface::{FileNames, Twin};
use crate::parameters::Layout;
use crate::{ModelError, Result};

/// Llama among the families.
pub(super) static FAMILY: Family = Family {
    of_spec: |spec, form, vocabulary| Arc::new(Llama::of_spec(spec, form, vocabulary)),
    model_types: &MODEL_TYPES,
    ties_output: false,
    task: decodes,
    model_type,
};

/// The variants. Mistral may bound how far back a token attends, and its heads may have any width.
/// Qwen2 has biases of queries, keys and values only.
static MODEL_TYPES: [ModelType; 3] = [
    ModelType {
        word: "llama",
        classes: &[
            ("LlamaModel", HeadKind::None),
            ("LlamaForCausalLM", HeadKind::Next),
            ("LlamaForSequenceClassification", HeadKind::Classes),
        ],
        read: read_llama,
        write: write_llama,
    },
    ModelType {
        word: "mistral",
        classes: &[
            ("MistralModel", HeadKind::None),
            ("MistralForCausalLM", HeadKind::Next),
            ("MistralForSequenceClassification", HeadKind::Classes),
        ],
        read: read_mistral,
        write: write_mistral,
    },
    ModelType {
        word: "qwen2",
        classes: &[
            ("Qwen2Model", HeadKind::None),
            ("Qwen2ForCausalLM", HeadKind::Next),
            ("Qwen2ForSequenceClassification", HeadKind::Classes),
        ],
        read: read_qwen2,
        write: write_qwen2,
    },
];

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

const WORDS: &str = "embed_tokens.weight";

/// The biases that a block may have.
const INPUTS_BIAS: &str = "self_attn.qkv_proj.bias";
const OUTPUT_BIAS: &str = "self_attn.o_proj.bias";
const GATE_UP_BIAS: &str = "mlp.gate_up_proj.bias";
const DOWN_BIAS: &str = "mlp.down_proj.bias";

impl Llama {
    pub(super) fn of_spec(spec: &CheckedSpec, form: Form, vocabulary: usize) -> Self {
        Self {
            form,
            key_heads: spec.key_heads(),
            head_width: spec.head_width(),
            attention_bias: spec.attention_bias(),
            feed_forward_bias: spec.feed_forward_bias(),
            positions: spec.longest_window(),
            vocabulary,
            turning: Turning::of_spec(&spec.model),
        }
    }

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

const PARTS: BlockParts = BlockParts {
    feed_forward: &["post_attention_layernorm.", "mlp."],
    norms: &["input_layernorm.", "post_attention_layernorm."],
};

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
        let mut entries =
            vec![entry(WORDS, &[self.vocabulary, c], normal), entry("norm.weight", &[c], ONE)];

        entries.extend(head_entry(&self.form, self.vocabulary));
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

    fn block_parts(&self) -> BlockParts {
        PARTS
    }

    fn stem_input(&self) -> StemInput {
        StemInput::Tokens { table: WORDS, vocabulary: self.vocabulary }
    }

    fn output(&self) -> Projection {
        output(self.form.head, WORDS, self.vocabulary)
    }

    fn own_head(&self) -> &'static [&'static str] {
        own_head(self.form.head)
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
        self.block_with(graph, x, |_, qkv| Ok(qkv))
    }

    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let x = graph.pick(x);
        let x = graph.rms_norm(x, "norm.weight", self.form.norm_epsilon)?;
        Ok(graph.average(x))
    }
}

impl Llama {
    /// Writes one block, in which `unturned` gets queries, keys and values before they are rotated.
    pub(super) fn block_with(
        &self,
        graph: &mut Graph,
        x: Node,
        unturned: impl FnOnce(&mut Graph, Node) -> Result<Node>,
    ) -> Result<Node> {
        let Form { heads, norm_epsilon, .. } = self.form;

        // Attention: (B, T, C) -> (B, T, (H + 2 G) D) -> (B, T, H D) -> (B, T, C)
        let normed = graph.rms_norm(x, "input_layernorm.weight", norm_epsilon)?;
        let inputs_bias = self.has_inputs_bias().then_some(INPUTS_BIAS);
        let qkv = graph.linear(normed, "self_attn.qkv_proj.weight", inputs_bias)?;
        let qkv = unturned(graph, qkv)?;

        // Queries and keys are the first H + G heads; values are not rotated.
        let rotary = self.turning.rotary(self.head_width)?;
        let qkv = graph.rotate(qkv, heads + self.key_heads, Arc::new(rotary));
        let mixed = graph.attention(qkv, [heads, self.key_heads], Mask::Causal);
        let output_bias = self.has_output_bias().then_some(OUTPUT_BIAS);
        let attended = graph.linear(mixed, "self_attn.o_proj.weight", output_bias)?;
        let attended = graph.dropout(attended);
        let x = graph.add_branch(x, attended, Half::Attention)?;

        // Feed-forward: (B, T, C) -> (B, T, 2 F) -> (B, T, F) -> (B, T, C)
        let normed = graph.rms_norm(x, "post_attention_layernorm.weight", norm_epsilon)?;
        let has_bias = self.has_feed_forward_bias();
        let gated =
            graph.linear(normed, "mlp.gate_up_proj.weight", has_bias.then_some(GATE_UP_BIAS))?;
        let expanded = graph.swiglu(gated);
        let projected =
            graph.linear(expanded, "mlp.down_proj.weight", has_bias.then_some(DOWN_BIAS))?;
        let projected = graph.dropout(projected);

        graph.add_branch(x, projected, Half::FeedForward)
    }
}

impl FileNames for Llama {
    fn packed(&self) -> &'static [(&'static str, &'static [&'static str])] {
        &[
            ("self_attn.qkv_proj", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
            ("mlp.gate_up_proj", &["mlp.gate_proj", "mlp.up_proj"]),
        ]
    }

    fn twins(&self) -> Vec<Twin> {
        match self.form.head.output {
            Output::Tied => vec![Twin::tied("model.embed_tokens.weight", OWN_OUTPUT)],
            Output::Own => Vec::new(),
        }
    }
}

fn read_llama(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    let model = read(settings, default, &Usual::LLAMA)?;

    Ok(ModelSpec {
        attention_bias: attention_bias(settings)?,
        feed_forward_bias: if settings.flag("mlp_bias", false)? {
            FeedForwardBias::All
        } else {
            FeedForwardBias::Auto
        },
        ..model
    })
}

/// A token attends only to the last ones before it.
fn read_mistral(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    let usual =
        Usual { feed_forward: 14_336, key_heads: Some(8), positions: 131_072, ..Usual::LLAMA };
    let model = read(settings, default, &usual)?;

    // Null means no bound; without the key the default is used.
    let window = match settings.given("sliding_window") {
        Some(_) => settings.whole_if_given("sliding_window")?,
        None => (!settings.has("sliding_window")).then_some(4096),
    };

    windowed(settings, model, window)
}

/// Queries, keys and values have biases. Some layers may attend only to the last tokens.
fn read_qwen2(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    let model = read(settings, default, &Usual::QWEN)?;
    let model = ModelSpec { attention_bias: AttentionBias::Inputs, ..model };

    layered_window(settings, model)
}

/// The model type that computes the function of a spec.
fn model_type(spec: &CheckedSpec) -> Result<&'static ModelType> {
    let [llama, mistral, qwen2] = &MODEL_TYPES;
    let model = &spec.model;
    let is_windowed = model.attention_window != Size::AUTO;

    // transformers refuses a Llama whose number of heads does not divide the width, even with a
    // separate width of heads.
    let is_divided = model.width.is_multiple_of(model.heads);

    match (spec.attention_bias(), spec.feed_forward_bias()) {
        (AttentionBias::Inputs, FeedForwardBias::None) => Ok(qwen2),
        (AttentionBias::None, FeedForwardBias::None) if is_windowed || !is_divided => Ok(mistral),
        (AttentionBias::None | AttentionBias::All, _) if !is_windowed && is_divided => Ok(llama),
        (attention_bias, feed_forward_bias) => Err(ModelError::Export {
            setting: "model.attention_bias",
            expected: "none or all without attention_window and with heads that divide the width, \
                       none with feed_forward_bias = none, \
                       or inputs with feed_forward_bias = none",
            got: format!(
                "{attention_bias:?} with feed_forward_bias {feed_forward_bias:?}, \
                 attention_window {:?}, {} heads of width {}",
                model.attention_window, model.heads, model.width
            ),
        }),
    }
}

fn write_llama(spec: &CheckedSpec) -> Map<String, Value> {
    write(
        spec,
        json!({
            "attention_bias": spec.attention_bias() == AttentionBias::All,
            "mlp_bias": spec.feed_forward_bias() == FeedForwardBias::All,
        }),
    )
}

fn write_mistral(spec: &CheckedSpec) -> Map<String, Value> {
    write(spec, json!({"sliding_window": window(spec)}))
}

fn write_qwen2(spec: &CheckedSpec) -> Map<String, Value> {
    write(spec, layered_window_keys(spec))
}
