//! Tests against public files that are too large to ship. `DLT_SHARED_DATA` names a folder with
//! `gpt2_tokenizer/tokenizer.json` of GPT-2 as published,
//! `wikitext-2/wiki.{train,valid,test}.tokens`, `tiny_shakespeare/input.txt`,
//! `lambada/lambada_development_plain_text.txt`, `glue/TASK/*.tsv` and
//! `cifar10/train_lossless_first4000.bin`.

use crate::{TOKENIZER, from_path, loaded, shakespeare};
use dlt_data::{
    DataRequest, HubConfig, Split, TokenSplits, load, load_sentences, read_cifar10, read_sentences,
    read_text, whole_tokens,
};
use dlt_hub_stand_in::{Column, Repository, StandIn, parquet};
use dlt_spec::spec::DataSpec;
use serde_json::Value;
use std::path::PathBuf;

fn shared() -> PathBuf {
    std::env::var_os("DLT_SHARED_DATA")
        .expect("DLT_SHARED_DATA names the folder of the shared data")
        .into()
}

#[test]
fn matches_reference_tokens_of_wikitext_2() {
    let folder = shared();
    let published =
        tokenizers::Tokenizer::from_file(folder.join("gpt2_tokenizer/tokenizer.json")).unwrap();
    let mut total = 0;

    for name in ["train", "valid", "test"] {
        let text = read_text(&folder.join(format!("wikitext-2/wiki.{name}.tokens"))).unwrap();
        // The published tokenizer encodes the whole text at once, so this also checks our cuts.
        let expected = published.encode_fast(text.as_str(), false).unwrap();
        let ours = TOKENIZER.encode(&text).unwrap();

        assert_eq!(ours.len(), expected.len(), "{name}");
        assert!(ours == expected.get_ids(), "the tokens of {name} differ");
        total += ours.len();
    }

    assert_eq!(total, 2_448_382 + 258_659 + 295_877);
}

#[test]
fn matches_reference_content_of_the_published_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let saved = folder.path().join("tokenizer.json");
    TOKENIZER.save(&saved).unwrap();

    let read = |path: &std::path::Path| -> Value {
        serde_json::from_str(&read_text(path).unwrap()).unwrap()
    };
    let ours = read(&saved);
    let published = read(&shared().join("gpt2_tokenizer/tokenizer.json"));

    assert!(ours["model"]["vocab"] == published["model"]["vocab"], "the vocabularies differ");
    assert_eq!(merges(&ours).len(), 50_000);
    assert!(merges(&ours) == merges(&published), "the merges differ");

    for part in ["pre_tokenizer", "decoder", "post_processor", "normalizer", "added_tokens"] {
        assert_eq!(ours[part], published[part], "{part}");
    }
}

/// Each merge as its two parts. Older files write them as "a b", newer ones as ["a", "b"].
fn merges(tokenizer: &Value) -> Vec<Vec<&str>> {
    let merges = tokenizer["model"]["merges"].as_array().unwrap();
    merges
        .iter()
        .map(|merge| match merge {
            Value::String(pair) => pair.split(' ').collect(),
            pair => pair.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect(),
        })
        .collect()
}

#[test]
fn tiny_shakespeare_has_its_published_sizes() {
    let splits = loaded(&from_path(&shared().join("tiny_shakespeare/input.txt")), 256).unwrap();
    assert_eq!(splits.provenance.splits.iter().map(|split| split.bytes).sum::<usize>(), 1_115_394);
    assert_eq!(splits.split(Split::Train).len(), 301_966);
}

/// The splits of a source that is read from the stand-in with this repository.
fn from_stand_in(source: &str, repository: Repository) -> TokenSplits {
    let hub = StandIn::start();
    let folder = tempfile::TempDir::new().unwrap();
    hub.serve(repository);

    let config = HubConfig { endpoint: hub.endpoint(), ..HubConfig::new(folder.path().to_owned()) };
    let data = DataSpec { source: source.to_owned(), ..shakespeare() };
    load(&DataRequest { hub: Some(&config), ..DataRequest::new(&data, 128) }, &mut |_| ()).unwrap()
}

fn counts(splits: &TokenSplits) -> [usize; 3] {
    Split::ALL.map(|split| splits.split(split).len())
}

#[test]
fn wikitext_2_in_the_hubs_layout_has_its_published_sizes() {
    let folder = shared();
    let mut repository = Repository::dataset("Salesforce/wikitext");

    for (name, split) in [("train", "train"), ("valid", "validation"), ("test", "test")] {
        let text = read_text(&folder.join(format!("wikitext-2/wiki.{name}.tokens"))).unwrap();
        // As the hub's loading script makes rows: blank lines are empty.
        let rows = text.split_inclusive('\n');
        let rows = rows
            .map(|row| if row.trim().is_empty() { String::new() } else { row.to_owned() })
            .collect();

        let file = format!("wikitext-2-v1/{split}-00000-of-00001.parquet");
        repository = repository.file(&file, parquet(&[Column::Text("text", rows)], 1_000));
    }

    assert_eq!(counts(&from_stand_in("wikitext-2", repository)), [2_448_382, 258_659, 295_877]);
}

#[test]
fn tiny_shakespeare_in_the_hubs_layout_has_its_published_sizes() {
    let text = read_text(&shared().join("tiny_shakespeare/input.txt")).unwrap();
    let validation = text.len() * 9 / 10;
    let test = text.len() * 95 / 100;
    let parts = [&text[..validation], &text[validation..test], &text[test..]];
    let repository = Repository::dataset("karpathy/tiny_shakespeare").at("refs/convert/parquet");

    let repository = Split::ALL.iter().zip(parts).fold(repository, |repository, (split, part)| {
        let table = parquet(&[Column::Text("text", vec![part.to_owned()])], 1);
        repository.file(&format!("default/{split}/0000.parquet"), table)
    });

    let splits = from_stand_in("tiny_shakespeare", repository);
    assert_eq!(counts(&splits), [301_966, 18_066, 17_995]);

    let data = from_path(&shared().join("tiny_shakespeare/input.txt"));
    let request = DataRequest::new(&data, 128);
    let local = load(&request, &mut |_| ()).unwrap();

    assert_eq!(counts(&local), counts(&splits));
    // This is not the sum: where splits meet, two tokens become one.
    assert_eq!(whole_tokens(&request, &local, &TOKENIZER, &mut |_| ()).unwrap(), Some(338_025));
}

#[test]
fn glue_lambada_and_cifar10_have_their_published_sizes() {
    let folder = shared();
    let count = |name: &str| read_sentences(&folder.join("glue").join(name)).unwrap().len();
    assert_eq!((count("SST-2/train.tsv"), count("SST-2/dev.tsv")), (67_349, 872));
    assert_eq!((count("CoLA/train_full.tsv"), count("CoLA/dev.tsv")), (8_551, 1_043));
    assert_eq!((count("RTE/train_full.tsv"), count("RTE/dev.tsv")), (2_490, 277));
    assert_eq!(count("QNLI/dev.tsv"), 5_463);

    let sst2 = folder.join("glue/SST-2").to_string_lossy().into_owned();
    let splits =
        load_sentences(&DataSpec { source: sst2, ..DataSpec::default() }, None, None, &mut |_| ())
            .unwrap();
    assert_eq!((splits.train.len(), splits.validation.len(), splits.classes), (67_349, 872, 2));

    let text = read_text(&folder.join("lambada/lambada_development_plain_text.txt")).unwrap();
    assert_eq!(TOKENIZER.encode(&text).unwrap().len(), 403_466);
    assert_eq!(text.lines().count(), 4_869);

    let pictures = read_cifar10(&folder.join("cifar10/train_lossless_first4000.bin")).unwrap();
    assert_eq!(pictures.len(), 4_000);
}
