//! Errors of this crate.

use thiserror::Error;

/// Why an agent could not replay a recording, decide, learn, or be restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A grouping, action or permutation that is not valid.
    #[error("{place}: {source}")]
    Grouping {
        /// The part that it comes from.
        place: &'static str,
        /// What is wrong with it.
        source: dlt_state::StateError,
    },
    /// Something that was made for another number of layers.
    #[error("{place}: expected {expected} layers, got {got}")]
    Depth {
        /// The part that it comes from.
        place: &'static str,
        /// Layers of the agent.
        expected: usize,
        /// Layers that were found.
        got: usize,
    },
    /// A policy that replays, without anything to replay.
    #[error("the policy replays a recording, but {reason}")]
    Recording {
        /// Why there is nothing to replay.
        reason: &'static str,
    },
    /// A recorded decision for one layer that changes the choice of another one.
    #[error(
        "decision {row} of the recording is for layer {visited}, but changes the choice of layer {changed}"
    )]
    OtherChoice {
        /// Position in the recording, from 0.
        row: usize,
        /// The layer that it was made for.
        visited: usize,
        /// The other layer whose choice changed.
        changed: usize,
    },
    /// A policy that does not make the kind of decision that is due.
    #[error(
        "the policy {policy} does not make decisions of kind {turn:?}: tying.decision does not fit agent.policy"
    )]
    OtherTurn {
        /// The policy.
        policy: &'static str,
        /// What was to be decided.
        turn: crate::Turn,
    },
    /// A policy without the evidence that it decides by.
    #[error(
        "the policy {policy} decides by {quantity}: expected a training step since the last decision, \
         got none"
    )]
    NoEvidence {
        /// The policy.
        policy: &'static str,
        /// What is missing.
        quantity: &'static str,
    },
    /// A policy that searches, in a decision that nothing judges candidates for.
    #[error("the policy searches: expected a judge of candidates (`Agent::decide_by`), got none")]
    NoJudge,
    /// A candidate whose loss could not be measured. Whoever judges knows why.
    #[error("a candidate of a search could not be judged")]
    NotJudged,
    /// A second decision before the first was learned from.
    #[error("decide was called twice in a row: expected learn after each decision")]
    DecisionPending,
    /// A reward without a decision to assign it to.
    #[error("learn was called without a decision: expected decide first")]
    NoDecision,
    /// A reward by gain, without the loss before the decision.
    #[error(
        "the reward is a gain: expected the loss before the decision on the same batches, got none"
    )]
    NoLossBefore,
    /// A value that is infinite or not a number.
    #[error("{quantity} should be finite, got {value}")]
    NotFinite {
        /// What it measures.
        quantity: &'static str,
        /// What was found instead.
        value: f64,
    },
    /// A snapshot or weights of an agent with another shape.
    #[error("{place}: expected {expected}, got {got}")]
    Mismatch {
        /// The part that does not fit.
        place: &'static str,
        /// What this agent has.
        expected: String,
        /// What was found instead.
        got: String,
    },
}

/// Adds the place to an error of dlt-state.
pub(crate) fn grouping(place: &'static str) -> impl Fn(dlt_state::StateError) -> AgentError {
    move |source| AgentError::Grouping { place, source }
}

/// Fails unless `got` is the `expected` number of layers.
pub(crate) fn same_depth(
    place: &'static str,
    expected: usize,
    got: usize,
) -> Result<(), AgentError> {
    if expected == got { Ok(()) } else { Err(AgentError::Depth { place, expected, got }) }
}
