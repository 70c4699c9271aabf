//! What a search has judged, and what its budget still allows.

use super::Judge;
use crate::error::AgentError;
use crate::learner::finite;
use dlt_state::State;
use std::collections::BTreeMap;

/// The states that a search has judged, each once, in the order of their judgement.
pub(super) struct Ledger<'a> {
    judge: &'a mut dyn Judge,
    price: f64,
    left: usize,
    judged: Vec<Judged>,
    places: BTreeMap<State, usize>,
    best: usize,
}

/// A state that was judged.
pub(super) struct Judged {
    pub(super) state: State,
    /// Mean cross-entropy, in nats.
    pub(super) loss: f64,
    /// The loss and the price of the blocks; infinite if the loss is no finite number.
    pub(super) cost: f64,
}

impl<'a> Ledger<'a> {
    /// A ledger in which only `start` is judged. `most` is the largest number of judged states.
    pub(super) fn new(
        judge: &'a mut dyn Judge,
        price: f64,
        most: usize,
        start: &State,
    ) -> Result<Self, AgentError> {
        let mut ledger = Self {
            judge,
            price,
            left: most.max(1),
            judged: Vec::new(),
            places: BTreeMap::new(),
            best: 0,
        };

        ledger.judge(start)?;
        finite("the loss in the present state", ledger.judged[0].loss)?;
        Ok(ledger)
    }

    /// The place of a state among the judged ones. A state that is not among them is judged now;
    /// `None` if the budget is spent.
    pub(super) fn judge(&mut self, state: &State) -> Result<Option<usize>, AgentError> {
        if let Some(&place) = self.places.get(state) {
            return Ok(Some(place));
        }

        if self.left == 0 {
            return Ok(None);
        }

        let loss = self.judge.loss(state)?;
        let share = state.n_independent() as f64 / state.n_layers() as f64;
        let cost = if loss.is_finite() { loss + self.price * share } else { f64::INFINITY };
        let place = self.judged.len();

        self.left -= 1;
        self.places.insert(state.clone(), place);
        self.judged.push(Judged { state: state.clone(), loss, cost });

        // Of equals the first one stays: a search that gains nothing changes nothing.
        if cost < self.judged[self.best].cost {
            self.best = place;
        }

        Ok(Some(place))
    }

    /// The number of states that the budget still allows to judge.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Whether a state is judged.
    pub(super) fn knows(&self, state: &State) -> bool {
        self.places.contains_key(state)
    }

    /// The judged states.
    pub(super) fn judged(&self) -> &[Judged] {
        &self.judged
    }

    /// The cheapest judged state, the earliest of equals.
    pub(super) fn best(&self) -> &Judged {
        &self.judged[self.best]
    }
}
