//! One cell of the grid: one run, what it needs, and the command that makes it.

use std::fmt;

use dlt_spec::{CheckedSpec, Overlay, Spec, SpecError, presets};
use dlt_state::State;

use super::row::Row;
use super::scale::Scale;
use super::subject::Subject;

/// Name of a cell: subject, row and seed. It is also its folder.
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

/// What `dlt` is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Job {
    /// `dlt train`.
    Train {
        preset: &'static str,
        /// The preset's own where none is named.
        method: Option<&'static str>,
        /// Name of the data set, where it is not the preset's.
        data: Option<&'static str>,
    },
    /// `dlt finetune` of the model of another cell.
    Finetune { of: CellId, task: &'static str },
    /// No run: memory is predicted, as this machine could not hold it.
    Predict { preset: &'static str },
}

/// A `--set` of the command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Setting {
    /// As it stands.
    Fixed(String),
    /// As many layers as the run of this cell had independent at its end.
    LayersOf(CellId),
    /// The last state of this cell's run, from the start.
    StateOf(CellId),
    /// The decisions of this cell's run.
    DecisionsOf(CellId),
    /// The tokenizer of this name, which lies where the data sets of this machine do.
    Tokenizer(&'static str),
}

/// What a cell knows of the runs that it needs.
pub(crate) trait Known {
    /// The last state of a finished run.
    fn last_state(&self, cell: &CellId) -> Option<State>;
    /// Its run folder, as a command names it.
    fn folder(&self, cell: &CellId) -> String;
    /// Where a data set lies on this machine, if not on the hub.
    fn source(&self, data: &str) -> Option<String>;
}

impl Setting {
    pub(crate) fn fixed(assignment: impl Into<String>) -> Self {
        Self::Fixed(assignment.into())
    }

    /// Whether it is a value for this key, as it stands.
    pub(crate) fn sets(&self, key: &str) -> bool {
        matches!(self, Self::Fixed(assignment) if assignment.split('=').next() == Some(key))
    }

    fn need(&self) -> Option<&CellId> {
        match self {
            Self::Fixed(_) | Self::Tokenizer(_) => None,
            Self::LayersOf(cell) | Self::StateOf(cell) | Self::DecisionsOf(cell) => Some(cell),
        }
    }

    /// `key=value`, or `None` where a run that it needs has not finished.
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

    /// The data set that a `--data` of the command names, where it has one.
    pub(crate) fn data(&self) -> Option<&'static str> {
        match self.job {
            Job::Train { data, .. } => data,
            Job::Finetune { task, .. } => Some(task),
            Job::Predict { .. } => None,
        }
    }

    /// The arguments of `dlt` but for where it writes and what computes; `None` while a run that it
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
    /// needs: the number of layers and states of those are left as the preset has them.
    pub(crate) fn spec(&self) -> Result<CheckedSpec, SpecError> {
        let preset = match &self.job {
            Job::Train { preset, .. } | Job::Predict { preset } => preset,
            // What it is like in size: a fine-tuned model is its start with another head.
            Job::Finetune { .. } => "smoke",
        };

        let mut overlays = vec![presets::preset(preset)?.overlay()?];
        if let Job::Train { method: Some(method), .. } = &self.job {
            overlays.push(presets::method(method)?.overlay()?);
        }

        for setting in &self.settings {
            if let Setting::Fixed(assignment) = setting {
                // Replays cannot be checked without their recording.
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

/// Whether a scale has a cell at all, and why not where it has none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    /// It is run.
    Run(Box<Cell>),
    /// It is not.
    Left(&'static str),
}

impl Place {
    pub(crate) fn cell(self) -> Option<Cell> {
        match self {
            Self::Run(cell) => Some(*cell),
            Self::Left(_) => None,
        }
    }
}

/// What tells a grid of cells apart from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    pub(crate) scale: Scale,
    /// Of every row, where they are named; otherwise as many as each row's plan says.
    pub(crate) seeds: Option<&'a [u64]>,
}
