//! Begins a run in which an existing model learns the classes of a task while its tying stays fixed.

use std::path::Path;

use dlt_data::HubConfig;
use dlt_data::catalogue::{CATALOGUE, Entry, LearningTask, find};
use dlt_spec::fields::word;
use dlt_spec::spec::Attention;
use dlt_spec::{Origin, Overlay, Value};

use crate::begin::{Beginning, Destination};
use crate::error::RunError;
use crate::naming::{self, of_model};
use crate::observer::Observer;
use crate::pretrained::{Pretrained, has_tokens};
use crate::spec_layers::{Ground, SpecLayers};
use crate::{Result, rehearsal};

/// Longest window by default, in tokens.
const CONTEXT: usize = 128;

/// A model, and the task that it learns.
#[derive(Clone, Debug, Default)]
pub struct Finetuning<'a> {
    /// Run folder, model file, folder in Hugging Face's layout, or a name of the hub.
    pub model: &'a str,
    /// Task of the catalogue, as `glue/sst2`; `None` if `data` has the user's own labels.
    pub task: Option<&'a str>,
    /// Files of the task, instead of the hub's; or a table of texts and labels.
    pub data: Option<&'a str>,
    /// Method over the settings of fine-tuning.
    pub method: Option<&'a str>,
    /// Options that set one key each: the option, the key, the value.
    pub options: Vec<(&'static str, &'static str, String)>,
    /// `--set`, in order.
    pub set: &'a [String],
    /// Run folder; `None` for the first free one that is named for model and task.
    pub out: Option<&'a Path>,
    /// Whether the run is a [rehearsal], which makes it tiny.
    pub rehearses: bool,
    /// Processes that train the run together.
    pub processes: usize,
}

impl Finetuning<'_> {
    /// Opens the model, and makes the spec of the run.
    ///
    /// # Errors
    /// If there is no such task, the model cannot be opened, or the settings contradict it.
    pub fn beginning(self, hub: Option<&HubConfig>, observer: &dyn Observer) -> Result<Beginning> {
        let entry = self.task.map(entry).transpose()?;
        let pretrained = Pretrained::open(self.model, hub, observer)?;

        if let Some(entry) = entry {
            check_kind(&pretrained, entry)?;
        }

        let goal = goal(entry, self.data);
        let mut layers = SpecLayers {
            ground: Ground::Plain,
            under_method: vec![Overlay::from_values(origin(), usual(&pretrained, &goal))?],
            over_method: vec![Overlay::from_values(origin(), fixed(&pretrained))?],
            method: self.method,
            options: entry
                .map(|entry| ("--task", "data.source", entry.name.to_owned()))
                .into_iter()
                .collect(),
            set: self.set,
            processes: self.processes,
            ..SpecLayers::default()
        };

        layers.options.extend(self.options);
        if self.rehearses {
            layers.over_all = rehearsal::overlays(&pretrained.spec, true)?;
        }

        // `lay_for_classes`, not `lay`: the objective is that of the task, and the model's own must
        // not override it.
        let spec = pretrained.lay_for_classes(layers, "finetune", hub)?;
        let name = naming::folder_of_task(&spec, self.method);
        let destination = Destination::of(self.out, name);
        Ok(Beginning { spec, pretrained: Some(pretrained), destination })
    }
}

/// What the name of the run ends in: the name of the task, or of the file with the user's data.
fn goal(entry: Option<&Entry>, data: Option<&str>) -> String {
    match entry {
        Some(entry) => entry.name.rsplit('/').next().unwrap_or(entry.name).to_owned(),
        None => {
            let data = data.and_then(|data| data.split("::").next()).unwrap_or_default();
            of_model(&Path::new(data).file_stem().unwrap_or_default().to_string_lossy())
        }
    }
}

/// The entry of the catalogue for a task that has classes.
///
/// # Errors
/// For a name that the catalogue does not have, or a data set without classes.
fn entry(name: &str) -> Result<&'static Entry> {
    let has_classes = |entry: &&'static Entry| {
        matches!(entry.task, LearningTask::Classification | LearningTask::Images)
    };
    find(name).filter(has_classes).ok_or_else(|| {
        let known: Vec<_> = CATALOGUE.iter().filter(has_classes).map(|entry| entry.name).collect();
        RunError::UnknownTask { name: name.to_owned(), known }
    })
}

/// Refuses sentences for a model that reads pictures, and pictures for one that reads tokens.
fn check_kind(pretrained: &Pretrained, entry: &'static Entry) -> Result<()> {
    if has_tokens(&pretrained.spec) == (entry.task == LearningTask::Classification) {
        return Ok(());
    }

    let reads = if has_tokens(&pretrained.spec) { "tokens" } else { "pictures" };
    let model = pretrained.name.clone();
    Err(RunError::OtherInput { task: entry.name, kind: entry.task.to_string(), model, reads })
}

fn origin() -> Origin {
    Origin::Option("finetune".to_owned())
}

/// Settings that a method or the user may override.
fn usual(pretrained: &Pretrained, goal: &str) -> Vec<(&'static str, Value)> {
    let model = &pretrained.spec.model;
    let pooling = if model.attention == Attention::Causal { "last-real" } else { "first" };

    vec![
        ("name", format!("{}-{goal}", of_model(&pretrained.name)).into()),
        ("model.objective", "classes".into()),
        ("model.pooling", pooling.into()),
        ("model.context", whole(pretrained.spec.longest_window().min(CONTEXT))),
        ("model.dropout", model.dropout.into()),
        ("training.epochs", 3.into()),
        ("training.batch", 32.into()),
        ("optimizer.learning_rate", 1e-4.into()),
        ("optimizer.schedule", "cosine".into()),
        ("optimizer.final_share", 0.0.into()),
    ]
}

/// Settings that only the user may override: which layers share which weights, and that this stays
/// so.
fn fixed(pretrained: &Pretrained) -> [(&'static str, Value); 5] {
    let owners: Vec<_> = match &pretrained.owners {
        Some(owners) => owners.clone(),
        None => (0..pretrained.spec.model.layers).collect(),
    };
    let owners = owners.into_iter().map(whole).collect();
    let tying = &pretrained.spec.tying;
    [
        ("tying.initial", Value::Array(owners)),
        ("tying.residual_scale", pretrained.residual_scale().into()),
        ("tying.unit", word(&tying.unit).into()),
        ("tying.own", Value::Array(tying.own.iter().map(|own| word(own).into()).collect())),
        ("agent.policy", "none".into()),
    ]
}

fn whole(number: usize) -> Value {
    Value::Integer(number as i64)
}
