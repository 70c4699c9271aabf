//! Numbers as words of 32 bits, and back.

use super::{TransportError, Words};

/// Adds an f64, low half first.
pub(super) fn push_f64(words: &mut Words, number: f64) {
    push_u64(words, number.to_bits());
}

/// Adds a u64, low half first.
pub(super) fn push_u64(words: &mut Words, number: u64) {
    words.extend([number as u32, (number >> 32) as u32]);
}

/// The bits of each f32.
pub(super) fn of_f32(numbers: Vec<f32>) -> Words {
    numbers.into_iter().map(f32::to_bits).collect()
}

/// The f32 of each word.
pub(super) fn to_f32(words: Words) -> Vec<f32> {
    words.into_iter().map(f32::from_bits).collect()
}

/// A text: its bytes, one a word. Texts are short and rare.
pub(super) fn of_text(text: &str) -> Words {
    text.bytes().map(u32::from).collect()
}

/// The text of [`of_text`].
pub(super) fn to_text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().map(|&word| word as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads numbers from words in the order in which they were pushed.
pub(super) struct Reader<'a>(pub(super) &'a [u32]);

impl Reader<'_> {
    pub(super) fn u64(&mut self) -> Result<u64, TransportError> {
        let Some((&[low, high], rest)) = self.0.split_first_chunk() else {
            return Err(TransportError("expected a number of another process, got none".into()));
        };

        self.0 = rest;
        Ok(u64::from(low) | u64::from(high) << 32)
    }

    pub(super) fn f64(&mut self) -> Result<f64, TransportError> {
        Ok(f64::from_bits(self.u64()?))
    }
}
