//! Evaluations of a run: validations while it trains, and the evaluation of the best model at its
//! end.

use dlt_data::{Examples, Split};
use dlt_spec::ExitCode;
use dlt_spec::record::{MetricRow, Summary};
use dlt_spec::spec::Selection;

use super::{Trainer, Watch};
use crate::Result;
use crate::clock::Clock;
use crate::ending::{End, final_examples, finite, read_back};
use crate::evaluation::{Evaluating, Evaluation, evaluate_watched};
use crate::model_file::model_notes;
use crate::run_state::Best;

impl Trainer {
    /// Evaluates on the validation split if that is due, and saves the model if it is the best so
    /// far. `None` if no evaluation is due.
    pub(super) fn evaluate_when_due(&mut self) -> Result<Option<Evaluation>> {
        if !self.run.step.is_multiple_of(self.evaluate_every) && self.run.step != self.steps {
            return Ok(None);
        }

        // A clone is cheap, as examples are shared; it frees `self` for the call.
        let evaluation = self.evaluate(&self.validation.clone(), Split::Validation)?;
        let now = Best::of(self.run.step, evaluation.measured());
        if self.run.best.as_ref().is_none_or(|best| now.is_better_than(best)) {
            self.run.best = Some(now);
            self.save_model()?;
        }

        if self.spec.evaluation.select_on == Selection::ValidationAndTest {
            // Reported only: the model that is kept is chosen on validation (DEVIATIONS row 12).
            let test = self.material.examples(Split::Test).clone();
            let perplexity = self.evaluate(&test, Split::Test)?.perplexity();
            self.run.best_on_test =
                Some(self.run.best_on_test.map_or(perplexity, |best| best.min(perplexity)));
        }

        Ok(Some(evaluation))
    }

    fn evaluate(&mut self, examples: &Examples, split: Split) -> Result<Evaluation> {
        let of = examples.count();
        let watch = &mut self.watch;
        let batch = self.spec.evaluation_batch();
        let evaluation =
            evaluate_watched(&self.model, examples, batch, &mut self.exchange, &mut |done| {
                watch(Evaluating { split, done, of });
            })?;

        let elapsed_ms = self.clock.elapsed_ms();
        let row = evaluation.row(self.run.step, split, elapsed_ms);
        self.folder.metric(&MetricRow::Evaluation(row))?;
        finite(self.run.step, evaluation)
    }

    fn save_model(&self) -> Result<()> {
        let extra = model_notes(
            &self.spec,
            self.recording.state_at(self.run.step),
            self.run.step,
            self.extents,
        );
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
        self.run.times.training_s += started.elapsed_s();

        if self.run.best.is_none() {
            self.save_model()?;
        }

        self.note_peaks();
        let processes = self.exchange.world().size();
        let is_alone = processes == 1;
        let steps = (self.run.step - self.begun_at).max(1);
        let sent = self.exchange.traffic().sent_bytes as f64 / steps as f64;
        let end = End {
            processes: (!is_alone).then_some(processes),
            sent_bytes_per_step: (!is_alone).then_some(sent),
            sample: self.sample(),
            block: self.architecture.block_layout().n_parameters(),
            shared: self.model.n_shared_parameters(),
            decisions: self.agent.is_some().then(|| self.recording.rows().len()),
        };

        // Two models and the moments together could exceed the predicted peak.
        drop((self.model, self.optimizer));
        let Self { architecture, spec, mut folder, device, material, mut run, clock, .. } = self;
        let (mut watch, mut exchange) = (self.watch, self.exchange);

        // Process 0 has written the model by then.
        exchange.meet("the best model")?;
        let model = read_back(&folder, architecture, &spec, &device)?;
        let best_step = run.best_step();
        let mut evaluate = |split: Split| {
            let examples = final_examples(&spec, material.examples(split))?;
            let of = examples.count();
            let batch = spec.evaluation_batch();
            let evaluation =
                evaluate_watched(&model, &examples, batch, &mut exchange, &mut |done| {
                    watch(Evaluating { split, done, of });
                })?;

            let row = evaluation.row(best_step, split, clock.elapsed_ms());
            folder.metric(&MetricRow::Evaluation(row))?;
            finite(best_step, evaluation)?.finite(split.name())
        };

        let evaluated = evaluate(Split::Validation).and_then(|validation| {
            let test = material.has(Split::Test).then(|| evaluate(Split::Test)).transpose()?;
            Ok((validation, test))
        });
        let (validation, test) = match evaluated {
            Ok(evaluations) => evaluations,
            Err(error) => {
                // All processes have the same losses, so all of them are here.
                if error.exit_code() == ExitCode::Diverged {
                    drop(exchange.close());
                }
                return Err(error);
            }
        };
        run.elapsed_s = clock.elapsed_s();
        let summary = end.summary(&run, &spec, &material, &validation, test.as_ref())?;

        // Last: this file is the mark of a finished run.
        folder.summary(&summary)?;
        exchange.close()?;
        Ok(summary)
    }

    /// Sets the callback that evaluations report their progress to.
    pub fn watch_evaluations(&mut self, watch: Watch) {
        self.watch = watch;
    }
}
