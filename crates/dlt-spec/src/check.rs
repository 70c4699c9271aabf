//! The rules that a spec must keep before a run is made from it.

mod agent;
mod rules;

use std::ops::Deref;

pub use agent::{AgentSetup, CheckedAgent};

use dlt_state::binding::Binding;
use dlt_state::{Exempt, State, StateError, pattern};
use serde::Serialize;

use crate::error::SpecError;
use crate::size::{self, Extents};
use crate::spec::{
    AttentionBias, FeedForwardBias, Initial, InitialName, Objective, Order, PolicyKind,
    ResidualScale, Spec,
};

/// A [`Spec`] that keeps every rule. Only [`Spec::check`] makes one, and it cannot be changed.
///
/// ```
/// use dlt_spec::Spec;
/// let mut spec = Spec::default();
/// assert_eq!(spec.check()?.feed_forward(), 512);
/// spec.model.heads = 5;
/// let error = spec.check().unwrap_err();
/// assert_eq!(error.to_string(), "`model.heads` is 5: must be a divisor of model.width = 128");
/// # Ok::<(), dlt_spec::SpecError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct CheckedSpec(Spec);

impl Spec {
    /// This spec, if it keeps every rule.
    ///
    /// # Errors
    /// [`SpecError::Invalid`] with every violation, in the order of the file.
    pub fn check(&self) -> Result<CheckedSpec, SpecError> {
        match rules::violations(self) {
            violations if violations.is_empty() => Ok(CheckedSpec(self.clone())),
            violations => Err(SpecError::Invalid { violations }),
        }
    }

    /// Whether it is a run of conventional training: nobody decides, and no layer is ever tied.
    #[must_use]
    pub fn is_conventional(&self) -> bool {
        self.agent.policy == PolicyKind::None
            && self.tying.initial == Initial::Named(InitialName::Independent)
    }
}

impl Deref for CheckedSpec {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        &self.0
    }
}

impl CheckedSpec {
    /// Width of the feed-forward layer.
    #[must_use]
    pub fn feed_forward(&self) -> usize {
        size::feed_forward(&self.model).expect("a checked model has a countable size")
    }

    /// Tokens of a window, T: those of the context, or the patches of a picture and the class
    /// token.
    #[must_use]
    pub fn tokens(&self) -> usize {
        size::tokens(&self.model).expect("a checked model has a countable size")
    }

    /// Rows of the table of positions.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.model.positions.or(self.tokens())
    }

    /// Heads of keys and values, G.
    #[must_use]
    pub fn key_heads(&self) -> usize {
        self.model.key_heads.or(self.model.heads)
    }

    /// Width of a head, D.
    #[must_use]
    pub fn head_width(&self) -> usize {
        self.model.head_width.or(self.model.width / self.model.heads)
    }

    /// Which projections of attention have a bias: never `auto`.
    #[must_use]
    pub fn attention_bias(&self) -> AttentionBias {
        size::attention_bias(&self.model)
    }

    /// Whether the projections of the feed-forward layer have biases: never `auto`.
    #[must_use]
    pub fn feed_forward_bias(&self) -> FeedForwardBias {
        size::feed_forward_bias(&self.model)
    }

    /// Tokens of the longest window that the model reads: its positions, or fewer that attention
    /// sees.
    #[must_use]
    pub fn longest_window(&self) -> usize {
        self.positions().min(self.model.attention_window.or(usize::MAX))
    }

    /// Size of the vocabulary, V, and number of classes, K: those of the spec, or those of the data
    /// where the spec says `auto`.
    #[must_use]
    pub fn extents(&self, data: Extents) -> Extents {
        Extents {
            vocabulary: self.model.vocabulary.or(data.vocabulary),
            classes: self.model.classes.or(data.classes),
        }
    }

    /// Windows of a shard: B / S.
    #[must_use]
    pub fn shard_windows(&self) -> usize {
        self.training.batch / self.training.shards
    }

    /// Windows in memory at once in training.
    #[must_use]
    pub fn micro_batch(&self) -> usize {
        self.training.micro_batch.or(self.training.batch).min(self.shard_windows())
    }

    /// Micro-batches of one training step.
    #[must_use]
    pub fn micro_batches(&self) -> usize {
        self.training.batch / self.micro_batch()
    }

    /// Number of predictions of a window: every token, the hidden tokens (at least one), or one
    /// class.
    #[must_use]
    pub fn predictions(&self) -> usize {
        let tokens = self.model.context;
        match self.model.objective {
            Objective::NextToken => tokens,
            Objective::MaskedToken => {
                ((tokens as f64 * self.data.mask_share).round() as usize).clamp(1, tokens)
            }
            Objective::Classes => 1,
        }
    }

    /// Units of one step in which the speed of training is counted: tokens, or windows where
    /// classes are predicted.
    #[must_use]
    pub fn units_per_step(&self) -> usize {
        match self.model.objective {
            Objective::Classes => self.training.batch,
            Objective::NextToken | Objective::MaskedToken => {
                self.training.batch * self.model.context
            }
        }
    }

    /// Windows of an evaluation batch.
    #[must_use]
    pub fn evaluation_batch(&self) -> usize {
        self.evaluation.batch.or(self.training.batch)
    }

    /// Steps of one pass over `train_windows` windows. Only full batches count, so it is 0 if there
    /// are fewer windows than a batch holds. In the order `sweep` a pass is one visit of each layer
    /// with a choice, whatever the data.
    #[must_use]
    pub fn steps_per_pass(&self, train_windows: usize) -> usize {
        match self.data.order {
            Order::Pass => train_windows / self.training.batch,
            Order::Sweep => self.exempt().deciding().len().saturating_mul(self.tying.decide_every),
        }
    }

    /// Training steps over `train_windows` windows.
    #[must_use]
    pub fn steps(&self, train_windows: usize) -> usize {
        self.training
            .steps
            .or(self.training.epochs.saturating_mul(self.steps_per_pass(train_windows)))
    }

    /// Steps between two validations in training over `train_windows` windows; at least 1.
    #[must_use]
    pub fn evaluate_every(&self, train_windows: usize) -> usize {
        self.evaluation.every_steps.or(self.steps_per_pass(train_windows).max(1))
    }

    /// Layers that no tie may touch.
    #[must_use]
    pub fn exempt(&self) -> Exempt {
        self.tying.exempt.of(self.model.layers).expect("checked layers exist")
    }

    /// State before the first decision, which has no tie with an exempt layer.
    #[must_use]
    pub fn initial_state(&self) -> State {
        let state = grouping(&self.tying.initial, self.model.layers);
        self.exempt().spare_state(&state.expect("a checked grouping is a state"))
    }

    /// Whether layers that the first state ties start with their own weights, untrained.
    #[must_use]
    pub fn starts_frozen(&self) -> bool {
        self.tying.initial == Initial::Named(InitialName::Frozen)
    }

    /// Whether layers 1 to L - 1 start with their own weights and train them, although the state
    /// says that layer 0 owns them.
    #[must_use]
    pub fn starts_trainable(&self) -> bool {
        self.tying.initial == Initial::Named(InitialName::Trainable)
    }

    /// The storage that each layer uses before the first decision.
    #[must_use]
    pub fn initial_binding(&self) -> Binding {
        if self.starts_frozen() {
            // Layer 0 trains, or the lowest layer that is not exempt; exempt layers train too.
            let state = self.initial_state();
            let all: Vec<_> = (0..self.model.layers).collect();
            let frozen: Vec<_> =
                all.iter().copied().filter(|&layer| !state.is_independent(layer)).collect();
            let independent: Vec<_> = state.independent_layers().collect();

            return Binding::from_parts(&all, &frozen, &independent)
                .expect("each layer names itself");
        }

        // A trainable start has the weights of conventional training: every layer owns a block.
        // Only the state differs (DEVIATIONS row 33).
        let trainable = self.starts_trainable().then(|| State::independent(self.model.layers));
        Binding::of_state(&trainable.unwrap_or_else(|| self.initial_state()))
    }

    /// Factor of the residual branches of each layer (`tying.residual_scale`): 1, or 1 / (layers
    /// that use the layer's block at the start). Later ties and splits do not change it.
    #[must_use]
    pub fn residual_factors(&self) -> Vec<f64> {
        // A frozen or trainable layer starts with a block that only it uses, although the state
        // says that layer 0 owns it.
        let is_alone = self.starts_frozen() || self.starts_trainable();
        if self.tying.residual_scale == ResidualScale::None || is_alone {
            return vec![1.0; self.model.layers];
        }

        let state = self.initial_state();
        let owners = state.owners();
        let uses = |owner: &usize| owners.iter().filter(|other| *other == owner).count();

        owners.iter().map(|owner| 1.0 / uses(owner) as f64).collect()
    }
}

/// The state of a grouping. `layers` must not be 0. Frozen layers, and those that train their own
/// weights before their first decision, are all in the group of layer 0: which weights a layer
/// physically uses is not part of a state.
fn grouping(grouping: &Initial, layers: usize) -> Result<State, StateError> {
    let name = match grouping {
        Initial::Named(name) => name,
        Initial::Owners(owners) if owners.len() == layers => return State::new(owners.clone()),
        Initial::Owners(owners) => {
            return Err(StateError::DepthMismatch { expected: layers, got: owners.len() });
        }
    };

    Ok(match name {
        InitialName::Frozen | InitialName::Trainable | InitialName::Tied => State::all_tied(layers),
        InitialName::Independent => State::independent(layers),
        InitialName::Cycle => pattern::cycle(layers),
        InitialName::CycleReversed => pattern::cycle_reversed(layers),
        InitialName::CycleReversedAsWritten => pattern::cycle_reversed_as_written(layers),
        InitialName::Sequence => pattern::sequence(layers),
    })
}
