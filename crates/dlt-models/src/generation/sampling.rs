//! How the next token is chosen.

use std::cmp::Ordering;

use rand::Rng;

use crate::{ModelError, Result};

/// How the next token is chosen. Made by [`Sampling::new`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    temperature: f64,
    top_k: Option<usize>,
    top_p: f64,
    repetition_penalty: f32,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self =
        Self { temperature: 0.0, top_k: None, top_p: 1.0, repetition_penalty: 1.0 };

    /// A rule for choosing tokens.
    ///
    /// - `temperature`: at 0 the most likely token, at 1 a draw from the probabilities of the
    ///   model;
    /// - `top_k`: only the k most likely tokens can be drawn;
    /// - `top_p`, in (0, 1]: only the most likely tokens can be drawn, as few as have this
    ///   probability together.
    ///
    /// # Errors
    /// [`ModelError::Sampling`] for a value out of its range.
    pub fn new(temperature: f64, top_k: Option<usize>, top_p: f64) -> Result<Self> {
        if !(temperature.is_finite() && temperature >= 0.0) {
            return refuse("temperature", "a number of at least 0", temperature);
        }
        if top_k == Some(0) {
            return refuse("top-k", "at least 1", 0.0);
        }

        if !(top_p > 0.0 && top_p <= 1.0) {
            return refuse("top-p", "more than 0 and at most 1", top_p);
        }

        Ok(Self { temperature, top_k, top_p, ..Self::GREEDY })
    }

    /// The same rule, which makes tokens less likely that the text has already. A penalty of 1
    /// changes nothing.
    ///
    /// # Errors
    /// [`ModelError::Sampling`] for a penalty that is not above 0.
    pub fn penalising_repetition(self, penalty: f64) -> Result<Self> {
        // f32 like the logits: a penalty that f32 cannot hold would turn them into zeros or
        // infinities.
        let repetition_penalty = penalty as f32;
        if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
            return refuse("repetition penalty", "a number above 0", penalty);
        }

        Ok(Self { repetition_penalty, ..self })
    }

    /// Divides positive logits of tokens that the text has already by the penalty, and multiplies
    /// negative ones by it. `present` names each of these tokens once. Ids outside the logits are
    /// ignored.
    pub fn penalise(&self, logits: &mut [f32], present: impl IntoIterator<Item = u32>) {
        if self.repetition_penalty == 1.0 {
            return;
        }

        for id in present {
            if let Some(logit) = logits.get_mut(id as usize) {
                // In both cases the logit falls if the penalty is above 1.
                if *logit > 0.0 {
                    *logit /= self.repetition_penalty;
                } else {
                    *logit *= self.repetition_penalty;
                }
            }
        }
    }

    /// Chooses a token from logits. If nothing is drawn, the lowest id among equals is chosen.
    pub fn choose(&self, logits: &[f32], rng: &mut impl Rng) -> u32 {
        let (first, highest) = highest(logits);
        if self.temperature == 0.0 || !highest.is_finite() {
            return first;
        }

        let mut candidates: Vec<Candidate> = (0..).zip(logits.iter().copied()).collect();
        if let Some(k) = self.top_k.filter(|&k| k < candidates.len()) {
            candidates.select_nth_unstable_by(k - 1, falling);
            candidates.truncate(k);

            // The selection leaves them in any order, and the draw below depends on their order.
            candidates.sort_unstable_by_key(|&(id, _)| id);
        }

        // Less the highest logit, so that no exponential overflows.
        let weight =
            |logit: f32| ((f64::from(logit) - f64::from(highest)) / self.temperature).exp();
        if self.top_p < 1.0 {
            keep_nucleus(&mut candidates, self.top_p, weight);
        }

        let weights: Vec<f64> = candidates.iter().map(|&(_, logit)| weight(logit)).collect();
        let mut point = rng.random::<f64>() * weights.iter().sum::<f64>();
        for (&(id, _), weight) in candidates.iter().zip(&weights) {
            point -= weight;
            if point < 0.0 {
                return id;
            }
        }

        // Rounding can put the point after the last candidate.
        first
    }
}

/// A token and its logit.
type Candidate = (u32, f32);

/// The most likely first, and the lowest id among equals.
fn falling(a: &Candidate, b: &Candidate) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The highest logit and the lowest id that has it.
fn highest(logits: &[f32]) -> Candidate {
    (0..)
        .zip(logits.iter().copied())
        .fold((0, f32::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best })
}

/// Keeps the fewest most likely candidates that together have this share of all weight.
fn keep_nucleus(candidates: &mut Vec<Candidate>, share: f64, weight: impl Fn(f32) -> f64) {
    /// A nucleus is rarely larger. To sort a whole vocabulary would take longer than a step of a
    /// small model.
    const FIRST: usize = 64;
    let enough = share * candidates.iter().map(|&(_, logit)| weight(logit)).sum::<f64>();
    let mut sorted = 0;
    let mut kept = 0.0;

    while sorted < candidates.len() {
        // The most likely candidates are sorted in parts that double.
        let next = (2 * sorted).max(FIRST).min(candidates.len());
        let rest = &mut candidates[sorted..];
        if next - sorted < rest.len() {
            rest.select_nth_unstable_by(next - sorted - 1, falling);
        }

        rest[..next - sorted].sort_unstable_by(falling);
        for at in sorted..next {
            kept += weight(candidates[at].1);
            if kept >= enough {
                return candidates.truncate(at + 1);
            }
        }

        sorted = next;
    }
}

fn refuse<T>(setting: &'static str, expected: &'static str, got: f64) -> Result<T> {
    Err(ModelError::Sampling { setting, expected, got })
}
