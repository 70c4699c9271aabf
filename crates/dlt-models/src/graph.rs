//! What a part of a transformer computes, written down once and run many times.
//!
//! An architecture writes its stem, block and head as a [`Graph`] over named parameters and shapes,
//! without a tensor. The same graph then runs forward with the weights of any block. It keeps only
//! the values that its backward pass reads and that are not cheap to compute again, and it runs
//! backward. It also says how much memory all this needs before anything is allocated.

mod attention;
mod elementwise;
mod gated;
mod linear;
mod memory;
mod norm;
mod operation;
mod rows;
mod run;
mod side_inputs;
mod tables;

use std::sync::Arc;

use dlt_kernels::{Gelu, Mask, Rotary};
use dlt_spec::size::CHANNELS;

use crate::architecture::{Architecture, StemInput};
use crate::batch::Dims;
use crate::parameters::Layout;
use crate::{ModelError, Result};
pub use memory::Footprint;
pub(crate) use operation::absent;
use operation::{Operation, RecomputedFrom};
pub(crate) use run::{Run, Trace};
pub(crate) use side_inputs::{Caches, Reading, Rows, SideInputs};

/// The graphs of a model for one shape of batch.
#[derive(Debug)]
pub(crate) struct ModelGraphs {
    /// From rows of the token table to the input of the first block.
    pub(crate) stem: Graph,
    /// From the input of a block to that of the next.
    pub(crate) block: Graph,
    /// From the result of the last block to what the output table multiplies.
    pub(crate) head: Graph,
}

impl ModelGraphs {
    /// The graphs for a batch of this shape.
    pub(crate) fn new(
        architecture: &dyn Architecture,
        shared: &Arc<Layout>,
        block: &Arc<Layout>,
        dims: &Dims,
    ) -> Result<Self> {
        let Dims { windows, tokens, reading } = *dims;
        let x = [windows, tokens, architecture.width()];
        let (input, takes_data) = match architecture.stem_input() {
            StemInput::Tokens { .. } => (x, false),
            // The stem prepends a class token, so there is one patch less than positions.
            StemInput::Pictures { patch, .. } => {
                ([windows, tokens - 1, CHANNELS * patch * patch], true)
            }
        };

        let stem = Graph::write(shared, &input, Reading::All, |graph, input| {
            architecture.embed(graph, input)
        })?;

        Ok(Self {
            // Pixels are data, so the first product of the stem computes no gradient for them.
            stem: Graph { takes_data, ..stem },
            block: Graph::write(block, &x, Reading::All, |graph, x| architecture.block(graph, x))?,
            head: Graph::write(shared, &x, reading, |graph, x| architecture.head(graph, x))?,
        })
    }

    /// Number of a layer's first dropout site in the whole model. Sites count from the stem through
    /// the blocks to the head, so that no two have the same mask.
    pub(crate) fn first_site(&self, layer: usize) -> usize {
        self.stem.sites + layer * self.block.sites
    }

    /// Number of the head's first dropout site, after those of `layers` layers.
    pub(crate) fn head_site(&self, layers: usize) -> usize {
        self.first_site(layers)
    }
}

/// A value in a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(usize);

/// One operation, what it reads, and the shape of its result.
#[derive(Debug)]
struct Step {
    operation: Box<dyn Operation>,
    inputs: Vec<usize>,
    shape: Vec<usize>,
}

/// A part of a model, from one input of a given shape to one result: values in the order in which
/// they are computed. Value 0 is the input, value `i` the result of step `i - 1`.
#[derive(Debug)]
pub struct Graph {
    layout: Arc<Layout>,
    input: Vec<usize>,
    steps: Vec<Step>,
    /// Number of dropout sites.
    sites: usize,
    /// Which rows the objective reads; only a head has another reading than all.
    reading: Reading,
    /// Whether the input is data, so that its gradient is never computed.
    takes_data: bool,
}

impl Graph {
    /// The graph that `write` makes over these parameters, for an input of this shape. `write`
    /// returns the result, which must be the value that was written last.
    ///
    /// # Errors
    /// Those of `write`; [`ModelError::Graph`] if the result is another value than the last.
    pub(crate) fn write(
        layout: &Arc<Layout>,
        input: &[usize],
        reading: Reading,
        write: impl FnOnce(&mut Self, Node) -> Result<Node>,
    ) -> Result<Self> {
        let layout = Arc::clone(layout);
        let mut graph = Self {
            layout,
            input: input.to_vec(),
            steps: Vec::new(),
            sites: 0,
            reading,
            takes_data: false,
        };

        // Every pass takes the last value for the result: of another one, it would compute the
        // wrong thing without a sign of it.
        let result = write(&mut graph, Node(0))?.0;
        let last = graph.steps.len();
        if result != last {
            return Err(ModelError::Graph { last, result });
        }

        Ok(graph)
    }

    /// Shape of a value.
    #[must_use]
    pub fn shape(&self, node: Node) -> &[usize] {
        match node.0 {
            0 => &self.input,
            index => &self.steps[index - 1].shape,
        }
    }

    /// `x · weightᵀ + bias`, or without a bias.
    ///
    /// # Shapes
    /// `x` (..., in); result (..., out).
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a name that the layout lacks.
    pub fn linear<'a>(
        &mut self,
        x: Node,
        weight: &str,
        bias: impl Into<Option<&'a str>>,
    ) -> Result<Node> {
        let (affine, shape) = self.affine(x, weight, bias.into())?;
        Ok(self.push(affine, &[x], shape))
    }

    /// [`linear`](Self::linear) followed by GELU.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn linear_gelu<'a>(
        &mut self,
        x: Node,
        weight: &str,
        bias: impl Into<Option<&'a str>>,
        kind: Gelu,
    ) -> Result<Node> {
        let (affine, shape) = self.affine(x, weight, bias.into())?;
        let elements = shape.iter().product();
        Ok(self.push(linear::LinearGelu { affine, kind, elements }, &[x], shape))
    }

    /// `silu(gate) · up` of gate and up side by side.
    ///
    /// # Shapes
    /// `x` (..., 2F); result (..., F).
    pub fn swiglu(&mut self, x: Node) -> Node {
        let mut shape = self.shape(x).to_vec();
        if let Some(last) = shape.last_mut() {
            *last /= 2;
        }
        self.push(gated::Swiglu, &[x], shape)
    }

    /// Hyperbolic tangent.
    pub fn tanh(&mut self, x: Node) -> Node {
        self.push(gated::Tanh, &[x], self.shape(x).to_vec())
    }

    /// Layer norm over the last dimension.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn layer_norm(&mut self, x: Node, weight: &str, bias: &str, epsilon: f64) -> Result<Node> {
        let operation = norm::LayerNorm {
            weight: self.layout.number(weight)?,
            bias: self.layout.number(bias)?,
            epsilon,
        };

        Ok(self.push(operation, &[x], self.shape(x).to_vec()))
    }

    /// Root-mean-square norm over the last dimension.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn rms_norm(&mut self, x: Node, weight: &str, epsilon: f64) -> Result<Node> {
        let operation = norm::RmsNorm { weight: self.layout.number(weight)?, epsilon };
        Ok(self.push(operation, &[x], self.shape(x).to_vec()))
    }

    /// Root-mean-square norms of each of H heads of queries with one weight, and of each of G heads
    /// of keys with another, `heads` being [H, G]. Values stay as they are.
    ///
    /// # Shapes
    /// `qkv` and result (B, T, (H + 2 G) D): queries, keys, values; weights (D).
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn head_norms(
        &mut self,
        qkv: Node,
        heads: [usize; 2],
        weights: [&str; 2],
        epsilon: f64,
    ) -> Result<Node> {
        let [queries, keys] = weights;
        let weights = [self.layout.number(queries)?, self.layout.number(keys)?];
        let operation = norm::HeadNorms { heads, weights, epsilon };
        Ok(self.push(operation, &[qkv], self.shape(qkv).to_vec()))
    }

    /// Attention of H heads over G heads of keys and values, `heads` being [H, G], with dropout of
    /// the probabilities. No token attends to padding that the batch names.
    ///
    /// # Shapes
    /// `qkv` (B, T, (H + 2 G) D): queries, keys, values; result (B, T, H D).
    pub fn attention(&mut self, qkv: Node, [heads, key_heads]: [usize; 2], mask: Mask) -> Node {
        let mut shape = self.shape(qkv).to_vec();

        // (H + 2 G) D -> H D
        shape[2] = shape[2] / (heads + 2 * key_heads) * heads;
        let site = self.site();
        self.push(attention::Attention { heads, key_heads, mask, site }, &[qkv], shape)
    }

    /// Rotates the first `heads` heads of `qkv` by their position; the others stay as they are.
    ///
    /// # Shapes
    /// `qkv` and result (B, T, (H + 2 G) D): queries, keys, values.
    pub fn rotate(&mut self, qkv: Node, heads: usize, rotary: Arc<Rotary>) -> Node {
        // What is rotated is kept, or what it is computed from again: never both.
        let of_input =
            qkv.0.checked_sub(1).map(|step| self.steps[step].operation.recomputed_from());
        let recomputed_from = match of_input {
            Some(RecomputedFrom::Inputs) => RecomputedFrom::Inputs,
            _ => RecomputedFrom::Nothing,
        };

        let operation = attention::Rotate { heads, rotary, recomputed_from };
        self.push(operation, &[qkv], self.shape(qkv).to_vec())
    }

    /// Dropout, if the pass has any.
    pub fn dropout(&mut self, x: Node) -> Node {
        let site = self.site();
        self.push(elementwise::Drop { site }, &[x], self.shape(x).to_vec())
    }

    /// `x + s · branch`, of the same shape. s is the layer's factor
    /// ([`Architecture::residual_factor`]). A run supplies it, so that all layers have one graph.
    pub fn add_branch(&mut self, x: Node, branch: Node) -> Node {
        self.push(elementwise::AddBranch, &[x, branch], self.shape(x).to_vec())
    }

    /// Adds to each window the rows of a table that belong to its positions: the first T, unless
    /// generation continues a sequence.
    ///
    /// # Shapes
    /// `x` (B, T, C), table (P, C).
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a name that the layout lacks, [`ModelError::Batch`] for more than
    /// P tokens.
    pub fn add_rows(&mut self, x: Node, table: &str) -> Result<Node> {
        let table = self.layout.number(table)?;
        self.expect_tokens(x, self.layout.entries()[table].shape[0])?;
        Ok(self.push(tables::AddRows { table }, &[x], self.shape(x).to_vec()))
    }

    /// Adds to each token the row of a table that belongs to its type; row 0 if the batch names no
    /// types.
    ///
    /// # Shapes
    /// `x` (B, T, C), table (kinds, C).
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a name that the layout lacks.
    pub fn add_types(&mut self, x: Node, table: &str) -> Result<Node> {
        let table = self.layout.number(table)?;
        Ok(self.push(tables::AddTypes { table }, &[x], self.shape(x).to_vec()))
    }

    /// Puts a vector before the rows of each window.
    ///
    /// # Shapes
    /// `x` (B, N, C), vector (C); result (B, N + 1, C).
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a name that the layout lacks.
    pub fn prepend(&mut self, x: Node, vector: &str) -> Result<Node> {
        let vector = self.layout.number(vector)?;
        let mut shape = self.shape(x).to_vec();
        shape[1] += 1;
        Ok(self.push(tables::Prepend { vector }, &[x], shape))
    }

    /// The rows that the objective reads, if it reads single ones; otherwise everything.
    ///
    /// # Shapes
    /// `x` (B, T, C); result (N, C), or `x`.
    pub fn pick(&mut self, x: Node) -> Node {
        let Reading::Picked(rows) = self.reading else { return x };

        // (B, T, C) -> (N, C)
        let shape = vec![rows, self.shape(x)[2]];
        self.push(rows::Pick, &[x], shape)
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
        self.push(rows::Average, &[x], shape)
    }

    /// Refuses windows of more tokens than there are positions.
    ///
    /// # Errors
    /// [`ModelError::Batch`].
    pub fn expect_tokens(&self, x: Node, positions: usize) -> Result<()> {
        let tokens = self.shape(x)[1];
        if tokens <= positions {
            return Ok(());
        }

        let expected = format!("at most {positions} tokens a window");
        Err(ModelError::Batch { expected, got: tokens.to_string() })
    }

    /// The operation with the numbers of its parameters, and the shape of its result.
    fn affine(
        &self,
        x: Node,
        weight: &str,
        bias: Option<&str>,
    ) -> Result<(linear::Linear, Vec<usize>)> {
        let weight = self.layout.number(weight)?;
        let bias = bias.map(|bias| self.layout.number(bias)).transpose()?;
        let mut shape = self.shape(x).to_vec();

        if let Some(last) = shape.last_mut() {
            *last = self.layout.entries()[weight].shape[0];
        }

        Ok((linear::Linear { weight, bias }, shape))
    }

    /// The number of the next dropout site of this graph.
    fn site(&mut self) -> usize {
        self.sites += 1;
        self.sites - 1
    }

    /// Appends an operation; the node of its result.
    fn push(
        &mut self,
        operation: impl Operation + 'static,
        inputs: &[Node],
        shape: Vec<usize>,
    ) -> Node {
        let inputs = inputs.iter().map(|node| node.0).collect();
        self.steps.push(Step { operation: Box::new(operation), inputs, shape });
        Node(self.steps.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_a_result_that_is_not_written_last() {
        let layout = Arc::new(Layout::new(Vec::new()));
        let refused = Graph::write(&layout, &[1, 2, 3], Reading::All, |graph, x| {
            graph.tanh(x);
            Ok(x)
        });

        assert!(matches!(refused, Err(ModelError::Graph { last: 1, result: 0 })), "{refused:?}");
    }
}
