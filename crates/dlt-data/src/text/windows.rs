//! Inputs and targets out of a token stream.

use crate::{error::DataError, text::stream::TokenStream, tokenizer::END_OF_TEXT};
use dlt_spec::spec::Pipeline;
use std::ops::Range;

/// Why blocks need the end of text, for messages.
pub(crate) const AROUND_BLOCKS: &str = "the pipeline `blocks` puts around each block";

/// Token ids of inputs and of their targets.
pub type InputsAndTargets = (Vec<u32>, Vec<u32>);

/// A token stream cut into windows of T inputs and T targets.
#[derive(Clone, Debug)]
pub struct Windows {
    stream: TokenStream,
    context: usize,
    count: usize,
    cut: Cut,
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Window i is tokens `i T ..= (i + 1) T`: inputs are the first T of them, targets the last.
    Stream,
    /// Window i is block i of T - 1 tokens; inputs are BOS and the block, targets the block and
    /// EOS.
    Blocks { eos: u32 },
}

impl Windows {
    /// Windows that overlap by one token, so that every token except the first is predicted once.
    /// [`Windows::tail`] gives the remainder that does not fill a window.
    ///
    /// # Errors
    /// If the context is 0.
    pub fn stream(stream: TokenStream, context: usize) -> Result<Self, DataError> {
        if context < 1 {
            return Err(DataError::ContextTooShort { context, least: 1 });
        }
        let count = stream.len().saturating_sub(1) / context;
        Ok(Self { stream, context, count, cut: Cut::Stream })
    }

    /// The authors' windows: blocks of T - 1 tokens between BOS and EOS, which are both `eos`.
    ///
    /// # Errors
    /// If the context is below 2.
    pub fn blocks(stream: TokenStream, context: usize, eos: u32) -> Result<Self, DataError> {
        if context < 2 {
            return Err(DataError::ContextTooShort { context, least: 2 });
        }
        let count = stream.len() / (context - 1);
        Ok(Self { stream, context, count, cut: Cut::Blocks { eos } })
    }

    pub(crate) fn new(
        stream: TokenStream,
        pipeline: Pipeline,
        context: usize,
        eos: Option<u32>,
        tokenizer: &str,
    ) -> Result<Self, DataError> {
        match (pipeline, eos) {
            (Pipeline::Stream, _) => Self::stream(stream, context),
            (Pipeline::Blocks, Some(eos)) => Self::blocks(stream, context, eos),
            (Pipeline::Blocks, None) => Err(DataError::NoEndOfText {
                tokenizer: tokenizer.to_owned(),
                expected: END_OF_TEXT.to_owned(),
                wanted: AROUND_BLOCKS,
            }),
        }
    }

    /// Number of whole windows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Tokens that a window predicts, T.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// Writes the inputs and targets of a window, T tokens each.
    ///
    /// # Errors
    /// If there is no such window or a buffer is not T long.
    pub fn fill(
        &self,
        index: usize,
        inputs: &mut [u32],
        targets: &mut [u32],
    ) -> Result<(), DataError> {
        self.check(index.saturating_add(1))?;
        let context = self.context;
        if inputs.len() != context || targets.len() != context {
            return Err(DataError::BadBuffer {
                context,
                inputs: inputs.len(),
                targets: targets.len(),
            });
        }

        match self.cut {
            Cut::Stream => {
                let start = index * context;
                self.stream.read(start, inputs)?;
                targets[..context - 1].copy_from_slice(&inputs[1..]);
                self.stream.read(start + context, &mut targets[context - 1..])?;
            }
            Cut::Blocks { eos } => {
                self.stream.read(index * (context - 1), &mut inputs[1..])?;
                inputs[0] = eos;
                targets[..context - 1].copy_from_slice(&inputs[1..]);
                targets[context - 1] = eos;
            }
        }

        Ok(())
    }

    /// The same windows, but only the first `count` of them.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn first(&self, count: usize) -> Result<Self, DataError> {
        self.check(count)?;
        Ok(Self { count, ..self.clone() })
    }

    /// The tokens of the text that a range of windows predicts (without EOS). A unigram model is
    /// fitted to these tokens, and their bytes count for bits per byte.
    ///
    /// # Errors
    /// If the range ends beyond the last window, or the tokens cannot be read.
    pub fn predicted(&self, windows: Range<usize>) -> Result<Vec<u32>, DataError> {
        self.check(windows.end)?;
        let start = windows.start.min(windows.end);
        let (from, to) = match self.cut {
            Cut::Stream => (start * self.context + 1, windows.end * self.context + 1),
            Cut::Blocks { .. } => (start * (self.context - 1), windows.end * (self.context - 1)),
        };

        self.ids(from, to)
    }

    /// Inputs and targets of the tokens after the last whole window, fewer than T of each. `None`
    /// if nothing is left, if these are only the [first](Windows::first) windows, or for blocks,
    /// whose remainder is dropped.
    ///
    /// # Errors
    /// If the tokens cannot be read.
    pub fn tail(&self) -> Result<Option<InputsAndTargets>, DataError> {
        let start = self.count * self.context;
        let end = self.stream.len();
        let left = end.saturating_sub(start + 1);

        // With only the first windows, T or more tokens are left.
        if !matches!(self.cut, Cut::Stream) || !(1..self.context).contains(&left) {
            return Ok(None);
        }

        let ids = self.ids(start, end)?;
        Ok(Some((ids[..left].to_vec(), ids[1..].to_vec())))
    }

    fn ids(&self, from: usize, to: usize) -> Result<Vec<u32>, DataError> {
        let mut ids = vec![0; to - from];
        self.stream.read(from, &mut ids)?;
        Ok(ids)
    }

    fn check(&self, asked: usize) -> Result<(), DataError> {
        let count = self.count;
        let context = self.context;

        if asked <= count {
            Ok(())
        } else {
            Err(DataError::TooFewWindows { asked, count, context })
        }
    }
}
