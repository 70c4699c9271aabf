//! What a stretch of a transformer computes, written down once and run many times.
//!
//! An architecture writes its stem, block and head as a [`Graph`] over named parameters and shapes,
//! without a tensor. The same graph then runs forward with any block's weights, keeps of its values
//! only what its backward pass reads and cannot cheaply find again, runs backward, and tells how
//! much memory all that takes before anything is allocated.

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
use operation::Operation;
pub(crate) use operation::absent;
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
            // A class token joins the patches.
            StemInput::Pictures { patch, .. } => {
                ([windows, tokens - 1, CHANNELS * patch * patch], true)
            }
        };

        let stem = Graph::write(shared, &input, Reading::All, |graph, input| {
            architecture.embed(graph, input)
        })?;

        Ok(Self {
            stem: Graph { takes_data, ..stem },
            block: Graph::write(block, &x, Reading::All, |graph, x| architecture.block(graph, x))?,
            head: Graph::write(shared, &x, reading, |graph, x| architecture.head(graph, x))?,
        })
    }

    /// Number of a layer's first place for dropout in the whole model.
    pub(crate) fn first_site(&self, layer: usize) -> usize {
        self.stem.sites + layer * self.block.sites
    }

    /// Number of the head's first place for dropout, behind `layers` layers.
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

/// A stretch of a model, from one input of a given shape to one result: values in the order in
/// which they are computed.
#[derive(Debug)]
pub struct Graph {
    layout: Arc<Layout>,
    input: Vec<usize>,
    steps: Vec<Step>,
    sites: usize,
    /// What the objective reads, where this is the head.
    reading: Reading,
    /// Whether the input is data, whose gradient nobody asks for.
    takes_data: bool,
}

impl Graph {
    /// The graph that `write` makes over these parameters, for an input of this shape. What it
    /// returns is the result, which has to be the value that was written last.
    ///
    /// # Errors
    /// Those of `write`.
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

        let result = write(&mut graph, Node(0))?;
        debug_assert_eq!(result.0, graph.steps.len(), "the result is written last");
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

    /// Attention of H heads over G heads of keys and values, `heads` being [H, G], with a place for
    /// dropout of the probabilities. Padding that the batch names is seen by nobody.
    ///
    /// # Shapes
    /// `qkv` (B, T, (H + 2 G) D): queries, keys, values; result (B, T, H D).
    pub fn attention(&mut self, qkv: Node, [heads, key_heads]: [usize; 2], mask: Mask) -> Node {
        let mut shape = self.shape(qkv).to_vec();
        shape[2] = shape[2] / (heads + 2 * key_heads) * heads;
        let site = self.site();
        self.push(attention::Attention { heads, key_heads, mask, site }, &[qkv], shape)
    }

    /// The first `heads` heads of queries, keys and values side by side turned by their position.
    pub fn rotate(&mut self, qkv: Node, heads: usize, rotary: Arc<Rotary>) -> Node {
        self.push(attention::Rotate { heads, rotary }, &[qkv], self.shape(qkv).to_vec())
    }

    /// A place for dropout.
    pub fn dropout(&mut self, x: Node) -> Node {
        let site = self.site();
        self.push(elementwise::Drop { site }, &[x], self.shape(x).to_vec())
    }

    /// `x + s · branch`, of the same shape; s is the layer's factor
    /// ([`Architecture::residual_factor`]), which a run of the graph is given, so that all layers
    /// have one graph.
    pub fn add_branch(&mut self, x: Node, branch: Node) -> Node {
        self.push(elementwise::AddBranch, &[x, branch], self.shape(x).to_vec())
    }

    /// The rows of a table that belong to the positions of each window, added to it: the first T
    /// where generation does not go on.
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

    /// The row of a table that belongs to the type of each token, added to it; row 0 where the
    /// batch names no types.
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

    /// A vector put before the rows of each window.
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

    /// The rows that the objective reads, where it reads single ones; else everything.
    ///
    /// # Shapes
    /// `x` (B, T, C); result (N, C), or `x`.
    pub fn pick(&mut self, x: Node) -> Node {
        let Reading::Picked(rows) = self.reading else { return x };
        let shape = vec![rows, self.shape(x)[2]];
        self.push(rows::Pick, &[x], shape)
    }

    /// The mean of each window's rows that are no padding, where the objective reads that; else
    /// everything.
    ///
    /// # Shapes
    /// `x` (B, T, C); result (B, C), or `x`.
    pub fn average(&mut self, x: Node) -> Node {
        if self.reading != Reading::Mean {
            return x;
        }

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

    fn site(&mut self) -> usize {
        self.sites += 1;
        self.sites - 1
    }

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
