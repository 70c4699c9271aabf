//! Tables other than that of tokens: positions, token types, a class token.

use candle_core::{D, DType, Tensor};

use super::operation::{Backward, Call, Operation, Outcome, ParameterSums};
use super::{Graph, Node};
use crate::Result;

impl Graph {
    /// Adds to each window the rows of a table that belong to its positions: the first T, unless
    /// generation continues a sequence.
    ///
    /// # Shapes
    /// `x` (B, T, C), table (P, C).
    ///
    /// # Errors
    /// As [`linear`](Self::linear), and [`ModelError::Batch`](crate::ModelError::Batch) for more
    /// than P tokens.
    pub fn add_rows(&mut self, x: Node, table: &str) -> Result<Node> {
        let table = self.layout.number(table)?;
        self.expect_tokens(x, self.layout.entries()[table].shape[0])?;
        Ok(self.push(AddRows { table }, &[x], self.shape(x).to_vec()))
    }

    /// Adds to each token the row of a table that belongs to its type; row 0 if the batch names no
    /// types.
    ///
    /// # Shapes
    /// `x` (B, T, C), table (kinds, C).
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn add_types(&mut self, x: Node, table: &str) -> Result<Node> {
        let table = self.layout.number(table)?;
        Ok(self.push(AddTypes { table }, &[x], self.shape(x).to_vec()))
    }

    /// Puts a vector before the rows of each window.
    ///
    /// # Shapes
    /// `x` (B, N, C), vector (C); result (B, N + 1, C).
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn prepend(&mut self, x: Node, vector: &str) -> Result<Node> {
        let vector = self.layout.number(vector)?;
        let mut shape = self.shape(x).to_vec();
        shape[1] += 1;
        Ok(self.push(Prepend { vector }, &[x], shape))
    }
}

/// Adds rows of a table by position. The field is the number of the table.
#[derive(Debug)]
struct AddRows {
    table: usize,
}

impl Operation for AddRows {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let x = call.input(0)?;
        let table = call.parameter(self.table)?;
        if call.side_inputs.first.is_empty() {
            return Ok(call.kernels.add_rows(x, table)?.into());
        }

        // Generation: each window starts where its sequence ended.
        let tokens = x.dim(1)?;
        let places: Vec<u32> = call
            .side_inputs
            .first
            .iter()
            .flat_map(|&first| (first..first + tokens).map(|at| at as u32))
            .collect();

        // (B, T)
        let places = Tensor::from_vec(places, (x.dim(0)?, tokens), x.device())?;
        Ok(with_rows(call, x, &call.kernels.embedding(table, &places)?)?.into())
    }

    fn backward(&self, back: &Backward<'_>, into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        if let Some(into) = into {
            let sum = sum_of(into, self.table, &back.call)?;
            back.call.kernels.add_rows_gradient(back.gradient, &sum)?;
            into[self.table] = Some(sum);
        }

        Ok(vec![back.gradient.clone()])
    }
}

/// The summed gradient of a parameter, taken out of `into`; zeros if there is none yet.
fn sum_of(into: &mut [Option<Tensor>], number: usize, call: &Call<'_>) -> Result<Tensor> {
    match into[number].take() {
        Some(sum) => Ok(sum),
        None => Ok(call.parameter(number)?.zeros_like()?),
    }
}

/// Adds rows of an f32 table to x. The sum is made in f32 and has the format of x.
fn with_rows(call: &Call<'_>, x: &Tensor, rows: &Tensor) -> Result<Tensor> {
    Ok(call.kernels.add(&x.to_dtype(rows.dtype())?, rows)?.to_dtype(x.dtype())?)
}

/// Adds rows of a table by type of token. The field is the number of the table.
#[derive(Debug)]
struct AddTypes {
    table: usize,
}

impl AddTypes {
    /// Types of the tokens (B, T).
    fn types(call: &Call<'_>, x: &Tensor) -> Result<Tensor> {
        match &call.side_inputs.types {
            Some(types) => Ok(types.clone()),
            None => {
                let [windows, tokens] = call.window_dims;
                Ok(Tensor::zeros((windows, tokens), DType::U32, x.device())?)
            }
        }
    }
}

impl Operation for AddTypes {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let x = call.input(0)?;
        let table = call.parameter(self.table)?;
        let rows = call.kernels.embedding(table, &Self::types(call, x)?)?;
        Ok(with_rows(call, x, &rows)?.into())
    }

    fn backward(&self, back: &Backward<'_>, into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        if let Some(into) = into {
            let sum = sum_of(into, self.table, &back.call)?;
            let types = Self::types(&back.call, back.gradient)?;
            back.call.kernels.embedding_gradient(&sum, &types, back.gradient)?;
            into[self.table] = Some(sum);
        }

        Ok(vec![back.gradient.clone()])
    }

    fn widens(&self) -> bool {
        true
    }
}

/// Puts a vector before the rows of each window. The field is the number of the vector.
#[derive(Debug)]
struct Prepend {
    vector: usize,
}

impl Operation for Prepend {
    fn forward(&self, call: &Call<'_>, _saving: bool) -> Result<Outcome> {
        let x = call.input(0)?.detach();
        let vector = call.parameter(self.vector)?.detach();
        let (windows, _, width) = x.dims3()?;
        let vector = vector.to_dtype(x.dtype())?;

        // (C) -> (B, 1, C)
        let vector = vector.reshape((1, 1, width))?.broadcast_as((windows, 1, width))?;

        // (B, N + 1, C)
        Ok(Tensor::cat(&[&vector.contiguous()?, &x], 1)?.into())
    }

    fn backward(&self, back: &Backward<'_>, into: ParameterSums<'_>) -> Result<Vec<Tensor>> {
        let gradient = back.gradient.detach();
        let rows = gradient.dim(1)? - 1;

        if let Some(into) = into {
            let sum = sum_of(into, self.vector, &back.call)?;

            // (B, N + 1, C) -> (B, C) -> (C)
            let first =
                gradient.narrow(1, 0, 1)?.flatten_to(D::Minus2)?.to_dtype(sum.dtype())?.sum(0)?;
            into[self.vector] = Some(back.call.kernels.add(&sum, &first)?);
        }

        // (B, N + 1, C) -> (B, N, C)
        Ok(vec![gradient.narrow(1, 1, rows)?.contiguous()?])
    }
}
