//! BERT: post-norm blocks, learned positions and token types, and a head that transforms hidden
//! states before the output.

use dlt_kernels::{Gelu, Mask};
use dlt_spec::size::TOKEN_TYPES;
use dlt_spec::spec::{Attention, Output};

use crate::Result;
use crate::architecture::{Architecture, Form, ONE, Projection, StemInput, ZERO, entry};
use crate::graph::{Graph, Node};
use crate::parameters::Layout;

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
const CLASSES: [&str; 4] =
    ["pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"];
const TOKENS: [&str; 5] = [
    "cls.predictions.transform.dense.weight",
    "cls.predictions.transform.dense.bias",
    "cls.predictions.transform.LayerNorm.weight",
    "cls.predictions.transform.LayerNorm.bias",
    "cls.predictions.bias",
];
const TOKENS_AND_OUTPUT: [&str; 6] = {
    let [dense, dense_bias, norm, norm_bias, bias] = TOKENS;
    [dense, dense_bias, norm, norm_bias, bias, OWN_OUTPUT]
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
        let x = graph.add_branch(x, attended);

        let weight = "attention.output.LayerNorm.weight";
        let bias = "attention.output.LayerNorm.bias";
        let x = graph.layer_norm(x, weight, bias, norm_epsilon)?;

        // Feed-forward: (B, T, C) -> (B, T, F) -> (B, T, C)
        let weight = "intermediate.dense.weight";
        let bias = "intermediate.dense.bias";
        let expanded = graph.linear_gelu(x, weight, bias, self.gelu)?;
        let projected = graph.linear(expanded, "output.dense.weight", "output.dense.bias")?;
        let projected = graph.dropout(projected);
        let x = graph.add_branch(x, projected);

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
