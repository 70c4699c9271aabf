//! Decisions, from the agent to the model.

use candle_core::Device;
use dlt_agent::{Agent, Decision, Visit};
use dlt_kernels::Kernels;
use dlt_models::Model;
use dlt_models::architecture::Architecture;
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::file::ModelFile;
use dlt_models::gpt2::Gpt2;
use dlt_spec::record::DecisionRow;
use dlt_spec::spec::{self, FirstDecision, PolicyKind, TyingSpec};
use dlt_spec::{CheckedSpec, seeds};
use dlt_state::{Recording, State};
use rand_chacha::ChaCha8Rng;

use crate::Result;

/// What a decision did, for whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionReport {
    /// The row of the metrics.
    pub row: DecisionRow,
}

/// The model that a spec describes, with freshly drawn weights.
///
/// # Errors
/// Fails where the device has no memory left.
pub fn model_for(spec: &CheckedSpec, vocabulary: usize, kernels: Kernels, device: &Device) -> Result<Model> {
    let binding = match spec.starts_frozen() {
        true => Binding::frozen(spec.model.layers),
        false => Binding::of_state(&spec.initial_state()),
    };
    let architecture = architecture(spec, vocabulary);
    Ok(Model::new(architecture, binding, Rules::from(&spec.tying), kernels, spec.seed, device)?)
}

/// The model in a file, which a run with this spec wrote.
///
/// # Errors
/// Fails where the file holds another model than the spec says.
pub fn saved_model(
    file: &ModelFile,
    spec: &CheckedSpec,
    vocabulary: usize,
    device: &Device,
) -> Result<Model> {
    let architecture = architecture(spec, vocabulary);
    Ok(file.model(architecture, Rules::from(&spec.tying), Kernels::Fused, device)?)
}

/// What the model of a spec computes, and which parameters it has.
#[must_use]
pub fn architecture(spec: &CheckedSpec, vocabulary: usize) -> Box<dyn Architecture> {
    match spec.model.architecture {
        spec::Architecture::Gpt2 => Box::new(Gpt2::from_spec(spec, vocabulary)),
    }
}

/// When decisions are made (DEVIATIONS row 6). A decision comes before the training step that follows it, so
/// the last state has always been trained and evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timetable {
    first: usize,
    every: usize,
    until: f64,
}

impl Timetable {
    pub(crate) fn new(tying: &TyingSpec, steps: usize) -> Self {
        let first = match tying.first_decision {
            FirstDecision::AfterK => tying.decide_every,
            FirstDecision::AtStep0 => 1,
            FirstDecision::BeforeFirstStep => 0,
        };
        Self { first, every: tying.decide_every, until: tying.decide_until * steps as f64 }
    }

    /// Whether a decision is made after `done` training steps.
    pub(crate) fn is_due(&self, done: usize) -> bool {
        done >= self.first && (done - self.first).is_multiple_of(self.every) && (done as f64) < self.until
    }
}

/// The agent of a run, or nobody.
pub(crate) fn agent_for(spec: &CheckedSpec, recording: Option<&Recording>) -> Result<Option<Agent>> {
    if spec.agent.policy == PolicyKind::None {
        return Ok(None);
    }
    Ok(Some(Agent::new(&spec.agent, &spec.tying, spec.model.layers, spec.seed, recording)?))
}

/// The one layer that was decided; `None` where all were.
pub(crate) fn visited(decision: &Decision) -> Option<usize> {
    match decision.visit {
        Visit::Layer(layer) => Some(layer),
        Visit::All | Visit::Nothing => None,
    }
}

pub(crate) fn change<'a>(from: &'a State, decision: &'a Decision) -> Change<'a> {
    Change { from, to: &decision.state, action: &decision.action, visited: visited(decision) }
}

/// Seed of the dropout masks of one training step: the same however the run came to it.
pub(crate) fn dropout_seed(root: u64, step: usize) -> u64 {
    use rand::RngCore;
    stream(root, &format!("dropout/{step}")).next_u64()
}

pub(crate) fn stream(root: u64, name: &str) -> ChaCha8Rng {
    seeds::stream(root, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlt_spec::Spec;

    fn due(first_decision: FirstDecision, decide_until: f64) -> Vec<usize> {
        let tying = TyingSpec { first_decision, decide_every: 15, decide_until, ..Spec::default().tying };
        let table = Timetable::new(&tying, 60);
        (0..60).filter(|&done| table.is_due(done)).collect()
    }

    #[test]
    fn decisions_come_when_each_reading_says() {
        assert_eq!(due(FirstDecision::AfterK, 1.0), [15, 30, 45]);
        assert_eq!(due(FirstDecision::AtStep0, 1.0), [1, 16, 31, 46]);
        assert_eq!(due(FirstDecision::BeforeFirstStep, 1.0), [0, 15, 30, 45]);
    }

    #[test]
    fn decisions_end_with_their_share_of_training() {
        assert_eq!(due(FirstDecision::AfterK, 0.5), [15]);
        assert_eq!(due(FirstDecision::AfterK, 0.51), [15, 30]);
        assert!(due(FirstDecision::AfterK, 0.0).is_empty());
    }
}
