//! An optimizer's state from a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::resting::Resting;
use super::{Optimizer, ParameterMoments};

/// Everything in an optimizer that changes over a run.
#[derive(Debug, Default)]
pub struct OptimizerState {
    /// Moments of parameters outside of blocks.
    pub shared: Vec<ParameterMoments>,
    /// Moments in memory, by slot.
    pub slots: BTreeMap<usize, Vec<ParameterMoments>>,
    /// Moments of what each layer keeps for itself, by layer.
    pub kept: BTreeMap<usize, Vec<ParameterMoments>>,
    /// Moments at rest, by slot.
    pub resting: BTreeMap<usize, Arc<Resting>>,
}

impl Optimizer {
    /// Replaces the present state by a saved one.
    pub fn restore(&mut self, state: OptimizerState) {
        let OptimizerState { shared, slots, kept, resting } = state;

        self.shared = shared;
        self.slots = slots;
        self.kept = kept;
        self.resting = resting;
    }
}
