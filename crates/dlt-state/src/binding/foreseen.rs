//! What a decision does to the function of a network, seen from the weights that are there before it.

use super::{Binding, Change, Move, Rules, StorageId};
use crate::StateError;

impl Binding {
    /// The binding that [`apply`](Self::apply) leads to, with the source of each copy in place of
    /// the copy. Every storage in it is one of this binding, with the values that the layer would
    /// compute with. So a network can be evaluated as it would be after a decision, and nothing has
    /// to be moved for that.
    ///
    /// It is for evaluation alone: layers that would have copies of one block share that block.
    /// Averages ([`Merge::Average`](super::Merge::Average)) are not in place before the decision, and are left out.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    ///
    /// ```
    /// use dlt_state::State;
    /// use dlt_state::binding::{Binding, Change, Rules, StorageId};
    ///
    /// // Layer 1 would train a copy of the weights of layer 0, and layer 2 would use that copy.
    /// let binding = Binding::of_state(&State::new(vec![0, 0, 2])?);
    /// let (from, to) = (State::new(vec![0, 0, 2])?, State::new(vec![0, 1, 1])?);
    /// let foreseen = binding.foreseen(&Rules::PAPER, &Change::joint(&from, &to))?;
    /// assert_eq!([0, 1, 2].map(|layer| foreseen.storage(layer)), [StorageId(0); 3]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn foreseen(&self, rules: &Rules, change: &Change<'_>) -> Result<Self, StateError> {
        let mut next = self.clone();
        let moves = next.apply(rules, change)?.moves;
        next.storage.iter_mut().for_each(|id| *id = origin(*id, &moves));
        Ok(next)
    }

    /// Whether each layer uses the block that it used before, or a copy of it.
    pub(super) fn keeps_function(&self, before: &Self, moves: &[Move]) -> bool {
        let blends = moves.iter().any(|step| matches!(step, Move::Blend { .. }));

        !blends
            && (0..self.n_layers())
                .all(|layer| origin(self.storage[layer], moves) == before.storage[layer])
    }
}

/// The block that a storage has its values from: its source if it is a copy, else itself.
fn origin(id: StorageId, moves: &[Move]) -> StorageId {
    let copied = moves.iter().find_map(|step| match step {
        Move::Copy { from, to } if *to == id => Some(*from),
        _ => None,
    });

    copied.unwrap_or(id)
}
