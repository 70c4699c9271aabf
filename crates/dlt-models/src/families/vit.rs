//! The vision transformer: pre-norm blocks over a class token and the patches of a picture.

use std::sync::Arc;

use dlt_kernels::{Gelu, Mask};
use dlt_spec::CheckedSpec;
use dlt_spec::size::CHANNELS;
use dlt_spec::spec::{Attention, ModelSpec, Objective};
use serde_json::{Map, Value, json};

use super::Family;
use crate::Result;
use crate::architecture::{Architecture, Form, ONE, Projection, StemInput, ZERO, entry, gelu};
use crate::division::{BlockParts, Half};
use crate::graph::{Graph, Node};
use crate::huggingface::FileNames;
use crate::huggingface::config::{self, HeadKind, ModelType};
use crate::huggingface::export::{self, object};
use crate::huggingface::settings::Settings;
use crate::parameters::Layout;

/// The vision transformer among the families.
pub(super) static FAMILY: Family = Family {
    of_spec: |spec, form, _| {
        let ModelSpec { picture, patch, .. } = spec.model;
        Arc::new(Vit { form, picture, patch, gelu: gelu(spec) })
    },
    model_types: &MODEL_TYPES,
    ties_output: true,
    task: |_, _| Ok((Objective::Classes, Attention::Full)),
    model_type: |_| Ok(&MODEL_TYPES[0]),
};

static MODEL_TYPES: [ModelType; 1] = [ModelType {
    word: "vit",
    classes: &[("ViTModel", HeadKind::None), ("ViTForImageClassification", HeadKind::Classes)],
    read,
    write,
}];

/// Sizes and settings of a vision transformer, which predicts classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Vit {
    /// What every family has.
    pub form: Form,
    /// Width and height of a picture, S.
    pub picture: usize,
    /// Width and height of a patch, P.
    pub patch: usize,
    /// Activation of the feed-forward layer.
    pub gelu: Gelu,
}

const CLASSES: [&str; 2] = ["classifier.weight", "classifier.bias"];
const CLASS_TOKEN: &str = "embeddings.cls_token";
const POSITIONS: &str = "embeddings.position_embeddings";
const PATCHES: [&str; 2] = [
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.projection.bias",
];

const PARTS: BlockParts = BlockParts {
    feed_forward: &["layernorm_after.", "intermediate.", "output."],
    norms: &["layernorm_before.", "layernorm_after."],
};

/// The parameters that end the two residual branches.
const BRANCH_ENDS: [&str; 4] = [
    "attention.output.dense.weight",
    "attention.output.dense.bias",
    "output.dense.weight",
    "output.dense.bias",
];

impl Architecture for Vit {
    fn form(&self) -> &Form {
        &self.form
    }

    fn shared_layout(&self) -> Layout {
        let c = self.form.width;
        let normal = self.form.normal();
        let classes = self.form.head.classes;
        let patch = CHANNELS * self.patch * self.patch;

        Layout::new(vec![
            entry(CLASS_TOKEN, &[c], normal),
            entry(POSITIONS, &[self.max_tokens(), c], normal),
            entry(PATCHES[0], &[c, patch], normal),
            entry(PATCHES[1], &[c], ZERO),
            entry("layernorm.weight", &[c], ONE),
            entry("layernorm.bias", &[c], ZERO),
            entry(CLASSES[0], &[classes, c], normal),
            entry(CLASSES[1], &[classes], ZERO),
        ])
    }

    fn block_layout(&self) -> Layout {
        let c = self.form.width;
        let f = self.form.feed_forward;
        let normal = self.form.normal();

        Layout::new(vec![
            entry("layernorm_before.weight", &[c], ONE),
            entry("layernorm_before.bias", &[c], ZERO),
            entry("attention.attention.qkv.weight", &[3 * c, c], normal),
            entry("attention.attention.qkv.bias", &[3 * c], ZERO),
            entry("attention.output.dense.weight", &[c, c], normal),
            entry("attention.output.dense.bias", &[c], ZERO),
            entry("layernorm_after.weight", &[c], ONE),
            entry("layernorm_after.bias", &[c], ZERO),
            entry("intermediate.dense.weight", &[f, c], normal),
            entry("intermediate.dense.bias", &[f], ZERO),
            entry("output.dense.weight", &[c, f], normal),
            entry("output.dense.bias", &[c], ZERO),
        ])
    }

    fn block_parts(&self) -> BlockParts {
        PARTS
    }

    fn stem_input(&self) -> StemInput {
        StemInput::Pictures { side: self.picture, patch: self.patch }
    }

    fn output(&self) -> Projection {
        Projection {
            table: CLASSES[0],
            bias: Some(CLASSES[1]),
            rows: self.form.head.told_classes(),
        }
    }

    fn own_head(&self) -> &'static [&'static str] {
        &CLASSES
    }

    fn branch_ends(&self) -> &'static [&'static str] {
        &BRANCH_ENDS
    }

    fn block_prefix(&self, layer: usize) -> String {
        format!("vit.encoder.layer.{layer}.")
    }

    fn shared_prefix(&self) -> &'static str {
        "vit."
    }

    fn max_tokens(&self) -> usize {
        (self.picture / self.patch).pow(2) + 1
    }

    fn embed(&self, graph: &mut Graph, patches: Node) -> Result<Node> {
        // (B, N, 3 P P) -> (B, N, C) -> (B, N + 1, C)
        let x = graph.linear(patches, PATCHES[0], PATCHES[1])?;
        let x = graph.prepend(x, CLASS_TOKEN)?;
        let x = graph.add_rows(x, POSITIONS)?;
        Ok(graph.dropout(x))
    }

    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let Form { heads, norm_epsilon, .. } = self.form;

        // Attention: (B, T, C) -> (B, T, 3 C) -> (B, T, C)
        let normed = graph.layer_norm(
            x,
            "layernorm_before.weight",
            "layernorm_before.bias",
            norm_epsilon,
        )?;

        let weight = "attention.attention.qkv.weight";
        let bias = "attention.attention.qkv.bias";
        let qkv = graph.linear(normed, weight, bias)?;
        let mixed = graph.attention(qkv, [heads, heads], Mask::Full);
        let attended =
            graph.linear(mixed, "attention.output.dense.weight", "attention.output.dense.bias")?;
        let attended = graph.dropout(attended);
        let x = graph.add_branch(x, attended, Half::Attention)?;

        // Feed-forward: (B, T, C) -> (B, T, F) -> (B, T, C)
        let normed =
            graph.layer_norm(x, "layernorm_after.weight", "layernorm_after.bias", norm_epsilon)?;
        let weight = "intermediate.dense.weight";
        let bias = "intermediate.dense.bias";
        let expanded = graph.linear_gelu(normed, weight, bias, self.gelu)?;
        let projected = graph.linear(expanded, "output.dense.weight", "output.dense.bias")?;
        let projected = graph.dropout(projected);

        graph.add_branch(x, projected, Half::FeedForward)
    }

    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let x = graph.pick(x);
        let x =
            graph.layer_norm(x, "layernorm.weight", "layernorm.bias", self.form.norm_epsilon)?;
        Ok(graph.average(x))
    }
}

impl FileNames for Vit {
    fn packed(&self) -> &'static [(&'static str, &'static [&'static str])] {
        const PARTS: [&str; 3] =
            ["attention.attention.query", "attention.attention.key", "attention.attention.value"];
        &[("attention.attention.qkv", &PARTS)]
    }

    fn file_shape(&self, name: &str, shape: &[usize]) -> Vec<usize> {
        if name.ends_with(PATCHES[0]) {
            // (C, 3 P P) -> (C, 3, P, P)
            return vec![shape[0], CHANNELS, self.patch, self.patch];
        }

        // (C) -> (1, 1, C), and (T, C) -> (1, T, C)
        let leading = match name {
            name if name.ends_with(CLASS_TOKEN) => 2,
            name if name.ends_with(POSITIONS) => 1,
            _ => 0,
        };

        [&vec![1; leading], shape].concat()
    }

    /// The name that a tensor of a layer has in a running model of transformers 5.
    fn second_name(&self, name: &str) -> Option<String> {
        const RUNNING: [(&str, &str); 6] = [
            ("attention.attention.query", "attention.q_proj"),
            ("attention.attention.key", "attention.k_proj"),
            ("attention.attention.value", "attention.v_proj"),
            ("attention.output.dense", "attention.o_proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
        ];

        let (layer, own) = name.strip_prefix("vit.encoder.layer.")?.split_once('.')?;
        let (stem, kind) = own.rsplit_once('.')?;
        let running = RUNNING.iter().find(|(file, _)| *file == stem);
        let stem = running.map_or(stem, |(_, running)| running);

        Some(format!("vit.layers.{layer}.{stem}.{kind}"))
    }

    /// No head reads the pooler, so it is not worth a note.
    fn is_idle(&self, own: &str) -> bool {
        own.starts_with("pooler.")
    }
}

fn read(settings: &Settings<'_>, default: ModelSpec) -> Result<ModelSpec> {
    settings.must_be("num_channels", &json!(CHANNELS))?;
    settings.must_be("qkv_bias", &json!(true))?;

    let picture = side(settings, "image_size", 224)?;
    let patch = side(settings, "patch_size", 16)?;
    if patch == 0 || !picture.is_multiple_of(patch) {
        let expected = format!("a divisor of `image_size` = {picture}");
        return Err(settings.refuse("patch_size", &expected, &patch.to_string()));
    }

    Ok(ModelSpec { picture, patch, ..config::encoder(settings, default, 0.0)? })
}

/// Width and height of a square: one number, or two equal ones.
fn side(settings: &Settings<'_>, key: &str, default: usize) -> Result<usize> {
    match settings.given(key) {
        Some(Value::Array(sides)) => match sides.as_slice() {
            [height, width] if height == width && height.is_u64() => {
                Ok(height.as_u64().and_then(|side| usize::try_from(side).ok()).unwrap_or_default())
            }
            _ => Err(settings.refuse(key, "a square", &Value::Array(sides.clone()).to_string())),
        },
        _ => settings.whole(key, default),
    }
}

fn write(spec: &CheckedSpec) -> Map<String, Value> {
    let mut values = export::encoder(spec);
    values.extend(object(json!({
        "image_size": spec.model.picture,
        "patch_size": spec.model.patch,
        "num_channels": CHANNELS,
        "qkv_bias": true,
    })));

    values
}
