//! What a graph reads of a batch beside its input. Nothing of it has a gradient.

use std::cell::RefCell;

use candle_core::Tensor;
use dlt_kernels::KeyValues;

/// Nothing.
pub(crate) static NOTHING: SideInputs =
    SideInputs { types: None, lengths: None, rows: None, first: Vec::new() };

/// What operations read beside values.
#[derive(Clone, Debug, Default)]
pub(crate) struct SideInputs {
    /// Types of tokens (B, T).
    pub(crate) types: Option<Tensor>,
    /// Tokens of each window that attention sees; all where it is absent.
    pub(crate) lengths: Option<Vec<usize>>,
    /// Rows that the head reads; all where it is absent.
    pub(crate) rows: Option<Rows>,
    /// Position of each window's first token; 0 where it is empty.
    pub(crate) first: Vec<usize>,
}

/// Rows that a head reads.
#[derive(Clone, Debug)]
pub(crate) enum Rows {
    /// These, by their number among all B x T.
    Picked(Tensor),
    /// The mean of the first ones of each window: so many.
    Mean(Vec<usize>),
}

/// How many rows a head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// All.
    All,
    /// So many single ones.
    Picked(usize),
    /// One mean for each window.
    Mean,
}

/// Keys and values that one layer has seen of sequences under way, and which of them the windows go
/// on with.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) values: RefCell<KeyValues>,
    pub(crate) sequences: Vec<usize>,
}
