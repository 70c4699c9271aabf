//! Work between two steps: norms, accumulation, AdamW. What is written is written in place.

use crate::choice::Backend;
use crate::lanes::vectorised;
use crate::rounding::widened;
use crate::shape::expect_same;
use crate::{Kernels, composed, cuda, host, rows};
use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

/// Elements of one task, and of one partial sum. Tensors that are cut at multiples of it have the
/// partial sums of the whole tensor.
pub const PIECE: usize = 65_536;

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
    /// Decoupled weight decay: the parameter is multiplied by `1 - learning_rate · weight_decay`
    /// first.
    pub weight_decay: f64,
    /// How many steps this parameter has had, including this one: the first step is 1.
    pub step: u64,
    /// The gradient is first multiplied by this, for clipping and averaging.
    pub gradient_scale: f64,
}

impl Kernels {
    /// Applies one step of AdamW to `parameter` and its moments `first` and `second`, in place.
    ///
    /// # Shapes
    /// All four the same; the first three contiguous.
    ///
    /// # Errors
    /// When shapes differ, `step` is zero, a tensor that is written is not contiguous, or, in a
    /// fused kernel, it shares memory with another one.
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
            bail!("adamw: expected a step of 1 or more, got 0")
        }
        if parameter.elem_count() == 0 {
            return Ok(());
        }

        match self.backend(&[gradient], &[parameter, first, second]) {
            Backend::Host => {}
            Backend::Cuda => {
                return cuda::adamw(&cuda::Launcher, parameter, first, second, gradient, step);
            }
            Backend::Composed => return definition(parameter, first, second, gradient, step),
            Backend::Widened => {
                let [gradient] = widened([gradient])?;
                return self.adamw(parameter, first, second, &gradient, step);
            }
        }

        host::expect_apart("adamw", parameter, &[first, second, gradient])?;
        host::expect_apart("adamw", first, &[second, gradient])?;
        host::expect_apart("adamw", second, &[gradient])?;

        let factors = Factors::new(step);

        host::write(parameter, |parameter| {
            host::write(first, |first| {
                host::write(second, |second| {
                    host::read([gradient], |[gradient]| {
                        let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
                        let pieces =
                            parameter.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
                        pieces.zip(moments).for_each(|((p, g), (m, v))| factors.apply(p, m, v, g));
                        Ok(())
                    })
                })
            })
        })
    }
}

/// [`Kernels::adamw`] in candle's own operations.
fn definition(
    parameter: &Tensor,
    first: &Tensor,
    second: &Tensor,
    gradient: &Tensor,
    step: &AdamwStep,
) -> Result<()> {
    let gradient = gradient.detach().affine(step.gradient_scale, 0.0)?;
    let count = step.step as f64;
    let new_first =
        (first.detach().affine(step.beta1, 0.0)? + gradient.affine(1.0 - step.beta1, 0.0)?)?;
    let new_second = (second.detach().affine(step.beta2, 0.0)?
        + gradient.sqr()?.affine(1.0 - step.beta2, 0.0)?)?;

    // The moments start from zero and are too small at first; both corrections undo that.
    let correction = (1.0 - step.beta2.powf(count)).sqrt();
    let denominator = (new_second.sqrt()?.affine(1.0 / correction, 0.0)? + step.epsilon)?;
    let rate = step.learning_rate / (1.0 - step.beta1.powf(count));
    let decayed = parameter.detach().affine(1.0 - step.learning_rate * step.weight_decay, 0.0)?;

    composed::overwrite(first, &new_first)?;
    composed::overwrite(second, &new_second)?;
    composed::overwrite(parameter, &(decayed - (new_first / denominator)?.affine(rate, 0.0)?)?)
}

/// Sum of the squares of all elements, accumulated in f64 in a fixed order.
///
/// # Errors
/// When the tensor cannot be read as f64.
pub fn squared_norm(tensor: &Tensor) -> Result<f64> {
    Ok(squared_pieces(tensor)?.iter().sum())
}

/// Sums of the squares of every [`PIECE`] elements of a tensor, in their order; the last piece may
/// be shorter. [`squared_norm`] is their sum in this order. A tensor in a GPU's memory has one sum.
///
/// # Errors
/// When the tensor cannot be read as f64.
pub fn squared_pieces(tensor: &Tensor) -> Result<Vec<f64>> {
    match Kernels::Fused.backend(&[tensor], &[]) {
        Backend::Host => {
            host::read([tensor], |[data]| Ok(data.par_chunks(PIECE).map(squares).collect()))
        }
        Backend::Cuda if tensor.elem_count() > 0 => {
            Ok(vec![cuda::squared_norms(&cuda::Launcher, &[tensor])?])
        }
        Backend::Cuda | Backend::Composed | Backend::Widened => squared_pieces_definition(tensor),
    }
}

/// [`squared_pieces`] in candle's own operations.
fn squared_pieces_definition(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor.detach().flatten_all()?;
    let count = flat.elem_count();
    let piece = |start: usize| {
        let piece = flat.narrow(0, start, PIECE.min(count - start))?;
        piece.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()
    };
    (0..count).step_by(PIECE).map(piece).collect()
}

/// The sum of [`squared_norm`] over all tensors, in their order. It waits for a GPU only once.
///
/// # Errors
/// As [`squared_norm`].
pub fn squared_norms(tensors: &[&Tensor]) -> Result<f64> {
    let has_kernel = |x: &&Tensor| {
        matches!(Kernels::Fused.backend(&[x], &[]), Backend::Cuda) && x.elem_count() > 0
    };
    if !tensors.is_empty() && tensors.iter().all(has_kernel) {
        return cuda::squared_norms(&cuda::Launcher, tensors);
    }

    tensors.iter().map(|tensor| squared_norm(tensor)).sum()
}

/// `into += other`, in place.
///
/// # Shapes
/// Both the same; `into` contiguous.
///
/// # Errors
/// When shapes differ, `into` is not contiguous, or the two share memory.
pub fn add_in_place(into: &Tensor, other: &Tensor) -> Result<()> {
    expect_same("add_in_place", "other", into, other)?;
    if into.elem_count() == 0 {
        return Ok(());
    }

    host::expect_apart("add_in_place", into, &[other])?;
    match Kernels::Fused.backend(&[other], &[into]) {
        Backend::Host => {}
        Backend::Cuda => return cuda::add_in_place(&cuda::Launcher, into, other),
        Backend::Composed => return composed::add_in_place(into, other),
        Backend::Widened => {
            let [other] = widened([other])?;
            return add_in_place(into, &other);
        }
    }

    host::write(into, |into| {
        host::read([other], |[other]| {
            into.par_chunks_mut(PIECE)
                .zip(other.par_chunks(PIECE))
                .for_each(|(into, other)| rows::add(into, other));
            Ok(())
        })
    })
}

/// The numbers of a step that all elements share.
pub(crate) struct Factors {
    gradient_scale: f32,
    /// What decoupled weight decay leaves of a parameter: `1 - learning_rate · weight_decay`.
    keep: f32,
    beta1: f32,
    beta2: f32,
    /// Subtracted in f64: in f32, `1 - beta2` would lose digits.
    one_less_beta1: f32,
    one_less_beta2: f32,
    /// The learning rate with the first moment's correction: `learning_rate / (1 - beta1^step)`.
    rate: f32,
    /// The second moment's correction: `1 / sqrt(1 - beta2^step)`.
    inverse_root: f32,
    epsilon: f32,
}

impl Factors {
    pub(crate) fn new(step: &AdamwStep) -> Self {
        let count = step.step as f64;

        Factors {
            gradient_scale: step.gradient_scale as f32,
            keep: (1.0 - step.learning_rate * step.weight_decay) as f32,
            beta1: step.beta1 as f32,
            beta2: step.beta2 as f32,
            one_less_beta1: (1.0 - step.beta1) as f32,
            one_less_beta2: (1.0 - step.beta2) as f32,
            rate: (step.learning_rate / (1.0 - step.beta1.powf(count))) as f32,
            inverse_root: (1.0 / (1.0 - step.beta2.powf(count)).sqrt()) as f32,
            epsilon: step.epsilon as f32,
        }
    }

    /// The numbers in the order of the CUDA kernel's parameters.
    pub(crate) fn to_array(&self) -> [f32; 9] {
        let &Factors { gradient_scale, keep, beta1, beta2, one_less_beta1, one_less_beta2, .. } =
            self;
        let &Factors { rate, inverse_root, epsilon, .. } = self;

        [
            gradient_scale,
            keep,
            beta1,
            beta2,
            one_less_beta1,
            one_less_beta2,
            rate,
            inverse_root,
            epsilon,
        ]
    }

    fn apply(
        &self,
        parameter: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        gradient: &[f32],
    ) {
        vectorised!(|| {
            let moments = first.iter_mut().zip(second.iter_mut());
            for ((p, &g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
                let g = g * self.gradient_scale;
                *m = m.mul_add(self.beta1, g * self.one_less_beta1);
                *v = v.mul_add(self.beta2, g * g * self.one_less_beta2);

                let denominator = v.sqrt().mul_add(self.inverse_root, self.epsilon);
                *p = p.mul_add(self.keep, -(self.rate * *m / denominator));
            }
        });
    }
}

/// The sum of squares of one piece, in f64.
fn squares(x: &[f32]) -> f64 {
    // Two vectors of f64 of the widest instruction set. It is the same on every machine, so the
    // order of the sum is fixed.
    const LANES: usize = 16;
    let mut lanes = [0.0f64; LANES];

    vectorised!(|| {
        let chunks = x.chunks_exact(LANES);
        let rest = chunks.remainder();

        for chunk in chunks.chain([rest]) {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
    });

    lanes.iter().sum()
}
