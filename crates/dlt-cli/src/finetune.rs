//! `dlt finetune`: an existing model learns the classes of a task while its tying stays fixed.

use std::path::Path;

use clap::Args;
use dlt_data::catalogue::{CATALOGUE, Entry, LearningTask, find};
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
The spec of the run is made from these parts. Each one overrides those before it:
  defaults      three epochs, batches of 32, windows of 128 tokens (fewer if RUN reads fewer),
                a learning rate of 1e-4 that falls by a cosine
  --method
  RUN           its sizes, and which layers share weights
  options       --data, --tokenizer, --steps, --epochs, --lr, --batch, --dtype, --seed, --freeze
  --set

Classes are read at the last token if the mask is causal, and at the first token otherwise.
--set model.pooling=mean averages over all tokens instead.
Layers share weights as they do in RUN, from beginning to end.
A head of the same shape is copied from RUN. Any other head is new and drawn at random.
A folder in Hugging Face's layout does not say which layers share weights. `dlt import` finds
equal layers and makes a RUN of the folder.

The result is a run like any other: `dlt train --resume`, `eval`, `export` and `inspect` accept it.
Accuracy is shown with that of always choosing the most frequent class.
For two classes, Matthews correlation and F1 are shown too.

Your own labels: CSV, TSV, JSON Lines or Parquet with the columns text and label.
PATH::TEXT,LABEL or PATH::FIRST,SECOND,LABEL names other columns.
A label is a word or a whole number.
Files of a folder belong to the split that their name says.
Rows of a single file are divided by the checksum of their text, in the shares of data.split.

Examples:
  dlt finetune runs/shakespeare-12-1 --task glue/sst2
  dlt finetune runs/shakespeare-12-1 --task glue/cola --freeze --steps 500
  dlt finetune hf:openai-community/gpt2 --task glue/mrpc --data MRPC --method reference-glue
  dlt finetune runs/shakespeare-12-1 --data reviews.csv
  dlt finetune runs/shakespeare-12-1 --data reviews.csv::body,stars
  dlt finetune runs/vit-cifar-1 --task cifar10 --data cifar-10-batches-bin";

/// Longest window by default, in tokens.
const CONTEXT: usize = 128;

#[derive(Args, Debug)]
#[command(mut_arg("set", |set| set.help("Change one field, as in training.epochs=1; may be given several times")))]
#[command(mut_arg("steps", |steps| steps.help("Training steps, instead of epochs")))]
#[command(mut_arg("out", |out| out.help("Run folder, which must not exist yet [default: runs/NAME-TASK-SEED, or the next free number]")))]
#[command(mut_arg("tokenizer", |tokenizer| tokenizer.help("Tokenizer of a RUN that has none: a tokenizer.json, gpt2, bytes, or hf:OWNER/NAME")))]
#[command(mut_arg("epochs", |epochs| epochs.help("Passes over the training data [default: 3]")))]
#[command(mut_arg("method", |method| method.help("Method; reference-glue does what the authors' code does")))]
#[command(mut_arg("data", |data| data.help("Files of the task on this machine, instead of the hub's; or your own table of texts and labels, or a folder of such tables").value_name("PATH")))]
pub(crate) struct FinetuneTask {
    /// Run folder, model file, folder in Hugging Face's layout, or hf:OWNER/NAME or
    /// hf:OWNER/NAME@REVISION
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Task of `dlt data list`, as in glue/sst2; may be left out if --data is given
    #[arg(long, value_name = "TASK", required_unless_present = "data")]
    pub(crate) task: Option<String>,
    /// Train only the new head; every other weight stays the same, bit for bit
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

    // The name of the run ends in that of the task, or in that of the file with the user's data.
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

    // `lay_for_classes`, not `lay`: the objective is that of the task, and the model's own must
    // not override it.
    spec_layers.over_all = rehearsal::overlays(&pretrained.spec, true)?;
    let spec = pretrained.lay_for_classes(spec_layers, "finetune")?;
    let folder = naming::folder_of_task(&spec, task.options.method.as_deref());

    Beginning { spec, pretrained: Some(pretrained), options, folder }.carry_out(progress)
}

/// The entry of the catalogue for a task that has classes.
///
/// # Errors
/// For a name that the catalogue does not have, or a data set without classes.
fn entry(name: &str) -> Result<&'static Entry> {
    let has_classes = |entry: &&'static Entry| {
        matches!(entry.task, LearningTask::Classification | LearningTask::Images)
    };
    find(name).filter(has_classes).ok_or_else(|| {
        let known: Vec<_> = CATALOGUE.iter().filter(has_classes).map(|entry| entry.name).collect();
        let message = format!("--task: expected one of {}, got {name}", known.join(", "));
        Failure::refused(ExitCode::Usage, message)
    })
}

/// Refuses sentences for a model that reads pictures, and pictures for one that reads tokens.
fn check_kind(pretrained: &Pretrained, entry: &Entry) -> Result {
    if has_tokens(&pretrained.spec) == (entry.task == LearningTask::Classification) {
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

/// Settings that a method or the user may override.
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

/// Settings that only the user may override: which layers share weights, and that this stays so.
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

/// The last part of a model's name, with only the letters that a run's name may have.
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
