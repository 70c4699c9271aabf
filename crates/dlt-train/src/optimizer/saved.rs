//! An optimizer's state from a checkpoint.

use std::collections::BTreeMap;

use super::{Optimizer, ParameterMoments};

impl Optimizer {
    /// Puts a saved state in place of the present one: of parameters outside of blocks, and of each slot.
    pub fn restore(&mut self, shared: Vec<ParameterMoments>, slots: BTreeMap<usize, Vec<ParameterMoments>>) {
        self.shared = shared;
        self.slots = slots;
    }
}
