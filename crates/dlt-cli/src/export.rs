//! `dlt export`: a saved model for others, as transformers reads it or each distinct block once.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use clap::{Args, ValueEnum};
use dlt_data::{CIFAR10_MEAN, CIFAR10_STD, TOKENIZER_FILE, Tokenizer};
use dlt_models::Model;
use dlt_models::huggingface::{self, Annotations};
use dlt_spec::record::SPEC_FILE;
use dlt_spec::spec::{Normalise, Objective};
use dlt_spec::{ExitCode, durable, fields};
use dlt_train::{MODEL_FILE, RunFolder};
use serde_json::{Map, Value, json};

use crate::card::{Card, Form, Parameters};
use crate::failure::{Failure, Result};
use crate::numbers::{decimal, whole};
use crate::saved::{Saved, locate};
use crate::start::{PROCESSOR_FILE, has_tokens};
use crate::{output, tokens};

pub(crate) const HELP: &str = "\
hf writes a folder that transformers loads with no code of ours: config.json, model.safetensors with every layer written
out, tokenizer or image processor, generation settings. tied writes the model file of a run as it is: each distinct block once, and in
its metadata who uses it (crates/dlt-models/src/file.rs describes it, data/examples/read_tied_model.py reads it). Both have a
model card, README.md, and spec.toml. `dlt import` reads both back.

Examples:
  dlt export runs/shakespeare-12-1 --format hf --out exported
  dlt export runs/shakespeare-12-1 --format tied --out compact";

/// The model card's file.
const CARD_FILE: &str = "README.md";

/// Bytes of a parameter.
const BYTES: usize = size_of::<f32>();

/// Classes of CIFAR-10, in the order of their numbers.
const CIFAR10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

#[derive(Args, Debug)]
pub(crate) struct ExportTask {
    /// Run folder, or model file
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// How it is written
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// Folder to write, which must not be there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// As transformers reads it
    Hf,
    /// Each distinct block once
    Tied,
}

pub(crate) fn run(task: &ExportTask) -> Result {
    refuse_existing(&task.out)?;
    let saved = Saved::open(&task.run)?;
    let model = saved.model(&Device::Cpu)?;
    // Pictures have none; a tokenizer that is gone is told before anything is written.
    let tokenizer = match has_tokens(&saved.spec) {
        true => Some(tokens::tokenizer(&saved.spec.data.tokenizer)?),
        false => None,
    };
    let summary = match task.run.is_dir() {
        true => RunFolder::read_summary(&task.run)?,
        false => None,
    };
    let form = match task.format {
        Format::Hf => Form::HuggingFace,
        Format::Tied => Form::Tied,
    };
    let card = Card { saved: &saved, model: &model, summary: summary.as_ref(), form };
    output::new_folder(&task.out, |folder| {
        match task.format {
            Format::Hf => write_hf(&saved, &model, tokenizer.as_ref(), folder)?,
            Format::Tied => copy(&locate(&task.run)?, &folder.join(MODEL_FILE))?,
        }
        if let Some(tokenizer) = &tokenizer {
            tokenizer.save(&folder.join(TOKENIZER_FILE))?;
        }
        output::create(&folder.join(SPEC_FILE), fields::render(&saved.spec))?;
        output::create(&folder.join(CARD_FILE), card.text())
    })?;
    output::print(&sizes(&model, task)?)
}

/// Refuses a folder that is there.
pub(crate) fn refuse_existing(out: &Path) -> Result {
    if out.exists() {
        let message = format!("{} is there already: name a new folder, or remove it", out.display());
        return Err(Failure::refused(ExitCode::Usage, message));
    }
    Ok(())
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result {
    durable::copy(from, to).map_err(|error| {
        let message = format!("cannot copy {} to {}: {error}", from.display(), to.display());
        Failure::refused(ExitCode::Resources, message)
    })
}

fn write_hf(saved: &Saved, model: &Model, tokenizer: Option<&Tokenizer>, folder: &Path) -> Result {
    let spec = &saved.spec;
    let marks = tokenizer.map(Marks::of).unwrap_or_default();
    let labels = match spec.data.source == "cifar10" && saved.extents.classes == CIFAR10.len() {
        true => CIFAR10.map(str::to_owned).to_vec(),
        false => Vec::new(),
    };
    let id = |mark: &Option<(String, u32)>| mark.as_ref().map(|(_, id)| *id);
    let beside =
        Annotations { labels, begin: id(&marks.begin), end: id(&marks.end), padding: id(&marks.padding) };
    huggingface::export(model, spec, &beside, folder)?;
    let (name, content) = match tokenizer {
        Some(_) => ("tokenizer_config.json", marks.config(spec.positions())),
        None => (PROCESSOR_FILE, processor(spec.data.normalise, spec.model.picture)),
    };
    let text = serde_json::to_string_pretty(&content).expect("it holds texts, numbers and lists only");
    output::create(&folder.join(name), format!("{text}\n"))?;
    if spec.model.objective == Objective::Classes && tokenizer.is_some() && marks.padding.is_none() {
        output::note("the tokenizer has no token for padding: transformers will take one text at a time");
    }
    Ok(())
}

/// Tokens that mean something by themselves.
#[derive(Default)]
struct Marks {
    begin: Option<(String, u32)>,
    end: Option<(String, u32)>,
    /// One that only fills up: where the end of a text does that too, transformers would not see the end.
    padding: Option<(String, u32)>,
    /// What transformers calls them, beside those above.
    others: Vec<(&'static str, String)>,
}

impl Marks {
    fn of(tokenizer: &Tokenizer) -> Self {
        let first =
            |names: &[&str]| names.iter().find_map(|name| Some(((*name).to_owned(), tokenizer.id_of(name)?)));
        let other = |key, names: &[&str]| first(names).map(|(name, _)| (key, name));
        let end = ["<|endoftext|>", "</s>", "<eos>", "[SEP]"];
        Self {
            begin: first(&["<|endoftext|>", "<s>", "<bos>", "[CLS]"]),
            end: first(&end).filter(|(_, id)| Some(*id) == tokenizer.eos()),
            padding: first(&["[PAD]", "<pad>"]),
            others: [
                other("mask_token", &["[MASK]", "<mask>"]),
                other("cls_token", &["[CLS]"]),
                other("sep_token", &["[SEP]"]),
                other("unk_token", &["[UNK]", "<unk>"]),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }

    fn config(&self, positions: usize) -> Value {
        let mut values = Map::new();
        values.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        values.insert("model_max_length".to_owned(), json!(positions));
        values.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        let three = [("bos_token", &self.begin), ("eos_token", &self.end), ("pad_token", &self.padding)];
        for (key, mark) in three {
            if let Some((name, _)) = mark {
                values.insert(key.to_owned(), json!(name));
            }
        }
        values.extend(self.others.iter().map(|(key, name)| ((*key).to_owned(), json!(name))));
        Value::Object(values)
    }
}

/// How pictures become what the model was trained on.
fn processor(normalise: Normalise, side: usize) -> Value {
    let (mean, std) = match normalise {
        Normalise::Own => (CIFAR10_MEAN, CIFAR10_STD),
        Normalise::Half => ([0.5; 3], [0.5; 3]),
    };
    // In the digits that they are written with, not those of their nearest binary fractions.
    let exact = |numbers: [f32; 3]| -> Vec<f64> {
        numbers.iter().map(|number| number.to_string().parse().unwrap_or(f64::from(*number))).collect()
    };
    json!({
        "image_processor_type": "ViTImageProcessor",
        "do_resize": true,
        "size": {"height": side, "width": side},
        "resample": 2,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": exact(mean),
        "image_std": exact(std),
    })
}

/// What was written, and how it compares with the other form.
fn sizes(model: &Model, task: &ExportTask) -> Result<String> {
    let file = task.out.join(MODEL_FILE);
    let bytes = fs::metadata(&file).map_err(|error| {
        Failure::refused(ExitCode::Resources, format!("cannot read {}: {error}", file.display()))
    })?;
    let Parameters { stored, expanded } = Parameters::of(model);
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
