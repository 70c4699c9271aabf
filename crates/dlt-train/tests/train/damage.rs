//! Damaged and hostile checkpoints: an older one is used, or the file is refused by name. Nothing
//! else is harmed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dlt_spec::ExitCode;
use dlt_train::checkpoint::{Checkpoint, CheckpointFolder};
use dlt_train::{MODEL_FILE, Resumption, TrainError};
use safetensors::tensor::Dtype;
use sha2::{Digest, Sha256};

use crate::bench::{Bench, finish};

const SETTINGS: [&str; 3] =
    ["training.steps=14", "evaluation.every_steps=4", "checkpoint.every_steps=5"];

/// A run that was stopped after its checkpoints of steps five and ten; the newest first.
fn stopped(bench: &Bench, run: &str) -> Vec<PathBuf> {
    let mut trainer = bench.trainer(run, &SETTINGS, None);
    (0..11).for_each(|_| drop(trainer.advance().expect("it does not diverge")));
    let checkpoints = CheckpointFolder::of(&bench.path(run)).list().expect("readable");
    assert_eq!(checkpoints.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [10, 5]);
    checkpoints.into_iter().map(|(_, path)| path).collect()
}

/// A file in the way of a checkpoint, valid safetensors with this metadata and one tensor.
fn foreign(metadata: &[(&str, &str)]) -> Vec<u8> {
    let view =
        safetensors::tensor::TensorView::new(Dtype::F32, vec![1], &[0; 4]).expect("a tensor");
    let metadata =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    safetensors::serialize([("a", view)], Some(metadata)).expect("bytes")
}

/// Every kind of damage to a good checkpoint, and the message for it.
fn damages(good: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let flipped = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };

    let with_length = |length: u64, rest: &[u8]| [&length.to_le_bytes(), rest].concat();
    let data = 8 + u64::from_le_bytes(good[..8].try_into().expect("eight")) as usize;
    let swapped = |from: &str, to: &str| {
        let header = String::from_utf8(good[8..data].to_vec()).expect("text").replacen(from, to, 1);
        assert_eq!(header.len(), data - 8, "{from} and {to} have one length");
        [&good[..8], header.as_bytes(), &good[data..]].concat()
    };

    vec![
        ("empty", Vec::new(), "an empty file"),
        ("a few bytes", vec![1, 2, 3], "at least 8 bytes, got 3"),
        ("cut in its header", good[..100].to_vec(), "cut short"),
        ("cut in its data", good[..good.len() / 2].to_vec(), "cut short"),
        ("cut by one byte", good[..good.len() - 1].to_vec(), "cut short"),
        ("too long", [good, &[0]].concat(), "too long"),
        ("a bit of the data flipped", flipped(data + 1000), "checksum"),
        ("the last bit flipped", flipped(good.len() - 1), "checksum"),
        ("a bit of the spec flipped", swapped("seed = 1", "seed = 2"), "checksum"),
        (
            "another version",
            swapped("\"dlt-checkpoint\":\"3\"", "\"dlt-checkpoint\":\"9\""),
            "version 3 or 1, 2, got 9",
        ),
        ("another dtype", swapped("\"dtype\":\"F32\"", "\"dtype\":\"F16\""), "cannot be at"),
        ("another shape", swapped("\"shape\":[16]", "\"shape\":[17]"), "cannot be at"),
        ("no checksum", swapped("\"checksum\"", "\"checkSUM\""), "lacks the checksum"),
        ("a model file", foreign(&[("dlt-model", "1")]), "not one of dlt's checkpoints"),
        (
            "text",
            b"this is not a checkpoint but a text, for what it is worth".to_vec(),
            "header claims",
        ),
        ("a header of all memory", with_length(u64::MAX, &good[8..]), "header claims"),
        ("a header of no bytes", with_length(0, &good[8..]), "not a safetensors header"),
        (
            "deep brackets",
            [&20_000u64.to_le_bytes()[..], "[".repeat(20_000).as_bytes()].concat(),
            "header",
        ),
    ]
}

#[test]
fn law_a_damaged_checkpoint_is_named_and_the_one_before_is_used() {
    let bench = Bench::new();
    let good = fs::read(&stopped(&bench, "good")[0]).expect("there");

    for (what, bytes, says) in damages(&good) {
        let run = what.replace(' ', "-");
        let newest = stopped(&bench, &run).remove(0);
        fs::write(&newest, &bytes).expect("written");

        let error = Checkpoint::open(&newest).expect_err(what);
        assert_eq!(error.exit_code(), ExitCode::BadData, "{what}: {error}");

        let error = error.to_string();
        assert!(
            error.contains(says) && error.contains(&newest.display().to_string()),
            "{what}: {error}"
        );

        let resumption = Resumption::open(&bench.path(&run)).expect(what);
        assert_eq!(resumption.step(), 5, "{what}");
        assert!(
            resumption.notices()[0].contains("checkpoint not used")
                && resumption.notices()[0].contains(says)
        );
        assert_eq!(fs::read(&newest).expect("there"), bytes, "{what}: looking harms nothing");
    }
}

#[test]
fn a_run_whose_newest_checkpoint_is_damaged_is_still_the_run_left_alone() {
    let bench = Bench::new();
    bench.run("whole", &SETTINGS);

    let newest = stopped(&bench, "a").remove(0);
    let mut bytes = fs::read(&newest).expect("there");
    let middle = bytes.len() / 2;

    bytes[middle] ^= 1;
    fs::write(&newest, bytes).expect("written");

    let (trainer, notices) = bench.resume("a", &SETTINGS, None);
    assert!(notices.iter().any(|notice| notice.contains("set aside as")), "{notices:?}");
    assert!(newest.with_extension("damaged").is_file());
    finish(trainer);
    bench.outcome("a").assert_same(&bench.outcome("whole"), "from the one before");
}

#[test]
fn rejects_a_run_whose_checkpoints_are_all_damaged_and_names_them() {
    let bench = Bench::new();
    for path in stopped(&bench, "a") {
        fs::write(path, "").expect("written");
    }

    let error = Resumption::open(&bench.path("a")).expect_err("none can be used");
    assert_eq!(error.exit_code(), ExitCode::BadData);

    let text = error.to_string();
    assert!(text.contains("step-000000000010") && text.contains("step-000000000005"), "{text}");
    assert!(text.contains("remove") && text.contains("start again"), "{text}");
}

#[test]
fn the_best_model_is_taken_from_the_checkpoint_or_the_run_whichever_is_whole() {
    let bench = Bench::new();
    bench.run("whole", &SETTINGS);

    // The run's own file is gone.
    stopped(&bench, "a");
    fs::write(bench.path("a").join(MODEL_FILE), "damaged").expect("written");

    // A hard link is the same file, so the damage is in both. An older checkpoint has an older
    // model.
    let resumption = Resumption::open(&bench.path("a"));
    assert!(matches!(&resumption, Ok(found) if found.step() == 5), "{resumption:?}");
    drop(resumption);
    finish(bench.resume("a", &SETTINGS, None).0);
    bench.outcome("a").assert_same(&bench.outcome("whole"), "an older model");

    // The checkpoint's copy is gone.
    let newest = Checkpoint::open(&stopped(&bench, "b")[0]).expect("whole");
    fs::remove_file(newest.best_path().expect("a best model")).expect("removed");

    let (trainer, notices) = bench.resume("b", &SETTINGS, None);
    assert_eq!(trainer.step(), 10, "{notices:?}");
    finish(trainer);
    bench.outcome("b").assert_same(&bench.outcome("whole"), "the run's own model");
}

#[test]
fn a_checkpoint_whose_metrics_were_lost_is_not_used() {
    let bench = Bench::new();
    stopped(&bench, "a");

    let metrics = bench.path("a").join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).expect("there");
    fs::write(&metrics, text.lines().take(9).map(|line| format!("{line}\n")).collect::<String>())
        .expect("written");

    let resumption = Resumption::open(&bench.path("a")).expect("the older one is good");
    assert_eq!(resumption.step(), 5);

    assert!(
        resumption.notices()[0].contains("metrics.jsonl, which has"),
        "{:?}",
        resumption.notices()
    );
}

#[test]
fn rejects_folders_that_are_no_runs() {
    let bench = Bench::new();
    let error = Resumption::open(&bench.path("nowhere")).expect_err("not there");
    assert!(error.to_string().contains("no such run folder"), "{error}");
    fs::create_dir_all(bench.path("empty")).expect("made");

    let error = Resumption::open(&bench.path("empty")).expect_err("empty");
    assert!(
        matches!(error, TrainError::Resume { .. }) && error.to_string().contains("no spec.toml"),
        "{error}"
    );

    assert_eq!(
        fs::read_dir(bench.path("empty")).expect("there").count(),
        0,
        "not even a lock is left"
    );
}

/// The same bytes with a checksum that agrees. That is no accident of a disk, but a fault of a
/// program or malice.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let key = b"\"checksum\":\"";
    let place =
        bytes.windows(key.len()).position(|window| window == key).expect("there") + key.len();
    bytes[place..place + 64].fill(b'0');

    let digits: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bytes[place..place + 64].copy_from_slice(digits.as_bytes());
    bytes
}

/// The header with one text in place of another of the same length.
fn with_header(good: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = good.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
    [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
}

#[test]
fn rejects_checkpoints_that_are_sealed_but_contradict_themselves_and_touches_nothing() {
    let bench = Bench::new();
    let tied = [&SETTINGS[..], &["agent.policy=none", "tying.initial=tied"]].concat();
    let mut trainer = bench.trainer("good", &tied, None);

    (0..11).for_each(|_| drop(trainer.advance().expect("it does not diverge")));
    drop(trainer);

    let path = CheckpointFolder::of(&bench.path("good")).list().expect("readable").remove(0).1;
    let good = fs::read(&path).expect("there");
    assert_eq!(resealed(good.clone()), good, "the seal is the writer's");

    for (from, to, says) in [
        ("\"shape\":[16,64]", "\"shape\":[64,16]", "expected shape"),
        ("\"storage\":\"0,0,0,0\"", "\"storage\":\"0,0,3,0\"", "transformer.h.3."),
        ("\"storage\":\"0,0,0,0\"", "\"storage\":\"0,0,9,0\"", "below 4, got storage 9"),
        (
            "\"storage\":\"0,0,0,0\"",
            "\"storage\":\"0,0,000\"",
            "expected 4 layers in the binding, got 3",
        ),
        (
            "\"storage\":\"0,0,0,0\"",
            "\"storage\":\"0,0,x,0\"",
            "expected numbers separated by commas",
        ),
        ("\"independent\":\"0\"", "\"independent\":\"7\"", "got layer 7"),
        (
            "\"vocabulary\":\"21\"",
            "\"vocabulary\":\"22\"",
            "expected 21 entries in the vocabulary, got 22",
        ),
        ("transformer.wpe.weight", "transformer.wpe.wEIGHT", "it is missing"),
        ("n_layers\":4", "n_layers\":3", "expected a recording of 4 layers, got one of 3"),
        ("layers = 4", "layers = 0", "`model.layers` is 0"),
        ("\"step\":10", "\"step\":11", "it is of step 11, but its name says 10"),
        ("{\"step\":10", "{\"pets\":10", "unknown field `pets`"),
    ] {
        fs::write(&path, resealed(with_header(&good, from, to))).expect("written");
        let before = fs::read(bench.path("good").join("metrics.jsonl")).expect("there");
        let result = bench
            .try_resume("good", &tied, None)
            .map(|(trainer, notices)| (trainer.step(), notices));

        match result {
            // Refused during the search for the newest good checkpoint.
            Ok((step, notices)) => {
                assert_eq!(step, 5, "{to}");
                assert!(notices[0].contains(says), "{to}: {notices:?}");

                // That has cut the run back.
                fs::rename(path.with_extension("damaged"), &path).expect("set aside");
                fs::write(bench.path("good").join("metrics.jsonl"), before).expect("written");
            }
            Err(error) => {
                assert!(error.to_string().contains(says), "{to}: {error}");
                assert_eq!(
                    fs::read(bench.path("good").join("metrics.jsonl")).expect("there"),
                    before,
                    "{to}"
                );
            }
        }
    }
}

/// Every file below a folder with its content, except the lock.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else if !path.ends_with("lock") {
            files.insert(path.clone(), fs::read(&path).expect("there"));
        }
    }

    files
}

/// A resume that cuts files back first and fails then would lose steps. So everything that can be
/// wrong is found before.
#[test]
fn law_a_refused_resume_changes_no_file() {
    let bench = Bench::new();
    let newest = stopped(&bench, "a").remove(0);
    let good = fs::read(&newest).expect("there");

    // A resume would remove what a killed process left behind, and cut off what came after step 10.
    fs::write(newest.with_file_name("step-000000000015.partial"), "half").expect("written");
    let metrics = bench.path("a").join("metrics.jsonl");
    let whole = fs::read(&metrics).expect("there");

    let text = String::from_utf8_lossy(&good);
    let key = "\"metrics_bytes\":";
    let digits = &text[text.find(key).expect("there") + key.len()..];
    let cut: usize = digits[..digits.find(',').expect("a list")].parse().expect("a number");
    assert!(whole[cut - 1] == b'\n' && cut < whole.len());

    let refuse = |what: &str, more: &[&str], says: &str| {
        let before = tree(&bench.path("a"));
        let error = bench.try_resume("a", &[&SETTINGS[..], more].concat(), None).err().expect(what);
        assert!(error.to_string().contains(says), "{what}: {error}");
        assert_eq!(tree(&bench.path("a")), before, "{what}");
    };

    refuse("too few steps", &["training.steps=6"], "10 steps are done");

    for (what, from, to, says) in [
        ("an agent that takes turns", "\"turn\":null", "\"turn\":   1", "turn and reward of the"),
        (
            "moments are missing",
            "moments/first/transformer.wpe.weight",
            "moments/first/transformer.wpe.wEIGHT",
            "it is missing",
        ),
    ] {
        fs::write(&newest, resealed(with_header(&good, from, to))).expect("written");
        refuse(what, &[], says);
    }

    fs::write(&newest, &good).expect("written");
    let mut other = whole.clone();
    other[cut - 1] = b' ';
    fs::write(&metrics, other).expect("written");
    refuse("metrics of another run", &[], "expected a line end at byte");

    // With the right metrics the same folder is resumed.
    fs::write(&metrics, whole).expect("written");
    let (trainer, notices) = bench.resume("a", &SETTINGS, None);
    assert_eq!(trainer.step(), 10, "{notices:?}");
    assert_eq!(fs::read(&metrics).expect("there").len(), cut);
}
