//! Makes a run folder from an exported model, or from a model of another program.

use std::collections::BTreeMap;
use std::path::{Path, absolute};

use candle_core::{Device, Tensor};
use dlt_data::{BYTES, COMPANIONS_FOLDER, Companions, GPT2, HubConfig, TOKENIZER_FILE};
use dlt_models::architecture::{Architecture, of_spec};
use dlt_spec::record::SPEC_FILE;
use dlt_spec::{CheckedSpec, Origin, Overlay, Spec, Value, fields};
use dlt_state::State;
use dlt_train::{Kernels, RunFolder, TrainError, model_for, model_notes};

use crate::card::Parameters;
use crate::error::RunError;
use crate::export::copy;
use crate::naming::of_model;
use crate::observer::Observer;
use crate::pretrained::{Pretrained, Weights, WeightsLocation, has_tokens, noted_spec};
use crate::provenance::{self, Program};
use crate::saved::locate;
use crate::{Result, paths, tokenizer};

/// A model, and the run folder that is made of it.
#[derive(Clone, Copy)]
pub struct Import<'a> {
    /// Folder that was exported, folder in Hugging Face's layout, or a name of the hub.
    pub model: &'a str,
    /// Run folder to write, which must not exist yet.
    pub out: &'a Path,
    /// Data on which the model will be evaluated.
    pub data: Option<&'a str>,
    /// `--set`, in order.
    pub set: &'a [String],
    /// How to reach the hub; `None` refuses names that come from it.
    pub hub: Option<&'a HubConfig>,
    /// The program that the provenance records.
    pub program: &'a Program,
}

/// A run folder that was made of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// How many parameters the model has.
    pub parameters: Parameters,
    /// For each layer, the lowest layer that has the same weights.
    pub owners: Vec<usize>,
}

impl Import<'_> {
    /// Makes the run folder.
    ///
    /// # Errors
    /// If the folder exists, the model cannot be read or computed here, or its tokenizer is not
    /// known. Then nothing is left behind.
    pub fn carry_out(&self, observer: &dyn Observer) -> Result<Imported> {
        if self.out.exists() {
            return Err(TrainError::RunExists { path: self.out.to_owned() }.into());
        }

        let pretrained = Pretrained::open(self.model, self.hub, observer)?;
        if has_tokens(&pretrained.spec) {
            pretrained
                .check_table(&tokenizer::open(&tokenizer_name(self, &pretrained)?, self.hub)?)?;
        }

        let device = Device::Cpu;
        match &pretrained.location {
            WeightsLocation::Saved(saved) => {
                // Reads the whole file, so that a damaged one is refused before a folder is made.
                let parameters = Parameters::of(&saved.model(&device)?);
                let owners = saved.binding().partition();
                let spec = spec(self, &pretrained, &fields::render(&saved.spec), &owners)?;
                let from = locate(Path::new(self.model))?;

                fill(self, &pretrained, &spec, |model| copy(&from, model))?;
                Ok(Imported { parameters, owners })
            }
            WeightsLocation::Folder(folder) => {
                let text = noted_spec(folder)?
                    .map_or_else(String::new, |noted| fields::render(&noted.spec));
                let layers: Vec<_> = (0..pretrained.spec.model.layers).collect();
                // Which layers share weights is known only after reading them, and reading needs a
                // spec: the first one calls all layers independent.
                let spec_of = |owners: &[usize]| spec(self, &pretrained, &text, owners);
                let first = spec_of(&layers)?;
                let architecture = of_spec(&first, pretrained.extents);

                let weights = pretrained.weights(&first, pretrained.extents, &device, observer)?;
                let owners = equal_layers(&*architecture, &|name| weights.find(name))?;
                let spec = spec_of(&owners)?;
                let parameters = write(self, &pretrained, &spec, &weights, &owners)?;
                Ok(Imported { parameters, owners })
            }
        }
    }
}

/// The spec of the run folder. `noted` is the spec in the model's own folder, or empty. The sizes
/// of the model override it, and the user's settings override both.
fn spec(
    task: &Import<'_>,
    pretrained: &Pretrained,
    noted: &str,
    owners: &[usize],
) -> Result<CheckedSpec> {
    let origin = Origin::File(Path::new(&pretrained.name).join(SPEC_FILE).display().to_string());
    let mut overlays = vec![Overlay::from_toml(origin, noted)?];
    let origin_of_model = Origin::Option(pretrained.name.clone());
    let keys: Vec<_> =
        fields::FIELDS.iter().map(fields::Field::key).filter(|key| is_of_model(key)).collect();

    overlays.push(pretrained.overlay(&origin_of_model, &keys)?);
    let owners = owners.iter().map(|&owner| Value::Integer(owner as i64)).collect();
    let mut values = vec![
        ("model.start", Value::from(pretrained.name.clone())),
        ("tying.initial", Value::Array(owners)),
        ("tying.residual_scale", Value::from(pretrained.residual_scale())),
    ];

    values.extend(noted.is_empty().then(|| ("name", Value::from(of_model(&pretrained.name)))));
    overlays.push(Overlay::from_values(origin_of_model.clone(), values)?);
    overlays.extend(pretrained.normalised(&origin_of_model)?);

    if has_tokens(&pretrained.spec) {
        let name = tokenizer_name(task, pretrained)?;
        let tokenizer = tokenizer::open(&name, task.hub)?;
        let marks = fields::word(&pretrained.marks(&tokenizer)?);
        overlays.push(Overlay::from_option("import", "data.marks", &marks)?);
        overlays.push(Overlay::from_option("import", "data.tokenizer", &name)?);
    }

    if pretrained.spec.model.layers == 1 {
        overlays.push(Overlay::from_option("import", "agent.policy", "none")?);
    }
    if let Some(data) = task.data {
        overlays.push(Overlay::from_option("--data", "data.source", data)?);
    }

    for set in task.set {
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
fn tokenizer_name(task: &Import<'_>, pretrained: &Pretrained) -> Result<String> {
    given_tokenizer(task)?
        .or_else(|| pretrained.tokenizer.clone())
        .ok_or_else(|| pretrained.has_no_tokenizer())
}

/// The tokenizer that the user names with `--set`, if any.
fn given_tokenizer(task: &Import<'_>) -> Result<Option<String>> {
    let mut overlays = Vec::new();
    for set in task.set {
        overlays.push(Overlay::from_assignment(set)?);
    }

    let is_given = overlays.iter().any(|overlay| overlay.keys().any(|key| key == "data.tokenizer"));
    Ok(if is_given { Some(Spec::assemble(&overlays)?.data.tokenizer) } else { None })
}

/// The files that the run folder keeps: those of the model, with the user's tokenizer instead of
/// its own if the user names one.
fn companions(
    task: &Import<'_>,
    pretrained: &Pretrained,
    spec: &CheckedSpec,
) -> Result<Companions> {
    let mut companions = pretrained.companions.clone();
    let is_given = given_tokenizer(task)?.is_some();
    if has_tokens(&pretrained.spec) && (is_given || companions.get(TOKENIZER_FILE).is_none()) {
        companions = companions.without_tokenizer();
        let named = Companions::named(&spec.data.tokenizer, task.hub, &|_| ())?;
        companions.add(named);
    }

    Ok(companions)
}

/// The spec as the run folder has it: its tokenizer is the copy in the folder.
fn at_home(task: &Import<'_>, spec: &CheckedSpec) -> Result<CheckedSpec> {
    if !has_tokens(spec) || spec.data.tokenizer == GPT2 || spec.data.tokenizer == BYTES {
        return Ok(spec.clone());
    }

    let copy = task.out.join(COMPANIONS_FOLDER).join(TOKENIZER_FILE);
    let mut spec = Spec::clone(spec);
    let Some(copy) = absolute(&copy).unwrap_or(copy).to_str().map(str::to_owned) else {
        return Err(RunError::NotUtf8 { out: task.out.to_owned() });
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
    task: &Import<'_>,
    pretrained: &Pretrained,
    spec: &CheckedSpec,
    model: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let companions = companions(task, pretrained, spec)?;
    let id = companions.tokenizer_id().unwrap_or_else(|| spec.data.tokenizer.clone());
    let provenance = provenance::of_import(spec, &pretrained.name, id, task.program);
    let folder = RunFolder::create_with(
        task.out,
        &at_home(task, spec)?,
        &provenance,
        |folder| -> Result<()> {
            folder.keep(&companions)?;
            model(&folder.model_path())
        },
    );

    folder.map(drop)
}

/// Makes the run folder of a model that is not one of this program's files.
fn write(
    task: &Import<'_>,
    pretrained: &Pretrained,
    spec: &CheckedSpec,
    weights: &Weights<'_>,
    owners: &[usize],
) -> Result<Parameters> {
    // `find`, not `lookup`: nothing may be drawn at random, so a model without its head is refused.
    let lookup = |name: &str| weights.find(name);
    let architecture = of_spec(spec, pretrained.extents);
    let model = model_for(architecture, spec, Some(&lookup), Kernels::Fused, &Device::Cpu)?;
    let state = State::new(owners.to_vec()).map_err(TrainError::from)?;
    let extra: BTreeMap<String, String> =
        model_notes(&at_home(task, spec)?, &state, 0, pretrained.extents);

    fill(task, pretrained, spec, |path| Ok(model.save(path, &extra)?))?;
    Ok(Parameters::of(&model))
}

/// For each layer, the lowest layer that has the same weights, to the last bit. What layers keep for
/// themselves is not compared.
fn equal_layers(
    architecture: &dyn Architecture,
    lookup: &dyn Fn(&str) -> dlt_models::Result<Option<Tensor>>,
) -> Result<Vec<usize>> {
    let division = architecture.division();
    let read =
        |layer: usize, name: &str| lookup(&format!("{}{name}", architecture.block_prefix(layer)));
    let mut owners: Vec<usize> = Vec::new();

    for layer in 0..architecture.n_layers() {
        let mut owner = layer;
        // Comparing with owners is enough: other layers are equal to one of them.
        for earlier in (0..layer).filter(|&earlier| owners[earlier] == earlier) {
            let mut is_equal = true;
            for entry in division.tied().entries() {
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
