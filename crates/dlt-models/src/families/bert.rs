//! BERT: post-norm blocks, learned positions and token types, and a head that transforms hidden
//! states before the output.

use std::sync::Arc;

use dlt_kernels::{Gelu, Mask};
use dlt_spec::CheckedSpec;
use dlt_spec::spec::{Attention, ModelSpec, Objective, Output, Size};
use serde_json::{Map, Value, json};

use super::Family;
use crate::architecture::{Architecture, Form, ONE, Projection, StemInput, ZERO, entry, gelu};
use crate::division::{BlockParts, Half};
use crate::graph::{Graph, Node};
use crate::huggingface::config::{self, HeadKind, ModelType};
use crate::huggingface::export::{self, is_tied, object};
use crate::huggingface::settings::Settings;
use crate::huggingface::{FileNames, Twin};
use crate::parameters::Layout;
use crate::{ModelError, Result};

/// BERT among the families.
pub(super) static FAMILY: Family = Family {
    of_spec: |spec, form, vocabulary| {
        Arc::new(Bert {
            form,
            positions: spec.positions(),
            vocabulary,
            gelu: gelu(spec),
            attention: spec.model.attention,
        })
    },
    model_types: &MODEL_TYPES,
    ties_output: true,
    task,
    model_type,
};

static MODEL_TYPES: [ModelType; 1] = [ModelType {
    word: "bert",
    classes: &[
        ("BertModel", HeadKind::None),
        ("BertForPreTraining", HeadKind::Masked),
        ("BertForMaskedLM", HeadKind::Masked),
        ("BertLMHeadModel", HeadKind::Next),
        ("BertForSequenceClassification", HeadKind::Classes),
    ],
    read,
    write,
}];

/// Rows of the table of token types.
pub(crate) const TOKEN_TYPES: usize = 2;

/// Sizes and settings of a BERT.
#[derive(Clone, Debug, PartialEq)]
pub struct Bert {
    /// What every family has.
    pub form: Form,
    /// Rows of the position table.
    pub positions: usize,
    /// Size of the vocabulary, V.
    pub vocabulary: usize,
    /// Activation of the feed-forward layer and of the head's transform.
    pub gelu: Gelu,
    /// Which positions a token attends to. `causal` makes BERT a decoder (DEVIATIONS row 14).
    pub attention: Attention,
}

const WORDS: &str = "embeddings.word_embeddings.weight";
const OWN_OUTPUT: &str = "cls.predictions.decoder.weight";

/// The bias for each token, and its name in files where the output is not tied.
const OUTPUT_BIAS: &str = "cls.predictions.bias";
const OWN_OUTPUT_BIAS: &str = "cls.predictions.decoder.bias";

/// The heads for classes and for tokens.
const CLASSES: [&str; 4] =
    ["pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"];
const TOKENS: [&str; 5] = [
    "cls.predictions.transform.dense.weight",
    "cls.predictions.transform.dense.bias",
    "cls.predictions.transform.LayerNorm.weight",
    "cls.predictions.transform.LayerNorm.bias",
    OUTPUT_BIAS,
];
const TOKENS_AND_OUTPUT: [&str; 6] = {
    let [dense, dense_bias, norm, norm_bias, bias] = TOKENS;
    [dense, dense_bias, norm, norm_bias, bias, OWN_OUTPUT]
};

const PARTS: BlockParts = BlockParts {
    feed_forward: &["intermediate.", "output."],
    norms: &["attention.output.LayerNorm.", "output.LayerNorm."],
};

/// The parameters that end the two residual branches.
const BRANCH_ENDS: [&str; 4] = [
    "attention.output.dense.weight",
    "attention.output.dense.bias",
    "output.dense.weight",
    "output.dense.bias",
];

impl Architecture for Bert {
    fn form(&self) -> &Form {
        &self.form
    }

    fn shared_layout(&self) -> Layout {
        let c = self.form.width;
        let normal = self.form.normal();
        let head = self.form.head;
        let mut entries = vec![
            entry(WORDS, &[self.vocabulary, c], normal),
            entry("embeddings.position_embeddings.weight", &[self.positions, c], normal),
            entry("embeddings.token_type_embeddings.weight", &[TOKEN_TYPES, c], normal),
            entry("embeddings.LayerNorm.weight", &[c], ONE),
            entry("embeddings.LayerNorm.bias", &[c], ZERO),
        ];

        if head.has_classes() {
            let [pooler, pooler_bias, classifier, classifier_bias] = CLASSES;
            entries.extend([
                entry(pooler, &[c, c], normal),
                entry(pooler_bias, &[c], ZERO),
                entry(classifier, &[head.classes, c], normal),
                entry(classifier_bias, &[head.classes], ZERO),
            ]);
        } else {
            let [dense, dense_bias, norm, norm_bias, bias] = TOKENS;
            entries.extend([
                entry(dense, &[c, c], normal),
                entry(dense_bias, &[c], ZERO),
                entry(norm, &[c], ONE),
                entry(norm_bias, &[c], ZERO),
                entry(bias, &[self.vocabulary], ZERO),
            ]);

            if head.output == Output::Own {
                entries.push(entry(OWN_OUTPUT, &[self.vocabulary, c], normal));
            }
        }

        Layout::new(entries)
    }

    fn block_layout(&self) -> Layout {
        let c = self.form.width;
        let f = self.form.feed_forward;
        let normal = self.form.normal();

        Layout::new(vec![
            entry("attention.self.qkv.weight", &[3 * c, c], normal),
            entry("attention.self.qkv.bias", &[3 * c], ZERO),
            entry("attention.output.dense.weight", &[c, c], normal),
            entry("attention.output.dense.bias", &[c], ZERO),
            entry("attention.output.LayerNorm.weight", &[c], ONE),
            entry("attention.output.LayerNorm.bias", &[c], ZERO),
            entry("intermediate.dense.weight", &[f, c], normal),
            entry("intermediate.dense.bias", &[f], ZERO),
            entry("output.dense.weight", &[c, f], normal),
            entry("output.dense.bias", &[c], ZERO),
            entry("output.LayerNorm.weight", &[c], ONE),
            entry("output.LayerNorm.bias", &[c], ZERO),
        ])
    }

    fn block_parts(&self) -> BlockParts {
        PARTS
    }

    fn stem_input(&self) -> StemInput {
        StemInput::Tokens { table: WORDS, vocabulary: self.vocabulary }
    }

    fn output(&self) -> Projection {
        let head = self.form.head;
        let [.., classifier, classifier_bias] = CLASSES;
        let [.., bias] = TOKENS;

        match (head.has_classes(), head.output) {
            (true, _) => Projection {
                table: classifier,
                bias: Some(classifier_bias),
                rows: head.told_classes(),
            },
            (false, Output::Tied) => {
                Projection { table: WORDS, bias: Some(bias), rows: self.vocabulary }
            }
            (false, Output::Own) => {
                Projection { table: OWN_OUTPUT, bias: Some(bias), rows: self.vocabulary }
            }
        }
    }

    fn own_head(&self) -> &'static [&'static str] {
        match (self.form.head.has_classes(), self.form.head.output) {
            (true, _) => &CLASSES,
            (false, Output::Own) => &TOKENS_AND_OUTPUT,
            (false, Output::Tied) => &TOKENS,
        }
    }

    fn branch_ends(&self) -> &'static [&'static str] {
        &BRANCH_ENDS
    }

    fn block_prefix(&self, layer: usize) -> String {
        format!("bert.encoder.layer.{layer}.")
    }

    fn shared_prefix(&self) -> &'static str {
        "bert."
    }

    fn max_tokens(&self) -> usize {
        self.positions
    }

    fn embed(&self, graph: &mut Graph, rows: Node) -> Result<Node> {
        let x = graph.add_types(rows, "embeddings.token_type_embeddings.weight")?;
        let x = graph.add_rows(x, "embeddings.position_embeddings.weight")?;
        let weight = "embeddings.LayerNorm.weight";
        let bias = "embeddings.LayerNorm.bias";
        let x = graph.layer_norm(x, weight, bias, self.form.norm_epsilon)?;

        Ok(graph.dropout(x))
    }

    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let Form { heads, norm_epsilon, .. } = self.form;
        let mask = match self.attention {
            Attention::Causal => Mask::Causal,
            Attention::Full => Mask::Full,
        };

        // Attention: (B, T, C) -> (B, T, 3 C) -> (B, T, C)
        let qkv = graph.linear(x, "attention.self.qkv.weight", "attention.self.qkv.bias")?;
        let mixed = graph.attention(qkv, [heads, heads], mask);
        let attended =
            graph.linear(mixed, "attention.output.dense.weight", "attention.output.dense.bias")?;
        let attended = graph.dropout(attended);
        let x = graph.add_branch(x, attended, Half::Attention)?;

        let weight = "attention.output.LayerNorm.weight";
        let bias = "attention.output.LayerNorm.bias";
        let x = graph.layer_norm(x, weight, bias, norm_epsilon)?;

        // Feed-forward: (B, T, C) -> (B, T, F) -> (B, T, C)
        let weight = "intermediate.dense.weight";
        let bias = "intermediate.dense.bias";
        let expanded = graph.linear_gelu(x, weight, bias, self.gelu)?;
        let projected = graph.linear(expanded, "output.dense.weight", "output.dense.bias")?;
        let projected = graph.dropout(projected);
        let x = graph.add_branch(x, projected, Half::FeedForward)?;

        graph.layer_norm(x, "output.LayerNorm.weight", "output.LayerNorm.bias", norm_epsilon)
    }

    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let x = graph.pick(x);
        let x = graph.average(x);

        // transformers' pooler: a dense layer and tanh over what is read of a window.
        if self.form.head.has_classes() {
            let [pooler, pooler_bias, ..] = CLASSES;
            let x = graph.linear(x, pooler, pooler_bias)?;
            let x = graph.tanh(x);

            return Ok(graph.dropout(x));
        }

        let [dense, dense_bias, norm, norm_bias, _] = TOKENS;
        let x = graph.linear_gelu(x, dense, dense_bias, self.gelu)?;
        graph.layer_norm(x, norm, norm_bias, self.form.norm_epsilon)
    }
}

impl FileNames for Bert {
    fn packed(&self) -> &'static [(&'static str, &'static [&'static str])] {
        const PARTS: [&str; 3] =
            ["attention.self.query", "attention.self.key", "attention.self.value"];
        &[("attention.self.qkv", &PARTS)]
    }

    /// The bias for each token has another name where the output is not tied.
    fn renamed(&self, own: &str) -> Option<&'static str> {
        (self.form.head.output == Output::Own && own == OUTPUT_BIAS).then_some(OWN_OUTPUT_BIAS)
    }

    fn twins(&self) -> Vec<Twin> {
        match self.form.head.output {
            Output::Tied => vec![
                Twin::tied("bert.embeddings.word_embeddings.weight", OWN_OUTPUT),
                Twin::tied(OUTPUT_BIAS, OWN_OUTPUT_BIAS),
            ],
            Output::Own => {
                vec![Twin { used: OWN_OUTPUT_BIAS, other: OUTPUT_BIAS, is_written: true }]
            }
        }
    }

    /// The name of norms in the first releases.
    fn second_name(&self, name: &str) -> Option<String> {
        let (stem, kind) = name.rsplit_once('.')?;
        let kind = match kind {
            "weight" => "gamma",
            "bias" => "beta",
            _ => return None,
        };

        stem.ends_with("LayerNorm").then(|| format!("{stem}.{kind}"))
    }
}

fn read(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    settings.must_be("position_embedding_type", &json!("absolute"))?;
    settings.must_be("type_vocab_size", &json!(TOKEN_TYPES))?;

    let positions = settings.whole("max_position_embeddings", 512)?;
    Ok(ModelSpec {
        context: positions,
        positions: Size::Fixed(positions),
        vocabulary: Size::Fixed(settings.whole("vocab_size", 30_522)?),
        ..config::encoder(settings, default, 0.1)?
    })
}

/// Of BERTs, the decoders predict the next token, and no others do.
fn task(settings: &Settings<'_>, head_kind: HeadKind) -> Result<(Objective, Attention)> {
    let is_causal = settings.flag("is_decoder", false)?;
    let objective = match head_kind {
        HeadKind::Next => Objective::NextToken,
        HeadKind::Masked => Objective::MaskedToken,
        HeadKind::Classes => Objective::Classes,
        HeadKind::None if is_causal => Objective::NextToken,
        HeadKind::None => Objective::MaskedToken,
    };

    if is_causal != (objective == Objective::NextToken) {
        let (expected, got) = if is_causal { ("false", "true") } else { ("true", "false") };
        let expected = format!("{expected} for this class of `architectures`");
        return Err(settings.refuse("is_decoder", &expected, got));
    }

    Ok((objective, if is_causal { Attention::Causal } else { Attention::Full }))
}

fn model_type(spec: &CheckedSpec) -> Result<&'static ModelType> {
    let model = &spec.model;
    if model.objective == Objective::Classes && model.attention == Attention::Causal {
        return Err(ModelError::Export {
            setting: "model.attention",
            expected: "full for classes of bert",
            got: format!("{:?}", model.attention),
        });
    }

    Ok(&MODEL_TYPES[0])
}

fn write(spec: &CheckedSpec) -> Map<String, Value> {
    let mut values = export::encoder(spec);
    values.extend(object(json!({
        "max_position_embeddings": spec.positions(),
        "type_vocab_size": TOKEN_TYPES,
        "position_embedding_type": "absolute",
        "classifier_dropout": null,
        "add_cross_attention": false,
        "is_decoder": spec.model.attention == Attention::Causal,
        "tie_word_embeddings": is_tied(spec),
    })));

    values
}
