//! What a model sees, and what it is to predict.

use std::ops::Range;

use candle_core::{Device, Tensor};
use dlt_spec::size::CHANNELS;
use dlt_spec::spec::Pooling;

use crate::architecture::{Architecture, StemInput};
use crate::families::bert::TOKEN_TYPES;
use crate::graph::{Reading, Rows, SideInputs};
use crate::{ModelError, Result};

/// Windows of tokens or pictures with what is to be predicted, as host arrays.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What the model sees.
    pub input: Input<'a>,
    /// What it is to predict.
    pub wanted: Wanted<'a>,
    /// Number of windows, B.
    pub windows: usize,
}

/// What a model sees.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Windows of tokens.
    Tokens(Tokens<'a>),
    /// Normalised pixels, B x 3 x S x S.
    Pictures(&'a [f32]),
}

/// Windows of T tokens each, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Token ids, B x T.
    pub ids: &'a [u32],
    /// 0 in the first sentence, 1 in the second, B x T; all 0 if it is absent.
    pub types: Option<&'a [u32]>,
    /// Number of tokens in each window that are not padding, B; all T if it is absent.
    pub lengths: Option<&'a [usize]>,
    /// Whether attention sees the padding.
    pub padding: Padding,
}

impl<'a> Tokens<'a> {
    /// Tokens of type 0, without padding.
    #[must_use]
    pub fn of(ids: &'a [u32]) -> Self {
        Self { ids, types: None, lengths: None, padding: Padding::Hidden }
    }

    fn of_windows(self, windows: Range<usize>, tokens: usize) -> Self {
        let range = windows.start * tokens..windows.end * tokens;
        Self {
            ids: &self.ids[range.clone()],
            types: self.types.map(|types| &types[range]),
            lengths: self.lengths.map(|lengths| &lengths[windows]),
            padding: self.padding,
        }
    }
}

/// Whether attention sees the padding after a window's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// No token attends to it.
    Hidden,
    /// Tokens attend to it like to any other token: the authors' reading of GLUE (DEVIATIONS row
    /// 24).
    Seen,
}

/// What a model is to predict.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// A token at each position, B x T.
    Every(&'a [u32]),
    /// A token at the positions that have one, B x T.
    Some(&'a [Option<u32>]),
    /// One class for each window, B.
    Classes(&'a [u32]),
}

impl<'a> Wanted<'a> {
    /// Number of predictions.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Every(tokens) => tokens.len(),
            Self::Some(tokens) => tokens.iter().flatten().count(),
            Self::Classes(labels) => labels.len(),
        }
    }

    fn of_windows(self, windows: Range<usize>, tokens: usize) -> Self {
        let range = windows.start * tokens..windows.end * tokens;
        match self {
            Self::Every(targets) => Self::Every(&targets[range]),
            Self::Some(targets) => Self::Some(&targets[range]),
            Self::Classes(labels) => Self::Classes(&labels[windows]),
        }
    }
}

impl<'a> Batch<'a> {
    /// Windows of tokens, and the token that follows each of them: B x T ids each.
    #[must_use]
    pub fn next_token(inputs: &'a [u32], targets: &'a [u32], windows: usize) -> Self {
        Self { input: Input::Tokens(Tokens::of(inputs)), wanted: Wanted::Every(targets), windows }
    }

    /// Number of predictions: tokens or classes.
    #[must_use]
    pub fn n_predictions(&self) -> usize {
        self.wanted.count()
    }

    /// Number of tokens that pass through the blocks, padding included; for pictures, their number.
    #[must_use]
    pub fn n_inputs(&self) -> usize {
        match self.input {
            Input::Tokens(tokens) => tokens.ids.len(),
            Input::Pictures(_) => self.windows,
        }
    }

    /// The batch in pieces of at most `windows` windows, with the number of each piece's first
    /// window.
    pub fn pieces(self, windows: usize) -> impl Iterator<Item = (usize, Batch<'a>)> {
        (0..self.windows).step_by(windows.max(1)).map(move |first| {
            let range = first..first.saturating_add(windows.max(1)).min(self.windows);
            (first, self.of_windows(range))
        })
    }

    /// Some of the windows, with what is to be predicted in them.
    ///
    /// # Panics
    /// Panics for windows that the batch does not have.
    #[must_use]
    pub fn of_windows(self, range: Range<usize>) -> Self {
        let per_window = |n: usize| n / self.windows.max(1);
        let (input, tokens) = match self.input {
            Input::Tokens(all) => {
                let tokens = per_window(all.ids.len());
                (Input::Tokens(all.of_windows(range.clone(), tokens)), tokens)
            }
            Input::Pictures(pixels) => {
                let size = per_window(pixels.len());

                // Pictures have classes only, for which the number of tokens does not matter.
                (Input::Pictures(&pixels[range.start * size..range.end * size]), 1)
            }
        };

        Self { input, wanted: self.wanted.of_windows(range.clone(), tokens), windows: range.len() }
    }
}

/// A batch on the device, checked.
pub(crate) struct Prepared {
    /// Token ids (B, T), or patches (B, N, 3 P P).
    pub(crate) input: Tensor,
    /// Ids of the tokens or classes to predict (N), in the order of the rows that the head reads.
    pub(crate) targets: Tensor,
    pub(crate) side_inputs: SideInputs,
    pub(crate) dims: Dims,
}

/// The shape of a batch, as the graphs of a model need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dims {
    /// Windows, B.
    pub(crate) windows: usize,
    /// Positions that pass through the blocks, T.
    pub(crate) tokens: usize,
    /// Which of them the head reads.
    pub(crate) reading: Reading,
}

impl Batch<'_> {
    /// The batch on the device.
    ///
    /// # Errors
    /// [`ModelError::Batch`] if it does not fit the model.
    pub(crate) fn prepare(
        &self,
        architecture: &dyn Architecture,
        device: &Device,
    ) -> Result<Prepared> {
        let (input, tokens, mut side_inputs) =
            self.input.prepare(self.windows, architecture, device)?;
        let (targets, reading) = self.targets(tokens, architecture, &mut side_inputs, device)?;
        let dims = Dims { windows: self.windows, tokens, reading };
        Ok(Prepared { input, targets, side_inputs, dims })
    }

    /// The ids to predict, and how many rows the head reads for them. Adds these rows to
    /// `side_inputs`.
    fn targets(
        &self,
        tokens: usize,
        architecture: &dyn Architecture,
        side_inputs: &mut SideInputs,
        device: &Device,
    ) -> Result<(Tensor, Reading)> {
        let rows = architecture.output().rows;
        let (ids, reading, expected): (Vec<u32>, _, _) = match self.wanted {
            Wanted::Every(targets) => (targets.to_vec(), Reading::All, self.windows * tokens),
            Wanted::Some(targets) => {
                if targets.len() != self.windows * tokens {
                    return refuse(
                        format!("{} places of targets", self.windows * tokens),
                        targets.len().to_string(),
                    );
                }

                // Numbers of the rows among all B T, and the ids to predict there.
                let named =
                    targets.iter().zip(0u32..).filter_map(|(target, at)| Some((at, (*target)?)));
                let (places, ids): (Vec<u32>, Vec<u32>) = named.unzip();
                if ids.is_empty() {
                    return refuse("at least one target".to_owned(), "none".to_owned());
                }

                let count = places.len();
                side_inputs.rows = Some(Rows::Picked(Tensor::from_vec(places, count, device)?));
                (ids, Reading::Picked(count), count)
            }
            Wanted::Classes(labels) => {
                let (rows, reading) =
                    pooled(self, tokens, architecture.head_settings().pooling, device)?;
                side_inputs.rows = Some(rows);
                (labels.to_vec(), reading, self.windows)
            }
        };

        if ids.len() != expected {
            return refuse(format!("{expected} targets"), ids.len().to_string());
        }

        if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
            let what =
                if matches!(self.wanted, Wanted::Classes(_)) { "classes" } else { "token ids" };
            return refuse(format!("{what} below {rows}"), id.to_string());
        }

        let count = ids.len();
        Ok((Tensor::from_vec(ids, count, device)?, reading))
    }
}

/// The rows that a head for classes reads: one for each window, or means.
fn pooled(
    batch: &Batch<'_>,
    tokens: usize,
    pooling: Pooling,
    device: &Device,
) -> Result<(Rows, Reading)> {
    let windows = batch.windows;
    // Without lengths, and for pictures, nothing is padding.
    let lengths = match batch.input {
        Input::Tokens(Tokens { lengths: Some(lengths), .. }) => lengths.to_vec(),
        _ => vec![tokens; windows],
    };

    let place = |window: usize| match pooling {
        Pooling::First | Pooling::Mean => 0,
        Pooling::LastReal => lengths[window] - 1,
        Pooling::LastPosition => tokens - 1,
    };

    if pooling == Pooling::Mean {
        return Ok((Rows::Mean(lengths), Reading::Mean));
    }

    let places: Vec<u32> =
        (0..windows).map(|window| (window * tokens + place(window)) as u32).collect();
    Ok((Rows::Picked(Tensor::from_vec(places, windows, device)?), Reading::Picked(windows)))
}

impl Input<'_> {
    /// The input on the device, the positions of a window, T, and the side inputs.
    ///
    /// # Shapes
    /// (B, T) ids, or (B, N, 3 P P) patches with T = N + 1.
    pub(crate) fn prepare(
        &self,
        windows: usize,
        architecture: &dyn Architecture,
        device: &Device,
    ) -> Result<(Tensor, usize, SideInputs)> {
        match (self, architecture.stem_input()) {
            (Self::Tokens(tokens), StemInput::Tokens { vocabulary, .. }) => {
                tokens.prepare(windows, vocabulary, device)
            }
            (Self::Pictures(pixels), StemInput::Pictures { side, patch }) => {
                let expected = windows * CHANNELS * side * side;
                if pixels.len() != expected || windows == 0 {
                    let got = format!("{} numbers in {windows} pictures", pixels.len());
                    return refuse(format!("pictures of {CHANNELS} x {side} x {side}"), got);
                }

                // (B 3, N', P, N', P) -> (B, 3, N', P, N', P) -> (B, N', N', 3, P, P)
                // -> (B, N, 3 P P), with N' patches along a side and N = N' N'.
                let along = side / patch;
                let pixels = Tensor::from_slice(
                    pixels,
                    (windows * CHANNELS, along, patch, along, patch),
                    device,
                )?
                .reshape(&[windows, CHANNELS, along, patch, along, patch])?
                .permute([0, 2, 4, 1, 3, 5])?
                .contiguous()?
                .reshape((windows, along * along, CHANNELS * patch * patch))?;

                // The stem adds a class token to the patches.
                Ok((pixels, along * along + 1, SideInputs::default()))
            }
            (Self::Tokens(_), StemInput::Pictures { .. }) => {
                refuse("pictures".to_owned(), "tokens".to_owned())
            }
            (Self::Pictures(_), StemInput::Tokens { .. }) => {
                refuse("tokens".to_owned(), "pictures".to_owned())
            }
        }
    }
}

impl Tokens<'_> {
    fn prepare(
        &self,
        windows: usize,
        vocabulary: usize,
        device: &Device,
    ) -> Result<(Tensor, usize, SideInputs)> {
        let n = self.ids.len();
        if windows == 0 || n == 0 || !n.is_multiple_of(windows) {
            let got = format!("{n} tokens in {windows} windows");
            return refuse("tokens in windows of one length".to_owned(), got);
        }

        let tokens = n / windows;
        if let Some(id) = self.ids.iter().find(|&&id| id as usize >= vocabulary) {
            return refuse(format!("token ids below {vocabulary}"), id.to_string());
        }

        let types = match self.types {
            None => None,
            Some(types) => {
                let is_type = |&kind: &u32| (kind as usize) < TOKEN_TYPES;
                if types.len() != n || !types.iter().all(is_type) {
                    let got = format!("{} of them, up to {:?}", types.len(), types.iter().max());
                    return refuse(format!("{n} token types below {TOKEN_TYPES}"), got);
                }

                Some(Tensor::from_slice(types, (windows, tokens), device)?)
            }
        };

        if let Some(lengths) = self.lengths
            && (lengths.len() != windows
                || lengths.iter().any(|length| !(1..=tokens).contains(length)))
        {
            return refuse(format!("{windows} lengths from 1 to {tokens}"), format!("{lengths:?}"));
        }

        // Attention gets lengths only if a window is padded and padding is hidden.
        let is_padded = |lengths: &&[usize]| lengths.iter().any(|&length| length < tokens);
        let hidden = self.lengths.filter(|_| self.padding == Padding::Hidden).filter(is_padded);
        let side_inputs =
            SideInputs { types, lengths: hidden.map(<[usize]>::to_vec), ..SideInputs::default() };

        Ok((Tensor::from_slice(self.ids, (windows, tokens), device)?, tokens, side_inputs))
    }
}

fn refuse<T>(expected: String, got: String) -> Result<T> {
    Err(ModelError::Batch { expected, got })
}
