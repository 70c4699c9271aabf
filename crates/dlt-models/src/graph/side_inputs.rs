//! What a graph reads of a batch besides its input. None of it has a gradient.

use std::cell::RefCell;

use candle_core::Tensor;
use dlt_kernels::KeyValues;

/// No side inputs.
pub(crate) static NOTHING: SideInputs =
    SideInputs { types: None, lengths: None, rows: None, first: Vec::new() };

/// What operations read besides the values of the graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct SideInputs {
    /// Types of tokens (B, T).
    pub(crate) types: Option<Tensor>,
    /// Tokens of each window that attention sees; all if it is absent.
    pub(crate) lengths: Option<Vec<usize>>,
    /// Rows that the head reads; all if it is absent.
    pub(crate) rows: Option<Rows>,
    /// Position of each window's first token; 0 for all if it is empty.
    pub(crate) first: Vec<usize>,
}

/// Rows that a head reads.
#[derive(Clone, Debug)]
pub(crate) enum Rows {
    /// These rows, by their number among all B x T.
    Picked(Tensor),
    /// For each window the mean of its first rows; this is their number.
    Mean(Vec<usize>),
}

/// How many rows a head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// All.
    All,
    /// This many single ones.
    Picked(usize),
    /// One mean for each window.
    Mean,
}

/// The keys and values of all sequences at one layer, and which sequences the windows of the next
/// batch continue.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) values: RefCell<KeyValues>,
    pub(crate) sequences: Vec<usize>,
}
