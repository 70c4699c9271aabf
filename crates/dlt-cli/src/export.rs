//! `dlt export`: writes a saved model for other programs, as transformers reads it or with each
//! distinct block once.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dlt_run::{Export, Form, Parameters};
use dlt_spec::ExitCode;
use dlt_train::MODEL_FILE;

use crate::failure::{Failure, Result};
use crate::numbers::{decimal, whole};
use crate::progress::Progress;
use crate::{hub, output};

pub(crate) const HELP: &str = "\
hf writes a folder that transformers loads without any code of ours. It has config.json,
model.safetensors with every layer written out, the tokenizer or image processor, and generation
settings.
tied writes the model file of a run as it is: each distinct block once. Its metadata says which
layers use which block. crates/dlt-models/src/file.rs describes the format, and
data/examples/read_tied_model.py reads it.
Both forms have a model card, README.md, and spec.toml. `dlt import` reads both.

Examples:
  dlt export runs/shakespeare-12-1 --format hf --out exported
  dlt export runs/shakespeare-12-1 --format tied --out compact";

/// Bytes of a parameter.
const BYTES: usize = size_of::<f32>();

#[derive(Args, Debug)]
pub(crate) struct ExportTask {
    /// Run folder, or model file
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Form in which the model is written
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// Folder to write, which must not exist yet
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// As transformers reads it, with every layer written out
    Hf,
    /// Each distinct block once
    Tied,
}

pub(crate) fn run(task: &ExportTask) -> Result {
    let form = match task.format {
        Format::Hf => Form::HuggingFace,
        Format::Tied => Form::Tied,
    };

    let hub = hub::config()?;
    let export = Export { run: &task.run, form, out: &task.out, hub: hub.as_ref() };
    let parameters = export.carry_out(&Progress::new(false))?;

    output::print(&sizes(parameters, task)?)
}

/// The sizes of what was written and of the other form.
fn sizes(parameters: Parameters, task: &ExportTask) -> Result<String> {
    let file = task.out.join(MODEL_FILE);
    let bytes = fs::metadata(&file).map_err(|error| {
        Failure::refused(ExitCode::Resources, format!("cannot read {}: {error}", file.display()))
    })?;
    let Parameters { stored, expanded } = parameters;

    Ok(format!(
        "{}: {} bytes in {MODEL_FILE}\n\
         weights: {} bytes with each distinct block once, {} with every layer written out; the compact form is {} of the \
         other\n",
        task.out.display(),
        whole(bytes.len() as usize),
        whole(stored * BYTES),
        whole(expanded * BYTES),
        decimal(stored as f64 / expanded as f64, 3),
    ))
}
