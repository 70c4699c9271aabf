//! What an agent is built from, checked without the rest of a run.

use std::ops::Deref;

use dlt_state::State;

use super::{CheckedSpec, grouping, rules};
use crate::error::SpecError;
use crate::spec::{AgentSpec, Decision, Exempt, Initial, ModelSpec, Spec, StateVector, TyingSpec};

/// What an agent is built from: the section `agent` of a spec, and what it reads besides.
/// Unchecked: [`AgentSetup::check`] makes a [`CheckedAgent`].
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSetup {
    /// The section `agent`.
    pub agent: AgentSpec,
    /// Grouping before the first decision, `tying.initial`.
    pub initial: Initial,
    /// Layers that no tie may touch, `tying.exempt`.
    pub exempt: Exempt,
    /// What one decision covers, `tying.decision`.
    pub decision: Decision,
    /// Content of the state vector, `tying.state_vector`.
    pub state_vector: StateVector,
    /// Number of layers, L, `model.layers`.
    pub layers: usize,
    /// Root seed of the agent's random streams, `seed`.
    pub seed: u64,
}

impl From<&Spec> for AgentSetup {
    /// What the agent of a run is built from.
    fn from(spec: &Spec) -> Self {
        Self {
            agent: spec.agent.clone(),
            initial: spec.tying.initial.clone(),
            exempt: spec.tying.exempt.clone(),
            decision: spec.tying.decision,
            state_vector: spec.tying.state_vector,
            layers: spec.model.layers,
            seed: spec.seed,
        }
    }
}

impl AgentSetup {
    /// This setup, if it keeps the rules that a whole spec would be held to in these fields. Where
    /// a recording is, `agent.recording`, is not checked: an agent is given the recording itself.
    ///
    /// # Errors
    /// [`SpecError::Invalid`] with every violation, in the order of a spec file. The messages are
    /// those of [`Spec::check`].
    pub fn check(&self) -> Result<CheckedAgent, SpecError> {
        // The rules read a spec. What they read of it for an agent is only what is set here.
        let Self { agent, initial, exempt, decision, state_vector, layers, seed } = self.clone();
        let spec = Spec {
            seed,
            model: ModelSpec { layers, ..ModelSpec::default() },
            tying: TyingSpec { initial, exempt, decision, state_vector, ..TyingSpec::default() },
            agent,
            ..Spec::default()
        };

        match rules::violations_of_agent(&spec) {
            violations if violations.is_empty() => Ok(CheckedAgent(self.clone())),
            violations => Err(SpecError::Invalid { violations }),
        }
    }
}

/// An [`AgentSetup`] that keeps every rule. [`AgentSetup::check`] makes one, or a checked spec has
/// one ([`CheckedSpec::agent_setup`]), and it cannot be changed.
///
/// ```
/// use dlt_spec::{AgentSetup, Spec};
///
/// let mut setup = AgentSetup { layers: 4, ..AgentSetup::from(&Spec::default()) };
/// assert_eq!(setup.check()?.initial_state().owners(), [0, 0, 0, 0]);
///
/// setup.agent.gamma = 2.0;
/// let error = setup.check().unwrap_err();
/// assert_eq!(error.to_string(), "`agent.gamma` is 2.0: must be a number at least 0 and at most 1");
/// # Ok::<(), dlt_spec::SpecError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedAgent(AgentSetup);

impl Deref for CheckedAgent {
    type Target = AgentSetup;

    fn deref(&self) -> &AgentSetup {
        &self.0
    }
}

impl CheckedAgent {
    /// Layers that no tie may touch.
    #[must_use]
    pub fn exempt(&self) -> dlt_state::Exempt {
        self.exempt.of(self.layers).expect("checked layers exist")
    }

    /// State before the first decision, which has no tie with an exempt layer.
    #[must_use]
    pub fn initial_state(&self) -> State {
        self.spared(&self.initial)
    }

    fn spared(&self, asked: &Initial) -> State {
        let state = grouping(asked, self.layers).expect("a checked grouping is a state");
        self.exempt().spare_state(&state)
    }

    /// The state that `agent.pattern` names, which the policy `fixed` sets, without ties of exempt
    /// layers.
    #[must_use]
    pub fn pattern(&self) -> State {
        self.spared(&self.agent.pattern)
    }
}

impl CheckedSpec {
    /// What the agent of this run is built from.
    #[must_use]
    pub fn agent_setup(&self) -> CheckedAgent {
        // No second check: the rules of an agent are among those of a spec.
        CheckedAgent(AgentSetup::from(&**self))
    }
}
