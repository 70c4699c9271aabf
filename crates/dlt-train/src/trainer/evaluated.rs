//! Evaluations of a run: validations while it trains, and the evaluation of the best model at its
//! end.

use dlt_agent::Measured;
use dlt_data::{Examples, Split};
use dlt_spec::record::{MetricRow, Summary};
use dlt_spec::spec::Selection;

use super::{Trainer, Watch};
use crate::Result;
use crate::clock::Clock;
use crate::ending::{Training, final_examples, finite, read_back};
use crate::evaluation::{Evaluating, Evaluation, evaluate_watched};
use crate::model_file::model_notes;

/// The best model so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Best {
    pub(super) step: usize,
    pub(super) loss: f64,
    /// Share of right classes; `None` if the model predicts tokens.
    pub(super) accuracy: Option<f64>,
}

impl Best {
    fn of(step: usize, evaluation: &Evaluation) -> Self {
        let Measured { loss, accuracy } = evaluation.measured();
        Self { step, loss, accuracy }
    }

    /// Whether the accuracy is higher, if there are classes; at equal accuracy, or without classes,
    /// whether the loss is lower.
    fn is_better_than(&self, other: &Self) -> bool {
        match (self.accuracy, other.accuracy) {
            (Some(ours), Some(theirs)) if ours != theirs => ours > theirs,
            _ => self.loss < other.loss,
        }
    }
}

impl Trainer {
    /// Evaluates on the validation split if that is due, and saves the model if it is the best so
    /// far. `None` if no evaluation is due.
    pub(super) fn evaluate_when_due(&mut self) -> Result<Option<Evaluation>> {
        if !self.step.is_multiple_of(self.evaluate_every) && self.step != self.steps {
            return Ok(None);
        }

        // A clone is cheap, as examples are shared; it frees `self` for the call.
        let evaluation = self.evaluate(&self.validation.clone(), Split::Validation)?;
        let now = Best::of(self.step, &evaluation);
        if self.best.is_none_or(|best| now.is_better_than(&best)) {
            self.best = Some(now);
            self.save_model()?;
        }

        if self.spec.evaluation.select_on == Selection::ValidationAndTest {
            // Reported only: the model that is kept is chosen on validation (DEVIATIONS row 12).
            let test = self.material.examples(Split::Test).clone();
            let perplexity = self.evaluate(&test, Split::Test)?.perplexity();
            self.best_on_test =
                Some(self.best_on_test.map_or(perplexity, |best| best.min(perplexity)));
        }

        Ok(Some(evaluation))
    }

    fn evaluate(&mut self, examples: &Examples, split: Split) -> Result<Evaluation> {
        let of = examples.count();
        let watch = &mut self.watch;
        let evaluation =
            evaluate_watched(&self.model, examples, self.spec.evaluation_batch(), &mut |done| {
                watch(Evaluating { split, done, of });
            })?;

        let elapsed_ms = self.clock.elapsed_ms();
        self.folder.metric(&MetricRow::Evaluation(evaluation.row(self.step, split, elapsed_ms)))?;
        finite(self.step, evaluation)
    }

    fn save_model(&self) -> Result<()> {
        let extra =
            model_notes(&self.spec, self.recording.state_at(self.step), self.step, self.extents);
        self.folder.save_model(&self.model, &extra)
    }

    /// Ends a run. A decision that still waits for its reward gets it. The best model on validation
    /// is read back and evaluated on the validation split and on the test split. The summary is
    /// written last.
    ///
    /// Model, optimizer and moments are dropped before the best model is read, so both are never in
    /// memory at once.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub fn finish(mut self) -> Result<Summary> {
        let started = Clock::start();
        self.deciding(Self::reward_pending)?;
        self.times.training_s += started.elapsed_s();

        if self.best.is_none() {
            self.save_model()?;
        }

        let best_step = self.best.map_or(self.step, |best| best.step);
        let training = Training {
            end: self.sample(),
            means: self.means,
            steps: self.step,
            times: self.times,
            block: self.model.n_block_parameters(),
            shared: self.model.n_shared_parameters(),
            state_bytes_peak: self.state_bytes_peak,
            peak_rss_mb: self.peaks().resident_mb,
            predicted_peak_rss_mb: self.peaks().predicted_mb,
            best_step,
            best_on_test: self.best_on_test,
            skipped_steps: self.health.skipped(),
            decisions: self.agent.is_some().then(|| self.recording.rows().len()),
        };

        let Self { spec, mut folder, device, material, clock, model, optimizer, mut watch, .. } =
            self;
        // Two models and the moments together could exceed the predicted peak.
        drop((model, optimizer));

        let model = read_back(&folder, &spec, material.extents(), &device)?;
        let mut evaluate = |split: Split| {
            let examples = final_examples(&spec, material.examples(split))?;
            let of = examples.count();
            let evaluation =
                evaluate_watched(&model, &examples, spec.evaluation_batch(), &mut |done| {
                    watch(Evaluating { split, done, of });
                })?;

            folder.metric(&MetricRow::Evaluation(evaluation.row(
                best_step,
                split,
                clock.elapsed_ms(),
            )))?;
            finite(best_step, evaluation)?.finite(split.name())
        };

        let validation = evaluate(Split::Validation)?;
        let test = material.has(Split::Test).then(|| evaluate(Split::Test)).transpose()?;
        let summary =
            training.summary(&spec, &material, &validation, test.as_ref(), clock.elapsed_s())?;

        // Last: this file is the mark of a finished run.
        folder.summary(&summary)?;
        Ok(summary)
    }

    /// Sets the callback that evaluations report their progress to.
    pub fn watch_evaluations(&mut self, watch: Watch) {
        self.watch = watch;
    }
}
