//! Which storage each layer uses, which layers are frozen, and which optimizer state gets the
//! gradient of which position; and the plan of copies and releases that carries a network from one
//! state to the next.
//!
//! A [`State`] says who owns whose weights. A [`Binding`] says what is physically in place. The two
//! differ
//!
//! - while layers are still frozen;
//! - while layers train their own weights before their first decision, though the state is 0;
//! - for good under the authors' reading ([`Untie::Alias`], [`Retied::Keep`]), where layers that
//!   the state calls independent continue to share storage;
//! - for good under [`Tie::Replicate`], where layers that the state calls tied have their own
//!   storage.
//!
//! A decision turns one binding into the next as a list of [`Move`]s. Whoever holds the tensors
//! carries them out, in any framework. No tensor is touched here.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use dlt_state::State;
//! use dlt_state::binding::{Binding, Change, Move, Rules};
//!
//! // Each storage holds some weights: here one number, in a framework a module.
//! let from = State::independent(3);
//! let mut binding = Binding::of_state(&from);
//! let mut bank: BTreeMap<_, f32> =
//!     (0..3).map(|layer| (binding.storage(layer), layer as f32)).collect();
//!
//! // Layers 1 and 2 give up their weights; then layer 2 trains a copy of those of layer 0.
//! let tied = State::all_tied(3);
//! let next = State::new(vec![0, 0, 2])?;
//! for change in [Change::joint(&from, &tied), Change::joint(&tied, &next)] {
//!     for step in binding.apply(&Rules::PAPER, &change)?.moves {
//!         match step {
//!             Move::Copy { from, to } => {
//!                 let copied = bank[&from];
//!                 bank.insert(to, copied);
//!             }
//!             Move::Release(id) => {
//!                 bank.remove(&id);
//!             }
//!             other => unreachable!("no layer is frozen and nothing is averaged: {other:?}"),
//!         }
//!     }
//! }
//!
//! assert_eq!(bank.len(), 2);
//! assert_eq!(binding.storage(0), binding.storage(1));
//! assert_ne!(binding.storage(0), binding.storage(2));
//! assert_eq!(bank[&binding.storage(2)], 0.0);
//! # Ok::<(), dlt_state::StateError>(())
//! ```

use alloc::vec;
use alloc::vec::Vec;

use crate::{Action, State, StateError};

mod foreseen;
mod merge;
mod rules;
mod saved;

pub use rules::{FirstTie, Gradient, Merge, Retied, Rules, Tie, Untie};
pub use saved::SavedBinding;

/// Identity of one storage of block weights. Layer `i` starts with storage `i`; new storages get
/// the numbers after these, and no number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(pub usize);

/// One decision, as the binding needs it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// State before.
    pub from: &'a State,
    /// State after: Eq. 1 of `action`.
    pub to: &'a State,
    /// The whole action vector after the decision.
    pub action: &'a Action,
    /// The layer that was decided; `None` if all were.
    pub visited: Option<usize>,
}

impl<'a> Change<'a> {
    /// A decision for all layers, which asks for state `to` itself.
    ///
    /// ```
    /// use dlt_state::State;
    /// use dlt_state::binding::Change;
    ///
    /// let (from, to) = (State::all_tied(2), State::independent(2));
    /// assert_eq!(Change::joint(&from, &to).action.values(), [0, 1]);
    /// ```
    #[must_use]
    pub fn joint(from: &'a State, to: &'a State) -> Self {
        Self { from, to, action: to.as_action(), visited: None }
    }

    fn visits(&self, layer: usize) -> bool {
        self.visited.is_none_or(|visited| visited == layer)
    }
}

/// One thing that the holder of the weights has to do for a decision.
///
/// Order of the moves: copies, then blends, then releases. So a copy holds what its source held
/// before the decision. The one exception is the block that a replicated layer leaves. It is
/// released before the layer's new block is made, so that there are never more blocks than layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Move {
    /// The initial weights of a frozen layer become a stored, trainable block.
    Materialise(StorageId),
    /// A new block with the values of another one.
    Copy {
        /// Source.
        from: StorageId,
        /// New block.
        to: StorageId,
    },
    /// A block becomes `1 - share` times itself plus `share` times another one, which is released
    /// afterwards.
    Blend {
        /// The block that is released.
        from: StorageId,
        /// The block that receives its values.
        into: StorageId,
        /// Weight of the released block, in (0, 1).
        share: f64,
    },
    /// No layer uses this block any more.
    Release(StorageId),
}

/// An average of moments that goes with a [`Move::Blend`]: the moments of the released block are
/// averaged into those of the block that receives its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merged {
    /// The layer whose optimizer state ends with the released block.
    pub from: usize,
    /// The layer whose optimizer state receives the moments.
    pub into: usize,
    /// Weight of the moments that end, in (0, 1).
    pub share: f64,
}

/// What a decision did, besides the new binding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settlement {
    /// What the holder of the weights has to do, in order.
    pub moves: Vec<Move>,
    /// Layers that now train by themselves and did not before, rising. Each has the lowest layer
    /// that trained the storage which it used. `None`: no layer did, because the layer was frozen
    /// or used an abandoned block.
    pub untied: Vec<(usize, Option<usize>)>,
    /// Layers that no longer train by themselves, rising.
    pub tied: Vec<usize>,
    /// Layers that got a copy of their owner's weights and train it by themselves, rising. None of
    /// them is in `untied`.
    pub replicated: Vec<usize>,
    /// Moments to average into others, in this order.
    pub merged: Vec<Merged>,
    /// Whether every layer computes with the same weights as before, in the same block or in a copy
    /// of it.
    pub keeps_function: bool,
}

/// Who uses which storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "SavedBinding", into = "SavedBinding")
)]
pub struct Binding {
    storage: Vec<StorageId>,
    frozen: Vec<bool>,
    trains_alone: Vec<bool>,
    next: usize,
}

/// What one layer is to do in a decision.
enum Plan {
    /// Keep its storage.
    Stay,
    /// Train its own initial weights, which were frozen.
    Thaw,
    /// Use the storage of this layer.
    Share(usize),
    /// Train a copy of this layer's weights.
    Replicate(usize),
    /// Train the weights of this storage, which it shared, by itself.
    Own(StorageId),
}

impl Binding {
    /// Layer 0 trains. Every other layer uses its own initial weights, untrained (Algorithm 1, line
    /// 2).
    ///
    /// ```
    /// let binding = dlt_state::binding::Binding::frozen(3);
    /// assert!(!binding.is_frozen(0) && binding.is_frozen(2));
    /// assert_eq!((binding.n_distinct(), binding.n_training_alone()), (3, 1));
    /// ```
    #[must_use]
    pub fn frozen(n_layers: usize) -> Self {
        Self {
            storage: (0..n_layers).map(StorageId).collect(),
            frozen: (0..n_layers).map(|layer| layer > 0).collect(),
            trains_alone: (0..n_layers).map(|layer| layer == 0).collect(),
            next: n_layers,
        }
    }

    /// Every layer uses its owner's weights from the start.
    ///
    /// ```
    /// use dlt_state::State;
    /// use dlt_state::binding::{Binding, StorageId};
    ///
    /// let binding = Binding::of_state(&State::new(vec![0, 1, 1])?);
    /// assert_eq!(binding.storage(2), StorageId(1));
    /// assert_eq!(binding.trained(), [StorageId(0), StorageId(1)]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn of_state(state: &State) -> Self {
        let n_layers = state.n_layers();
        Self {
            storage: state.owners().iter().map(|&owner| StorageId(owner)).collect(),
            frozen: vec![false; n_layers],
            trains_alone: (0..n_layers).map(|layer| state.is_independent(layer)).collect(),
            next: n_layers,
        }
    }

    /// The binding in which `lowest[i]` is the lowest layer that uses layer `i`'s storage, as
    /// [`partition`](Self::partition) returns it. `frozen` and `independent` name the layers that
    /// are frozen and those that train by themselves.
    ///
    /// # Errors
    ///
    /// [`StateError::Empty`] without a layer, [`StateError::CannotShare`] where the layer named is
    /// not the lowest of its group, [`StateError::LayerOutOfRange`] for a layer that does not
    /// exist.
    ///
    /// ```
    /// use dlt_state::binding::Binding;
    ///
    /// let binding = Binding::from_parts(&[0, 0, 2], &[2], &[0])?;
    /// assert_eq!(binding.partition(), [0, 0, 2]);
    /// assert!(binding.is_frozen(2) && binding.trains_alone(0));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn from_parts(
        lowest: &[usize],
        frozen: &[usize],
        independent: &[usize],
    ) -> Result<Self, StateError> {
        let n_layers = lowest.len();
        saved::check_layers(n_layers, frozen, independent)?;

        // The lowest layer of a group must name itself.
        for (layer, &with) in lowest.iter().enumerate() {
            if with > layer || lowest[with] != with {
                return Err(StateError::CannotShare { layer, with });
            }
        }

        Ok(Self {
            storage: lowest.iter().copied().map(StorageId).collect(),
            frozen: (0..n_layers).map(|layer| frozen.contains(&layer)).collect(),
            trains_alone: (0..n_layers).map(|layer| independent.contains(&layer)).collect(),
            next: n_layers,
        })
    }

    /// Number of layers, L.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.storage.len()
    }

    /// The storage that a layer uses.
    ///
    /// # Panics
    ///
    /// If there is no such layer; so do the other methods that are asked about one.
    #[must_use]
    pub fn storage(&self, layer: usize) -> StorageId {
        self.storage[layer]
    }

    /// Whether a layer still uses its own initial weights, untrained.
    #[must_use]
    pub fn is_frozen(&self, layer: usize) -> bool {
        self.frozen[layer]
    }

    /// Whether a layer trains by itself, with its own optimizer state. These are the layers that
    /// the state calls independent ([`State::is_independent`]), with two exceptions. Under
    /// [`Tie::Replicate`] all layers that are not frozen train by themselves. A layer that is
    /// trainable from the start trains by itself until its first tie.
    #[must_use]
    pub fn trains_alone(&self, layer: usize) -> bool {
        self.trains_alone[layer]
    }

    /// Number of layers that train by themselves, see [`trains_alone`](Self::trains_alone).
    #[must_use]
    pub fn n_training_alone(&self) -> usize {
        self.trains_alone.iter().filter(|&&alone| alone).count()
    }

    /// Number of distinct storages in use; those of frozen layers count.
    #[must_use]
    pub fn n_distinct(&self) -> usize {
        self.partition().iter().enumerate().filter(|&(layer, &lowest)| layer == lowest).count()
    }

    /// For each layer the lowest layer that uses the same storage.
    #[must_use]
    pub fn partition(&self) -> Vec<usize> {
        let lowest = |id| self.storage.iter().position(|&other| other == id);
        self.storage.iter().enumerate().map(|(layer, &id)| lowest(id).unwrap_or(layer)).collect()
    }

    /// The slot of a position: the layer whose optimizer state uses its gradient. `None` if the
    /// position only passes gradients on.
    ///
    /// Under both rules a layer that trains by itself is its own slot. Under [`Gradient::Sum`] a
    /// tied position also adds its gradient, to the lowest layer that trains its storage, if there
    /// is one (DEVIATIONS row 2).
    ///
    /// ```
    /// use dlt_state::State;
    /// use dlt_state::binding::{Binding, Gradient};
    ///
    /// let binding = Binding::of_state(&State::all_tied(2));
    /// assert_eq!(binding.slot(1, Gradient::Sum), Some(0));
    /// assert_eq!(binding.slot(1, Gradient::Owner), None);
    /// ```
    #[must_use]
    pub fn slot(&self, layer: usize, gradient: Gradient) -> Option<usize> {
        match gradient {
            _ if self.frozen[layer] => None,
            _ if self.trains_alone[layer] => Some(layer),
            Gradient::Owner => None,
            Gradient::Sum => (0..self.n_layers()).find(|&other| {
                self.trains_alone[other] && self.storage[other] == self.storage[layer]
            }),
        }
    }

    /// The storages that at least one optimizer state updates, rising, each once.
    #[must_use]
    pub fn trained(&self) -> Vec<StorageId> {
        let mut trained: Vec<_> = (0..self.n_layers())
            .filter(|&layer| self.trains_alone[layer])
            .map(|layer| self.storage[layer])
            .collect();
        trained.sort_unstable();
        trained.dedup();

        trained
    }

    /// Carries a decision out: Algorithm 1, lines 10 to 19, under `rules` (DEVIATIONS rows 3 to 5,
    /// 25, 32 and 42). Returns what the holder of the weights and the optimizer have to do. After
    /// an error nothing has changed.
    ///
    /// # Errors
    ///
    /// [`StateError::DepthMismatch`] if the states or the action have another depth.
    ///
    /// ```
    /// use dlt_state::State;
    /// use dlt_state::binding::{Binding, Change, Move, Rules, StorageId};
    ///
    /// // At the start of Algorithm 1 layers 1 and 2 are frozen. Layer 1 now trains its own initial
    /// // weights, and layer 2 uses those of layer 0.
    /// let mut binding = Binding::frozen(3);
    /// let (from, to) = (State::all_tied(3), State::new(vec![0, 1, 0])?);
    /// let settlement = binding.apply(&Rules::PAPER, &Change::joint(&from, &to))?;
    /// assert_eq!(
    ///     settlement.moves,
    ///     [Move::Materialise(StorageId(1)), Move::Release(StorageId(2))]
    /// );
    /// assert_eq!(settlement.untied, [(1, None)]);
    /// assert!(!settlement.keeps_function);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    pub fn apply(&mut self, rules: &Rules, change: &Change<'_>) -> Result<Settlement, StateError> {
        for got in [change.from.n_layers(), change.to.n_layers(), change.action.values().len()] {
            if got != self.n_layers() {
                return Err(StateError::DepthMismatch { expected: self.n_layers(), got });
            }
        }

        let before = self.clone();
        let mut moves = Vec::new();
        let mut owning = Vec::new();
        let mut replicated = Vec::new();

        // In rising order, so that an owner's storage is settled before its members use it.
        for layer in 0..self.n_layers() {
            // All three read the flags of this layer that are overwritten below.
            let waits = self.waits(layer, rules, change);
            let plan = self.plan(layer, rules, change);
            let stays = matches!(plan, Plan::Stay);

            match plan {
                Plan::Stay => {}
                Plan::Thaw => {
                    self.frozen[layer] = false;
                    moves.push(Move::Materialise(self.storage[layer]));
                }
                Plan::Share(with) => {
                    self.storage[layer] = self.storage[with];
                    self.frozen[layer] = self.frozen[with];
                }
                Plan::Replicate(owner) => {
                    let left = self.renew(layer);
                    self.frozen[layer] = false;

                    // The old block goes before the new one is made: never more blocks than layers.
                    if !self.storage.contains(&left) {
                        moves.push(Move::Release(left));
                    }

                    moves.push(Move::Copy { from: self.storage[owner], to: self.storage[layer] });
                    replicated.push(layer);
                }
                // Settled below. It gets a new number already, so that later layers that share with
                // it in this decision do not share with its former owner.
                Plan::Own(used) => {
                    self.renew(layer);
                    owning.push((layer, used));
                }
            }

            self.trains_alone[layer] = match (rules.tie, rules.retied) {
                (Tie::Replicate, _) => !self.frozen[layer],
                // A layer that waits for its first tie continues to train its own weights.
                (Tie::Share, Retied::Follow) => change.to.is_independent(layer) || (stays && waits),
                // The authors' code goes by the action, which the state may resolve otherwise.
                (Tie::Share, Retied::Keep) => change.action.values()[layer] == layer,
            };
        }

        self.settle(&owning, &mut moves);

        // Blocks that no layer uses any more are released. This is known only now: a layer that
        // unties may take over a block that its owner has left (DEVIATIONS row 25).
        let is_done =
            |id: &StorageId| self.storage.contains(id) || moves.contains(&Move::Release(*id));
        let mut released: Vec<_> =
            before.storage.iter().copied().filter(|id| !is_done(id)).collect();

        released.sort_unstable();
        released.dedup();

        // Blends read blocks that are about to be released.
        let blends = match rules.merge {
            Merge::Overwrite => Vec::new(),
            Merge::Average => self.blends(&before, &released),
        };

        moves.extend(blends.iter().map(|blend| blend.weights()));
        moves.extend(released.into_iter().map(Move::Release));

        let merged = blends.iter().map(|blend| blend.moments(&before, self)).collect();
        let keeps_function = self.keeps_function(&before, &moves);
        Ok(Settlement { merged, keeps_function, ..self.settlement(&before, moves, replicated) })
    }

    /// Whether a layer trains its own weights although the state before the decision names another
    /// owner. This is so before its first tie if all layers are trainable at the start (DEVIATIONS
    /// row 33).
    fn waits(&self, layer: usize, rules: &Rules, change: &Change<'_>) -> bool {
        rules.tie == Tie::Share && self.trains_alone[layer] && !change.from.is_independent(layer)
    }

    /// Gives a layer a storage with a new number, and returns the one that it used.
    fn renew(&mut self, layer: usize) -> StorageId {
        self.next += 1;
        core::mem::replace(&mut self.storage[layer], StorageId(self.next - 1))
    }

    /// What the layer is to do. Layers below it are settled already.
    fn plan(&self, layer: usize, rules: &Rules, change: &Change<'_>) -> Plan {
        let target = match (rules.tie, rules.retied) {
            (Tie::Replicate, _) | (Tie::Share, Retied::Follow) => {
                let was = change.from.owner(layer);
                let now = change.to.owner(layer);
                let is_first = self.frozen[layer] || self.waits(layer, rules, change);
                let first =
                    is_first && change.visits(layer) && rules.first_tie == FirstTie::Replicate;

                if was == now && !first {
                    return Plan::Stay;
                }

                now
            }
            // The present storage of the named layer, even if that is tied (DEVIATIONS row 4).
            (Tie::Share, Retied::Keep) if change.visits(layer) => change.action.values()[layer],
            (Tie::Share, Retied::Keep) => return Plan::Stay,
        };

        match rules.untie {
            _ if target != layer && rules.tie == Tie::Replicate => Plan::Replicate(target),
            _ if target != layer => Plan::Share(target),
            _ if self.frozen[layer] => Plan::Thaw,
            Untie::Copy if !self.trains_alone[layer] => Plan::Own(self.storage[layer]),
            Untie::Copy | Untie::Alias => Plan::Stay,
        }
    }

    /// Gives each layer that unties its block. The first one takes over a block that no layer
    /// keeps; the others get copies.
    fn settle(&mut self, owning: &[(usize, StorageId)], moves: &mut Vec<Move>) {
        for &(layer, used) in owning {
            let own = self.storage[layer];
            if self.storage.contains(&used) {
                moves.push(Move::Copy { from: used, to: own });
            } else {
                // All that share with this layer since this decision move with it. After that the
                // block is in use, so a second layer that left it gets a copy.
                for storage in self.storage.iter_mut().filter(|storage| **storage == own) {
                    *storage = used;
                }
            }
        }
    }

    /// The layers that began or ceased to train by themselves. A replicated layer did neither: it
    /// trains a copy with fresh moments.
    fn settlement(&self, before: &Self, moves: Vec<Move>, replicated: Vec<usize>) -> Settlement {
        let mut settlement = Settlement { moves, replicated, ..Settlement::default() };
        for layer in 0..self.n_layers() {
            match (before.trains_alone[layer], self.trains_alone[layer]) {
                _ if settlement.replicated.contains(&layer) => {}
                (false, true) => {
                    settlement.untied.push((layer, before.slot(layer, Gradient::Sum)));
                }
                (true, false) => settlement.tied.push(layer),
                _ => {}
            }
        }

        settlement
    }
}
