//! Which parameters of a block layers can share, and which each layer keeps for itself.
//!
//! The tying state decides about the tied parameters alone: they lie in storages, and a layer uses
//! those of the storage that its binding names. What a layer keeps is like any other parameter of a
//! conventional network. It belongs to the layer in every state, and trains from the first step.

use std::sync::Arc;

use dlt_spec::spec::{Own, Unit};

use crate::architecture::{ONE, entry};
use crate::parameters::Layout;

/// What each layer keeps, as a spec says it (DEVIATIONS rows 50 and 51).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeps {
    /// The part of a block that layers can share.
    pub unit: Unit,
    /// Small parameters that each layer keeps, whatever its half.
    pub own: Vec<Own>,
}

impl Keeps {
    /// Nothing is kept: layers share whole blocks.
    pub const NOTHING: Self = Self { unit: Unit::Block, own: Vec::new() };
}

/// The halves of a block. Each is a residual branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Attention, with its norms.
    Attention,
    /// The feed-forward layer, with its norms.
    FeedForward,
}

impl Half {
    /// Name of the gain that multiplies what the half adds to the residual stream, if layers have
    /// such gains.
    #[must_use]
    pub fn scale(self) -> &'static str {
        match self {
            Self::Attention => "scale.attention",
            Self::FeedForward => "scale.feed_forward",
        }
    }
}

/// What the parameters of a family's block are, by the beginnings of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockParts {
    /// Those of the feed-forward half; all others belong to attention.
    pub feed_forward: &'static [&'static str],
    /// Those of norms, gains and biases.
    pub norms: &'static [&'static str],
}

impl BlockParts {
    /// The half of a parameter.
    #[must_use]
    pub fn half(&self, name: &str) -> Half {
        if begins(name, self.feed_forward) || name == Half::FeedForward.scale() {
            Half::FeedForward
        } else {
            Half::Attention
        }
    }

    /// Whether each layer keeps a parameter of this name and number of dimensions.
    fn are_kept(&self, keeps: &Keeps, name: &str, rank: usize) -> bool {
        let own = if is_scale(name) {
            Some(Own::Scales)
        } else if begins(name, self.norms) {
            Some(Own::Norms)
        } else {
            (rank == 1).then_some(Own::Biases)
        };

        let is_in_other_half = match keeps.unit {
            Unit::Block => false,
            Unit::Attention => self.half(name) == Half::FeedForward,
            Unit::FeedForward => self.half(name) == Half::Attention,
        };
        is_in_other_half || own.is_some_and(|own| keeps.own.contains(&own))
    }
}

/// The parameters of a block, divided into those that are tied and those that each layer keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Division {
    all: Arc<Layout>,
    tied: Arc<Layout>,
    kept: Arc<Layout>,
    is_kept: Vec<bool>,
}

impl Division {
    /// Divides the parameters of a family's block. If layers keep scales, these come after the
    /// others; they are vectors of `width` numbers, 1 at first.
    #[must_use]
    pub fn new(family: &Layout, parts: &BlockParts, keeps: &Keeps, width: usize) -> Self {
        let mut entries = family.entries().to_vec();
        if keeps.own.contains(&Own::Scales) {
            let scale = |half: Half| entry(half.scale(), &[width], ONE);
            entries.extend([Half::Attention, Half::FeedForward].map(scale));
        }

        let is_kept: Vec<_> = entries
            .iter()
            .map(|entry| parts.are_kept(keeps, entry.name, entry.shape.len()))
            .collect();
        let of = |kept: bool| {
            let divided = entries.iter().zip(&is_kept).filter(|(_, is_kept)| **is_kept == kept);
            Arc::new(Layout::new(divided.map(|(entry, _)| entry.clone()).collect()))
        };

        let (tied, kept) = (of(false), of(true));
        Self { all: Arc::new(Layout::new(entries)), tied, kept, is_kept }
    }

    /// All parameters of a block, in order.
    #[must_use]
    pub fn all(&self) -> &Arc<Layout> {
        &self.all
    }

    /// Those that layers can share, in the same order.
    #[must_use]
    pub fn tied(&self) -> &Arc<Layout> {
        &self.tied
    }

    /// Those that each layer keeps, in the same order.
    #[must_use]
    pub fn kept(&self) -> &Arc<Layout> {
        &self.kept
    }

    /// Whether layers keep anything.
    #[must_use]
    pub fn keeps_any(&self) -> bool {
        self.is_kept.contains(&true)
    }

    /// Number of parameters in the blocks of `layers` layers, of which `blocks` have tied parameters
    /// of their own.
    #[must_use]
    pub fn n_parameters(&self, layers: usize, blocks: usize) -> usize {
        blocks * self.tied.n_parameters() + layers * self.kept.n_parameters()
    }

    /// For each parameter, whether each layer keeps its own.
    #[must_use]
    pub fn is_kept(&self) -> &[bool] {
        &self.is_kept
    }

    /// For each parameter of a block, what `tied` or `kept` has at its place.
    ///
    /// # Panics
    /// If either is shorter than its layout.
    #[must_use]
    pub fn joined<T>(
        &self,
        tied: impl IntoIterator<Item = T>,
        kept: impl IntoIterator<Item = T>,
    ) -> Vec<T> {
        let mut tied = tied.into_iter();
        let mut kept = kept.into_iter();
        let next = |&is_kept: &bool| if is_kept { kept.next() } else { tied.next() };
        let all: Option<Vec<_>> = self.is_kept.iter().map(next).collect();
        all.expect("as many as the two layouts have entries")
    }

    /// Divides what there is for each parameter of a block: tied, and kept.
    #[must_use]
    pub fn divided<T>(&self, all: Vec<T>) -> (Vec<T>, Vec<T>) {
        let (mut tied, mut kept) = (Vec::new(), Vec::new());
        for (each, &is_kept) in all.into_iter().zip(&self.is_kept) {
            if is_kept { kept.push(each) } else { tied.push(each) }
        }

        (tied, kept)
    }
}

/// Whether a parameter of a block is a scale.
#[must_use]
pub fn is_scale(name: &str) -> bool {
    [Half::Attention, Half::FeedForward].iter().any(|half| half.scale() == name)
}

fn begins(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}
