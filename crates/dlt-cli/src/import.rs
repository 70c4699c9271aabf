//! `dlt import`: makes a run folder from an exported model, or from a model of another program.

use std::path::PathBuf;

use clap::Args;
use dlt_run::{Import, Imported, Parameters};

use crate::failure::Result;
use crate::numbers::whole;
use crate::progress::Progress;
use crate::{hub, output, program};

pub(crate) const HELP: &str = "\
MODEL is one of:
  - a folder that `dlt export` wrote, in either form;
  - a folder in Hugging Face's layout of a GPT-2, BERT, ViT, Llama, Mistral, Qwen2 or Qwen3, with
    weights as safetensors or pytorch_model.bin;
  - hf:OWNER/NAME or hf:OWNER/NAME@REVISION.
Layers whose weights are equal to the last bit share them again.

The result is a run of no steps. eval, generate, inspect, export, finetune and `train --from` accept
it, and `train --resume` would begin training there.
It keeps the files that belong to the model, and an export writes them back.
If the folder has no tokenizer, you have to name one.

Examples:
  dlt import exported --out runs/back
  dlt import hf:openai-community/gpt2 --out runs/gpt2 --set data.source=wikitext-2";

#[derive(Args, Debug)]
pub(crate) struct ImportTask {
    /// Folder that was exported, folder in Hugging Face's layout, or hf:OWNER/NAME or
    /// hf:OWNER/NAME@REVISION
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// Run folder to write, which must not exist yet
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Data on which `dlt eval` will measure it: a name of `dlt data list`, hf:OWNER/NAME, or files
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) data: Option<String>,
    /// Set a field that the model's files do not give, as in data.normalise=half; may be given
    /// several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

pub(crate) fn run(task: &ImportTask) -> Result {
    let hub = hub::config()?;
    let program = program::this();
    let import = Import {
        model: &task.model,
        out: &task.out,
        data: task.data.as_deref(),
        set: &task.set,
        hub: hub.as_ref(),
        program: &program,
    };

    let Imported { parameters, owners } = import.carry_out(&Progress::new(false))?;
    let Parameters { stored, expanded } = parameters;
    output::print(&format!(
        "{}: {} parameters, {} with every layer written out\n{}",
        task.out.display(),
        whole(stored),
        whole(expanded),
        shared(&owners)
    ))
}

/// A line about which layers share weights, if any do.
fn shared(owners: &[usize]) -> String {
    let own = owners.iter().enumerate().filter(|(layer, owner)| layer == *owner).count();
    if own == owners.len() {
        return String::new();
    }

    let each: Vec<_> = owners.iter().map(ToString::to_string).collect();
    format!("tied layers found (the owner of each layer): {}\n", each.join(" "))
}
