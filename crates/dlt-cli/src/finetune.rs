//! `dlt finetune`: an existing model learns the classes of a task while its tying stays fixed.

use clap::Args;
use dlt_run::Finetuning;

use crate::failure::Result;
use crate::progress::Progress;
use crate::run_options::RunOptions;
use crate::{rehearsal, train};

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
    train::begin(options, Progress::new(options.quiet), |processes, environment, progress| {
        let mut assignments = options.assignments(options.data.as_deref());
        assignments.extend(task.freeze.then(|| ("--freeze", "training.trains", "head".to_owned())));

        let finetuning = Finetuning {
            model: &task.run,
            task: task.task.as_deref(),
            data: options.data.as_deref(),
            method: options.method.as_deref(),
            options: assignments,
            set: &options.set,
            out: options.out.as_deref(),
            rehearses: rehearsal::is_on()?,
            processes,
        };
        Ok(finetuning.beginning(environment.places().hub, progress)?)
    })
}
