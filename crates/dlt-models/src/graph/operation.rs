//! What an operation of a graph has to know of itself.

use std::fmt::Debug;

use candle_core::Tensor;
use dlt_kernels::{Dropout, Kernels};

use super::side_inputs::{Caches, SideInputs};
use crate::architecture::DropoutPass;
use crate::{ModelError, Result};

/// An operation with a hand-written backward pass.
pub(crate) trait Operation: Debug + Send + Sync {
    /// The result; and, where `saving`, what [`reads`](Self::reads) calls saved.
    fn forward(&self, call: &Call<'_>, saving: bool) -> Result<Outcome>;

    /// Gradients of the inputs, in their order; none of what is data. Those of parameters are added
    /// to `into`, where it is given.
    fn backward(
        &self,
        call: &Call<'_>,
        values: &SavedValues<'_>,
        into: ParameterSums<'_>,
    ) -> Result<Vec<Tensor>>;

    /// What the backward pass reads, with or without gradients of parameters.
    fn reads(&self, trains: bool) -> Reads;

    /// Where the result can be found again for less than keeping it costs.
    fn recomputed_from(&self) -> RecomputedFrom {
        RecomputedFrom::Nothing
    }

    /// The result again, from what was saved.
    fn recompute(&self, _call: &Call<'_>, _saved: &Tensor) -> Result<Tensor> {
        Err(absent("a way to find a result again"))
    }

    /// Bytes of what is saved, for an input of this shape and activations of so many bytes a
    /// number.
    fn saved_bytes(&self, _input: &[usize], _activation: usize) -> usize {
        0
    }
}

/// Gradients of parameters under way, by number in the layout; `None` where nobody wants them.
pub(crate) type ParameterSums<'a> = Option<&'a mut [Option<Tensor>]>;

/// A result and what is saved beside it.
pub(crate) struct Outcome {
    pub(crate) value: Tensor,
    pub(crate) saved: Option<Tensor>,
}

impl From<Tensor> for Outcome {
    fn from(value: Tensor) -> Self {
        Self { value, saved: None }
    }
}

/// What the backward pass of an operation reads, beside the gradient of its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) inputs: bool,
    pub(crate) result: bool,
    pub(crate) saved: bool,
}

/// Where a result can be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecomputedFrom {
    /// It has to be kept.
    Nothing,
    /// By the same operation on its inputs.
    Inputs,
    /// By [`Operation::recompute`] from what was saved.
    Saved,
}

/// What an operation computes with.
pub(crate) struct Call<'a> {
    pub(crate) kernels: Kernels,
    pub(crate) parameters: &'a [Tensor],
    pub(crate) dropout: Option<DropoutPass>,
    /// Number of this stretch's first place for dropout in the whole model.
    pub(crate) first_site: usize,
    /// Factor of the residual branches of the layer that runs.
    pub(crate) residual_factor: f64,
    pub(crate) side_inputs: &'a SideInputs,
    /// What generation has seen so far, where it goes on.
    pub(crate) caches: Option<&'a Caches>,
    /// Windows of the stretch's input, B, and their positions, T.
    pub(crate) window_dims: [usize; 2],
    /// Whether each input is data, whose gradient nobody asks for.
    pub(crate) data: Vec<bool>,
    /// `None` where the backward pass does not read them.
    pub(crate) inputs: Vec<Option<Tensor>>,
}

impl Call<'_> {
    pub(crate) fn input(&self, index: usize) -> Result<&Tensor> {
        self.inputs.get(index).and_then(Option::as_ref).ok_or_else(|| absent("an input"))
    }

    pub(crate) fn parameter(&self, index: usize) -> Result<&Tensor> {
        self.parameters.get(index).ok_or_else(|| absent("a parameter"))
    }

    pub(crate) fn is_data(&self, index: usize) -> bool {
        self.data.get(index).copied().unwrap_or(false)
    }

    /// What residual branches are multiplied by, in the format of activations that kernels take;
    /// `None` where that is 1.
    pub(crate) fn scaling(&self) -> Option<f32> {
        (self.residual_factor != 1.0).then_some(self.residual_factor as f32)
    }

    /// Dropout at a place of this stretch, of `per_window` numbers a window.
    pub(crate) fn dropout_at(&self, site: usize, per_window: usize) -> Option<Dropout> {
        self.dropout.and_then(|dropout| dropout.at(self.first_site + site, per_window))
    }
}

/// What the backward pass of an operation starts from.
pub(crate) struct SavedValues<'a> {
    /// Gradient of the result.
    pub(crate) gradient: &'a Tensor,
    result: Option<&'a Tensor>,
    saved: Option<&'a Tensor>,
}

impl<'a> SavedValues<'a> {
    pub(crate) fn new(
        gradient: &'a Tensor,
        result: Option<&'a Tensor>,
        saved: Option<&'a Tensor>,
    ) -> Self {
        Self { gradient, result, saved }
    }

    pub(crate) fn result(&self) -> Result<&'a Tensor> {
        self.result.ok_or_else(|| absent("a result"))
    }

    pub(crate) fn saved(&self) -> Result<&'a Tensor> {
        self.saved.ok_or_else(|| absent("a saved value"))
    }
}

/// An operation reads what it did not announce: a bug of the graph.
pub(crate) fn absent(what: &str) -> ModelError {
    candle_core::Error::Msg(format!("a graph runs without {what} that it needs")).into()
}
