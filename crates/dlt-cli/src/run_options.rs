//! The options of whatever trains: `dlt train` and `dlt finetune`.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::Machine;

/// What a run may be told beside what it learns. Who flattens this may give options another help.
#[derive(Args, Debug)]
pub(crate) struct RunOptions {
    /// Change one field, as in tying.decide_every=15; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Training steps
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Root seed of every random stream
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run folder, which must not be there yet [default: runs/NAME-SEED]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write event files for TensorBoard beside the metrics; a resumed run that has them goes on with them
    #[arg(long)]
    pub(crate) tensorboard: bool,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Print the result only, no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl RunOptions {
    /// The options that stand for one key of the spec, as [`Layers`](crate::layers::Layers) takes them. `--data` is
    /// the first of them, though each command says for itself what it may name.
    pub(crate) fn assignments(&self, data: Option<&str>) -> Vec<(&'static str, &'static str, String)> {
        let data = data.map(|data| ("--data", "data.source", data.to_owned()));
        let steps = self.steps.map(|steps| ("--steps", "training.steps", steps.to_string()));
        let seed = self.seed.map(|seed| ("--seed", "seed", seed.to_string()));
        [data, steps, seed].into_iter().flatten().collect()
    }
}
