//! Qwen3: a Llama that normalises each head of queries and of keys before they are rotated. Heads
//! have a width of their own.

use std::sync::Arc;

use dlt_spec::CheckedSpec;
use dlt_spec::spec::{AttentionBias, FeedForwardBias, ModelSpec};
use serde_json::{Map, Value, json};

use super::Family;
use super::decoder::decodes;
use super::llama::Llama;
use super::rotary::{self, Usual, attention_bias, layered_window, layered_window_keys};
use crate::architecture::{Architecture, Form, ONE, Projection, StemInput, entry};
use crate::division::BlockParts;
use crate::graph::{Graph, Node};
use crate::huggingface::config::{HeadKind, ModelType};
use crate::huggingface::export::object;
use crate::huggingface::settings::Settings;
use crate::huggingface::{FileNames, Twin};
use crate::parameters::Layout;
use crate::{ModelError, Result};

/// Qwen3 among the families.
pub(super) static FAMILY: Family = Family {
    of_spec: |spec, form, vocabulary| {
        Arc::new(Qwen3 { decoder: Llama::of_spec(spec, form, vocabulary) })
    },
    model_types: &MODEL_TYPES,
    ties_output: false,
    task: decodes,
    model_type,
};

static MODEL_TYPES: [ModelType; 1] = [ModelType {
    word: "qwen3",
    classes: &[
        ("Qwen3Model", HeadKind::None),
        ("Qwen3ForCausalLM", HeadKind::Next),
        ("Qwen3ForSequenceClassification", HeadKind::Classes),
    ],
    read,
    write,
}];

/// Sizes and settings of a Qwen3.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen3 {
    /// What it is without its norms of heads.
    pub decoder: Llama,
}

/// The norms of each head of queries and of keys, (D) each.
const HEAD_NORMS: [&str; 2] = ["self_attn.q_norm.weight", "self_attn.k_norm.weight"];

/// Those of each head, and those of the decoder.
const NORMS: [&str; 4] =
    [HEAD_NORMS[0], HEAD_NORMS[1], "input_layernorm.", "post_attention_layernorm."];

impl Architecture for Qwen3 {
    fn block_layout(&self) -> Layout {
        let mut entries = self.decoder.block_layout().entries().to_vec();
        entries.extend(HEAD_NORMS.map(|name| entry(name, &[self.decoder.head_width], ONE)));
        Layout::new(entries)
    }

    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let Form { heads, norm_epsilon, .. } = self.decoder.form;
        let heads = [heads, self.decoder.key_heads];

        self.decoder.block_with(graph, x, |graph, qkv| {
            graph.head_norms(qkv, heads, HEAD_NORMS, norm_epsilon)
        })
    }

    fn form(&self) -> &Form {
        self.decoder.form()
    }

    fn shared_layout(&self) -> Layout {
        self.decoder.shared_layout()
    }

    fn block_parts(&self) -> BlockParts {
        BlockParts { norms: &NORMS, ..self.decoder.block_parts() }
    }

    fn stem_input(&self) -> StemInput {
        self.decoder.stem_input()
    }

    fn output(&self) -> Projection {
        self.decoder.output()
    }

    fn own_head(&self) -> &'static [&'static str] {
        self.decoder.own_head()
    }

    fn branch_ends(&self) -> &'static [&'static str] {
        self.decoder.branch_ends()
    }

    fn block_prefix(&self, layer: usize) -> String {
        self.decoder.block_prefix(layer)
    }

    fn shared_prefix(&self) -> &'static str {
        self.decoder.shared_prefix()
    }

    fn max_tokens(&self) -> usize {
        self.decoder.max_tokens()
    }

    fn key_heads(&self) -> usize {
        self.decoder.key_heads()
    }

    fn head_width(&self) -> usize {
        self.decoder.head_width()
    }

    fn embed(&self, graph: &mut Graph, rows: Node) -> Result<Node> {
        self.decoder.embed(graph, rows)
    }

    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        self.decoder.head(graph, x)
    }
}

impl FileNames for Qwen3 {
    fn packed(&self) -> &'static [(&'static str, &'static [&'static str])] {
        self.decoder.packed()
    }

    fn twins(&self) -> Vec<Twin> {
        self.decoder.twins()
    }
}

/// Heads are 128 wide where the file does not say it. Some layers may attend only to the last
/// tokens.
fn read(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    let usual = Usual { head_width: Some(128), ..Usual::QWEN };
    let model = rotary::read(settings, default, &usual)?;
    let model = ModelSpec { attention_bias: attention_bias(settings)?, ..model };

    layered_window(settings, model)
}

fn model_type(spec: &CheckedSpec) -> Result<&'static ModelType> {
    let attention_bias = spec.attention_bias();
    let feed_forward_bias = spec.feed_forward_bias();

    if attention_bias != AttentionBias::Inputs && feed_forward_bias == FeedForwardBias::None {
        return Ok(&MODEL_TYPES[0]);
    }

    Err(ModelError::Export {
        setting: "model.attention_bias",
        expected: "none or all in qwen3, with feed_forward_bias = none",
        got: format!("{attention_bias:?} with feed_forward_bias {feed_forward_bias:?}"),
    })
}

fn write(spec: &CheckedSpec) -> Map<String, Value> {
    let has_bias = spec.attention_bias() == AttentionBias::All;
    let mut values = rotary::write(spec, layered_window_keys(spec));
    values.extend(object(json!({"attention_bias": has_bias})));
    values
}
