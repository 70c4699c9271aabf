//! One cell of the grid: one run, the runs that it needs, and the command that makes it.

use std::fmt;

use dlt_spec::{CheckedSpec, Overlay, Spec, SpecError, presets};
use dlt_state::State;

use crate::row::Row;
use crate::scale::Scale;
use crate::subject::Subject;

/// Name of a cell: subject, row and seed. It is also the path of its folder in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CellId(String);

impl CellId {
    pub(crate) fn new(subject: Subject, row: Row, seed: u64) -> Self {
        Self(format!("{}/{}-{seed}", subject.name(), row.name()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// One run of a study.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) id: CellId,
    pub(crate) subject: Subject,
    pub(crate) row: Row,
    pub(crate) seed: u64,
    pub(crate) job: Job,
    pub(crate) settings: Vec<Setting>,
}

/// The command of `dlt` that a cell runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Job {
    /// `dlt train`.
    Train {
        preset: &'static str,
        /// `None` for the preset's own method.
        method: Option<&'static str>,
        /// Name of the data set; `None` for the preset's own.
        data: Option<&'static str>,
    },
    /// `dlt finetune` of the model of another cell.
    Finetune { of: CellId, task: &'static str },
    /// No run: memory is only predicted, because the machine cannot hold the model.
    Predict { preset: &'static str },
}

/// A `--set` of the command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Setting {
    /// This assignment, unchanged.
    Fixed(String),
    /// As many layers as this cell's run had independent layers at its end.
    LayersOf(CellId),
    /// The last state of this cell's run, used from the start.
    StateOf(CellId),
    /// The decisions of this cell's run.
    DecisionsOf(CellId),
    /// The tokenizer of this name, which is next to the data sets of this machine.
    Tokenizer(&'static str),
}

/// What a cell asks about the runs that it needs.
pub(crate) trait Known {
    /// The last state of a finished run.
    fn last_state(&self, cell: &CellId) -> Option<State>;
    /// Its run folder, as a command names it.
    fn folder(&self, cell: &CellId) -> String;
    /// The path of a data set on this machine; `None` if it comes from the hub.
    fn source(&self, data: &str) -> Option<String>;
}

impl Setting {
    pub(crate) fn fixed(assignment: impl Into<String>) -> Self {
        Self::Fixed(assignment.into())
    }

    /// Whether it is a fixed value for this key.
    pub(crate) fn sets(&self, key: &str) -> bool {
        matches!(self, Self::Fixed(assignment) if assignment.split('=').next() == Some(key))
    }

    fn need(&self) -> Option<&CellId> {
        match self {
            Self::Fixed(_) | Self::Tokenizer(_) => None,
            Self::LayersOf(cell) | Self::StateOf(cell) | Self::DecisionsOf(cell) => Some(cell),
        }
    }

    /// `key=value`; `None` while a run that it needs has not finished.
    fn resolved(&self, known: &dyn Known) -> Option<String> {
        Some(match self {
            Self::Fixed(assignment) => assignment.clone(),
            Self::LayersOf(cell) => {
                format!("model.layers={}", known.last_state(cell)?.n_independent())
            }
            Self::StateOf(cell) => format!("tying.initial={:?}", known.last_state(cell)?.owners()),
            Self::DecisionsOf(cell) => {
                known.last_state(cell)?;
                format!("agent.recording={}", known.folder(cell))
            }
            Self::Tokenizer(name) => {
                format!(
                    "data.tokenizer={}",
                    known.source(name).unwrap_or_else(|| (*name).to_owned())
                )
            }
        })
    }
}

impl Cell {
    /// The cells whose runs this one follows.
    pub(crate) fn needs(&self) -> Vec<CellId> {
        let of = match &self.job {
            Job::Finetune { of, .. } => Some(of),
            Job::Train { .. } | Job::Predict { .. } => None,
        };

        let mut needs: Vec<CellId> =
            self.settings.iter().filter_map(Setting::need).chain(of).cloned().collect();
        needs.sort();
        needs.dedup();

        needs
    }

    /// The data set that the command names with `--data`; `None` if it names none.
    pub(crate) fn data(&self) -> Option<&'static str> {
        match self.job {
            Job::Train { data, .. } => data,
            Job::Finetune { task, .. } => Some(task),
            Job::Predict { .. } => None,
        }
    }

    /// The arguments of `dlt`, without output folder, threads and device. `None` while a run that it
    /// needs has not finished.
    pub(crate) fn arguments(&self, known: &dyn Known) -> Option<Vec<String>> {
        let mut words: Vec<String> = Vec::new();
        let mut add = |parts: &[&str]| words.extend(parts.iter().map(|&part| part.to_owned()));

        match &self.job {
            Job::Train { preset, method, data } => {
                add(&["train", "--preset", preset]);
                if let Some(method) = method {
                    add(&["--method", method]);
                }

                if let Some(data) = data {
                    add(&["--data", &known.source(data).unwrap_or_else(|| (*data).to_owned())]);
                }
            }
            Job::Finetune { of, task } => {
                known.last_state(of)?;
                add(&["finetune", &known.folder(of), "--task", task]);

                if let Some(source) = known.source(task) {
                    add(&["--data", &source]);
                }
            }
            Job::Predict { preset } => add(&["inspect", "--memory", preset, "--json"]),
        }

        for setting in &self.settings {
            add(&["--set", &setting.resolved(known)?]);
        }

        if !matches!(self.job, Job::Predict { .. }) {
            add(&["--seed", &self.seed.to_string()]);
        }

        Some(words)
    }

    /// The spec of a cell that trains from scratch, as far as it is known before the runs that it
    /// needs. The number of layers and the states that come from those runs stay as in the preset.
    pub(crate) fn spec(&self) -> Result<CheckedSpec, SpecError> {
        let preset = match &self.job {
            Job::Train { preset, .. } | Job::Predict { preset } => preset,
            // Only the sizes matter here. A fine-tuned model has the size of its start, with another
            // head, and `cost::sized` asks for that start.
            Job::Finetune { .. } => "smoke",
        };

        let mut overlays = vec![presets::preset(preset)?.overlay()?];
        if let Job::Train { method: Some(method), .. } = &self.job {
            overlays.push(presets::method(method)?.overlay()?);
        }

        for setting in &self.settings {
            if let Setting::Fixed(assignment) = setting {
                // A replay does not pass the check of a spec without its recording, which may not
                // exist yet.
                if !assignment.starts_with("agent.policy=replay")
                    && !assignment.starts_with("agent.policy=permuted")
                {
                    overlays.push(Overlay::from_assignment(assignment)?);
                }
            }
        }

        Spec::assemble(&overlays)?.check()
    }
}

/// An entry of the grid: a cell, or the reason why a scale has none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GridEntry {
    /// The scale runs this cell.
    Run(Box<Cell>),
    /// The scale has no such cell, for this reason.
    LeftOut(&'static str),
}

impl GridEntry {
    pub(crate) fn cell(self) -> Option<Cell> {
        match self {
            Self::Run(cell) => Some(*cell),
            Self::LeftOut(_) => None,
        }
    }
}

/// What determines a grid of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    pub(crate) scale: Scale,
    /// The seeds of every row; `None` for each row's usual seeds.
    pub(crate) seeds: Option<&'a [u64]>,
}
