//! A run that was stopped and resumed is, bit for bit, the run that was never stopped.

use std::fs;

use dlt_spec::ExitCode;
use dlt_spec::record::{METRICS_FILE, STATES_FILE};
use dlt_train::checkpoint::{Checkpoint, CheckpointFolder};
use dlt_train::{ALLOWED_CHANGES, MODEL_FILE, Resumption, TrainError, Trainer};
use sha2::{Digest, Sha256};

use crate::bench::{Bench, finish};
use crate::materials::KINDS;

/// Makes `steps` more steps.
fn advance(trainer: &mut Trainer, steps: usize) {
    for _ in 0..steps {
        trainer.advance().expect("it does not diverge").expect("it has not ended");
    }
}

/// Runs `settings` once as a whole, and once stopped after each of `stops`, with and without a last
/// checkpoint.
fn check(settings: &[&str], stops: &[usize]) {
    let bench = Bench::new();
    let recorded =
        settings.iter().any(|setting| setting.starts_with("agent.recording")).then(|| {
            bench.run("recorded", &["agent.policy=random", "tying.decide_every=2"]);
            bench.recording("recorded")
        });

    let recorded = recorded.as_ref();
    finish(bench.trainer("whole", settings, recorded));

    let whole = bench.outcome("whole");

    let mut trainer = bench.trainer("stopped", settings, recorded);
    let mut done = 0;

    for &stop in stops {
        advance(&mut trainer, stop - done);
        trainer.save_checkpoint().expect("saved");

        // Steps after the checkpoint are lost, and their lines are cut off. The last step would be
        // saved.
        let lost = (trainer.steps() - stop).saturating_sub(1).min(2);
        advance(&mut trainer, lost);
        drop(trainer);

        let (resumed, notices) = bench.resume("stopped", settings, recorded);
        assert_eq!(resumed.step(), stop, "{settings:?}");
        assert_eq!(
            notices.iter().any(|notice| notice.contains("metrics.jsonl")),
            lost > 0,
            "{notices:?}"
        );
        trainer = resumed;
        done = stop;
    }

    finish(trainer);
    bench.outcome("stopped").assert_same(&whole, &format!("{settings:?}"));
}

#[test]
fn law_a_resumed_run_is_the_run_left_alone_at_every_step() {
    // Decisions every third step, validations every eighth.
    check(&["model.dropout=0.1"], &(1..=24).collect::<Vec<_>>());
}

#[test]
fn law_a_resumed_run_is_the_run_left_alone_under_every_reading() {
    let stops = [1, 2, 5, 9, 16, 23, 24];
    check(&["method reference", "data.pipeline=stream", "tying.decide_every=3"], &stops);
    check(
        &["tying.moments=inherit", "agent.reward=loss-delta", "agent.reward_timing=after-steps"],
        &stops,
    );

    check(
        &["tying.decision=per-layer", "tying.moments=resume", "tying.first_decision=at-step-0"],
        &stops,
    );
    check(&["agent.policy=random", "tying.gradient=owner", "training.micro_batch=2"], &stops);
    check(&["agent.policy=none", "tying.initial=independent", "optimizer.schedule=cosine"], &stops);
    check(&["agent.policy=replay", "agent.recording=recorded", "tying.retied=keep"], &stops);
    check(&["agent.policy=permuted-replay", "agent.recording=recorded"], &stops);
    check(&["agent.policy=fixed", "agent.pattern=cycle"], &stops);
    check(&["tying.tie=replicate", "agent.policy=random", "tying.moments=resume"], &stops);
    check(&["tying.tie=replicate", "tying.decision=per-layer", "tying.first_tie=literal"], &stops);

    check(
        &["training.activations=bf16", "model.dropout=0.1", "training.checkpointing=block"],
        &stops,
    );
}

/// Halves, own parameters with their moments, and exempt layers, whose agent has fewer turns.
#[test]
fn law_a_resumed_run_is_the_run_left_alone_whatever_layers_share() {
    let stops = [1, 2, 5, 9, 16, 23, 24];
    let own = "tying.own=['norms', 'scales', 'biases']";
    check(&["tying.unit=attention", "tying.moments=resume", "model.dropout=0.1"], &stops);
    check(&[own, "agent.policy=random", "tying.gradient=owner"], &stops);
    check(&[own, "tying.unit=feed-forward", "training.activations=bf16"], &stops);
    check(&["tying.exempt=[0]", "tying.decision=per-layer", own], &stops);

    let growth = ["tying.initial=tied", "tying.decision=split", "tying.grow=[0.25, 0.5]"];
    let parts = ["agent.policy=grow", "tying.exempt=[3]", "tying.own=scales", "tying.gate=0.01"];
    check(&[&growth[..], &parts].concat(), &stops);
}

/// Statistics of gradients, the replay memory and the loss before a decision are restored, whenever
/// a run stops.
#[test]
fn law_a_resumed_run_is_the_run_left_alone_while_it_grows() {
    let stops: Vec<_> = (1..=24).collect();
    let growth = ["tying.initial=tied", "tying.moments=inherit", "tying.group_rate=inverse"];
    let splits = ["tying.decision=split", "tying.grow=[0.25, 0.5]"];

    check(
        &[&growth[..], &splits, &["agent.policy=grow", "training.micro_batch=2"]].concat(),
        &stops,
    );
    let few = [1, 2, 5, 6, 7, 9, 12, 16, 23];
    check(&[&growth[..], &splits, &["agent.policy=random"]].concat(), &few);

    check(
        &[&growth[..], &splits, &["agent.policy=even", "tying.residual_scale=uses"]].concat(),
        &few,
    );
    let swaps =
        ["tying.decision=swap", "tying.grow=[0.1, 0.2]", "tying.merge=average", "tying.gate=0.01"];

    check(
        &[&growth[..], &swaps, &["agent.policy=conflict", "tying.moments=resume"]].concat(),
        &stops,
    );
    let single = ["tying.decision=single", "agent.reward=gain", "agent.reward_timing=after-steps"];

    let q = [
        "agent.credit=changed",
        "agent.replay_memory=4",
        "agent.replay_batch=2",
        "agent.target_every=3",
    ];
    check(&[&single[..], &q, &["tying.initial=independent", "tying.gate=0.0"]].concat(), &stops);
    check(&["tying.decide_unit=epochs", "tying.decide_every=1", "agent.policy=random"], &few);
}

/// The order of candidates continues where it was, whenever a run that searches stops. A search is
/// between two steps, so a stop in the middle of one makes it again from its beginning.
#[test]
fn law_a_resumed_run_is_the_run_left_alone_while_it_searches() {
    let ground = ["tying.initial=independent", "agent.budget=9", "agent.price=0.3"];
    let late = ["agent.reward=gain", "agent.reward_timing=after-steps", "tying.gate=0.5"];

    for policy in ["backtrack", "beam", "mcts", "random-search"] {
        let policy = format!("agent.policy={policy}");
        check(&[&ground[..], &[policy.as_str()]].concat(), &[3, 7, 12]);
        check(&[&ground[..], &late, &[policy.as_str()]].concat(), &[4, 9, 17]);
    }
}

/// Augmented pictures, hidden tokens, sentences of different widths: the draws for an example are
/// the same after a stop. The stops are on both sides of the end of a pass over the pictures and
/// the sentences.
#[test]
fn law_a_resumed_run_is_the_run_left_alone_whatever_it_learns_from() {
    for kind in KINDS {
        check(
            &[kind.settings, &["model.dropout=0.1", "training.micro_batch=2"]].concat(),
            &[1, 10, 15, 21],
        );
    }
}

#[test]
fn law_a_resumed_run_of_the_head_alone_is_the_run_left_alone() {
    for kind in KINDS.iter().filter(|kind| kind.has_classes) {
        let more = ["training.trains=head", "agent.policy=none", "tying.initial=independent"];
        check(&[kind.settings, &more].concat(), &[3, 19]);
    }
}

#[test]
fn a_run_without_a_checkpoint_begins_anew() {
    let bench = Bench::new();
    bench.run("whole", &[]);

    let mut trainer = bench.trainer("stopped", &[], None);
    advance(&mut trainer, 11);
    drop(trainer);
    assert!(
        bench.path("stopped").join(MODEL_FILE).exists(),
        "the test needs a model of the lost steps"
    );

    let (trainer, notices) = bench.resume("stopped", &[], None);
    assert_eq!(trainer.step(), 0);
    assert!(!bench.path("stopped").join(MODEL_FILE).exists());
    assert!(notices.iter().any(|notice| notice.contains("metrics.jsonl")), "{notices:?}");
    finish(trainer);
    bench.outcome("stopped").assert_same(&bench.outcome("whole"), "started again");
}

#[test]
fn a_finished_run_goes_on_when_its_steps_are_raised() {
    let bench = Bench::new();
    bench.run("long", &["training.steps=40"]);
    bench.run("short", &["training.steps=24"]);

    let refused =
        bench.try_resume("short", &[], None).err().expect("nothing is left to do").to_string();
    assert!(
        refused.contains("finished after 24 steps") && refused.contains("--steps"),
        "{refused}"
    );

    let (trainer, notices) = bench.resume("short", &["training.steps=40"], None);
    assert_eq!((trainer.step(), trainer.steps()), (24, 40));
    assert!(notices.iter().any(|notice| notice.contains("summary-24.json")), "{notices:?}");
    finish(trainer);
    bench.outcome("short").assert_same(&bench.outcome("long"), "raised");

    let refused =
        bench.try_resume("short", &["training.steps=30"], None).err().expect("fewer").to_string();
    assert!(refused.contains("40 steps are done, but training.steps is only 30"), "{refused}");
}

#[test]
fn half_lines_and_a_damaged_recording_are_mended() {
    let bench = Bench::new();
    bench.run("whole", &[]);

    let mut trainer = bench.trainer("stopped", &[], None);
    advance(&mut trainer, 12);
    trainer.save_checkpoint().expect("saved");
    drop(trainer);

    let append = |name: &str, text: &str| {
        let path = bench.path("stopped").join(name);
        let before = fs::read_to_string(&path).expect("there");
        fs::write(path, before + text).expect("written");
    };

    append(METRICS_FILE, "{\"kind\":\"step\",\"st");
    append(STATES_FILE, "{\"step\":15,\"act");
    fs::write(bench.path("stopped").join(STATES_FILE), "gone").expect("written");

    let (trainer, notices) = bench.resume("stopped", &[], None);
    assert!(
        notices.iter().any(|notice| notice.contains("half a line after step 12")),
        "{notices:?}"
    );

    assert!(
        notices.iter().any(|notice| notice.contains("states.jsonl: written again")),
        "{notices:?}"
    );
    finish(trainer);
    bench.outcome("stopped").assert_same(&bench.outcome("whole"), "repaired");
}

#[test]
fn a_folder_has_one_writer_and_the_second_is_told_who() {
    let bench = Bench::new();
    let mut trainer = bench.trainer("a", &[], None);
    advance(&mut trainer, 2);

    let error = Resumption::open(&bench.path("a")).expect_err("it is held");
    assert_eq!(error.exit_code(), ExitCode::Resources);
    assert!(
        error.to_string().contains(&format!("held by process {}", std::process::id())),
        "{error}"
    );
    drop(trainer);
    Resumption::open(&bench.path("a")).expect("free");
}

#[test]
fn rejects_a_spec_that_would_make_another_run_and_names_every_key() {
    let bench = Bench::new();
    let mut trainer = bench.trainer("a", &[], None);
    advance(&mut trainer, 3);
    trainer.save_checkpoint().expect("saved");
    drop(trainer);

    let before = files(&bench, "a");
    let wrong = [
        "model.width=32",
        "training.activations=bf16",
        "optimizer.learning_rate=0.5",
        "checkpoint.keep_last=7",
    ];

    let error = bench.try_resume("a", &wrong, None).err().expect("another run");
    assert_eq!(error.exit_code(), ExitCode::BadSpec);

    let text = error.to_string();
    assert!(
        text.contains("`model.width`: 16 became 32")
            && text.contains("`optimizer.learning_rate`: 0.01 became")
    );
    assert!(text.contains("`training.activations`: \"f32\" became \"bf16\""), "{text}");
    assert!(!text.contains("keep_last"), "what may change is not refused: {text}");
    assert_eq!(files(&bench, "a"), before, "nothing was touched");

    let (trainer, _) = bench.resume("a", &["checkpoint.keep_last=7"], None);
    drop(trainer);
    assert!(
        fs::read_to_string(bench.path("a").join("spec.toml"))
            .expect("there")
            .contains("keep_last = 7")
    );

    for key in ALLOWED_CHANGES {
        assert!(dlt_spec::fields::find(key).is_some(), "{key}");
    }
}

#[test]
fn rejects_another_text() {
    let bench = Bench::new();
    let mut trainer = bench.trainer("a", &[], None);
    advance(&mut trainer, 3);
    trainer.save_checkpoint().expect("saved");
    drop(trainer);

    let text = bench.path("..").join("text.txt");
    let changed = fs::read_to_string(&text).expect("there") + "w1 w2 ";
    fs::write(&text, changed).expect("written");

    let error = bench.try_resume("a", &[], None).err().expect("another text");
    assert!(matches!(error, TrainError::Resume { .. }), "{error}");
    assert!(error.to_string().contains("the data has changed"), "{error}");
}

#[test]
fn the_newest_checkpoints_and_the_models_they_name_are_kept() {
    let bench = Bench::new();
    let settings =
        ["checkpoint.every_steps=5", "checkpoint.keep_last=2", "evaluation.every_steps=4"];
    bench.run("a", &settings);

    let checkpoints = CheckpointFolder::of(&bench.path("a"));
    let steps: Vec<_> =
        checkpoints.list().expect("readable").into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [24, 20]);

    let names = files(&bench, "a/checkpoint");
    for (_, path) in checkpoints.list().expect("readable") {
        let checkpoint = Checkpoint::open(&path).expect("whole");
        let best = checkpoint.best_path().expect("a best model");
        assert!(best.is_file(), "{}", best.display());
    }

    let bests = names.iter().filter(|(name, _)| name.starts_with("best-")).count();

    assert!(
        names.len() == 2 + bests && (1..=2).contains(&bests),
        "{:?}",
        names.iter().map(|(n, _)| n).collect::<Vec<_>>()
    );
}

#[test]
fn checkpoints_come_by_steps_by_minutes_and_at_the_end() {
    let bench = Bench::new();
    let made = |run: &str, settings: &[&str]| -> Vec<usize> {
        let settings = [&["training.steps=6", "checkpoint.keep_last=100"], settings].concat();
        bench.run(run, &settings);
        CheckpointFolder::of(&bench.path(run))
            .list()
            .expect("readable")
            .into_iter()
            .map(|(step, _)| step)
            .collect()
    };

    assert_eq!(made("end", &[]), [6]);
    assert_eq!(made("never", &["checkpoint.every_minutes=inf"]), [6]);
    assert_eq!(made("steps", &["checkpoint.every_steps=4"]), [6, 4]);
    assert_eq!(made("minutes", &["checkpoint.every_minutes=1e-9"]), [6, 5, 4, 3, 2, 1]);
}

/// The file as layout 2 or 1 had it: another version, and in layout 1 no peaks of memory. The other
/// additions of layout 3 are absent from this run anyway.
fn as_layout(version: u8, path: &std::path::Path) {
    let mut bytes = fs::read(path).expect("there");
    let find = |bytes: &[u8], what: &str| {
        bytes.windows(what.len()).position(|window| window == what.as_bytes()).expect(what)
    };
    let place = find(&bytes, "\"dlt-checkpoint\":\"3\"") + "\"dlt-checkpoint\":\"".len();

    bytes[place] = b'0' + version;
    assert!(!String::from_utf8_lossy(&bytes).contains("\"statistics\""));

    if version == 1 {
        let peaks = find(&bytes, "\"peaks\":{");
        let end = peaks + find(&bytes[peaks..], "},") + 2;
        bytes[peaks..end].fill(b' ');
    }

    let checksum = find(&bytes, "\"checksum\":\"") + "\"checksum\":\"".len();
    let digits = checksum..checksum + 64;
    bytes[digits.clone()].fill(b'0');

    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bytes[digits].copy_from_slice(sha256.as_bytes());
    fs::write(path, bytes).expect("written");
}

#[test]
fn checkpoints_of_the_layouts_before_are_resumed() {
    for version in [1, 2] {
        let bench = Bench::new();
        finish(bench.trainer("whole", &[], None));

        let mut trainer = bench.trainer("stopped", &[], None);
        advance(&mut trainer, 10);
        trainer.save_checkpoint().expect("saved");
        drop(trainer);

        let (_, path) =
            CheckpointFolder::of(&bench.path("stopped")).list().expect("readable").remove(0);
        as_layout(version, &path);

        let (trainer, _) = bench.resume("stopped", &[], None);
        assert_eq!(trainer.step(), 10);
        finish(trainer);
        bench.outcome("stopped").assert_same(&bench.outcome("whole"), &format!("layout {version}"));
    }
}

#[test]
fn weights_are_stored_once_however_many_layers_use_them() {
    let bench = Bench::new();
    let settings = ["agent.policy=none", "tying.initial=tied"];
    let mut trainer = bench.trainer("a", &settings, None);

    advance(&mut trainer, 2);
    trainer.save_checkpoint().expect("saved");

    let (_, path) = &CheckpointFolder::of(&bench.path("a")).list().expect("readable")[0];
    let bytes = fs::read(path).expect("there");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let blocks = tensors.names().iter().filter(|name| name.starts_with("transformer.h.")).count();

    assert_eq!(blocks, 12, "one block");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = header.metadata().clone().expect("there");

    assert_eq!(
        (&*metadata["storage"], &*metadata["state"], &*metadata["step"]),
        ("0,0,0,0", "0,0,0,0", "2")
    );
    assert!(metadata["spec"].contains("[checkpoint]"));
}

/// Names and contents of the files in a folder of the bench, without the lock.
pub(crate) fn files(bench: &Bench, name: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(bench.path(name))
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_file() && entry.file_name() != "lock")
        .map(|entry| {
            (entry.file_name().into_string().expect("text"), fs::read(entry.path()).expect("read"))
        })
        .collect();
    files.sort();

    files
}
