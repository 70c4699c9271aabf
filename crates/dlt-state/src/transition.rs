//! The changes between two states.

use alloc::vec::Vec;
use core::ops::AddAssign;

use crate::{State, StateError};

/// The changes from one state to another: an [`Event`] for each layer whose owner differs, in
/// rising order of layers.
///
/// Events are applied in this order, each to the result of the events before it, so that an owner
/// is settled before its members. A layer that is untied continues with a copy of the weights that
/// *it* used up to that point, even where its former owner has just been tied elsewhere. Weights
/// that no layer uses any more are released only after the last event.
///
/// ```
/// use dlt_state::{Event, State};
///
/// let before = State::new(vec![0, 1, 1])?;
/// let after = State::new(vec![0, 0, 2])?;
/// let transition = before.transition_to(&after)?;
/// assert_eq!(
///     transition.events(),
///     [Event::Tied { layer: 1, from: 1, to: 0 }, Event::Untied { layer: 2, from: 1 }]
/// );
/// # Ok::<(), dlt_state::StateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(
        try_from = "crate::serialised::TransitionForm",
        into = "crate::serialised::TransitionForm"
    )
)]
pub struct Transition {
    from: State,
    to: State,
    events: Vec<Event>,
}

/// A change of one layer's owner.
///
/// ```
/// use dlt_state::{Event, State};
///
/// let transition = State::new(vec![0, 0, 2])?.transition_to(&State::new(vec![0, 1, 1])?)?;
/// for &event in transition.events() {
///     match event {
///         Event::Untied { layer, from } => assert_eq!((layer, from), (1, 0)),
///         Event::Tied { layer, from, to } => assert_eq!((layer, from, to), (2, 2, 1)),
///     }
/// }
/// # Ok::<(), dlt_state::StateError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Event {
    /// The layer uses another layer's weights from now on.
    Tied {
        /// The layer that changes.
        layer: usize,
        /// Its former owner: itself where it was independent.
        from: usize,
        /// Its new owner.
        to: usize,
    },
    /// The layer becomes independent, with a copy of the weights that it used.
    Untied {
        /// The layer that changes.
        layer: usize,
        /// Its former owner.
        from: usize,
    },
}

/// Numbers of events of both kinds.
///
/// ```
/// use dlt_state::{EventCounts, State};
///
/// let counts = State::all_tied(5).transition_to(&State::independent(5))?.event_counts();
/// assert_eq!(counts, EventCounts { tied: 0, untied: 4 });
/// # Ok::<(), dlt_state::StateError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EventCounts {
    /// Layers that were tied to another owner.
    pub tied: usize,
    /// Layers that became independent.
    pub untied: usize,
}

impl Transition {
    /// The state before.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// let transition = State::all_tied(2).transition_to(&State::independent(2))?;
    /// assert_eq!(transition.from(), &State::all_tied(2));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn from(&self) -> &State {
        &self.from
    }

    /// The state after.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// let transition = State::all_tied(2).transition_to(&State::independent(2))?;
    /// assert_eq!(transition.to(), &State::independent(2));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn to(&self) -> &State {
        &self.to
    }

    /// The changes, one for each layer whose owner differs, in rising order of layers.
    ///
    /// ```
    /// use dlt_state::{Event, State};
    ///
    /// let transition = State::independent(2).transition_to(&State::all_tied(2))?;
    /// assert_eq!(transition.events(), [Event::Tied { layer: 1, from: 1, to: 0 }]);
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Whether nothing changes.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// let state = State::all_tied(2);
    /// assert!(state.transition_to(&state)?.is_empty());
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many layers were tied and untied.
    ///
    /// ```
    /// use dlt_state::State;
    ///
    /// let counts = State::independent(4).transition_to(&State::all_tied(4))?.event_counts();
    /// assert_eq!((counts.tied, counts.untied), (3, 0));
    /// # Ok::<(), dlt_state::StateError>(())
    /// ```
    #[must_use]
    pub fn event_counts(&self) -> EventCounts {
        let untied =
            self.events.iter().filter(|event| matches!(event, Event::Untied { .. })).count();
        EventCounts { tied: self.events.len() - untied, untied }
    }

    pub(crate) fn between(from: State, to: State) -> Result<Self, StateError> {
        if from.n_layers() != to.n_layers() {
            return Err(StateError::DepthMismatch {
                expected: from.n_layers(),
                got: to.n_layers(),
            });
        }

        let owners = from.owners().iter().zip(to.owners());
        let events = owners
            .enumerate()
            .filter_map(|(layer, (&from, &to))| Event::of(layer, from, to))
            .collect();

        Ok(Self { from, to, events })
    }
}

impl Event {
    /// The layer that changes.
    ///
    /// ```
    /// use dlt_state::Event;
    ///
    /// assert_eq!(Event::Untied { layer: 3, from: 1 }.layer(), 3);
    /// ```
    #[must_use]
    pub fn layer(self) -> usize {
        match self {
            Self::Tied { layer, .. } | Self::Untied { layer, .. } => layer,
        }
    }

    /// The former owner of the layer.
    ///
    /// ```
    /// use dlt_state::Event;
    ///
    /// assert_eq!(Event::Tied { layer: 3, from: 1, to: 0 }.former_owner(), 1);
    /// ```
    #[must_use]
    pub fn former_owner(self) -> usize {
        match self {
            Self::Tied { from, .. } | Self::Untied { from, .. } => from,
        }
    }

    /// The new owner of the layer: the layer itself where it was untied.
    ///
    /// ```
    /// use dlt_state::Event;
    ///
    /// assert_eq!(Event::Tied { layer: 3, from: 1, to: 0 }.new_owner(), 0);
    /// assert_eq!(Event::Untied { layer: 3, from: 1 }.new_owner(), 3);
    /// ```
    #[must_use]
    pub fn new_owner(self) -> usize {
        match self {
            Self::Tied { to, .. } => to,
            Self::Untied { layer, .. } => layer,
        }
    }

    fn of(layer: usize, from: usize, to: usize) -> Option<Self> {
        if from == to {
            None
        } else if to == layer {
            // Only a layer that owns itself has own weights; `from` differs, so it had none before.
            Some(Self::Untied { layer, from })
        } else {
            Some(Self::Tied { layer, from, to })
        }
    }
}

impl EventCounts {
    /// Events of both kinds.
    ///
    /// ```
    /// assert_eq!(dlt_state::EventCounts { tied: 2, untied: 3 }.total(), 5);
    /// ```
    #[must_use]
    pub fn total(self) -> usize {
        self.tied + self.untied
    }
}

/// ```
/// use dlt_state::EventCounts;
///
/// let mut counts = EventCounts { tied: 2, untied: 3 };
/// counts += EventCounts { tied: 1, untied: 0 };
/// assert_eq!(counts, EventCounts { tied: 3, untied: 3 });
/// ```
impl AddAssign for EventCounts {
    fn add_assign(&mut self, other: Self) {
        self.tied += other.tied;
        self.untied += other.untied;
    }
}
