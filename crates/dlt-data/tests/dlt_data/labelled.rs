//! The user's own labelled texts.

use crate::{cache::with_warnings, write};
use dlt_data::{Example, Material, Places, Split, load_sentences};
use dlt_hub_stand_in::{Column, parquet};
use dlt_spec::{
    Spec,
    record::Division,
    spec::{DataSpec, Objective, OnBadRow},
};
use std::{collections::BTreeSet, path::Path};
use tempfile::TempDir;

const SHARES: [f64; 3] = [0.8, 0.1, 0.1];

fn load(path: impl AsRef<Path>) -> Result<dlt_data::SentenceSplits, String> {
    load_with(path, OnBadRow::Stop)
}

fn load_with(
    path: impl AsRef<Path>,
    on_bad_row: OnBadRow,
) -> Result<dlt_data::SentenceSplits, String> {
    let source = path.as_ref().to_string_lossy().into_owned();
    let data = DataSpec { source, split: SHARES, on_bad_row, ..DataSpec::default() };
    load_sentences(&data, None, None, &mut |_| ()).map_err(|error| error.to_string())
}

/// Rows that are sorted by their class, as tables often are.
fn csv(rows: usize) -> String {
    let label = |row: usize| if row < rows / 2 { "bad" } else { "good" };
    let row = |row: usize| format!("\"text, number {row}\",{}\n", label(row));
    format!("text,label\n{}", (0..rows).map(row).collect::<String>())
}

fn all(splits: &dlt_data::SentenceSplits) -> Vec<&Example> {
    Split::ALL.iter().flat_map(|&split| splits.split(split)).collect()
}

#[test]
fn a_table_that_is_sorted_by_class_has_every_class_in_every_split() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "reviews.csv", csv(200));
    let splits = load(&path).unwrap();

    assert_eq!(
        (splits.classes, splits.class_names.clone()),
        (2, vec!["bad".to_owned(), "good".to_owned()])
    );
    assert_eq!(splits.plan.as_ref().unwrap().division, Division::Checksums);

    let sizes = Split::ALL.map(|split| splits.split(split).len());
    assert_eq!(sizes, [160, 20, 20]);

    for split in Split::ALL {
        let classes: BTreeSet<_> =
            splits.split(split).iter().map(|example| example.label.unwrap()).collect();
        assert_eq!(classes.len(), 2, "{split}");
    }

    let texts: BTreeSet<&str> =
        all(&splits).into_iter().map(|example| example.first.as_str()).collect();
    assert_eq!(texts.len(), 200);

    assert!(all(&splits).contains(&&Example {
        first: "text, number 7".to_owned(),
        second: None,
        label: Some(0)
    }));
}

#[test]
fn equal_texts_are_in_one_split() {
    let folder = TempDir::new().unwrap();
    let rows: String = (0..300).map(|row| format!("text {},{}\n", row % 30, row % 2)).collect();
    let splits = load(write(&folder, "rows.csv", format!("text,label\n{rows}"))).unwrap();
    let texts = |split| -> BTreeSet<&str> {
        splits.split(split).iter().map(|example| example.first.as_str()).collect()
    };

    assert!(texts(Split::Train).is_disjoint(&texts(Split::Test)));
    assert!(texts(Split::Train).is_disjoint(&texts(Split::Validation)));
}

#[test]
fn folders_of_every_format_keep_their_splits() {
    let folder = TempDir::new().unwrap();
    let texts = |word: &str| vec![format!("{word} a"), format!("{word} b")];
    let table = parquet(&[Column::Text("text", texts("p")), Column::Whole("label", vec![0, 1])], 1);

    write(&folder, "train.parquet", table);
    write(
        &folder,
        "validation.jsonl",
        "{\"text\": \"v\", \"label\": 1}\n{\"text\": \"w\", \"label\": \"0\"}\n",
    );

    let splits = load(folder.path()).unwrap();
    assert_eq!(Split::ALL.map(|split| splits.split(split).len()), [2, 2, 0]);
    assert_eq!((splits.train[1].label, splits.validation[0].label), (Some(1), Some(1)));
    write(&folder, "test.csv", "text,label\nt,1\n");

    let splits = load(folder.path()).unwrap();
    assert_eq!((splits.test[0].first.as_str(), splits.test[0].label), ("t", Some(1)));
    assert_eq!(splits.plan.unwrap().division, Division::Names);
}

#[test]
fn columns_are_named_after_the_path_and_pairs_are_found() {
    let folder = TempDir::new().unwrap();
    let rows: String =
        (0..40).map(|row| format!("{row},head {row},body {row},{}\n", row % 3 + 1)).collect();
    let path = write(&folder, "rows.csv", format!("id,head,body,stars\n{rows}"));
    let named = |columns: &str| load(format!("{}::{columns}", path.display()));
    let splits = named("body,stars").unwrap();

    // Stars from 1 are classes from 0.
    assert_eq!(splits.class_names, ["1", "2", "3"]);
    let example = splits.train.iter().find(|example| example.first == "body 4").unwrap();
    assert_eq!((example.label, &example.second), (Some(1), &None));

    let splits = named("head,body,stars").unwrap();
    assert_eq!(splits.train[0].second.as_deref().map(|text| &text[..4]), Some("body"));

    let error = load(&path).unwrap_err();
    assert!(
        error.contains("PATH::TEXT,LABEL") && error.contains("id, head, body, stars"),
        "{error}"
    );

    let rows: String = (0..40).map(|row| format!("p {row}\th {row}\tyes{}\n", row % 2)).collect();
    let pairs = write(&folder, "pairs.tsv", format!("premise\thypothesis\tlabel\n{rows}"));
    assert_eq!(load(pairs).unwrap().train[0].second.as_deref().map(|text| &text[..1]), Some("h"));
}

#[test]
fn rejects_what_is_no_table_of_classes() {
    let folder = TempDir::new().unwrap();
    for (name, content, says) in [
        ("a.txt", "just text\n".to_owned(), "expected a table with columns text and label"),
        ("b.csv", "text,label\na,0.25\nb,0.75\n".to_owned(), "got 0.25: numbers cannot be learned"),
        ("c.csv", "text,label\na,x\nb,x\n".to_owned(), "got 1 (x)"),
        ("d.csv", "text,other\na,x\n".to_owned(), "no column of classes"),
        ("e.jsonl", "{\"text\": 3, \"label\": 1}\n".to_owned(), "expected text in \"text\""),
        (
            "f.jsonl",
            "{\"text\": \"a\", \"label\": []}\n".to_owned(),
            "expected a word or a number in \"label\"",
        ),
        ("g.csv", "text,label\na,x,more\n".to_owned(), "row 2"),
    ] {
        let error = load(write(&folder, name, content)).unwrap_err();
        assert!(error.contains(name) && error.contains(says), "{error}");
    }

    let error = load(folder.path().join("none.csv")).unwrap_err();
    assert!(error.contains("none.csv"), "{error}");
}

#[test]
fn arrays_of_objects_and_other_separators_are_read() {
    let folder = TempDir::new().unwrap();
    let objects: Vec<String> =
        (0..40).map(|row| format!("{{\"text\": \"t {row}\", \"label\": {}}}", row % 2)).collect();
    let splits = load(write(&folder, "rows.json", format!("[{}]", objects.join(",\n")))).unwrap();

    assert_eq!((all(&splits).len(), splits.classes), (40, 2));
    let rows: String = (0..40).map(|row| format!("one, two {row};{}\n", row % 2)).collect();
    let splits = load(write(&folder, "rows.csv", format!("text;label\n{rows}"))).unwrap();

    assert!(all(&splits).iter().any(|example| example.first == "one, two 7"));
}

#[test]
fn rows_without_a_class_have_none() {
    let folder = TempDir::new().unwrap();
    write(&folder, "train.csv", "text,label\na,1.0\nb,\nc,0.0\nd,-1\n");
    write(
        &folder,
        "valid.jsonl",
        "{\"text\": \"e\", \"label\": 0}\n{\"text\": \"f\", \"label\": null}\n",
    );

    let splits = load(folder.path()).unwrap();
    let labels =
        |split| splits.split(split).iter().map(|example| example.label).collect::<Vec<_>>();
    assert_eq!(labels(Split::Train), [Some(1), None, Some(0), None]);
    assert_eq!(labels(Split::Validation), [Some(0), None]);
}

/// Tables of thirty good rows after bad ones, with the number of bad rows and the reasons of the
/// first three.
fn tables_with_bad_rows(folder: &TempDir) -> Vec<(std::path::PathBuf, u64, [&'static str; 3])> {
    let good = |row: usize| (format!("text {row}"), row % 2);
    let lines: String = (0..30)
        .map(good)
        .map(|(text, label)| format!("{{\"text\": \"{text}\", \"label\": {label}}}\n"))
        .collect();
    let bad = "{\"text\": \"a\", \"label\": 0}\n{\"text\": null, \"label\": 0}\n{\"text\": 3, \"label\": 1}\nno object\n\
        {\"text\": \"b\", \"label\": [1]}\n";
    let csv: String = (0..30).map(good).map(|(text, label)| format!("{text},{label}\n")).collect();
    let csv = [b"text,label\na,0\nb\nc,1,2\ncaf\xE9,0\nd,1,2\n", csv.as_bytes()].concat();
    let texts = (0..30).map(|row| (row > 3).then(|| good(row).0)).collect();
    let labels = (0..30).map(|row| good(row).1.to_string()).collect();
    let table = parquet(&[Column::MaybeText("text", texts), Column::Text("label", labels)], 7);
    let null = "expected text in \"text\", got null";
    let of_json = [
        "row 2: expected text in \"text\", got null",
        "row 3: expected text in \"text\", got a number",
        "row 4",
    ];
    let fields = "expected 2 fields as the line of names has, got";
    vec![
        (write(folder, "rows.jsonl", format!("{bad}{lines}")), 4, of_json),
        (write(folder, "rows.csv", csv), 4, [fields, fields, "row 5: not UTF-8"]),
        (write(folder, "rows.parquet", table), 4, [null; 3]),
    ]
}

#[test]
fn bad_rows_stop_or_are_left_out_and_counted_as_in_tables_of_texts() {
    let folder = TempDir::new().unwrap();

    for (path, skipped, first) in tables_with_bad_rows(&folder) {
        let error = load(&path).unwrap_err();
        assert!(
            error.contains(first[0])
                && error.contains("data.on_bad_row = \"skip\" leaves such rows out"),
            "{error}"
        );

        let (splits, said) = with_warnings(|| load_with(&path, OnBadRow::Skip).unwrap());
        let rows = &splits.bad_rows;
        assert_eq!(
            (rows.empty, rows.skipped, rows.first.len()),
            (0, skipped, 3),
            "{}",
            path.display()
        );

        for (said, expected) in rows.first.iter().zip(first) {
            assert!(
                said.contains(&path.display().to_string()) && said.contains(expected),
                "{said}"
            );
        }

        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("rows are left out") && said[0].contains(&format!("rows={skipped}")),
            "{said:?}"
        );

        let kept = if path.ends_with("rows.parquet") { 26 } else { 31 };
        assert_eq!((all(&splits).len(), splits.classes), (kept, 2), "{}", path.display());
    }
}

#[test]
fn bad_rows_of_a_folder_of_tables_are_counted_together_and_reported_by_file() {
    let folder = TempDir::new().unwrap();
    let [rows, ..] = &tables_with_bad_rows(&folder)[..] else { unreachable!("three tables") };
    let text = std::fs::read(&rows.0).unwrap();
    let data = TempDir::new().unwrap();

    ["train.jsonl", "valid.jsonl", "test.jsonl"]
        .iter()
        .for_each(|name| drop(write(&data, name, &text)));
    let (splits, said) = with_warnings(|| load_with(data.path(), OnBadRow::Skip).unwrap());

    assert_eq!(
        (splits.bad_rows.skipped, splits.bad_rows.first.len(), said.len()),
        (12, 3, 3),
        "{said:?}"
    );
}

#[test]
fn left_out_rows_of_labelled_tables_are_in_the_provenance() {
    let folder = TempDir::new().unwrap();
    let source = tables_with_bad_rows(&folder)[0].0.to_string_lossy().into_owned();
    let mut spec = Spec::default();

    spec.model.objective = Objective::Classes;
    spec.data = DataSpec {
        source,
        split: SHARES,
        on_bad_row: OnBadRow::Skip,
        tokenizer: "bytes".to_owned(),
        ..spec.data
    };

    let material = Material::load(&spec.check().unwrap(), Places::default(), &mut |_| ()).unwrap();
    assert_eq!(material.provenance().bad_rows.skipped, 4);
}
