//! Rows of the metrics as events.

use std::collections::BTreeMap;
use std::io::{self, Write};

use dlt_spec::record::{DecisionRow, EvaluationRow, MetricRow, Split, StepRow};

use super::wire::{Content, Event, SourceMetadata, Summary, Value};

/// Version of event files, in their first event.
const FILE_VERSION: &str = "brain.Event:2";
/// Writer of event files, in their first event. Only files with this writer are overwritten.
const WRITER: &str = "dlt";

/// Writes one event for each row, each with a single write.
#[derive(Debug)]
pub struct EventWriter<W> {
    out: W,
    started_at: u64,
    /// The last step at which each split was evaluated.
    evaluated: BTreeMap<&'static str, usize>,
}

impl<W: Write> EventWriter<W> {
    /// Writes the first event, which names version and writer.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(out: W, started_at: u64) -> io::Result<Self> {
        let mut writer = Self { out, started_at, evaluated: BTreeMap::new() };
        writer.begin()?;
        Ok(writer)
    }

    /// Writes a row's event; the header has none.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write(&mut self, row: &MetricRow) -> io::Result<()> {
        let (step, elapsed_ms, scalars) = match row {
            MetricRow::Header(_) => return Ok(()),
            MetricRow::Step(row) => (row.step, row.elapsed_ms, of_step(row)),
            MetricRow::Evaluation(row) => (row.step, row.elapsed_ms, self.of_evaluation(row)),
            MetricRow::Decision(row) => (row.step, row.elapsed_ms, of_decision(row)),
        };

        let value = |(tag, number): Scalar| Some(Value { tag, simple_value: Some(number? as f32) });
        let summary = Summary { values: scalars.into_iter().filter_map(value).collect() };
        let wall_time = self.started_at as f64 + elapsed_ms / 1e3;
        let content = Some(Content::Summary(summary));

        self.put(&Event { wall_time, step: step as i64, content, source: None })
    }

    /// The output.
    #[must_use]
    pub fn into_inner(self) -> W {
        self.out
    }

    pub(super) fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes the first event. Nothing has been evaluated yet.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.evaluated.clear();
        self.put(&Event {
            wall_time: self.started_at as f64,
            step: 0,
            content: Some(Content::FileVersion(FILE_VERSION.to_owned())),
            source: Some(SourceMetadata { writer: WRITER.to_owned() }),
        })
    }

    fn put(&mut self, event: &Event) -> io::Result<()> {
        self.out.write_all(&event.to_record())
    }

    /// When a run ends, the kept model is evaluated once more, at its step, which may be an earlier
    /// one. These rows have separate tags, because the curve of the split would otherwise run
    /// backwards.
    fn of_evaluation(&mut self, row: &EvaluationRow) -> Vec<Scalar> {
        let split = match row.split {
            // The tags of training steps are under `train`.
            Split::Train => "train_split",
            split => split.name(),
        };

        let is_shown = self.evaluated.get(split).is_some_and(|&last| row.step <= last);
        let kept = if is_shown { "kept_" } else { "" };

        if !is_shown {
            self.evaluated.insert(split, row.step);
        }

        let scalars = [
            ("loss", Some(row.loss)),
            ("perplexity", Some(row.perplexity)),
            ("accuracy", row.accuracy),
        ];
        scalars.map(|(name, value)| (format!("{kept}{split}/{name}"), value)).into()
    }
}

/// A tag and its number, if the row has it.
type Scalar = (String, Option<f64>);

/// Whether this is the first event of a file that dlt wrote.
pub(super) fn is_ours(event: &Event) -> bool {
    event.source.as_ref().is_some_and(|source| source.writer == WRITER)
}

fn of_step(row: &StepRow) -> Vec<Scalar> {
    let scalars = [
        ("train/loss", Some(row.loss)),
        ("train/learning_rate", Some(row.learning_rate)),
        ("train/gradient_norm", Some(row.gradient_norm)),
        ("train/tokens_per_s", row.tokens_per_s),
        ("tying/independent_layers", Some(row.independent_layers as f64)),
        ("tying/distinct_layers", Some(row.distinct_layers as f64)),
        ("tying/trainable_parameters", Some(row.trainable_parameters as f64)),
        ("tying/block_parameters", Some(row.block_parameters as f64)),
        ("memory/resident_mb", row.current_rss_mb),
    ];

    scalars.map(|(tag, value)| (tag.to_owned(), value)).into()
}

fn of_decision(row: &DecisionRow) -> Vec<Scalar> {
    let scalars = [
        ("agent/epsilon", row.epsilon),
        ("agent/reward", row.reward),
        ("agent/q_predicted", row.q_predicted),
        ("agent/q_target", row.q_target),
        ("agent/q_loss", row.q_loss),
        ("agent/tied_events", Some(row.tied_events as f64)),
        ("agent/untied_events", Some(row.untied_events as f64)),
        // Without a measurement nothing can be refused.
        ("agent/refused", row.loss_before.map(|_| f64::from(u8::from(row.refused)))),
        ("agent/conflict", row.conflict),
        ("agent/loss_before", row.loss_before),
        ("agent/loss_after", row.loss_after),
        ("agent/unlikeness", row.unlikeness),
        ("agent/search_candidates", row.search.map(|search| search.candidates as f64)),
        ("agent/search_passes", row.search.map(|search| search.passes as f64)),
        ("agent/search_loss_before", row.search.map(|search| search.loss_before)),
        ("agent/search_loss_after", row.search.map(|search| search.loss_after)),
    ];

    scalars.map(|(tag, value)| (tag.to_owned(), value)).into()
}
