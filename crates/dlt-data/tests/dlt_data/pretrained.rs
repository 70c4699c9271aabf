//! Models of the hub, against its stand-in.

use dlt_data::{HubConfig, Patience, fetch_model};
use dlt_hub_stand_in::{Fault, Repository, RequestKind, StandIn};
use std::time::Duration;
use tempfile::TempDir;

struct World {
    hub: StandIn,
    config: HubConfig,
    _cache: TempDir,
}

impl World {
    fn new() -> Self {
        let hub = StandIn::start();
        let cache = TempDir::new().unwrap();
        let patience = Patience { first_wait: Duration::from_millis(2), ..Patience::default() };
        let config = HubConfig {
            endpoint: hub.endpoint(),
            patience,
            ..HubConfig::new(cache.path().to_owned())
        };

        Self { hub, config, _cache: cache }
    }

    fn offline(&self) -> HubConfig {
        HubConfig { is_offline: true, ..self.config.clone() }
    }
}

/// A model with its weights in one file, and a second copy of the weights that is not needed.
fn small() -> Repository {
    Repository::model("someone/small")
        .file("config.json", "{}")
        .file("model.safetensors", "weights")
        .file("pytorch_model.bin", "the same again")
        .file("tokenizer.json", "{\"a\": 1}")
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_a_folder_of_what_is_read() {
    let world = World::new();
    world.hub.serve(small());

    let fetched = fetch_model("someone/small", &world.config, &|_| ()).unwrap();
    assert_eq!(
        (fetched.repository.as_str(), &fetched.commit),
        ("someone/small", &small().commit())
    );
    assert_eq!(names(&fetched.folder), ["config.json", "model.safetensors", "tokenizer.json"]);

    assert_eq!(
        std::fs::read_to_string(fetched.folder.join("model.safetensors")).unwrap(),
        "weights"
    );
    assert_eq!(fetch_model("someone/small", &world.offline(), &|_| ()).unwrap(), fetched);
}

#[test]
fn for_a_commit_on_this_machine_the_hub_is_not_asked() {
    let world = World::new();
    world.hub.serve(small());

    let fetched = fetch_model("someone/small", &world.config, &|_| ()).unwrap();
    let asked = world.hub.requests().len();
    let pinned = format!("someone/small@{}", fetched.commit);

    assert_eq!(fetch_model(&pinned, &world.config, &|_| ()).unwrap(), fetched);
    assert_eq!(world.hub.requests().len(), asked);
    fetch_model("someone/small", &world.config, &|_| ()).unwrap();
    assert!(world.hub.requests().len() > asked, "a branch may have moved on");
}

#[test]
fn weights_may_be_in_several_files() {
    let world = World::new();
    let index = r#"{"metadata": {}, "weight_map":
        {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}}"#;
    let repository = Repository::model("someone/large")
        .file("config.json", "{}")
        .file("model.safetensors.index.json", index)
        .file("one.safetensors", "1")
        .file("two.safetensors", "2")
        .file("three.safetensors", "3");

    world.hub.serve(repository);
    let fetched = fetch_model("someone/large", &world.config, &|_| ()).unwrap();
    let expected =
        ["config.json", "model.safetensors.index.json", "one.safetensors", "two.safetensors"];

    assert_eq!(names(&fetched.folder), expected);
}

/// Older models have no safetensors. For them the files of torch are fetched, one or several.
#[test]
fn weights_may_be_as_torch_writes_them() {
    let world = World::new();
    let single = Repository::model("someone/older")
        .file("config.json", "{}")
        .file("pytorch_model.bin", "weights");
    world.hub.serve(single);

    let fetched = fetch_model("someone/older", &world.config, &|_| ()).unwrap();
    assert_eq!(names(&fetched.folder), ["config.json", "pytorch_model.bin"]);

    let index = "pytorch_model.bin.index.json";
    let part = "pytorch_model-00001-of-00001.bin";
    let several = Repository::model("someone/older-large")
        .file("config.json", "{}")
        .file(index, format!("{{\"weight_map\": {{\"a\": \"{part}\"}}}}"))
        .file(part, "weights");

    world.hub.serve(several);
    let fetched = fetch_model("someone/older-large", &world.config, &|_| ()).unwrap();
    assert_eq!(names(&fetched.folder), ["config.json", part, index]);
}

#[test]
fn rejects_repositories_without_what_is_needed() {
    let world = World::new();
    let named = |name: &str| Repository::model(name).file("config.json", "{}");
    world.hub.serve(named("someone/bare").file("flax_model.msgpack", "weights"));

    let index = r#"{"weight_map": {"a": "gone.safetensors"}}"#;
    world.hub.serve(named("someone/torn").file("model.safetensors.index.json", index));
    world.hub.serve(named("someone/odd").file("model.safetensors.index.json", "[]"));
    world.hub.serve(Repository::model("someone/weights").file("model.safetensors", "weights"));

    for (name, said) in [
        ("someone/bare", "model.safetensors"),
        ("someone/torn", "gone.safetensors"),
        ("someone/odd", "index of weights"),
        ("someone/weights", "config.json"),
        ("someone/../small", "OWNER/NAME"),
    ] {
        let error = fetch_model(name, &world.config, &|_| ()).unwrap_err().to_string();
        assert!(error.contains(said), "{name}: {error}");
    }

    let error = fetch_model("someone/small", &world.offline(), &|_| ()).unwrap_err().to_string();
    assert!(error.contains("someone/small at main"), "{error}");
}

#[test]
fn a_model_that_is_complete_on_this_machine_needs_no_hub() {
    let world = World::new();
    world.hub.serve(small());

    let fetched = fetch_model("someone/small", &world.config, &|_| ()).unwrap();
    let away = HubConfig { endpoint: "http://127.0.0.1:9".to_owned(), ..world.config.clone() };
    assert_eq!(fetch_model("someone/small", &away, &|_| ()).unwrap(), fetched);

    // A hub that answers with a web page, and a hub in trouble. Each is asked at most twice.
    for fault in [Fault::HtmlPage, Fault::Status { code: 503, retry_after: None }] {
        let asked = world.hub.requests().len();
        world.hub.misbehave(RequestKind::Listing, 2, fault);
        assert_eq!(fetch_model("someone/small", &world.config, &|_| ()).unwrap(), fetched);
        assert!(world.hub.requests().len() <= asked + 2);
        world.hub.behave();
    }

    // If files are missing, the hub's own error is reported.
    let part = fetched.folder.join("model.safetensors");
    std::fs::remove_file(&part).unwrap();

    let error = fetch_model("someone/small", &away, &|_| ()).unwrap_err().to_string();
    assert!(error.contains("cannot reach the hub") && error.contains("HF_HUB_OFFLINE"), "{error}");

    let error = fetch_model("someone/small", &world.offline(), &|_| ()).unwrap_err().to_string();

    for said in [
        "model.safetensors of someone/small at main",
        "is not in the hub's cache",
        "HF_HUB_OFFLINE",
    ] {
        assert!(error.contains(said), "{error}");
    }
}
