//! The outcome of a run in numbers: from the summary of a finished run, or from the rows so far of
//! a run under way.

use dlt_spec::fields::word;
use dlt_spec::record::{Scores, Split};
use dlt_spec::spec::{Objective, PolicyKind, Unit};
use serde::Serialize;

use crate::run::Run;

/// The numbers of a run that people compare. Those that a run under way does not have yet are
/// absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Digest {
    /// Name of the folder.
    pub name: String,
    /// The folder.
    pub path: String,
    /// What decides who shares weights, in words.
    pub method: String,
    /// Root seed.
    pub seed: u64,
    /// Whether there is a summary.
    pub finished: bool,
    /// Training steps done.
    pub steps: usize,
    /// Training steps that the spec asks for, if it has a number.
    pub planned_steps: Option<usize>,
    /// Layers, L.
    pub layers: usize,
    /// Training steps done when the best model so far was evaluated.
    pub best_step: Option<usize>,
    /// Its loss on the validation split, in nats.
    pub validation_loss: Option<f64>,
    /// Its exponential.
    pub validation_perplexity: Option<f64>,
    /// Its perplexity on the test split.
    pub test_perplexity: Option<f64>,
    /// The floor: the best unigram model of the validation split.
    pub unigram_perplexity: Option<f64>,
    /// The same on the test split.
    pub unigram_test_perplexity: Option<f64>,
    /// Bits per byte of the validation text.
    pub bits_per_byte: Option<f64>,
    /// Share of right classes on the validation split, if classes are predicted.
    pub validation_accuracy: Option<f64>,
    /// All scores on the validation split.
    pub validation_scores: Option<Scores>,
    /// All scores on the test split.
    pub test_scores: Option<Scores>,
    /// Trainable parameters, mean over training steps.
    pub trainable_parameters_mean: Option<f64>,
    /// Trainable parameters after the last step.
    pub trainable_parameters_end: Option<usize>,
    /// The part of them in blocks, mean.
    pub block_parameters_mean: Option<f64>,
    /// The part of them in blocks after the last step.
    pub block_parameters_end: Option<usize>,
    /// Parameters with no layer tied.
    pub conventional_parameters: Option<usize>,
    /// The part of them in blocks.
    pub conventional_block_parameters: Option<usize>,
    /// Layers that the state calls independent, mean.
    pub independent_layers_mean: Option<f64>,
    /// The same after the last step.
    pub independent_layers_end: Option<usize>,
    /// Number of different storages that layers use, mean; frozen ones count.
    pub distinct_layers_mean: Option<f64>,
    /// The same after the last step.
    pub distinct_layers_end: Option<usize>,
    /// Training tokens a second, without evaluation; examples if classes are predicted.
    pub tokens_per_s: Option<f64>,
    /// Time of one pass over the training split, in seconds.
    pub seconds_per_epoch: Option<f64>,
    /// Time so far, in seconds.
    pub elapsed_s: Option<f64>,
    /// Share of the training time for rewards.
    pub rewarding_share: Option<f64>,
    /// Share of the training time for decisions.
    pub deciding_share: Option<f64>,
    /// Peak resident memory, in 10^6 bytes.
    pub peak_rss_mb: Option<f64>,
    /// The prediction of it, in 10^6 bytes.
    pub predicted_peak_rss_mb: Option<f64>,
    /// Mean resident memory, in 10^6 bytes.
    pub mean_rss_mb: Option<f64>,
    /// Peak memory of weights, gradients and moments, in 10^6 bytes.
    pub weights_gradients_moments_mb_peak: Option<f64>,
    /// Decisions made.
    pub decisions: usize,
    /// How many times they tied a layer.
    pub tied_events: usize,
    /// How many times they untied a layer.
    pub untied_events: usize,
    /// Fingerprint of the spec.
    pub spec_fingerprint: String,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// Revision of the program.
    pub revision: Option<String>,
}

impl Digest {
    /// The digest of a run in its present state.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let events = run.recording.event_counts();
        let digest = Self {
            name: run.name(),
            path: run.path.display().to_string(),
            method: method(run),
            seed: run.spec.seed,
            finished: run.summary.is_some(),
            steps: run.steps_done(),
            planned_steps: Some(run.spec.training.steps.or(0)).filter(|&steps| steps > 0),
            layers: run.spec.model.layers,
            decisions: run.recording.rows().len(),
            tied_events: events.tied,
            untied_events: events.untied,
            spec_fingerprint: run.provenance.spec_fingerprint.clone(),
            data_sha256: run.provenance.data.sha256.clone(),
            revision: run.provenance.revision.clone(),
            ..Self::of_rows(run)
        };

        digest.or_summary(run)
    }

    fn of_rows(run: &Run) -> Self {
        let steps = &run.metrics.steps;
        let last = run.metrics.steps.last();
        let mean = |of: fn(&dlt_spec::record::StepRow) -> f64| {
            last.map(|_| steps.iter().map(of).sum::<f64>() / steps.len() as f64)
        };
        let memory: Vec<f64> = steps.iter().filter_map(|row| row.current_rss_mb).collect();

        let validations =
            run.metrics.evaluations.iter().filter(|row| row.split == Split::Validation);
        let best =
            validations.filter(|row| row.loss.is_finite()).min_by(|a, b| a.loss.total_cmp(&b.loss));

        Self {
            best_step: best.map(|row| row.step),
            validation_loss: best.map(|row| row.loss),
            validation_perplexity: best.map(|row| row.perplexity),
            validation_accuracy: best.and_then(|row| row.accuracy),
            trainable_parameters_mean: mean(|row| row.trainable_parameters as f64),
            trainable_parameters_end: last.map(|row| row.trainable_parameters),
            block_parameters_mean: mean(|row| row.block_parameters as f64),
            block_parameters_end: last.map(|row| row.block_parameters),
            conventional_block_parameters: block(run)
                .and_then(|block| block.checked_mul(run.spec.model.layers)),
            independent_layers_mean: mean(|row| row.independent_layers as f64),
            independent_layers_end: last.map(|row| row.independent_layers),
            distinct_layers_mean: mean(|row| row.distinct_layers as f64),
            distinct_layers_end: last.map(|row| row.distinct_layers),
            tokens_per_s: last.and_then(|row| row.tokens_per_s),
            elapsed_s: last.map(|row| row.elapsed_ms / 1000.0),
            peak_rss_mb: memory.iter().copied().reduce(f64::max),
            mean_rss_mb: (!memory.is_empty())
                .then(|| memory.iter().sum::<f64>() / memory.len() as f64),
            ..Self::default()
        }
    }

    /// The digest with the numbers of the summary, if there is one.
    fn or_summary(self, run: &Run) -> Self {
        let Some(summary) = &run.summary else { return self };
        let finite = |number: f64| Some(number).filter(|number| number.is_finite());

        Self {
            best_step: Some(summary.best_step),
            validation_loss: finite(summary.validation_loss),
            validation_perplexity: finite(summary.validation_perplexity),
            test_perplexity: summary.test_perplexity.and_then(finite),
            unigram_perplexity: finite(summary.unigram_perplexity),
            unigram_test_perplexity: summary.unigram_test_perplexity.and_then(finite),
            bits_per_byte: finite(summary.bits_per_byte),
            validation_accuracy: summary.validation_scores.map(|scores| scores.accuracy),
            validation_scores: summary.validation_scores,
            test_scores: summary.test_scores,
            trainable_parameters_mean: finite(summary.trainable_parameters_mean),
            trainable_parameters_end: Some(summary.trainable_parameters_end),
            block_parameters_mean: finite(summary.block_parameters_mean),
            block_parameters_end: Some(summary.block_parameters_end),
            conventional_parameters: Some(summary.conventional_parameters),
            conventional_block_parameters: Some(summary.conventional_block_parameters),
            independent_layers_mean: finite(summary.independent_layers_mean),
            independent_layers_end: Some(summary.independent_layers_end),
            distinct_layers_mean: finite(summary.distinct_layers_mean),
            distinct_layers_end: Some(summary.distinct_layers_end),
            tokens_per_s: summary.tokens_per_s.and_then(finite),
            seconds_per_epoch: finite(summary.seconds_per_epoch),
            elapsed_s: finite(summary.elapsed_s),
            rewarding_share: finite(summary.elapsed_rewarding_s / summary.elapsed_training_s),
            deciding_share: finite(summary.elapsed_deciding_s / summary.elapsed_training_s),
            peak_rss_mb: summary.peak_rss_mb.or(self.peak_rss_mb),
            predicted_peak_rss_mb: summary.predicted_peak_rss_mb,
            mean_rss_mb: summary.mean_rss_mb.or(self.mean_rss_mb),
            weights_gradients_moments_mb_peak: finite(summary.weights_gradients_moments_mb_peak),
            ..self
        }
    }

    /// The trained block parameters as a share of the conventional model's, mean over training.
    #[must_use]
    pub fn block_share_mean(&self) -> Option<f64> {
        Some(self.block_parameters_mean? / self.conventional_block_parameters? as f64)
    }

    /// The same after the last step.
    #[must_use]
    pub fn block_share_end(&self) -> Option<f64> {
        Some(self.block_parameters_end? as f64 / self.conventional_block_parameters? as f64)
    }
}

/// Parameters of one block, by a step and the number of blocks that it trained. `None` before the
/// first step, if no block trains, and if layers keep parts of it for themselves: only a summary
/// knows the size of a block then.
fn block(run: &Run) -> Option<usize> {
    let tying = &run.spec.tying;
    if tying.unit != Unit::Block || !tying.own.is_empty() {
        return None;
    }

    let first = run.metrics.steps.first()?;
    let decisions = run.recording.rows().partition_point(|row| row.step() < first.step);
    let trained = run.bindings().nth(decisions)?.trained().len();

    first.block_parameters.checked_div(trained).filter(|&block| block > 0)
}

/// What decides who shares weights, in words.
fn method(run: &Run) -> String {
    let spec = &run.spec;

    let title = spec.agent.policy.title(spec.tying.decision);
    match spec.agent.policy {
        PolicyKind::None if spec.is_conventional() => "conventional training".to_owned(),
        PolicyKind::None if spec.starts_frozen() => {
            "one trained layer, the others frozen".to_owned()
        }
        PolicyKind::None => format!("{title}: {}", word(&spec.tying.initial)),
        _ => title.to_owned(),
    }
}

/// The unit of a run's speed and data.
pub(crate) fn units(run: &Run) -> &'static str {
    match run.spec.model.objective {
        Objective::Classes => "examples",
        Objective::NextToken | Objective::MaskedToken => "tokens",
    }
}
