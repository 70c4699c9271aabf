//! Writes a saved model for other programs, as transformers reads it or with each distinct block
//! once.

use std::fs;
use std::io;
use std::path::Path;

use candle_core::Device;
use dlt_data::{
    CIFAR10_MEAN, CIFAR10_STD, COMPANIONS_FOLDER, Companions, Framing, HubConfig, Marks, Pairs,
    SpecialTokens, TOKENIZER_FILE, Template, Tokenizer,
};
use dlt_models::Model;
use dlt_models::architecture::of_spec;
use dlt_models::huggingface::{self, Annotations};
use dlt_spec::durable::NewFolder;
use dlt_spec::record::SPEC_FILE;
use dlt_spec::spec::{Marks as MarksWord, Normalise, Objective, Own, ResidualScale};
use dlt_spec::{CheckedSpec, Spec, durable, fields};
use dlt_train::{MODEL_FILE, RunFolder, model_notes};
use serde_json::{Map, Value, json};

use crate::card::{Card, Parameters, file_name};
use crate::error::RunError;
use crate::observer::Observer;
use crate::pretrained::{CONFIG_FILE, PROCESSOR_FILE, has_tokens, normalise_in};
use crate::saved::{Saved, locate};
use crate::{Result, tokenizer};

/// File with settings of a tokenizer, which transformers reads besides tokenizer.json.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// File of the model card.
pub const CARD_FILE: &str = "README.md";

/// Classes of CIFAR-10, in the order of their numbers.
const CIFAR10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The form in which a model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As transformers reads it, with every layer written out.
    HuggingFace,
    /// Each distinct block once.
    Tied,
}

/// A saved model, and the folder to which it is written.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    /// Run folder, or model file.
    pub run: &'a Path,
    /// The form.
    pub form: Form,
    /// Folder to write, which must not exist yet.
    pub out: &'a Path,
    /// How to reach the hub; `None` refuses tokenizers that come from it.
    pub hub: Option<&'a HubConfig>,
}

impl Export<'_> {
    /// Writes the folder: model, tokenizer or processor, spec and model card. Returns the number of
    /// parameters of the model as it is written.
    ///
    /// # Errors
    /// If the folder exists, there is no model, its tokenizer is not the one of its training, or a
    /// file cannot be written. Then nothing is left behind.
    pub fn carry_out(&self, observer: &dyn Observer) -> Result<Parameters> {
        refuse_existing(self.out)?;
        let saved = Saved::open(self.run)?;
        saved.verify_tokenizer(self.hub, |line| observer.remark(line))?;

        let (model, written) = written(&saved, observer)?;
        let companions = Companions::of_run(&tokenizer::folder(self.run))?;

        // Opened before anything is written, so that a missing tokenizer leaves no folder behind.
        let tokenizer = if has_tokens(&saved.spec) {
            Some(tokenizer::open(&saved.spec.data.tokenizer, self.hub)?)
        } else {
            None
        };

        let summary = if self.run.is_dir() { RunFolder::read_summary(self.run)? } else { None };
        let spec = published(&without_scales(written.clone(), self.form, observer)?)?;
        let card =
            Card { saved: &saved, model: &model, summary: summary.as_ref(), form: self.form };

        new_folder(self.out, |folder| {
            match self.form {
                Form::HuggingFace => {
                    write_hf(&saved, &model, tokenizer.as_ref(), &companions, folder, observer)?;
                }
                Form::Tied => {
                    write_tied(self.run, &saved, &model, &written, &folder.join(MODEL_FILE))?;
                    if let Some(tokenizer) = &tokenizer {
                        tokenizer.save(&folder.join(TOKENIZER_FILE))?;
                    }
                    write_all(companions.iter(), &folder.join(COMPANIONS_FOLDER))?;
                }
            }

            create(&folder.join(SPEC_FILE), &fields::render(&spec))?;
            create(&folder.join(CARD_FILE), &card.text())
        })?;

        Ok(Parameters::of(&model))
    }
}

/// The spec of a model in this form. In what transformers reads, scales are part of the weights.
fn without_scales(spec: CheckedSpec, form: Form, observer: &dyn Observer) -> Result<CheckedSpec> {
    if form == Form::Tied || !spec.tying.own.contains(&Own::Scales) {
        return Ok(spec);
    }

    observer.remark(
        "scales of layers (tying.own) are multiplied into the projections that end the branches",
    );
    let mut plain = Spec::clone(&spec);
    plain.tying.own.retain(|own| *own != Own::Scales);
    Ok(plain.check()?)
}

/// Fills a temporary folder next to `place` and renames it, so that the folder exists whole or not
/// at all. The remains of an earlier process that was killed are removed.
///
/// # Errors
/// [`RunError::MakeFolder`] if the folder exists or cannot be made, or the error of `fill`.
pub fn new_folder<E: From<RunError>>(
    place: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let cannot = |source: io::Error| RunError::MakeFolder { path: place.to_owned(), source };
    let folder = NewFolder::begin(place).map_err(cannot)?;
    fill(folder.path())?;
    Ok(folder.finish().map_err(cannot)?)
}

/// Writes a new file.
fn create(path: &Path, content: &str) -> Result<()> {
    durable::create(path, content.as_bytes())
        .map_err(|source| RunError::Create { path: path.to_owned(), source })
}

/// The model as it is written, and its spec. Other programs know no factors of residual branches,
/// so the factors are multiplied into the weights that end the branches.
fn written(saved: &Saved, observer: &dyn Observer) -> Result<(Model, CheckedSpec)> {
    let model = saved.model(&Device::Cpu)?;
    if !model.has_residual_factors() {
        return Ok((model, saved.spec.clone()));
    }

    let mut plain = Spec::clone(&saved.spec);
    plain.tying.residual_scale = ResidualScale::None;

    let plain = plain.check()?;
    let folded = model.folded(of_spec(&plain, saved.extents))?;
    observer.remark(
        "residual factors (tying.residual_scale) are multiplied into the projections that end the branches",
    );

    let before = model.binding().n_distinct();
    let after = folded.binding().n_distinct();
    if before < after {
        observer.remark(&format!(
            "layers that share a block have different factors, so {after} blocks are written instead of {before}"
        ));
    }

    Ok((folded, plain))
}

/// Writes the model file: a copy of the run's, or a new one if factors were multiplied into the
/// weights.
fn write_tied(
    run: &Path,
    saved: &Saved,
    model: &Model,
    spec: &CheckedSpec,
    path: &Path,
) -> Result<()> {
    if spec.tying.residual_scale == saved.spec.tying.residual_scale {
        return copy(&locate(run)?, path);
    }
    let notes = model_notes(&published(spec)?, &saved.state, saved.step, saved.extents);
    Ok(model.save(path, &notes)?)
}

/// Refuses a folder that already exists.
///
/// # Errors
/// [`RunError::Exists`].
pub fn refuse_existing(out: &Path) -> Result<()> {
    if out.exists() {
        return Err(RunError::Exists { path: out.to_owned() });
    }

    Ok(())
}

/// Copies a file, so that the copy is on disk before this returns.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    durable::copy(from, to).map_err(|source| RunError::Copy {
        from: from.to_owned(),
        to: to.to_owned(),
        source,
    })
}

/// The spec as it is published: absolute paths are cut to their last part, because the rest says
/// something only about this machine.
fn published(spec: &CheckedSpec) -> Result<CheckedSpec> {
    let mut spec = Spec::clone(spec);
    let Spec { data, model, agent, .. } = &mut spec;
    for path in [&mut data.source, &mut data.tokenizer, &mut model.start, &mut agent.recording] {
        if Path::new(path.as_str()).is_absolute() {
            *path = file_name(path);
        }
    }

    Ok(spec.check()?)
}

/// Writes a folder that transformers reads.
fn write_hf(
    saved: &Saved,
    model: &Model,
    tokenizer: Option<&Tokenizer>,
    companions: &Companions,
    folder: &Path,
    observer: &dyn Observer,
) -> Result<()> {
    let spec = &saved.spec;
    let special = special_tokens(spec, tokenizer, companions);
    let is_cifar10 = spec.data.source == "cifar10" && saved.extents.classes == CIFAR10.len();
    let labels = if is_cifar10 { CIFAR10.map(str::to_owned).to_vec() } else { Vec::new() };

    let padding = special.padding;
    let annotations = Annotations { labels, begin: special.begin, ends: special.ends, padding };
    huggingface::export(model, spec, &annotations, folder)?;

    // The companions of the model are written unchanged, except tokenizer and processor, which must
    // agree with the training.
    let mut files = Companions::default();
    for (name, content) in companions.published() {
        files.put(name, content.to_vec());
    }

    match tokenizer {
        Some(tokenizer) => put_tokenizer(spec, tokenizer, &mut files, observer)?,
        None => put_processor(spec, &mut files)?,
    }

    if spec.model.objective != Objective::NextToken && saved.step > 0 {
        // This model does not generate text any more, so the token ids with which the original
        // began and ended texts would mislead.
        files = files.without_ids();
    }

    write_all(files.iter(), folder)?;
    if spec.model.objective == Objective::Classes && tokenizer.is_some() && padding.is_none() {
        observer.remark(
            "the tokenizer has no padding token: transformers will accept only one text at a time",
        );
    }

    Ok(())
}

/// The special tokens for config.json: those of the config.json that came with the model, or else
/// those of its tokenizer.
fn special_tokens(
    spec: &CheckedSpec,
    tokenizer: Option<&Tokenizer>,
    companions: &Companions,
) -> SpecialTokens {
    let mut special = tokenizer.map(Tokenizer::special).cloned().unwrap_or_default();
    let said = companions.get(CONFIG_FILE).map(serde_json::from_slice::<Map<String, Value>>);
    let Some(Ok(said)) = said else { return special };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());

    if let Some(begin) = said.get("bos_token_id") {
        special.begin = id(begin);
    }

    match said.get("eos_token_id") {
        Some(Value::Array(ends)) => special.ends = ends.iter().filter_map(id).collect(),
        Some(end) => special.ends = id(end).into_iter().collect(),
        None => {}
    }

    // A model of classes needs a padding token for several texts at once, so the tokenizer's own
    // stays even if config.json said there is none.
    if let Some(padding) =
        said.get("pad_token_id").filter(|_| spec.model.objective != Objective::Classes)
    {
        special.padding = id(padding);
    }

    special
}

/// Writes how pictures are prepared. The file that came with the model stays, unless the model was
/// trained with another normalisation.
fn put_processor(spec: &CheckedSpec, files: &mut Companions) -> Result<()> {
    let said = match files.get(PROCESSOR_FILE) {
        Some(content) => normalise_in(content, Path::new(PROCESSOR_FILE))?,
        None => None,
    };

    if files.get(PROCESSOR_FILE).is_none() || said.is_some_and(|said| said != spec.data.normalise) {
        files.put(PROCESSOR_FILE, text(&processor(spec.data.normalise, spec.model.picture)));
    }

    Ok(())
}

/// Writes the tokenizer so that transformers puts around a text the tokens that the model has seen
/// there in training.
fn put_tokenizer(
    spec: &CheckedSpec,
    tokenizer: &Tokenizer,
    files: &mut Companions,
    observer: &dyn Observer,
) -> Result<()> {
    let (template, pairs) = template(spec, tokenizer)?;
    let json = tokenizer.json_with(&template, pairs)?;
    let is_changed = json != tokenizer.json()?;

    if is_changed {
        observer
            .remark("tokenizer.json: changed to put the same tokens around a text as in training");
    }

    files.put(TOKENIZER_FILE, json);
    // A run from scratch has been given the tokenizer of another model, whose maximal length does
    // not apply.
    let is_from_scratch = spec.model.start.is_empty();
    let said = files.get(TOKENIZER_CONFIG).map(serde_json::from_slice::<Map<String, Value>>);

    match said {
        Some(Ok(mut said)) if is_changed || is_from_scratch => {
            if is_changed {
                // Some tokenizer classes of transformers make a template from these, whatever
                // tokenizer.json says.
                said.insert("add_bos_token".to_owned(), json!(false));
                said.insert("add_eos_token".to_owned(), json!(false));
            }

            if is_from_scratch {
                said.insert("model_max_length".to_owned(), json!(spec.positions()));
            }

            files.put(TOKENIZER_CONFIG, text(&Value::Object(said)));
        }
        Some(_) => {}
        None => files.put(TOKENIZER_CONFIG, text(&tokenizer_config(tokenizer, spec.positions()))),
    }

    Ok(())
}

/// The tokens that were around and between texts in training.
fn template(spec: &CheckedSpec, tokenizer: &Tokenizer) -> Result<(Template, Pairs)> {
    if spec.model.objective == Objective::Classes {
        let Framing { begin, between, end, .. } =
            Framing::of(tokenizer, spec.data.framing, spec.data.marks)?;
        let list = |mark: Option<u32>| mark.into_iter().collect();
        let single = Marks { before: list(begin), after: list(end) };

        return Ok((Template { single, between: list(between) }, Pairs::Used));
    }

    let single = match spec.data.marks {
        MarksWord::None => Marks::default(),
        MarksWord::Template => tokenizer.marks()?,
    };

    Ok((Template { single, between: Vec::new() }, Pairs::Unused))
}

/// A tokenizer_config.json for a tokenizer that came without one.
fn tokenizer_config(tokenizer: &Tokenizer, positions: usize) -> Value {
    let mut values = Map::new();
    values.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    values.insert("model_max_length".to_owned(), json!(positions));
    values.insert("clean_up_tokenization_spaces".to_owned(), json!(false));

    let special = tokenizer.special();
    let marks = [
        ("bos_token", special.begin),
        ("eos_token", special.ends.first().copied()),
        // Only a separate padding token: if the end of text were named here too, transformers would
        // mask it and never see the end.
        ("pad_token", special.padding),
    ];

    let first = |names: &[&str]| names.iter().find_map(|name| tokenizer.id_of(name));
    let others = [
        ("mask_token", first(&["[MASK]", "<mask>"])),
        ("cls_token", first(&["[CLS]"])),
        ("sep_token", first(&["[SEP]"])),
        ("unk_token", first(&["[UNK]", "<unk>"])),
    ];

    for (key, id) in marks.into_iter().chain(others) {
        let token = id.and_then(|id| tokenizer.token(id));
        values.extend(token.map(|token| (key.to_owned(), json!(token))));
    }

    Value::Object(values)
}

/// JSON as the bytes of a file.
fn text(json: &Value) -> Vec<u8> {
    let text = serde_json::to_string_pretty(json)
        .expect("texts, numbers and lists can always be written as JSON");
    format!("{text}\n").into_bytes()
}

/// Writes files into a folder, and replaces those of the same names.
fn write_all<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>, folder: &Path) -> Result<()> {
    for (name, content) in files {
        let path = folder.join(name);
        let cannot = |source: io::Error| RunError::Write { path: path.clone(), source };

        // Replaced, not written in place: a file that was copied may be read-only.
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(cannot)?;
        durable::replace(&path, content).map_err(cannot)?;
    }

    Ok(())
}

/// A preprocessor_config.json that prepares pictures as in training.
fn processor(normalise: Normalise, side: usize) -> Value {
    let (mean, std) = match normalise {
        Normalise::Own => (CIFAR10_MEAN, CIFAR10_STD),
        Normalise::Half => ([0.5; 3], [0.5; 3]),
    };

    // 0.4914 must stay 0.4914, and not become the nearest f32 written as f64.
    let exact = |numbers: [f32; 3]| -> Vec<f64> {
        numbers
            .iter()
            .map(|number| number.to_string().parse().unwrap_or(f64::from(*number)))
            .collect()
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
