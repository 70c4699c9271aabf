//! An optimizer's state from a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::resting::Resting;
use super::{Optimizer, ParameterMoments};

/// Everything that an optimizer remembers.
#[derive(Debug, Default)]
pub struct OptimizerState {
    /// Moments of parameters outside of blocks.
    pub shared: Vec<ParameterMoments>,
    /// Moments in memory, by slot.
    pub slots: BTreeMap<usize, Vec<ParameterMoments>>,
    /// Moments at rest, by slot.
    pub resting: BTreeMap<usize, Arc<Resting>>,
}

impl Optimizer {
    /// Puts a saved state in place of the present one.
    pub fn restore(&mut self, state: OptimizerState) {
        let OptimizerState { shared, slots, resting } = state;
        (self.shared, self.slots, self.resting) = (shared, slots, resting);
    }
}
