//! Encodes text to token ids on one thread, and remembers the words that it has seen.

use super::{Tokenizer, guard, words::Words};
use crate::error::DataError;
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};
use tokenizers::Model;

/// Most words that are remembered: with their ids some 30 MB.
const MOST_WORDS: usize = 1 << 18;

/// Longest word that is remembered, in bytes.
const LONGEST_WORD: usize = 64;

/// Where the ids of a word are in [`Encoder::ids`].
#[derive(Clone, Copy)]
struct IdRange {
    start: u32,
    length: u32,
}

/// Encodes text with its own memory of words. The result equals that of the tokenizer itself.
pub(crate) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Added tokens, which are searched for in the text before it is split into words.
    added: Vec<(String, u32)>,
    /// The letter that stands for each byte in the vocabulary.
    letters: [char; 256],
    /// The words that are remembered.
    known: HashMap<Box<str>, IdRange, BuildHasherDefault<WordHasher>>,
    /// The ids of all remembered words, one after the other.
    ids: Vec<u32>,
    /// A buffer for the spelling of a word.
    spelled: String,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        let mut added: Vec<(String, u32)> = tokenizer
            .inner
            .get_added_tokens_decoder()
            .iter()
            .map(|(&id, token)| (token.content.clone(), id))
            .collect();

        // If two begin at the same place, the longer one counts.
        added.sort_by(|left, right| right.0.len().cmp(&left.0.len()).then(left.cmp(right)));

        Self {
            tokenizer,
            added,
            letters: super::gpt2::byte_letters(),
            known: HashMap::default(),
            ids: Vec::new(),
            spelled: String::new(),
        }
    }

    /// Appends the ids of a text.
    pub(crate) fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), DataError> {
        let tokenizer = self.tokenizer;
        guard::caught(|| self.encode_all(text, ids))
            .unwrap_or_else(|reason| Err(tokenizer.broke(reason)))
    }

    fn encode_all(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), DataError> {
        if !self.tokenizer.cuts_safely {
            let encoding = self.tokenizer.inner.encode_fast(text, false);
            ids.extend_from_slice(
                encoding.map_err(|error| self.tokenizer.failed(&error))?.get_ids(),
            );
            return Ok(());
        }

        let mut rest = text;
        while let Some((start, length, id)) = self.next_added(rest) {
            self.encode_plain(&rest[..start], ids)?;
            ids.push(id);
            rest = &rest[start + length..];
        }

        self.encode_plain(rest, ids)
    }

    /// Where the first added token of a text begins, its length and its id.
    fn next_added(&self, text: &str) -> Option<(usize, usize, u32)> {
        let found =
            self.added.iter().filter_map(|(token, id)| Some((text.find(token)?, token.len(), *id)));
        found.min_by_key(|&(start, length, _)| (start, usize::MAX - length))
    }

    fn encode_plain(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), DataError> {
        for word in Words::of(text) {
            if let Some(range) = self.known.get(word) {
                let start = range.start as usize;
                ids.extend_from_slice(&self.ids[start..start + range.length as usize]);
                continue;
            }

            let first = ids.len();
            self.encode_word(word, ids)?;

            if word.len() <= LONGEST_WORD && self.known.len() < MOST_WORDS {
                let range =
                    IdRange { start: self.ids.len() as u32, length: (ids.len() - first) as u32 };
                self.ids.extend_from_slice(&ids[first..]);
                self.known.insert(word.into(), range);
            }
        }

        Ok(())
    }

    fn encode_word(&mut self, word: &str, ids: &mut Vec<u32>) -> Result<(), DataError> {
        self.spelled.clear();
        self.spelled.extend(word.bytes().map(|byte| self.letters[usize::from(byte)]));

        let tokens = self.tokenizer.inner.get_model().tokenize(&self.spelled);
        ids.extend(
            tokens.map_err(|error| self.tokenizer.failed(&error))?.iter().map(|token| token.id),
        );

        Ok(())
    }
}

/// A fast hash of short words, the same in every run. No result depends on it.
#[derive(Default)]
struct WordHasher(u64);

impl WordHasher {
    fn add(&mut self, word: u64) {
        // The multiplier is 2^64 divided by the golden ratio, made odd.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<8>();
        whole.iter().for_each(|eight| self.add(u64::from_le_bytes(*eight)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last) ^ (rest.len() as u64) << 56);
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        // The table uses the upper bits for its tags and the lower bits for positions, so both need
        // to be mixed.
        self.0 ^ self.0 >> 32
    }
}
