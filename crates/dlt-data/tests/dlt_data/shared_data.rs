//! Against public files that are too large to ship. `DLT_SHARED_DATA` names a folder with `gpt2_tokenizer/tokenizer.json`
//! of GPT-2 as published, and `wikitext-2/wiki.{train,valid,test}.tokens`.

use crate::{TOKENIZER, from_path, loaded};
use dlt_data::{Split, read_text};
use serde_json::Value;
use std::path::PathBuf;

fn shared() -> PathBuf {
    std::env::var_os("DLT_SHARED_DATA").expect("DLT_SHARED_DATA names the folder of the shared data").into()
}

#[test]
fn matches_reference_tokens_of_wikitext_2() {
    let folder = shared();
    let published = tokenizers::Tokenizer::from_file(folder.join("gpt2_tokenizer/tokenizer.json")).unwrap();
    let mut total = 0;
    for name in ["train", "valid", "test"] {
        let text = read_text(&folder.join(format!("wikitext-2/wiki.{name}.tokens"))).unwrap();
        // The published tokenizer sees the whole text at once: what is checked is our cutting too.
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
    let read = |path: &std::path::Path| -> Value { serde_json::from_str(&read_text(path).unwrap()).unwrap() };
    let (ours, published) = (read(&saved), read(&shared().join("gpt2_tokenizer/tokenizer.json")));
    assert!(ours["model"]["vocab"] == published["model"]["vocab"], "the vocabularies differ");
    assert_eq!(merges(&ours).len(), 50_000);
    assert!(merges(&ours) == merges(&published), "the merges differ");
    for part in ["pre_tokenizer", "decoder", "post_processor", "normalizer", "added_tokens"] {
        assert_eq!(ours[part], published[part], "{part}");
    }
}

/// Each merge as its two parts: files of different age write them as "a b" or as ["a", "b"].
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
