//! The end of a run: the best model read back, and the summary.

use std::sync::Arc;

use candle_core::Device;
use dlt_data::{
    Examples, Material, Split, bits_per_byte, unigram_perplexity, unigram_perplexity_of,
};
use dlt_models::Model;
use dlt_models::architecture::Architecture;
use dlt_spec::CheckedSpec;
use dlt_spec::record::{RECORD_SCHEMA, Summary};
use dlt_spec::spec::Objective;

use crate::clock::per_second;
use crate::evaluation::Evaluation;
use crate::folder::RunFolder;
use crate::means::Sample;
use crate::model_file::saved_model;
use crate::run_state::RunState;
use crate::{Result, TrainError};

/// The best model of a run. The bytes of its file are freed before anything is computed with it.
pub(crate) fn read_back(
    folder: &RunFolder,
    architecture: Arc<dyn Architecture>,
    spec: &CheckedSpec,
    device: &Device,
) -> Result<Model> {
    let file = folder.read_model()?;
    saved_model(&file, architecture, spec, device)
}

/// Returns `evaluation`, or the error of a diverged run if its loss is not finite.
pub(crate) fn finite(step: usize, evaluation: Evaluation) -> Result<Evaluation> {
    let loss = evaluation.loss();
    if loss.is_finite() {
        return Ok(evaluation);
    }

    Err(TrainError::Diverged { step, loss, tensor: "the loss of an evaluation".to_owned() })
}

/// The model and the agent at the end of training, which are dropped before the last evaluation.
pub(crate) struct End {
    pub(crate) sample: Sample,
    /// Parameters of a block, and of everything outside of blocks.
    pub(crate) block: usize,
    pub(crate) shared: usize,
    /// Decisions made; `None` if the policy is `none`.
    pub(crate) decisions: Option<usize>,
    /// Number of processes; `None` for one.
    pub(crate) processes: Option<usize>,
    pub(crate) sent_bytes_per_step: Option<f64>,
}

impl End {
    /// The summary of the run. `validation` and `test` are the evaluations of the best model.
    pub(crate) fn summary(
        &self,
        run: &RunState,
        spec: &CheckedSpec,
        material: &Material,
        validation: &Evaluation,
        test: Option<&Evaluation>,
    ) -> Result<Summary> {
        let blocks = spec.model.layers * self.block;
        let n_tokens = run.step * spec.units_per_step();
        let pass = spec.steps_per_pass(material.examples(Split::Train).count());

        Ok(Summary {
            schema: RECORD_SCHEMA,
            name: spec.name.clone(),
            seed: spec.seed,
            steps: run.step,
            skipped_steps: run.skipped(),
            decisions: self.decisions,
            search_passes: run.searched(),
            best_step: run.best_step(),
            final_windows: final_windows(spec, material),
            validation_loss: validation.loss(),
            validation_perplexity: validation.perplexity(),
            test_perplexity: test.map(Evaluation::perplexity),
            test_perplexity_selected_on_test: run.best_on_test,
            unigram_perplexity: floor(spec, material, Split::Validation)?,
            unigram_test_perplexity: test
                .map(|_| floor(spec, material, Split::Test))
                .transpose()?,
            bits_per_byte: bits_of(spec, material, validation),
            validation_scores: validation.scores(),
            test_scores: test.and_then(Evaluation::scores),
            trainable_parameters_mean: run.means.trainable_parameters(),
            trainable_parameters_end: self.sample.trainable_parameters,
            block_parameters_mean: run.means.block_parameters(),
            block_parameters_end: self.sample.block_parameters,
            conventional_parameters: self.shared + blocks,
            conventional_block_parameters: blocks,
            independent_layers_mean: run.means.independent_layers(),
            independent_layers_end: self.sample.independent_layers,
            distinct_layers_mean: run.means.distinct_layers(),
            distinct_layers_end: self.sample.distinct_layers,
            tokens_per_s: per_second(n_tokens as f64, run.times.training_s),
            seconds_per_epoch: run.times.training_s / run.step.max(1) as f64 * pass as f64,
            elapsed_s: run.elapsed_s,
            elapsed_training_s: run.times.training_s,
            elapsed_deciding_s: run.times.deciding_s,
            elapsed_rewarding_s: run.times.rewarding_s,
            peak_rss_mb: run.peaks.resident_mb,
            predicted_peak_rss_mb: run.peaks.predicted_mb,
            mean_rss_mb: run.means.rss_mb(),
            weights_gradients_moments_mb_peak: run.state_bytes_peak as f64 / 1e6,
            processes: self.processes,
            sent_bytes_per_step: self.sent_bytes_per_step,
        })
    }
}

/// Perplexity of the best model that only knows how often each token or class occurs in this split.
/// It is fitted to the evaluated split itself, the hardest floor that such a model can set.
fn floor(spec: &CheckedSpec, material: &Material, split: Split) -> Result<f64> {
    let examples = final_examples(spec, material.examples(split))?;
    if let Some(counts) = examples.class_counts() {
        let total = counts.iter().sum::<u64>() as f64;
        // A class that does not occur adds nothing to the entropy; its 0 * ln 0 would be NaN.
        let shares = counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total);
        return Ok(shares.map(|share| -share * share.ln()).sum::<f64>().exp());
    }

    let Some(splits) = material.tokens() else { return Ok(f64::NAN) };
    // Every token of the split then counts, also those of a shorter rest after the last window.
    if examples.count() == material.examples(split).count() {
        return Ok(unigram_perplexity_of(splits.split(split))?);
    }

    Ok(unigram_perplexity(&splits.windows(split)?.predicted(0..examples.count())?))
}

/// The examples of a split that the final evaluation reads.
pub(crate) fn final_examples(spec: &CheckedSpec, examples: &Examples) -> Result<Examples> {
    let asked = spec.evaluation.final_windows.or(examples.count());
    let there = examples.count();
    Ok(if asked < there { examples.first(asked)? } else { examples.clone() })
}

/// The most examples of a split that were read, if that was not all of them; else `None`.
fn final_windows(spec: &CheckedSpec, material: &Material) -> Option<usize> {
    let most = [Split::Validation, Split::Test].map(|split| material.examples(split).count());
    let asked = spec.evaluation.final_windows.or(usize::MAX);
    (most.iter().any(|&count| asked < count)).then_some(asked)
}

/// Bits per byte of the validation text; NaN if the model does not predict every token of a text.
fn bits_of(spec: &CheckedSpec, material: &Material, validation: &Evaluation) -> f64 {
    match (spec.model.objective, material.tokens()) {
        (Objective::NextToken, Some(splits)) => {
            let text = splits.split(Split::Validation);
            // Bytes of the predicted tokens. Some pipelines drop a remainder of the text, so the
            // bytes are scaled by the share of predicted tokens.
            let bytes =
                text.bytes() as f64 * (validation.tokens as f64 / text.len() as f64).min(1.0);
            bits_per_byte(validation.loss_sum, bytes.round() as usize)
        }
        _ => f64::NAN,
    }
}
