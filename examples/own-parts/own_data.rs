//! A small run on tokens that this file makes:
//!
//! ```sh
//! cargo run -p own-parts --example own_data -- [RUN]
//! ```
//!
//! `RUN` is the folder of the run, else a temporary one. It takes seconds on one core.
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;
use std::path::PathBuf;

use dlt_data::{Material, TokenSplits, TokenStream};
use dlt_run::{Program, provenance};
use dlt_spec::spec::Size;
use dlt_spec::{CheckedSpec, presets};
use dlt_train::{DeviceChoice, Plan, Products, RunFolder, Trainer, open_device};

/// Size of the vocabulary: the numbers of a clock.
const HOURS: u32 = 12;

/// A walk over the hours of a clock, five hours on at each step.
fn walk(start: u32, tokens: usize) -> TokenStream {
    let next = |hour: &u32| Some((hour + 5) % HOURS);
    let hours: Vec<u32> = std::iter::successors(Some(start), next).take(tokens).collect();
    // The second number is the bytes of text that the tokens stand for, for bits per byte.
    TokenStream::new(hours, tokens)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (device, device_name) = open_device(DeviceChoice::Cpu, Products::F32)?;
    // Dropping this removes the folder, so it has to live as long as the run.
    let temporary = tempfile::tempdir()?;
    let path =
        std::env::args_os().nth(1).map_or_else(|| temporary.path().join("run"), PathBuf::from);

    let spec = spec()?;
    let splits = TokenSplits::of_streams(
        "a walk over the hours",
        "hours of a clock",
        HOURS as usize,
        spec.model.context,
        [walk(0, 4_000), walk(5, 400), walk(7, 400)],
    )?;
    let material = Material::text(splits)?;

    // What is refused up to the weights leaves no folder behind.
    let prepared = Plan::new(spec, material, None, device)?.with_weights(None)?;
    let plan = prepared.plan();
    let program = Program::new(env!("CARGO_PKG_VERSION"), 1);
    let provenance = provenance::of(plan.spec(), plan.material(), &device_name, &program);
    let folder = RunFolder::create(&path, plan.spec(), &provenance)?;
    let mut trainer = Trainer::new(prepared, folder);

    while let Some(report) = trainer.advance()? {
        if report.step % 20 == 0 {
            println!("step {} of {}: loss {:.3}", report.step, report.steps, report.loss);
        }
    }

    let summary = trainer.finish()?;
    println!("validation perplexity {:.3}", summary.validation_perplexity);
    println!("of a model that only counts hours: {:.3}", summary.unigram_perplexity);

    // The next hour follows from the last one, so the model must beat counting by far.
    if summary.validation_perplexity > 0.5 * summary.unigram_perplexity {
        return Err("expected the model to learn the walk".into());
    }

    Ok(())
}

fn spec() -> Result<CheckedSpec, Box<dyn Error>> {
    let mut spec = presets::preset("smoke")?.spec()?;
    spec.name = "own-data".to_owned();
    // The names are for the reader of `spec.toml`: nothing is loaded by them.
    spec.data.source = "a walk over the hours".to_owned();
    spec.data.tokenizer = "hours of a clock".to_owned();
    spec.model.context = 16;
    spec.training.steps = Size::Fixed(100);
    spec.evaluation.every_steps = Size::Fixed(50);
    spec.optimizer.learning_rate = 1e-2;

    Ok(spec.check()?)
}
