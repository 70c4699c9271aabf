//! The affine map and its gradients for activations of bf16 in main memory. Weights are rounded to
//! bf16 while they are packed; sums are f32.

use candle_core::{Result, Tensor};
use half::bf16;

use super::few;
use crate::number::Number;
use crate::tiles::{Operand, Packed, Weight, product};
use crate::{host, rows};

/// `x · weightᵀ + bias`, as [`Kernels::linear`](crate::Kernels::linear).
pub(super) fn linear(x: &Tensor, weight: Weight<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.tensor.dims2()?;
    let dims = super::output_dims(x.dims(), outputs);
    let count = x.elem_count() / inputs;

    host::read_as([x], |[x]: [&[bf16]; 1]| {
        host::read([bias.unwrap_or(weight.tensor)], |[vector]| {
            let mut y = bf16::zeros(count * outputs);
            let finish = |sums: &mut [f32], first: usize, y: &mut [bf16]| {
                if bias.is_some() {
                    rows::add(sums, &vector[first..first + y.len()]);
                }
                bf16::round(sums, y);
            };

            // A block of tiles has 32 rows. Few rows take less time in f32.
            if count <= few::FEW_ROWS {
                let mut wide = vec![0.0; x.len()];
                bf16::widen(x, &mut wide);
                let mut sums = host::read([weight.tensor], |[weight]| {
                    Ok(few::product(&wide, weight, inputs))
                })?;

                let rows = sums.chunks_exact_mut(outputs).zip(y.chunks_exact_mut(outputs));
                rows.for_each(|(sums, y)| finish(sums, 0, y));
                return host::tensor(y, dims);
            }

            let x = Operand::of_rows(x, count, inputs, inputs);
            weight.with_outputs(|weight| {
                product(x, weight, (&mut y, outputs), |_, columns, sums, y| {
                    finish(sums, columns.start, &mut y[columns]);
                });
                Ok(())
            })?;

            host::tensor(y, dims)
        })
    })
}

/// `gradient · weight`, as [`Kernels::linear_input_gradient`](crate::Kernels::linear_input_gradient).
pub(super) fn input_gradient(weight: Weight<'_>, gradient: &Tensor) -> Result<Tensor> {
    let (outputs, inputs) = weight.tensor.dims2()?;
    let dims = super::output_dims(gradient.dims(), inputs);

    host::read_as([gradient], |[gradient]: [&[bf16]; 1]| {
        let count = gradient.len() / outputs;
        let gradient = Operand::of_rows(gradient, count, outputs, outputs);
        let mut dx = bf16::zeros(count * inputs);

        weight.with_inputs(|weight| {
            product(gradient, weight, (&mut dx, inputs), |_, columns, sums, dx| {
                bf16::round(sums, &mut dx[columns]);
            });
            Ok(())
        })?;

        host::tensor(dx, dims)
    })
}

/// `gradientᵀ · x` in f32, added to `into` (out, in) in place; where that is `None`, it is made.
pub(super) fn weight_gradient(
    x: &Tensor,
    gradient: &Tensor,
    [outputs, inputs]: [usize; 2],
    into: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    host::read_as([x, gradient], |[x, gradient]: [&[bf16]; 2]| {
        let count = x.len() / inputs;
        let packed = Packed::right(Operand::of_columns(x, inputs, count, inputs));
        let gradient = Operand::of_columns(gradient, outputs, count, outputs);

        let Some(into) = into else {
            let mut made = vec![0.0; outputs * inputs];
            product(gradient, &packed, (&mut made, inputs), |_, columns, sums, made| {
                made[columns].copy_from_slice(sums);
            });
            return host::tensor(made, (outputs, inputs)).map(Some);
        };

        host::write(into, |into| {
            product(gradient, &packed, (into, inputs), |_, columns, sums, into| {
                rows::add(&mut into[columns], sums);
            });
            Ok(None)
        })
    })
}
