//! Gradients of the affine map, each by its own method, so that only the wanted ones are computed.

use super::tiled;
use crate::choice::Backend;
use crate::lanes::vectorised;
use crate::matrix::{By, Into, Panel, View, multiply, product};
use crate::rounding::{rounded, widened};
use crate::shape::{expect_same, expect_vector, matrix, rows_and_width};
use crate::tiles::Weight;
use crate::{Kernels, composed, cuda, host, rows};
use candle_core::{D, DType, Result, Tensor, bail};

impl Kernels {
    /// Gradient of [`Kernels::linear`] with respect to `x`.
    ///
    /// # Shapes
    /// `weight` (out, in), `gradient` (..., out); returns (..., in).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit.
    pub fn linear_input_gradient<'a>(
        self,
        weight: impl std::convert::Into<Weight<'a>>,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let given = weight.into();
        let weight = given.tensor;
        let (outputs, inputs) = matrix("linear_input_gradient", "weight", weight)?;
        let (count, width) = rows_and_width("linear_input_gradient", gradient)?;
        if width != outputs {
            bail!("linear_input_gradient: expected rows of {outputs} in the gradient, got {width}")
        }

        match self.backend(&[gradient], &[weight]) {
            Backend::Host if gradient.dtype() == DType::BF16 => {
                return tiled::input_gradient(given, gradient);
            }
            Backend::Host => {}
            Backend::Cuda => return cuda::linear_input_gradient(weight, gradient),
            Backend::Composed => return input_gradient(weight, gradient),
            Backend::Widened => {
                let [gradient] = widened([gradient])?;
                return rounded(&self.linear_input_gradient(weight, &gradient)?);
            }
        }

        host::read([weight, gradient], |[weight, data]| {
            // (N, out) x (out, in)
            let outer = View::new(data, count, outputs, outputs);
            let weight = View::new(weight, outputs, inputs, inputs);
            host::tensor(
                product(outer, weight, self.by()),
                super::output_dims(gradient.dims(), inputs),
            )
        })
    }

    /// Adds the gradient of [`Kernels::linear`] with respect to its weight to `into`, in place;
    /// where `into` is `None`, it becomes the gradient.
    ///
    /// # Shapes
    /// `x` (..., in), `gradient` (..., out), `into` (out, in).
    ///
    /// # Errors
    /// When a tensor is empty or its shape does not fit, or `into` shares memory with another one.
    pub fn linear_weight_gradient(
        self,
        x: &Tensor,
        gradient: &Tensor,
        into: &mut Option<Tensor>,
    ) -> Result<()> {
        let (count, inputs) = rows_and_width("linear_weight_gradient", x)?;
        let (gradient_rows, outputs) = rows_and_width("linear_weight_gradient", gradient)?;
        if gradient_rows != count {
            bail!(
                "linear_weight_gradient: expected {count} rows in the gradient, got {gradient_rows}"
            )
        }

        if let Some(into) = into {
            if into.dims() != [outputs, inputs] {
                bail!(
                    "linear_weight_gradient: expected a sum of shape [{outputs}, {inputs}], \
                     got {:?}",
                    into.dims()
                )
            }

            host::expect_apart("linear_weight_gradient", into, &[x, gradient])?;
        }

        let made = match self.backend(&[x, gradient], into.as_ref().as_slice()) {
            Backend::Host if x.dtype() == DType::BF16 => {
                tiled::weight_gradient(x, gradient, [outputs, inputs], into.as_ref())?
            }
            Backend::Host => {
                host_weight_gradient(x, gradient, [outputs, inputs], into.as_ref(), self.by())?
            }
            Backend::Cuda => {
                return cuda::linear_weight_gradient(&cuda::Launcher, x, gradient, into);
            }
            Backend::Composed => {
                return host::add_or_set(into, weight_gradient(x, gradient)?);
            }
            Backend::Widened => {
                let [x, gradient] = widened([x, gradient])?;
                return self.linear_weight_gradient(&x, &gradient, into);
            }
        };

        if made.is_some() {
            *into = made;
        }

        Ok(())
    }

    /// Adds the gradient of [`Kernels::linear`] with respect to its bias to `into`, in place; where
    /// `into` is `None`, it becomes the gradient.
    ///
    /// # Shapes
    /// `gradient` (..., out), `into` (out).
    ///
    /// # Errors
    /// When the gradient is empty, or the shape of `into` does not fit.
    pub fn linear_bias_gradient(self, gradient: &Tensor, into: &mut Option<Tensor>) -> Result<()> {
        let (_, outputs) = rows_and_width("linear_bias_gradient", gradient)?;
        if let Some(into) = into {
            expect_vector("linear_bias_gradient", "a sum", into, outputs)?;
        }

        let sum = match self.backend(&[gradient], &[]) {
            Backend::Host => host::tensor(rows::sum(gradient, outputs)?, outputs)?,
            Backend::Cuda => cuda::row_sum(&cuda::Launcher, gradient, outputs)?,
            Backend::Composed => composed::row_sum(gradient, outputs)?,
            Backend::Widened => {
                let [gradient] = widened([gradient])?;
                return self.linear_bias_gradient(&gradient, into);
            }
        };

        host::add_or_set(into, sum)
    }

    /// `a + b`.
    ///
    /// # Shapes
    /// Both the same.
    ///
    /// # Errors
    /// When shapes differ.
    pub fn add(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        expect_same("add", "b", a, b)?;
        match self.backend(&[a, b], &[]) {
            Backend::Host => {}
            Backend::Cuda | Backend::Composed => return a.detach() + b.detach(),
            Backend::Widened => {
                let [a, b] = widened([a, b])?;
                return rounded(&self.add(&a, &b)?);
            }
        }

        rows::map([a, b], |[a, b], y| {
            vectorised!(|| y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| *y = a + b))
        })
    }
}

/// `gradientᵀ · x`, added to `into` (out, in) in place; where that is `None`, it is made.
fn host_weight_gradient(
    x: &Tensor,
    gradient: &Tensor,
    [outputs, inputs]: [usize; 2],
    into: Option<&Tensor>,
    by: By,
) -> Result<Option<Tensor>> {
    host::read([x, gradient], |[x, gradient]| {
        // (out, N) x (N, in)
        let count = x.len() / inputs;
        let outer = View::new(gradient, count, outputs, outputs).t();
        let x = View::new(x, count, inputs, inputs);
        let Some(into) = into else {
            return host::tensor(product(outer, x, by), (outputs, inputs)).map(Some);
        };

        // The product is added where it belongs: a term of the weight's size would cost another
        // pass.
        host::write(into, |into| {
            let panel = &mut Panel::new(into, outputs, inputs, inputs);
            multiply(panel, Into::Add, 1.0, outer, x, by);
            Ok(None)
        })
    })
}

/// [`Kernels::linear_input_gradient`] in candle's own operations.
pub(crate) fn input_gradient(weight: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let dims = super::output_dims(gradient.dims(), inputs);

    // (N, out) x (out, in)
    let gradient = gradient.detach().contiguous()?.reshape(((), outputs))?;
    gradient.matmul(&weight.detach().contiguous()?)?.reshape(dims)
}

/// The gradient of the weight in candle's own operations.
fn weight_gradient(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    // (out, N) x (N, in)
    let flat = |tensor: &Tensor| tensor.detach().contiguous()?.flatten_to(D::Minus2);
    flat(gradient)?.t()?.contiguous()?.matmul(&flat(x)?)
}
