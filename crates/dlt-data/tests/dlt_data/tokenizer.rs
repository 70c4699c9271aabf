use crate::{TOKENIZER, write};
use dlt_data::Tokenizer;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn matches_reference_ids_of_the_published_tokenizer() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../fixtures/gpt2_ids.json")).unwrap();
    assert_eq!(cases.len(), 28);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u64> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        let ours: Vec<u64> = TOKENIZER.encode(text).unwrap().into_iter().map(u64::from).collect();
        assert_eq!(ours, ids, "{text:?}");
    }
}

#[test]
fn gpt2_has_its_vocabulary_and_end_of_text() {
    assert_eq!(TOKENIZER.id(), "gpt2");
    assert_eq!(TOKENIZER.vocabulary(), 50_257);
    assert_eq!(TOKENIZER.eos(), Some(50_256));
    assert_eq!(TOKENIZER.decode(&[50_256]).unwrap(), "<|endoftext|>");
}

proptest! {
    #[test]
    fn law_decoding_gives_the_text_back_and_its_bytes(text in any::<String>()) {
        let ids = TOKENIZER.encode(&text).unwrap();
        prop_assert_eq!(TOKENIZER.bytes_of(&ids).unwrap(), text.len());
        prop_assert_eq!(TOKENIZER.decode(&ids).unwrap(), text);
    }
}

#[test]
fn a_saved_tokenizer_is_accepted_and_encodes_the_same() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokenizer.json");
    TOKENIZER.save(&path).unwrap();
    let saved = Tokenizer::from_file(&path).unwrap();
    assert!(saved.id().starts_with("sha256:"), "{}", saved.id());
    assert_eq!((saved.vocabulary(), saved.eos()), (50_257, Some(50_256)));
    // Longer than one chunk, so that both ways of encoding are taken.
    let text = crate::some_text().repeat(40);
    assert_eq!(saved.encode(&text).unwrap(), TOKENIZER.encode(&text).unwrap());
}

/// A tokenizer of whole words that also asks for truncation, padding and a template, which do not belong in a stream.
const WORDS: &str = r#"{
    "version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"}, "decoder": null,
    "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
    "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "?"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "</s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [7], "tokens": ["</s>"]}}},
    "model": {"type": "WordLevel", "vocab": {"?": 0, "to": 1, "be": 2, "or": 3, "not": 4, "</s>": 7}, "unk_token": "?"}
}"#;

#[test]
fn a_tokenizer_of_another_kind_gives_a_text_its_tokens_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let words = Tokenizer::from_file(&write(&folder, "words.json", WORDS)).unwrap();
    assert_eq!(words.encode("To be or not\nto be").unwrap(), [1, 2, 3, 4, 1, 2]);
    // The largest id is 7, although there are six words.
    assert_eq!((words.vocabulary(), words.eos()), (8, Some(7)));
}

#[test]
fn rejects_a_missing_tokenizer() {
    let error = Tokenizer::open("no/such/tokenizer.json").unwrap_err().to_string();
    assert!(error.contains("no/such/tokenizer.json") && error.contains("`gpt2`"), "{error}");
}

#[test]
fn rejects_a_tokenizer_that_is_none() {
    let folder = TempDir::new().unwrap();
    for content in ["", "{}", "{\"model\":", "not json"] {
        let path = write(&folder, "tokenizer.json", content);
        let error = Tokenizer::from_file(&path).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn rejects_a_folder_that_cannot_take_a_saved_tokenizer() {
    let error = TOKENIZER.save("no/such/folder/tokenizer.json".as_ref()).unwrap_err().to_string();
    assert!(error.contains("no/such/folder"), "{error}");
}
