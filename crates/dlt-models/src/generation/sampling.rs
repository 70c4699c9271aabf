//! Choosing the next token.

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

    /// - `temperature`: 0 takes the most likely token, 1 samples as the model says;
    /// - `top_k`: only the k most likely tokens;
    /// - `top_p`: only the fewest most likely tokens that together have this probability, in
    ///   `(0, 1]`.
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

    /// The same with tokens that are there already made less likely: 1 changes nothing.
    ///
    /// # Errors
    /// [`ModelError::Sampling`] for a penalty that is not above 0.
    pub fn penalising_repetition(self, penalty: f64) -> Result<Self> {
        // As the logits are: a number that f32 cannot hold would make zeros or infinities of them.
        let repetition_penalty = penalty as f32;
        if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
            return refuse("repetition penalty", "a number above 0", penalty);
        }

        Ok(Self { repetition_penalty, ..self })
    }

    /// Divides positive logits of tokens that are there already by the penalty, and multiplies
    /// negative ones with it. `present` names each of them once; ids outside the logits are passed
    /// over.
    pub fn penalise(&self, logits: &mut [f32], present: impl IntoIterator<Item = u32>) {
        if self.repetition_penalty == 1.0 {
            return;
        }

        for id in present {
            if let Some(logit) = logits.get_mut(id as usize) {
                match *logit > 0.0 {
                    true => *logit /= self.repetition_penalty,
                    false => *logit *= self.repetition_penalty,
                }
            }
        }
    }

    /// Chooses a token from logits; the lowest id among equals where nothing is drawn.
    pub fn choose(&self, logits: &[f32], rng: &mut impl Rng) -> u32 {
        let (first, highest) = highest(logits);
        if self.temperature == 0.0 || !highest.is_finite() {
            return first;
        }

        let mut candidates: Vec<Candidate> = (0..).zip(logits.iter().copied()).collect();
        if let Some(k) = self.top_k.filter(|&k| k < candidates.len()) {
            candidates.select_nth_unstable_by(k - 1, falling);
            candidates.truncate(k);

            // The order in which a draw walks through them is not that of the selection.
            candidates.sort_unstable_by_key(|&(id, _)| id);
        }

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

        // Rounding can leave a rest of the point behind the last candidate.
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
    (0..).zip(logits.iter().copied()).fold((0, f32::NEG_INFINITY), |best, next| {
        match next.1 > best.1 {
            true => next,
            false => best,
        }
    })
}

/// Keeps the fewest most likely candidates that together have this share of all weight.
fn keep_nucleus(candidates: &mut Vec<Candidate>, share: f64, weight: impl Fn(f32) -> f64) {
    /// A nucleus is seldom larger, and sorting a whole vocabulary would take longer than a small
    /// model.
    const FIRST: usize = 64;
    let enough = share * candidates.iter().map(|&(_, logit)| weight(logit)).sum::<f64>();
    let mut sorted = 0;
    let mut kept = 0.0;

    while sorted < candidates.len() {
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
