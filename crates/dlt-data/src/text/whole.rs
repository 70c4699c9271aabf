//! The number of tokens of a whole text, from the tokens of its splits.

use crate::{
    error::DataError,
    split::Split,
    text::files::Flow,
    text::load::{DataRequest, Progress, find},
    text::source::TextSource,
    text::stream::TokenSplits,
    tokenizer::Tokenizer,
};
use dlt_spec::{record::Boundary, spec::Pipeline};

/// Bytes that are read on either side of a place where two splits meet.
const SEAM: usize = 1 << 16;

/// The number of tokens of the whole text: train, validation and test without a cut in between. It
/// is not always the sum of the splits: where they meet, two tokens may become one. `None` if the
/// number needs the whole text to be tokenized again: with a tokenizer whose text cannot be cut as
/// GPT-2's can, or in text without blanks. Also `None` for documents that a token ends, and for
/// blocks, which drop some of the text.
///
/// # Errors
/// If the text cannot be read.
pub fn whole_tokens(
    request: &DataRequest<'_>,
    splits: &TokenSplits,
    tokenizer: &Tokenizer,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<usize>, DataError> {
    let has_documents = splits.provenance.boundary == Some(Boundary::EndOfText);
    if request.data.pipeline == Pipeline::Blocks || has_documents || !tokenizer.is_cut_safely() {
        return Ok(None);
    }

    let data = request.data;
    let source = find(&data.source, data.split, data.into(), request.hub, request.cache, progress)?;
    let ends = Split::ALL.into_iter().filter(|&split| splits.has(split));
    let ends = ends.map(|split| seam(&source, split)).collect::<Result<Vec<_>, _>>()?;
    let mut total = splits.train.len() + splits.validation.len() + splits.test.len();
    let count = |text: &str| tokenizer.encode(text).map(|ids| ids.len());

    for pair in ends.windows(2) {
        let before = &pair[0].1;
        let after = &pair[1].0;
        let (Some(tail), Some(head)) = (last_word(before), first_word(after)) else {
            return Ok(None);
        };
        // A text may be cut at `tail` and after `head`, so only the tokens in between can differ.
        let apart = count(tail)? + count(head)?;
        total = total + count(&format!("{tail}{head}"))? - apart;
    }

    Ok(Some(total))
}

/// The beginning and the end of a split.
fn seam(source: &TextSource, split: Split) -> Result<(String, String), DataError> {
    let mut head = String::new();
    let mut tail = String::new();
    source.read(split, &mut |piece| {
        if head.len() < SEAM {
            head.push_str(piece.text);
        }

        tail.push_str(piece.text);
        // Cut only now and then, so that the tail is not moved for each piece.
        if tail.len() > 4 * SEAM {
            tail.drain(..tail.ceil_char_boundary(tail.len() - SEAM));
        }

        Ok(Flow::On)
    })?;

    Ok((head, tail))
}

/// Places where a text may be cut without changing its tokens: before a blank that follows a
/// character other than white space.
fn cuts(text: &str) -> impl Iterator<Item = usize> {
    let blanks = text.bytes().enumerate().filter(|(_, byte)| matches!(byte, b' ' | b'\n'));
    blanks
        .map(|(at, _)| at)
        .filter(|&at| text[..at].chars().next_back().is_some_and(|before| !before.is_whitespace()))
}

fn first_word(text: &str) -> Option<&str> {
    cuts(text).next().map(|cut| &text[..cut])
}

fn last_word(text: &str) -> Option<&str> {
    cuts(text).last().map(|cut| &text[cut..])
}
