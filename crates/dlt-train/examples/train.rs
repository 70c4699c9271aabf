//! A small run from its spec to its result, with this crate alone:
//!
//! ```sh
//! cargo run -p dlt-train --example train -- [RUN]
//! ```
//!
//! `RUN` is the folder of the run, else a temporary one. It takes seconds on one core.
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use dlt_data::{BYTES, Material, Places, SHAKESPEARE, Split};
use dlt_spec::record::{DataProvenance, FIGURES_REVISION, Host, Provenance, RECORD_SCHEMA};
use dlt_spec::spec::Size;
use dlt_spec::{CheckedSpec, fingerprint, presets};
use dlt_train::{DeviceChoice, Products, RunFolder, Trainer, open_device};

/// Steps between two lines.
const REPORT_EVERY: usize = 30;

fn main() -> Result<(), Box<dyn Error>> {
    let spec = spec()?;
    let (device, device_name) = open_device(DeviceChoice::Cpu, Products::F32)?;

    // `Places` names a cache for tokens and how to reach the hub. The shipped text needs neither.
    let material = Material::load(&spec, Places::default(), &mut |_| ())?;
    // What is refused here leaves no folder behind.
    Trainer::check(&spec, &material, None, &device)?;

    // Dropping this removes the folder, so it has to live as long as the run.
    let temporary = tempfile::tempdir()?;
    let path =
        std::env::args_os().nth(1).map_or_else(|| temporary.path().join("run"), PathBuf::from);
    let folder = RunFolder::create(&path, &spec, &provenance(&spec, &material, &device_name))?;

    // No recording, because the policy does not replay one, and no weights to start from.
    let mut trainer = Trainer::new(spec, material, None, None, folder, device)?;

    while let Some(report) = trainer.advance()? {
        // The decision was made just before the step.
        if let Some(decision) = &report.decision {
            println!("step {}: the owners of the layers are {:?}", report.step, decision.state);
        }

        if report.step % REPORT_EVERY == 0 {
            println!("step {} of {}: loss {:.3}", report.step, report.steps, report.loss);
        }
    }

    // Evaluates the best model on validation and test, and writes `summary.json`.
    let summary = trainer.finish()?;
    println!("validation perplexity {:.2}", summary.validation_perplexity);
    println!("of a model that only counts bytes: {:.2}", summary.unigram_perplexity);
    Ok(())
}

/// A GPT-2 of two layers that begins with one block, which splits in the middle of the training.
fn spec() -> Result<CheckedSpec, Box<dyn Error>> {
    // A method settles the optimizer, the tying and the agent; what is changed after it wins.
    let mut spec = presets::method("growth")?.spec()?;
    spec.name = "example".to_owned();
    spec.model.layers = 2;
    spec.model.width = 64;
    spec.model.heads = 4;
    spec.model.context = 32;

    spec.data.source = SHAKESPEARE.to_owned();
    spec.data.tokenizer = BYTES.to_owned();
    spec.training.steps = Size::Fixed(150);
    spec.evaluation.every_steps = Size::Fixed(50);
    spec.evaluation.windows = Size::Fixed(64);
    spec.optimizer.learning_rate = 4e-3;

    // One split of two layers: the method itself names three times, for more layers.
    spec.tying.grow = vec![0.5];

    // Only a checked spec can train: the error names each field that is wrong.
    Ok(spec.check()?)
}

/// Where the run comes from. `dlt train` fills in the same, from its build and the machine.
fn provenance(spec: &CheckedSpec, material: &Material, device: &str) -> Provenance {
    let data = material.provenance();
    let count = |split| material.tokens().map_or(0, |tokens| tokens.split(split).len() as u64);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();

    Provenance {
        schema: RECORD_SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: None,
        toolchain: "unknown".to_owned(),
        host: Host { cpu: "unknown".to_owned(), cores, os: std::env::consts::OS.to_owned() },
        threads: cores,
        device: device.to_owned(),
        seed: spec.seed,
        spec_fingerprint: fingerprint(spec),
        figures_revision: Some(FIGURES_REVISION),
        data: DataProvenance {
            source: data.source.clone(),
            sha256: data.sha256.clone(),
            commit: None,
            column: None,
            bad_rows: None,
            tokenizer: data.tokenizer.clone(),
            train_tokens: count(Split::Train),
            validation_tokens: count(Split::Validation),
            test_tokens: material.has(Split::Test).then(|| count(Split::Test)),
            boundary: data.boundary,
            plan: data.plan.clone(),
            class_names: data.class_names.clone(),
        },
        command_line: std::env::args().collect(),
        started_at: since_1970.as_secs(),
        resumed: Vec::new(),
    }
}
