//! What every family of transformer has: a stem that embeds, a stack of equal blocks, a head.
//!
//! Another [family](crate::families) is one file that implements [`Architecture`], here or in a
//! crate of its own. Tying, checkpointing, training and the prediction of memory are written once,
//! over this trait.

use std::fmt::Debug;
use std::sync::Arc;

use dlt_kernels::{Dropout, Gelu};
use dlt_spec::size::Extents;
use dlt_spec::spec::{Objective, Output, Pooling};
use dlt_spec::{CheckedSpec, spec};

use crate::division::{BlockParts, Division, Keeps};
use crate::graph::{Graph, Node};
use crate::huggingface::FileNames;
use crate::parameters::{Entry, Init, Layout};
use crate::{Result, families};

/// A family of transformer at given sizes.
pub trait Architecture: FileNames + Debug + Send + Sync {
    /// Sizes and settings that every family has.
    fn form(&self) -> &Form;

    /// Parameters outside of blocks.
    fn shared_layout(&self) -> Layout;

    /// Parameters of one block.
    fn block_layout(&self) -> Layout;

    /// What the parameters of a block are.
    fn block_parts(&self) -> BlockParts;

    /// The parameters of one block, divided into tied ones and those that each layer keeps. If
    /// layers keep scales, they are among them.
    fn division(&self) -> Division {
        let Form { keeps, width, .. } = self.form();
        Division::new(&self.block_layout(), &self.block_parts(), keeps, *width)
    }

    /// What goes into the stem.
    fn stem_input(&self) -> StemInput;

    /// What is predicted.
    fn head_settings(&self) -> HeadSettings {
        self.form().head
    }

    /// What turns the head's rows into scores.
    fn output(&self) -> Projection;

    /// Names of the shared parameters that belong to the objective alone. They are new if a model
    /// continues that was trained for another objective.
    fn own_head(&self) -> &'static [&'static str];

    /// Names of the block's parameters that end its two residual branches, weights and biases. To
    /// multiply a branch by a factor is to multiply these by it.
    fn branch_ends(&self) -> &'static [&'static str];

    /// Factor of both residual branches of a layer (DEVIATIONS row 44).
    fn residual_factor(&self, layer: usize) -> f64 {
        self.form().residual_factors.get(layer).copied().unwrap_or(1.0)
    }

    /// Name of layer `layer`'s parameters up to the block's own names, e.g. `transformer.h.3.`.
    fn block_prefix(&self, layer: usize) -> String;

    /// Names of the shared parameters up to their own, e.g. `transformer.`.
    fn shared_prefix(&self) -> &'static str;

    /// Longest window, in positions that pass through the blocks.
    fn max_tokens(&self) -> usize;

    /// Width of the residual stream, C.
    fn width(&self) -> usize {
        self.form().width
    }

    /// Number of layers, L.
    fn n_layers(&self) -> usize {
        self.form().layers
    }

    /// Number of heads of keys and values, G, which generation caches for each token and layer.
    fn key_heads(&self) -> usize {
        self.form().heads
    }

    /// Width of a head, D.
    fn head_width(&self) -> usize {
        self.form().width / self.form().heads
    }

    /// Writes the stem, which makes the input of the first block from the rows of the token table
    /// or from patches.
    ///
    /// # Shapes
    /// `input` (B, T, C) or (B, N, 3 P P); result (B, T, C).
    ///
    /// # Errors
    /// [`ModelError::Batch`](crate::ModelError::Batch) for more tokens than positions.
    fn embed(&self, graph: &mut Graph, input: Node) -> Result<Node>;

    /// Writes one block.
    ///
    /// # Shapes
    /// `x` (B, T, C); result the same.
    ///
    /// # Errors
    /// Fails for a name that the layout lacks.
    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node>;

    /// Writes the head, which makes what the output multiplies. It must pick the rows that the
    /// objective reads ([`Graph::pick`], [`Graph::average`]).
    ///
    /// # Shapes
    /// `x` (B, T, C); result (B, T, C), or (N, C) where N rows are read.
    ///
    /// # Errors
    /// Fails for a name that the layout lacks.
    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node>;
}

/// What goes into the stem of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StemInput {
    /// Rows of a table, by token.
    Tokens {
        /// Name of the shared parameter (V, C).
        table: &'static str,
        /// Size of the vocabulary, V.
        vocabulary: usize,
    },
    /// Pictures of three channels in patches.
    Pictures {
        /// Width and height of a picture.
        side: usize,
        /// Width and height of a patch, P.
        patch: usize,
    },
}

/// What turns the rows of a head into scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Name of the shared parameter (V, C) or (K, C).
    pub table: &'static str,
    /// Name of the shared parameter that is added, (V) or (K).
    pub bias: Option<&'static str>,
    /// Number of scores of a row: V or K, or 2 for a single score.
    pub rows: usize,
}

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadSettings {
    /// Tokens or classes.
    pub objective: Objective,
    /// Which weights turn rows into scores of tokens: the token table or their own.
    pub output: Output,
    /// Number of classes, K, or 1 for a single score; 0 where tokens are predicted.
    pub classes: usize,
    /// Which positions of a window the objective `classes` reads.
    pub pooling: Pooling,
}

impl HeadSettings {
    /// The token that follows each position, by the token table.
    pub const NEXT_TOKEN: Self = Self {
        objective: Objective::NextToken,
        output: Output::Tied,
        classes: 0,
        pooling: Pooling::LastReal,
    };

    /// One of `classes` classes for each window.
    #[must_use]
    pub fn of_classes(classes: usize, pooling: Pooling) -> Self {
        Self { objective: Objective::Classes, output: Output::Tied, classes, pooling }
    }

    fn of_spec(spec: &CheckedSpec, data: Extents) -> Self {
        let model = &spec.model;
        let has_classes = model.objective == Objective::Classes;
        let classes = if has_classes { spec.extents(data).classes } else { 0 };
        Self { objective: model.objective, output: model.output, classes, pooling: model.pooling }
    }

    /// Whether classes are predicted.
    #[must_use]
    pub fn has_classes(&self) -> bool {
        self.objective == Objective::Classes
    }

    /// Whether a single score distinguishes two classes: class 1 if it is above 0 (DEVIATIONS row
    /// 24).
    #[must_use]
    pub fn has_single_score(&self) -> bool {
        self.has_classes() && self.classes == 1
    }

    /// Number of classes that the scores distinguish.
    #[must_use]
    pub fn told_classes(&self) -> usize {
        if self.has_single_score() { 2 } else { self.classes }
    }
}

/// The sizes and settings that every family has.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// Number of layers, L.
    pub layers: usize,
    /// Width of the residual stream, C.
    pub width: usize,
    /// Attention heads, H.
    pub heads: usize,
    /// Width of the feed-forward layer, F.
    pub feed_forward: usize,
    /// Epsilon of the norms.
    pub norm_epsilon: f64,
    /// Standard deviation of initial weights.
    pub initial_std: f64,
    /// Factor of both residual branches of each layer; 1 for layers beyond the list.
    pub residual_factors: Vec<f64>,
    /// What each layer keeps for itself, whatever it shares.
    pub keeps: Keeps,
    /// What is predicted.
    pub head: HeadSettings,
}

impl Form {
    /// The sizes and settings that a spec has for data of these extents.
    #[must_use]
    pub fn of_spec(spec: &CheckedSpec, data: Extents) -> Self {
        let model = &spec.model;

        Self {
            layers: model.layers,
            width: model.width,
            heads: model.heads,
            feed_forward: spec.feed_forward(),
            norm_epsilon: model.norm_epsilon,
            initial_std: model.initial_std,
            residual_factors: spec.residual_factors(),
            keeps: Keeps { unit: spec.tying.unit, own: spec.tying.own.clone() },
            head: HeadSettings::of_spec(spec, data),
        }
    }

    /// Initial values of most weights.
    pub(crate) fn normal(&self) -> Init {
        Init::Normal(self.initial_std)
    }

    /// Initial values of projections into the residual stream, as in GPT-2: the deviation is
    /// divided by the square root of 2 L.
    pub(crate) fn residual(&self) -> Init {
        Init::Normal(self.initial_std / (2.0 * self.layers as f64).sqrt())
    }
}

/// The model of a spec with data of these extents.
#[must_use]
pub fn of_spec(spec: &CheckedSpec, data: Extents) -> Arc<dyn Architecture> {
    let family = families::of(spec.model.architecture);
    (family.of_spec)(spec, Form::of_spec(spec, data), spec.extents(data).vocabulary)
}

/// The GELU of a spec.
pub(crate) fn gelu(spec: &CheckedSpec) -> Gelu {
    match spec.model.gelu {
        spec::Gelu::Tanh => Gelu::Tanh,
        spec::Gelu::Erf => Gelu::Erf,
    }
}

pub(crate) fn entry(name: &'static str, shape: &[usize], init: Init) -> Entry {
    Entry { name, shape: shape.to_vec(), init }
}

pub(crate) const ZERO: Init = Init::Constant(0.0);
pub(crate) const ONE: Init = Init::Constant(1.0);

/// Dropout of one training pass. A mask depends only on the seed, the site and the window's number
/// in the batch. So the pieces of a batch get the masks of the whole batch, and a block that is
/// computed again gets the same masks.
#[derive(Clone, Copy, Debug)]
pub struct DropoutPass {
    /// Probability that an activation is zeroed.
    pub probability: f64,
    /// Seed of the step.
    pub seed: u64,
    /// Number of the first window of this piece in its batch.
    pub first_window: usize,
}

impl DropoutPass {
    /// Dropout at a site of the model for an activation of `per_window` numbers a window; `None` if
    /// nothing is dropped. Sites count from the stem through the blocks to the head.
    pub(crate) fn at(&self, site: usize, per_window: usize) -> Option<Dropout> {
        (self.probability > 0.0).then(|| Dropout {
            probability: self.probability as f32,
            // The constant is 2^64 over the golden ratio. It spreads neighbouring sites over all
            // bits.
            seed: self.seed ^ (site as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            // The masks of a piece start where those of the windows before it end.
            offset: (self.first_window * per_window) as u64,
        })
    }
}
