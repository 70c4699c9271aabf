//! `dlt finetune`: a model that is there already learns the classes of a task, its tying held
//! fixed.

use std::path::Path;

use clap::Args;
use dlt_data::catalogue::{CATALOGUE, Entry, Task, find};
use dlt_spec::spec::Attention;
use dlt_spec::{ExitCode, Origin, Overlay, Value};

use crate::failure::{Failure, Result};
use crate::naming::{self, short};
use crate::pretrained::{Pretrained, has_tokens};
use crate::progress::Progress;
use crate::rehearsal;
use crate::run_options::RunOptions;
use crate::spec_layers::{Ground, SpecLayers};
use crate::train::Beginning;

pub(crate) const HELP: &str = "\
The spec is laid together from, each over the one before: what is said here, --method, what RUN is, --data / --tokenizer /
--steps / --epochs / --lr / --batch / --dtype / --seed / --freeze, --set. Without --method: three epochs of batches of 32, a learning rate of 1e-4 that falls by a cosine,
windows of 128 tokens or what RUN can read, classes read at the last token where the mask is causal and at the first
elsewhere (--set model.pooling=mean reads all). Layers share weights as they do in RUN, to the end; a head of
the same shape is taken over from RUN, any other is drawn. A folder in Hugging Face's layout does not say who shares weights:
`dlt import` finds equal layers, and what it makes is a RUN.

The result is a run as any other: `dlt train --resume` goes on with it, `dlt eval`, `export` and `inspect` take it. Beside its
accuracy stands that of whoever always says the most frequent class; of two classes also Matthews correlation and F1.

Your own labels: CSV, TSV, JSON Lines or Parquet with the columns text and label, or those that PATH::TEXT,LABEL or
PATH::FIRST,SECOND,LABEL names. A label is a word or a whole number. Files of a folder belong to the split that their name
says; the rows of a single file are dealt to the splits by the checksum of their text, in the shares of data.split.

Examples:
  dlt finetune runs/shakespeare-12-1 --task glue/sst2
  dlt finetune runs/shakespeare-12-1 --task glue/cola --freeze --steps 500
  dlt finetune hf:openai-community/gpt2 --task glue/mrpc --data MRPC --method reference-glue
  dlt finetune runs/shakespeare-12-1 --data reviews.csv
  dlt finetune runs/shakespeare-12-1 --data reviews.csv::body,stars
  dlt finetune runs/vit-cifar-1 --task cifar10 --data cifar-10-batches-bin";

/// Longest window of a run that does not ask for another.
const CONTEXT: usize = 128;

#[derive(Args, Debug)]
#[command(mut_arg("set", |set| set.help("Change one field, as in training.epochs=1; may be given several times")))]
#[command(mut_arg("steps", |steps| steps.help("Training steps, instead of epochs")))]
#[command(mut_arg("out", |out| out.help("Run folder, which must not exist yet [default: runs/NAME-TASK-SEED, or the next free number]")))]
#[command(mut_arg("tokenizer", |tokenizer| tokenizer.help("Tokenizer of a RUN that has none: a tokenizer.json, gpt2, bytes, or hf:OWNER/NAME")))]
#[command(mut_arg("epochs", |epochs| epochs.help("Passes over the training data [default: 3]")))]
#[command(mut_arg("method", |method| method.help("Method: reference-glue is how the authors' code does it")))]
#[command(mut_arg("data", |data| data.help("The task's files on this machine, instead of the hub's; or your own table of texts and labels, or a folder of them").value_name("PATH")))]
pub(crate) struct FinetuneTask {
    /// Run folder, model file, folder in Hugging Face's layout, or hf:OWNER/NAME or
    /// hf:OWNER/NAME@REVISION
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// What to learn: a task of `dlt data list`, as glue/sst2; with --data it may be left out
    #[arg(long, value_name = "TASK", required_unless_present = "data")]
    pub(crate) task: Option<String>,
    /// Train the new head alone: every other weight stays as it is, bit for bit
    #[arg(long)]
    pub(crate) freeze: bool,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

pub(crate) fn run(task: &FinetuneTask) -> Result {
    let options = &task.options;
    let entry = task.task.as_deref().map(entry).transpose()?;
    let progress = Progress::new(options.quiet);
    let pretrained = Pretrained::open(&task.run, &progress)?;

    if let Some(entry) = entry {
        check_kind(&pretrained, entry)?;
    }

    let goal = entry.map_or_else(
        || {
            let data = options
                .data
                .as_deref()
                .and_then(|data| data.split("::").next())
                .unwrap_or_default();
            name(&Path::new(data).file_stem().unwrap_or_default().to_string_lossy())
        },
        |entry| entry.name.rsplit('/').next().unwrap_or(entry.name).to_owned(),
    );

    let mut spec_layers = SpecLayers {
        ground: Ground::Plain,
        under_method: vec![Overlay::from_values(origin(), usual(&pretrained, &goal))?],
        over_method: vec![Overlay::from_values(origin(), fixed(&pretrained))?],
        method: options.method.as_deref(),
        options: entry
            .map(|entry| ("--task", "data.source", entry.name.to_owned()))
            .into_iter()
            .collect(),
        set: &options.set,
        ..SpecLayers::default()
    };

    spec_layers.options.extend(options.assignments(options.data.as_deref()));
    spec_layers
        .options
        .extend(task.freeze.then(|| ("--freeze", "training.trains", "head".to_owned())));

    // The objective is the task's, whatever the model was trained for.
    spec_layers.over_all = rehearsal::overlays(&pretrained.spec, true)?;
    let spec = pretrained.lay_for_classes(spec_layers, "finetune")?;
    let folder = naming::folder_of_task(&spec, task.options.method.as_deref());

    Beginning { spec, pretrained: Some(pretrained), options, folder }.carry_out(progress)
}

/// A task that has classes.
fn entry(name: &str) -> Result<&'static Entry> {
    let has_classes =
        |entry: &&'static Entry| matches!(entry.task, Task::Classification | Task::Images);
    find(name).filter(has_classes).ok_or_else(|| {
        let known: Vec<_> = CATALOGUE.iter().filter(has_classes).map(|entry| entry.name).collect();
        let message = format!("--task: expected one of {}, got {name}", known.join(", "));
        Failure::refused(ExitCode::Usage, message)
    })
}

/// Sentences are for models that read tokens, pictures for the others.
fn check_kind(pretrained: &Pretrained, entry: &Entry) -> Result {
    if has_tokens(&pretrained.spec) == (entry.task == Task::Classification) {
        return Ok(());
    }

    let reads = if has_tokens(&pretrained.spec) { "tokens" } else { "pictures" };
    let message =
        format!("--task {}: {}, but {} reads {reads}", entry.name, entry.task, pretrained.name);

    Err(Failure::refused(ExitCode::Usage, message))
}

fn origin() -> Origin {
    Origin::Option("finetune".to_owned())
}

/// What a method or the person may replace.
fn usual(pretrained: &Pretrained, goal: &str) -> Vec<(&'static str, Value)> {
    let model = &pretrained.spec.model;
    let pooling = if model.attention == Attention::Causal { "last-real" } else { "first" };

    vec![
        ("name", format!("{}-{goal}", name(&pretrained.name)).into()),
        ("model.objective", "classes".into()),
        ("model.pooling", pooling.into()),
        ("model.context", whole(pretrained.spec.longest_window().min(CONTEXT))),
        ("model.dropout", model.dropout.into()),
        ("training.epochs", 3.into()),
        ("training.batch", 32.into()),
        ("optimizer.learning_rate", 1e-4.into()),
        ("optimizer.schedule", "cosine".into()),
        ("optimizer.final_share", 0.0.into()),
    ]
}

/// What only the person may replace: who shares weights with whom, and that it stays so.
fn fixed(pretrained: &Pretrained) -> [(&'static str, Value); 3] {
    let owners: Vec<_> = match &pretrained.owners {
        Some(owners) => owners.clone(),
        None => (0..pretrained.spec.model.layers).collect(),
    };
    let owners = owners.into_iter().map(whole).collect();
    [
        ("tying.initial", Value::Array(owners)),
        ("tying.residual_scale", pretrained.residual_scale().into()),
        ("agent.policy", "none".into()),
    ]
}

fn whole(number: usize) -> Value {
    Value::Integer(number as i64)
}

/// The last part of a model's name, of letters that a run's name may have.
pub(crate) fn name(model: &str) -> String {
    let whole = model.split('@').next().unwrap_or(model);
    let whole = if Path::new(whole).is_file() {
        Path::new(whole).parent().unwrap_or(Path::new("")).to_string_lossy().into_owned()
    } else {
        whole.to_owned()
    };

    short(&whole).unwrap_or_else(|| "model".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_for_its_model() {
        assert_eq!(name("runs/shakespeare-12-1/"), "shakespeare-12-1");
        assert_eq!(name("hf:someone/gpt2@0123"), "gpt2");
        assert_eq!(name("hf:gpt2"), "gpt2");
        assert_eq!(name("../.."), "model");
        assert_eq!(name("mine (2)"), "mine2");
    }
}
