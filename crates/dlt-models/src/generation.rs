//! Text from a model: choosing the next token, one at a time.

use rand::Rng;

use crate::{Model, ModelError, Result};

/// How the next token is chosen. Made by [`Sampling::new`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    temperature: f64,
    top_k: Option<usize>,
    top_p: f64,
}

impl Sampling {
    /// - `temperature`: 0 takes the most likely token, 1 samples as the model says;
    /// - `top_k`: only the k most likely tokens;
    /// - `top_p`: only the fewest most likely tokens that together have this probability, in `(0, 1]`.
    ///
    /// # Errors
    /// [`ModelError::Sampling`] for a value out of its range.
    pub fn new(temperature: f64, top_k: Option<usize>, top_p: f64) -> Result<Self> {
        let refuse = |setting, expected, came| Err(ModelError::Sampling { setting, expected, came });
        if !(temperature.is_finite() && temperature >= 0.0) {
            return refuse("temperature", "a number of at least 0", temperature);
        }
        if top_k == Some(0) {
            return refuse("top-k", "at least 1", 0.0);
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return refuse("top-p", "more than 0 and at most 1", top_p);
        }
        Ok(Self { temperature, top_k, top_p })
    }

    /// Chooses a token from logits; the lowest id among equals where nothing is drawn.
    pub fn choose(&self, logits: &[f32], rng: &mut impl Rng) -> u32 {
        let mut ranked: Vec<(u32, f64)> =
            logits.iter().enumerate().map(|(id, &logit)| (id as u32, f64::from(logit))).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let Some(&(first, highest)) = ranked.first() else { return 0 };
        if self.temperature == 0.0 {
            return first;
        }
        ranked.truncate(self.top_k.unwrap_or(usize::MAX));
        for (_, logit) in &mut ranked {
            *logit = ((*logit - highest) / self.temperature).exp();
        }
        let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
        let mut kept = 0.0;
        let enough = ranked.iter().position(|(_, weight)| {
            kept += weight;
            kept >= self.top_p * total
        });
        ranked.truncate(enough.map_or(ranked.len(), |last| last + 1));
        let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
        let mut point = rng.random::<f64>() * total;
        for &(id, weight) in &ranked {
            point -= weight;
            if point < 0.0 {
                return id;
            }
        }
        ranked.last().map_or(first, |&(id, _)| id)
    }
}

/// What is to be generated.
#[derive(Clone, Copy, Debug)]
pub struct Continuation<'a> {
    /// Tokens to continue.
    pub prompt: &'a [u32],
    /// How many to add at most.
    pub tokens: usize,
    /// How many of the last tokens the model sees; at most its positions.
    pub context: usize,
    /// The token that ends the text.
    pub stop: Option<u32>,
    /// How each token is chosen.
    pub sampling: Sampling,
}

/// Continues a prompt, handing each token to `each` as it comes.
///
/// # Errors
/// [`ModelError::Batch`] for an empty prompt or ids outside the vocabulary.
pub fn generate(
    model: &Model,
    wanted: &Continuation<'_>,
    rng: &mut impl Rng,
    mut each: impl FnMut(u32),
) -> Result<()> {
    let context = wanted.context.clamp(1, model.architecture().max_tokens());
    let mut tokens = wanted.prompt.to_vec();
    for _ in 0..wanted.tokens {
        let seen = &tokens[tokens.len().saturating_sub(context)..];
        let next = wanted.sampling.choose(&model.next_logits(seen)?, rng);
        if Some(next) == wanted.stop {
            break;
        }
        tokens.push(next);
        each(next);
    }
    Ok(())
}
