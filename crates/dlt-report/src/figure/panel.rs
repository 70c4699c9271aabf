//! One heat map of a figure of correlations.

use std::ops::Range;

use crate::correlation::Correlations;

/// A heat map of one model.
#[derive(Clone, Debug)]
pub struct CorrelationPanel<'a> {
    /// What the model is, for example "tied".
    pub name: &'a str,
    /// Its correlations.
    pub correlations: &'a Correlations,
    /// Range of the shades; `None` chooses it from the data.
    pub range: Option<Range<f64>>,
}
