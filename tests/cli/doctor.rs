//! `dlt doctor`: every damage is found, named, and nothing in the folder is touched.

use std::fs;
use std::path::Path;

use crate::workplace::Workplace;

/// Every file below a folder with its content, the lock apart.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => found.push((path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

const NEWEST: &str = "checkpoint/step-000000000012.safetensors";
const OLDER: &str = "checkpoint/step-000000000008.safetensors";

#[test]
fn a_whole_run_is_good() {
    let place = Workplace::new();
    place.train("run", &["--set", "checkpoint.every_steps=4"]);
    let before = contents(&place.path("run"));
    let said = place.dlt(&["doctor", "run"]).ok();
    assert_eq!(contents(&place.path("run")), before);
    assert!(!said.out.contains("WRONG") && !said.out.contains("note"), "{}", said.out);
    for part in
        [NEWEST, OLDER, "12 steps", "5 decisions", "What works", "--resume run   (after step 12)", "dlt eval"]
    {
        assert!(said.out.contains(part), "{part} is missing in {}", said.out);
    }
    assert!(!said.out.contains("What does not"), "{}", said.out);
}

#[test]
fn law_every_damage_is_found_and_what_still_works_is_told() {
    let place = Workplace::new();
    place.train("good", &["--set", "checkpoint.every_steps=4"]);
    let damaged = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 3].to_vec();
    let without_a_line = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let kept: Vec<_> = text.lines().enumerate().filter(|(index, _)| *index != 4).collect();
        kept.iter().map(|(_, line)| format!("{line}\n")).collect::<String>().into_bytes()
    };
    type Damage<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let cases: [(&str, Damage<'_>, i32, &[&str]); 12] = [
        (NEWEST, &damaged, 4, &["WRONG", NEWEST, "checksum differs", "--resume RUN   (after step 8)"]),
        (NEWEST, &cut, 4, &["WRONG", "cut short", "--resume RUN   (after step 8)"]),
        (
            "checkpoint/step-000000000013.partial",
            &damaged,
            0,
            &["note", "step-000000000013.partial", "not used"],
        ),
        ("metrics.jsonl", &cut, 0, &["note", "metrics.jsonl", "not written to its end"]),
        (
            "metrics.jsonl",
            &without_a_line,
            4,
            &["WRONG", "metrics.jsonl", "line 5: expected step 3, came step 4"],
        ),
        ("metrics.jsonl", &|_| Vec::new(), 4, &["WRONG", "metrics.jsonl", "it is empty"]),
        ("states.jsonl", &cut, 0, &["note", "states.jsonl", "not written to its end"]),
        (
            "states.jsonl",
            &|_| b"{}\n".to_vec(),
            4,
            &["WRONG", "states.jsonl", "line 1", "takes it from the checkpoint"],
        ),
        (
            "model.safetensors",
            &|bytes| bytes[..500].to_vec(),
            4,
            &["WRONG", "model.safetensors", "What does not", "dlt eval"],
        ),
        (
            "spec.toml",
            &|_| b"[model\n".to_vec(),
            4,
            &["WRONG", "spec.toml", "not valid TOML", "What does not"],
        ),
        ("summary.json", &|_| b"{".to_vec(), 4, &["WRONG", "summary.json"]),
        ("provenance.json", &|_| b"\xff".to_vec(), 4, &["WRONG", "provenance.json"]),
    ];
    for (number, (file, damage, code, says)) in cases.into_iter().enumerate() {
        let run = format!("run-{number}");
        copy(&place.path("good"), &place.path(&run));
        let path = place.path(&run).join(file);
        fs::write(&path, damage(&fs::read(&path).unwrap_or_else(|_| vec![0; 9]))).unwrap();
        let before = contents(&place.path(&run));
        let said = place.dlt(&["doctor", &run]);
        assert_eq!(said.code, Some(code), "{file}: {said:?}");
        for part in says {
            let part = part.replace("RUN", &run);
            assert!(said.out.contains(&part), "{file}: {part} is missing in {}", said.out);
        }
        assert!(!said.err.contains("panicked"), "{}", said.err);
        assert_eq!(contents(&place.path(&run)), before, "{file}: looking changes nothing");
    }
}

#[test]
fn an_unfinished_run_and_its_writer_are_told() {
    let place = Workplace::new();
    place.train("run", &[]);
    fs::remove_file(place.path("run/summary.json")).unwrap();
    let said = place.dlt(&["doctor", "run"]).ok();
    assert!(said.out.contains("the run has not finished"), "{}", said.out);
    let held = fs::File::open(place.path("run/lock")).unwrap();
    held.lock().unwrap();
    let said = place.dlt(&["doctor", "run"]).ok();
    assert!(said.out.contains("writes into the folder"), "{}", said.out);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}
