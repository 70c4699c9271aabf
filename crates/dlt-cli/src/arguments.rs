//! The command line, and the help that teaches it.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use dlt_data::Split;
use dlt_train::DeviceChoice;

use crate::program::{LONG_VERSION, VERSION};
use crate::run_options::RunOptions;

const ABOUT: &str =
    "Trains transformers whose layers learn to share their weights (dynamic layer tying).";

/// Columns of a line of help, at most.
const HELP_COLUMNS: usize = 100;

const TRAIN_HELP: &str = "\
The spec of a run is made from these parts. Each one overrides those before it:
  --preset      shakespeare-12 by default, but none if SPEC.toml is given
  --method
  SPEC.toml
  options       --data, --tokenizer, --steps, --epochs, --lr, --batch, --dtype, --seed
  --set
A SPEC.toml without --preset starts from the plain defaults, not from shakespeare-12.
Everything is checked before the run folder is made. A refused start leaves nothing behind.

Examples:
  dlt train                              the main job: 12 layers on Shakespeare
  dlt train --preset smoke               a small run that takes seconds
  dlt train my.txt --seed 7              your own text: a UTF-8 file, or a folder
  dlt train my.txt --lr 3e-4 --batch 16 --epochs 2
  dlt train --data wikitext-2            a data set of the paper, fetched once
  dlt train --method reference           the method as the authors' code runs it
  dlt train --set 'tying.grow=[0.2, 0.4]' --set agent.policy=random --out runs/random
  dlt train runs/a/spec.toml --seed 2 --out runs/b         the same run with another seed
  dlt train runs/a/spec.toml --set agent.policy=replay --set agent.recording=runs/a --out runs/c
  dlt train --from hf:openai-community/gpt2 --data wikitext-2 --out runs/d   existing weights

--from uses the settings of the model instead of those of preset and method.
Every layer begins independent, and the run starts with all weights of the model.
If the objective is another one, its head is drawn at random.
Settings that contradict the model are refused.

To resume a run that was stopped, or to make a finished run longer:
  dlt train --resume runs/a
  dlt train --resume runs/a --steps 2000 --set checkpoint.every_steps=100
With the same number of threads, the run continues bit for bit as if it had never stopped.
A changed setting is refused if it would make this another run. You may change the number of
steps, the checkpoints, and settings that do not affect the result.
Ctrl-C and SIGTERM finish the step, save, and end with code 130. A second one ends at once.

A run folder holds:
  spec.toml          the whole spec, with the meaning of every field
  provenance.json    version, machine, data and command line
  metrics.jsonl      a line for each step, decision and validation
  states.jsonl       every decision; replay it with agent.policy=replay
  model.safetensors  the best model on validation so far
  checkpoint         everything needed to resume; `dlt doctor RUN` says which ones are good
  tensorboard        event files, with --tensorboard only
  summary.json       the result; it exists only once the run has finished";

const EVAL_HELP: &str = "\
Examples:
  dlt eval runs/shakespeare-12-1                        the validation split of its own data
  dlt eval runs/shakespeare-12-1 --split test --json
  dlt eval runs/shakespeare-12-1 --text my.txt --json   {\"loss\":..., \"tokens\":...}

  dlt eval runs/shakespeare-12-1 --text rows.jsonl::body
  dlt eval runs/shakespeare-12-1 --text my-folder --split test

The loss is the mean over predicted tokens, in nats.
A text is read as `dlt train` reads it, with the same columns, compressed files and folders.
Its documents are separated as those of the run's training data were.
It is one stream of tokens, cut into windows as long as the model's context.
Every token but the first is predicted once.";

const GENERATE_HELP: &str = "\
Examples:
  dlt generate runs/shakespeare-12-1 --prompt \"To be, or not to be\"
  dlt generate runs/a --prompt \"ROMEO:\" --tokens 200 --temperature 1 --top-p 0.9 --seed 3
  dlt generate runs/a --prompt \"ROMEO:\" --prompt \"JULIET:\" --stop $'\\n\\n'
  dlt generate runs/a --prompt \"ROMEO:\" --repetition-penalty 1.2
  dlt generate runs/a --prompt-file - --json < prompts.txt

A single prompt is printed as its text is generated. Several are printed whole, in their order.
A text does not depend on the other prompts.
While a text fits the context, the model sees all of it. A longer one continues from its last half.
--json prints for each prompt: prompt, continuation, prompt_tokens, tokens, and end (length or
stop). tokens includes those of a stop text, but not the token that ended the text.
The speed of reading and writing goes to standard error.";

const INSPECT_HELP: &str = "\
Shows which layers share weights (a replication map), and the parameter table.
For a run, it also shows what its decisions did.

Examples:
  dlt inspect runs/shakespeare-12-1
  dlt inspect runs/shakespeare-12-1/model.safetensors
  dlt inspect runs/shakespeare-12-1/states.jsonl
  dlt inspect runs/shakespeare-12-1 --svg map.svg

How much memory training will need, before anything is allocated:
  dlt inspect --memory gpt2-paper
  dlt inspect --memory my-spec.toml --set training.checkpointing=block --owners 0,0,0,3";

const BENCH_STEP_HELP: &str = "\
Examples:
  dlt bench step --json
  dlt bench step --layers 4 --width 256 --heads 4 --seq 128 --batch 16 --tying sum --owners 0,0,2,2
  dlt bench step --preset vit-cifar --tying sum

The step time is the median over all steps but the first.
Peak memory is that of the whole process. With --json it is in units of 1,024 KiB, as the
programs in data/peers print it.";

const BENCH_DECODE_HELP: &str = "\
Examples:
  dlt bench decode --json
  dlt bench decode --layers 24 --width 1024 --heads 16 --tying sum --batch 8

A model with random weights continues prompts with the most likely token each time.
Keys and values are cached. The first new token of each prompt is part of prefill; decode counts
the tokens after it. Figures are medians over all runs but the first.
Peak memory is that of the whole process. With --json it is in units of 1,024 KiB.";

const DOCTOR_HELP: &str = "\
Without --repair, nothing in the folder is changed.
The exit code is 0 if nothing is wrong, and 4 if something is damaged.

Example:
  dlt doctor runs/shakespeare-12-1";

#[derive(Debug, Parser)]
#[command(name = "dlt", version = VERSION, long_version = LONG_VERSION.as_str(), about = ABOUT)]
#[command(after_help = crate::guide::guide(), max_term_width = HELP_COLUMNS)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print more to standard error; -vv prints even more. DLT_LOG sets a finer filter, as in
    /// dlt_data=debug
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model; without arguments: the main job, 12 layers on Shakespeare
    #[command(after_help = TRAIN_HELP)]
    Train(TrainTask),
    /// Fine-tune a model to classify: a GLUE task, CIFAR-10, or your own labels
    #[command(after_help = crate::finetune::HELP)]
    Finetune(crate::finetune::FinetuneTask),
    /// Print loss and perplexity of a saved model on a split or on a text
    #[command(after_help = EVAL_HELP)]
    Eval(EvalTask),
    /// Continue a text with a saved model
    #[command(after_help = GENERATE_HELP)]
    Generate(GenerateTask),
    /// Show which layers share weights, the parameters and the decisions
    #[command(after_help = INSPECT_HELP)]
    Inspect(InspectTask),
    /// Write one page about runs: outcome, sharing over time, curves, settings and the paper's
    #[command(after_help = crate::page::HELP)]
    Report(crate::page::ReportTask),
    /// Draw one figure of runs into a file
    #[command(after_help = crate::figure::HELP)]
    Figure(crate::figure::FigureTask),
    /// Serve that page on this machine while the run trains
    #[command(after_help = crate::watch::HELP)]
    Watch(crate::watch::WatchTask),
    /// Write a model for other programs: as transformers reads it, or compact
    #[command(after_help = crate::export::HELP)]
    Export(crate::export::ExportTask),
    /// Make a run folder from an exported or published model
    #[command(after_help = crate::import::HELP)]
    Import(crate::import::ImportTask),
    /// Write the metrics of a run for other programs: for TensorBoard, or as tables
    #[command(after_help = crate::convert::HELP)]
    Convert(crate::convert::ConvertTask),
    /// List, fetch and tokenize data sets; train tokenizers
    #[command(after_help = crate::data::HELP)]
    Data(crate::data::DataTask),
    /// Print a preset in full: every field with meaning, unit, values and the paper's value
    #[command(after_help = crate::spec::HELP)]
    Spec(SpecTask),
    /// Check a run folder: what is whole, what is damaged, what still works
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorTask),
    /// Measure the time and memory of a training step, or of generation
    #[command(subcommand)]
    Bench(BenchTask),
    /// Print the completions of a shell: commands, options and their values
    #[command(after_help = crate::shell::COMPLETIONS_HELP)]
    Completions(crate::shell::CompletionsTask),
    /// Write manual pages into a folder, one for each command
    #[command(after_help = crate::shell::MAN_HELP)]
    Man(crate::shell::ManTask),
}

#[derive(Args, Debug)]
pub(crate) struct TrainTask {
    /// What to train on, as --data names it. A name that ends in .toml is the spec of the run; it
    /// may leave out what it does not change
    #[arg(value_name = "DATA|SPEC.toml", num_args = 0..=2)]
    pub(crate) named: Vec<String>,
    /// Model, data and method to start from; `dlt spec --list` shows them
    #[arg(long, value_name = "P")]
    pub(crate) preset: Option<String>,
    /// Start with the weights of a model: a run, a model file, a folder in Hugging Face's layout,
    /// hf:OWNER/NAME or hf:OWNER/NAME@REVISION
    #[arg(long, value_name = "MODEL")]
    pub(crate) from: Option<String>,
    /// With --from: add a row to the token table for each token of the tokenizer that has none. A
    /// new row is the mean of the existing rows
    #[arg(long, requires = "from")]
    pub(crate) resize_vocabulary: bool,
    /// Resume a run exactly where it was saved last; what may still be changed is listed below
    #[arg(long, value_name = "RUN", conflicts_with_all = ["preset", "method", "out", "from"])]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

/// The device and the threads that compute.
#[derive(Args, Debug)]
pub(crate) struct Machine {
    /// auto (a GPU if there is one), cpu, cuda or cuda:N. Of several processes on a machine, each
    /// takes the GPU of its number, except with cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// On a GPU, round the factors of matrix products to TF32: faster, but less exact
    #[arg(long)]
    pub(crate) tf32: bool,
    /// Threads for arithmetic, at most one for each core. On a machine that is busy with other
    /// work, use as many as it leaves free, or 1: threads that wait for each other are slower than
    /// one [default: RAYON_NUM_THREADS, else all cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
}

/// Options of a task that several processes can share.
#[derive(Args, Debug)]
pub(crate) struct Several {
    /// Start N processes on this machine, a power of two, by Open MPI's mpirun. On several
    /// machines, start the program by mpirun or srun instead, without this option
    #[arg(long, value_name = "N")]
    pub(crate) processes: Option<NonZeroUsize>,
    /// Seconds without a sign of life after which a process counts as lost, which ends the others
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) exchange_timeout: u64,
}

#[derive(Args, Debug)]
pub(crate) struct EvalTask {
    /// Run folder, or model file
    pub(crate) run: PathBuf,
    /// A whole text instead of the run's own data, named as for `train --data`; of a folder with
    /// splits, the one that --split names
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) text: Option<String>,
    /// Split to evaluate [default: validation of the run's own data]
    #[arg(long, value_parser = split())]
    pub(crate) split: Option<Split>,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) several: Several,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

/// Reads one of the names of splits, which `--help` lists.
fn split() -> impl TypedValueParser<Value = Split> {
    PossibleValuesParser::new(Split::ALL.map(Split::name))
        .try_map(|name| Split::named(&name).ok_or("unknown split"))
}

#[derive(Args, Debug)]
pub(crate) struct GenerateTask {
    /// Run folder, or model file
    pub(crate) run: PathBuf,
    /// Text to continue; may be given several times
    #[arg(long, value_name = "TEXT", required_unless_present = "prompt_file")]
    pub(crate) prompt: Vec<String>,
    /// File of texts to continue, one a line; empty lines are left out; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Most tokens to add to each prompt
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) tokens: usize,
    /// 0 picks the most likely token each time, 1 draws with the probabilities of the model
    #[arg(long, value_name = "X", default_value_t = 0.8, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Draw only among the N most likely tokens
    #[arg(long, value_name = "N")]
    pub(crate) top_k: Option<usize>,
    /// Draw only among the fewest most likely tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) top_p: f64,
    /// Above 1, makes tokens that already occur in the text less likely: divides their positive
    /// logits by X, and multiplies the others
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) repetition_penalty: f64,
    /// End a continuation before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Seed of the draws; the same seed gives the same text
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Prompts that are continued at the same time
    #[arg(long, value_name = "N", default_value = "8")]
    pub(crate) batch: NonZeroUsize,
    /// Print one line of JSON for each prompt
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

#[derive(Args, Debug)]
pub(crate) struct InspectTask {
    /// Run folder, model file, or a states.jsonl
    #[arg(value_name = "RUN|FILE", required_unless_present = "memory", conflicts_with = "memory")]
    pub(crate) path: Option<PathBuf>,
    /// Instead, draw the replication map into a new SVG file
    #[arg(long, value_name = "FILE", conflicts_with = "memory")]
    pub(crate) svg: Option<PathBuf>,
    /// Predict how much memory training needs; SPEC is a preset, a spec file, or a run folder
    #[arg(long, value_name = "SPEC")]
    pub(crate) memory: Option<String>,
    /// With --memory: the owner of each layer, as in 0,0,2,2
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "memory")]
    pub(crate) owners: Vec<usize>,
    /// With --memory: change one field, as in training.micro_batch=1; may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "memory")]
    pub(crate) set: Vec<String>,
    /// With --memory: the number of processes that train together; the prediction is for one
    #[arg(long, value_name = "N", requires = "memory", default_value = "1")]
    pub(crate) processes: NonZeroUsize,
    /// With --memory: print one line of JSON for each row
    #[arg(long, requires = "memory")]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorTask {
    /// Run folder; half-made folders next to it are listed too
    #[arg(value_name = "RUN", required_unless_present = "caches")]
    pub(crate) run: Option<PathBuf>,
    /// List what killed processes left in the token cache and in the cache of the hub
    #[arg(long)]
    pub(crate) caches: bool,
    /// Write a damaged or missing model again from the newest checkpoint that holds it. The damaged
    /// file is kept under another name. Also remove what killed processes left of this run, but no
    /// folder with files that dlt does not write
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SpecTask {
    /// Preset to print [default: shakespeare-12]
    pub(crate) preset: Option<String>,
    /// Method instead of the preset's: paper, reference or another one of `--list`
    #[arg(long, value_name = "M")]
    pub(crate) method: Option<String>,
    /// Change one field, as in tying.decide_every=15; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// List presets and methods, one a line
    #[arg(long, conflicts_with_all = ["preset", "method", "set"])]
    pub(crate) list: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchTask {
    /// Time and memory of a training step of a GPT-2 on random tokens: forward, backward,
    /// clipping, AdamW
    #[command(after_help = BENCH_STEP_HELP)]
    Step(BenchStepTask),
    /// Speed and memory of a GPT-2 that continues prompts
    #[command(after_help = BENCH_DECODE_HELP)]
    Decode(BenchDecodeTask),
}

impl BenchTask {
    /// The device and the threads that the task asks for.
    pub(crate) fn machine(&self) -> &Machine {
        match self {
            Self::Step(task) => &task.machine,
            Self::Decode(task) => &task.machine,
        }
    }
}

/// Sizes and tying of the model that is measured.
#[derive(Args, Debug)]
pub(crate) struct BenchModel {
    /// Layers, L
    #[arg(long, value_name = "L", default_value_t = 12)]
    pub(crate) layers: usize,
    /// Width, C
    #[arg(long, value_name = "C", default_value_t = 384)]
    pub(crate) width: usize,
    /// Attention heads, H
    #[arg(long, value_name = "H", default_value_t = 6)]
    pub(crate) heads: usize,
    /// Size of the vocabulary, V
    #[arg(long, value_name = "V", default_value_t = 50_257)]
    pub(crate) vocab: usize,
    /// Whether layers share weights, and whose gradient counts
    #[arg(long, value_enum, default_value_t = BenchTying::None)]
    pub(crate) tying: BenchTying,
    /// Owner of each layer, as in 0,0,2,2 [default: 0 for all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) owners: Vec<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct BenchDecodeTask {
    #[command(flatten)]
    pub(crate) model: BenchModel,
    /// Tokens of a prompt
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) prompt_tokens: usize,
    /// Tokens that are added to each prompt
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) new_tokens: usize,
    /// Prompts that are continued at the same time, B
    #[arg(long, value_name = "B", default_value = "1")]
    pub(crate) batch: NonZeroUsize,
    /// Number of runs; the first is not counted
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) runs: NonZeroUsize,
    /// Number format of activations; weights stay f32
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = BenchDtype::F32)]
    pub(crate) dtype: BenchDtype,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

#[derive(Args, Debug)]
pub(crate) struct BenchStepTask {
    /// Model and batch of a preset, of any architecture, instead of a GPT-2 of the sizes below
    #[arg(long, value_name = "P", conflicts_with_all = ["layers", "width", "heads", "vocab", "seq", "batch"])]
    pub(crate) preset: Option<String>,
    #[command(flatten)]
    pub(crate) model: BenchModel,
    /// Tokens of a window, T
    #[arg(long, value_name = "T", default_value_t = 256)]
    pub(crate) seq: usize,
    /// Windows of a step, B
    #[arg(long, value_name = "B", default_value_t = 8)]
    pub(crate) batch: usize,
    /// Windows that are in memory at the same time [default: B]
    #[arg(long, value_name = "N")]
    pub(crate) micro_batch: Option<usize>,
    /// Number of steps; the first is not counted
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) steps: usize,
    /// What the forward pass keeps for the backward pass
    #[arg(long, value_enum, default_value_t = BenchCheckpointing::None)]
    pub(crate) checkpointing: BenchCheckpointing,
    /// Implementation of the operations
    #[arg(long, value_enum, default_value_t = BenchKernels::Fused)]
    pub(crate) kernels: BenchKernels,
    /// Number format of activations; weights stay f32
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = BenchDtype::F32)]
    pub(crate) dtype: BenchDtype,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) several: Several,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchDtype {
    F32,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchTying {
    /// Every layer has its own weights
    None,
    /// Layers share weights; every layer adds to the gradient
    Sum,
    /// Layers share weights; only the owner adds to the gradient
    Owner,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BenchCheckpointing {
    /// All activations
    None,
    /// The input of each block; the rest is recomputed
    Block,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BenchKernels {
    /// Hand-written kernels of dlt, on a CPU
    Fused,
    /// The same, with f32 matrices multiplied as three products of bf16
    FusedBf16x3,
    /// candle's own operations
    Composed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// clap would break longer lines anywhere, also in the middle of an example.
    #[test]
    fn lines_below_the_options_fit_the_width_of_the_help() {
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines() {
                assert!(line.chars().count() <= HELP_COLUMNS, "{}: {line}", command.get_name());
            }

            commands.extend(command.get_subcommands().cloned());
        }
    }
}
