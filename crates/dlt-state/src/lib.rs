//! The algebra of dynamic layer tying: which layers of a deep network share their weights, and how
//! that changes while the network trains. No tensors, no dependencies, no `std`.
//!
//! # The idea
//!
//! A transformer is a stack of `L` layers that are alike: each could run with the weights of any
//! other. *Tying* layer `i` to a lower layer `j` means that `i` has no own weights and uses those
//! of `j`. The network still runs through all `L` layers, but stores and trains fewer of them.
//! *Dynamic* tying decides again every few training steps which layers share, and a layer may
//! become independent again.
//!
//! # The words
//!
//! - An [`Action`] is a wish list: entry `i` names the layer that layer `i` should copy, itself or
//!   a lower one, so `a[i] <= i`.
//! - A [`State`] is the result: entry `i` is the **owner** of layer `i`, the lowest layer of its
//!   group, whose weights it uses. If 3 copies 2 and 2 copies 0, then 3 uses the weights of 0. A
//!   layer that owns itself is **independent**. The layers with the same owner are a **group**.
//!   Layer 0 is always independent.
//! - **Equation 1** turns an action into a state, for rising `i`: `s[i] = i` if `a[i] = i`, else
//!   `s[a[i]]`.
//! - A [`Transition`] is the difference between two states, as a list of [`Event`]s: layer 3 was
//!   *tied* to 0, layer 5 was *untied*.
//! - An [`ActionSpace`] numbers all single choices, for a network that scores them: the greedy
//!   action, Equations 3 and 4, and how many states and actions there are.
//! - A [`Binding`](binding::Binding) says which weights are in place. It plans the copies and
//!   releases that carry a network from one state to the next.
//! - [`Draw`] is any source of random numbers, for random actions, splits and merges. [`growth`]
//!   splits groups by rule.
//! - A [`Recording`] is the history of the decisions of a training run. It has a text form for
//!   files.
//! - [`pattern`] has fixed ways of sharing, for comparison.
//!
//! # From a wish to an event
//!
//! ```
//! use dlt_state::{Action, Event, State};
//!
//! // Layers 0 and 1 keep their own weights, 2 copies 1, 3 copies 2.
//! let action = Action::new(vec![0, 1, 1, 2])?;
//! let state = State::from_action(&action);
//! assert_eq!(state.owners(), [0, 1, 1, 1]);
//! assert_eq!(state.n_independent(), 2);
//! assert_eq!(state.groups()[1].members, [1, 2, 3]);
//!
//! // With 1,000 parameters outside of the layers and 500 in each layer:
//! assert_eq!(state.parameter_count(1_000, 500), 2_000);
//!
//! // Another decision: 1 gives up its weights, 2 follows it, 3 becomes independent.
//! let next = State::from_action(&Action::new(vec![0, 0, 1, 3])?);
//! let transition = state.transition_to(&next)?;
//! assert_eq!(
//!     transition.events(),
//!     [
//!         Event::Tied { layer: 1, from: 1, to: 0 },
//!         Event::Tied { layer: 2, from: 1, to: 0 },
//!         Event::Untied { layer: 3, from: 1 },
//!     ]
//! );
//! # Ok::<(), dlt_state::StateError>(())
//! ```
//!
//! # How many there are
//!
//! There are `L!` actions of depth `L`, since entry `i` has `i + 1` choices. A state is a partition
//! of the layers into groups, each named by its least member, so there are Bell(`L`) states: many
//! actions lead to the same one. An action drawn uniformly has `1 + 1/2 + ... + 1/L` independent
//! layers on average, as many as a random permutation has cycles: 4.46 of 48.
//!
//! # Features
//!
//! `serde` (off by default) implements `Serialize` and `Deserialize`. Values that are read pass the
//! same checks as in the constructors, so that none is invalid. The crate needs only `alloc`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod action;
pub mod binding;
mod error;
mod exempt;
pub mod growth;
pub mod pattern;
mod random;
mod recording;
#[cfg(feature = "serde")]
mod serialised;
mod space;
mod state;
mod text;
mod transition;

pub use action::Action;
pub use error::StateError;
pub use exempt::Exempt;
pub use random::{Draw, random_permutation};
pub use recording::{Recording, Row};
pub use space::ActionSpace;
pub use state::{Group, State};
pub use transition::{Event, EventCounts, Transition};

/// Runs the examples of the readme.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
