use crate::{TOKENIZER, from_path, loaded, rejection, shakespeare, some_text, write};
use dlt_data::{Split, TokenSplits};
use dlt_spec::spec::DataSpec;
use tempfile::TempDir;

fn texts(splits: &TokenSplits) -> [String; 3] {
    Split::ALL.map(|split| TOKENIZER.decode(&splits.split(split).tokens().unwrap()).unwrap())
}

#[test]
fn a_file_is_cut_by_characters_without_overlap() {
    let folder = TempDir::new().unwrap();
    // 100 characters of one to four bytes each.
    let text: String = ["aé世😀 "; 20].concat();
    let path = write(&folder, "text.txt", &text);
    let splits = loaded(&DataSpec { split: [0.5, 0.3, 0.2], ..from_path(&path) }, 4).unwrap();
    let parts = texts(&splits);

    assert_eq!(parts.concat(), text);
    assert_eq!(parts.map(|part| part.chars().count()), [50, 30, 20]);
}

#[test]
fn fractions_that_are_no_exact_floats_cut_where_they_say() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "text.txt", "abcdefghij ".repeat(100));
    let splits = loaded(&DataSpec { split: [0.9, 0.05, 0.05], ..from_path(&path) }, 4).unwrap();

    assert_eq!(
        splits.provenance.splits.iter().map(|split| split.bytes).collect::<Vec<_>>(),
        [990, 55, 55]
    );
}

#[test]
fn provenance_has_the_checksum_of_the_file_and_sizes_that_add_up() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "text.txt", "abc".repeat(1_000));
    let provenance = loaded(&from_path(&path), 4).unwrap().provenance;

    // By sha256sum.
    assert_eq!(
        provenance.sha256,
        "328de8f1895f8bb09f6e6b4c2012ef2b2a6f067cd002794b750aa040a6f6d8bd"
    );
    assert_eq!(provenance.tokenizer, "gpt2");
    assert_eq!(provenance.splits.iter().map(|split| split.bytes).sum::<usize>(), 3_000);
    assert_eq!(provenance.source, path.to_string_lossy());
}

#[test]
fn a_folder_with_three_split_files_uses_them() {
    for names in [
        ["train.txt", "validation.txt", "test.txt"],
        ["wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"],
        ["x-train.raw", "x_dev.TXT", "x-test.text"],
    ] {
        let folder = TempDir::new().unwrap();
        let parts = ["train train train", "validation of it", "test and test"];
        for (name, part) in names.iter().zip(parts) {
            write(&folder, name, part);
        }

        write(&folder, "README.md", "not text for training");
        assert_eq!(texts(&loaded(&from_path(folder.path()), 1).unwrap()), parts);
    }
}

#[test]
fn a_folder_of_texts_is_joined_in_name_order() {
    let folder = TempDir::new().unwrap();
    write(&folder, "b.txt", "second\n");
    write(&folder, "a.txt", "first, no line end");
    write(&folder, "c.txt", "third\n");
    write(&folder, ".hidden.txt", "hidden");
    write(&folder, "picture.png", [0xFF, 0xD8]);
    std::fs::create_dir(folder.path().join("more.txt")).unwrap();

    let splits =
        loaded(&DataSpec { split: [0.5, 0.25, 0.25], ..from_path(folder.path()) }, 1).unwrap();
    assert_eq!(texts(&splits).concat(), "first, no line end\nsecond\nthird\n");
}

#[test]
fn rejects_a_missing_path() {
    let error = rejection(&from_path("no/such/text.txt".as_ref()), 4);
    assert!(error.contains("no/such/text.txt") && error.contains("shakespeare"), "{error}");
}

#[test]
fn rejects_an_empty_file() {
    let folder = TempDir::new().unwrap();
    let error = rejection(&from_path(&write(&folder, "empty.txt", "")), 4);
    assert!(error.contains("empty.txt") && error.contains("empty"), "{error}");
}

#[test]
fn rejects_a_file_that_is_not_utf8() {
    let folder = TempDir::new().unwrap();
    let error = rejection(&from_path(&write(&folder, "latin1.txt", b"caf\xE9 au lait")), 4);
    assert!(
        error.contains("latin1.txt") && error.contains("offset 3") && error.contains("0xe9"),
        "{error}"
    );
}

#[test]
fn rejects_a_folder_without_text_files() {
    let folder = TempDir::new().unwrap();
    write(&folder, "picture.png", "");

    let error = rejection(&from_path(folder.path()), 4);
    assert!(
        error.contains(&*folder.path().to_string_lossy()) && error.contains(".txt, .text"),
        "{error}"
    );
}

#[test]
fn rejects_a_split_too_short_for_one_window() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "short.txt", "one two three four five six seven eight nine ten");
    let error = rejection(&from_path(&path), 4);

    for part in ["short.txt", "validation", "takes 5", "data.split"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }

    let error = rejection(&shakespeare(), 1_000_000);
    assert!(error.contains("train split of shakespeare has 222975 tokens"), "{error}");
    assert!(rejection(&shakespeare(), usize::MAX).contains("222975"));
}

#[test]
fn a_split_of_exactly_one_window_is_enough() {
    let folder = TempDir::new().unwrap();
    for (name, text) in
        [("train.txt", "a b c d e f"), ("valid.txt", "a b c"), ("test.txt", "a b c")]
    {
        write(&folder, name, text);
    }

    let splits = loaded(&from_path(folder.path()), 2).unwrap();
    assert_eq!(Split::ALL.map(|split| splits.windows(split).unwrap().count()), [2, 1, 1]);
    assert!(loaded(&from_path(folder.path()), 3).is_err());
}

#[test]
fn rejects_fractions_that_do_not_sum_to_one() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "text.txt", some_text());
    for split in [[0.9, 0.05, 0.06], [1.1, -0.05, -0.05], [f64::NAN, 0.5, 0.5], [0.0, 0.0, 0.0]] {
        let error = rejection(&DataSpec { split, ..from_path(&path) }, 4);
        assert!(error.contains("sum to 1"), "{error}");
    }
}

#[test]
fn rejects_a_context_of_nothing() {
    assert!(rejection(&shakespeare(), 0).contains("context 0 is too short"));
}

#[cfg(unix)]
#[test]
fn rejects_a_path_that_cannot_be_read() {
    // A file where a folder should be: an error other than "not found".
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "text.txt", some_text());
    let error = rejection(&from_path(&path.join("below.txt")), 4);
    assert!(error.contains("cannot read") && error.contains("below.txt"), "{error}");
}
