//! What to compare a perplexity with.

use crate::{error::DataError, text::stream::TokenStream, text::token_file::BLOCK};

/// Perplexity of the best unigram model of these tokens: the exponential of the entropy of their
/// own distribution. No model that ignores the tokens before does better on them, so a model that
/// has learned anything about order has a lower perplexity. Without tokens it is 1.
#[must_use]
pub fn unigram_perplexity(tokens: &[u32]) -> f64 {
    let mut counts = Vec::new();
    count(tokens, &mut counts);
    perplexity(counts)
}

/// The same for a stream, in memory that does not grow with it.
///
/// # Errors
/// If its tokens cannot be read from disk.
pub fn unigram_perplexity_of(stream: &TokenStream) -> Result<f64, DataError> {
    let mut counts = Vec::new();
    let mut block = vec![0; BLOCK.min(stream.len())];
    for start in (0..stream.len()).step_by(BLOCK) {
        let block = &mut block[..BLOCK.min(stream.len() - start)];
        stream.read(start, block)?;
        count(block, &mut counts);
    }

    Ok(perplexity(counts))
}

/// Adds how often each token occurs.
fn count(tokens: &[u32], counts: &mut Vec<u64>) {
    let largest = tokens.iter().max().map_or(0, |&id| id as usize);
    if counts.len() <= largest {
        counts.resize(largest + 1, 0);
    }

    for &token in tokens {
        counts[token as usize] += 1;
    }
}

fn perplexity(counts: Vec<u64>) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let shares = counts.into_iter().filter(|&count| count > 0).map(|count| count as f64 / total);
    shares.map(|share| -share * share.ln()).sum::<f64>().exp()
}

/// Bits per byte of text: a total negative log-likelihood in nats over the bytes of the text that
/// was predicted ([`Tokenizer::bytes_of`](crate::Tokenizer::bytes_of) its tokens). Unlike
/// perplexity, it can be compared between tokenizers. For 0 bytes it is not a finite number.
#[must_use]
pub fn bits_per_byte(total_nll: f64, bytes: usize) -> f64 {
    total_nll / std::f64::consts::LN_2 / bytes as f64
}
