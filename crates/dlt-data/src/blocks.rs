//! The text pipeline of the authors' code.
//!
//! A row is a line with its line end, as in the published WikiText files. Rows of white space alone are left out; the
//! others are joined as they are, 1,000 at a time, and each such group is tokenized by itself. The groups are dealt to
//! up to 8 workers, each a contiguous share (the first ones have one more where it does not come out even). A
//! worker puts its tokens one after the other and cuts them into blocks of T - 1; its remainder is dropped.

use crate::{error::DataError, stream::TokenStream, tokenizer::Tokenizer};

/// Rows that are joined before they are tokenized.
pub const GROUP_ROWS: usize = 1_000;

/// Workers that a split is dealt to, at most.
pub const MAX_SHARDS: usize = 8;

/// The tokens of all blocks of a split, one after the other, without BOS and EOS. `done` is called with the number of
/// bytes tokenized so far.
pub(crate) fn block_stream(
    text: &str,
    tokenizer: &Tokenizer,
    block: usize,
    done: &mut dyn FnMut(usize),
) -> Result<TokenStream, DataError> {
    let rows: Vec<&str> = text.split_inclusive('\n').filter(|row| !row.trim().is_empty()).collect();
    let groups: Vec<String> = rows.chunks(GROUP_ROWS).map(<[&str]>::concat).collect();
    let mut tokens = Vec::new();
    let mut bytes = 0;
    for shard in shards(&groups) {
        let start = tokens.len();
        for group in shard {
            tokens.extend(tokenizer.encode(group)?);
            bytes += group.len();
            done(bytes);
        }
        let kept = (tokens.len() - start) / block * block;
        tokens.truncate(start + kept);
    }
    let bytes = tokenizer.bytes_of(&tokens)?;
    Ok(TokenStream::new(tokens, bytes))
}

/// The groups of each worker.
fn shards(groups: &[String]) -> Vec<&[String]> {
    let count = groups.len().clamp(1, MAX_SHARDS);
    let (least, longer) = (groups.len() / count, groups.len() % count);
    let mut rest = groups;
    (0..count)
        .map(|shard| {
            let (share, after) = rest.split_at(least + usize::from(shard < longer));
            rest = after;
            share
        })
        .collect()
}
