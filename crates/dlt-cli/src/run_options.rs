//! The options that `dlt train` and `dlt finetune` have in common.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::{Machine, Several};

/// Options of a training run. A command that flattens this may replace their help with
/// `mut_arg`, as `dlt finetune` does.
#[derive(Args, Debug)]
pub(crate) struct RunOptions {
    /// Method instead of the preset's: paper, reference or another one of `dlt spec --list`
    #[arg(long, value_name = "M")]
    pub(crate) method: Option<String>,
    /// Text to train on: a name of `dlt data list`, hf:OWNER/NAME, a file of text or rows, or a
    /// folder of such files
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) data: Option<String>,
    /// Change one field, as in tying.decide_every=15; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Tokenizer: gpt2, bytes, a tokenizer.json, or hf:OWNER/NAME
    #[arg(long, value_name = "T")]
    tokenizer: Option<String>,
    /// Training steps
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Passes over the training data, instead of steps
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    epochs: Option<u64>,
    /// Peak learning rate
    #[arg(long, value_name = "X", alias = "learning-rate", allow_negative_numbers = true)]
    lr: Option<String>,
    /// Windows (or pictures, or sentences) in a training step
    #[arg(long, value_name = "N", alias = "batch-size")]
    batch: Option<u64>,
    /// Number format of activations; weights stay f32
    #[arg(long, value_name = "FORMAT", value_parser = ["f32", "bf16"])]
    dtype: Option<String>,
    /// Root seed of every random stream
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run folder, which must not exist yet [default: runs/NAME-SEED, or the next free number]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Also write event files for TensorBoard; a resumed run that has such files continues them
    /// even without this option
    #[arg(long)]
    pub(crate) tensorboard: bool,
    #[command(flatten)]
    pub(crate) several: Several,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Print only the result, no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl RunOptions {
    /// The options that set one key of the spec each, as option, key and value for
    /// [`SpecLayers`](dlt_run::SpecLayers). `--data` is the first, though each command
    /// decides what it may name.
    pub(crate) fn assignments(
        &self,
        data: Option<&str>,
    ) -> Vec<(&'static str, &'static str, String)> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let options = [
            ("--data", "data.source", data.map(str::to_owned)),
            ("--tokenizer", "data.tokenizer", self.tokenizer.clone()),
            ("--steps", "training.steps", number(self.steps)),
            // A preset's number of steps would leave epochs without effect.
            ("--epochs", "training.steps", self.epochs.map(|_| "auto".to_owned())),
            ("--epochs", "training.epochs", number(self.epochs)),
            ("--lr", "optimizer.learning_rate", self.lr.clone()),
            ("--batch", "training.batch", number(self.batch)),
            ("--dtype", "training.activations", self.dtype.clone()),
            ("--seed", "seed", number(self.seed)),
        ];

        options.into_iter().filter_map(|(option, key, value)| Some((option, key, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::arguments::Arguments;

    fn help(command: &str) -> String {
        let mut arguments = Arguments::command();
        arguments.find_subcommand_mut(command).unwrap().render_long_help().to_string()
    }

    #[test]
    fn each_command_says_what_an_option_means_to_it() {
        let train = help("train");
        let finetune = help("finetune");

        for (of_train, of_finetune) in [
            ("as in tying.decide_every=15", "as in training.epochs=1"),
            ("Training steps\n", "Training steps, instead of epochs"),
            ("[default: runs/NAME-SEED,", "[default: runs/NAME-TASK-SEED,"),
            ("--lr <X>", "--lr <X>"),
            ("--epochs <N>", "--epochs <N>"),
            ("--batch <N>", "--batch <N>"),
            ("--tokenizer <T>", "--tokenizer <T>"),
            ("--tensorboard", "--tensorboard"),
            ("--dtype <FORMAT>", "--dtype <FORMAT>"),
        ] {
            assert!(train.contains(of_train), "{of_train} is missing in\n{train}");
            assert!(finetune.contains(of_finetune), "{of_finetune} is missing in\n{finetune}");
            assert!(of_train == of_finetune || !finetune.contains(of_train), "{finetune}");
        }
    }
}
