//! A small run from its spec to its result:
//!
//! ```sh
//! cargo run -p dlt-run --example train -- [RUN]
//! ```
//!
//! `RUN` is the folder of the run, else a temporary one. It takes seconds on one core.
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;
use std::path::PathBuf;

use dlt_data::{BYTES, Places, SHAKESPEARE};
use dlt_run::{Beginning, Destination, Program, Silent, Site};
use dlt_spec::spec::Size;
use dlt_spec::{CheckedSpec, presets};
use dlt_train::{DeviceChoice, Products, open_device};

/// Steps between two lines.
const REPORT_EVERY: usize = 30;

fn main() -> Result<(), Box<dyn Error>> {
    let (device, device_name) = open_device(DeviceChoice::Cpu, Products::F32)?;

    // Dropping this removes the folder, so it has to live as long as the run.
    let temporary = tempfile::tempdir()?;
    let path =
        std::env::args_os().nth(1).map_or_else(|| temporary.path().join("run"), PathBuf::from);

    // The hub is needed only for data, tokenizers and models that come from it.
    let beginning = Beginning::of_spec(spec()?, Destination::Exactly(path), None, &Silent)?;

    // What is refused here leaves no folder behind.
    let mut trainer = beginning.begin(&Site {
        device,
        device_name: &device_name,
        // A cache for tokens and how to reach the hub. The shipped text needs neither.
        places: Places::default(),
        // Where the run comes from. `dlt train` also records its revision and command line.
        program: &Program::new(env!("CARGO_PKG_VERSION"), threads()),
        // An `Observer` would receive what `dlt train` prints before the first step.
        observer: &Silent,
    })?;

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

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
