//! AdamW over the slots of a model: one state a slot, one step count a parameter.

use std::collections::BTreeMap;

use candle_core::Tensor;
use dlt_kernels::optimizer::AdamwStep;
use dlt_models::backward::Gradients;
use dlt_models::binding::Settlement;
use dlt_models::parameters::Parameters;
use dlt_models::{Model, ModelError};
use dlt_spec::spec::{Decayed, Moments, OptimizerSpec};

use crate::Result;

/// Moments and step count of one parameter.
#[derive(Clone, Debug)]
pub struct ParameterMoments {
    /// Running mean of the gradient.
    pub first: Tensor,
    /// Running mean of its square.
    pub second: Tensor,
    /// Steps that this parameter has taken.
    pub step: u64,
}

/// AdamW with decoupled weight decay, clipping by global norm, and moments that follow the tying (DEVIATIONS
/// rows 10, 11, 16). Its state is readable, for checkpoints and tests.
#[derive(Debug)]
pub struct Optimizer {
    spec: OptimizerSpec,
    rule: Moments,
    shared: Vec<ParameterMoments>,
    slots: BTreeMap<usize, Vec<ParameterMoments>>,
}

impl Optimizer {
    /// An optimizer without any moments yet: they begin at zero with a parameter's first step.
    #[must_use]
    pub fn new(spec: &OptimizerSpec, rule: Moments) -> Self {
        Self { spec: spec.clone(), rule, shared: Vec::new(), slots: BTreeMap::new() }
    }

    /// One step at a learning rate; returns the global norm before clipping.
    ///
    /// Slots are stepped in rising order; where several share one storage (the authors' reading), each
    /// updates it in turn.
    ///
    /// # Errors
    /// Fails where the device does.
    pub fn step(&mut self, model: &Model, gradients: &Gradients, learning_rate: f64) -> Result<f64> {
        let norm = gradients.norm()?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        let scale = clip_coefficient(norm, self.spec.clip_norm);
        let stepper = Stepper { spec: &self.spec, model, learning_rate, scale };
        stepper.step(model.shared(), &gradients.shared, &mut self.shared)?;
        for (&slot, gradients) in &gradients.slots {
            let moments = self.slots.entry(slot).or_default();
            stepper.step(model.slot_parameters(slot), gradients, moments)?;
        }
        Ok(norm)
    }

    /// Lets moments follow a decision: those of tied layers go (unless they are to be resumed), those of
    /// newly independent ones begin as the rule says.
    ///
    /// # Errors
    /// Fails where the device has no memory left.
    pub fn settle(&mut self, settlement: &Settlement) -> Result<()> {
        let inherited = match self.rule {
            Moments::Inherit => self.inherited(settlement)?,
            Moments::Fresh | Moments::Resume => BTreeMap::new(),
        };
        if self.rule != Moments::Resume {
            let untied = settlement.untied.iter().map(|(layer, _)| layer);
            for layer in settlement.tied.iter().chain(untied) {
                self.slots.remove(layer);
            }
        }
        self.slots.extend(inherited);
        Ok(())
    }

    fn inherited(&self, settlement: &Settlement) -> Result<BTreeMap<usize, Vec<ParameterMoments>>> {
        let mut inherited = BTreeMap::new();
        for &(layer, owner) in &settlement.untied {
            if let Some(moments) = owner.and_then(|owner| self.slots.get(&owner)) {
                let copies = moments.iter().map(|moments| {
                    Ok(ParameterMoments {
                        first: moments.first.copy()?,
                        second: moments.second.copy()?,
                        step: moments.step,
                    })
                });
                inherited
                    .insert(layer, copies.collect::<candle_core::Result<_>>().map_err(ModelError::from)?);
            }
        }
        Ok(inherited)
    }

    /// Moments of the parameters outside of blocks, in the order of their layout; empty before the first
    /// step.
    #[must_use]
    pub fn shared(&self) -> &[ParameterMoments] {
        &self.shared
    }

    /// Moments of each slot's block, in the order of its layout.
    #[must_use]
    pub fn slots(&self) -> &BTreeMap<usize, Vec<ParameterMoments>> {
        &self.slots
    }

    /// Bytes of all moments.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |moments: &ParameterMoments| 2 * moments.first.elem_count() * size_of::<f32>();
        self.shared.iter().chain(self.slots.values().flatten()).map(bytes).sum()
    }
}

struct Stepper<'a> {
    spec: &'a OptimizerSpec,
    model: &'a Model,
    learning_rate: f64,
    scale: f64,
}

impl Stepper<'_> {
    fn step(
        &self,
        parameters: &Parameters,
        gradients: &[Tensor],
        moments: &mut Vec<ParameterMoments>,
    ) -> Result<()> {
        for (index, (variable, gradient)) in parameters.variables().iter().zip(gradients).enumerate() {
            if index == moments.len() {
                let zeros = || gradient.zeros_like().map_err(ModelError::from);
                moments.push(ParameterMoments { first: zeros()?, second: zeros()?, step: 0 });
            }
            let moments = &mut moments[index];
            moments.step += 1;
            let decays = self.spec.decayed == Decayed::All || variable.rank() >= 2;
            let step = AdamwStep {
                learning_rate: self.learning_rate,
                beta1: self.spec.beta1,
                beta2: self.spec.beta2,
                epsilon: self.spec.epsilon,
                weight_decay: if decays { self.spec.weight_decay } else { 0.0 },
                step: moments.step,
                gradient_scale: self.scale,
            };
            self.model
                .kernels()
                .adamw(variable, &moments.first, &moments.second, gradient, &step)
                .map_err(ModelError::from)?;
        }
        Ok(())
    }
}

/// Factor that brings a global norm down to `limit`; PyTorch's, with its 1e-6 against division by zero.
fn clip_coefficient(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}
