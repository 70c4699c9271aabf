//! Searches over changes of single entries of the action: candidates are judged before one of them
//! is entered (DEVIATIONS row 53).

mod backtrack;
mod beam;
mod ledger;
mod tree;

use super::{Choice, Draws, Policy, PolicySnapshot, Situation, Visit};
use crate::error::{AgentError, grouping};
use crate::exact;
use crate::occasion::Turn;
use dlt_spec::{CheckedAgent, seeds};
use dlt_state::{Action, Draw, State};
use ledger::Ledger;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Measures the loss that a model would have in states that it does not enter. A closure is one.
pub trait Judge {
    /// Mean cross-entropy in nats in state `candidate`, on the same batches for every candidate of
    /// a decision.
    ///
    /// # Errors
    /// [`AgentError::NotJudged`] if it cannot be measured.
    fn loss(&mut self, candidate: &State) -> Result<f64, AgentError>;
}

impl<F: FnMut(&State) -> Result<f64, AgentError>> Judge for F {
    fn loss(&mut self, candidate: &State) -> Result<f64, AgentError> {
        self(candidate)
    }
}

/// For decisions without a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoJudge;

impl Judge for NoJudge {
    fn loss(&mut self, _candidate: &State) -> Result<f64, AgentError> {
        Err(AgentError::NoJudge)
    }
}

/// The order in which a search judges candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The next untried change of the cheapest state that has one: downhill, and back to an earlier
    /// state where no change makes a state cheaper.
    Backtrack,
    /// All changes of the cheapest states of each round, with ever more of these.
    Beam,
    /// Upper confidence bounds over a tree of changes.
    Mcts,
    /// Uniform actions: the baseline.
    RandomSearch,
}

impl Strategy {
    /// The word that names it in a spec.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Backtrack => "backtrack",
            Self::Beam => "beam",
            Self::Mcts => "mcts",
            Self::RandomSearch => "random-search",
        }
    }
}

/// The settings of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchSettings {
    /// The order of candidates.
    pub strategy: Strategy,
    /// Most forward passes of one search.
    pub budget: usize,
    /// Forward passes that judge one candidate; at least 1.
    pub passes_each: usize,
    /// States that a beam keeps at first; at least 1.
    pub beam_width: usize,
    /// Nats that the blocks of a model without ties cost.
    pub price: f64,
}

/// What a search did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Searched {
    /// States that were judged, the present one among them.
    pub candidates: usize,
    /// Forward passes of a batch that this took.
    pub passes: usize,
    /// Loss in the present state, in nats.
    #[serde(with = "exact::f64_bits")]
    pub loss_before: f64,
    /// Loss in the state that was chosen, in nats.
    #[serde(with = "exact::f64_bits")]
    pub loss_after: f64,
}

/// Enters the cheapest state that a search within its budget finds. The cost of a state is its loss
/// plus a price for its blocks.
#[derive(Clone, Debug)]
pub struct SearchPolicy {
    settings: SearchSettings,
    rng: ChaCha8Rng,
}

impl SearchPolicy {
    /// A policy that searches as `settings` say. `rng` decides the order of changes.
    #[must_use]
    pub fn new(settings: SearchSettings, rng: ChaCha8Rng) -> Self {
        Self { settings, rng }
    }

    /// The policy of these settings, which draws from the stream `policy` of the root seed.
    pub(crate) fn of_setup(setup: &CheckedAgent, strategy: Strategy) -> Self {
        let spec = &setup.agent;
        let settings = SearchSettings {
            strategy,
            budget: spec.budget,
            passes_each: spec.reward_batches,
            beam_width: spec.beam_width,
            price: spec.price,
        };

        Self::new(settings, seeds::stream(setup.seed, "policy"))
    }
}

impl Policy for SearchPolicy {
    fn choose(&mut self, _situation: &Situation<'_>) -> Result<Choice, AgentError> {
        Err(AgentError::NoJudge)
    }

    fn search(
        &mut self,
        situation: &Situation<'_>,
        judge: &mut dyn Judge,
    ) -> Result<Choice, AgentError> {
        if situation.turn != Turn::Regular {
            let policy = self.settings.strategy.name();
            return Err(AgentError::OtherTurn { policy, turn: situation.turn });
        }

        // Layers that no tie may touch are left out of what is searched, and so is their price.
        let exempt = situation.exempt;
        let start =
            exempt.reduced(situation.state).map_err(grouping("the state before a search"))?;
        let share = start.n_layers() as f64 / exempt.n_layers() as f64;
        let settings = SearchSettings { price: share * self.settings.price, ..self.settings };
        let mut judge = |candidate: &State| judge.loss(&exempt.expanded(candidate));

        // A search that fails leaves the stream as it was.
        let mut rng = self.rng.clone();
        let (found, searched) = settings.search(&start, &mut Draws(&mut rng), &mut judge)?;
        self.rng = rng;

        let state = exempt.expanded(&found);
        Ok(Choice { searched: Some(searched), ..Choice::new(state.into(), Visit::All) })
    }

    fn snapshot(&self) -> PolicySnapshot {
        let strategy = self.settings.strategy;
        PolicySnapshot::Search { strategy, rng: Box::new(self.rng.clone()) }
    }

    fn restore(&mut self, snapshot: &PolicySnapshot) -> Result<(), AgentError> {
        match snapshot {
            PolicySnapshot::Search { strategy, rng } if *strategy == self.settings.strategy => {
                self.rng = (**rng).clone();
                Ok(())
            }
            other => Err(other.mismatch(self.settings.strategy.name())),
        }
    }
}

impl SearchSettings {
    /// The cheapest state that is found from `start`, and what that took. `draw` decides the order
    /// of changes.
    ///
    /// # Errors
    /// Those of the judge; [`AgentError::NotFinite`] if the loss at the start is no finite number.
    pub fn search(
        &self,
        start: &State,
        draw: &mut impl Draw,
        judge: &mut dyn Judge,
    ) -> Result<(State, Searched), AgentError> {
        let most = self.budget / self.passes_each;
        let mut ledger = Ledger::new(judge, self.price, most, start)?;

        match self.strategy {
            Strategy::Backtrack => backtrack::run(&mut ledger, draw)?,
            Strategy::Beam => beam::run(&mut ledger, self.beam_width, draw)?,
            Strategy::Mcts => tree::run(&mut ledger, draw)?,
            Strategy::RandomSearch => judge_at_random(&mut ledger, most, draw)?,
        }

        let best = ledger.best();
        let searched = Searched {
            candidates: ledger.judged().len(),
            passes: ledger.judged().len() * self.passes_each,
            loss_before: ledger.judged()[0].loss,
            loss_after: best.loss,
        };

        Ok((best.state.clone(), searched))
    }
}

/// Judges uniform actions until the budget is spent. It ends earlier if `most` of them in a row lead
/// to states that are already judged: hardly any other is left then.
fn judge_at_random(
    ledger: &mut Ledger<'_>,
    most: usize,
    draw: &mut impl Draw,
) -> Result<(), AgentError> {
    let n_layers = ledger.judged()[0].state.n_layers();
    let mut again = 0;

    while ledger.left() > 0 && again < most {
        let judged = ledger.judged().len();
        ledger.judge(&State::from_action(&Action::random(n_layers, draw)))?;
        again = if ledger.judged().len() > judged { 0 } else { again + 1 };
    }

    Ok(())
}

/// A change of one entry of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    layer: usize,
    entry: usize,
}

impl Step {
    /// Every change of a state, in an order that `draw` decides. Several can lead to one state, and
    /// one that names a member of the layer's own group leads to none.
    fn all(state: &State, draw: &mut impl Draw) -> Vec<Self> {
        let of = |layer| (0..=layer).map(move |entry| Self { layer, entry });
        let is_change = |step: &Self| step.entry != state.owner(step.layer);
        let mut steps: Vec<_> = (1..state.n_layers()).flat_map(of).filter(is_change).collect();

        for index in (1..steps.len()).rev() {
            steps.swap(index, draw.below(index + 1));
        }
        steps
    }

    /// The state that it leads to.
    fn from(self, state: &State) -> Result<State, AgentError> {
        let mut action = state.as_action().clone();
        action.replace(self.layer, self.entry).map_err(grouping("a change of a search"))?;
        Ok(State::from_action(&action))
    }
}
