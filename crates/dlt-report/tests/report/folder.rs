//! A run folder without training: its records are written line by line.

use std::fs;
use std::path::{Path, PathBuf};

use dlt_report::Run;
use dlt_spec::record::{
    DecisionRow, EvaluationRow, HeaderRow, MetricRow, RECORD_SCHEMA, Split, StepRow,
};
use dlt_state::{Action, Recording, State};
use tempfile::TempDir;

const PROVENANCE: &str = r#"{"schema":1,"version":"0.1.0","revision":null,"toolchain":"rustc","host":{"cpu":"","cores":2,
"os":"linux"},"threads":2,"device":"cpu","seed":1,"spec_fingerprint":"0","data":{"source":"text.txt","sha256":"0",
"tokenizer":"gpt2","train_tokens":9,"validation_tokens":9,"test_tokens":9},"command_line":[],"started_at":0}"#;

/// Records of a run.
pub(crate) struct Folder {
    _place: TempDir,
    path: PathBuf,
    rows: Vec<MetricRow>,
    recording: Recording,
}

impl Folder {
    /// A run that has not begun to train.
    pub(crate) fn new(n_layers: usize) -> Self {
        let rows = vec![MetricRow::Header(HeaderRow { schema: RECORD_SCHEMA })];
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a <b> & c");
        fs::create_dir(&path).unwrap();
        Self { _place: place, path, rows, recording: Recording::new(n_layers) }
    }

    /// The same for a run whose decisions may be undone, with one block at first.
    pub(crate) fn gated(n_layers: usize) -> Self {
        let initial = State::new(vec![0; n_layers]).unwrap();
        Self { recording: Recording::gated(initial), ..Self::new(n_layers) }
    }

    /// Adds a training step.
    pub(crate) fn step(&mut self, step: usize, loss: f64) {
        self.rows.push(MetricRow::Step(StepRow {
            step,
            loss,
            learning_rate: 1e-3,
            gradient_norm: 1.0,
            tokens: 8 * step as u64,
            independent_layers: self.recording.state_at(step).n_independent(),
            distinct_layers: 1,
            trainable_parameters: 100,
            block_parameters: 50_000 * self.recording.state_at(step).n_independent(),
            elapsed_ms: 1.0,
            tokens_per_s: Some(1.0),
            current_rss_mb: Some(100.0 + step as f64),
            skipped_steps: None,
        }));
    }

    /// Adds a validation.
    pub(crate) fn validation(&mut self, step: usize, loss: f64) {
        self.rows.push(MetricRow::Evaluation(EvaluationRow {
            step,
            split: Split::Validation,
            loss,
            perplexity: loss.exp(),
            tokens: 8,
            accuracy: None,
            elapsed_ms: 1.0,
        }));
    }

    /// Adds a decision of an agent that learns.
    pub(crate) fn decision(&mut self, step: usize, action: Vec<usize>, reward: f64) {
        self.recording.push(step, Action::new(action).unwrap(), None).unwrap();
        self.row(reward, None);
    }

    /// Adds a decision that measured how much gradients disagree.
    pub(crate) fn split(&mut self, step: usize, action: Vec<usize>, conflict: f64) {
        self.recording.push(step, Action::new(action).unwrap(), None).unwrap();
        self.row(0.0, Some(conflict));
    }

    /// Adds a decision that the gate undid.
    pub(crate) fn refused(&mut self, step: usize, asked: Vec<usize>) {
        self.recording.push_refused(step, Action::new(asked).unwrap(), None).unwrap();
        self.row(0.0, None);
    }

    /// The metrics of the last decision.
    fn row(&mut self, reward: f64, conflict: Option<f64>) {
        let visit = self.recording.rows().len() - 1;
        let row = &self.recording.rows()[visit];

        self.rows.push(MetricRow::Decision(DecisionRow {
            step: row.step(),
            visit,
            layer: None,
            action: Some(row.action().values().to_vec()),
            state: row.state().owners().to_vec(),
            explored: true,
            epsilon: Some(0.95f64.powi(visit as i32)),
            reward: Some(reward),
            q_predicted: Some(0.5 * reward),
            q_target: Some(reward),
            q_loss: Some(0.0),
            conflict,
            unlikeness: None,
            refused: false,
            loss_before: None,
            loss_after: None,
            search: None,
            tied_events: 0,
            untied_events: 0,
            elapsed_ms: 1.0,
        }));
    }

    /// The path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The run, read from the folder.
    pub(crate) fn read(&self) -> Run {
        let write = |name: &str, text: String| fs::write(self.path().join(name), text).unwrap();
        let lines: Vec<_> = self.rows.iter().map(MetricRow::to_line).collect();
        let layers = self.recording.n_layers();

        // A model of one layer has no decisions.
        let agent = if layers == 1 { "[agent]\npolicy = \"none\"\n" } else { "" };
        write("spec.toml", format!("[model]\nlayers = {layers}\n{agent}"));
        write("provenance.json", PROVENANCE.to_owned());
        write("metrics.jsonl", lines.join("\n") + "\n");
        write("states.jsonl", self.recording.to_text());

        Run::read(self.path()).unwrap()
    }
}
