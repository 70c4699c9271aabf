//! A model that a run has saved, opened from the run folder or from the model file alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use dlt_data::{HUB_PREFIX, HubConfig};
use dlt_models::Model;
use dlt_models::architecture::{Architecture, of_spec};
use dlt_models::binding::Binding;
use dlt_models::file::ModelFile;
use dlt_report::shell::quoted;
use dlt_spec::size::Extents;
use dlt_spec::{CheckedSpec, Origin, Overlay, Spec, file, record};
use dlt_state::State;
use dlt_train::{MODEL_FILE, TrainError, open_model, saved_model, with_repair};

use crate::Result;
use crate::error::RunError;
use crate::naming::of_model;
use crate::pretrained::{CONFIG_FILE, has_tokens};
use crate::tokenizer::OfRun;

/// A saved model, and what its file says about it.
pub struct Saved {
    /// The spec of the run that made it, with the run's own tokenizer.
    pub spec: CheckedSpec,
    /// Size of its vocabulary, and number of its classes.
    pub extents: Extents,
    /// Training steps that were done when it was saved.
    pub step: usize,
    /// The state when it was saved.
    pub state: State,
    tokenizer: OfRun,
    file: ModelFile,
}

impl Saved {
    /// Opens the model of a run folder, or a model file.
    ///
    /// # Errors
    /// If there is no model, or it is damaged or contradicts its own spec.
    pub fn open(path: &Path) -> Result<Self> {
        let at = locate(path)?;
        let file = open_model(&at)?;
        let refuse =
            |reason: String| RunError::from(TrainError::Format { path: path.to_owned(), reason });

        let note = |key: &str| {
            file.metadata()
                .get(key)
                .ok_or_else(|| refuse(format!("the model's metadata lacks `{key}`")))
        };

        let number = |key: &str| {
            let text = note(key)?;
            text.parse()
                .map_err(|_| refuse(format!("metadata `{key}`: expected a number, got `{text}`")))
        };

        let owners = note("state")?
            .split(',')
            .map(str::parse)
            .collect::<std::result::Result<Vec<usize>, _>>();
        let state = owners.map_err(|error| error.to_string());
        let state = state.and_then(|owners| State::new(owners).map_err(|error| error.to_string()));

        let origin = Origin::File(path.display().to_string());
        let noted = Spec::assemble(&[Overlay::from_toml(origin, note("spec")?)?])?;
        let tokenizer = OfRun::find(path, &noted)?;

        // From here on, the spec names the run's own copy of its tokenizer.
        let spec = tokenizer.in_place(&noted.check()?)?;
        let state = state.map_err(|error| refuse(format!("metadata `state`: {error}")))?;
        if state.n_layers() != spec.model.layers {
            let got = state.n_layers();
            let expected = spec.model.layers;
            return Err(refuse(format!("expected a state of {expected} layers, got one of {got}")));
        }

        // Models that predict tokens may have no number of classes.
        let classes = if file.metadata().contains_key("classes") { number("classes")? } else { 0 };
        let extents = Extents { vocabulary: number("vocabulary")?, classes };

        // Checks names and shapes of all tensors, so that later reads of single tensors cannot fail
        // for them.
        file.check(&*of_spec(&spec, extents)).map_err(|error| with_repair(error.into(), &at))?;
        Ok(Self { extents, step: number("step")?, spec, state, tokenizer, file })
    }

    /// The model itself.
    ///
    /// # Errors
    /// If it cannot be read, or does not fit on the device.
    pub fn model(&self, device: &Device) -> Result<Model> {
        Ok(saved_model(&self.file, self.architecture(), &self.spec, device)?)
    }

    /// Checks that the tokenizer is the one that the run was trained with, and calls `say` with a
    /// line about it. Does nothing for pictures.
    ///
    /// # Errors
    /// If it is another one, or cannot be read.
    pub fn verify_tokenizer(&self, hub: Option<&HubConfig>, say: impl FnOnce(&str)) -> Result<()> {
        if has_tokens(&self.spec) {
            say(&self.tokenizer.verify(hub)?);
        }
        Ok(())
    }

    /// The file, from which weights can be read by name.
    pub(crate) fn file(&self) -> &ModelFile {
        &self.file
    }

    /// Which layers share storage.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        self.file.binding()
    }

    /// The architecture: what the model computes, and which parameters it has.
    #[must_use]
    pub fn architecture(&self) -> Arc<dyn Architecture> {
        of_spec(&self.spec, self.extents)
    }
}

/// A path below `runs` for the run of a model, at which nothing exists yet.
fn new_run(model: &str) -> String {
    let name = of_model(model);
    let paths = (1..).map(|number| match number {
        1 => format!("runs/{name}"),
        number => format!("runs/{name}-{number}"),
    });

    paths.into_iter().find(|path| !file::is_there(Path::new(path))).unwrap_or_default()
}

/// The model file of a run folder, or the file itself.
///
/// # Errors
/// If there is no such folder or file, or it has no model.
pub(crate) fn locate(path: &Path) -> Result<PathBuf> {
    let refuse =
        |reason: &str| RunError::NoModel { path: path.to_owned(), reason: reason.to_owned() };

    if path.is_file() {
        return Ok(path.to_owned());
    }

    let is_of_hub = path.to_str().is_some_and(|name| name.starts_with(HUB_PREFIX));
    if file::is_there(&path.join(CONFIG_FILE)) || is_of_hub {
        let model = quoted(&path.to_string_lossy());
        let run = new_run(&path.to_string_lossy());
        return Err(refuse(&format!(
            "expected a run, got a model in Hugging Face's layout; `dlt import {model} --out {run}` makes a run of it"
        )));
    }

    let model = path.join(MODEL_FILE);
    if !path.is_dir() {
        Err(refuse("no such run folder or model file"))
    } else if model.is_file() {
        Ok(model)
    } else if path.join(record::SPEC_FILE).is_file() {
        Err(refuse("this run has not saved a model yet; it does so at its first validation"))
    } else {
        Err(refuse("not a run folder: expected one that `dlt train` wrote"))
    }
}
