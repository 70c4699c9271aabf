//! AdamW over the slots of a model: one state a slot, one step count a parameter.

pub mod resting;
mod saved;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use dlt_kernels::optimizer::AdamwStep;
use dlt_models::backward::Gradients;
use dlt_models::binding::{Merged, Settlement};
use dlt_models::parameters::{Parameters, blended};
use dlt_models::{Model, ModelError};
use dlt_spec::spec::{Decayed, GroupRate, Moments, OptimizerSpec, TyingSpec};

use crate::Result;
use resting::{Resting, RestingPlace};
pub use saved::OptimizerState;

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

impl ParameterMoments {
    /// Bytes of both.
    #[must_use]
    pub fn bytes(&self) -> usize {
        2 * self.first.elem_count() * size_of::<f32>()
    }
}

/// AdamW with decoupled weight decay, clipping by global norm, and moments that follow the tying
/// (DEVIATIONS rows 10, 11, 16, 32, 42). Its state is readable, for checkpoints and tests.
#[derive(Debug)]
pub struct Optimizer {
    spec: OptimizerSpec,
    rule: Moments,
    group_rate: GroupRate,
    shared: Vec<ParameterMoments>,
    slots: BTreeMap<usize, Vec<ParameterMoments>>,
    place: Option<RestingPlace>,
    resting: BTreeMap<usize, Arc<Resting>>,
}

/// Moments of blocks before a decision that may be undone: see [`Optimizer::hold`].
#[derive(Debug)]
pub struct HeldMoments {
    slots: BTreeMap<usize, Vec<ParameterMoments>>,
    resting: BTreeMap<usize, Arc<Resting>>,
}

impl Optimizer {
    /// An optimizer without any moments yet: they begin at zero with a parameter's first step.
    #[must_use]
    pub fn new(spec: &OptimizerSpec, tying: &TyingSpec) -> Self {
        Self {
            spec: spec.clone(),
            rule: tying.moments,
            group_rate: tying.group_rate,
            shared: Vec::new(),
            slots: BTreeMap::new(),
            place: None,
            resting: BTreeMap::new(),
        }
    }

    /// Lets moments that are kept for layers which are not independent now rest in this place.
    /// Without one they stay in memory. The numbers are the same.
    #[must_use]
    pub fn resting_in(mut self, place: RestingPlace) -> Self {
        self.place = Some(place);
        self
    }

    /// Makes the moments, zero, of whatever trains for the first time in the next step.
    /// [`step`](Self::step) would too, but among the buffers of a backward pass: what lives long
    /// lies better before them, without gaps.
    ///
    /// # Errors
    /// Fails where the device has no memory left.
    pub fn prepare(&mut self, model: &Model) -> Result<()> {
        extend(&mut self.shared, model.trained_shared())?;
        for layer in 0..model.binding().n_layers() {
            if let Some(slot) = model.slot(layer) {
                extend(self.slots.entry(slot).or_default(), model.slot_parameters(slot))?;
            }
        }

        Ok(())
    }

    /// One step at a learning rate with gradients of this global norm, which is clipped. Gradients
    /// are let go one by one as they are applied.
    ///
    /// Slots are stepped in rising order; where several share one storage (the authors' reading),
    /// each updates it in turn.
    ///
    /// # Errors
    /// Fails where the device does.
    pub fn step(
        &mut self,
        model: &Model,
        gradients: Gradients,
        norm: f64,
        learning_rate: f64,
    ) -> Result<()> {
        let scale = clip_coefficient(norm, self.spec.clip_norm);
        let stepper = Stepper { spec: &self.spec, model, scale };
        stepper.step(model.trained_shared(), gradients.shared, &mut self.shared, learning_rate)?;

        for (slot, gradients) in gradients.slots {
            let moments = self.slots.entry(slot).or_default();
            let rate = learning_rate * self.group_rate.factor(members(model, slot));
            stepper.step(model.slot_parameters(slot), gradients, moments, rate)?;
        }

        Ok(())
    }

    /// Lets moments follow a decision: those of tied layers go, or rest where they are to be
    /// resumed; those of newly independent ones begin as the rule says, and those of replicated
    /// ones afresh under every rule. Where blocks were averaged, so are their moments.
    ///
    /// # Errors
    /// Fails where the device has no memory left, or the disk where moments rest fails.
    pub fn settle(&mut self, settlement: &Settlement) -> Result<()> {
        let going: Vec<_> =
            settlement.merged.iter().map(|merged| self.slots.get(&merged.from).cloned()).collect();
        self.follow(settlement)?;

        for (merged, going) in settlement.merged.iter().zip(going) {
            self.blend(merged, going)?;
        }

        Ok(())
    }

    /// Averages the moments of a block that went into those of the block that took it in. Moments
    /// that are not there yet count as zero. The step count is the greater one: it says how far the
    /// running means have come from their zero start.
    fn blend(&mut self, merged: &Merged, going: Option<Vec<ParameterMoments>>) -> Result<()> {
        let own = self.slots.remove(&merged.into);
        let (own, going) = match (own, going) {
            (None, None) => return Ok(()),
            (Some(own), Some(going)) => (own, going),
            (Some(own), None) => (own.clone(), zeros_of(&own)?),
            (None, Some(going)) => (zeros_of(&going)?, going),
        };

        let pairs = own.iter().zip(&going).map(|(own, going)| {
            Ok(ParameterMoments {
                first: blended(&own.first, &going.first, merged.share)?,
                second: blended(&own.second, &going.second, merged.share)?,
                step: own.step.max(going.step),
            })
        });

        self.slots.insert(merged.into, pairs.collect::<Result<_>>()?);
        Ok(())
    }

    /// The moments of blocks as they are now, without a copy: for [`go_back`](Self::go_back), as
    /// long as no step is made.
    #[must_use]
    pub fn hold(&self) -> HeldMoments {
        HeldMoments { slots: self.slots.clone(), resting: self.resting.clone() }
    }

    /// Undoes what was settled since [`hold`](Self::hold).
    pub fn go_back(&mut self, held: HeldMoments) {
        (self.slots, self.resting) = (held.slots, held.resting);
    }

    fn follow(&mut self, settlement: &Settlement) -> Result<()> {
        for layer in &settlement.replicated {
            self.slots.remove(layer);
        }

        let inherited = match self.rule {
            Moments::Resume => return self.rest_and_wake(settlement),
            Moments::Inherit => self.inherited(settlement)?,
            Moments::Fresh => BTreeMap::new(),
        };

        let untied = settlement.untied.iter().map(|(layer, _)| layer);
        for layer in settlement.tied.iter().chain(untied) {
            self.slots.remove(layer);
        }

        self.slots.extend(inherited);
        Ok(())
    }

    /// What goes to rest goes first: there are never more moments in memory than before or after.
    fn rest_and_wake(&mut self, settlement: &Settlement) -> Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        for &layer in &settlement.tied {
            if let Some(moments) = self.slots.get(&layer).filter(|moments| place.takes(moments)) {
                self.resting.insert(layer, Arc::new(place.put(layer, moments)?));
                self.slots.remove(&layer);
            }
        }

        for (layer, _) in &settlement.untied {
            if let Some(resting) = self.resting.get(layer) {
                self.slots.insert(*layer, resting.wake()?);
                self.resting.remove(layer);
            }
        }

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

                inherited.insert(
                    layer,
                    copies.collect::<candle_core::Result<_>>().map_err(ModelError::from)?,
                );
            }
        }

        Ok(inherited)
    }

    /// Moments of the parameters outside of blocks, in the order of their layout; empty before the
    /// first step.
    #[must_use]
    pub fn shared(&self) -> &[ParameterMoments] {
        &self.shared
    }

    /// Moments of each slot's block that are in memory, in the order of its layout.
    #[must_use]
    pub fn slots(&self) -> &BTreeMap<usize, Vec<ParameterMoments>> {
        &self.slots
    }

    /// Moments that rest on disk, by the slot that will go on with them.
    #[must_use]
    pub fn resting(&self) -> &BTreeMap<usize, Arc<Resting>> {
        &self.resting
    }

    /// Bytes of the moments in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.iter().chain(self.slots.values().flatten()).map(ParameterMoments::bytes).sum()
    }
}

struct Stepper<'a> {
    spec: &'a OptimizerSpec,
    model: &'a Model,
    scale: f64,
}

impl Stepper<'_> {
    fn step(
        &self,
        parameters: &Parameters,
        gradients: Vec<Tensor>,
        moments: &mut Vec<ParameterMoments>,
        learning_rate: f64,
    ) -> Result<()> {
        extend(moments, parameters)?;
        let places = parameters.variables().iter().zip(moments);
        for ((variable, moments), gradient) in places.zip(gradients) {
            moments.step += 1;
            let decays = self.spec.decayed == Decayed::All || variable.rank() >= 2;
            let step = AdamwStep {
                learning_rate,
                beta1: self.spec.beta1,
                beta2: self.spec.beta2,
                epsilon: self.spec.epsilon,
                weight_decay: if decays { self.spec.weight_decay } else { 0.0 },
                step: moments.step,
                gradient_scale: self.scale,
            };

            self.model
                .kernels()
                .adamw(variable, &moments.first, &moments.second, &gradient, &step)
                .map_err(ModelError::from)?;
        }

        Ok(())
    }
}

/// Moments of zero, of the same shapes.
fn zeros_of(moments: &[ParameterMoments]) -> Result<Vec<ParameterMoments>> {
    let zeros = |tensor: &Tensor| tensor.zeros_like().map_err(ModelError::from);
    let each = moments.iter().map(|one| {
        Ok(ParameterMoments { first: zeros(&one.first)?, second: zeros(&one.second)?, step: 0 })
    });
    each.collect()
}

/// Adds moments of zero for parameters that have none yet.
fn extend(moments: &mut Vec<ParameterMoments>, parameters: &Parameters) -> Result<()> {
    for variable in parameters.variables().iter().skip(moments.len()) {
        let zeros = || variable.zeros_like().map(|zeros| zeros.detach()).map_err(ModelError::from);
        moments.push(ParameterMoments { first: zeros()?, second: zeros()?, step: 0 });
    }
    Ok(())
}

/// Layers whose gradient goes to a slot.
fn members(model: &Model, slot: usize) -> usize {
    (0..model.binding().n_layers()).filter(|&layer| model.slot(layer) == Some(slot)).count()
}

/// Factor that brings a global norm down to `limit`; PyTorch's, with its 1e-6 against division by
/// zero.
fn clip_coefficient(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_scales_only_what_is_too_long() {
        assert_eq!(clip_coefficient(0.5, 1.0), 1.0);
        assert!((clip_coefficient(4.0, 1.0) - 0.25).abs() < 1e-6);
        assert_eq!(clip_coefficient(1e9, f64::INFINITY), 1.0);
    }

    #[test]
    fn group_rates_divide_the_step_of_shared_weights() {
        use dlt_models::architecture::{Form, HeadSettings};
        use dlt_models::backward::TrainingPass;
        use dlt_models::binding::{Binding, Rules};
        use dlt_models::gpt2::Gpt2;
        use dlt_models::{Batch, Model};
        use dlt_spec::spec::Checkpointing;

        let architecture = || {
            Box::new(Gpt2 {
                form: Form {
                    layers: 4,
                    width: 8,
                    heads: 2,
                    feed_forward: 16,
                    norm_epsilon: 1e-5,
                    initial_std: 0.1,
                    residual_factors: Vec::new(),
                    head: HeadSettings::NEXT_TOKEN,
                },
                positions: 4,
                vocabulary: 11,
                gelu: dlt_kernels::Gelu::Tanh,
            })
        };

        let state = dlt_state::State::all_tied(4);
        // How far the first step moves one weight of the shared block: the first step of AdamW is
        // the rate.
        let moved = |group_rate: GroupRate| {
            let spec = dlt_spec::Spec::default();
            let tying = TyingSpec { group_rate, ..spec.tying.clone() };
            let optimizer =
                OptimizerSpec { weight_decay: 0.0, clip_norm: f64::INFINITY, ..spec.optimizer };
            let binding = Binding::of_state(&state);
            let rules = Rules::from(&tying);

            let kernels = dlt_kernels::Kernels::Fused;
            let model =
                Model::new(architecture(), binding, rules, kernels, 1, &candle_core::Device::Cpu)
                    .expect("a small model fits");

            let weight = || {
                let values =
                    model.slot_parameters(0).variables()[2].flatten_all().expect("a tensor");
                values.to_vec1::<f32>().expect("f32")[0]
            };

            let before = weight();
            let batch = Batch::next_token(&[1, 2, 3, 4], &[2, 3, 4, 5], 1);
            let pass = TrainingPass {
                checkpointing: Checkpointing::None,
                dropout: None,
                scale: 0.25,
                sketch: None,
            };

            let (_, gradients) = model.gradients(&batch, &pass).expect("a pass");
            let norm = gradients.norm().expect("a norm");
            Optimizer::new(&optimizer, &tying).step(&model, gradients, norm, 0.01).expect("a step");
            f64::from((weight() - before).abs())
        };

        for (rate, expected) in
            [(GroupRate::Same, 0.01), (GroupRate::Root, 0.005), (GroupRate::Inverse, 0.0025)]
        {
            let moved = moved(rate);
            assert!((moved - expected).abs() < 1e-5, "{rate:?}: {moved} for {expected}");
        }
    }
}
