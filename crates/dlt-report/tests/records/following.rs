//! Event files that follow a run, and files of other programs that stay.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use dlt_report::ReportError;
use dlt_report::tensorboard::{EventFile, FOLDER, convert};
use dlt_spec::record::{EvaluationRow, METRICS_FILE, MetricRow, PROVENANCE_FILE, Split};
use proptest::prelude::*;

use crate::rows::{rows, write_metrics, write_run};

fn evaluation(step: usize) -> MetricRow {
    MetricRow::Evaluation(EvaluationRow {
        step,
        split: Split::Validation,
        loss: 1.0 / step as f64,
        perplexity: 2.0,
        tokens: 5,
        accuracy: None,
        elapsed_ms: 10.0 * step as f64,
    })
}

fn append(run: &Path, rows: &[MetricRow]) {
    let mut file = OpenOptions::new().append(true).open(run.join(METRICS_FILE)).unwrap();
    rows.iter().for_each(|row| writeln!(file, "{}", row.to_line()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However often the metrics are read, and at whatever step a run is resumed.
    #[test]
    fn law_the_file_is_a_function_of_the_metrics(
        rows in rows(), others in rows(), looks in 0usize..20, cut in 0usize..20,
    ) {
        let place = tempfile::tempdir().unwrap();
        let run = place.path().join("run");
        let whole = place.path().join("whole");

        write_run(&run, &[]);
        let mut file = EventFile::open(&run, &run.join(FOLDER)).unwrap();
        let path = file.path().to_owned();
        let looks = looks.min(rows.len());

        for part in [&rows[..looks], &rows[looks..]] {
            append(&run, part);
            file.follow().unwrap();
        }

        write_run(&whole, &rows);
        let expected =
            |folder: &str| fs::read(convert(&whole, &whole.join(folder)).unwrap()).unwrap();
        prop_assert_eq!(fs::read(&path).unwrap(), expected("a"));

        // Resumed while no process follows it, and then while this one does.
        let left = [&rows[..cut.min(rows.len())], &others].concat();
        drop(file);
        write_metrics(&run, &rows[..cut.min(rows.len())]);

        let mut file = EventFile::open(&run, &run.join(FOLDER)).unwrap();
        append(&run, &others);
        file.follow().unwrap();
        write_metrics(&whole, &left);
        prop_assert_eq!(fs::read(&path).unwrap(), expected("b"));
        write_metrics(&run, &[]);
        write_metrics(&whole, &[]);
        file.follow().unwrap();
        prop_assert_eq!(fs::read(&path).unwrap(), expected("c"));
    }
}

#[test]
fn the_name_says_when_and_what_and_no_host() {
    let place = tempfile::tempdir().unwrap();
    write_run(place.path(), &[evaluation(1)]);
    let path = convert(place.path(), &place.path().join("events")).unwrap();
    assert_eq!(path, place.path().join("events/events.out.tfevents.1700000000.any.0"));
}

#[test]
fn a_file_of_ours_is_written_anew_even_where_the_provenance_was_lost() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join(FOLDER);
    write_run(place.path(), &[evaluation(1)]);

    let path = convert(place.path(), &folder).unwrap();
    let provenance = fs::read_to_string(place.path().join(PROVENANCE_FILE)).unwrap();
    fs::write(place.path().join(PROVENANCE_FILE), provenance.replace("1700000000", "1800000000"))
        .unwrap();
    assert_eq!(convert(place.path(), &folder).unwrap(), path);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "or its steps would be there twice");
}

#[test]
fn rejects_to_write_over_files_of_others() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join(FOLDER);
    write_run(place.path(), &[evaluation(1)]);

    let path = convert(place.path(), &folder).unwrap();
    // In the folder: a file of another program, one with our name, and a damaged one with our name.
    fs::write(folder.join("events.out.tfevents.1600000000.other"), b"theirs").unwrap();

    let ours = fs::read(&path).unwrap();
    assert_eq!(convert(place.path(), &folder).unwrap(), path);

    let mut damaged = ours.clone();
    damaged[20] ^= 1;

    for found in [&b"theirs"[..], &damaged, &ours[..20]] {
        fs::write(&path, found).unwrap();
        let error = convert(place.path(), &folder).unwrap_err().to_string();
        assert!(error.contains("was not written by dlt"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), found, "it stays as it is");
    }

    assert_eq!(fs::read(folder.join("events.out.tfevents.1600000000.other")).unwrap(), b"theirs");
    // A full disk may have left an empty file.
    fs::write(&path, b"").unwrap();
    convert(place.path(), &folder).unwrap();
    assert_eq!(fs::read(&path).unwrap(), ours);
}

#[test]
fn rejects_a_file_that_a_run_writes_now() {
    let place = tempfile::tempdir().unwrap();
    write_run(place.path(), &[evaluation(1)]);

    let file = EventFile::open(place.path(), &place.path().join(FOLDER)).unwrap();
    let error = convert(place.path(), &place.path().join(FOLDER)).unwrap_err().to_string();
    assert!(error.contains("another process is writing it"), "{error}");
    convert(place.path(), &place.path().join("elsewhere")).unwrap();
    drop(file);
    convert(place.path(), &place.path().join(FOLDER)).unwrap();
}

#[test]
fn rejects_what_is_no_run() {
    let place = tempfile::tempdir().unwrap();
    let error = convert(place.path(), &place.path().join(FOLDER)).unwrap_err();
    assert!(matches!(error, ReportError::NoRun { .. }), "{error}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is left behind");
}
