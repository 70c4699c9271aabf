//! `dlt train`: one run from its spec to its result.

use std::fs;
use std::path::{Path, PathBuf};

use dlt_data::{Split, TokenSplits};
use dlt_models::binding::Binding;
use dlt_spec::record::STATES_FILE;
use dlt_spec::{CheckedSpec, ExitCode};
use dlt_state::{Recording, State};
use dlt_train::{RunFolder, TrainError, Trainer, initial_binding, memory, open_device};

use crate::arguments::TrainTask;
use crate::failure::{Failure, Result};
use crate::layers::Layers;
use crate::numbers::{decimal, whole};
use crate::progress::Progress;
use crate::report::{Ending, quoted};
use crate::{interrupt, output, provenance, threads, tokens};

pub(crate) fn run(task: &TrainTask) -> Result {
    threads::prepare(task.machine.threads);
    let spec = spec(task)?;
    let out = task.out.clone().unwrap_or_else(|| default_out(&spec));
    if out.exists() {
        return Err(TrainError::RunExists { path: out }.into());
    }
    let (device, device_name) = open_device(task.machine.device)?;
    let recording = recording(&spec)?;
    let mut progress = Progress::new(task.quiet);
    let splits = tokens::load(&spec, &mut |loading| progress.loading(loading))?;
    Trainer::check(&spec, &splits, recording.as_ref())?;
    if device.is_cpu() {
        memory::check_fit(&spec, spec.vocabulary(splits.vocabulary))?;
    }

    introduce(&progress, &spec, &splits, &device_name, &out)?;
    let steps = spec.steps(splits.windows(Split::Train)?.count());
    let folder = RunFolder::create(&out, &spec, &provenance::of(&spec, &splits, &device_name))?;
    let trainer = Trainer::new(spec.clone(), splits, recording.as_ref(), folder, device)
        // What is left to fail is memory; a run that never began leaves nothing behind.
        .inspect_err(|_| drop(fs::remove_dir_all(&out)))?;
    progress.begin(steps);
    let (trainer, done) = advance(trainer, &progress, &out)?;
    progress.note(&format!("{done} steps done; evaluating the best model on validation and test"));
    let (state, binding) = (trainer.recording().state_at(steps).clone(), trainer.model().binding().clone());
    let summary = trainer.finish()?;
    progress.end();
    let ending = Ending { spec: &spec, summary: &summary, state: &state, binding: &binding, run: &out };
    output::print(&ending.text())
}

fn spec(task: &TrainTask) -> Result<CheckedSpec> {
    let mut options = Vec::new();
    if let Some(data) = &task.data {
        options.push(("--data", "data.source", data.clone()));
    }
    if let Some(steps) = task.steps {
        options.push(("--steps", "training.steps", steps.to_string()));
    }
    if let Some(seed) = task.seed {
        options.push(("--seed", "seed", seed.to_string()));
    }
    let layers = Layers {
        preset: task.preset.as_deref(),
        method: task.method.as_deref(),
        file: task.file.as_deref(),
        options,
        set: &task.set,
    };
    layers.spec()
}

fn default_out(spec: &CheckedSpec) -> PathBuf {
    Path::new("runs").join(format!("{}-{}", spec.name, spec.seed))
}

/// What a replaying policy follows; the path of a run folder stands for its recording.
fn recording(spec: &CheckedSpec) -> Result<Option<Recording>> {
    if spec.agent.recording.is_empty() {
        return Ok(None);
    }
    let path = Path::new(&spec.agent.recording);
    let file = if path.is_dir() { path.join(STATES_FILE) } else { path.to_owned() };
    if !file.is_file() {
        let message = format!("agent.recording: no recording of decisions at {}", file.display());
        return Err(Failure::refused(ExitCode::BadData, message));
    }
    Ok(Some(RunFolder::read_recording(&file)?))
}

/// Steps until all are made or the user has enough. Returns the trainer and the number of steps.
fn advance(mut trainer: Trainer, progress: &Progress, out: &Path) -> Result<(Trainer, usize)> {
    interrupt::watch();
    let mut done = 0;
    while let Some(report) = trainer.advance().inspect_err(|_| progress.end())? {
        progress.step(&report);
        done = report.step;
        if interrupt::is_asked() && report.step < report.steps {
            progress.end();
            let message = format!(
                "after step {} of {}; {} holds the metrics so far and the best model that was validated",
                report.step,
                report.steps,
                out.display()
            );
            return Err(Failure::Interrupted { message });
        }
    }
    Ok((trainer, done))
}

/// Says what is about to be trained, on what, and where to.
fn introduce(
    progress: &Progress,
    spec: &CheckedSpec,
    splits: &TokenSplits,
    device: &str,
    out: &Path,
) -> Result {
    let (model, training) = (&spec.model, &spec.training);
    let size = spec.size(splits.vocabulary);
    let millions = |parameters: usize| format!("{} M", decimal(parameters as f64 / 1e6, 2));
    let size = size.map_or_else(String::new, |size| {
        let (all, blocks) = (millions(size.conventional), millions(size.all_blocks));
        format!("; {all} parameters with no layer tied, {blocks} of them in blocks")
    });
    let (layers, width, heads) = (model.layers, model.width, model.heads);
    progress.note(&format!("{}: {layers} layers of width {width}, {heads} heads{size}", spec.name));
    let tokens = |split| whole(splits.split(split).len());
    progress.note(&format!(
        "data: {} in {} tokens to train on, {} to validate, {} to test",
        spec.data.source,
        tokens(Split::Train),
        tokens(Split::Validation),
        tokens(Split::Test),
    ));
    let steps = spec.steps(splits.windows(Split::Train)?.count());
    let per_step = format!("{} x {} tokens", training.batch, model.context);
    let threads = threads::current();
    progress.note(&format!("{} steps of {per_step} on {device}, {threads} threads", whole(steps)));
    let predict = |binding: &Binding| -> Result<String> {
        let peak = memory::predict(spec, spec.vocabulary(splits.vocabulary), binding)?.peak;
        Ok(decimal(peak as f64 / 1e6, 0))
    };
    progress.note(&format!(
        "memory: about {} MB at the start, {} MB with no layer tied, beside the program and its data",
        predict(&initial_binding(spec))?,
        predict(&Binding::of_state(&State::independent(layers)))?,
    ));
    progress.note(&format!("run folder: {}", quoted(&out.to_string_lossy())));
    Ok(())
}
