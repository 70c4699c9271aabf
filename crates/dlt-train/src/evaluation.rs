//! Loss of a model over a split, and how well it tells classes apart.

use candle_core::{D, Tensor};
use dlt_agent::Measured;
use dlt_data::{DataError, Draw, Examples, TokenStream, Windows};
use dlt_models::batch::Wanted;
use dlt_models::{Batch, Model, ModelError};
use dlt_spec::record::{EvaluationRow, Scores, Split};

use crate::confusion::Confusion;
use crate::feed::view;
use crate::{Result, TrainError};

/// How far an evaluation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluating {
    /// Which split is evaluated.
    pub split: Split,
    /// Examples that are done.
    pub done: usize,
    /// Examples in all.
    pub of: usize,
}

/// Summed loss over what is predicted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Sum of the negative log-likelihoods, in nats.
    pub loss_sum: f64,
    /// Predicted tokens; for classes, windows.
    pub tokens: usize,
    /// Which classes were taken for which; nothing where tokens are predicted.
    pub classes: Option<Confusion>,
}

impl Evaluation {
    /// Mean cross-entropy, in nats a prediction.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.tokens as f64
    }

    /// `exp(total negative log-likelihood / number of predicted tokens)`, never a mean over
    /// batches.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// The same evaluation, for what is printed or written of it: a loss or perplexity that is no
    /// finite number is an error, never a figure. `what` names the data.
    ///
    /// # Errors
    /// [`TrainError::Loss`].
    pub fn finite(self, what: &str) -> Result<Self> {
        let loss = self.loss();
        let is_finite = match self.classes {
            Some(_) => loss.is_finite(),
            None => self.perplexity().is_finite(),
        };

        if is_finite { Ok(self) } else { Err(TrainError::Loss { what: what.to_owned(), loss }) }
    }

    /// How well classes are told apart; nothing where tokens are predicted.
    #[must_use]
    pub fn scores(&self) -> Option<Scores> {
        self.classes.as_ref().map(Confusion::scores)
    }

    /// What a reward is made of.
    #[must_use]
    pub fn measured(&self) -> Measured {
        Measured { loss: self.loss(), accuracy: self.classes.as_ref().map(Confusion::accuracy) }
    }

    /// The row of the metrics.
    pub(crate) fn row(&self, step: usize, split: Split, elapsed_ms: f64) -> EvaluationRow {
        let Measured { loss, accuracy } = self.measured();
        let perplexity = self.perplexity();
        let tokens = self.tokens as u64;
        EvaluationRow { step, split, loss, perplexity, tokens, accuracy, elapsed_ms }
    }

    /// Adds the predictions for a batch.
    ///
    /// # Errors
    /// Fails where the batch does not fit the model, or the device does.
    pub fn add(&mut self, model: &Model, batch: &Batch<'_>) -> Result<()> {
        self.tokens += batch.n_predictions();
        let Wanted::Classes(labels) = batch.wanted else {
            self.loss_sum += model.loss_sum(batch)?;
            return Ok(());
        };

        let scores = model.scores(batch)?;
        let classes = model.architecture().head_settings().told_classes();
        let confusion = self.classes.get_or_insert_with(|| Confusion::new(classes));

        for (&label, row) in labels.iter().zip(rows(&scores)?) {
            self.loss_sum += loss(&row, label as usize);
            confusion.add(label, most_likely(&row));
        }

        Ok(())
    }
}

fn rows(scores: &Tensor) -> Result<Vec<Vec<f64>>> {
    let rows = scores
        .flatten_to(D::Minus2)
        .and_then(|scores| scores.to_dtype(candle_core::DType::F64)?.to_vec2());
    Ok(rows.map_err(ModelError::from)?)
}

/// Negative log-likelihood of a class.
fn loss(scores: &[f64], label: usize) -> f64 {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
    most + sum.ln() - scores.get(label).copied().unwrap_or(f64::NAN)
}

/// The class of the highest score, the lowest of equal ones.
fn most_likely(scores: &[f64]) -> u32 {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }

    best as u32
}

/// Evaluates a model on all examples, and of a text on the shorter rest after its windows, `batch`
/// at a time.
///
/// # Errors
/// Fails where ids lie outside the model's vocabulary, or the device does.
pub fn evaluate(model: &Model, examples: &Examples, batch: usize) -> Result<Evaluation> {
    evaluate_watched(model, examples, batch, &mut |_| ())
}

/// [`evaluate`], which says before each batch how many examples are done.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_watched(
    model: &Model,
    examples: &Examples,
    batch: usize,
    done: &mut dyn FnMut(usize),
) -> Result<Evaluation> {
    let mut evaluation = Evaluation::default();
    let batch = batch.max(1);
    let numbers: Vec<usize> = (0..examples.count()).collect();

    for (index, numbers) in numbers.chunks(batch).enumerate() {
        done(index * batch);
        evaluation.add(model, &view(&examples.batch(numbers, Draw::Fixed)?))?;
    }

    if let Some(tail) = examples.tail()? {
        evaluation.add(model, &view(&tail))?;
    }

    Ok(evaluation)
}

/// Evaluates a model on a text of tokens: windows of up to `context` tokens, every token but the
/// first predicted once.
///
/// # Errors
/// [`DataError`] for fewer than two tokens, or tokens that cannot be read; fails where ids are
/// outside the model's vocabulary.
pub fn evaluate_stream(model: &Model, stream: TokenStream, context: usize) -> Result<Evaluation> {
    if stream.len() < 2 {
        return Err(DataError::TooFewWindows { asked: 1, count: 0, context: 1 }.into());
    }
    let context = context.clamp(1, stream.len() - 1);
    evaluate(model, &Examples::from(Windows::stream(stream, context)?), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_a_loss_that_is_no_number() {
        let of = |loss_sum| Evaluation { loss_sum, tokens: 2, classes: None };
        assert_eq!(of(4.0).finite("the text").expect("finite").loss(), 2.0);

        // The last is finite, but nothing can be said of its perplexity.
        for loss_sum in [f64::NAN, f64::INFINITY, 2000.0] {
            let error = of(loss_sum).finite("the text").expect_err("refused");
            assert!(error.to_string().contains("the loss on the text"), "{error}");
            assert_eq!(error.exit_code(), dlt_spec::ExitCode::Diverged);
        }

        assert!(Evaluation::default().finite("nothing").is_err());
    }
}
