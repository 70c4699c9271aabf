//! Which file of a folder belongs to which split.

use crate::{TOKENIZER, from_path, loaded, rejection, write};
use dlt_data::{DataError, Split, TokenSplits, plan_folder};
use dlt_hub_stand_in::{Column, parquet};
use dlt_spec::{
    record::{Boundary, Division, FolderPlan, Reason},
    spec::{DataSpec, Separator},
};
use proptest::prelude::*;
use std::{collections::BTreeSet, fs};
use tempfile::TempDir;

/// A folder of files that hold their own name.
fn folder(names: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{name}\n")).unwrap();
    }

    folder
}

fn plan(names: &[&str]) -> Result<FolderPlan, DataError> {
    plan_folder(folder(names).path())
}

fn refusal(names: &[&str]) -> String {
    plan(names).unwrap_err().to_string()
}

fn texts(splits: &TokenSplits) -> [String; 3] {
    Split::ALL.map(|split| TOKENIZER.decode(&splits.split(split).tokens().unwrap()).unwrap())
}

#[test]
fn names_as_the_hub_writes_them_keep_their_splits() {
    let folder = TempDir::new().unwrap();
    let table = |word: &str, part: usize| {
        let rows = (0..3).map(|row| format!("{word} {part} {row}")).collect();
        parquet(&[Column::Text("text", rows)], 2)
    };

    for (split, parts) in [("train", 2), ("validation", 1), ("test", 2)] {
        for part in 0..parts {
            write(&folder, &format!("{split}-{part:05}-of-{parts:05}.parquet"), table(split, part));
        }
    }

    let data = DataSpec { separator: Separator::Line, ..from_path(folder.path()) };
    let splits = loaded(&data, 1).unwrap();
    let [train, validation, test] = texts(&splits);

    assert_eq!(train, "train 0 0\ntrain 0 1\ntrain 0 2\ntrain 1 0\ntrain 1 1\ntrain 1 2");
    assert_eq!(validation, "validation 0 0\nvalidation 0 1\nvalidation 0 2");
    assert!(test.starts_with("test 0 0") && test.ends_with("test 1 2"));

    let plan = splits.provenance.plan.unwrap();
    assert_eq!((plan.division, plan.train.len(), plan.test.len()), (Division::Names, 2, 2));
    assert_eq!(splits.provenance.boundary, Some(Boundary::Line));
}

#[test]
fn train_and_validation_alone_have_no_test_split() {
    let folder = folder(&["train.txt", "validation.txt"]);
    let splits = loaded(&from_path(folder.path()), 1).unwrap();
    assert_eq!(texts(&splits), ["train.txt\n", "validation.txt\n", ""]);
    assert!(splits.has(Split::Validation) && !splits.has(Split::Test));

    let named: Vec<Split> = splits.provenance.splits.iter().map(|split| split.split).collect();
    assert_eq!(named, [Split::Train, Split::Validation]);
}

#[test]
fn validation_is_cut_off_the_end_of_train_where_no_file_is_for_it() {
    let folder = TempDir::new().unwrap();
    write(&folder, "train.txt", (0..100).map(|line| format!("line {line}\n")).collect::<String>());
    write(&folder, "test.txt", "tested\n");

    let splits = loaded(&from_path(folder.path()), 1).unwrap();
    let [train, validation, test] = texts(&splits);
    assert!(train.ends_with("line 94\n"), "{train}");
    assert_eq!(validation, "line 95\nline 96\nline 97\nline 98\nline 99\n");
    assert_eq!(test, "tested\n");
    assert_eq!(splits.provenance.plan.unwrap().division, Division::ValidationFromTrain);
}

#[test]
fn numbered_parts_are_one_text_in_the_order_of_their_numbers() {
    let plan = plan(&["part-10.txt", "part-2.txt", "part-1.txt", "notes.md"]).unwrap();
    assert_eq!(plan.train, ["part-1.txt", "part-2.txt", "part-10.txt"]);
    assert_eq!((plan.division, plan.left_out[0].reason), (Division::Fractions, Reason::NoData));
    let of_train = self::plan(&["train/2.txt", "train/10.txt"]).unwrap();
    assert_eq!((of_train.division, of_train.train.len()), (Division::Fractions, 2));
}

#[test]
fn folders_say_splits_too_and_others_are_left_out() {
    let plan = plan(&[
        "train/b.txt",
        "train/a.txt",
        "dev/0.txt",
        "data/test.txt",
        "old/c.txt",
        "README.txt",
    ])
    .unwrap();
    assert_eq!(plan.train, ["train/a.txt", "train/b.txt"]);

    assert_eq!(
        (plan.validation, plan.test),
        (vec!["dev/0.txt".to_owned()], vec!["data/test.txt".to_owned()])
    );
    let left: Vec<_> = plan.left_out.iter().map(|left| (left.file.as_str(), left.reason)).collect();
    assert_eq!(left, [("README.txt", Reason::AboutData), ("old/c.txt", Reason::OtherFolder)]);

    // The only folder with data is the one that is meant.
    assert_eq!(
        self::plan(&["english/train.txt", "english/valid.txt"]).unwrap().train,
        ["english/train.txt"]
    );
}

#[test]
fn rejects_what_could_be_read_in_two_ways() {
    for (names, says) in [
        (
            &["train_test.txt", "valid.txt"][..],
            &["\"train_test.txt\" names more than one split", "\"test\" and \"train\""][..],
        ),
        (
            &["train.txt", "valid.txt", "more.txt"],
            &["train.txt, valid.txt name a split", "more.txt name none"],
        ),
        (&["train.txt", "train.jsonl", "valid.txt"], &["is JSON Lines", "is text"]),
        (&["train.txt", "train.txt.gz", "valid.txt"], &["one text in two forms"]),
        (&["train.txt", "valid.txt", "validation.txt"], &["both name the validation"]),
        (&["dev.txt", "eval.txt", "train.txt"], &["\"dev.txt\" and \"eval.txt\""]),
        (&["train-00000-of-00002.txt", "test.txt"], &["expected 2 files"]),
        (
            &[
                "train-00001-of-00002.txt",
                "train-00002-of-00002.txt.gz",
                "train-00001-of-00002.txt.gz",
            ],
            &["one text in two forms"],
        ),
        (
            &["test.txt", "validation.txt"],
            &["no file for the train split", "test.txt, validation.txt"],
        ),
        (&["a.txt", "b.csv"], &["is text", "is CSV"]),
        (&["a/train.txt", "b/train.txt"], &["several folders with data: a, b"]),
        (&["all.txt", "corpus/train.txt", "corpus/test.txt"], &["name no split", "\"corpus\" do"]),
    ] {
        let error = refusal(names);
        assert!(says.iter().all(|part| error.contains(part)), "{names:?}: {error}");
    }
}

#[test]
fn rejects_a_folder_of_tests_alone_when_it_is_loaded() {
    let error = rejection(&from_path(folder(&["test-1.txt", "test-2.txt"]).path()), 1);
    assert!(error.contains("no file for the train split"), "{error}");
}

/// Pieces of names, some of which name splits, in any case and with any mark.
fn names() -> impl Strategy<Value = Vec<String>> {
    let word = prop::sample::select(vec![
        "train",
        "Training",
        "TEST",
        "testing",
        "validation",
        "val",
        "dev",
        "eval",
        "wiki",
        "part",
        "data",
        "7",
        "0012",
        "latest",
        "en",
        "x",
    ]);

    let mark = prop::sample::select(vec!["-", "_", ".", " ", "/", ""]);
    let ending = prop::sample::select(vec![".txt", ".jsonl", ".txt.gz", ".csv", ".parquet", ".md"]);
    let name = (prop::collection::vec((word, mark), 1..4), "[a-z]{0,2}", ending).prop_map(
        |(parts, last, ending)| {
            let stem: String =
                parts.into_iter().map(|(word, mark)| format!("{word}{mark}")).collect();
            format!("{}{last}{ending}", stem.trim_start_matches('/').replace("//", "/"))
        },
    );

    prop::collection::vec(name, 1..6)
}

/// Whether a name says, as a word of letters, that it is not for training. Written independently of
/// the rule itself.
fn is_held_out(name: &str) -> bool {
    let lower = name.to_lowercase();
    let words = lower.split(|letter: char| !letter.is_ascii_alphabetic());
    let held_out = ["test", "testing", "validation", "val", "dev", "eval"];
    words.into_iter().any(|word| held_out.contains(&word))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn law_nothing_held_out_is_trained_on_and_every_file_is_in_one_place(names in names()) {
        let folder = TempDir::new().unwrap();
        let mut written = BTreeSet::new();

        for name in &names {
            let path = folder.path().join(name);
            // A name that is also a folder of another name cannot be a file.
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && fs::write(&path, "a word\n").is_ok() {
                written.insert(name.clone());
            }
        }

        if let Ok(plan) = plan_folder(folder.path()) {
            for file in &plan.train {
                prop_assert!(!is_held_out(file), "{file} is trained on: {plan:?}");
            }

            let placed: Vec<&String> = [&plan.train, &plan.validation, &plan.test]
                .into_iter()
                .flatten()
                .chain(plan.left_out.iter().map(|left| &left.file))
                .collect();
            let distinct: BTreeSet<String> = placed.iter().map(|name| (*name).clone()).collect();
            prop_assert_eq!(placed.len(), distinct.len());
            prop_assert_eq!(distinct, written);
        }
    }
}
