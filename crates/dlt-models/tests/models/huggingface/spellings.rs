//! The layouts that folders of weights have had, and damaged ones.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dlt_kernels::Kernels;
use dlt_models::huggingface::Weights;
use dlt_spec::Spec;
use dlt_spec::spec::Output;
use serde_json::json;

use super::bits;
use super::cases::{CASES, Case, architecture, load};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn write(folder: &Path, name: &str, tensors: impl IntoIterator<Item = (String, Tensor)>) {
    let tensors: HashMap<_, _> = tensors.into_iter().collect();
    candle_core::safetensors::save(&tensors, folder.join(name)).expect("written");
}

/// The bits of a case's model when its file has these tensors instead, and what is unused of them.
fn read(case: &Case, tensors: Vec<(String, Tensor)>) -> (BTreeMap<String, Vec<u32>>, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), SINGLE, tensors);
    let model = load(&case.spec, folder.path(), Kernels::Fused).expect("every weight");
    let architecture = architecture(&case.spec);
    let weights = Weights::open(folder.path(), architecture.as_ref(), &Device::Cpu).expect("opened");
    (bits(&model), weights.unused().to_vec())
}

/// Whatever each tensor is called, the model is the same and every tensor is used.
fn check_renamed(name: &'static str, rename: impl Fn(&str) -> String) {
    let case = Case::new(name);
    let tensors: Vec<_> = case.file().into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
    let is_renamed = tensors.iter().zip(case.file()).any(|((new, _), (old, _))| *new != old);
    assert!(is_renamed, "{name}: the test renames something");
    assert_eq!(read(&case, tensors), (bits(&case.model(Kernels::Fused)), Vec::new()), "{name}");
}

#[test]
fn names_without_the_prefix_of_the_model_are_read() {
    for name in CASES {
        check_renamed(name, |name| {
            let prefixes = ["transformer.", "bert.", "vit.", "model."];
            prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned()
        });
    }
}

#[test]
fn norms_called_gamma_and_beta_are_read() {
    for name in ["bert-causal", "bert-masked", "bert-classes"] {
        check_renamed(name, |name| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        });
    }
}

#[test]
fn names_of_a_running_vit_are_read() {
    check_renamed("vit-classes", |name| {
        let name = name.replace("vit.encoder.layer.", "vit.layers.");
        let name = name.replace("attention.output.dense", "attention.o_proj");
        let name = name.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2");
        ["query", "key", "value"].iter().fold(name, |name, part| {
            name.replace(&format!("attention.attention.{part}"), &format!("attention.{}_proj", &part[..1]))
        })
    });
}

#[test]
fn a_bias_under_the_decoder_is_read() {
    for name in ["bert-causal", "bert-masked"] {
        check_renamed(name, |name| name.replace("cls.predictions.bias", "cls.predictions.decoder.bias"));
    }
}

#[test]
fn a_token_table_that_is_there_as_the_output_alone_is_read() {
    check_renamed("gpt2-causal", |name| name.replace("transformer.wte.weight", "lm_head.weight"));
    check_renamed("bert-masked", |name| {
        name.replace("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
    });
}

/// Half precision is read as the f32 of the same value.
#[test]
fn law_types_of_half_the_width_are_read_exactly() {
    for name in ["gpt2-causal", "bert-classes", "vit-classes", "llama-causal"] {
        for dtype in [DType::F16, DType::BF16] {
            let case = Case::new(name);
            let cast = |dtype| {
                move |(name, tensor): (String, Tensor)| (name, tensor.to_dtype(dtype).expect("a float"))
            };
            let halves: Vec<_> = case.file().into_iter().map(cast(dtype)).collect();
            let rounded: Vec<_> = halves.clone().into_iter().map(cast(DType::F32)).collect();
            let (read_halves, read_rounded) = (read(&case, halves), read(&case, rounded));
            assert_eq!(read_halves, read_rounded, "{name} {dtype:?}");
            assert_ne!(read_halves.0, bits(&case.model(Kernels::Fused)), "{name} {dtype:?} rounds");
        }
    }
}

#[test]
fn weights_in_several_files_are_read() {
    for name in CASES {
        let (case, folder) = (Case::new(name), tempfile::tempdir().expect("a folder"));
        let mut map = serde_json::Map::new();
        let mut shards = vec![Vec::new(); 3];
        for (number, (name, tensor)) in case.file().into_iter().enumerate() {
            let shard = number % 3;
            map.insert(name.clone(), json!(format!("model-{shard}.safetensors")));
            shards[shard].push((name, tensor));
        }
        for (number, shard) in shards.into_iter().enumerate() {
            write(folder.path(), &format!("model-{number}.safetensors"), shard);
        }
        let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
        std::fs::write(folder.path().join(INDEX), index.to_string()).expect("written");
        let model = load(&case.spec, folder.path(), Kernels::Fused).expect("every weight");
        assert_eq!(bits(&model), bits(&case.model(Kernels::Fused)), "{name}");
    }
}

/// Copies of what is tied, and buffers, are no news; everything else that is not read is named.
#[test]
fn what_is_not_read_is_named() {
    let extra = |name: &str| (name.to_owned(), Tensor::zeros(3, DType::U8, &Device::Cpu).expect("memory"));
    let case = Case::new("gpt2-causal");
    let mut tensors = case.file();
    let table = tensors.iter().find(|(name, _)| name == "transformer.wte.weight").expect("there").1.clone();
    tensors.push(("lm_head.weight".to_owned(), table));
    let buffers = ["transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias", "h.2.attn.bias"];
    tensors.extend(buffers.map(extra));
    tensors.push(extra("transformer.h.3.ln_1.weight"));
    tensors.push(extra("score.weight"));
    let named = ["score.weight", "transformer.h.3.ln_1.weight"].map(str::to_owned).to_vec();
    assert_eq!(read(&case, tensors), (bits(&case.model(Kernels::Fused)), named));

    let case = Case::new("bert-masked");
    let mut tensors = case.file();
    tensors.extend(["bert.embeddings.position_ids", "bert.pooler.dense.weight"].map(extra));
    assert_eq!(read(&case, tensors).1, ["bert.pooler.dense.weight"]);
    let case = Case::new("vit-classes");
    let mut tensors = case.file();
    tensors.push(extra("vit.pooler.dense.weight"));
    assert_eq!(read(&case, tensors).1, Vec::<String>::new());
}

fn refusal(case: &Case, folder: &Path) -> String {
    load(&case.spec, folder, Kernels::Fused).map(|_| ()).expect_err("refused").to_string()
}

/// The refusal of a case's tensors after a change.
fn refusal_after(name: &'static str, change: impl Fn(&mut Vec<(String, Tensor)>)) -> String {
    let (case, folder) = (Case::new(name), tempfile::tempdir().expect("a folder"));
    let mut tensors = case.file();
    change(&mut tensors);
    write(folder.path(), SINGLE, tensors);
    let message = refusal(&case, folder.path());
    message.replace(&format!("{}", folder.path().display()), "FOLDER")
}

#[test]
fn rejects_tensors_that_are_missing_by_the_name_in_the_file() {
    let without = |case, gone: &'static str| {
        refusal_after(case, move |tensors| tensors.retain(|(name, _)| name != gone))
    };
    assert_eq!(
        without("llama-causal", "lm_head.weight"),
        "tensor `lm_head.weight`: expected shape [43, 24], it is missing in FOLDER"
    );
    assert_eq!(
        without("llama-causal", "model.layers.2.self_attn.k_proj.weight"),
        "tensor `model.layers.2.self_attn.k_proj.weight`: expected shape [8, 24], it is missing in FOLDER"
    );
    assert_eq!(
        without("gpt2-causal", "transformer.h.1.mlp.c_fc.weight"),
        "tensor `transformer.h.1.mlp.c_fc.weight`: expected shape [20, 80], it is missing in FOLDER"
    );
    assert_eq!(
        without("vit-classes", "vit.embeddings.cls_token"),
        "tensor `vit.embeddings.cls_token`: expected shape [1, 1, 20], it is missing in FOLDER"
    );
}

/// A head that a file lacks can be told beforehand.
#[test]
fn a_missing_head_is_told() {
    let case = Case::new("gpt2-causal");
    let mut spec = Spec { model: case.spec.model.clone(), ..Spec::default() };
    let holds = |spec: &Spec, name: &str| {
        let architecture = architecture(&spec.check().expect("a model"));
        let weights = Weights::open(&case.folder, architecture.as_ref(), &Device::Cpu).expect("opened");
        weights.holds(name)
    };
    assert!(holds(&spec, "transformer.wte.weight"));
    assert!(!holds(&spec, "transformer.lm_head.weight"), "the model has none");
    spec.model.output = Output::Own;
    assert!(!holds(&spec, "transformer.lm_head.weight"), "the file has none");
}

#[test]
fn rejects_tensors_of_another_shape_or_type() {
    let replaced = |dims: &'static [usize], dtype| {
        refusal_after("llama-tied", move |tensors| {
            let (_, tensor) =
                tensors.iter_mut().find(|(name, _)| name == "model.norm.weight").expect("there");
            *tensor = Tensor::zeros(dims, dtype, &Device::Cpu).expect("memory");
        })
    };
    assert_eq!(
        replaced(&[31], DType::F32),
        "tensor `model.norm.weight`: expected shape [30], came [31] in FOLDER/model.safetensors"
    );
    assert_eq!(
        replaced(&[1, 30], DType::F32),
        "tensor `model.norm.weight`: expected shape [30], came [1, 30] in FOLDER/model.safetensors"
    );
    assert_eq!(
        replaced(&[30], DType::I64),
        "FOLDER/model.safetensors: tensor `model.norm.weight`: expected F32, F16 or BF16, came I64"
    );
}

#[test]
fn rejects_a_tied_output_that_is_another_table() {
    let message = refusal_after("gpt2-causal", |tensors| {
        let other = Tensor::zeros((37, 20), DType::F32, &Device::Cpu).expect("memory");
        tensors.push(("lm_head.weight".to_owned(), other));
    });
    let expected = "FOLDER: expected `lm_head.weight` to equal `transformer.wte.weight`, as the output is tied, came \
                    another";
    assert_eq!(message, expected);
}

#[test]
fn rejects_folders_without_safetensors() {
    let (case, folder) = (Case::new("gpt2-causal"), tempfile::tempdir().expect("a folder"));
    let expected = format!("{}: expected {SINGLE} or {INDEX}, came ", folder.path().display());
    assert_eq!(refusal(&case, folder.path()), format!("{expected}neither"));
    std::fs::write(folder.path().join("pytorch_model.bin"), "x").expect("written");
    assert_eq!(refusal(&case, folder.path()), format!("{expected}pytorch_model.bin"));
}

#[test]
fn rejects_damaged_files() {
    let (case, folder) = (Case::new("gpt2-causal"), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join(SINGLE);
    let whole = std::fs::read(case.folder.join(SINGLE)).expect("the fixture is there");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        let message = refusal(&case, folder.path());
        let prefix = format!("{}: not a safetensors file: ", path.display());
        message.strip_prefix(&prefix).unwrap_or_else(|| panic!("{message}")).to_owned()
    };
    assert_eq!(refused(&[]), "expected at least 8 bytes, came 0");
    assert_eq!(refused(&whole[..7]), "expected at least 8 bytes, came 7");
    assert!(refused(&whole[..100]).starts_with("expected a header of at most 92 bytes, came "));
    assert!(refused(&whole[..whole.len() - 1]).starts_with("expected "));
    assert!(refused(&[&whole[..], b"x"].concat()).contains(" bytes of tensors, came "));
    let mut huge = whole.clone();
    huge[..8].fill(0xff);
    assert!(refused(&huge).starts_with("expected a header of at most "));
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    assert!(refused(&header("{")).contains("EOF"));
    let overflowing = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}"#;
    assert!(refused(&[header(overflowing), vec![0; 4]].concat()).contains("overflow"));
    let backwards = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#;
    assert!(refused(&[header(backwards), vec![0; 4]].concat()).contains("offset"));
}

#[test]
fn rejects_an_index_that_leads_elsewhere() {
    let (case, folder) = (Case::new("gpt2-causal"), tempfile::tempdir().expect("a folder"));
    write(folder.path(), "a.safetensors", [case.file().swap_remove(0)]);
    let path = folder.path().join(INDEX);
    let refused = |content: &str| {
        std::fs::write(&path, content).expect("written");
        refusal(&case, folder.path())
    };
    let named = |file: &str| refused(&json!({"weight_map": {"a": file}}).to_string());
    for outside in ["../a.safetensors", "/etc/passwd", "..", ".", "", "deep/a.safetensors", "a/../../b"] {
        let expected = "`weight_map.a`: expected the name of a file in the same folder";
        assert_eq!(named(outside), format!("{}: {expected}, came \"{outside}\"", path.display()));
    }
    let expected = format!("expected tensor `a`, as {INDEX} says, came none of that name");
    assert_eq!(
        named("a.safetensors"),
        format!("{}: {expected}", folder.path().join("a.safetensors").display())
    );
    assert!(named("absent.safetensors").starts_with("cannot read "));
    assert!(refused("{}").ends_with("`weight_map`: expected an object, came nothing"));
    assert!(refused(r#"{"weight_map": 3}"#).ends_with("`weight_map`: expected an object, came 3"));
    assert!(refused(r#"{"weight_map": {"a": 3}}"#).ends_with("`weight_map.a`: expected a word, came 3"));
    assert!(refused("[]").ends_with("expected a JSON object"));
    assert!(refused("{").contains("not JSON"));
}
