//! Folders in Hugging Face's layout as other programs write them: with other names, other files and
//! other configs.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};

use crate::models::{Kind, loss, place, train};
use crate::workplace::{Said, Workplace};

/// The tensors of a safetensors file: for each its entry in the header, without the offsets, and
/// its bytes.
type Tensors = BTreeMap<String, (Value, Vec<u8>)>;

fn tensors(place: &Workplace, file: &str) -> Tensors {
    let bytes = fs::read(place.path(file)).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];

    let tensor = |(name, mut entry): (String, Value)| {
        let at = |end: usize| entry["data_offsets"][end].as_u64().unwrap() as usize;
        let bytes = data[at(0)..at(1)].to_vec();
        entry.as_object_mut().unwrap().remove("data_offsets");
        (name, (entry, bytes))
    };

    header.into_iter().filter(|(name, _)| name != "__metadata__").map(tensor).collect()
}

fn write(place: &Workplace, file: &str, tensors: &Tensors, metadata: &BTreeMap<String, String>) {
    let mut header = Map::new();
    let mut data = Vec::new();
    header.insert("__metadata__".to_owned(), json!(metadata));

    for (name, (entry, bytes)) in tensors {
        let mut entry = entry.clone();
        entry["data_offsets"] = json!([data.len(), data.len() + bytes.len()]);
        header.insert(name.clone(), entry);
        data.extend_from_slice(bytes);
    }

    let header = Value::Object(header).to_string();
    place.write(file, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat());
}

/// A trained model of this kind, exported into a folder `out`.
fn exported(kind: Kind, more: &[&str]) -> Workplace {
    let place = place();
    train(&place, kind, "run", more);
    place.dlt(&["export", "run", "--format", "hf", "--out", "out"]).ok();
    place
}

fn change_config(place: &Workplace, changes: &[(&str, Value)]) {
    let mut config = place.json("out/config.json");
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    place.write("out/config.json", config.to_string());
}

fn import(place: &Workplace, out: &str) -> Said {
    place.dlt(&["import", "out", "--out", out])
}

#[test]
fn names_that_a_compiler_wrapped_are_read_and_said() {
    let place = exported(Kind::Llama, &[]);
    let expected = loss(&place, "run");
    let file = "out/model.safetensors";
    let plain = tensors(&place, file);

    for wrapper in ["_orig_mod.", "base_model.model._orig_mod."] {
        let wrapped =
            plain.iter().map(|(name, tensor)| (format!("{wrapper}{name}"), tensor.clone()));
        write(&place, file, &wrapped.collect(), &BTreeMap::new());

        let back = format!("back-{}", wrapper.len());
        let said = import(&place, &back).ok();
        assert!(
            said.err.contains(&format!("without the `{wrapper}` that all of them have")),
            "{said:?}"
        );
        assert_eq!(loss(&place, &back), expected, "{wrapper}");
    }
}

/// A shared tensor is in the file once, and the metadata list its other names. The layers are tied,
/// and stay tied.
#[test]
fn shared_tensors_of_the_metadata_are_tied_layers() {
    let place =
        exported(Kind::Gpt2, &["--set", "tying.initial=[0,0,2,0]", "--set", "agent.policy=none"]);
    let expected = loss(&place, "run");
    let file = "out/model.safetensors";
    let mut kept = tensors(&place, file);
    let mut aliases = BTreeMap::new();

    for name in kept.keys().cloned().collect::<Vec<_>>() {
        for layer in ["transformer.h.1.", "transformer.h.3."] {
            if let Some(own) = name.strip_prefix(layer) {
                kept.remove(&name);
                aliases.insert(name.clone(), format!("transformer.h.0.{own}"));
            }
        }
    }

    write(&place, file, &kept, &aliases);
    let said = import(&place, "back").ok();
    assert!(said.out.contains("tied layers found (the owner of each layer): 0 0 2 0"), "{said:?}");
    assert!(
        said.err.contains("24 of the weights are listed as other names of shared ones"),
        "{said:?}"
    );
    assert_eq!(loss(&place, "back"), expected);

    let map = place.dlt(&["inspect", "back"]).ok().out;
    assert!(map.contains("0 0 2 0"), "{map}");

    // Fine-tuning keeps the tying of the file.
    let tune = [
        "finetune",
        "out",
        "--task",
        "glue/sst2",
        "--data",
        "SST",
        "--steps",
        "2",
        "--threads",
        "1",
        "--quiet",
    ];
    place.dlt(&[&tune[..], &["--out", "tuned", "--set", "training.batch=16"]].concat()).ok();

    assert!(
        place.read("tuned/spec.toml").contains("initial = [0, 0, 2, 0]"),
        "{}",
        place.read("tuned/spec.toml")
    );
}

#[test]
fn what_only_training_reads_does_not_stop_an_import() {
    let place = exported(Kind::Gpt2, &[]);
    let expected = loss(&place, "run");
    change_config(
        &place,
        &[
            ("embd_pdrop", json!(0.0)),
            ("attn_pdrop", json!(0.3)),
            ("use_cache", json!(false)),
            ("layerdrop", json!(0.1)),
        ],
    );

    let said = import(&place, "back").ok();
    assert!(
        said.err.contains("`embd_pdrop` is 0: training here drops with 0.1 everywhere"),
        "{said:?}"
    );
    assert_eq!(loss(&place, "back"), expected);
    change_config(&place, &[("logit_scale", json!(0.5))]);

    let said = import(&place, "other");

    assert!(
        said.code == Some(4) && said.err.contains("`logit_scale`: expected no such key"),
        "{said:?}"
    );
}

/// Each variant of a Llama is trained, exported, imported and exported again unchanged.
#[test]
fn law_every_kind_of_llama_comes_back_bit_for_bit() {
    for (sets, kind, key) in [
        (
            &["model.attention_bias=all", "model.feed_forward_bias=all", "model.head_width=6"][..],
            "llama",
            "mlp_bias",
        ),
        (&["model.attention_bias=inputs"], "qwen2", "max_window_layers"),
        (&["model.attention_window=24"], "mistral", "sliding_window"),
        (
            &[
                "model.rotary_kind=yarn",
                "model.rotary_attention=1.2",
                "model.rotary_stretch=[4,1,8,16]",
            ],
            "llama",
            "rope_scaling",
        ),
        (
            &["model.rotary_kind=dynamic", "model.rotary_stretch=[2,1,4,16]"],
            "llama",
            "rope_scaling",
        ),
        (
            &[
                "model.rotary_kind=longrope",
                "model.rotary_short=[1,2]",
                "model.rotary_long=[3,4]",
                "model.rotary_stretch=[2,1,4,16]",
            ],
            "llama",
            "rope_scaling",
        ),
    ] {
        let sets: Vec<_> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let place = exported(Kind::Llama, &sets);
        let config = place.json("out/config.json");

        assert_eq!(config["model_type"], kind, "{sets:?}");
        assert!(!config[key].is_null(), "{config}");
        import(&place, "back").ok();
        assert_eq!(loss(&place, "back"), loss(&place, "run"), "{sets:?}");
        place.dlt(&["export", "back", "--format", "hf", "--out", "again"]).ok();

        for file in ["config.json", "model.safetensors"] {
            let [first, again] = ["out", "again"]
                .map(|folder| fs::read(place.path(&format!("{folder}/{file}"))).unwrap());
            assert!(first == again, "{sets:?} {file}");
        }

        let memory = place.dlt(&["inspect", "--memory", "run/spec.toml"]).ok().out;
        assert!(memory.contains("MB"), "{memory}");
    }
}

#[test]
fn rejects_folders_that_are_not_whole() {
    let place = exported(Kind::Gpt2, &[]);
    let file = "out/model.safetensors";
    let whole = tensors(&place, file);
    let refused = |word: &str| {
        let said = import(&place, "new");
        assert!(said.code == Some(4) && said.err.contains(word), "{word} in {said:?}");
        assert!(!place.path("new").exists(), "{word}");
    };

    let mut more = whole.clone();
    more.insert(
        "transformer.h.4.ln_1.weight".to_owned(),
        whole["transformer.h.0.ln_1.weight"].clone(),
    );
    write(&place, file, &more, &BTreeMap::new());
    refused("`transformer.h.4.ln_1.weight`");

    let mut fewer = whole.clone();
    fewer.remove("transformer.h.2.ln_1.weight");
    write(&place, file, &fewer, &BTreeMap::new());
    refused("tensor `transformer.h.2.ln_1.weight`");
    fs::remove_file(place.path(file)).unwrap();

    let shard = "model-00001-of-00001.safetensors";
    let map: Map<String, Value> = whole.keys().map(|name| (name.clone(), json!(shard))).collect();
    place.write("out/model.safetensors.index.json", json!({"weight_map": map}).to_string());
    refused(shard);
    write(&place, &format!("out/{shard}"), &whole, &BTreeMap::new());
    import(&place, "read").ok();
    place.write("out/adapter_config.json", "{}");
    refused("merge_and_unload");
}
