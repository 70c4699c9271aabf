//! What happens between two steps: norms, accumulation, AdamW. Everything here works in place and outside autograd.

use crate::shape::expect_same;
use crate::{Kernels, composed};
use candle_core::{Result, Tensor, bail};

/// One step of AdamW for one parameter, as PyTorch defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwStep {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay: the parameter is multiplied by `1 - learning_rate · weight_decay` first.
    pub weight_decay: f64,
    /// How many steps this parameter has seen, this one included (so the first is 1).
    pub step: u64,
    /// The gradient is multiplied by this before anything else (clipping, averaging).
    pub gradient_scale: f64,
}

impl Kernels {
    /// Applies one step of AdamW to `parameter` and its moments `first` and `second`, in place.
    ///
    /// # Shapes
    /// All four the same; the first three contiguous.
    ///
    /// # Errors
    /// When shapes differ, `step` is zero, or a tensor that is written is not contiguous.
    pub fn adamw(
        self,
        parameter: &Tensor,
        first: &Tensor,
        second: &Tensor,
        gradient: &Tensor,
        step: &AdamwStep,
    ) -> Result<()> {
        for (what, tensor) in [("first", first), ("second", second), ("gradient", gradient)] {
            expect_same("adamw", what, parameter, tensor)?;
        }
        if step.step == 0 {
            bail!("adamw: expected a step of 1 or more, came 0")
        }
        composed::adamw(parameter, first, second, gradient, step)
    }
}

/// Sum of the squares of all elements, accumulated in f64 in a fixed order.
///
/// # Errors
/// When the tensor cannot be read as f64.
pub fn squared_norm(tensor: &Tensor) -> Result<f64> {
    composed::squared_norm(tensor)
}

/// `into += other`, in place.
///
/// # Shapes
/// Both the same; `into` contiguous.
///
/// # Errors
/// When shapes differ, `into` is not contiguous, or both share memory.
pub fn add_in_place(into: &Tensor, other: &Tensor) -> Result<()> {
    expect_same("add_in_place", "other", into, other)?;
    composed::add_in_place(into, other)
}
