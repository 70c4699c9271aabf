//! What a stretch of a transformer computes, written down once and run many times.
//!
//! An architecture writes its stem, block and head as a [`Graph`] over named parameters and shapes, without a
//! tensor. The same graph then runs forward with any block's weights, keeps of its values only what its
//! backward pass reads and cannot cheaply find again, runs backward, and tells how much memory all that takes
//! before anything is allocated.

mod attention;
mod elementwise;
mod linear;
mod memory;
mod norm;
mod operation;
mod run;

use std::sync::Arc;

use dlt_kernels::{Gelu, Mask};

use crate::architecture::Architecture;
use crate::parameters::Layout;
use crate::{ModelError, Result};
pub use memory::Footprint;
use operation::Operation;
pub(crate) use run::{Run, Trace};

/// The graphs of a model for one shape of batch.
#[derive(Debug)]
pub(crate) struct Stretches {
    /// From rows of the token table to the input of the first block.
    pub(crate) stem: Graph,
    /// From the input of a block to that of the next.
    pub(crate) block: Graph,
    /// From the result of the last block to what the output table multiplies.
    pub(crate) head: Graph,
}

impl Stretches {
    /// The graphs for (B, T) ids.
    pub(crate) fn new(
        architecture: &dyn Architecture,
        shared: &Arc<Layout>,
        block: &Arc<Layout>,
        dims: &[usize],
    ) -> Result<Self> {
        let x = [dims, &[architecture.width()]].concat();
        Ok(Self {
            stem: Graph::write(shared, &x, |graph, rows| architecture.embed(graph, rows))?,
            block: Graph::write(block, &x, |graph, x| architecture.block(graph, x))?,
            head: Graph::write(shared, &x, |graph, x| architecture.head(graph, x))?,
        })
    }

    /// Number of a layer's first place for dropout in the whole model.
    pub(crate) fn first_site(&self, layer: usize) -> usize {
        self.stem.sites + layer * self.block.sites
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

/// A stretch of a model, from one input of a given shape to one result: values in the order in which they
/// are computed.
#[derive(Debug)]
pub struct Graph {
    layout: Arc<Layout>,
    input: Vec<usize>,
    steps: Vec<Step>,
    sites: usize,
}

impl Graph {
    /// The graph that `write` makes over these parameters, for an input of this shape. What it returns is the
    /// result, which has to be the value that was written last.
    ///
    /// # Errors
    /// Those of `write`.
    pub(crate) fn write(
        layout: &Arc<Layout>,
        input: &[usize],
        write: impl FnOnce(&mut Self, Node) -> Result<Node>,
    ) -> Result<Self> {
        let mut graph =
            Self { layout: Arc::clone(layout), input: input.to_vec(), steps: Vec::new(), sites: 0 };
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

    /// `x · weightᵀ + bias`.
    ///
    /// # Shapes
    /// `x` (..., in); result (..., out).
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a name that the layout lacks.
    pub fn linear(&mut self, x: Node, weight: &str, bias: &str) -> Result<Node> {
        let (weight, bias, shape) = self.affine(x, weight, bias)?;
        Ok(self.push(linear::Linear { weight, bias }, &[x], shape))
    }

    /// [`linear`](Self::linear) followed by GELU.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn linear_gelu(&mut self, x: Node, weight: &str, bias: &str, kind: Gelu) -> Result<Node> {
        let (weight, bias, shape) = self.affine(x, weight, bias)?;
        let elements = shape.iter().product();
        Ok(self.push(linear::LinearGelu { weight, bias, kind, elements }, &[x], shape))
    }

    /// Layer norm over the last dimension.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn layer_norm(&mut self, x: Node, weight: &str, bias: &str, epsilon: f64) -> Result<Node> {
        let operation =
            norm::LayerNorm { weight: self.layout.number(weight)?, bias: self.layout.number(bias)?, epsilon };
        Ok(self.push(operation, &[x], self.shape(x).to_vec()))
    }

    /// Attention of H heads over queries, keys and values side by side, with a place for dropout of the
    /// probabilities.
    ///
    /// # Shapes
    /// `qkv` (B, T, 3C); result (B, T, C).
    pub fn attention(&mut self, qkv: Node, heads: usize, mask: Mask) -> Node {
        let mut shape = self.shape(qkv).to_vec();
        shape[2] /= 3;
        let site = self.site();
        self.push(attention::Attention { heads, mask, site }, &[qkv], shape)
    }

    /// A place for dropout.
    pub fn dropout(&mut self, x: Node) -> Node {
        let site = self.site();
        self.push(elementwise::Drop { site }, &[x], self.shape(x).to_vec())
    }

    /// `a + b`, of the same shape.
    pub fn add(&mut self, a: Node, b: Node) -> Node {
        self.push(elementwise::Add, &[a, b], self.shape(a).to_vec())
    }

    /// The first T rows of a table added to each window.
    ///
    /// # Shapes
    /// `x` (B, T, C), table (P, C).
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a name that the layout lacks, [`ModelError::Batch`] for more than P tokens.
    pub fn add_rows(&mut self, x: Node, table: &str) -> Result<Node> {
        let (table, shape) = (self.layout.number(table)?, self.shape(x).to_vec());
        let positions = self.layout.entries()[table].shape[0];
        if shape[1] > positions {
            return Err(ModelError::Batch {
                expected: format!("at most {positions} tokens a window"),
                came: shape[1].to_string(),
            });
        }
        Ok(self.push(elementwise::AddRows { table }, &[x], shape))
    }

    fn affine(&self, x: Node, weight: &str, bias: &str) -> Result<(usize, usize, Vec<usize>)> {
        let (weight, bias) = (self.layout.number(weight)?, self.layout.number(bias)?);
        let mut shape = self.shape(x).to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.layout.entries()[weight].shape[0];
        }
        Ok((weight, bias, shape))
    }

    fn site(&mut self) -> usize {
        self.sites += 1;
        self.sites - 1
    }

    fn push(&mut self, operation: impl Operation + 'static, inputs: &[Node], shape: Vec<usize>) -> Node {
        let inputs = inputs.iter().map(|node| node.0).collect();
        self.steps.push(Step { operation: Box::new(operation), inputs, shape });
        Node(self.steps.len())
    }
}
