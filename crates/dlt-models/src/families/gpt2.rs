//! GPT-2: pre-norm blocks and learned positions. The output is the token table, its own table, or a
//! table of classes.

use std::sync::Arc;

use dlt_kernels::{Gelu, Mask};
use dlt_spec::CheckedSpec;
use dlt_spec::spec::{self, ModelSpec, Output, Size};
use serde_json::{Map, Value, json};

use super::Family;
use super::decoder::{OWN_OUTPUT, decodes, head_entry, output, own_head};
use crate::Result;
use crate::architecture::{Architecture, Form, ONE, Projection, StemInput, ZERO, entry, gelu};
use crate::division::{BlockParts, Half};
use crate::graph::{Graph, Node};
use crate::huggingface::config::{HeadKind, ModelType, divided, gelu as read_gelu};
use crate::huggingface::export::{is_tied, object};
use crate::huggingface::settings::Settings;
use crate::huggingface::{FileNames, Twin};
use crate::parameters::Layout;

/// GPT-2 among the families.
pub(super) static FAMILY: Family = Family {
    of_spec: |spec, form, vocabulary| {
        Arc::new(Gpt2 { form, positions: spec.positions(), vocabulary, gelu: gelu(spec) })
    },
    model_types: &MODEL_TYPES,
    ties_output: true,
    task: decodes,
    model_type: |_| Ok(&MODEL_TYPES[0]),
};

static MODEL_TYPES: [ModelType; 1] = [ModelType {
    word: "gpt2",
    classes: &[
        ("GPT2Model", HeadKind::None),
        ("GPT2LMHeadModel", HeadKind::Next),
        ("GPT2ForSequenceClassification", HeadKind::Classes),
    ],
    read,
    write,
}];

/// Sizes and settings of a GPT-2.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2 {
    /// What every family has. Initial weights of projections into the residual stream have the
    /// standard deviation times 1 / sqrt(2 L), as in GPT-2.
    pub form: Form,
    /// Rows of the position table.
    pub positions: usize,
    /// Size of the vocabulary, V.
    pub vocabulary: usize,
    /// Activation of the feed-forward layer.
    pub gelu: Gelu,
}

const PARTS: BlockParts =
    BlockParts { feed_forward: &["ln_2.", "mlp."], norms: &["ln_1.", "ln_2."] };

/// The parameters that end the two residual branches.
const BRANCH_ENDS: [&str; 4] =
    ["attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"];

impl Architecture for Gpt2 {
    fn form(&self) -> &Form {
        &self.form
    }

    fn shared_layout(&self) -> Layout {
        let c = self.form.width;
        let normal = self.form.normal();
        let mut entries = vec![
            entry("wte.weight", &[self.vocabulary, c], normal),
            entry("wpe.weight", &[self.positions, c], normal),
            entry("ln_f.weight", &[c], ONE),
            entry("ln_f.bias", &[c], ZERO),
        ];

        entries.extend(head_entry(&self.form, self.vocabulary));
        Layout::new(entries)
    }

    fn block_layout(&self) -> Layout {
        let c = self.form.width;
        let f = self.form.feed_forward;
        let normal = self.form.normal();
        let residual = self.form.residual();

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

    fn block_parts(&self) -> BlockParts {
        PARTS
    }

    fn stem_input(&self) -> StemInput {
        StemInput::Tokens { table: "wte.weight", vocabulary: self.vocabulary }
    }

    fn output(&self) -> Projection {
        output(self.form.head, "wte.weight", self.vocabulary)
    }

    fn own_head(&self) -> &'static [&'static str] {
        own_head(self.form.head)
    }

    fn branch_ends(&self) -> &'static [&'static str] {
        &BRANCH_ENDS
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

    fn embed(&self, graph: &mut Graph, rows: Node) -> Result<Node> {
        let x = graph.add_rows(rows, "wpe.weight")?;
        Ok(graph.dropout(x))
    }

    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let Form { heads, norm_epsilon, .. } = self.form;

        // Attention: (B, T, C) -> (B, T, 3 C) -> (B, T, C)
        let normed = graph.layer_norm(x, "ln_1.weight", "ln_1.bias", norm_epsilon)?;
        let qkv = graph.linear(normed, "attn.c_attn.weight", "attn.c_attn.bias")?;
        let mixed = graph.attention(qkv, [heads, heads], Mask::Causal);
        let attended = graph.linear(mixed, "attn.c_proj.weight", "attn.c_proj.bias")?;
        let attended = graph.dropout(attended);
        let x = graph.add_branch(x, attended, Half::Attention)?;

        // Feed-forward: (B, T, C) -> (B, T, F) -> (B, T, C)
        let normed = graph.layer_norm(x, "ln_2.weight", "ln_2.bias", norm_epsilon)?;
        let expanded = graph.linear_gelu(normed, "mlp.c_fc.weight", "mlp.c_fc.bias", self.gelu)?;
        let projected = graph.linear(expanded, "mlp.c_proj.weight", "mlp.c_proj.bias")?;
        let projected = graph.dropout(projected);

        graph.add_branch(x, projected, Half::FeedForward)
    }

    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        // Rows are picked before the norm, which is by row: no other row is normalised. The mean is
        // that of normalised rows.
        let x = graph.pick(x);
        let x = graph.layer_norm(x, "ln_f.weight", "ln_f.bias", self.form.norm_epsilon)?;
        Ok(graph.average(x))
    }
}

impl FileNames for Gpt2 {
    /// `Conv1D` matrices.
    fn turned(&self) -> &'static [&'static str] {
        &["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"]
    }

    fn twins(&self) -> Vec<Twin> {
        match self.form.head.output {
            Output::Tied => vec![Twin::tied("transformer.wte.weight", OWN_OUTPUT)],
            Output::Own => Vec::new(),
        }
    }
}

fn read(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    settings.must_be("scale_attn_weights", &json!(true))?;
    settings.must_be("scale_attn_by_inverse_layer_idx", &json!(false))?;
    settings.must_be("reorder_and_upcast_attn", &json!(false))?;

    let dropout = settings.real("resid_pdrop", 0.1)?;
    let positions = settings.whole("n_positions", 1024)?;
    let width = settings.whole("n_embd", 768)?;
    let heads = settings.whole("n_head", 12)?;

    divided(settings, "n_head", width, heads)?;

    Ok(ModelSpec {
        layers: settings.whole("n_layer", 12)?,
        width,
        heads,
        feed_forward: settings.whole_if_given("n_inner")?.map_or(Size::AUTO, Size::Fixed),
        context: positions,
        positions: Size::Fixed(positions),
        vocabulary: Size::Fixed(settings.whole("vocab_size", 50_257)?),
        gelu: read_gelu(settings, "activation_function", "gelu_new")?,
        norm_epsilon: settings.real("layer_norm_epsilon", 1e-5)?,
        dropout,
        initial_std: settings.real("initializer_range", 0.02)?,
        ..default
    })
}

fn write(spec: &CheckedSpec) -> Map<String, Value> {
    let model = &spec.model;
    let activation = match model.gelu {
        spec::Gelu::Tanh => "gelu_new",
        spec::Gelu::Erf => "gelu",
    };

    object(json!({
        "n_layer": model.layers,
        "n_embd": model.width,
        "n_head": model.heads,
        "n_inner": spec.feed_forward(),
        "n_positions": spec.positions(),
        "activation_function": activation,
        "layer_norm_epsilon": model.norm_epsilon,
        "resid_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "attn_pdrop": 0.0,
        "add_cross_attention": false,
        "reorder_and_upcast_attn": false,
        "scale_attn_by_inverse_layer_idx": false,
        "scale_attn_weights": true,
        "tie_word_embeddings": is_tied(spec),
    }))
}
