//! Activations times a number, and sums with them.

use crate::choice::Backend;
use crate::lanes::vectorised;
use crate::rounding::{rounded, widened};
use crate::shape::expect_same;
use crate::{Kernels, cuda, rows};
use candle_core::{Result, Tensor};

impl Kernels {
    /// `factor · x`.
    ///
    /// # Shapes
    /// `x` any; returns the same.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn scaled(self, x: &Tensor, factor: f32) -> Result<Tensor> {
        match self.backend(&[x], &[]) {
            Backend::Host => {}
            Backend::Cuda => return cuda::scaled(&cuda::Launcher, x, factor),
            Backend::Composed => return x.detach().affine(f64::from(factor), 0.0),
            Backend::Widened => {
                let [x] = widened([x])?;
                return rounded(&self.scaled(&x, factor)?);
            }
        }

        rows::map([x], |[x], y| {
            vectorised!(|| y.iter_mut().zip(x).for_each(|(y, x)| *y = factor * x))
        })
    }

    /// `a + factor · b`. In bf16 only the sum is rounded, not the product.
    ///
    /// # Shapes
    /// Both the same.
    ///
    /// # Errors
    /// When shapes differ.
    pub fn add_scaled(self, a: &Tensor, b: &Tensor, factor: f32) -> Result<Tensor> {
        expect_same("add_scaled", "b", a, b)?;
        match self.backend(&[a, b], &[]) {
            Backend::Host => {}
            Backend::Cuda => return cuda::add_scaled(&cuda::Launcher, a, b, factor),
            Backend::Composed => return a.detach() + b.detach().affine(f64::from(factor), 0.0)?,
            Backend::Widened => {
                let [a, b] = widened([a, b])?;
                return rounded(&self.add_scaled(&a, &b, factor)?);
            }
        }

        rows::map([a, b], |[a, b], y| {
            vectorised!(|| {
                y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| *y = a + factor * b);
            })
        })
    }
}
