//! The rows that an objective reads.

use candle_core::{D, DType, Device, Tensor};

use super::operation::{Backward, Call, Operation, Outcome, ParameterSums, absent};
use super::side_inputs::{Reading, Rows};
use super::{Graph, Node};
use crate::Result;

impl Graph {
    /// The rows that the objective reads, if it reads single ones; otherwise everything.
    ///
    /// # Shapes
    /// `x` (B, T, C); result (N, C), or `x`.
    pub fn pick(&mut self, x: Node) -> Node {
        let Reading::Picked(rows) = self.reading else { return x };

        // (B, T, C) -> (N, C)
        let shape = vec![rows, self.shape(x)[2]];
        self.push(Pick, &[x], shape)
    }

    /// The mean of the rows of each window that are not padding, if the objective reads that;
    /// otherwise everything.
    ///
    /// # Shapes
    /// `x` (B, T, C); result (B, C), or `x`.
    pub fn average(&mut self, x: Node) -> Node {
        if self.reading != Reading::Mean {
            return x;
        }

        // (B, T, C) -> (B, C)
        let shape = self.shape(x);
        let shape = vec![shape[0], shape[2]];
        self.push(Average, &[x], shape)
    }
}

/// Single rows.
#[derive(Debug)]
struct Pick;

impl Pick {
    fn places(call: &Call<'_>) -> Result<Tensor> {
        match &call.side_inputs.rows {
            Some(Rows::Picked(places)) => Ok(places.clone()),
            _ => Err(absent("numbers of rows")),
        }
    }
}

impl Operation for Pick {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        // (B, T, C) -> (B T, C) -> (N, C)
        let rows = call.input(0)?.detach().flatten_to(D::Minus2)?;
        Ok(rows.index_select(&Self::places(call)?, 0)?.into())
    }

    fn backward(&self, back: &Backward<'_>, _into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        let [windows, tokens] = back.call.window_dims;
        let gradient = back.gradient.detach().contiguous()?;
        let width = gradient.dim(D::Minus1)?;

        // (N, C) -> (B T, C) -> (B, T, C); zeros in the rows that were not picked.
        let rows = (windows * tokens, width);
        let zeros = Tensor::zeros(rows, gradient.dtype(), gradient.device())?;
        let gradient = zeros.index_add(&Self::places(&back.call)?, &gradient, 0)?;
        Ok(vec![gradient.reshape((windows, tokens, width))?])
    }
}

/// The mean of the rows of each window that are not padding.
#[derive(Debug)]
struct Average;

impl Average {
    /// The weight of each row in its window's mean, in f32: (B, T, 1).
    fn shares(call: &Call<'_>, device: &Device) -> Result<Tensor> {
        let Some(Rows::Mean(lengths)) = &call.side_inputs.rows else {
            return Err(absent("lengths of windows"));
        };
        let [windows, tokens] = call.window_dims;
        let share = |at: usize, length: usize| if at < length { 1.0 / length as f32 } else { 0.0 };

        let shares: Vec<f32> = lengths
            .iter()
            .flat_map(|&length| (0..tokens).map(move |at| share(at, length)))
            .collect();

        Ok(Tensor::from_vec(shares, (windows, tokens, 1), device)?)
    }
}

impl Operation for Average {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let x = call.input(0)?.detach();
        let shares = Self::shares(call, x.device())?;

        // (B, T, C) -> (B, C), in f32: sums of bf16 would be rounded at every row.
        Ok(x.to_dtype(DType::F32)?.broadcast_mul(&shares)?.sum(1)?.to_dtype(x.dtype())?.into())
    }

    fn backward(&self, back: &Backward<'_>, _into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        // (B, C) -> (B, 1, C) -> (B, T, C)
        let gradient = back.gradient.detach().unsqueeze(1)?;
        let shares = Self::shares(&back.call, gradient.device())?;
        let of_rows = shares.broadcast_mul(&gradient.to_dtype(DType::F32)?)?;
        Ok(vec![of_rows.to_dtype(gradient.dtype())?])
    }

    fn widens(&self) -> bool {
        true
    }
}
