use crate::{TOKENIZER, write};
use dlt_data::Tokenizer;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn matches_reference_ids_of_the_published_tokenizer() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../fixtures/gpt2_ids.json")).unwrap();
    assert_eq!(cases.len(), 28);

    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u64> =
            case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
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

    // Longer than one chunk, so that both ways of encoding are used.
    let text = crate::some_text().repeat(40);
    assert_eq!(saved.encode(&text).unwrap(), TOKENIZER.encode(&text).unwrap());
}

/// A tokenizer of whole words that also asks for truncation, padding and a template, which do not
/// belong in a stream.
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
fn a_tokenizer_of_another_kind_gives_a_text_only_its_tokens() {
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

/// The tokenizer of whole words, with another value for one part.
fn words_with(key: &str, value: Value) -> Vec<u8> {
    let mut file: Value = serde_json::from_str(WORDS).unwrap();
    file[key] = value;
    file.to_string().into_bytes()
}

/// Files that make the library panic, use all memory, never end, or silently change texts.
#[test]
fn rejects_hostile_tokenizers_by_name_and_in_time() {
    use serde_json::json;
    let model = |value: Value| words_with("model", value);
    let sequence = |depth: usize| {
        let inner = json!({"type": "Whitespace"});
        (0..depth).fold(inner, |inner, _| json!({"type": "Sequence", "pretokenizers": [inner]}))
    };

    let split = |regex: &str| {
        let pattern = json!({"Regex": regex});
        json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
    };

    let replace =
        json!({"type": "Replace", "pattern": {"String": "e"}, "content": "ee".repeat(20)});
    let pairs = json!({
        "type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"],
        "continuing_subword_prefix": "####",
    });

    let added = |id: u64, content: &str| {
        json!([{
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }])
    };

    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let hostile: [(&str, Vec<u8>, &str); 18] = [
        ("nested", words_with("pre_tokenizer", sequence(100)), "recursion limit"),
        ("nested less", words_with("pre_tokenizer", sequence(20)), "nested or long"),
        ("brackets", deep.into_bytes(), "recursion limit"),
        ("backtracking", words_with("pre_tokenizer", split(r"(?=(a+)+$)(?:a|aa)+\1z")), "gives up"),
        ("no pattern", words_with("pre_tokenizer", split("(")), "cannot be read"),
        (
            "no length",
            words_with("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
            "no length",
        ),
        (
            "beyond u32",
            model(json!({"type": "WordLevel", "vocab": {"?": 1_u64 << 40}, "unk_token": "?"})),
            "id 1099511627776",
        ),
        (
            "sparse",
            model(json!({"type": "WordLevel", "vocab": {"?": 4_000_000}, "unk_token": "?"})),
            "all but empty",
        ),
        (
            "twice",
            model(json!({"type": "WordLevel", "vocab": {"?": 0, "a": 0}, "unk_token": "?"})),
            "the same id, 0",
        ),
        (
            "empty",
            model(json!({"type": "WordLevel", "vocab": {}, "unk_token": "?"})),
            "`vocab` is empty",
        ),
        ("no vocabulary", model(json!({"type": "BPE", "merges": []})), "no `vocab`"),
        (
            "lost merge",
            model(json!({"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]})),
            "out of vocabulary",
        ),
        ("short merge", model(pairs), "the tokenizers library failed on it"),
        (
            "no piece",
            model(json!({"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 1})),
            "`unk_id` is 1",
        ),
        ("empty added", words_with("added_tokens", added(8, "")), "`content` is empty"),
        (
            "huge added",
            words_with("added_tokens", added(8, &"x".repeat(1 << 20))),
            "has 1048576 bytes",
        ),
        ("moved", words_with("added_tokens", added(3000, "<x>")), "has id 3000 in the file"),
        (
            "growing",
            words_with(
                "normalizer",
                json!({"type": "Sequence", "normalizers": [replace, replace]}),
            ),
            "times as long",
        ),
    ];

    for (name, content, says) in hostile {
        let error = Tokenizer::from_bytes(name, content).expect_err(name).to_string();
        assert!(error.contains(says) && error.contains(&format!("{name:?}")), "{name}: {error}");
    }
}

#[test]
fn rejects_a_file_beyond_the_bound_and_what_is_no_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokenizer.json");

    // A sparse file: longer than the bound, but without size on disk.
    std::fs::File::create(&path).unwrap().set_len((128 << 20) + 1).unwrap();
    let error = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("at most 134217728"), "{error}");

    let error = Tokenizer::from_file(std::path::Path::new("/dev/null")).unwrap_err().to_string();
    assert!(error.contains("expected a file"), "{error}");
}

#[test]
fn chance_is_switched_off() {
    let model = serde_json::json!({
        "type": "BPE", "dropout": 0.9, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"],
        "unk_token": "a",
    });
    let file: Value = serde_json::json!({"version": "1.0", "added_tokens": [], "model": model});
    let tokenizer = Tokenizer::from_bytes("chance", file.to_string().into_bytes()).unwrap();

    assert!((0..50).all(|_| tokenizer.encode("ab").unwrap() == [2]));

    assert!(
        tokenizer.notes().iter().any(|note| note.contains("at random")),
        "{:?}",
        tokenizer.notes()
    );
}

#[test]
fn settings_that_cut_texts_are_noted_and_the_file_is_kept_unchanged() {
    let words = Tokenizer::from_bytes("words", WORDS.as_bytes().to_vec()).unwrap();
    assert_eq!(words.notes().len(), 2, "{:?}", words.notes());
    assert_eq!(words.json().unwrap(), WORDS.as_bytes());
    let marks = words.marks().unwrap();
    assert_eq!((marks.before, marks.after), (vec![7], vec![]));
}

#[test]
fn the_end_of_a_text_is_read_next_to_the_file() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "tokenizer.json", WORDS);
    assert_eq!(Tokenizer::from_file(&path).unwrap().eos(), Some(7));
    write(&folder, "config.json", r#"{"eos_token_id": [4, 1]}"#);
    assert_eq!(Tokenizer::from_file(&path).unwrap().special().ends, [4, 1]);

    // A file with another name is read by itself.
    assert_eq!(Tokenizer::from_file(&write(&folder, "words.json", WORDS)).unwrap().eos(), Some(7));

    // A folder stands for the tokenizer that it holds.
    assert_eq!(Tokenizer::from_file(folder.path()).unwrap().eos(), Some(4));
    let empty = TempDir::new().unwrap();
    let error = Tokenizer::from_file(empty.path()).unwrap_err().to_string();

    assert!(error.contains("no tokenizer.json"), "{error}");
}

#[test]
fn a_template_of_another_kind_takes_the_place_of_the_files() {
    use dlt_data::{Marks, Pairs, Template};
    let words = Tokenizer::from_bytes("words", WORDS.as_bytes().to_vec()).unwrap();
    let own = Template { single: words.marks().unwrap(), between: Vec::new() };

    assert_eq!(words.json_with(&own, Pairs::Unused).unwrap(), WORDS.as_bytes());
    let none = Tokenizer::from_bytes(
        "bare",
        words.json_with(&Template::default(), Pairs::Unused).unwrap(),
    )
    .unwrap();
    assert!(none.marks().unwrap().is_empty());
    assert_eq!(none.encode("to be").unwrap(), words.encode("to be").unwrap());

    let wanted = Template { single: Marks { before: vec![], after: vec![7] }, between: vec![7] };
    let ended =
        Tokenizer::from_bytes("ended", words.json_with(&wanted, Pairs::Used).unwrap()).unwrap();
    assert_eq!(ended.marks().unwrap(), wanted.single);
    assert_eq!(ended.json_with(&wanted, Pairs::Used).unwrap(), ended.json().unwrap());
}
