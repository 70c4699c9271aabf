//! What a part of a transformer computes, written down once and run many times.
//!
//! An architecture writes its stem, block and head as a [`Graph`] over named parameters and shapes,
//! without a tensor. It calls a method for each operation, which is in the operation's file. The
//! same graph then runs forward with the weights of any block. It keeps only the values that its
//! backward pass reads and that are not cheap to compute again, and it runs backward. It also says
//! how much memory all this needs before anything is allocated.

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

use dlt_spec::size::CHANNELS;

use crate::architecture::{Architecture, StemInput};
use crate::batch::Dims;
use crate::parameters::Layout;
use crate::{ModelError, Result};
pub use memory::Footprint;
use operation::Operation;
pub use operation::Trained;
pub(crate) use operation::{BlockPacks, absent};
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
