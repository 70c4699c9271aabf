//! Loss of a model over a split, and how well it classifies.

use candle_core::{D, Tensor};
use dlt_agent::Measured;
use dlt_data::{DataError, Draw, Examples, TokenStream, Windows};
use dlt_models::batch::Wanted;
use dlt_models::{Batch, Model, ModelError};
use dlt_spec::record::{EvaluationRow, Scores, Split};

use crate::confusion::Confusion;
use crate::exchange::Exchange;
use crate::feed::view;
use crate::{Result, TrainError};

/// Progress of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluating {
    /// The split that is evaluated.
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
    /// Predicted tokens; if classes are predicted, windows.
    pub tokens: usize,
    /// Right classes against predicted ones; `None` if tokens are predicted.
    pub classes: Option<Confusion>,
}

impl Evaluation {
    /// The evaluation of a model on one batch.
    ///
    /// # Errors
    /// Fails if the batch does not fit the model, or if the device fails.
    pub fn of_batch(model: &Model, batch: &Batch<'_>) -> Result<Self> {
        let mut losses = Losses::default();
        losses.add(model, batch)?;
        Ok(losses.total())
    }

    /// Mean cross-entropy, in nats per prediction.
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

    /// Returns the evaluation if its loss and perplexity are finite, so that no other value is ever
    /// printed or written. `what` names the data.
    ///
    /// # Errors
    /// [`TrainError::Loss`] if the loss is not finite, or, for tokens, the perplexity.
    pub fn finite(self, what: &str) -> Result<Self> {
        let loss = self.loss();
        let is_finite = match self.classes {
            Some(_) => loss.is_finite(),
            None => self.perplexity().is_finite(),
        };

        if is_finite { Ok(self) } else { Err(TrainError::Loss { what: what.to_owned(), loss }) }
    }

    /// Scores of a classification; `None` if tokens are predicted.
    #[must_use]
    pub fn scores(&self) -> Option<Scores> {
        self.classes.as_ref().map(Confusion::scores)
    }

    /// Loss and accuracy, as a reward uses them.
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
}

/// Losses as they are computed, before they are added: of each batch, or of each window if classes
/// are predicted. Processes add each other's losses in the order of the examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Losses {
    /// Negative log-likelihoods, in nats.
    terms: Vec<f64>,
    /// Predictions in them.
    tokens: usize,
    classes: Option<Confusion>,
}

impl Losses {
    /// The sum.
    pub(crate) fn total(self) -> Evaluation {
        let loss_sum = self.terms.iter().fold(0.0, |sum, term| sum + term);
        Evaluation { loss_sum, tokens: self.tokens, classes: self.classes }
    }

    /// Adds the loss of `tokens` predictions.
    pub(crate) fn push(&mut self, loss: f64, tokens: usize) {
        self.terms.push(loss);
        self.tokens += tokens;
    }

    /// Adds the predictions for a batch.
    ///
    /// # Errors
    /// Fails if the batch does not fit the model, or if the device fails.
    pub(crate) fn add(&mut self, model: &Model, batch: &Batch<'_>) -> Result<()> {
        let Wanted::Classes(labels) = batch.wanted else {
            self.push(model.loss_sum(batch)?, batch.n_predictions());
            return Ok(());
        };

        // (N, K)
        let scores = model.scores(batch)?;
        let classes = model.architecture().head_settings().told_classes();
        for (&label, row) in labels.iter().zip(rows(&scores)?) {
            self.push(loss(&row, label as usize), 1);
            let confusion = self.classes.get_or_insert_with(|| Confusion::new(classes));
            confusion.add(label, most_likely(&row));
        }

        Ok(())
    }

    /// Adds the losses of another process, whose examples follow.
    pub(crate) fn append(&mut self, other: Self) {
        self.terms.extend(other.terms);
        self.tokens += other.tokens;
        self.classes = match (self.classes.take(), other.classes) {
            (Some(own), Some(other)) => Some(own.plus(&other)),
            (own, other) => own.or(other),
        };
    }

    /// The losses as numbers to send: how many terms, the terms, the predictions, then the counts
    /// of classes.
    pub(crate) fn to_numbers(&self) -> Vec<f64> {
        let mut numbers = vec![self.terms.len() as f64];
        numbers.extend(&self.terms);
        numbers.push(self.tokens as f64);
        numbers.extend(self.classes.iter().flat_map(Confusion::counts).map(|&count| count as f64));
        numbers
    }

    /// The losses of [`to_numbers`](Self::to_numbers); `None` if they are not that.
    pub(crate) fn from_numbers(numbers: &[f64]) -> Option<Self> {
        let (&count, rest) = numbers.split_first()?;
        let (terms, rest) = rest.split_at_checked(count as usize)?;
        let (&tokens, counts) = rest.split_first()?;

        let counts: Vec<u64> = counts.iter().map(|&count| count as u64).collect();
        let classes = (!counts.is_empty()).then(|| Confusion::of_counts(counts));
        Some(Self { terms: terms.to_vec(), tokens: tokens as usize, classes })
    }
}

/// Scores (..., K) as rows of K numbers on the host.
fn rows(scores: &Tensor) -> Result<Vec<Vec<f64>>> {
    let rows = scores
        .flatten_to(D::Minus2)
        .and_then(|scores| scores.to_dtype(candle_core::DType::F64)?.to_vec2());
    Ok(rows.map_err(ModelError::from)?)
}

/// Negative log-likelihood of class `label`, in nats; NaN if there is no such class.
fn loss(scores: &[f64], label: usize) -> f64 {
    // The greatest score is subtracted before `exp`, which would overflow for large scores.
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
    most + sum.ln() - scores.get(label).copied().unwrap_or(f64::NAN)
}

/// The class with the highest score; of equal scores, the lowest class.
fn most_likely(scores: &[f64]) -> u32 {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }

    best as u32
}

/// Evaluates a model on all examples, `batch` at a time; for a text also on the shorter rest after
/// the last window.
///
/// # Errors
/// Fails if an id is outside the model's vocabulary, or if the device fails.
pub fn evaluate(model: &Model, examples: &Examples, batch: usize) -> Result<Evaluation> {
    evaluate_watched(model, examples, batch, &mut Exchange::alone(), &mut |_| ())
}

/// [`evaluate`], shared among the processes of an exchange. Calls `done` before each batch of this
/// process with the number of examples before it.
///
/// # Errors
/// As [`evaluate`]; fails if the exchange does.
pub fn evaluate_watched(
    model: &Model,
    examples: &Examples,
    batch: usize,
    exchange: &mut Exchange,
    done: &mut dyn FnMut(usize),
) -> Result<Evaluation> {
    let mut losses = Losses::default();
    let batch = batch.max(1);
    let numbers: Vec<usize> = (0..examples.count()).collect();
    let batches: Vec<_> = numbers.chunks(batch).collect();
    let share = exchange.share();

    for index in share.items(batches.len()) {
        done(index * batch);
        losses.add(model, &view(&examples.batch(batches[index], Draw::Fixed)?))?;
    }

    // The rest of a text follows its last window, so the last process has it.
    if share.rank + 1 == share.size
        && let Some(tail) = examples.tail()?
    {
        losses.add(model, &view(&tail))?;
    }

    exchange.losses(losses)
}

/// Evaluates a model on a stream of tokens, in windows of up to `context` tokens. Every token but
/// the first is predicted once. The processes of `exchange` share the windows.
///
/// # Errors
/// [`DataError`] for fewer than two tokens, or tokens that cannot be read; fails if an id is
/// outside the model's vocabulary.
pub fn evaluate_stream(
    model: &Model,
    stream: TokenStream,
    context: usize,
    exchange: &mut Exchange,
) -> Result<Evaluation> {
    if stream.len() < 2 {
        return Err(DataError::TooFewWindows { asked: 1, count: 0, context: 1 }.into());
    }
    let context = context.clamp(1, stream.len() - 1);
    let examples = Examples::from(Windows::stream(stream, context)?);
    evaluate_watched(model, &examples, 1, exchange, &mut |_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_a_loss_that_is_no_number() {
        let of = |loss_sum| Evaluation { loss_sum, tokens: 2, classes: None };
        assert_eq!(of(4.0).finite("the text").expect("finite").loss(), 2.0);

        // The last loss is finite, but its perplexity overflows.
        for loss_sum in [f64::NAN, f64::INFINITY, 2000.0] {
            let error = of(loss_sum).finite("the text").expect_err("refused");
            assert!(error.to_string().contains("the loss on the text"), "{error}");
            assert_eq!(error.exit_code(), dlt_spec::ExitCode::Diverged);
        }

        assert!(Evaluation::default().finite("nothing").is_err());
    }
}
