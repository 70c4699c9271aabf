//! A binding as a checkpoint holds it, with the numbers of its storages.

use alloc::vec::Vec;

use super::{Binding, StorageId};
use crate::StateError;

/// Everything in a [`Binding`], as plain numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct SavedBinding {
    /// Number of each layer's storage.
    pub storage: Vec<usize>,
    /// Layers that use their initial weights, untrained; rising.
    pub frozen: Vec<usize>,
    /// Layers that train by themselves, rising.
    pub independent: Vec<usize>,
    /// Number of the next new storage.
    pub next: usize,
}

impl Binding {
    /// All of this binding: [`restore`](Self::restore) returns an equal one.
    ///
    /// ```
    /// use dlt_state::binding::Binding;
    ///
    /// let saved = Binding::frozen(2).save();
    /// assert_eq!((&saved.storage[..], saved.next), (&[0, 1][..], 2));
    /// assert_eq!(Binding::restore(&saved)?, Binding::frozen(2));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn save(&self) -> SavedBinding {
        let layers = |is: &[bool]| (0..is.len()).filter(|&layer| is[layer]).collect();
        SavedBinding {
            storage: self.storage.iter().map(|id| id.0).collect(),
            frozen: layers(&self.frozen),
            independent: layers(&self.trains_alone),
            next: self.next,
        }
    }

    /// The binding that was saved.
    ///
    /// # Errors
    ///
    /// [`StateError::Empty`] without a layer, [`StateError::LayerOutOfRange`] for a layer that does
    /// not exist, [`StateError::StorageOutOfRange`] for a storage that does not,
    /// [`StateError::CannotFreeze`] where a frozen layer trains or has a later storage.
    pub fn restore(saved: &SavedBinding) -> Result<Self, StateError> {
        let SavedBinding { storage, frozen, independent, next } = saved;
        let n_layers = storage.len();
        check_layers(n_layers, frozen, independent)?;

        if let Some(&id) = storage.iter().find(|&id| id >= next) {
            return Err(StateError::StorageOutOfRange { id, next: *next });
        }

        // A frozen layer uses the storage that it began with, which nobody trains.
        let is_frozen = |layer: usize| frozen.contains(&layer);
        for (layer, &id) in storage.iter().enumerate() {
            if is_frozen(layer) && (id >= n_layers || independent.contains(&layer)) {
                return Err(StateError::CannotFreeze { layer });
            }
        }

        Ok(Self {
            storage: storage.iter().copied().map(StorageId).collect(),
            frozen: (0..n_layers).map(is_frozen).collect(),
            trains_alone: (0..n_layers).map(|layer| independent.contains(&layer)).collect(),
            next: *next,
        })
    }
}

impl From<Binding> for SavedBinding {
    fn from(binding: Binding) -> Self {
        binding.save()
    }
}

impl TryFrom<SavedBinding> for Binding {
    type Error = StateError;

    fn try_from(saved: SavedBinding) -> Result<Self, StateError> {
        Self::restore(&saved)
    }
}

/// Fails unless there is a layer, and every layer that is named exists.
pub(super) fn check_layers(
    n_layers: usize,
    frozen: &[usize],
    independent: &[usize],
) -> Result<(), StateError> {
    if n_layers == 0 {
        return Err(StateError::Empty);
    }

    match frozen.iter().chain(independent).find(|&&layer| layer >= n_layers) {
        Some(&layer) => Err(StateError::LayerOutOfRange { layer, n_layers }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn saved(
        storage: &[usize],
        frozen: &[usize],
        independent: &[usize],
        next: usize,
    ) -> SavedBinding {
        let list = |layers: &[usize]| layers.to_vec();
        SavedBinding {
            storage: list(storage),
            frozen: list(frozen),
            independent: list(independent),
            next,
        }
    }

    #[test]
    fn law_a_saved_binding_comes_back_equal() {
        let mut binding = Binding::frozen(4);
        assert_eq!(Binding::restore(&binding.save()), Ok(binding.clone()));
        binding.storage[2] = StorageId(7);
        binding.frozen[2] = false;
        binding.next = 8;
        assert_eq!(Binding::restore(&binding.save()), Ok(binding));
    }

    #[test]
    fn rejects_bindings_that_contradict_themselves() {
        for (wrong, says) in [
            (saved(&[], &[], &[], 0), "at least one layer"),
            (saved(&[0, 1], &[2], &[0], 2), "one of the 2 layers, got layer 2"),
            (saved(&[0, 5], &[], &[0], 2), "below 2, got storage 5"),
            (saved(&[0, 1], &[1], &[1], 2), "layer 1 cannot be frozen"),
            (saved(&[0, 2], &[1], &[0], 3), "layer 1 cannot be frozen"),
        ] {
            let error = Binding::restore(&wrong).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
