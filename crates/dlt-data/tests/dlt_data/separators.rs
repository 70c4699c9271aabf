//! What is put between two documents.

use crate::{loaded, rejection, shakespeare, some_text, write};
use dlt_data::{BYTES, DataRequest, TokenSplits, Tokenizer, load, load_text};
use dlt_spec::{
    record::Boundary,
    spec::{DataSpec, Separator},
};
use proptest::prelude::*;
use std::path::Path;
use tempfile::TempDir;

/// The id of the end of text, after the 256 bytes.
const END: u32 = 256;

fn data(path: &Path, separator: Separator) -> DataSpec {
    let source = path.to_string_lossy().into_owned();
    DataSpec {
        source,
        tokenizer: BYTES.to_owned(),
        split: [1.0, 0.0, 0.0],
        separator,
        ..shakespeare()
    }
}

fn json_lines(rows: &[&str]) -> String {
    rows.iter().map(|row| format!("{}\n", serde_json::json!({ "text": row }))).collect()
}

/// Train, validation and test of the same rows.
fn folder_of(name: &str, content: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for split in ["train", "valid", "test"] {
        write(&folder, &format!("{split}{name}"), content);
    }
    folder
}

fn train(splits: &TokenSplits) -> Vec<u32> {
    splits.train.tokens().unwrap().into_owned()
}

/// Tokens of documents, with the end of text between them.
fn joined(documents: &[&str], separator: &[u32]) -> Vec<u32> {
    let bytes: Vec<Vec<u32>> =
        documents.iter().map(|text| text.bytes().map(u32::from).collect()).collect();
    bytes.join(separator)
}

#[test]
fn rows_of_tables_are_documents_and_lines_of_a_text_are_not() {
    let rows = ["one two", "", "three\nfour\n", "five"];
    let table = folder_of(".jsonl", &json_lines(&rows));
    let documents = joined(&["one two", "three\nfour\n", "five"], &[END]);

    for separator in [Separator::Auto, Separator::EndOfText] {
        let splits = loaded(&data(table.path(), separator), 1).unwrap();
        assert_eq!(train(&splits), documents, "{separator:?}");
        assert_eq!(splits.provenance.boundary, Some(Boundary::EndOfText));
    }

    let lines = joined(&["one two\n\nthree\nfour\nfive"], &[]);
    let splits = loaded(&data(table.path(), Separator::Line), 1).unwrap();
    assert_eq!((train(&splits), splits.provenance.boundary), (lines, Some(Boundary::Line)));

    // CSV is a table too. A text is one document, however many lines it has.
    let csv = folder_of(".csv", "text\na b\nc d\n");
    assert_eq!(
        train(&loaded(&data(csv.path(), Separator::Auto), 1).unwrap()),
        joined(&["a b", "c d"], &[END])
    );

    let text = folder_of(".txt", "a b\nc d\n");

    for separator in [Separator::Auto, Separator::EndOfText, Separator::Line] {
        assert_eq!(
            train(&loaded(&data(text.path(), separator), 1).unwrap()),
            joined(&["a b\nc d\n"], &[])
        );
    }
}

#[test]
fn files_of_text_are_documents_if_the_end_of_text_is_requested() {
    let folder = TempDir::new().unwrap();
    for (name, text) in [("1.txt", "first\n"), ("2.txt", "second"), ("10.txt", "third\n")] {
        write(&folder, name, text);
    }

    let whole = |separator| {
        let data = DataSpec { split: [0.9, 0.05, 0.05], ..data(folder.path(), separator) };
        let text = load_text(&DataRequest::new(&data, 1), None, &mut |_| ()).unwrap();
        text.tokens.tokens().unwrap().into_owned()
    };

    assert_eq!(whole(Separator::EndOfText), joined(&["first\n", "second", "third\n"], &[END]));
    assert_eq!(whole(Separator::Auto), joined(&["first\nsecond\nthird\n"], &[]));
}

#[test]
fn another_separator_has_other_cached_tokens() {
    let folder = folder_of(".jsonl", &json_lines(&["a", "b"]));
    let cache = TempDir::new().unwrap();
    let cached = |separator| {
        let data = data(folder.path(), separator);
        load(&DataRequest { cache: Some(cache.path()), ..DataRequest::new(&data, 1) }, &mut |_| ())
            .unwrap()
    };

    let ends = train(&cached(Separator::EndOfText));
    let lines = train(&cached(Separator::Line));
    assert_ne!(ends, lines);

    assert_eq!(
        (train(&cached(Separator::EndOfText)), train(&cached(Separator::Line))),
        (ends, lines)
    );
}

/// Many documents over the size of a chunk, and one that is cut inside.
#[test]
fn law_a_document_is_encoded_as_if_it_were_alone() {
    let folder = TempDir::new().unwrap();
    let long = some_text().repeat(160);
    assert!(long.len() > 3 * 128 * 1024);

    let rows: Vec<String> = (0..400)
        .map(|row| format!("{row} {}", some_text()))
        .chain([long])
        .chain(["x".into()])
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();

    let table = folder_of(".jsonl", &json_lines(&rows));
    let tokenizer = Tokenizer::gpt2().unwrap();
    let data = DataSpec { tokenizer: "gpt2".to_owned(), ..data(table.path(), Separator::Auto) };
    let documents: Vec<Vec<u32>> = rows.iter().map(|row| tokenizer.encode(row).unwrap()).collect();

    assert!(train(&loaded(&data, 1).unwrap()) == documents.join(&[tokenizer.eos().unwrap()][..]));
    drop(folder);
}

/// A tokenizer of words without a token that ends a text.
fn endless(folder: &TempDir) -> String {
    let json = r#"{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}"#;
    write(folder, "tokenizer.json", json).to_string_lossy().into_owned()
}

#[test]
fn rejects_the_end_of_text_of_a_tokenizer_that_has_none_and_puts_a_line_end_by_default() {
    let folder = TempDir::new().unwrap();
    let table = folder_of(".jsonl", &json_lines(&["a", "b", "a b"]));
    let data =
        |separator| DataSpec { tokenizer: endless(&folder), ..data(table.path(), separator) };
    let error = rejection(&data(Separator::EndOfText), 1);

    assert!(error.contains("data.separator") && error.contains("no token"), "{error}");
    let splits = loaded(&data(Separator::Auto), 1).unwrap();

    assert_eq!(
        (train(&splits), splits.provenance.boundary),
        (vec![0, 1, 0, 1], Some(Boundary::Line))
    );
}

#[test]
fn a_text_is_read_whole_or_by_the_requested_split() {
    let folder = folder_of(".jsonl", &json_lines(&["a", "b"]));
    let data = data(folder.path(), Separator::Auto);
    let request = DataRequest::new(&data, 1);
    let error = load_text(&request, None, &mut |_| ()).unwrap_err().to_string();

    assert!(error.contains("train, validation, test") && error.contains("--split"), "{error}");
    let test = load_text(&request, Some(dlt_data::Split::Test), &mut |_| ()).unwrap();
    assert_eq!(test.tokens.tokens().unwrap()[..], joined(&["a", "b"], &[END]));
    assert_eq!((test.boundary, test.tokens.bytes()), (Boundary::EndOfText, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Wherever a text is cut, the three splits together are the whole, and no split begins or ends
    /// with a separator.
    #[test]
    fn law_splits_of_documents_are_the_whole_without_separators_at_their_edges(
        rows in prop::collection::vec("[a-z]{0,6}", 1..30),
        cut in 0.1_f64..0.8,
    ) {
        let folder = TempDir::new().unwrap();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let path = write(&folder, "rows.jsonl", json_lines(&rows));

        prop_assume!(rows.concat().len() > 20);
        let data = DataSpec { split: [cut, 0.9 - cut, 0.1], ..data(&path, Separator::Auto) };
        let splits = loaded(&data, 1);

        prop_assume!(splits.is_ok());
        let splits = splits.unwrap();
        let parts = [&splits.train, &splits.validation, &splits.test]
            .map(|part| part.tokens().unwrap().into_owned());

        for part in &parts {
            prop_assert!(part.first() != Some(&END) && part.last() != Some(&END), "{part:?}");
        }

        let text: Vec<u32> = parts.concat().into_iter().filter(|&id| id != END).collect();
        prop_assert_eq!(text, joined(&rows, &[]));
    }
}
