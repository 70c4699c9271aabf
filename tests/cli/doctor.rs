//! `dlt doctor`: every damage is found and named, and nothing in the folder is changed.

use std::fs;
use std::path::Path;

use crate::workplace::{Said, Workplace};

/// Every file below a folder with its content.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
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

    for part in [
        NEWEST,
        OLDER,
        "12 steps",
        "5 decisions",
        "What works",
        "--resume run   (after step 12)",
        "dlt eval",
        "This machine",
        "products of bf16 by",
    ] {
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
        (
            NEWEST,
            &damaged,
            4,
            &["WRONG", NEWEST, "checksum differs", "--resume RUN   (after step 8)"],
        ),
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
            &["WRONG", "metrics.jsonl", "line 5: expected step 3, got step 4"],
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
fn a_repair_is_named_only_where_a_checkpoint_holds_the_model() {
    let place = Workplace::new();
    place.train("run", &["--set", "checkpoint.every_steps=4"]);
    fs::remove_file(place.path("run/model.safetensors")).unwrap();

    let said = place.dlt(&["doctor", "run"]);
    assert!(said.out.contains("a resume, or `dlt doctor RUN --repair`, writes it again"));

    fs::remove_dir_all(place.path("run/checkpoint")).unwrap();
    let said = place.dlt(&["doctor", "run"]);
    assert!(said.out.contains("a model was validated; a resume writes it again"), "{}", said.out);
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
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Makes files and folders as killed processes leave them.
fn half_made(place: &Workplace, names: &[&str]) {
    for name in names {
        let path = place.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();

        if name.contains("/.") {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("config.json"), "{").unwrap();
        } else {
            fs::write(path, "half").unwrap();
        }
    }
}

#[test]
fn what_killed_processes_left_is_named_and_a_repair_removes_it() {
    let place = Workplace::new();
    place.train("runs/run", &[]);

    // No process has an id as large as the one in the second name.
    let left =
        ["runs/.run.partial", "runs/.run.4294967295.partial", "runs/run/summary.json.partial"];
    half_made(&place, &left);

    // Files of a run whose process was killed before the folder got its name.
    for name in
        ["spec.toml", "metrics.jsonl", "lock", "model.safetensors.partial", "companions/merges.txt"]
    {
        let path = place.path(left[0]).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "half").unwrap();
    }

    let said = place.dlt(&["doctor", "runs/run"]).ok();
    for name in [".run.partial", ".run.4294967295.partial", "summary.json.partial"] {
        let line = said.out.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.starts_with("note") && line.contains("--repair removes it"), "{line}");
    }

    assert!(left.iter().all(|name| place.path(name).exists()));
    let said = place.dlt(&["doctor", "runs/run", "--repair"]).ok();
    assert!(
        said.out.contains(".run.partial")
            && said.err.contains("summary.json.partial, which a killed process had left"),
        "{said:?}"
    );
    assert!(left.iter().all(|name| !place.path(name).exists()));
    assert!(!place.dlt(&["doctor", "runs/run"]).ok().out.contains("partial"));
}

#[test]
fn a_folder_that_a_process_fills_is_not_left() {
    let place = Workplace::new();
    place.train("runs/run", &[]);

    let living = fs::canonicalize(place.path("runs")).unwrap().join(".run.partial");
    fs::create_dir(&living).unwrap();

    let held = fs::File::open(&living).unwrap();
    held.lock().unwrap();

    let said = place.dlt(&["doctor", "runs/run", "--repair"]).ok();
    assert!(!said.out.contains(".run.partial"), "{}", said.out);
    assert!(living.exists());
}

#[test]
fn law_a_repair_removes_no_folder_of_others() {
    let place = Workplace::new();
    place.train("runs/run", &[]);
    half_made(&place, &["runs/.export.partial", "runs/.run-2.partial", "runs/.run.partial"]);

    let before = contents(&place.path("runs"));
    // A file that dlt never puts there belongs to the user, so the whole folder is left.
    for name in [
        "thesis.tex",
        "checkpoint/step-000000000012.safetensors",
        "companions/notes.txt",
        "more/spec.toml",
    ] {
        let path = place.path("runs/.run.partial").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "precious").unwrap();

        let said = place.dlt(&["doctor", "runs/run", "--repair"]).ok();
        let is_companion = name.starts_with("companions");
        let top = if is_companion { name } else { name.split('/').next().unwrap() };

        for (folder, reason) in [
            (".export.partial", "left as it is: it is not named after runs/run"),
            (".run-2.partial", "left as it is: it is not named after runs/run"),
            (".run.partial", &format!("left as it is: dlt puts no {top} into a new run or export")),
        ] {
            let line = said.out.lines().find(|line| line.contains(folder)).unwrap();
            assert!(line.starts_with("note") && line.contains(reason), "{line}");
        }

        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();

        let above = path.parent().unwrap();
        if !above.ends_with(".run.partial") {
            fs::remove_dir(above).unwrap();
        }
    }

    let kept = |files: Vec<(String, Vec<u8>)>| {
        files.into_iter().filter(|(path, _)| path.contains(".partial/")).collect::<Vec<_>>()
    };
    assert_eq!(kept(contents(&place.path("runs"))), kept(before));
}

#[cfg(unix)]
#[test]
fn a_repair_leaves_a_half_made_folder_with_a_link() {
    let place = Workplace::new();
    place.train("runs/run", &[]);
    fs::create_dir(place.path("runs/.run.partial")).unwrap();

    let link = place.path("runs/.run.partial/spec.toml");
    std::os::unix::fs::symlink(place.path("text.txt"), &link).unwrap();

    let said = place.dlt(&["doctor", "runs/run", "--repair"]).ok();
    assert!(said.out.contains("left as it is: dlt puts no spec.toml"), "{}", said.out);
    assert!(link.is_symlink());
}

#[test]
fn a_repair_where_there_is_no_run_removes_nothing_of_others() {
    let place = Workplace::new();
    half_made(&place, &["out/.exported.partial", "out/.mine.partial"]);
    place.write("out/.mine.partial/thesis.tex", "precious");
    fs::create_dir(place.path("out/mine")).unwrap();
    place.write("out/mine/letter.txt", "precious");

    let before = contents(&place.path("out"));

    for (run, reason) in [
        ("out/mine", "not a run folder"),
        ("out/gone", "no such run folder"),
        ("out", "not a run folder"),
    ] {
        let said = place.dlt(&["doctor", run, "--repair"]);
        assert!(said.code == Some(4) && said.err.contains(reason), "{run}: {said:?}");
        assert_eq!(contents(&place.path("out")), before, "{run}");
    }
}

#[test]
fn what_is_left_of_a_folder_that_never_came_to_be_is_named() {
    let place = Workplace::new();
    half_made(&place, &["out/.exported.partial"]);

    let said = place.dlt(&["doctor", "out/exported"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(
        said.out.contains("out/.exported.partial") && said.err.contains("no such run folder"),
        "{said:?}"
    );
    assert_eq!(place.dlt(&["doctor", "out/exported", "--repair"]).code, Some(4));
    assert!(!place.path("out/.exported.partial").exists());
}

#[test]
fn what_killed_processes_left_in_the_caches_is_named_and_a_repair_removes_it() {
    let place = Workplace::new();
    let left = ["tokens/ab.partial", "hub/datasets--a--b/refs/main.partial"];
    let kept = [
        "tokens/ab.tokens",
        "hub/models--a--b/blobs/cd.part",
        "hub/models--a--b/blobs/ef.incomplete",
    ];

    half_made(&place, &left);
    half_made(&place, &kept);

    let doctor = |more: &[&str]| {
        let mut command = place.command(&[&["doctor", "--caches"], more].concat());
        command.env("DLT_CACHE", place.path("tokens")).env("HF_HUB_CACHE", place.path("hub"));
        Said::by(&mut command).ok()
    };

    let said = doctor(&[]).out;
    for (name, says) in
        [(left[0], "--repair removes it"), (left[1], "--repair removes it"), (kept[1], "continues")]
    {
        assert!(
            said.lines().any(|line| line.contains(name) && line.contains(says)),
            "{name} in {said}"
        );
    }

    assert!(!said.contains("ab.tokens") && !said.contains("incomplete"), "{said}");
    assert!(left.iter().chain(&kept).all(|name| place.path(name).exists()));
    doctor(&["--repair"]);
    assert!(left.iter().all(|name| !place.path(name).exists()));
    assert!(kept.iter().all(|name| place.path(name).exists()));
    fs::remove_file(place.path(kept[1])).unwrap();
    assert_eq!(doctor(&[]).out, "killed processes have left nothing in the caches\n");
}
