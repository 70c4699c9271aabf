//! An existing model that a run starts from: its location, the spec that fits it, and its weights
//! by name.

mod factors;
mod weights;

use std::path::{Path, PathBuf};

use dlt_data::{
    BYTES, CIFAR10_MEAN, CIFAR10_STD, Companions, GPT2, HUB_PREFIX, HubConfig, Progress,
    TOKENIZER_FILE, Tokenizer, fetch_model,
};
use dlt_models::architecture::of_spec;
use dlt_models::huggingface::{Config, read_config, tied_layers};
use dlt_spec::fields::{self, Field};
use dlt_spec::record::SPEC_FILE;
use dlt_spec::size::Extents;
use dlt_spec::spec::{
    Architecture, Initial, InitialName, Marks, Normalise, Objective, Own, PolicyKind, RotaryKind,
    Size, StartVocabulary,
};
use dlt_spec::{CheckedSpec, Origin, Overlay, Spec, file};
use serde_json::Value;

use crate::error::RunError;
use crate::observer::Observer;
use crate::saved::Saved;
use crate::spec_layers::SpecLayers;
use crate::{Result, tokenizer};
pub use weights::Weights;

/// File that marks a folder as a PEFT adapter: changes to a model, not a model.
pub(crate) const ADAPTER_FILE: &str = "adapter_config.json";

/// File that marks a folder as a model in Hugging Face's layout.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// File that says how pictures are prepared for a model.
pub(crate) const PROCESSOR_FILE: &str = "preprocessor_config.json";

/// An existing model that a run can start from.
pub struct Pretrained {
    /// Its name for `model.start`; for a model of the hub, with its commit.
    pub name: String,
    /// Its spec, in which no size is `auto`.
    pub spec: CheckedSpec,
    /// Size of its vocabulary, and number of its classes.
    pub extents: Extents,
    /// Its tokenizer, as `data.tokenizer` names it; `None` for pictures, and if it is not known.
    pub(crate) tokenizer: Option<String>,
    /// The files that belong to it besides its weights.
    pub(crate) companions: Companions,
    /// Which tokens it has seen around a text; `None` if only its tokenizer says that.
    marks: Option<Marks>,
    /// For each layer, the lowest layer that uses the same weights; `None` if it is not known.
    pub(crate) owners: Option<Vec<usize>>,
    /// Where its weights are.
    pub(crate) location: WeightsLocation,
}

/// Where weights are.
pub(crate) enum WeightsLocation {
    /// A model that this program saved.
    Saved(Box<Saved>),
    /// A folder in Hugging Face's layout.
    Folder(PathBuf),
}

impl Pretrained {
    /// Opens a run folder, a model file, a folder in Hugging Face's layout, or
    /// `hf:OWNER/NAME[@REVISION]`, which is fetched first. `hub` says how; without it, a name of the
    /// hub is refused.
    ///
    /// # Errors
    /// If it is none of these, is damaged, or needs what this program cannot compute.
    pub fn open(name: &str, hub: Option<&HubConfig>, observer: &dyn Observer) -> Result<Self> {
        if let Some(model) = name.strip_prefix(HUB_PREFIX) {
            let Some(hub) = hub else {
                return Err(dlt_data::DataError::NoHub { name: name.to_owned() }.into());
            };
            let fetched =
                fetch_model(model, hub, &|event| observer.loading(Progress::Fetching(event)))?;
            let pinned = format!("{HUB_PREFIX}{}@{}", fetched.repository, fetched.commit);
            let tokenizer = pinned.clone();

            return Self::of_folder(pinned, fetched.folder, tokenizer, observer);
        }

        let path = Path::new(name);
        if path.join(ADAPTER_FILE).is_file() {
            return Err(RunError::Adapter { model: name.to_owned() });
        }

        let config = path.join(CONFIG_FILE);
        if file::is_there(&config) {
            // A pipe or a folder of this name is bad data (exit code 4), not a failing disk (5).
            file::regular(&config, u64::MAX)
                .map_err(|source| RunError::Read { path: config.clone(), source })?;

            let own = path.join(TOKENIZER_FILE);
            // A folder without tokenizer.json may have the older vocab.json and merges.txt, which
            // are found by the name of the folder.
            let tokenizer = if file::is_there(&own) {
                own.to_string_lossy().into_owned()
            } else {
                name.to_owned()
            };

            return Self::of_folder(name.to_owned(), path.to_owned(), tokenizer, observer);
        }

        let saved = Saved::open(path)?;
        saved.verify_tokenizer(hub, |line| observer.note(line))?;

        let spec = sized(&saved.spec, saved.extents)?;
        Ok(Self {
            name: name.to_owned(),
            tokenizer: has_tokens(&spec).then(|| spec.data.tokenizer.clone()),
            companions: Companions::of_run(&tokenizer::folder(path))?,
            marks: Some(spec.data.marks),
            owners: Some(saved.binding().partition()),
            extents: saved.extents,
            spec,
            location: WeightsLocation::Saved(Box::new(saved)),
        })
    }

    fn of_folder(
        name: String,
        folder: PathBuf,
        tokenizer: String,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let Config { model, notes } = read_config(&folder.join(CONFIG_FILE))?;
        for note in notes {
            observer.remark(&format!("{name}: {note}"));
        }

        let classes = if model.objective == Objective::Classes { model.classes.or(0) } else { 0 };
        let vocabulary =
            if model.architecture == Architecture::Vit { 0 } else { model.vocabulary.or(0) };
        let extents = Extents { vocabulary, classes };
        let mut spec = Spec { model, ..undecided() };
        let mut built_in = None;
        let mut marks = None;

        if let Some(Noted { spec: noted, says_marks }) = noted_spec(&folder)? {
            // A config.json does not say how long windows were in training, but spec.toml does.
            let positions = noted.model.positions.or(noted.model.context);
            spec.model.context = spec.model.context.min(noted.model.context);
            if spec.model.rotary_kind == RotaryKind::Dynamic
                && noted.model.rotary_kind == RotaryKind::Dynamic
            {
                // For a dynamic rope, config.json has the positions from which on the base grows.
                // Texts may be longer, so spec.toml decides.
                spec.model.positions = Size::Fixed(positions.max(spec.model.positions.or(0)));
                spec.model.context = noted.model.context;
            }
            built_in =
                Some(noted.data.tokenizer.clone()).filter(|name| name == GPT2 || name == BYTES);
            marks = says_marks.then_some(noted.data.marks);
            spec.data = noted.data;
        }

        if !has_tokens(&spec)
            && let Some(normalise) = normalise(&folder)?
        {
            spec.data.normalise = normalise;
        }

        let spec = sized(&spec.check()?, extents)?;
        let companions = Companions::of_model(&folder)?;
        let tokenizer = companions.get(TOKENIZER_FILE).map(|_| tokenizer).or(built_in);
        let tokenizer = tokenizer.filter(|_| has_tokens(&spec));
        let owners = tied_layers(&folder, &*of_spec(&spec, extents))?;
        let is_tied = owners.iter().enumerate().any(|(layer, owner)| layer != *owner);

        let owners = is_tied.then_some(owners);
        let location = WeightsLocation::Folder(folder);
        Ok(Self { name, spec, extents, tokenizer, companions, marks, owners, location })
    }

    /// The model that a spec starts from, if it names one.
    ///
    /// # Errors
    /// As [`open`](Self::open), or if the spec contradicts the model.
    pub fn of_spec(
        spec: &CheckedSpec,
        hub: Option<&HubConfig>,
        observer: &dyn Observer,
    ) -> Result<Option<Self>> {
        if spec.model.start.is_empty() {
            return Ok(None);
        }

        let pretrained = Self::open(&spec.model.start, hub, observer)?;
        pretrained.check(spec)?;
        Ok(Some(pretrained))
    }

    /// The spec of a run that starts from this model. The model's settings override preset and
    /// method; its objective overrides only the preset, because a method may set it. What the user
    /// sets overrides all of these.
    ///
    /// # Errors
    /// If the user's settings contradict the model.
    pub(crate) fn lay(
        &self,
        mut spec_layers: SpecLayers<'_>,
        option: &'static str,
        hub: Option<&HubConfig>,
    ) -> Result<CheckedSpec> {
        let origin = Origin::Option(format!("{option} {}", self.name));
        spec_layers
            .under_method
            .push(self.overlay(&origin, &["model.objective", "model.pooling"])?);
        self.lay_for_classes(spec_layers, option, hub)
    }

    /// As [`lay`](Self::lay), but the model's objective is ignored: `spec_layers` already have the
    /// one of the task.
    pub(crate) fn lay_for_classes(
        &self,
        mut spec_layers: SpecLayers<'_>,
        option: &'static str,
        hub: Option<&HubConfig>,
    ) -> Result<CheckedSpec> {
        let origin = Origin::Option(format!("{option} {}", self.name));
        let is_independent = Overlay::from_option(option, "tying.initial", "independent")?;
        spec_layers
            .over_method
            .splice(0..0, [self.overlay(&origin, &self.keys())?, is_independent]);
        spec_layers.over_method.extend(self.normalised(&origin)?);

        if let Some(tokenizer) = &self.tokenizer {
            spec_layers.put_over_method(option, "data.tokenizer", tokenizer)?;
        } else if has_tokens(&self.spec) && !spec_layers.sets("data.tokenizer")? {
            return Err(self.has_no_tokenizer());
        }

        if has_tokens(&self.spec) {
            let wanted = spec_layers.assembled()?;
            let tokenizer = tokenizer::open(&wanted.data.tokenizer, hub)?;
            let marks = self.marks(&tokenizer)?;

            spec_layers.put_over_method(option, "data.marks", &fields::word(&marks))?;
            if wanted.model.start_vocabulary == StartVocabulary::Grow {
                let rows = self.rows_for(&tokenizer).to_string();
                spec_layers.put_over_method(option, "model.vocabulary", &rows)?;
            } else {
                self.check_table(&tokenizer)?;
            }
        }

        spec_layers.options.push((option, "model.start", self.name.clone()));
        let positions = self.spec.longest_window();
        if has_tokens(&self.spec)
            && spec_layers.assembled()?.model.context > positions
            && !spec_layers.sets("model.context")?
        {
            let positions = positions.to_string();
            spec_layers.put_over_method(option, "model.context", &positions)?;
        }

        let spec = spec_layers.assembled()?;
        // Before `check`: `fits` names the model and its value, while the rules of a spec would
        // only say that some combination is wrong.
        self.fits(&spec)?;

        let spec = spec.check()?;
        self.check(&spec)?;
        Ok(spec)
    }

    /// Refuses a spec that contradicts this model.
    pub(crate) fn check(&self, spec: &CheckedSpec) -> Result<()> {
        self.fits(&*sized(spec, Extents::of_text(spec.model.vocabulary.or(0)))?)?;
        self.check_scales(spec)?;
        factors::check(&self.name, &self.spec, spec)
    }

    /// Refuses a spec without scales for a model that has them: it would compute something else. The
    /// other way round, scales begin at 1.
    fn check_scales(&self, spec: &CheckedSpec) -> Result<()> {
        let has_scales = |spec: &CheckedSpec| spec.tying.own.contains(&Own::Scales);
        if !has_scales(&self.spec) || has_scales(spec) {
            return Ok(());
        }

        let own = fields::find("tying.own").map(|field| field.value(spec).to_string());
        let own = own.unwrap_or_default();
        let differing = vec![format!("`tying.own` is {own}, but the model has scales")];
        Err(RunError::Contradiction { model: self.name.clone(), differing })
    }

    /// The value of `tying.residual_scale` with which layers that start in the model's groups have
    /// its residual factors.
    pub(crate) fn residual_scale(&self) -> &'static str {
        factors::word(&self.spec)
    }

    /// Refuses a spec whose values differ from those of the model; values of `auto` are skipped.
    fn fits(&self, spec: &Spec) -> Result<()> {
        let differing: Vec<String> = self
            .keys()
            .iter()
            // A rotary family has no weights for positions. A longer context is possible, even
            // though the model was not trained for it.
            .filter(|key| **key != "model.positions" || !self.spec.model.architecture.is_rotary())
            .filter(|key| **key != "model.vocabulary" || !self.grows_to(spec))
            .filter_map(|key| {
                let field = fields::find(key)?;
                let ours = field.value(&self.spec).to_string();
                let theirs = field.value(spec).to_string();

                (ours != theirs && theirs != "\"auto\"")
                    .then(|| format!("`{key}` is {theirs}, but the model has {ours}"))
            })
            .collect();

        if differing.is_empty() {
            return Ok(());
        }

        Err(RunError::Contradiction { model: self.name.clone(), differing })
    }

    /// The error for a model whose tokenizer is not known.
    pub(crate) fn has_no_tokenizer(&self) -> RunError {
        RunError::NoTokenizer { model: self.name.clone() }
    }

    /// Which tokens the model has seen around a text: as its own files say, or else as its
    /// tokenizer puts them.
    pub(crate) fn marks(&self, tokenizer: &Tokenizer) -> Result<Marks> {
        if let Some(marks) = self.marks {
            return Ok(marks);
        }
        Ok(if tokenizer.marks()?.is_empty() { Marks::None } else { Marks::Template })
    }

    /// Refuses a tokenizer of another model, and warns if the tokenizer has tokens beyond the rows
    /// of the model's token table.
    pub(crate) fn check_table(&self, tokenizer: &Tokenizer) -> Result<()> {
        let rows = self.extents.vocabulary;
        let size = tokenizer.vocabulary();

        if tokenizer.without_added() > rows {
            return Err(RunError::TokenTable {
                model: self.name.clone(),
                rows,
                tokens: size,
                without_added: tokenizer.without_added(),
            });
        }

        if size > rows {
            let first = (rows..size).find_map(|id| tokenizer.token(id as u32)).unwrap_or_default();
            tracing::warn!(
                "{}: the tokenizer has {size} tokens, but the token table has {rows} rows; a text with a token beyond \
                 them, such as {first:?}, cannot be read; `dlt train --from` with --resize-vocabulary adds rows",
                self.name
            );
        }

        Ok(())
    }

    /// Rows that the token table needs to have one for each token.
    fn rows_for(&self, tokenizer: &Tokenizer) -> usize {
        let has_mask = ["[MASK]", "<mask>"].iter().any(|token| tokenizer.id_of(token).is_some());
        // Masked-token training needs a token that hides others. If the tokenizer has none, it gets
        // a row after all others.
        let is_masked = self.spec.model.objective == Objective::MaskedToken;
        let needed = tokenizer.vocabulary() + usize::from(is_masked && !has_mask);
        self.extents.vocabulary.max(needed)
    }

    /// Whether a spec asks for this model with a larger vocabulary.
    fn grows_to(&self, spec: &Spec) -> bool {
        let grows = spec.model.start_vocabulary == StartVocabulary::Grow;
        grows && spec.model.vocabulary.or(0) >= self.extents.vocabulary
    }

    /// The keys whose values must be those of the model, so that its weights fit and compute the
    /// same. Fields that only some families use are always among them.
    pub(crate) fn keys(&self) -> Vec<&'static str> {
        let model = &self.spec.model;
        let mut keys = vec![
            "model.architecture",
            "model.attention",
            "model.layers",
            "model.width",
            "model.heads",
            "model.feed_forward",
            "model.norm_epsilon",
        ];

        if has_tokens(&self.spec) {
            keys.extend(["model.positions", "model.vocabulary"]);
        }

        let is_its_own =
            |field: &&Field| !field.families().is_empty() && field.is_used_by(model.architecture);
        keys.extend(fields::FIELDS.iter().filter(is_its_own).map(Field::key));

        if model.objective != Objective::Classes {
            keys.push("model.output");
        }

        keys
    }

    /// The model's values of some keys, as an overlay.
    pub(crate) fn overlay(&self, origin: &Origin, keys: &[&str]) -> Result<Overlay> {
        let fields = keys.iter().filter_map(|key| fields::find(key));
        let values = fields.map(|field| (field.key(), field.value(&self.spec)));
        Ok(Overlay::from_values(origin.clone(), values)?)
    }

    /// How the model's pictures are normalised, as an overlay; `None` if it reads tokens.
    pub(crate) fn normalised(&self, origin: &Origin) -> Result<Option<Overlay>> {
        let field = fields::find("data.normalise").filter(|_| !has_tokens(&self.spec));
        let value = field.map(|field| (field.key(), field.value(&self.spec)));
        Ok(value.map(|value| Overlay::from_values(origin.clone(), [value])).transpose()?)
    }
}

/// Whether a model reads tokens.
#[must_use]
pub fn has_tokens(spec: &Spec) -> bool {
    spec.model.architecture != Architecture::Vit
}

/// The plain spec of a model whose layers are independent and stay so, whatever their number.
fn undecided() -> Spec {
    let mut spec = Spec::default();
    spec.tying.initial = Initial::Named(InitialName::Independent);
    spec.agent.policy = PolicyKind::None;
    spec
}

/// The spec in a folder that this program exported.
pub(crate) struct Noted {
    pub(crate) spec: Spec,
    /// Whether it was written by a version that knows `data.marks`.
    says_marks: bool,
}

/// The spec in a folder that this program exported. `None` for a folder of another program, which
/// has no spec.toml, or one that means something else; then a warning says why it is not used.
pub(crate) fn noted_spec(folder: &Path) -> Result<Option<Noted>> {
    let path = folder.join(SPEC_FILE);
    let Some(text) = read_beside(&path)? else { return Ok(None) };
    let origin = Origin::File(path.display().to_string());
    let noted = Overlay::from_toml(origin, &text).and_then(|noted| {
        let says_marks = noted.keys().any(|key| key == "data.marks");
        Ok(Noted { spec: Spec::assemble(&[noted])?, says_marks })
    });

    Ok(noted.inspect_err(|error| tracing::warn!("spec.toml is not used: {error}")).ok())
}

/// The text of a file, or `None` if there is no such file.
fn read_beside(path: &Path) -> Result<Option<String>> {
    match dlt_spec::file::read_text(path, dlt_spec::file::CONFIGURATION_BYTES) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RunError::Read { path: path.to_owned(), source }),
    }
}

/// How pixels are normalised, if the folder has a `preprocessor_config.json` that says it.
fn normalise(folder: &Path) -> Result<Option<Normalise>> {
    let path = folder.join(PROCESSOR_FILE);
    read_beside(&path)?.map_or(Ok(None), |text| normalise_in(text.as_bytes(), &path))
}

/// How pixels are normalised, by the content of a `preprocessor_config.json`; `None` if it has no
/// mean or deviation. `path` is for messages.
pub(crate) fn normalise_in(content: &[u8], path: &Path) -> Result<Option<Normalise>> {
    let refuse = |reason: String| RunError::Processor { path: path.to_owned(), reason };

    let said: Value = serde_json::from_slice(content).map_err(|error| refuse(error.to_string()))?;
    let numbers = |key: &str| -> Option<[f32; 3]> {
        let numbers = said[key].as_array()?.iter().map(|number| Some(number.as_f64()? as f32));
        numbers.collect::<Option<Vec<_>>>()?.try_into().ok()
    };

    let (Some(mean), Some(std)) = (numbers("image_mean"), numbers("image_std")) else {
        return Ok(None);
    };

    match (mean, std) {
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]) => Ok(Some(Normalise::Half)),
        (CIFAR10_MEAN, CIFAR10_STD) => Ok(Some(Normalise::Own)),
        _ => Err(refuse(format!(
            "expected image_mean and image_std of {:?}, or those of CIFAR-10, got {mean:?} and {std:?}",
            [0.5; 3]
        ))),
    }
}

/// The same spec with numbers for all sizes that may be `auto`, so that they can be compared.
fn sized(spec: &CheckedSpec, extents: Extents) -> Result<CheckedSpec> {
    let mut sized = Spec::clone(spec);
    let model = &mut sized.model;
    if model.architecture.is_rotary() {
        model.key_heads = Size::Fixed(spec.key_heads());
        model.head_width = Size::Fixed(spec.head_width());
        model.attention_bias = spec.attention_bias();
        model.feed_forward_bias = spec.feed_forward_bias();
    }

    model.feed_forward = Size::Fixed(spec.feed_forward());
    model.positions = Size::Fixed(spec.positions());

    if extents.vocabulary > 0 && model.architecture != Architecture::Vit {
        model.vocabulary = Size::Fixed(extents.vocabulary);
    }

    Ok(sized.check()?)
}
