//! Loss of a model over a split.

use dlt_data::{DataError, TokenStream, Windows};
use dlt_models::{Batch, Model};
use dlt_spec::record::{EvaluationRow, Split};

use crate::Result;

/// Summed loss over predicted tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Sum of the negative log-likelihoods, in nats.
    pub loss_sum: f64,
    /// Predicted tokens.
    pub tokens: usize,
}

impl Evaluation {
    /// Mean cross-entropy, in nats a token.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.tokens as f64
    }

    /// `exp(total negative log-likelihood / number of predicted tokens)`, never a mean over batches.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// The row of the metrics.
    pub(crate) fn row(&self, step: usize, split: Split, elapsed_ms: f64) -> EvaluationRow {
        let (loss, perplexity) = (self.loss(), self.perplexity());
        EvaluationRow { step, split, loss, perplexity, tokens: self.tokens as u64, elapsed_ms }
    }

    fn add(&mut self, model: &Model, batch: &Batch<'_>) -> Result<()> {
        self.loss_sum += model.loss_sum(batch)?;
        self.tokens += batch.n_tokens();
        Ok(())
    }
}

/// Evaluates a model on all windows and on the shorter rest after them, `batch` windows at a time.
///
/// # Errors
/// Fails where ids lie outside the model's vocabulary, or the device does.
pub fn evaluate(model: &Model, windows: &Windows, batch: usize) -> Result<Evaluation> {
    let (context, mut evaluation) = (windows.context(), Evaluation::default());
    let batch = batch.clamp(1, windows.count().max(1));
    let (mut inputs, mut targets) = (vec![0; batch * context], vec![0; batch * context]);
    for first in (0..windows.count()).step_by(batch) {
        let count = batch.min(windows.count() - first);
        let parts = inputs.chunks_mut(context).zip(targets.chunks_mut(context));
        for (window, (inputs, targets)) in (first..first + count).zip(parts) {
            windows.fill(window, inputs, targets)?;
        }
        let (inputs, targets) = (&inputs[..count * context], &targets[..count * context]);
        evaluation.add(model, &Batch { inputs, targets, windows: count })?;
    }
    if let Some((inputs, targets)) = windows.tail() {
        evaluation.add(model, &Batch { inputs, targets, windows: 1 })?;
    }
    Ok(evaluation)
}

/// Evaluates a model on a text of tokens: windows of up to `context` tokens, every token but the first
/// predicted once.
///
/// # Errors
/// [`DataError`] for fewer than two tokens; fails where ids lie outside the model's vocabulary.
pub fn evaluate_tokens(model: &Model, tokens: &[u32], context: usize) -> Result<Evaluation> {
    if tokens.len() < 2 {
        return Err(DataError::TooFewWindows { asked: 1, count: 0, context: 1 }.into());
    }
    let stream = TokenStream::new(tokens.to_vec(), 0);
    let context = context.clamp(1, tokens.len() - 1);
    evaluate(model, &Windows::stream(stream, context)?, 1)
}
