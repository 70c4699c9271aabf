//! GPT-2's tokenizer, built from merge ranks alone.
//!
//! The ranks give the byte string of each token. The rank of a token that is made by a merge is
//! also the order of that merge. The two tokens that it merges follow from this: encoding the
//! token's own bytes with all earlier merges leaves exactly these two.

use super::{END_OF_TEXT, bytes::with_bytes};
use std::collections::HashMap;
use tokenizers::{
    Tokenizer,
    models::bpe::{BPE, Vocab},
};

/// Number of tokens that are bytes or merges. The id after them is the end of text.
const RANKS: u32 = 50_256;

/// Number of tokens that are a single byte. The others are merges.
const BYTES: u32 = 256;

pub(super) fn tokenizer() -> Result<Tokenizer, String> {
    let tokens = token_bytes()?;
    let letters = byte_letters();
    let spelled =
        |bytes: &[u8]| -> String { bytes.iter().map(|&byte| letters[usize::from(byte)]).collect() };
    let merges =
        merges(&tokens)?.into_iter().map(|(left, right)| (spelled(left), spelled(right))).collect();

    let mut vocabulary: Vocab = tokens.iter().map(|bytes| spelled(bytes)).zip(0..).collect();
    vocabulary.insert(END_OF_TEXT.to_owned(), RANKS);

    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        // Empty, not absent, as in the published file: so a saved copy has the same content.
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(String::new())
        .build()
        .map_err(|error| error.to_string())?;

    with_bytes(Tokenizer::new(model))
}

/// The byte string of every rank.
fn token_bytes() -> Result<Vec<Vec<u8>>, String> {
    let ranks = tiktoken_rs::r50k_base().map_err(|error| error.to_string())?;
    (0..RANKS)
        .map(|rank| {
            ranks.decode_bytes(&[rank]).map_err(|error| format!("no token of rank {}", error.token))
        })
        .collect()
}

/// The two byte strings that a merge joins.
type Merge<'a> = (&'a [u8], &'a [u8]);

/// All merges in their order.
fn merges(tokens: &[Vec<u8>]) -> Result<Vec<Merge<'_>>, String> {
    let ranks: HashMap<&[u8], u32> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
    let mut ends = Vec::new();

    (BYTES..tokens.len() as u32)
        .map(|rank| {
            let bytes = tokens[rank as usize].as_slice();
            let middle = last_cut(bytes, rank, &ranks, &mut ends)
                .ok_or_else(|| format!("rank {rank} is not a merge of two tokens of lower rank"))?;
            Ok(bytes.split_at(middle))
        })
        .collect()
}

/// Encodes `bytes` with the merges below `limit`, and returns where the two remaining parts meet.
fn last_cut(
    bytes: &[u8],
    limit: u32,
    ranks: &HashMap<&[u8], u32>,
    ends: &mut Vec<usize>,
) -> Option<usize> {
    // `ends[i]` is where part i ends; part i begins where part i - 1 ends.
    ends.clear();
    ends.extend(1..=bytes.len());

    while ends.len() > 2 {
        let start = |part: usize| if part == 0 { 0 } else { ends[part - 1] };
        let mergeable = (0..ends.len() - 1).filter_map(|part| {
            let rank = *ranks.get(&bytes[start(part)..ends[part + 1]])?;
            (rank < limit).then_some((rank, part))
        });

        let (_, part) = mergeable.min()?;
        ends.remove(part);
    }

    (ends.len() == 2).then(|| ends[0])
}

/// The letter that stands for each byte in the vocabulary: the byte's own character if it is
/// printable, else the next free one from U+0100.
pub(super) fn byte_letters() -> [char; 256] {
    let mut unprintable = 0x100..;
    std::array::from_fn(|byte| {
        let itself = matches!(byte as u8, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if itself { byte as u32 } else { unprintable.next().unwrap_or_default() };
        char::from_u32(code).unwrap_or_default()
    })
}
