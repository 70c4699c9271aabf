//! Text from a model: it continues prompts, one token at a time.

mod decoder;
mod sampling;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use dlt_spec::seeds;
use rand::Rng;

use crate::{Model, ModelError, Result};
pub use decoder::Decoder;
pub use sampling::Sampling;

/// What is to be generated.
#[derive(Clone, Copy, Debug)]
pub struct Continuation<'a> {
    /// The tokens of each prompt.
    pub prompts: &'a [Vec<u32>],
    /// Most tokens to add to each prompt.
    pub tokens: usize,
    /// How many of the last tokens the model sees at most. The positions of the model are another
    /// limit.
    pub context: usize,
    /// Tokens that end a text. They are not part of it.
    pub stop: &'a [u32],
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Root seed of the draws. Each prompt has its own random stream, named by its number.
    pub seed: u64,
    /// How many prompts are continued at once, at least 1. Memory holds the keys and values of this
    /// many.
    pub at_once: usize,
}

/// What happens to a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The model has read it.
    Read,
    /// The model has chosen this token.
    Token(u32),
    /// The text has ended.
    End(End),
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has as many tokens as requested.
    Length,
    /// The model has chosen this stop token.
    Stop(u32),
    /// The callback of the last event broke off.
    Broken,
}

/// Continues prompts. It calls `each` with the number of a prompt and what happens to it, as it
/// happens. If `each` breaks, the text of this prompt ends and the others continue.
///
/// While a text fits into the context, the model sees all of it. A text that no longer fits
/// continues from the last half of the context, until that has grown to a whole context, and so on.
/// So the model sees from half to all of the context, and reads tokens again only once in half a
/// context. Other prompts change a text at most by the rounding of the logits.
///
/// # Errors
/// [`ModelError::Batch`] for an empty prompt or ids outside the vocabulary,
/// [`ModelError::Objective`] for a model that does not predict the next token.
pub fn generate(
    model: &Model,
    wanted: &Continuation<'_>,
    mut each: impl FnMut(usize, Event) -> ControlFlow<()>,
) -> Result<()> {
    if let Some(number) = wanted.prompts.iter().position(Vec::is_empty) {
        let expected = "at least one token in each prompt".to_owned();
        return Err(ModelError::Batch { expected, got: format!("none in prompt {number}") });
    }

    let context = wanted.context.clamp(1, model.architecture().max_tokens());
    let texts = wanted.prompts.iter().enumerate().map(|(number, prompt)| Text {
        number,
        tokens: prompt.clone(),
        left: wanted.tokens,
        present: prompt.iter().copied().collect(),
        rng: seeds::stream(wanted.seed, &format!("generation/{number}")),
    });

    let mut texts: Vec<_> = texts.collect();

    // A group's caches are only as long as its longest text can become.
    for group in texts.chunks_mut(wanted.at_once.max(1)) {
        let longest = group.iter().map(|text| text.tokens.len().saturating_add(text.left)).max();
        let capacity = longest.unwrap_or(1).min(context);
        let decoder = Decoder::new(model, group.len(), capacity)?;

        Group { wanted, decoder, texts: group, each: &mut each }.run()?;
    }

    Ok(())
}

/// A text that is being continued.
struct Text<R> {
    number: usize,
    tokens: Vec<u32>,
    /// How many tokens may still be added.
    left: usize,
    /// The distinct tokens of prompt and continuation.
    present: BTreeSet<u32>,
    rng: R,
}

impl<R> Text<R> {
    /// The last `count` tokens, or all.
    fn last(&self, count: usize) -> &[u32] {
        &self.tokens[self.tokens.len().saturating_sub(count)..]
    }
}

/// Texts that are continued together. The place of a text in the group is its sequence in the
/// decoder.
struct Group<'a, R, E> {
    wanted: &'a Continuation<'a>,
    decoder: Decoder<'a>,
    texts: &'a mut [Text<R>],
    each: E,
}

impl<R: Rng, E: FnMut(usize, Event) -> ControlFlow<()>> Group<'_, R, E> {
    fn run(&mut self) -> Result<()> {
        let mut under_way = Vec::new();
        for place in 0..self.texts.len() {
            if self.begin(place)? {
                under_way.push(place);
            }
        }

        while !under_way.is_empty() {
            under_way = self.extend(&under_way)?;
        }

        Ok(())
    }

    /// Reads a prompt and chooses the first token. Returns whether the text continues.
    fn begin(&mut self, place: usize) -> Result<bool> {
        if self.wanted.tokens == 0 {
            return Ok(self.end(place, End::Length));
        }

        let mut logits =
            self.decoder.feed(&[place], self.texts[place].last(self.decoder.capacity()))?;

        if (self.each)(self.texts[place].number, Event::Read).is_break() {
            return Ok(self.end(place, End::Broken));
        }

        refuse_not_finite(&logits)?;
        Ok(self.choose(place, &mut logits[0]))
    }

    /// Adds a token to each of these texts. Returns those that continue.
    fn extend(&mut self, places: &[usize]) -> Result<Vec<usize>> {
        let capacity = self.decoder.capacity();
        let (full, roomy): (Vec<usize>, Vec<usize>) =
            places.iter().partition(|&&place| self.decoder.held(place) == capacity);
        let mut logits = Vec::new();

        // A full cache is emptied and filled with the last half of the context. It is fed alone, as
        // the others get one token only.
        for &place in &full {
            self.decoder.truncate(place, 0)?;
            logits.append(
                &mut self.decoder.feed(&[place], self.texts[place].last(capacity.div_ceil(2)))?,
            );
        }

        if !roomy.is_empty() {
            let last: Vec<u32> =
                roomy.iter().flat_map(|&place| self.texts[place].last(1)).copied().collect();
            logits.append(&mut self.decoder.feed(&roomy, &last)?);
        }

        refuse_not_finite(&logits)?;
        let mut under_way = Vec::new();

        for (&place, logits) in full.iter().chain(&roomy).zip(&mut logits) {
            if self.choose(place, logits) {
                under_way.push(place);
            }
        }

        // The full ones were first here. The next round has the order of the prompts again.
        under_way.sort_unstable();
        Ok(under_way)
    }

    /// Chooses the next token of a text. Returns whether the text continues.
    fn choose(&mut self, place: usize, logits: &mut [f32]) -> bool {
        let text = &mut self.texts[place];
        let sampling = &self.wanted.sampling;
        sampling.penalise(logits, text.present.iter().copied());

        let token = sampling.choose(logits, &mut text.rng);
        if self.wanted.stop.contains(&token) {
            return self.end(place, End::Stop(token));
        }

        text.tokens.push(token);
        text.present.insert(token);
        text.left -= 1;

        let number = text.number;
        let left = text.left;

        match (self.each)(number, Event::Token(token)) {
            ControlFlow::Break(()) => self.end(place, End::Broken),
            ControlFlow::Continue(()) if left == 0 => self.end(place, End::Length),
            ControlFlow::Continue(()) => true,
        }
    }

    /// Reports that a text ends. Returns `false`, because the text does not continue.
    fn end(&mut self, place: usize, why: End) -> bool {
        // The text has ended, so a break has no meaning any more.
        let _ = (self.each)(self.texts[place].number, Event::End(why));
        false
    }
}

/// Refuses logits that are NaN or infinite: no token can be chosen among them.
fn refuse_not_finite(logits: &[Vec<f32>]) -> Result<()> {
    let count = logits.iter().flatten().filter(|logit| !logit.is_finite()).count();
    match count {
        0 => Ok(()),
        count => Err(ModelError::Logits { count, of: logits.iter().map(Vec::len).sum() }),
    }
}
