//! Damaged, foreign and hostile model files: each is named and none is used. What a killed process
//! left is removed by the next one.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Instant;

use serde_json::Value;

use crate::models::{Kind, place, train};
use crate::workplace::{Said, Workplace};

const MODEL: &str = "run/model.safetensors";

/// Header and data of a safetensors file.
fn parts(bytes: &[u8]) -> (Value, &[u8]) {
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..header]).unwrap(), &bytes[header..])
}

fn joined(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    [&(header.len() as u64).to_le_bytes(), &header[..], data].concat()
}

/// Replaces a file by other bytes. Hard links to the old file keep its bytes.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.len() - 1000;
    bytes[at] ^= 0x40;
    bytes
}

/// Checks the message of every command that reads a model about a damaged one.
fn refused(place: &Workplace, says: &[&str]) {
    for arguments in [
        &["eval", "run"][..],
        &["generate", "run", "--prompt", "a", "--tokens", "2"],
        &["export", "run", "--format", "hf", "--out", "out"],
        &["export", "run", "--format", "tied", "--out", "out"],
        &["import", "run", "--out", "out"],
        &["inspect", "run"],
        &["train", "--from", "run", "--data", "text.txt", "--steps", "1", "--out", "out"],
        &["figure", "correlations", "run", "--out", "out.svg"],
    ] {
        let said = place.dlt(arguments);
        assert_eq!(said.code, Some(4), "{arguments:?}: {said:?}");

        // Figures know no checkpoints, so they cannot say what holds the right bytes.
        for part in says.iter().take(if arguments[0] == "figure" { 1 } else { says.len() }) {
            assert!(said.err.contains(part), "{arguments:?}: {part} is missing in {}", said.err);
        }
        assert!(!place.path("out").exists() && !place.path("out.svg").exists(), "{arguments:?}");
    }
}

#[test]
fn regression_a_flipped_bit_of_a_model_is_found_and_the_model_is_repaired() {
    let place = Workplace::new();
    place
        .train("run", &["--set", "tying.initial=independent", "--set", "checkpoint.every_steps=4"]);

    let good = fs::read(place.path(MODEL)).unwrap();
    let loss = place.dlt(&["eval", "run", "--json"]).ok().out;
    replace(&place.path(MODEL), &flipped(&good));
    refused(
        &place,
        &["it is damaged: its checksum differs", "checkpoint/best-", "dlt doctor run --repair"],
    );

    let said = place.dlt(&["doctor", "run"]);
    assert_eq!(said.code, Some(4), "{said:?}");

    for part in [
        "WRONG",
        "model.safetensors",
        "its checksum differs",
        "`dlt doctor run --repair` writes it again",
    ] {
        assert!(said.out.contains(part), "{part} is missing in {}", said.out);
    }

    let said = place.dlt(&["doctor", "run", "--repair"]).ok();
    assert!(
        said.err.contains("was written again from") && said.err.contains("model.damaged"),
        "{said:?}"
    );
    assert!(fs::read(place.path(MODEL)).unwrap() == good);
    assert!(fs::read(place.path("run/model.damaged")).unwrap() == flipped(&good));
    assert_eq!(place.dlt(&["eval", "run", "--json"]).ok().out, loss);
    assert!(place.dlt(&["doctor", "run", "--repair"]).ok().err.contains("nothing to repair"));

    // A second damage does not take the name of the first.
    replace(&place.path(MODEL), b"");
    place.dlt(&["doctor", "run", "--repair"]).ok();
    assert_eq!(fs::read(place.path("run/model.2.damaged")).unwrap(), b"");
    fs::remove_file(place.path(MODEL)).unwrap();
    place.dlt(&["doctor", "run", "--repair"]).ok();
    assert!(fs::read(place.path(MODEL)).unwrap() == good);
}

/// The copy of the model next to the checkpoints is often a hard link to the same file, so its bits
/// flip too.
#[test]
fn regression_a_model_whose_second_name_is_damaged_too_is_made_from_a_checkpoint() {
    let place = Workplace::new();
    place.train("run", &["--set", "checkpoint.every_steps=4", "--set", "checkpoint.keep_last=9"]);

    let good = fs::read(place.path(MODEL)).unwrap();
    fs::write(place.path(MODEL), flipped(&good)).unwrap();
    refused(&place, &["it is damaged", "checkpoint/step-", "--repair"]);
    place.dlt(&["doctor", "run", "--repair"]).ok();
    assert!(fs::read(place.path(MODEL)).unwrap() == good, "equal models are equal files");
}

#[test]
fn rejects_models_that_contradict_themselves() {
    let place = Workplace::new();
    place.train("run", &[]);

    let good = fs::read(place.path(MODEL)).unwrap();
    let (header, data) = parts(&good);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut header = header.clone();
        change(&mut header);
        joined(&header, data)
    };

    let name = "transformer.wte.weight";
    let first = |header: &mut Value| {
        // Earlier files had no checksum. Then the checkpoint has it.
        header["__metadata__"].as_object_mut().unwrap().remove("checksum");
        header["__metadata__"]["dlt-model"] = "1".into();
    };

    let text = String::from_utf8(serde_json::to_vec(&header).unwrap()).unwrap();
    let twice = text.replacen(
        &format!("\"{name}\":"),
        &format!("\"{name}\":{},\"{name}\":", header[name]),
        1,
    );

    for (bytes, says) in [
        (
            changed(&|header| header[name]["dtype"] = "I32".into()),
            "expected numbers in F32, got I32",
        ),
        (
            changed(&|header| header[name]["shape"] = serde_json::json!([1, 1])),
            "cannot be at bytes",
        ),
        (
            changed(&|header| header["__metadata__"]["storage"] = "0,0,0".into()),
            "its checksum differs",
        ),
        ([&(twice.len() as u64).to_le_bytes(), twice.as_bytes(), data].concat(), "is there twice"),
        (changed(&first), "its checksum differs from the one recorded in run/checkpoint/step-"),
    ] {
        replace(&place.path(MODEL), &bytes);
        let said = place.dlt(&["eval", "run"]);
        assert!(said.code == Some(4) && said.err.contains(says), "{says}: {said:?}");
    }
}

/// Puts weights that are not finite into an export, and removes the checksum, which models of other
/// programs do not have.
fn with_nan(place: &Workplace, folder: &str) {
    let path = place.path(folder).join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let (mut header, data) = parts(&bytes);

    header.as_object_mut().unwrap().remove("__metadata__");
    let mut data = data.to_vec();
    let at = header["transformer.wpe.weight"]["data_offsets"][0].as_u64().unwrap() as usize;

    data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    data[at + 8..at + 12].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs::write(path, joined(&header, &data)).unwrap();
}

#[test]
fn rejects_weights_that_are_not_numbers() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);
    place.dlt(&["export", "run", "--format", "hf", "--out", "model"]).ok();
    with_nan(&place, "model");

    for arguments in [
        &["import", "model", "--out", "out"][..],
        &["train", "--from", "model", "--data", "text.txt", "--steps", "1", "--out", "out"],
    ] {
        let said = place.dlt(arguments);
        assert_eq!(said.code, Some(4), "{arguments:?}: {said:?}");

        let says = "tensor `transformer.wpe.weight`: expected finite numbers, got 2 of ";
        assert!(said.err.contains(says), "{arguments:?}: {}", said.err);
        assert!(!place.path("out").exists(), "{arguments:?}");
    }
}

#[test]
fn what_stands_in_the_place_of_a_model_is_named() {
    const POINTER: &[u8] =
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n";
    const PAGE: &[u8] = b"<!DOCTYPE html>\n<html><title>Sign in</title></html>\n";

    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);
    place.dlt(&["export", "run", "--format", "hf", "--out", "model"]).ok();

    for file in ["model.safetensors", "config.json", "tokenizer.json"] {
        let path = place.path("model").join(file);
        let good = fs::read(&path).unwrap();

        for (bytes, says) in
            [(POINTER, "Git LFS pointer"), (PAGE, "web page"), (b"", "an empty file")]
        {
            fs::write(&path, bytes).unwrap();
            let said = place.dlt(&["import", "model", "--out", "out"]);
            assert_eq!(said.code, Some(4), "{file}: {said:?}");
            assert!(said.err.contains(file) && said.err.contains(says), "{file}: {}", said.err);
        }

        fs::write(&path, good).unwrap();
    }

    replace(&place.path(MODEL), POINTER);
    let said = place.dlt(&["eval", "run"]);
    assert!(said.code == Some(4) && said.err.contains("Git LFS pointer"), "{said:?}");
}

/// Folder names that are hard to write in TOML.
#[test]
fn a_model_is_imported_from_a_folder_of_any_name() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);

    for (number, name) in
        ["cafe\u{301}", "soft\u{ad}hyphen", "\"quoted\"", "it's", "two\nlines", "back\\slash"]
            .into_iter()
            .enumerate()
    {
        place.dlt(&["export", "run", "--format", "hf", "--out", name]).ok();
        let out = format!("out-{number}");
        place.dlt(&["import", name, "--out", &out]).ok();
        place.dlt(&["eval", &out, "--text", "text.txt"]).ok();

        let into = format!("{name}-back");
        place.dlt(&["import", name, "--out", &into]).ok();
        place.dlt(&["eval", &into, "--text", "text.txt"]).ok();
    }
}

/// Kills a command at many moments of its life, and finally lets it end.
fn killed(place: &Workplace, arguments: &[&str], mut check: impl FnMut()) {
    let began = Instant::now();
    place.dlt(arguments).ok();

    let whole = began.elapsed();
    let made = arguments[arguments.len() - 1];
    fs::remove_dir_all(place.path(made)).unwrap();
    const KILLS: u32 = 24;

    for number in 0..KILLS {
        let mut child =
            place.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(whole * number / KILLS);
        child.kill().unwrap();
        child.wait().unwrap();
        check();

        if place.path(made).exists() {
            fs::remove_dir_all(place.path(made)).unwrap();
        }
    }

    place.dlt(arguments).ok();
    let left: Vec<_> =
        fs::read_dir(place.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let is_partial = |name: &&std::ffi::OsString| name.to_string_lossy().ends_with(".partial");

    assert!(!left.iter().any(|name| is_partial(&name)), "{left:?}");
}

#[test]
fn law_an_export_or_import_that_is_killed_is_whole_or_not_there() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &[]);

    let whole = |folder: &str, files: &[&str]| {
        let path = place.path(folder);
        if path.exists() {
            for file in files {
                assert!(path.join(file).is_file(), "{folder} lacks {file}");
            }
        }
    };

    killed(&place, &["export", "run", "--format", "hf", "--out", "model"], || {
        whole(
            "model",
            &["config.json", "model.safetensors", "tokenizer.json", "spec.toml", "README.md"],
        );
    });

    killed(&place, &["import", "model", "--out", "back"], || {
        whole(
            "back",
            &["spec.toml", "provenance.json", "metrics.jsonl", "states.jsonl", "model.safetensors"],
        );
    });

    place.dlt(&["eval", "back", "--text", "text.txt"]).ok();
}

#[test]
fn what_a_killed_process_left_is_named_by_doctor_and_removed_by_a_resume() {
    let place = Workplace::new();
    place.train("run", &[]);

    let left = [
        ".tmpA1b2C3",
        "summary.json.partial",
        "model.safetensors.partial",
        "csv/steps.csv.partial",
    ];
    fs::create_dir(place.path("run/csv")).unwrap();

    for name in left {
        fs::write(place.path("run").join(name), "half").unwrap();
    }

    // One that a living process writes.
    let living = fs::File::create(place.path("run/correlations.json.partial")).unwrap();
    living.lock().unwrap();

    let said = place.dlt(&["doctor", "run"]).ok();
    for name in left {
        assert!(said.out.contains(name), "{name} is missing in {}", said.out);
    }

    assert!(!said.out.contains("correlations.json.partial"), "{}", said.out);
    place.dlt(&["train", "--resume", "run", "--steps", "14", "--quiet"]).ok();

    for name in left {
        assert!(!place.path("run").join(name).exists(), "{name}");
    }

    assert!(place.path("run/correlations.json.partial").exists());
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    #[test]
    fn every_file_has_the_mode_that_the_umask_gives() {
        let place = place();
        let dlt = env!("CARGO_BIN_EXE_dlt");
        let script = format!(
            "umask 027; {dlt} train --preset smoke --data text.txt --set data.tokenizer=bytes --steps 4 --quiet --out run && \
             {dlt} export run --format hf --out hf && {dlt} export run --format tied --out tied && \
             {dlt} import hf --out back && {dlt} convert run --to csv"
        );

        Said::by(Command::new("sh").args(["-c", &script]).current_dir(place.path("."))).ok();
        let mut folders = ["run", "hf", "tied", "back"].map(|name| place.path(name)).to_vec();

        while let Some(folder) = folders.pop() {
            assert_eq!(mode(&folder), 0o750, "{}", folder.display());
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    assert_eq!(mode(&path), 0o640, "{}", path.display());
                }
            }
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn nothing_in_a_run_folder_is_written_through_a_link() {
        let place = Workplace::new();
        place.train("good", &[]);
        place.write("precious", "precious");
        fs::create_dir(place.path("folder")).unwrap();
        place.write("folder/precious.partial", "precious");

        // Links in place of files that are changed in place are refused. Other links are replaced.
        for (file, code) in [
            ("lock", Some(5)),
            ("metrics.jsonl", Some(5)),
            ("states.jsonl", Some(5)),
            ("checkpoint", Some(5)),
            ("provenance.json.partial", Some(0)),
            ("summary.json.partial", Some(0)),
            ("spec.toml.partial", Some(0)),
            ("model.safetensors.partial", Some(0)),
            ("checkpoint/step-000000000014.partial", Some(0)),
            ("model.safetensors", Some(0)),
        ] {
            let run = format!("run-{}", file.replace('/', "-"));
            copy(&place.path("good"), &place.path(&run));

            let path = place.path(&run).join(file);
            if path.is_dir() {
                fs::remove_dir_all(&path).unwrap();
            } else {
                drop(fs::remove_file(&path));
            }

            symlink(place.path(if file == "checkpoint" { "folder" } else { "precious" }), &path)
                .unwrap();
            let said = place.dlt(&["train", "--resume", &run, "--steps", "14", "--quiet"]);
            assert_eq!(said.code, code, "{file}: {said:?}");

            if code != Some(0) {
                assert!(said.err.contains("it is a link"), "{file}: {}", said.err);
                let looked = place.dlt(&["doctor", &run]);
                assert!(looked.out.contains("it is a link"), "{file}: {}", looked.out);
            }

            assert_eq!(place.read("precious"), "precious", "{file}");
            assert_eq!(place.read("folder/precious.partial"), "precious", "{file}");
        }
    }

    /// `cp -al` makes such a backup: of hard links.
    #[test]
    fn a_backup_by_second_names_stays_what_it_was() {
        let place = Workplace::new();
        place.train("run", &["--set", "checkpoint.every_steps=4"]);
        Said::by(Command::new("cp").args(["-al", "run", "backup"]).current_dir(place.path(".")))
            .ok();

        let before = place.read("backup/metrics.jsonl");
        place.dlt(&["train", "--resume", "run", "--steps", "14", "--quiet"]).ok();
        assert_eq!(place.read("backup/metrics.jsonl"), before);
        assert_ne!(place.read("run/metrics.jsonl"), before);
        place.dlt(&["doctor", "backup"]).ok();
    }

    fn copy(from: &Path, to: &Path) {
        Said::by(Command::new("cp").arg("-r").args([from, to])).ok();
    }
}
