//! Examples as token ids, framed, truncated and padded.

use super::Example;
use crate::{error::DataError, tokenizer::Tokenizer};
use dlt_spec::spec::{Framing as FramingWord, Marks};

/// The tokens around and between sentences, and the padding after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Before the first sentence.
    pub begin: Option<u32>,
    /// Between two sentences.
    pub between: Option<u32>,
    /// After the last sentence.
    pub end: Option<u32>,
    /// The token that fills up a row on its right.
    pub padding: u32,
    /// Whether the mask excludes the padding.
    pub masks_padding: bool,
}

impl Framing {
    /// As BERT was trained: `[CLS] a [SEP] b [SEP]`, padded with `[PAD]`, which is masked.
    ///
    /// # Errors
    /// If the tokenizer lacks one of these tokens.
    pub fn bert(tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let id = |token: &'static str| needed(tokenizer, token);
        let begin = Some(id("[CLS]")?);
        let separator = Some(id("[SEP]")?);

        Ok(Self {
            begin,
            between: separator,
            end: separator,
            padding: id("[PAD]")?,
            masks_padding: true,
        })
    }

    /// For GPT-2, whose only special token is the end of text. It is put between two sentences and
    /// after the last, and fills up rows, masked.
    ///
    /// # Errors
    /// If the tokenizer has no token that ends a text.
    pub fn gpt2(tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let end = end_of_text(tokenizer)?;
        Ok(Self {
            begin: None,
            between: Some(end),
            end: Some(end),
            padding: end,
            masks_padding: true,
        })
    }

    /// As in the authors' code: nothing around or between sentences, rows filled up with the end of
    /// text, and no mask.
    ///
    /// # Errors
    /// If the tokenizer has no token that ends a text.
    pub fn reference(tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let padding = end_of_text(tokenizer)?;
        Ok(Self { begin: None, between: None, end: None, padding, masks_padding: false })
    }

    /// The framing that a spec requests. For marked sentences it is the tokenizer's own template,
    /// if the template is to be used and has at most one token in each place. Otherwise it is that
    /// of BERT if the tokenizer has its tokens, else that of GPT-2.
    ///
    /// # Errors
    /// If the tokenizer has no token for it.
    pub fn of(
        tokenizer: &Tokenizer,
        framing: FramingWord,
        marks: Marks,
    ) -> Result<Self, DataError> {
        match framing {
            FramingWord::Bare => Self::reference(tokenizer),
            FramingWord::Marked => {
                let own = if marks == Marks::Template { Self::template(tokenizer) } else { None };
                own.map_or_else(|| Self::bert(tokenizer).or_else(|_| Self::gpt2(tokenizer)), Ok)
            }
        }
    }

    fn template(tokenizer: &Tokenizer) -> Option<Self> {
        let one = |ids: &[u32]| match ids {
            [] => Some(None),
            [only] => Some(Some(*only)),
            _ => None,
        };

        let template = tokenizer.template().filter(|template| !template.single.is_empty())?;
        let begin = one(&template.single.before)?;
        let between = one(&template.between)?;
        let padding = tokenizer.special().padding.or_else(|| tokenizer.eos())?;

        Some(Self {
            begin,
            between,
            end: one(&template.single.after)?,
            padding,
            masks_padding: true,
        })
    }

    /// Number of tokens that are put around one sentence or two.
    fn added(&self, is_pair: bool) -> usize {
        let between = if is_pair { self.between } else { None };
        [self.begin, between, self.end].iter().flatten().count()
    }
}

fn needed(tokenizer: &Tokenizer, token: &str) -> Result<u32, DataError> {
    tokenizer.id_of(token).ok_or_else(|| DataError::BadTokenizer {
        name: tokenizer.id().to_owned(),
        reason: format!("it has no token {token}, which is put around sentences"),
    })
}

fn end_of_text(tokenizer: &Tokenizer) -> Result<u32, DataError> {
    tokenizer.eos().ok_or_else(|| DataError::BadTokenizer {
        name: tokenizer.id().to_owned(),
        reason: "it has no token that ends a text, which is used to fill up rows".to_owned(),
    })
}

/// Examples as token ids, framed and truncated, and their classes.
#[derive(Clone, Debug)]
pub struct SentenceIds {
    rows: Vec<EncodedExample>,
    framing: Framing,
    longest: usize,
}

#[derive(Clone, Debug)]
struct EncodedExample {
    ids: Vec<u32>,
    /// Where the second sentence begins, for token types.
    second: usize,
    label: Option<u32>,
}

/// A batch: B rows of T token ids each, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentenceBatch {
    /// Rows, B.
    pub rows: usize,
    /// Tokens of a row, T.
    pub width: usize,
    /// Token ids, B x T.
    pub ids: Vec<u32>,
    /// 0 in the first sentence and its frame, 1 in the second sentence and its frame, 0 in the
    /// padding; B x T.
    pub types: Vec<u32>,
    /// 1 for tokens that a model sees, else 0, B x T.
    pub mask: Vec<u8>,
    /// Tokens of each row without padding, B. The last real token is at this index minus one.
    pub lengths: Vec<usize>,
    /// Whether the mask excludes the padding.
    pub masks_padding: bool,
    /// Classes, B.
    pub labels: Vec<Option<u32>>,
}

impl SentenceIds {
    /// Encodes examples into rows of at most `longest` tokens, including the frame. An example that
    /// is too long loses tokens at the end of its longer sentence first, as with the fast
    /// tokenizers of BERT and GPT-2.
    ///
    /// # Errors
    /// If the frame alone fills a row, or the tokenizer fails.
    pub fn new(
        examples: &[Example],
        tokenizer: &Tokenizer,
        framing: &Framing,
        longest: usize,
    ) -> Result<Self, DataError> {
        let frame = framing.added(true);
        if longest <= frame {
            return Err(DataError::BadSetting {
                what: "longest row of sentences",
                expected: format!("more than the {frame} tokens of the frame"),
                got: longest.to_string(),
            });
        }

        let row = |example: &Example| -> Result<EncodedExample, DataError> {
            let mut first = tokenizer.encode(&example.first)?;
            let mut second = match &example.second {
                Some(text) => tokenizer.encode(text)?,
                None => Vec::new(),
            };

            let is_pair = example.second.is_some();
            let room = longest - framing.added(is_pair);
            let (kept, kept_second) = truncated_lengths(first.len(), second.len(), room);

            first.truncate(kept);
            second.truncate(kept_second);

            let mut ids: Vec<u32> = framing.begin.into_iter().chain(first).collect();
            ids.extend(framing.between.filter(|_| is_pair));

            let start = ids.len();
            ids.extend(second);
            ids.extend(framing.end);

            let second = if is_pair { start } else { ids.len() };
            Ok(EncodedExample { ids, second, label: example.label })
        };

        let rows = examples.iter().map(row).collect::<Result<_, _>>()?;
        Ok(Self { rows, framing: framing.clone(), longest })
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The classes of the examples that have one, in order.
    pub(crate) fn labels(&self) -> impl Iterator<Item = u32> {
        self.rows.iter().filter_map(|row| row.label)
    }

    /// Tokens of all rows, without padding.
    pub(crate) fn tokens(&self) -> usize {
        self.rows.iter().map(|row| row.ids.len()).sum()
    }

    /// Tokens of the widest batch that is possible.
    pub(crate) fn widest(&self) -> usize {
        if self.pads_fully() {
            self.longest
        } else {
            self.rows.iter().map(|row| row.ids.len()).max().unwrap_or(0)
        }
    }

    /// Whether rows are always filled up to `longest`. This is needed if the model sees the
    /// padding: otherwise its result would depend on the other rows of a batch.
    pub(crate) fn pads_fully(&self) -> bool {
        !self.framing.masks_padding
    }

    /// These examples as a batch, as wide as its longest row.
    ///
    /// # Errors
    /// If there is no such example.
    pub fn batch(&self, indices: &[usize]) -> Result<SentenceBatch, DataError> {
        let width = indices.iter().filter_map(|&index| Some(self.rows.get(index)?.ids.len())).max();
        self.batch_of_width(indices, width.unwrap_or(0))
    }

    /// These examples as a batch of the width `longest`.
    ///
    /// # Errors
    /// If there is no such example.
    pub fn full_batch(&self, indices: &[usize]) -> Result<SentenceBatch, DataError> {
        self.batch_of_width(indices, self.longest)
    }

    fn batch_of_width(&self, indices: &[usize], width: usize) -> Result<SentenceBatch, DataError> {
        let cells = indices.len() * width;
        let mut batch = SentenceBatch {
            rows: indices.len(),
            width,
            ids: Vec::with_capacity(cells),
            types: Vec::with_capacity(cells),
            mask: Vec::with_capacity(cells),
            lengths: Vec::with_capacity(indices.len()),
            masks_padding: self.framing.masks_padding,
            labels: Vec::with_capacity(indices.len()),
        };

        for &index in indices {
            let count = self.rows.len();
            let row = self.rows.get(index).ok_or(DataError::BadPosition { index, count })?;
            let length = row.ids.len();

            batch.ids.extend_from_slice(&row.ids);
            batch.ids.extend(std::iter::repeat_n(self.framing.padding, width - length));
            batch.types.extend((0..width).map(|at| u32::from((row.second..length).contains(&at))));

            let sees_padding = !self.framing.masks_padding;
            batch.mask.extend((0..width).map(|at| u8::from(at < length || sees_padding)));
            batch.lengths.push(length);
            batch.labels.push(row.label);
        }

        Ok(batch)
    }
}

/// How many tokens two sequences keep if they have to share `room`. The longer one is cut to what
/// the shorter leaves. If that is not enough, each gets half, and the longer one gets the odd
/// token.
#[must_use]
pub fn truncated_lengths(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }

    let shorter = first.min(second);
    let (shorter, longer) = match room.checked_sub(shorter) {
        Some(rest) if rest >= shorter => (shorter, rest),
        _ => (room / 2, room - room / 2),
    };

    if first > second { (longer, shorter) } else { (shorter, longer) }
}
