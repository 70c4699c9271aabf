//! Every data set of the catalogue from the stand-in, and data sets outside of the catalogue.

use crate::shakespeare;
use dlt_data::{
    DataRequest, HubConfig, Patience, Split, TokenSplits, Tokenizer,
    catalogue::{CATALOGUE, LearningTask, find},
    fetch, load,
};
use dlt_hub_stand_in::{Repository, StandIn, catalogue};
use dlt_spec::spec::{DataSpec, Separator};
use std::{collections::HashSet, path::PathBuf};
use tempfile::TempDir;

/// Rows of each train split.
const ROWS: usize = 200;

struct World {
    hub: StandIn,
    folder: TempDir,
    config: HubConfig,
}

impl World {
    fn new() -> Self {
        let hub = StandIn::start();
        let folder = TempDir::new().unwrap();

        for repository in catalogue(ROWS) {
            hub.serve(repository);
        }

        let patience = Patience { tries: 1, ..Patience::default() };
        let config = HubConfig {
            endpoint: hub.endpoint(),
            patience,
            ..HubConfig::new(folder.path().join("hub"))
        };

        Self { hub, folder, config }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn load(&self, data: &DataSpec) -> Result<TokenSplits, dlt_data::DataError> {
        let cache = self.cache();
        let request = DataRequest {
            cache: Some(&cache),
            hub: Some(&self.config),
            ..DataRequest::new(data, 8)
        };

        load(&request, &mut |_| ())
    }
}

fn named(source: &str) -> DataSpec {
    DataSpec { source: source.to_owned(), tokenizer: "bytes".to_owned(), ..shakespeare() }
}

fn texts(splits: &TokenSplits) -> [String; 3] {
    let bytes = Tokenizer::bytes().unwrap();
    Split::ALL.map(|split| bytes.decode(&splits.split(split).tokens().unwrap()).unwrap())
}

#[test]
fn every_text_of_the_catalogue_is_fetched_tokenized_and_split_without_overlap() {
    let world = World::new();

    for entry in CATALOGUE.iter().filter(|entry| entry.task == LearningTask::LanguageModel) {
        let splits = world
            .load(&named(entry.name))
            .unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        let hub = splits.provenance.hub.as_ref();
        assert_eq!(hub.map(|hub| hub.repository.as_str()), entry.repository);
        assert_eq!(hub.map(|hub| hub.commit.len()), entry.repository.map(|_| 40));

        let lines = texts(&splits).map(|text| {
            let rows = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
            rows.collect::<HashSet<String>>()
        });

        if entry.repository.is_some() {
            assert!(
                lines[0].is_disjoint(&lines[1]) && lines[0].is_disjoint(&lines[2]),
                "{}",
                entry.name
            );
            assert!(lines[1].is_disjoint(&lines[2]), "{}", entry.name);
        }

        assert!(!entry.splits.is_empty() && !entry.paper.is_empty() && !entry.licence.is_empty());
        assert!(!entry.size.is_empty());
    }
}

#[test]
fn the_lacking_validation_of_lm1b_is_the_end_of_train() {
    let world = World::new();
    let [train, validation, test] = texts(&world.load(&named("lm1b")).unwrap());

    // One percent of 200 rows is two.
    assert_eq!(train.lines().count(), ROWS - 2);
    assert!(train.lines().last().unwrap().starts_with("lm1b-train 197 "));
    assert_eq!(validation.lines().count(), 2);

    assert!(
        validation.starts_with("lm1b-train 198 ") && validation.contains("lm1b-train 199 "),
        "{validation}"
    );
    assert_eq!(test.lines().count(), ROWS / 4);
}

#[test]
fn blank_lines_of_wikitext_come_back() {
    let world = World::new();
    let [train, ..] = texts(&world.load(&named("wikitext-2")).unwrap());
    assert!(train.starts_with(" \n = wikitext-2-v1-train 1 "), "{}", &train[..60]);
    assert_eq!(train.lines().count(), ROWS);
}

#[test]
fn a_locked_commit_stays_until_it_is_fetched_again() {
    let world = World::new();
    let data = named("ptb");
    let first = world.load(&data).unwrap().provenance;
    let asked = world.hub.requests().len();

    // All files are on this machine: no request is made, although the branch has moved.
    let other = Repository::dataset("ptb-text-only/ptb_text_only").at("refs/convert/parquet");
    let table = |text: &str| {
        dlt_hub_stand_in::parquet(
            &[dlt_hub_stand_in::Column::Text("sentence", vec![text.repeat(20)])],
            10,
        )
    };

    let moved = Split::ALL.iter().fold(other, |repository, split| {
        repository.file(&format!("penn_treebank/{split}/0000.parquet"), table(split.name()))
    });
    world.hub.serve(moved.clone());
    assert_eq!(world.load(&data).unwrap().provenance, first);
    assert_eq!(world.hub.requests().len(), asked);

    let cache = world.cache();
    let fetched = fetch("ptb", &world.config, Some(&cache), &|_| ()).unwrap();
    assert_eq!(fetched.provenance.commit, moved.commit());

    let second = world.load(&data).unwrap();
    assert_eq!(second.provenance.hub, Some(fetched.provenance));
    assert_eq!(texts(&second)[1], "validation".repeat(20));

    // Pinned to a commit that does not exist.
    let error =
        world.load(&named("ptb@0000000000000000000000000000000000000000")).unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");

    let pinned = world.load(&named(&format!("ptb@{}", moved.commit()))).unwrap();
    assert_eq!(pinned.provenance.sha256, second.provenance.sha256);
}

#[test]
fn any_data_set_of_the_hub_with_a_column_of_text_is_read() {
    let world = World::new();
    let columns = |rows: std::ops::Range<usize>| {
        let text = |word: &str| rows.clone().map(|row| format!("{word} {row}")).collect();
        [
            dlt_hub_stand_in::Column::Text("title", text("title")),
            dlt_hub_stand_in::Column::Text("body", text("body")),
        ]
    };

    let table = |rows| dlt_hub_stand_in::parquet(&columns(rows), 7);
    world.hub.serve(
        Repository::dataset("someone/news")
            .file("en/train-00000-of-00001.parquet", table(0..60))
            .file("en/test-00000-of-00001.parquet", table(60..80))
            .file("de/train-00000-of-00001.parquet", table(80..100)),
    );

    let lines = |source: &str| DataSpec { separator: Separator::Line, ..named(source) };
    let [train, validation, test] = texts(&world.load(&lines("hf:someone/news:en:body")).unwrap());

    // Validation is the last 5 % of train, three rows.
    assert_eq!(
        (train.lines().count(), validation.lines().count(), test.lines().count()),
        (57, 3, 20)
    );
    assert_eq!(validation, "body 57\nbody 58\nbody 59");

    // Rows are documents, unless the line end is requested.
    let [_, validation, _] = texts(&world.load(&named("hf:someone/news:en:body")).unwrap());
    assert_eq!(validation, "body 57<|endoftext|>body 58<|endoftext|>body 59");

    // If only train exists, it is cut by the fractions of the spec.
    let [train, validation, test] = texts(&world.load(&lines("hf:someone/news:de:title")).unwrap());
    assert_eq!([&train[..], &validation, &test].concat().lines().count(), 20);

    let error = world.load(&named("hf:someone/news:en")).unwrap_err().to_string();
    assert!(
        error.contains("(title, body)") && error.contains("title (text, as \"title 0\")"),
        "{error}"
    );

    let error = world.load(&named("hf:someone/news")).unwrap_err().to_string();
    assert!(error.contains("de, en"), "{error}");

    let error = world.load(&named("hf:someone/news:fr")).unwrap_err().to_string();
    assert!(error.contains("\"fr\"") && error.contains("de, en"), "{error}");
}

#[test]
fn a_loading_script_is_left_for_the_hubs_conversion() {
    let world = World::new();
    world.hub.serve(Repository::dataset("old/script").file("script.py", "import datasets"));

    let table = |text: &str| {
        dlt_hub_stand_in::parquet(
            &[dlt_hub_stand_in::Column::Text("text", vec![text.to_owned()])],
            1,
        )
    };

    world.hub.serve(
        Repository::dataset("old/script")
            .at("refs/convert/parquet")
            .file("default/train/0000.parquet", table("one two three four"))
            .file("default/validation/0000.parquet", table("some more of it"))
            .file("default/test/0000.parquet", table("and the very last")),
    );

    let splits = world.load(&named("hf:old/script")).unwrap();
    assert_eq!(splits.provenance.hub.as_ref().unwrap().revision, "refs/convert/parquet");
    assert_eq!(texts(&splits), ["one two three four", "some more of it", "and the very last"]);
}

#[test]
fn rejects_names_of_the_hub_without_a_hub_and_tasks_without_text() {
    let data = named("wikitext-2");
    let error = load(&DataRequest::new(&data, 8), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("wikitext-2 comes from the hub"), "{error}");

    let world = World::new();
    for name in ["glue/sst2", "cifar10"] {
        let error = world.load(&named(name)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("not for language modelling"), "{error}");
    }

    assert!(find("wikitext-2").is_some() && find("no such").is_none());
}

#[test]
fn a_tokenizer_of_a_model_is_fetched_once() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokenizer.json");

    Tokenizer::bytes().unwrap().save(&path).unwrap();
    let json = std::fs::read(&path).unwrap();
    world.hub.serve(
        Repository::model("someone/model").file("tokenizer.json", json).file("config.json", "{}"),
    );

    let data = DataSpec { tokenizer: "hf:someone/model".to_owned(), ..named("ptb") };
    let splits = world.load(&data).unwrap();
    assert_eq!(splits.vocabulary, 257);
    assert!(splits.provenance.tokenizer.starts_with("sha256:"));

    let asked = world.hub.requests().len();
    let tokenizer = Tokenizer::open_from("hf:someone/model", &world.config, &|_| ()).unwrap();
    assert_eq!(
        (tokenizer.id(), world.hub.requests().len()),
        (splits.provenance.tokenizer.as_str(), asked)
    );
    world.hub.serve(Repository::model("someone/empty").file("config.json", "{}"));

    let error =
        Tokenizer::open_from("hf:someone/empty", &world.config, &|_| ()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("config.json"), "{error}");
}
