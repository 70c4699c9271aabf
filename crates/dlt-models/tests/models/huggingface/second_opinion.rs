//! The same forward passes in candle-transformers.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, vit};
use dlt_kernels::Kernels;
use dlt_models::Batch;
use dlt_models::batch::Wanted;

use super::cases::Case;
use super::{LOGITS, largest};
use crate::fixtures::{distance, json};

fn variables(case: &Case) -> VarBuilder<'static> {
    let bytes = std::fs::read(case.folder.join("model.safetensors")).expect("the fixture is there");
    VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).expect("safetensors")
}

fn check(case: &Case, theirs: &Tensor) {
    let batch =
        Batch { input: case.input(), wanted: Wanted::Classes(&case.labels), windows: case.windows };
    let ours = case.model(Kernels::Fused).scores(&batch).expect("scores");
    let apart = distance(&ours, theirs);
    let size = largest(theirs);

    assert!(apart <= LOGITS * size, "{}: {apart:e} apart at {size}", case.name);
}

/// candle-transformers has only the encoder, so the head is computed here: two products.
#[test]
fn matches_reference_bert_of_candle_transformers() {
    let case = Case::new("bert-classes");
    let config =
        serde_json::from_value(json("huggingface/bert-classes/config.json")).expect("its config");
    let variables = variables(&case);
    let model = bert::BertModel::load(variables.clone(), &config).expect("its weights");
    let [ids, types, mask] =
        ["input_ids", "token_type_ids", "attention_mask"].map(|name| case.oracle(name));

    let hidden = model.forward(&ids, &types, Some(&mask)).expect("a pass");
    let first = hidden.narrow(1, 0, 1).and_then(|first| first.squeeze(1)).expect("a first token");
    let dense = |x: &Tensor, name: &str, rows| {
        let weight = variables.get((rows, 24), &format!("{name}.weight")).expect("a weight");
        let bias = variables.get(rows, &format!("{name}.bias")).expect("a bias");
        x.matmul(&weight.t().expect("a matrix"))
            .and_then(|y| y.broadcast_add(&bias))
            .expect("a product")
    };

    let first = first.contiguous().expect("memory");
    let pooled = dense(&first, "bert.pooler.dense", 24).tanh().expect("memory");
    check(&case, &dense(&pooled, "classifier", 2));
}

#[test]
fn matches_reference_vit_of_candle_transformers() {
    let case = Case::new("vit-classes");
    let config = json("huggingface/vit-classes/config.json");
    let config: vit::Config = serde_json::from_value(config).expect("its config");
    let model = vit::Model::new(&config, 5, variables(&case)).expect("its weights");
    check(&case, &model.forward(&case.oracle("pixel_values")).expect("a pass"));
}
