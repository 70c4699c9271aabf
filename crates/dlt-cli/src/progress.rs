//! What a user sees while a run trains: a bar on a terminal, plain lines elsewhere, or nothing.

use std::time::Instant;

use dlt_data::{ColumnChoice, Progress as Loading, TextColumn};
use dlt_run::{Introduction, Observer};
use dlt_spec::CheckedSpec;
use dlt_spec::record::Split;
use dlt_spec::spec::Objective;
use dlt_train::{Evaluating, Measured, StepReport};
use indicatif::ProgressBar;

use crate::hub::Fetching;
use crate::introduction;
use crate::numbers::{self, decimal, duration, perplexity, whole};
use crate::output::{self, BARS, bar_style};

/// A sentence about which column of a table is the text, and how it was chosen.
pub(crate) fn of_column(column: &TextColumn) -> String {
    let said = match column.chosen {
        ColumnChoice::Named => "",
        ColumnChoice::Found => {
            ", found by its name or as the only column of text; PATH::COLUMN names another"
        }
    };

    format!("the text is the column {:?}{said}", column.name)
}

/// Number of plain lines about steps in a whole run, besides those about validations.
const LINES: usize = 20;

/// Progress of one run.
pub(crate) struct Progress {
    display: Display,
    fetching: Fetching,
    began: Instant,
    /// Steps that were done before this process began.
    done: usize,
    /// The unit of the speed.
    units: &'static str,
    /// What the model predicts; it decides whether perplexity or accuracy is shown.
    objective: Objective,
    evaluating: Option<Evaluation>,
}

/// An evaluation that is running.
struct Evaluation {
    split: Split,
    began: Instant,
    /// When a line about it was last written; the same as `began` if none was.
    noted: Instant,
}

/// Seconds after which an evaluation shows how far it is.
const SILENT_S: f64 = 5.0;
/// Seconds between two plain lines about an evaluation.
const BETWEEN_S: f64 = 15.0;

enum Display {
    Nothing,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// Progress on standard error: nothing if `is_quiet`, a bar on a terminal, else lines.
    pub(crate) fn new(is_quiet: bool) -> Self {
        let display = match (is_quiet || !output::speaks(), output::is_watched()) {
            (true, _) => Display::Nothing,
            (false, true) => Display::Bar(BARS.add(ProgressBar::hidden())),
            (false, false) => Display::Lines,
        };

        Self {
            display,
            fetching: Fetching::default(),
            began: Instant::now(),
            done: 0,
            units: "tokens",
            objective: Objective::NextToken,
            evaluating: None,
        }
    }

    /// Writes a line, unless progress is not wanted.
    pub(crate) fn note(&self, line: &str) {
        if !matches!(self.display, Display::Nothing) {
            output::note(line);
        }
    }

    /// Training begins; `done` of its `steps` have been made before.
    pub(crate) fn begin(&mut self, done: usize, steps: usize, spec: &CheckedSpec) {
        self.began = Instant::now();
        self.done = done;
        self.units = numbers::units(spec);
        self.objective = spec.model.objective;

        if let Display::Bar(bar) = &self.display {
            bar.reset();
            bar.set_length(steps as u64);
            bar.set_position(done as u64);
            bar.set_style(bar_style("{bar:10} {pos}/{len}  {wide_msg}"));
        }
    }

    /// Shows a training step that was made.
    pub(crate) fn step(&self, report: &StepReport) {
        let every = report.steps.div_ceil(LINES).max(1);
        let is_noted =
            report.step.is_multiple_of(every) || report.step == report.steps || report.step == 1;

        match &self.display {
            Display::Nothing => {}
            Display::Lines if is_noted || report.validation.is_some() => {
                let width = report.steps.to_string().len();
                let validation = report
                    .validation
                    .map_or_else(String::new, |found| format!("  {}", validated(found)));
                let figures = self.figures(report);

                output::note(&format!(
                    "step {:>width$}/{}  {figures}{validation}",
                    report.step, report.steps
                ));
            }
            Display::Lines => {}
            Display::Bar(bar) => {
                bar.set_message(self.figures(report));
                bar.set_position(report.step as u64);

                if let Some(found) = report.validation {
                    output::note(&format!("step {}: {}", report.step, validated(found)));
                }
            }
        }
    }

    /// Time left, loss, perplexity, independent layers and speed. The most important come first,
    /// because a narrow terminal cuts off the end.
    fn figures(&self, report: &StepReport) -> String {
        let per_step = self.began.elapsed().as_secs_f64()
            / report.step.saturating_sub(self.done).max(1) as f64;
        let mut text = format!(
            "{} left  loss {}",
            duration(per_step * (report.steps - report.step) as f64),
            decimal(report.loss, 3)
        );

        // For classes perplexity says nothing. Their accuracy is shown with each validation.
        if self.objective != Objective::Classes {
            text += &format!("  perplexity {}", perplexity(report.loss.exp()));
        }

        text += &format!("  independent layers {}", report.independent_layers);
        if let Some(rate) = report.tokens_per_s {
            text += &format!("  {} {}/s", decimal(rate, 0), self.units);
        }

        text
    }

    /// Shows how far an evaluation is. It may take longer than the training before it.
    pub(crate) fn evaluating(&mut self, now: Evaluating) {
        let is_new =
            self.evaluating.as_ref().is_none_or(|evaluation| evaluation.split != now.split);
        if is_new || now.done == 0 {
            let began = Instant::now();
            self.evaluating = Some(Evaluation { split: now.split, began, noted: began });
        }

        let Some(evaluation) = &mut self.evaluating else { return };
        let elapsed_s = evaluation.began.elapsed().as_secs_f64();
        if elapsed_s < SILENT_S || now.done == 0 {
            return;
        }

        let left = duration(elapsed_s / now.done as f64 * (now.of - now.done) as f64);
        let line = format!(
            "evaluating {}: {} of {} windows, {left} left",
            now.split.name(),
            whole(now.done),
            whole(now.of)
        );

        match &self.display {
            Display::Nothing => {}
            Display::Bar(bar) => bar.set_message(line),
            Display::Lines => {
                // Without a bar, a short evaluation writes nothing and a long one only now and
                // then.
                let is_first = evaluation.noted == evaluation.began;
                if is_first || evaluation.noted.elapsed().as_secs_f64() >= BETWEEN_S {
                    evaluation.noted = Instant::now();
                    output::note(&line);
                }
            }
        }
    }

    /// Removes the bar.
    pub(crate) fn end(&self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn note(&self, line: &str) {
        self.note(line);
    }

    fn remark(&self, line: &str) {
        output::note(line);
    }

    fn loading(&self, loading: Loading) {
        match (loading, &self.display) {
            (_, Display::Nothing) => {}
            (Loading::Fetching(event), _) => self.fetching.show(event),
            (Loading::Column(column), _) => self.note(&of_column(&column)),
            (Loading::Tokenizing { split, bytes: 0, of }, Display::Lines | Display::Bar(_)) => {
                self.note(&format!("tokenizing the {split} text, {} kB", whole(of.div_ceil(1000))));
            }
            (Loading::Tokenizing { bytes, of, .. }, Display::Bar(bar)) => {
                bar.set_style(bar_style("{bar:30} {percent}%"));
                bar.set_length(of as u64);
                bar.set_position(bytes as u64);
            }
            _ => {}
        }
    }

    fn introduce(&self, introduction: &Introduction<'_>) {
        introduction::lines(introduction).iter().for_each(|line| self.note(line));
    }
}

/// The result of a validation, in words.
fn validated(found: Measured) -> String {
    match found.accuracy {
        Some(accuracy) => {
            format!("validation accuracy {}, loss {}", decimal(accuracy, 4), decimal(found.loss, 3))
        }
        None => format!("validation perplexity {}", perplexity(found.loss.exp())),
    }
}
