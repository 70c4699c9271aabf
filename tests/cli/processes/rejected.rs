//! Runs that several processes cannot begin together: each is refused with one message, and leaves
//! nothing.

use std::fs;

use super::bits::letters;
use super::job::{Job, one_error};
use crate::workplace::{Said, Workplace};

/// What a job in this place may leave: what the program says.
const SAID: [&str; 2] = ["said.err", "said.out"];

fn files(place: &Workplace) -> Vec<String> {
    let names = fs::read_dir(place.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !SAID.contains(&name.as_str())).collect();
    names.sort();
    names
}

/// Checks that a job is refused with one message that has these parts, and leaves no run folder.
fn is_rejected(place: &Workplace, start: impl Fn() -> Said, parts: &[&str]) {
    let before = files(place);
    let said = start();
    let error = one_error(&said);
    for part in parts {
        assert!(error.contains(part), "{part} is missing in {said:?}");
    }
    assert_eq!(files(place), before, "{said:?}");
}

/// Starts a run whose process 1 has other arguments than process 0.
fn unlike(place: &Workplace, first: &[&str], second: &[&str]) -> Said {
    let train = ["-n", "1", "dlt", "train", "--quiet", "--out", "run"];
    Job::mpirun(place, &[&train, first, &[":"], &train, second].concat()).end()
}

#[test]
fn rejects_processes_that_begin_other_runs_by_name() {
    let place = letters(2);
    let spec = place.read("spec.toml");
    place.write("other.toml", spec.replace("dropout = 0.1", "dropout = 0.2"));
    place.write("letters-2.txt", place.read("letters.txt").replace('a', "b"));
    place.write("letters-2.json", place.read("letters.json").replace("[UNK]", "[OTHER]"));

    let same: &[&str] = &["spec.toml"];
    for (second, parts) in [
        (&["other.toml"][..], &["process 1 on ", "another run", "the spec"][..]),
        (&["spec.toml", "--data", "letters-2.txt"], &["process 1 on ", "another run"]),
        (&["spec.toml", "--tokenizer", "letters-2.json"], &["process 1 on ", "another run"]),
        (&["spec.toml", "--data", "none.txt"], &["process 1 on ", "none.txt"]),
        (&["none.toml"], &["process 1 on ", "none.toml"]),
        (&["spec.toml", "--set", "model.heads=3"], &["process 1 on ", "model.heads"]),
    ] {
        is_rejected(&place, || unlike(&place, same, second), parts);
    }

    // The same, in process 0.
    let parts = ["process 0 on ", "none.txt"];
    is_rejected(&place, || unlike(&place, &["spec.toml", "--data", "none.txt"], same), &parts);
}

/// The spec is the same, but one host has another file under the path.
#[test]
fn rejects_other_data_under_the_same_path() {
    let place = letters(2);
    for (folder, letter) in [("first", "a"), ("second", "b")] {
        fs::create_dir(place.path(folder)).unwrap();
        let text = place.read("letters.txt").replace('a', letter);
        place.write(&format!("{folder}/letters.txt"), text);
    }

    // A path that is absolute, and another file in each process.
    let data = "/proc/self/cwd/letters.txt";
    let spec = place.path("spec.toml").to_str().unwrap().to_owned();
    let [tokenizer, out] = ["letters.json", "run"].map(|name| place.path(name));
    let [tokenizer, out] = [&tokenizer, &out].map(|path| path.to_str().unwrap());
    let options = ["--data", data, "--tokenizer", tokenizer, "--quiet", "--out", out];
    let program = |folder| {
        let start = ["-n", "1", "--wdir", folder, "dlt", "train", &spec];
        [&start[..], &options].concat()
    };

    let [first, second] = ["first", "second"].map(program);
    let line = [&first[..], &[":"], &second].concat();
    let parts = ["process 1 on ", "another run", "data with the checksum"];
    is_rejected(&place, || Job::mpirun(&place, &line).end(), &parts);
}

#[test]
fn rejects_a_full_disk_of_process_0() {
    let place = letters(2);
    // A limit on the size of files: the tokens are in the cache by then, and the spec is larger.
    place.dlt(&["train", "spec.toml", "--steps", "1", "--out", "before"]).ok();

    let full = ["sh", "-c", "ulimit -f 1; exec \"$@\"", "sh"];
    let train = ["dlt", "train", "spec.toml", "--quiet", "--out", "run"];
    let tcp = ["--mca", "btl", "self,tcp"];
    let line = [&tcp[..], &["-n", "1"], &full, &train, &[":", "-n", "1"], &train].concat();
    let parts = ["process 0 on ", "run", "File too large"];
    is_rejected(&place, || Job::mpirun(&place, &line).end(), &parts);
}

#[test]
fn rejects_numbers_of_processes_that_cannot_share_a_batch() {
    let place = letters(4);
    let train = |processes: &str| {
        let line = ["train", "spec.toml", "--quiet", "--out", "run", "--processes", processes];
        Job::dlt(&place, &line).end()
    };
    let parts = |processes| ["divides training.shards = 4", processes];
    is_rejected(&place, || train("3"), &parts("got 3; start 1, 2, 4 … up to 4"));
    is_rejected(&place, || train("8"), &parts("got 8"));

    // Without shards, there are as many as processes.
    place.write("spec.toml", place.read("spec.toml").replace("shards = 4", ""));
    is_rejected(&place, || train("3"), &["training.shards", "a power of two"]);
}

#[test]
fn rejects_processes_within_processes() {
    let place = letters(4);
    let line = ["-n", "2", "dlt", "train", "spec.toml", "--out", "run", "--processes", "4"];
    let parts = ["--processes 4", "mpirun has started 2 processes"];
    is_rejected(&place, || Job::mpirun(&place, &line).end(), &parts);
}

#[test]
fn rejects_more_processes_than_shards_at_a_resume() {
    let place = letters(2);
    let begin = ["train", "spec.toml", "--steps", "3", "--out", "run", "--processes", "2"];
    Job::dlt(&place, &begin).end().ok();

    let metrics = place.read("run/metrics.jsonl");
    let more = ["train", "--resume", "run", "--steps", "6", "--processes", "4"];
    let parts = ["divides training.shards = 2", "got 4"];
    is_rejected(&place, || Job::dlt(&place, &more).end(), &parts);
    assert_eq!(place.read("run/metrics.jsonl"), metrics);

    let rest = ["train", "--resume", "run", "--steps", "6", "--processes", "2"];
    Job::dlt(&place, &rest).end().ok();
}
