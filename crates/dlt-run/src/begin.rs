//! Begins a run: everything is checked before its folder is made, so that a refused start leaves
//! nothing behind.

use std::path::{Path, PathBuf};

use candle_core::Device;
use dlt_data::{Companions, HubConfig, Material, Places, TOKENIZER_FILE};
use dlt_report::shell::quoted;
use dlt_spec::CheckedSpec;
use dlt_spec::record::{Provenance, STATES_FILE};
use dlt_state::Recording;
use dlt_train::{Exchange, Plan, Prepared, RunFolder, Share, TrainError, Trainer};

use crate::error::RunError;
use crate::observer::{Introduction, Observer};
use crate::pretrained::{Pretrained, Weights, has_tokens};
use crate::processes::{agree_on_run, all, first_then_all};
use crate::provenance::Program;
use crate::spec_layers::SpecLayers;
use crate::{Result, naming, paths, provenance, rehearsal};

/// Where a run computes, what it can reach, which program makes it, and who watches.
pub struct Site<'a> {
    /// The device.
    pub device: Device,
    /// Its name, for the provenance.
    pub device_name: &'a str,
    /// Where data and tokenizers are.
    pub places: Places<'a>,
    /// The program that the provenance records.
    pub program: &'a Program,
    /// Receives what a user may want to know.
    pub observer: &'a dyn Observer,
}

/// The folder of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// This one, which must not exist yet.
    Exactly(PathBuf),
    /// The first of `NAME`, `NAME-2`, `NAME-3` and so on that does not exist.
    FirstFree(PathBuf),
}

impl Destination {
    /// `out` if it is named, or else the first free folder of this name.
    pub(crate) fn of(out: Option<&Path>, name: PathBuf) -> Self {
        out.map_or(Self::FirstFree(name), |out| Self::Exactly(out.to_owned()))
    }

    /// Refuses a folder that exists.
    ///
    /// # Errors
    /// [`TrainError::RunExists`].
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Exactly(path) if path.exists() => {
                Err(TrainError::RunExists { path: path.clone() }.into())
            }
            _ => Ok(()),
        }
    }

    /// Makes the folder.
    fn create(
        &self,
        spec: &CheckedSpec,
        provenance: &Provenance,
        companions: &Companions,
    ) -> Result<RunFolder> {
        let create = |path: &Path| {
            RunFolder::create_with(path, spec, provenance, |folder| folder.keep(companions))
        };

        let name = match self {
            Self::Exactly(path) => return Ok(create(path)?),
            Self::FirstFree(name) => name,
        };

        loop {
            match create(&naming::free(name)) {
                // Another run has made this folder since it was seen to be free: try the next name.
                Err(TrainError::RunExists { .. }) => {}
                made => return Ok(made?),
            }
        }
    }
}

/// A run that is about to begin.
pub struct Beginning {
    pub(crate) spec: CheckedSpec,
    /// The model whose weights it starts with; `None` if it starts from scratch.
    pub(crate) pretrained: Option<Pretrained>,
    /// Where it will be.
    pub(crate) destination: Destination,
}

impl Beginning {
    /// The run of a spec. If the spec names a model to start from, this opens it.
    ///
    /// # Errors
    /// If that model cannot be opened, or the spec contradicts it.
    pub fn of_spec(
        spec: CheckedSpec,
        destination: Destination,
        hub: Option<&HubConfig>,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let pretrained = Pretrained::of_spec(&spec, hub, observer)?;
        Ok(Self { spec, pretrained, destination })
    }

    /// The run of the layers of a spec, which starts with the weights of the model `from`, if one is
    /// named here or in the spec. It will be in the folder `out`, or else in the first free one
    /// whose name says what differs from preset, method and file.
    ///
    /// # Errors
    /// If a layer cannot be read, the result breaks a rule of specs, or the model cannot be opened
    /// or contradicts it.
    pub fn of_layers(
        mut layers: SpecLayers<'_>,
        from: Option<&str>,
        out: Option<&Path>,
        hub: Option<&HubConfig>,
        observer: &dyn Observer,
    ) -> Result<Self> {
        // Without options and --set: the name of the run folder says what differs from this spec.
        let usual = layers.usual()?;
        let method = layers.method;

        let wanted = layers.assembled()?;

        if layers.rehearses {
            let is_from_weights = from.is_some() || !wanted.model.start.is_empty();
            layers.over_all = rehearsal::overlays(&wanted, is_from_weights)?;
        }

        let (spec, pretrained) = match from {
            Some(name) => {
                let pretrained = Pretrained::open(name, hub, observer)?;
                (pretrained.lay(layers, "--from", hub)?, Some(pretrained))
            }
            None => {
                let spec = layers.spec()?;
                let pretrained = Pretrained::of_spec(&spec, hub, observer)?;
                (spec, pretrained)
            }
        };

        let from = from.map(naming::of_model);
        let name = naming::folder(&spec, &usual, method, from.as_deref());
        Ok(Self { spec, pretrained, destination: Destination::of(out, name) })
    }

    /// Its spec.
    #[must_use]
    pub fn spec(&self) -> &CheckedSpec {
        &self.spec
    }

    /// Where it will be.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Loads the data, checks everything, makes the run folder, and returns the trainer before its
    /// first step.
    ///
    /// # Errors
    /// If the folder exists, the data or the weights cannot be used, or the run does not fit into
    /// memory. Then nothing is left behind.
    pub fn begin(self, site: &Site<'_>) -> Result<Trainer> {
        self.begin_among(site, &mut Exchange::alone())
    }

    /// As [`begin`](Self::begin), in one of the processes of `exchange`, which the trainer takes if
    /// nothing fails. Process 0 loads the data first and makes the run folder, which all processes
    /// must see under the same path.
    ///
    /// # Errors
    /// As [`begin`](Self::begin); in every process if one of them fails, or begins another run.
    pub fn begin_among(self, site: &Site<'_>, exchange: &mut Exchange) -> Result<Trainer> {
        let share = exchange.share();
        let (prepared, mut provenance, companions) =
            first_then_all(exchange, "the data", || self.prepare(site, share))?;
        provenance.processes = provenance::processes(exchange.world());

        agree_on_run(exchange, &provenance, &[])?;

        let mut made = Ok(None);
        if exchange.writes() {
            let spec = prepared.plan().spec();
            made = self.destination.create(spec, &provenance, &companions).map(Some);
        }

        let made = all(exchange, "the run folder", made)?;
        let path = made.as_ref().map(|folder| folder.path().to_string_lossy().into_owned());
        let path = exchange.texts("the run folder", &path.unwrap_or_default())?.swap_remove(0);
        let folder = match made {
            Some(folder) => Ok(folder),
            None => RunFolder::followed(Path::new(&path)).map_err(RunError::from),
        };

        let folder = all(exchange, "the run folder", folder)?;
        site.observer.note(&format!("run folder: {}", quoted(&path)));
        Ok(Trainer::among(prepared, folder, std::mem::take(exchange)))
    }

    /// Loads the data and checks everything: the run without its folder, and what the folder holds
    /// before the first step.
    fn prepare(&self, site: &Site<'_>, share: Share) -> Result<(Prepared, Provenance, Companions)> {
        let Self { spec, pretrained, destination } = self;
        let Site { device, device_name, places, program, observer } = site;
        destination.check()?;

        let recording = recording(spec)?;
        let material = load(spec, *places, *observer)?;
        // The run folder names files by absolute paths; what the user sees first names them as given.
        let spec_of_run = paths::absolute(spec)?;
        let plan = Plan::among(share, spec_of_run, material, recording.as_ref(), device.clone())?;
        let material = plan.material();

        let weights = weights(pretrained.as_ref(), spec, material, device, *observer)?;
        let lookup = |name: &str| weights.as_ref().map_or(Ok(None), |weights| weights.lookup(name));
        let from = weights.as_ref().map(|_| &lookup as dlt_train::Weights<'_>);

        observer.introduce(&Introduction::of(spec, &plan, recording.as_ref(), device_name)?);
        let companions = companions(spec, pretrained.as_ref(), material, places.hub)?;
        let provenance = provenance::of(plan.spec(), material, device_name, program);

        // Memory or weights that do not fit are found here, so the folder is only made after that.
        Ok((plan.with_weights(from)?, provenance, companions))
    }
}

/// Loads the data of a run.
pub(crate) fn load(
    spec: &CheckedSpec,
    places: Places<'_>,
    observer: &dyn Observer,
) -> Result<Material> {
    Ok(Material::load(spec, places, &mut |progress| observer.loading(progress))?)
}

/// The files that a run keeps next to its weights: the tokenizer that it is trained with, and the
/// files that belong to the model that it starts from.
///
/// # Errors
/// If the tokenizer's file has changed since the text was tokenized.
fn companions(
    spec: &CheckedSpec,
    pretrained: Option<&Pretrained>,
    material: &Material,
    hub: Option<&HubConfig>,
) -> Result<Companions> {
    if !has_tokens(spec) {
        return Ok(pretrained.map(|pretrained| pretrained.companions.clone()).unwrap_or_default());
    }

    let with_own_tokenizer =
        pretrained.filter(|pretrained| pretrained.tokenizer.as_ref() == Some(&spec.data.tokenizer));
    let mut companions = match with_own_tokenizer
        .filter(|pretrained| pretrained.companions.get(TOKENIZER_FILE).is_some())
    {
        Some(pretrained) => pretrained.companions.clone(),
        None => Companions::named(&spec.data.tokenizer, hub, &|_| ())?,
    };

    if let Some(pretrained) = pretrained {
        let others = pretrained.companions.clone().without_tokenizer();
        // With another tokenizer, the token ids in the model's files mean other tokens.
        let is_own = with_own_tokenizer.is_some();
        companions.add(if is_own { others } else { others.without_ids() });
    }

    let was = &material.provenance().tokenizer;
    match companions.tokenizer_id() {
        Some(now) if now != *was => Err(RunError::ChangedTokenizer {
            name: spec.data.tokenizer.clone(),
            was: was.clone(),
            now,
        }),
        _ => Ok(companions),
    }
}

/// Opens the weights of the model that a run starts from, and says which parameters are drawn at
/// random instead.
pub(crate) fn weights<'a>(
    pretrained: Option<&'a Pretrained>,
    spec: &CheckedSpec,
    material: &Material,
    device: &Device,
    observer: &dyn Observer,
) -> Result<Option<Weights<'a>>> {
    let Some(pretrained) = pretrained else { return Ok(None) };
    let weights = pretrained.weights(spec, material.extents(), device, observer)?;
    let drawn = match weights.drawn() {
        [] => String::new(),
        drawn => format!("; new and drawn at random: {}", drawn.join(", ")),
    };

    observer.note(&format!("weights: {}{drawn}", pretrained.name));
    Ok(Some(weights))
}

/// The recording that a replaying policy follows, if the spec names one. If the path is a run
/// folder, its own recording is used.
pub(crate) fn recording(spec: &CheckedSpec) -> Result<Option<Recording>> {
    if spec.agent.recording.is_empty() {
        return Ok(None);
    }

    let path = Path::new(&spec.agent.recording);
    let file = if path.is_dir() { path.join(STATES_FILE) } else { path.to_owned() };
    if !file.is_file() {
        return Err(RunError::NoRecording { path: file });
    }

    Ok(Some(RunFolder::read_recording(&file)?))
}
