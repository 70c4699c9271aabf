//! Runs as a library user makes them, without a terminal, an environment or a command line.
#![allow(clippy::unwrap_used, reason = "a test fails where its helper cannot continue")]

use std::path::Path;
use std::sync::Mutex;

use dlt_data::Places;
use dlt_run::{
    Beginning, Destination, Export, Form, Import, Imported, Introduction, Observer, Program,
    Result, Resuming, RunError, Silent, Site, SpecLayers,
};
use dlt_spec::{CheckedSpec, ExitCode, Overlay, Spec, presets};
use dlt_train::{DeviceChoice, Products, RunFolder, TrainError, Trainer, open_device};

/// Steps of a run.
const STEPS: usize = 6;

fn spec() -> CheckedSpec {
    let settings = [
        "model.layers=2",
        "model.width=16",
        "model.heads=2",
        "model.context=16",
        "data.source=shakespeare",
        "data.tokenizer=bytes",
        "training.steps=6",
        "training.batch=2",
        "optimizer.warmup_steps=0",
        "tying.decide_every=2",
        "evaluation.every_steps=3",
        "evaluation.windows=4",
        "evaluation.final_windows=8",
    ];

    let mut overlays = vec![presets::preset("smoke").unwrap().overlay().unwrap()];
    overlays.extend(settings.map(|setting| Overlay::from_assignment(setting).unwrap()));
    Spec::assemble(&overlays).unwrap().check().unwrap()
}

fn program() -> Program {
    Program { command_line: vec!["my".to_owned(), "own".to_owned()], ..Program::new("1.2.3", 3) }
}

fn begin(run: &Path, observer: &dyn Observer) -> Result<Trainer> {
    let (device, device_name) = open_device(DeviceChoice::Cpu, Products::F32)?;
    let destination = Destination::Exactly(run.to_owned());

    Beginning::of_spec(spec(), destination, None, observer)?.begin(&Site {
        device,
        device_name: &device_name,
        places: Places::default(),
        program: &program(),
        observer,
    })
}

fn resume(run: &Path, changes: &SpecLayers<'_>) -> Result<Trainer> {
    let (device, device_name) = open_device(DeviceChoice::Cpu, Products::F32)?;

    Resuming::open(run, changes, &Silent)?.resume(&Site {
        device,
        device_name: &device_name,
        places: Places::default(),
        program: &program(),
        observer: &Silent,
    })
}

fn train(mut trainer: Trainer) {
    while trainer.advance().unwrap().is_some() {}
    trainer.finish().unwrap();
}

/// Keeps what it receives.
#[derive(Default)]
struct Witness {
    notes: Mutex<Vec<String>>,
    introduced: Mutex<Vec<[usize; 2]>>,
}

impl Observer for Witness {
    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.to_owned());
    }

    fn introduce(&self, introduction: &Introduction<'_>) {
        let Introduction { start_bytes, most_bytes, .. } = *introduction;
        self.introduced.lock().unwrap().push([start_bytes, most_bytes]);
    }
}

#[test]
fn a_run_records_the_program_that_made_it() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    let witness = Witness::default();
    train(begin(&run, &witness).unwrap());

    let provenance = RunFolder::read_provenance(&run).unwrap();
    assert_eq!(provenance.version, "1.2.3");
    assert_eq!(provenance.revision, None);
    assert_eq!(provenance.threads, 3);
    assert_eq!(provenance.command_line, ["my", "own"]);

    let notes = witness.notes.into_inner().unwrap();
    assert!(
        notes.iter().any(|note| note == &format!("run folder: {}", run.display())),
        "{notes:?}"
    );

    let introduced = witness.introduced.into_inner().unwrap();
    let [[start, most]] = introduced[..] else { panic!("{introduced:?}") };
    assert!(0 < start && start <= most, "{introduced:?}");
}

#[test]
fn rejects_a_folder_that_exists() {
    let place = tempfile::tempdir().unwrap();
    let error = begin(place.path(), &Silent).map(drop).unwrap_err();

    assert!(matches!(error, RunError::Train(TrainError::RunExists { .. })), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Usage);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_resumed_run_has_the_weights_of_one_that_never_stopped() {
    let place = tempfile::tempdir().unwrap();
    let [whole, stopped] = ["whole", "stopped"].map(|name| place.path().join(name));
    train(begin(&whole, &Silent).unwrap());

    let mut trainer = begin(&stopped, &Silent).unwrap();
    for _ in 0..STEPS / 2 {
        trainer.advance().unwrap();
    }
    trainer.save_checkpoint().unwrap();
    drop(trainer);

    let trainer = resume(&stopped, &SpecLayers::default()).unwrap();
    assert_eq!(trainer.step(), STEPS / 2);
    train(trainer);

    let [whole, stopped] =
        [whole, stopped].map(|run| std::fs::read(run.join(dlt_train::MODEL_FILE)).unwrap());
    assert!(whole == stopped);
}

#[test]
fn rejects_a_change_that_makes_another_run() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    train(begin(&run, &Silent).unwrap());

    let set = ["model.width=32".to_owned()];
    let changes = SpecLayers { set: &set, ..SpecLayers::default() };
    let error = resume(&run, &changes).map(drop).unwrap_err();
    assert!(matches!(error, RunError::Train(TrainError::ChangedSpec { .. })), "{error}");
}

#[test]
fn a_model_that_is_exported_and_imported_has_the_same_layers() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    train(begin(&run, &Silent).unwrap());

    for (form, name) in [(Form::Tied, "tied"), (Form::HuggingFace, "hf")] {
        let out = place.path().join(name);
        let export = Export { run: &run, form, out: &out, hub: None };
        let parameters = export.carry_out(&Silent).unwrap();
        let again = export.carry_out(&Silent).unwrap_err();
        assert!(matches!(again, RunError::Exists { .. }), "{again}");

        let back = place.path().join(format!("{name}-back"));
        let program = program();
        let import = Import {
            model: out.to_str().unwrap(),
            out: &back,
            data: None,
            set: &[],
            hub: None,
            program: &program,
        };

        let Imported { parameters: found, owners } = import.carry_out(&Silent).unwrap();
        assert_eq!((found, owners.len()), (parameters, 2), "{name}");
        assert!(back.join(dlt_train::MODEL_FILE).is_file(), "{name}");
    }
}
