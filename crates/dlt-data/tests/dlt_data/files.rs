//! Local files of every kind, plain and packed.

use crate::{bytes_of, gzip, loaded, rejection, some_text, text_of, write};
use dlt_data::{Split, Tokenizer, TrainingRequest, clean, train_tokenizer};
use dlt_hub_stand_in::{Column, parquet};
use dlt_spec::spec::{DataSpec, Pipeline};
use std::{fs, path::Path};
use tempfile::TempDir;

/// Rows with everything that a format has to distinguish.
const ROWS: [&str; 5] =
    ["plain words", "with, comma and \"quotes\"", "", "two\nlines", "unicode é世😀"];

fn joined() -> String {
    ROWS.join("\n")
}

fn json_lines(member: &str) -> String {
    ROWS.map(|row| format!("{}\n", serde_json::json!({ "id": 1, member: row }))).concat()
}

fn csv() -> String {
    let quoted = ROWS.map(|row| format!("7,\"{}\"\n", row.replace('"', "\"\"")));
    format!("id,text\n{}", quoted.concat())
}

#[test]
fn every_format_gives_the_same_text_plain_and_packed() {
    let folder = TempDir::new().unwrap();
    let table = parquet(&[Column::Text("text", ROWS.map(str::to_owned).to_vec())], 2);
    let whole_rows = parquet(
        &[
            Column::Whole("text", vec![1; 5]),
            Column::Text("sentence", ROWS.map(str::to_owned).to_vec()),
        ],
        2,
    );

    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("rows.txt", joined().into_bytes()),
        ("rows.jsonl", json_lines("text").into_bytes()),
        ("rows.ndjson", json_lines("content").into_bytes()),
        ("rows.csv", csv().into_bytes()),
        ("rows.parquet", table),
        ("sentence.parquet", whole_rows),
    ];

    for (name, content) in cases {
        let path = write(&folder, name, &content);
        assert_eq!(text_of(&loaded(&bytes_of(&path), 1).unwrap()), joined(), "{name}");

        if !name.ends_with("parquet") {
            let packed = write(&folder, &format!("{name}.gz"), gzip(&content));
            assert_eq!(text_of(&loaded(&bytes_of(&packed), 1).unwrap()), joined(), "{name}.gz");

            let packed =
                write(&folder, &format!("{name}.zst"), zstd::encode_all(&content[..], 3).unwrap());
            assert_eq!(text_of(&loaded(&bytes_of(&packed), 1).unwrap()), joined(), "{name}.zst");
        }
    }
}

#[test]
fn tabs_separate_and_quotes_mean_nothing() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "rows.tsv", "label\tsentence\n0\tsays \"this\n1\tand\" that\n");
    assert_eq!(text_of(&loaded(&bytes_of(&path), 1).unwrap()), "says \"this\nand\" that");
}

#[test]
fn a_column_is_named_after_the_path() {
    let folder = TempDir::new().unwrap();
    let columns = |word: &str| (0..9).map(|row| format!("{word} {row}")).collect::<Vec<_>>();
    let table =
        parquet(&[Column::Text("title", columns("t")), Column::Text("body", columns("b"))], 4);
    let path = write(&folder, "rows.parquet", table);
    let named = |column: &str| bytes_of(format!("{}::{column}", path.display()));

    assert!(text_of(&loaded(&named("body"), 1).unwrap()).starts_with("b 0\nb 1"));
    let error = rejection(&bytes_of(&path), 1);
    assert!(error.contains("(title, body)") && error.contains("PATH::COLUMN"), "{error}");
    assert!(error.contains("body (text, as \"b 0\")"), "{error}");
    assert!(rejection(&named("author"), 1).contains("no column \"author\""));
}

#[test]
fn folders_hold_splits_in_any_format() {
    let folder = TempDir::new().unwrap();
    write(&folder, "train.jsonl.gz", gzip(b"{\"text\": \"one two\"}\n"));
    write(&folder, "validation.csv", "text\nthree\n");
    write(&folder, "test.parquet", parquet(&[Column::Text("text", vec!["four".to_owned()])], 1));

    let splits = loaded(&bytes_of(folder.path()), 1).unwrap();
    let bytes = Tokenizer::bytes().unwrap();
    let texts =
        Split::ALL.map(|split| bytes.decode(&splits.split(split).tokens().unwrap()).unwrap());

    assert_eq!(texts, ["one two", "three", "four"]);
}

#[test]
fn rows_without_text_are_empty_and_reported() {
    let folder = TempDir::new().unwrap();
    let rows = vec![Some("a a a a".to_owned()), None, Some("b b b b".to_owned())];
    let path = write(&folder, "rows.parquet", parquet(&[Column::MaybeText("text", rows)], 10));
    assert_eq!(text_of(&loaded(&bytes_of(&path), 1).unwrap()), "a a a a\n\nb b b b");
}

#[test]
fn rejects_rows_that_are_none_with_their_number() {
    let folder = TempDir::new().unwrap();

    for (name, content, says) in [
        ("a.jsonl", "{\"text\": \"a\"}\nnot json\n", "row 2: expected an object of JSON"),
        (
            "b.jsonl",
            "{\"text\": \"a\"}\n\n{\"text\": 3}\n",
            "row 3: expected text in \"text\", got a number",
        ),
        ("c.jsonl", "{\"text\": \"a\"}\n[1]\n", "row 2: expected an object of JSON"),
        ("d.csv", "id,text\n1,a\n2\n", "row 3: expected 2 fields"),
        ("e.tsv", "id\ttext\n1\ta\tb\n", "row 2: expected 2 fields"),
    ] {
        let error = rejection(&bytes_of(write(&folder, name, content)), 1);
        assert!(error.contains(name) && error.contains(says), "{error}");
    }
}

#[test]
fn rejects_files_that_are_not_what_their_name_says() {
    let folder = TempDir::new().unwrap();
    let table = parquet(&[Column::Text("text", vec![some_text()])], 1);

    for (name, content) in [
        ("a.parquet", b"not parquet at all, but long enough".to_vec()),
        ("b.parquet", table[..table.len() / 2].to_vec()),
        ("c.txt.gz", b"not gzip".to_vec()),
        ("d.txt.gz", gzip(some_text().as_bytes())[..300].to_vec()),
        ("e.txt.zst", b"not zstd".to_vec()),
        ("f.txt.zst", zstd::encode_all(some_text().as_bytes(), 3).unwrap()[..100].to_vec()),
        ("g.txt.gz", gzip(b"caf\xE9 au lait")),
    ] {
        let error = rejection(&bytes_of(write(&folder, name, content)), 1);
        assert!(error.contains(name), "{error}");
    }

    let mut damaged = table.clone();
    let middle = damaged.len() / 3;
    damaged[middle..middle + 40].fill(0xAB);

    let error = rejection(&bytes_of(write(&folder, "h.parquet", damaged)), 1);
    assert!(error.contains("h.parquet"), "{error}");
}

#[test]
fn rows_of_tables_are_blocks_rows_without_a_separator() {
    let folder = TempDir::new().unwrap();
    for name in ["train", "valid", "test"] {
        write(
            &folder,
            &format!("{name}.jsonl"),
            "{\"text\": \"ab\"}\n{\"text\": \" \"}\n{\"text\": \"cdef\"}\n",
        );
    }

    let data = DataSpec { pipeline: Pipeline::Blocks, ..bytes_of(folder.path()) };
    assert_eq!(loaded(&data, 3).unwrap().train.tokens().unwrap()[..], b"abcdef".map(u32::from));
}

/// The text is longer than one chunk of 1 MiB, so it is cut.
#[test]
fn a_tokenizer_of_another_kind_is_given_large_texts_by_lines() {
    let folder = TempDir::new().unwrap();
    let vocabulary: String = (0..400).map(|word| format!(r#""word{word}": {word}, "#)).collect();
    let model = format!(
        r#"{{"type": "WordLevel", "vocab": {{{vocabulary} ".": 400, "?": 401}}, "unk_token": "?"}}"#
    );
    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [], "pre_tokenizer": {{"type": "Whitespace"}}, "model": {model}}}"#
    );

    let tokenizer = write(&folder, "words.json", json).to_string_lossy().into_owned();
    let text = some_text().repeat(500);
    assert!(text.len() > 3 << 19);

    let path = write(&folder, "text.txt", &text);
    let data = DataSpec { tokenizer: tokenizer.clone(), split: [1.0, 0.0, 0.0], ..bytes_of(&path) };
    let folder_of_three = TempDir::new().unwrap();

    for name in ["train.txt", "valid.txt", "test.txt"] {
        write(&folder_of_three, name, &text);
    }

    let splits = loaded(
        &DataSpec { source: folder_of_three.path().to_string_lossy().into_owned(), ..data },
        1,
    )
    .unwrap();
    let expected = Tokenizer::open(&tokenizer).unwrap().encode(&text).unwrap();
    assert!(splits.train.tokens().unwrap() == expected);
}

#[test]
fn cleaning_removes_only_our_files() {
    let folder = TempDir::new().unwrap();
    let data = bytes_of(write(&folder, "text.txt", some_text()));
    let cache = folder.path().join("cache");
    let request =
        dlt_data::DataRequest { cache: Some(&cache), ..dlt_data::DataRequest::new(&data, 4) };
    let splits = dlt_data::load(&request, &mut |_| ()).unwrap();

    let first = splits.train.tokens().unwrap()[..9].to_vec();
    fs::write(cache.join(format!("{}.partial", "0".repeat(64))), "begun").unwrap();
    fs::write(cache.join("notes.txt"), "mine").unwrap();
    fs::write(cache.join("mine.tokens"), "mine").unwrap();

    let cleaned = clean(&cache).unwrap();
    assert_eq!(cleaned.files, 4);
    assert!(cleaned.bytes > 0);

    let mut left: Vec<_> =
        fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["mine.tokens", "notes.txt"]);

    // A run that has them open can continue.
    #[cfg(unix)]
    assert_eq!(splits.train.tokens().unwrap()[..9], first);
    assert_eq!(clean(&folder.path().join("no such cache")).unwrap().files, 0);
}

#[test]
fn an_unfinished_text_is_started_again_with_the_same_result() {
    let folder = TempDir::new().unwrap();
    let data = bytes_of(write(&folder, "text.txt", some_text()));
    let make = |cache: &Path| {
        let request =
            dlt_data::DataRequest { cache: Some(cache), ..dlt_data::DataRequest::new(&data, 4) };
        dlt_data::load(&request, &mut |_| ()).unwrap();

        let mut files: Vec<_> =
            fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };

    let whole = folder.path().join("whole");
    let broken = folder.path().join("broken");
    let expected = make(&whole);

    fs::create_dir(&broken).unwrap();
    for path in &expected {
        let content = fs::read(path).unwrap();
        let name = path.with_extension("partial");
        fs::write(broken.join(name.file_name().unwrap()), &content[..content.len() / 2]).unwrap();
    }

    let files = make(&broken);
    assert_eq!(files.len(), expected.len());

    for (ours, theirs) in files.iter().zip(&expected) {
        assert_eq!(ours.file_name(), theirs.file_name());
        assert_eq!(fs::read(ours).unwrap(), fs::read(theirs).unwrap());
    }
}

#[test]
fn a_tokenizer_made_from_a_text_is_the_same_twice_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let text = some_text().repeat(20);
    let path = write(&folder, "text.txt", &text);
    let source = path.to_string_lossy();

    let request = TrainingRequest {
        source: &source,
        split: [0.9, 0.05, 0.05],
        vocabulary: 300,
        min_frequency: 2,
        hub: None,
        cache: None,
    };

    let made = train_tokenizer(&request, &mut |_| ()).unwrap();
    let again = train_tokenizer(&request, &mut |_| ()).unwrap();
    assert_eq!((made.vocabulary(), made.eos(), made.id()), (300, Some(299), again.id()));

    let strange = "word12 é\u{0}世 <|endoftext|> \n\n end";
    let ids = made.encode(strange).unwrap();
    assert!(ids.contains(&299));
    assert_eq!(made.decode(&ids).unwrap(), strange);

    let shorter = made.encode(&text).unwrap().len();
    assert!(shorter * 2 < text.len(), "{shorter} tokens of {} bytes", text.len());

    let saved = folder.path().join("tokenizer.json");
    made.save(&saved).unwrap();
    assert_eq!(Tokenizer::from_file(&saved).unwrap().encode(&text).unwrap().len(), shorter);

    for (vocabulary, says) in [(256, "at least 257"), (0, "at least 257")] {
        let error =
            train_tokenizer(&TrainingRequest { vocabulary, ..request }, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn single_bytes_are_their_own_ids() {
    let bytes = Tokenizer::bytes().unwrap();
    assert_eq!((bytes.vocabulary(), bytes.eos(), bytes.id()), (257, Some(256), "bytes"));
    let text = "aé\n\u{0}";
    assert_eq!(bytes.encode(text).unwrap(), text.bytes().map(u32::from).collect::<Vec<_>>());
    assert_eq!(bytes.encode("a<|endoftext|>b").unwrap(), [97, 256, 98]);
}
