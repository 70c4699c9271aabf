//! `dlt import`: makes a run folder from an exported model, or from a model of another program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf, absolute};

use candle_core::{Device, Tensor};
use clap::Args;
use dlt_data::{BYTES, COMPANIONS_FOLDER, Companions, GPT2, TOKENIZER_FILE};
use dlt_models::architecture::{Architecture, of_spec};
use dlt_spec::record::SPEC_FILE;
use dlt_spec::{CheckedSpec, ExitCode, Origin, Overlay, Spec, Value, fields};
use dlt_state::State;
use dlt_train::{Kernels, RunFolder, TrainError, model_for, model_notes};

use crate::card::Parameters;
use crate::export::copy;
use crate::failure::{Failure, Result};
use crate::finetune::name;
use crate::numbers::whole;
use crate::pretrained::{Pretrained, Weights, WeightsLocation, has_tokens, noted_spec, word};
use crate::progress::Progress;
use crate::saved::locate;
use crate::{hub, loading, output, paths, provenance};

pub(crate) const HELP: &str = "\
MODEL is one of:
  - a folder that `dlt export` wrote, in either form;
  - a folder in Hugging Face's layout of a GPT-2, BERT, ViT, Llama, Mistral or Qwen2, with weights
    as safetensors or pytorch_model.bin;
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
    if task.out.exists() {
        return Err(TrainError::RunExists { path: task.out.clone() }.into());
    }

    let pretrained = Pretrained::open(&task.model, &Progress::new(false))?;
    if has_tokens(&pretrained.spec) {
        pretrained.check_table(&loading::tokenizer(&tokenizer_name(task, &pretrained)?)?)?;
    }

    let device = Device::Cpu;
    let (parameters, owners) = match &pretrained.location {
        WeightsLocation::Saved(saved) => {
            // Reads the whole file, so that a damaged one is refused before a folder is made.
            let parameters = Parameters::of(&saved.model(&device)?);
            let owners = saved.binding().partition();
            let spec = spec(task, &pretrained, &fields::render(&saved.spec), &owners)?;
            let from = locate(Path::new(&task.model))?;

            fill(task, &pretrained, &spec, |model| copy(&from, model))?;
            (parameters, owners)
        }
        WeightsLocation::Folder(folder) => {
            let text =
                noted_spec(folder)?.map_or_else(String::new, |noted| fields::render(&noted.spec));
            let layers: Vec<_> = (0..pretrained.spec.model.layers).collect();
            // Which layers share weights is known only after reading them, and reading needs a
            // spec: the first one calls all layers independent.
            let spec_of = |owners: &[usize]| spec(task, &pretrained, &text, owners);
            let first = spec_of(&layers)?;
            let architecture = of_spec(&first, pretrained.extents);

            let weights = pretrained.weights(&first, pretrained.extents, &device)?;
            let owners = equal_layers(&*architecture, &|name| weights.find(name))?;
            let spec = spec_of(&owners)?;

            (write(task, &pretrained, &spec, &weights, &owners)?, owners)
        }
    };

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

/// The spec of the run folder. `noted` is the spec in the model's own folder, or empty. The sizes
/// of the model override it, and the user's settings override both.
fn spec(
    task: &ImportTask,
    pretrained: &Pretrained,
    noted: &str,
    owners: &[usize],
) -> Result<CheckedSpec> {
    let origin = Origin::File(Path::new(&pretrained.name).join(SPEC_FILE).display().to_string());
    let mut overlays = vec![Overlay::from_toml(origin, noted)?];
    let of_model = Origin::Option(pretrained.name.clone());
    let keys: Vec<_> =
        fields::FIELDS.iter().map(fields::Field::key).filter(|key| is_of_model(key)).collect();

    overlays.push(pretrained.overlay(&of_model, &keys)?);
    let owners = owners.iter().map(|&owner| Value::Integer(owner as i64)).collect();
    let mut values = vec![
        ("model.start", Value::from(pretrained.name.clone())),
        ("tying.initial", Value::Array(owners)),
        ("tying.residual_scale", Value::from(pretrained.residual_scale())),
    ];

    values.extend(noted.is_empty().then(|| ("name", Value::from(name(&pretrained.name)))));
    overlays.push(Overlay::from_values(of_model.clone(), values)?);
    overlays.extend(pretrained.normalised(&of_model)?);

    if has_tokens(&pretrained.spec) {
        let name = tokenizer_name(task, pretrained)?;
        let tokenizer = loading::tokenizer(&name)?;
        overlays.push(Overlay::from_option(
            "import",
            "data.marks",
            word(pretrained.marks(&tokenizer)?),
        )?);
        overlays.push(Overlay::from_option("import", "data.tokenizer", &name)?);
    }

    if pretrained.spec.model.layers == 1 {
        overlays.push(Overlay::from_option("import", "agent.policy", "none")?);
    }
    if let Some(data) = &task.data {
        overlays.push(Overlay::from_option("--data", "data.source", data)?);
    }

    for set in &task.set {
        overlays.push(Overlay::from_assignment(set)?);
    }

    let spec = paths::absolute(&Spec::assemble(&overlays)?.check()?)?;
    pretrained.check(&spec)?;
    Ok(spec)
}

/// The tokenizer that the user names, or else the model's own.
///
/// # Errors
/// If there is neither.
fn tokenizer_name(task: &ImportTask, pretrained: &Pretrained) -> Result<String> {
    given_tokenizer(task)?
        .or_else(|| pretrained.tokenizer.clone())
        .ok_or_else(|| pretrained.asks_for_tokenizer())
}

/// The tokenizer that the user names with `--set`, if any.
fn given_tokenizer(task: &ImportTask) -> Result<Option<String>> {
    let mut overlays = Vec::new();
    for set in &task.set {
        overlays.push(Overlay::from_assignment(set)?);
    }

    let is_given = overlays.iter().any(|overlay| overlay.keys().any(|key| key == "data.tokenizer"));
    Ok(if is_given { Some(Spec::assemble(&overlays)?.data.tokenizer) } else { None })
}

/// The files that the run folder keeps: those of the model, with the user's tokenizer instead of
/// its own if the user names one.
fn companions(
    task: &ImportTask,
    pretrained: &Pretrained,
    spec: &CheckedSpec,
) -> Result<Companions> {
    let mut companions = pretrained.companions.clone();
    let is_given = given_tokenizer(task)?.is_some();
    if has_tokens(&pretrained.spec) && (is_given || companions.get(TOKENIZER_FILE).is_none()) {
        companions = companions.without_tokenizer();
        let named = Companions::named(&spec.data.tokenizer, hub::config()?.as_ref(), &|_| ())?;
        companions.add(named);
    }

    Ok(companions)
}

/// The spec as the run folder has it: its tokenizer is the copy in the folder.
fn at_home(task: &ImportTask, spec: &CheckedSpec) -> Result<CheckedSpec> {
    if !has_tokens(spec) || spec.data.tokenizer == GPT2 || spec.data.tokenizer == BYTES {
        return Ok(spec.clone());
    }

    let copy = task.out.join(COMPANIONS_FOLDER).join(TOKENIZER_FILE);
    let mut spec = Spec::clone(spec);
    let Some(copy) = absolute(&copy).unwrap_or(copy).to_str().map(str::to_owned) else {
        let out = task.out.display();
        let message =
            format!("--out {out}: expected a name in UTF-8, because a spec cannot hold any other");
        return Err(Failure::refused(ExitCode::Usage, message));
    };

    spec.data.tokenizer = copy;
    Ok(spec.check()?)
}

/// Whether a key describes the model itself, not where it comes from.
fn is_of_model(key: &str) -> bool {
    key.starts_with("model.") && key != "model.start"
}

/// Makes the run folder with everything in it. It gets its name only once the model is in it, which
/// `model` writes to the path that it is given.
fn fill(
    task: &ImportTask,
    pretrained: &Pretrained,
    spec: &CheckedSpec,
    model: impl FnOnce(&Path) -> Result,
) -> Result {
    let companions = companions(task, pretrained, spec)?;
    let id = companions.tokenizer_id().unwrap_or_else(|| spec.data.tokenizer.clone());
    let provenance = provenance::of_import(spec, &pretrained.name, id);
    let folder =
        RunFolder::create_with(&task.out, &at_home(task, spec)?, &provenance, |folder| -> Result {
            folder.keep(&companions)?;
            model(&folder.model_path())
        });

    folder.map(drop)
}

/// Makes the run folder of a model that is not one of this program's files.
fn write(
    task: &ImportTask,
    pretrained: &Pretrained,
    spec: &CheckedSpec,
    weights: &Weights<'_>,
    owners: &[usize],
) -> Result<Parameters> {
    // `find`, not `lookup`: nothing may be drawn at random, so a model without its head is refused.
    let lookup = |name: &str| weights.find(name);
    let model = model_for(spec, pretrained.extents, Some(&lookup), Kernels::Fused, &Device::Cpu)?;
    let state = State::new(owners.to_vec()).map_err(TrainError::from)?;
    let extra: BTreeMap<String, String> =
        model_notes(&at_home(task, spec)?, &state, 0, pretrained.extents);

    fill(task, pretrained, spec, |path| Ok(model.save(path, &extra)?))?;
    Ok(Parameters::of(&model))
}

/// For each layer, the lowest layer that has the same weights, to the last bit.
fn equal_layers(
    architecture: &dyn Architecture,
    lookup: &dyn Fn(&str) -> dlt_models::Result<Option<Tensor>>,
) -> Result<Vec<usize>> {
    let layout = architecture.block_layout();
    let read =
        |layer: usize, name: &str| lookup(&format!("{}{name}", architecture.block_prefix(layer)));
    let mut owners: Vec<usize> = Vec::new();

    for layer in 0..architecture.n_layers() {
        let mut owner = layer;
        // Comparing with owners is enough: other layers are equal to one of them.
        for earlier in (0..layer).filter(|&earlier| owners[earlier] == earlier) {
            let mut is_equal = true;
            for entry in layout.entries() {
                is_equal = bits(read(earlier, entry.name)?)? == bits(read(layer, entry.name)?)?;
                if !is_equal {
                    break;
                }
            }

            if is_equal {
                owner = earlier;
                break;
            }
        }

        owners.push(owner);
    }

    Ok(owners)
}

/// The bits of a tensor's numbers. Comparing f32 values would call -0.0 equal to 0.0.
fn bits(tensor: Option<Tensor>) -> Result<Option<Vec<u32>>> {
    let Some(tensor) = tensor else { return Ok(None) };
    let numbers = tensor
        .flatten_all()
        .and_then(|flat| flat.to_vec1::<f32>())
        .map_err(dlt_models::ModelError::from)?;

    Ok(Some(numbers.into_iter().map(f32::to_bits).collect()))
}
