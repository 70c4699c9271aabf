//! Cuts a text where the pieces, encoded separately, give the same tokens as the whole.
//!
//! GPT-2's pre-tokenizer never lets a piece run from a character that is not white space into one
//! that is, and what it does after such a place depends only on what follows it. So a text may be
//! cut between the two, with the white space in the second half. (It may not be cut after white
//! space: in "a\n\nb" cut before "b", the two line ends would merge.)

use super::words::last_boundary;
use crate::text::files::Flow;
use std::mem;
use tokenizers::{ModelWrapper, PreTokenizerWrapper, Tokenizer};

/// Least size of a piece in bytes: large enough to make the work per call negligible, small enough
/// to keep all threads busy.
const CHUNK_BYTES: usize = 128 * 1024;

/// Least size of a piece in bytes for tokenizers that do not guarantee equal tokens: few cuts, and
/// only at line ends.
const LINES_BYTES: usize = 1 << 20;

/// Most bytes of a piece without a place to cut, 1 MiB. No word of a written language is so long,
/// but bases of DNA or a text in base64 are. Together with [`super::words::LONGEST_WORD`] it bounds
/// the memory that a text needs, whatever it is.
const LONGEST_CHUNK: usize = 1 << 20;

/// The same for tokenizers that do not guarantee equal tokens: 1 MiB more than the least size of a
/// piece.
const LONGEST_LINES: usize = 2 << 20;

/// Bytes of text that are added at a time. A row may have hundreds of MiB, and each cut copies the
/// text after it.
const STEP: usize = 64 * 1024;

/// Cuts a text into pieces that are encoded separately.
///
/// For a tokenizer that splits text as GPT-2's does, the tokens are those of the whole text. The
/// exception is 1 MiB without a blank or a line end, which is cut between two words. For any other
/// tokenizer the text is cut after a line end, from 1 MiB on, and within a line that is longer than
/// another MiB. There the tokens are those of the pieces. The cuts are always the same for the same
/// text.
pub(crate) struct Chunker {
    portion: Portion,
    cuts_safely: bool,
    /// Added tokens, which a cut must not divide.
    added: Vec<String>,
    /// Up to here the text was searched and has no place to cut.
    searched: usize,
}

/// Text that is encoded by itself.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    pub(crate) text: String,
    /// Ascending offsets at which documents end. The text after such an offset is encoded
    /// separately.
    pub(crate) ends: Vec<usize>,
}

impl Portion {
    /// The documents, or parts of them, each with whether another one follows.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (&str, bool)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ends = self.ends.iter().map(|&end| (end, true)).chain([(self.text.len(), false)]);
        starts.zip(ends).map(|(start, (end, is_ended))| (&self.text[start..end], is_ended))
    }
}

impl Chunker {
    pub(crate) fn new(tokenizer: &super::Tokenizer) -> Self {
        let added = tokenizer.inner.get_added_tokens_decoder();
        let mut added: Vec<String> = added.values().map(|token| token.content.clone()).collect();
        added.sort();
        Self { portion: Portion::default(), cuts_safely: tokenizer.cuts_safely, added, searched: 0 }
    }

    /// Adds text, and hands over the pieces that are complete.
    pub(crate) fn push(&mut self, text: &str, send: &mut dyn FnMut(Portion) -> Flow) -> Flow {
        let mut rest = text;
        while !rest.is_empty() {
            let (step, after) = rest.split_at(rest.floor_char_boundary(STEP));
            if self.push_step(step, send) == Flow::Stop {
                return Flow::Stop;
            }
            rest = after;
        }

        Flow::On
    }

    fn push_step(&mut self, text: &str, send: &mut dyn FnMut(Portion) -> Flow) -> Flow {
        self.portion.text.push_str(text);
        while let Some(cut) = self.next_cut() {
            let rest = Portion { text: self.portion.text.split_off(cut), ends: Vec::new() };
            self.searched = 0;

            if send(mem::replace(&mut self.portion, rest)) == Flow::Stop {
                return Flow::Stop;
            }
        }

        Flow::On
    }

    /// Ends a document that another one follows. Its tokens do not depend on other documents,
    /// because cuts within it count from its own beginning.
    pub(crate) fn end_document(&mut self, send: &mut dyn FnMut(Portion) -> Flow) -> Flow {
        let length = self.portion.text.len();
        self.portion.ends.push(length);
        self.searched = length;

        if length < CHUNK_BYTES {
            return Flow::On;
        }

        self.searched = 0;
        send(mem::take(&mut self.portion))
    }

    /// Hands over the rest.
    pub(crate) fn finish(self, send: &mut dyn FnMut(Portion) -> Flow) {
        if !self.portion.text.is_empty() || !self.portion.ends.is_empty() {
            send(self.portion);
        }
    }

    fn next_cut(&mut self) -> Option<usize> {
        let text = &self.portion.text;
        let begin = self.portion.ends.last().copied().unwrap_or(0);
        let least = begin + if self.cuts_safely { CHUNK_BYTES } else { LINES_BYTES };

        if text.len() < least {
            return None;
        }

        let from = self.searched.max(least);
        let found = if self.cuts_safely {
            next_cut(text, from)
        } else {
            // One byte earlier: the cut is after the line end, which may be the last byte of the
            // least size.
            text.as_bytes()[from - 1..].iter().position(|&byte| byte == b'\n').map(|at| from + at)
        };

        // Everything up to the end was searched. The next search begins at the next byte.
        self.searched = text.len();
        found.or_else(|| self.forced_cut(begin))
    }

    /// Where to cut a document that is too long and has no good place: between two words, and not
    /// within an added token. The document begins at `begin`.
    fn forced_cut(&self, begin: usize) -> Option<usize> {
        let text = &self.portion.text;
        let most = begin + if self.cuts_safely { LONGEST_CHUNK } else { LONGEST_LINES };

        // Waits for one more step of text, so that the text after the cut is known.
        if text.len() < most + STEP {
            return None;
        }

        let most = text.floor_char_boundary(most);
        let from = text.floor_char_boundary(most - STEP);
        let cut = from + last_boundary(&text[from..most]);
        let divided = self.added.iter().filter_map(|token| {
            let begin = text.floor_char_boundary(cut.saturating_sub(token.len()));
            let end = text.ceil_char_boundary((cut + token.len()).min(text.len()));
            let at = begin + text[begin..end].find(token.as_str())?;

            (at < cut && cut < at + token.len()).then_some(at)
        });

        Some(divided.min().filter(|&at| at > begin).unwrap_or(cut))
    }
}

/// `text` in pieces of at least `least` bytes, except the last.
#[cfg(test)]
fn chunks(text: &str, least: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(cut) = next_cut(rest, least) {
        let (piece, after) = rest.split_at(cut);
        pieces.push(piece);
        rest = after;
    }

    pieces.push(rest);
    pieces
}

/// The first blank or line end from `least` on that follows a character other than white space.
fn next_cut(text: &str, least: usize) -> Option<usize> {
    let from = least.max(1);
    let later = text.as_bytes().get(from..)?;
    let blanks = later.iter().enumerate().filter(|(_, byte)| matches!(byte, b' ' | b'\n'));

    blanks
        .map(|(offset, _)| from + offset)
        .find(|&cut| text[..cut].chars().next_back().is_some_and(|before| !before.is_whitespace()))
}

/// Whether a tokenizer splits text as GPT-2's does, so that it may be cut before white space.
pub(super) fn cuts_safely(tokenizer: &Tokenizer) -> bool {
    let splits_as_gpt2 = match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(byte_level)) => {
            byte_level.use_regex && !byte_level.add_prefix_space
        }
        _ => false,
    };

    // Dropout gives equal words different tokens, and added tokens that take white space could span
    // a cut.
    let pairs =
        matches!(tokenizer.get_model(), ModelWrapper::BPE(model) if model.dropout.is_none());
    let plain_tokens = tokenizer.get_added_tokens_decoder().values().all(|token| {
        let widened = token.single_word || token.lstrip || token.rstrip;
        !widened && !token.content.chars().any(char::is_whitespace)
    });

    splits_as_gpt2 && pairs && plain_tokens && tokenizer.get_normalizer().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static GPT2: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::gpt2().unwrap());

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        // Every kind of character that the pre-tokenizer distinguishes, above all white space in
        // all its forms.
        #[test]
        fn law_chunks_encode_as_the_whole(
            text in "([ \n\t\r\u{85}\u{a0}\u{1680}\u{180e}\u{200b}\u{2028}\u{3000}\u{feff}]{0,3}('|'s|'ll|a|Bc|7|\u{660}|é|e\u{301}|中|!|#-|<\\|endoftext\\|>|<\\|end|😀|\u{0}){0,2}){0,12}",
            least in 0_usize..12,
        ) {
            let pieces = chunks(&text, least);
            prop_assert_eq!(pieces.concat(), text.clone());
            let apart: Vec<u32> = pieces.iter().flat_map(|piece| whole(piece)).collect();
            prop_assert_eq!(apart, whole(&text));
        }

        // Compares our own splitting into words, and the memory of them, with the crate's.
        #[test]
        fn law_the_encoder_gives_the_tokens_of_the_crate(
            text in "([ \n\t\r\u{85}\u{a0}\u{1680}\u{180e}\u{200b}\u{2028}\u{3000}\u{feff}]{0,3}('|'s|'ll|'re|'x|a|Bc|7|\u{660}|\u{2160}|½|é|e\u{301}|中|!|#-|<\\|endoftext\\|>|<\\|end|😀|\u{0}){0,2}){0,12}",
            any in any::<String>(),
        ) {
            for text in [text, any] {
                prop_assert_eq!(GPT2.encode(&text).unwrap(), whole(&text));
            }
        }
    }

    #[test]
    fn text_is_cut_before_white_space_only_after_a_word() {
        assert_eq!(chunks("ab  cd\n\nef gh", 1), ["ab", "  cd", "\n\nef", " gh"]);
        assert_eq!(chunks("\n\n\n", 1), ["\n\n\n"]);
        assert_eq!(chunks("", 1), [""]);
        assert_eq!(chunks("a b c d", 3), ["a b", " c d"]);
    }

    #[test]
    fn gpt2_is_cut_and_a_prefixing_tokenizer_is_not() {
        assert!(GPT2.cuts_safely);
        let mut json: serde_json::Value =
            serde_json::from_str(&GPT2.inner.to_string(false).unwrap()).unwrap();
        json["pre_tokenizer"]["add_prefix_space"] = true.into();

        let prefixing = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
        assert!(!cuts_safely(&prefixing));
    }

    /// The pieces of a text that is pushed about `step` bytes at a time.
    fn cut_apart(text: &str, step: usize) -> Vec<String> {
        let mut chunker = Chunker::new(&GPT2);
        let mut pieces = Vec::new();
        let mut send = |piece: Portion| {
            pieces.push(piece.text);
            Flow::On
        };

        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.ceil_char_boundary(step));
            chunker.push(piece, &mut send);
            rest = after;
        }

        chunker.finish(&mut send);
        pieces
    }

    #[test]
    fn law_pieces_do_not_depend_on_how_a_text_arrives() {
        let words = "word and\n another, with some more 世界 words ".repeat(20_000);
        let whole = cut_apart(&words, usize::MAX / 2);
        assert!(whole.len() > 4 && whole.iter().all(|piece| piece.len() < CHUNK_BYTES + 64));
        assert_eq!(whole, cut_apart(&words, 1_000));
        assert_eq!(whole.concat(), words);
    }

    #[test]
    fn regression_a_long_row_is_not_copied_for_each_piece() {
        let mut chunker = Chunker::new(&GPT2);
        let mut pieces = 0;
        let mut send = |_| {
            pieces += 1;
            Flow::On
        };

        chunker.push(&"word and ".repeat(1 << 20), &mut send);
        assert!(pieces > 60);

        assert!(
            chunker.portion.text.capacity() < 4 * LONGEST_CHUNK,
            "{}",
            chunker.portion.text.capacity()
        );
    }

    #[test]
    fn text_without_a_place_to_cut_is_cut_between_words_at_a_stated_length() {
        // Runs of letters and digits, and no blank: a cut between two of them changes no token.
        let runs = "wordы12<|endoftext|>,世界世界!".repeat(120_000);

        for (text, is_exact) in [(runs, true), ("a".repeat(3 << 20), false)] {
            let pieces = cut_apart(&text, 100_000);
            assert!(
                pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= LONGEST_CHUNK + STEP)
            );
            assert_eq!(pieces.concat(), text);

            if is_exact {
                let apart: Vec<u32> =
                    pieces.iter().flat_map(|piece| GPT2.encode(piece).unwrap()).collect();
                assert!(apart == whole(&text));
            }
        }
    }

    fn whole(text: &str) -> Vec<u32> {
        GPT2.inner.encode_fast(text, false).unwrap().get_ids().to_vec()
    }
}
