//! The layouts that folders of weights have had, and damaged folders.

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

/// The bits of a case's model if its file has these tensors instead, and the tensors that are
/// unused.
fn read(case: &Case, tensors: Vec<(String, Tensor)>) -> (BTreeMap<String, Vec<u32>>, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), SINGLE, tensors);

    let model = load(&case.spec, folder.path(), Kernels::Fused).expect("every weight");
    let architecture = architecture(&case.spec);
    let weights =
        Weights::open(folder.path(), architecture.as_ref(), &Device::Cpu).expect("opened");

    (bits(&model), weights.unused().to_vec())
}

/// With other names of its tensors, the model is the same and every tensor is used.
fn check_renamed(name: &'static str, rename: impl Fn(&str) -> String) {
    let case = Case::new(name);
    let tensors: Vec<_> =
        case.file().into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
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
            name.replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta")
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
            name.replace(
                &format!("attention.attention.{part}"),
                &format!("attention.{}_proj", &part[..1]),
            )
        })
    });
}

#[test]
fn a_bias_under_the_decoder_is_read() {
    for name in ["bert-causal", "bert-masked"] {
        check_renamed(name, |name| {
            name.replace("cls.predictions.bias", "cls.predictions.decoder.bias")
        });
    }
}

#[test]
fn a_token_table_that_is_there_as_the_output_alone_is_read() {
    check_renamed("gpt2-causal", |name| name.replace("transformer.wte.weight", "lm_head.weight"));
    check_renamed("bert-masked", |name| {
        name.replace("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
    });
}

/// Half-precision numbers are read as f32 numbers of the same value.
#[test]
fn law_types_of_half_the_width_are_read_exactly() {
    for name in ["gpt2-causal", "bert-classes", "vit-classes", "llama-causal"] {
        for dtype in [DType::F16, DType::BF16] {
            let case = Case::new(name);
            let cast = |dtype| {
                move |(name, tensor): (String, Tensor)| {
                    (name, tensor.to_dtype(dtype).expect("a float"))
                }
            };

            let halves: Vec<_> = case.file().into_iter().map(cast(dtype)).collect();
            let rounded: Vec<_> = halves.clone().into_iter().map(cast(DType::F32)).collect();
            let read_halves = read(&case, halves);
            let read_rounded = read(&case, rounded);

            assert_eq!(read_halves, read_rounded, "{name} {dtype:?}");
            assert_ne!(read_halves.0, bits(&case.model(Kernels::Fused)), "{name} {dtype:?} rounds");
        }
    }
}

#[test]
fn weights_in_several_files_are_read() {
    for name in CASES {
        let case = Case::new(name);
        let folder = tempfile::tempdir().expect("a folder");
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

/// Notes name the tensors of other heads. They do not name buffers and copies of tied tensors.
#[test]
fn what_is_not_read_is_named() {
    let extra =
        |name: &str| (name.to_owned(), Tensor::zeros(3, DType::U8, &Device::Cpu).expect("memory"));
    let case = Case::new("gpt2-causal");
    let mut tensors = case.file();
    let table =
        tensors.iter().find(|(name, _)| name == "transformer.wte.weight").expect("there").1.clone();

    tensors.push(("lm_head.weight".to_owned(), table));
    let buffers =
        ["transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias", "h.2.attn.bias"];
    tensors.extend(buffers.map(extra));
    tensors.extend(["score.weight", "transformer.multiple_choice_head.summary.weight"].map(extra));

    let named = ["score.weight", "transformer.multiple_choice_head.summary.weight"]
        .map(str::to_owned)
        .to_vec();
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
    let case = Case::new(name);
    let folder = tempfile::tempdir().expect("a folder");
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

/// It is known in advance whether a file lacks a head.
#[test]
fn a_missing_head_is_known_in_advance() {
    let case = Case::new("gpt2-causal");
    let mut spec = Spec { model: case.spec.model.clone(), ..Spec::default() };
    let holds = |spec: &Spec, name: &str| {
        let architecture = architecture(&spec.check().expect("a model"));
        let weights =
            Weights::open(&case.folder, architecture.as_ref(), &Device::Cpu).expect("opened");
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
        "tensor `model.norm.weight`: expected shape [30], got [31] in FOLDER/model.safetensors"
    );

    assert_eq!(
        replaced(&[1, 30], DType::F32),
        "tensor `model.norm.weight`: expected shape [30], got [1, 30] in FOLDER/model.safetensors"
    );

    assert_eq!(
        replaced(&[30], DType::I64),
        "FOLDER/model.safetensors: tensor `model.norm.weight`: expected F32, F64, F16 or BF16, got I64"
    );
}

#[test]
fn rejects_a_tied_output_that_is_another_table() {
    let message = refusal_after("gpt2-causal", |tensors| {
        let other = Tensor::zeros((37, 20), DType::F32, &Device::Cpu).expect("memory");
        tensors.push(("lm_head.weight".to_owned(), other));
    });

    let expected = "FOLDER: expected `lm_head.weight` to equal `transformer.wte.weight`, as the output is tied, got \
                    another";
    assert_eq!(message, expected);
}

#[test]
fn rejects_tensors_that_the_model_would_compute_with() {
    let extra = |name: &str| {
        let name = name.to_owned();
        move |tensors: &mut Vec<(String, Tensor)>| {
            tensors
                .push((name.clone(), Tensor::zeros(3, DType::F32, &Device::Cpu).expect("memory")));
        }
    };

    let message = |name: &str| {
        format!(
            "FOLDER: expected the weights of the model that its config.json describes, got 1 that such a model does not \
             have: `{name}`"
        )
    };

    for (case, name) in [
        ("gpt2-causal", "transformer.h.3.ln_1.weight"),
        ("gpt2-causal", "h.0.attn.q_norm.weight"),
        ("llama-causal", "model.layers.0.self_attn.q_proj.bias"),
        ("llama-causal", "model.layers.0.self_attn.q_proj.lora_A.weight"),
        ("llama-causal", "vision_tower.weight"),
        ("bert-masked", "bert.encoder.layer.2.output.dense.bias"),
    ] {
        assert_eq!(refusal_after(case, extra(name)), message(name), "{case}");
    }

    let many = refusal_after("gpt2-causal", |tensors| {
        (0..7).for_each(|layer| extra(&format!("transformer.h.{layer}.ln_3.weight"))(tensors));
    });
    assert!(many.ends_with("`transformer.h.4.ln_3.weight` and 2 more"), "{many}");
}

/// A prefix that all names have is removed, and a note says so.
#[test]
fn names_that_are_wrapped_are_read() {
    for wrapper in [
        "_orig_mod.",
        "module.",
        "base_model.model.",
        "module._orig_mod.",
        "base_model.model.module.",
    ] {
        for name in ["gpt2-causal", "bert-classes", "llama-causal"] {
            check_renamed(name, |name| format!("{wrapper}{name}"));
        }

        let case = Case::new("llama-causal");
        let folder = tempfile::tempdir().expect("a folder");
        write(
            folder.path(),
            SINGLE,
            case.file().into_iter().map(|(name, t)| (format!("{wrapper}{name}"), t)),
        );

        let architecture = architecture(&case.spec);
        let weights =
            Weights::open(folder.path(), architecture.as_ref(), &Device::Cpu).expect("opened");
        let note = format!(
            "the names of the weights are read without the `{wrapper}` that all of them have"
        );

        assert_eq!(weights.notes(), [note]);
    }

    // A prefix that only some names have stays, so these are unknown names.
    let half = refusal_after("llama-causal", |tensors| tensors[0].0.insert_str(0, "module."));

    assert!(
        half.contains("got 1 that such a model does not have: `module.lm_head.weight`"),
        "{half}"
    );
}

/// `save_model` of safetensors writes a shared tensor once, and lists its other names in the
/// metadata.
#[test]
fn shared_tensors_that_the_metadata_list_are_read_as_ties() {
    let case = Case::new("gpt2-causal");
    let prefix = |layer: usize| format!("transformer.h.{layer}.");
    let mut kept: HashMap<String, Tensor> = case.file().into_iter().collect();
    let names: Vec<_> = kept.keys().cloned().collect();
    let mut metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);

    for name in &names {
        for layer in [1, 2] {
            if let Some(own) = name.strip_prefix(&prefix(layer)) {
                kept.remove(name);
                metadata.insert(name.clone(), format!("{}{own}", prefix(0)));
            }
        }
    }

    // The token table under the name of the output.
    let table = kept.remove("transformer.wte.weight").expect("there");
    kept.insert("lm_head.weight".to_owned(), table);
    metadata.insert("transformer.wte.weight".to_owned(), "lm_head.weight".to_owned());

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(SINGLE);
    safetensors::serialize_to_file(&kept, Some(metadata), &file).expect("written");

    let architecture = architecture(&case.spec);
    let weights =
        Weights::open(folder.path(), architecture.as_ref(), &Device::Cpu).expect("opened");
    assert_eq!(weights.tied_layers(architecture.as_ref()), [0, 0, 0]);
    assert_eq!(weights.notes(), ["25 of the weights are listed as other names of shared ones"]);

    let model = bits(&load(&case.spec, folder.path(), Kernels::Fused).expect("every weight"));
    let expected = bits(&case.model(Kernels::Fused));

    for (name, bits) in &model {
        let own = name.strip_prefix(&prefix(1)).or(name.strip_prefix(&prefix(2)));
        let name = own.map_or_else(|| name.clone(), |own| format!("{}{own}", prefix(0)));
        assert_eq!(*bits, expected[&name], "{name}");
    }

    let apart = Weights::open(&case.folder, architecture.as_ref(), &Device::Cpu).expect("opened");
    assert_eq!(apart.tied_layers(architecture.as_ref()), [0, 1, 2]);
}

/// F64 becomes the nearest f32.
#[test]
fn law_types_of_twice_the_width_are_rounded_to_the_nearest() {
    let case = Case::new("llama-tied");
    let bits_of = |change: fn(f64) -> f64| {
        let widened = |(name, tensor): (String, Tensor)| {
            let wide = tensor
                .to_dtype(DType::F64)
                .and_then(|tensor| tensor.flatten_all())
                .expect("memory");
            let wide: Vec<_> =
                wide.to_vec1::<f64>().expect("f64").into_iter().map(change).collect();
            (name, Tensor::from_vec(wide, tensor.dims(), &Device::Cpu).expect("memory"))
        };

        read(&case, case.file().into_iter().map(widened).collect())
    };

    let expected = bits(&case.model(Kernels::Fused));
    assert_eq!(bits_of(|x| x).0, expected);

    // A third of an f32 step away.
    assert_eq!(bits_of(|x| x * (1.0 + f64::from(f32::EPSILON) / 6.0)).0, expected);
    assert_ne!(bits_of(|x| x * (1.0 + f64::from(f32::EPSILON))).0, expected);

    let refused = refusal_after("llama-tied", |tensors| {
        let (_, tensor) =
            tensors.iter_mut().find(|(name, _)| name == "model.norm.weight").expect("there");
        *tensor = Tensor::full(-1e39_f64, 30, &Device::Cpu).expect("memory");
    });

    let expected = "FOLDER/model.safetensors: tensor `model.norm.weight`: expected numbers within the range of f32, got \
                    -1e39 as number 0";
    assert_eq!(refused, expected);
}

#[test]
fn rejects_folders_without_weights() {
    let case = Case::new("gpt2-causal");
    let folder = tempfile::tempdir().expect("a folder");
    let expected = format!(
        "{}: expected {SINGLE}, {INDEX}, pytorch_model.bin or pytorch_model.bin.index.json, got none of them",
        folder.path().display()
    );

    assert_eq!(refusal(&case, folder.path()), expected);
}

#[test]
fn rejects_adapters_by_name() {
    let case = Case::new("gpt2-causal");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), SINGLE, case.file());
    std::fs::write(folder.path().join("adapter_config.json"), "{}").expect("written");

    let refused = refusal(&case, folder.path());
    assert!(
        refused.contains("expected the weights of a model, got adapter_config.json: merge"),
        "{refused}"
    );
}

#[test]
fn rejects_damaged_files() {
    let case = Case::new("gpt2-causal");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(SINGLE);
    let whole = std::fs::read(case.folder.join(SINGLE)).expect("the fixture is there");

    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        let message = refusal(&case, folder.path());
        let prefix = format!("{}: ", path.display());

        message.strip_prefix(&prefix).unwrap_or_else(|| panic!("{message}")).to_owned()
    };

    assert!(refused(&[]).starts_with("expected weights, got an empty file"));
    assert_eq!(refused(&whole[..7]), "not a safetensors file: expected at least 8 bytes, got 7");
    assert!(refused(&whole[..100]).contains("its header claims "));
    assert!(refused(&whole[..whole.len() - 1]).starts_with("expected "));
    assert!(refused(&[&whole[..], b"x"].concat()).contains(" bytes of tensors, got "));

    let mut huge = whole.clone();
    huge[..8].fill(0xff);
    assert!(refused(&huge).contains("its header claims 18446744073709551615 bytes"));

    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    assert!(refused(&header("{")).contains("EOF"));

    let overflowing =
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}"#;
    assert!(
        refused(&[header(overflowing), vec![0; 4]].concat()).contains("cannot be at bytes 0 to 4")
    );

    let backwards = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#;
    assert!(
        refused(&[header(backwards), vec![0; 4]].concat()).contains("cannot be at bytes 4 to 0")
    );

    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert!(refused(&[header(twice), vec![0; 4]].concat()).contains("`a` is there twice"));
}

/// The error for a file that is no file of weights says what it is and what to do.
#[test]
fn rejects_files_in_the_place_of_weights() {
    let case = Case::new("gpt2-causal");
    let folder = tempfile::tempdir().expect("a folder");

    for file in [SINGLE, "pytorch_model.bin"] {
        let path = folder.path().join(file);
        for (content, word) in [
            (
                "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
                "a Git LFS pointer",
            ),
            ("<!DOCTYPE html><html>", "a web page"),
            ("", "an empty file"),
        ] {
            std::fs::write(&path, content).expect("written");
            let message = refusal(&case, folder.path());
            assert!(
                message.starts_with(&path.display().to_string()) && message.contains(word),
                "{message}"
            );
        }

        std::fs::remove_file(path).expect("there");
    }
}

#[test]
fn rejects_an_index_that_leads_elsewhere() {
    let case = Case::new("gpt2-causal");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "a.safetensors", [case.file().swap_remove(0)]);

    let path = folder.path().join(INDEX);
    let refused = |content: &str| {
        std::fs::write(&path, content).expect("written");
        refusal(&case, folder.path())
    };

    let named = |file: &str| refused(&json!({"weight_map": {"a": file}}).to_string());
    for outside in
        ["../a.safetensors", "/etc/passwd", "..", ".", "", "deep/a.safetensors", "a/../../b"]
    {
        let expected = "`weight_map.a`: expected the name of a file in the same folder";
        assert_eq!(named(outside), format!("{}: {expected}, got \"{outside}\"", path.display()));
    }

    let expected = format!("expected tensor `a`, as {INDEX} says, got none of that name");
    assert_eq!(
        named("a.safetensors"),
        format!("{}: {expected}", folder.path().join("a.safetensors").display())
    );

    let missing =
        "expected the files that it names in its folder, got none called `absent.safetensors`";
    assert!(named("absent.safetensors").contains(missing), "{}", named("absent.safetensors"));
    assert!(refused("{}").ends_with("`weight_map`: expected an object, got nothing"));
    assert!(refused(r#"{"weight_map": 3}"#).ends_with("`weight_map`: expected an object, got 3"));
    assert!(
        refused(r#"{"weight_map": {"a": 3}}"#).ends_with("`weight_map.a`: expected a word, got 3")
    );
    assert!(refused("[]").ends_with("expected a JSON object"));
    assert!(refused("{").contains("not JSON"));
}
