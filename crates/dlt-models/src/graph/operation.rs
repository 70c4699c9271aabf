//! What an operation of a graph has to say about itself.

use std::fmt::Debug;

use candle_core::Tensor;
use dlt_kernels::{Dropout, Kernels, Packs, Weight};

use super::side_inputs::{Caches, SideInputs};
use crate::architecture::DropoutPass;
use crate::{ModelError, Result};

/// An operation with a hand-written backward pass.
pub(crate) trait Operation: Debug + Send + Sync {
    /// The result. With `saving` also the tensor that [`reads`](Self::reads) calls saved.
    fn forward(&self, call: &Call<'_>, saving: bool) -> Result<Outcome>;

    /// Gradients of the inputs, in their order. An input that is data has none. Gradients of
    /// parameters are added to `into`, if there is one.
    fn backward(&self, back: &Backward<'_>, into: ParameterSums<'_>) -> Result<Vec<Tensor>>;

    /// What the backward pass reads, if it computes gradients of these parameters.
    fn reads(&self, _trained: Trained<'_>) -> Reads {
        Reads::default()
    }

    /// What the result is computed from again, if that is cheaper than to keep it.
    fn recomputed_from(&self) -> RecomputedFrom {
        RecomputedFrom::Nothing
    }

    /// The result, computed again from the saved tensor.
    fn recompute(&self, _call: &Call<'_>, _saved: &Tensor) -> Result<Tensor> {
        Err(absent("a way to compute a result again"))
    }

    /// Bytes of the saved tensor for an input of this shape; `activation` is the bytes of one
    /// number of an activation.
    fn saved_bytes(&self, _input: &[usize], _activation: usize) -> usize {
        0
    }

    /// Most bytes that either pass holds at once besides its inputs and results, for an input of
    /// this shape.
    fn working_bytes(&self, _input: &[usize], _activation: usize) -> usize {
        0
    }

    /// Whether the operation makes f32 copies of activations of another format while it runs on the
    /// CPU.
    fn widens(&self) -> bool {
        false
    }
}

/// Sums of the parameters' gradients, by number in the layout; `None` if no parameter trains.
pub(crate) type ParameterSums<'a> = Option<&'a mut [Option<Tensor>]>;

/// The parameters of a graph that get gradients.
#[derive(Clone, Copy, Debug)]
pub enum Trained<'a> {
    /// None of them.
    Nothing,
    /// Those that are marked, by number in the layout.
    Marked(&'a [bool]),
    /// All of them.
    All,
}

impl Trained<'_> {
    /// Whether the parameter of this number does.
    pub(crate) fn has(self, number: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Marked(marked) => marked[number],
            Self::All => true,
        }
    }

    /// Whether any parameter does.
    pub(crate) fn has_any(self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// A result, and what is saved for the backward pass besides.
pub(crate) struct Outcome {
    pub(crate) value: Tensor,
    pub(crate) saved: Option<Tensor>,
}

impl From<Tensor> for Outcome {
    fn from(value: Tensor) -> Self {
        Self { value, saved: None }
    }
}

/// What the backward pass of an operation reads besides the gradient of its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) inputs: bool,
    pub(crate) result: bool,
    pub(crate) saved: bool,
}

/// What a result can be computed from again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecomputedFrom {
    /// Nothing: the result has to be kept.
    Nothing,
    /// The inputs, by the same operation.
    Inputs,
    /// The saved tensor, by [`Operation::recompute`].
    Saved,
}

/// What an operation computes with.
pub(crate) struct Call<'a> {
    pub(crate) kernels: Kernels,
    pub(crate) parameters: &'a [Tensor],
    pub(crate) packs: Option<BlockPacks<'a>>,
    pub(crate) trained: Trained<'a>,
    pub(crate) dropout: Option<DropoutPass>,
    /// Number of this graph's first dropout site in the whole model.
    pub(crate) first_site: usize,
    /// Factor of the residual branches of the layer that runs.
    pub(crate) residual_factor: f64,
    pub(crate) side_inputs: &'a SideInputs,
    /// Keys and values of the tokens so far, if generation continues sequences.
    pub(crate) caches: Option<&'a Caches>,
    /// Windows of the graph's input, B, and their positions, T.
    pub(crate) window_dims: [usize; 2],
    /// For each input, whether it is data, so that its gradient is not computed.
    pub(crate) data: Vec<bool>,
    /// In the backward pass `None`, unless the operation says that it reads them.
    pub(crate) inputs: Vec<Option<Tensor>>,
}

impl Call<'_> {
    pub(crate) fn input(&self, index: usize) -> Result<&Tensor> {
        self.inputs.get(index).and_then(Option::as_ref).ok_or_else(|| absent("an input"))
    }

    pub(crate) fn parameter(&self, index: usize) -> Result<&Tensor> {
        self.parameters.get(index).ok_or_else(|| absent("a parameter"))
    }

    /// A parameter that products read.
    pub(crate) fn weight(&self, index: usize) -> Result<Weight<'_>> {
        let packs = self.packs.map(|packs| packs.of(index));
        Ok(Weight::kept(self.parameter(index)?, packs))
    }

    pub(crate) fn is_data(&self, index: usize) -> bool {
        self.data.get(index).copied().unwrap_or(false)
    }

    /// What residual branches are multiplied by, as kernels accept it; `None` if that is 1, so that
    /// a factor of 1 changes no bit.
    pub(crate) fn scaling(&self) -> Option<f32> {
        (self.residual_factor != 1.0).then_some(self.residual_factor as f32)
    }

    /// Dropout at a site of this graph, for `per_window` numbers a window.
    pub(crate) fn dropout_at(&self, site: usize, per_window: usize) -> Option<Dropout> {
        self.dropout.and_then(|dropout| dropout.at(self.first_site + site, per_window))
    }
}

/// Where the packed forms of a block's parameters are kept: those of tied parameters, and those of
/// the parameters that the layer keeps, both by number in the layout of the block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockPacks<'a> {
    pub(crate) tied: &'a [Packs],
    pub(crate) kept: &'a [Packs],
    pub(crate) is_kept: &'a [bool],
}

impl<'a> BlockPacks<'a> {
    fn of(self, number: usize) -> &'a Packs {
        if self.is_kept[number] { &self.kept[number] } else { &self.tied[number] }
    }
}

/// What the backward pass of an operation computes with: the gradient of its result, and what the
/// forward pass saved.
pub(crate) struct Backward<'a> {
    pub(super) call: Call<'a>,
    /// Gradient of the result.
    pub(super) gradient: &'a Tensor,
    pub(super) result: Option<&'a Tensor>,
    pub(super) saved: Option<&'a Tensor>,
}

impl<'a> Backward<'a> {
    pub(crate) fn result(&self) -> Result<&'a Tensor> {
        self.result.ok_or_else(|| absent("a result"))
    }

    pub(crate) fn saved(&self) -> Result<&'a Tensor> {
        self.saved.ok_or_else(|| absent("a saved value"))
    }
}

/// The error of an operation that reads what it did not announce: a bug in a graph.
pub(crate) fn absent(what: &str) -> ModelError {
    candle_core::Error::Msg(format!("a bug in a graph: it needs {what} and does not have it"))
        .into()
}
