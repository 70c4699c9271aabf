//! AdamW over the slots of a model: one state per slot, one step count per parameter.

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
use crate::exchange::Share;
use resting::{Resting, RestingPlace};
pub use saved::OptimizerState;

/// Moments and step count of one parameter.
#[derive(Clone, Debug)]
pub struct ParameterMoments {
    /// Running mean of the gradient.
    pub first: Tensor,
    /// Running mean of its square.
    pub second: Tensor,
    /// Steps that this parameter has made.
    pub step: u64,
}

impl ParameterMoments {
    /// Bytes of both moments.
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
    /// The elements of each parameter that it steps, and whose moments it holds.
    share: Share,
    shared: Vec<ParameterMoments>,
    slots: BTreeMap<usize, Vec<ParameterMoments>>,
    /// Of what each layer keeps for itself.
    kept: BTreeMap<usize, Vec<ParameterMoments>>,
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
    /// An optimizer without moments. A parameter's moments start at zero with its first step.
    #[must_use]
    pub fn new(spec: &OptimizerSpec, tying: &TyingSpec) -> Self {
        Self {
            spec: spec.clone(),
            rule: tying.moments,
            group_rate: tying.group_rate,
            share: Share::WHOLE,
            shared: Vec::new(),
            slots: BTreeMap::new(),
            kept: BTreeMap::new(),
            place: None,
            resting: BTreeMap::new(),
        }
    }

    /// Sets which share of each parameter it steps. The moments of a share are flat tensors.
    #[must_use]
    pub fn of_share(mut self, share: Share) -> Self {
        self.share = share;
        self
    }

    /// Sets where moments rest that are kept for layers which are not independent now. Without a
    /// place they stay in memory. The numbers are the same.
    #[must_use]
    pub fn resting_in(mut self, place: RestingPlace) -> Self {
        self.place = Some(place);
        self
    }

    /// Allocates moments of zero for parameters that train for the first time in the next step.
    /// [`step`](Self::step) would do so too, but among the buffers of a backward pass. Moments live
    /// longer than those buffers, so allocating them first leaves no gaps.
    ///
    /// # Errors
    /// Fails if the device is out of memory.
    pub fn prepare(&mut self, model: &Model) -> Result<()> {
        extend(&mut self.shared, &self.share.views(model.trained_shared())?)?;
        for slot in model.slots() {
            let views = self.share.views(model.slot_parameters(slot))?;
            extend(self.slots.entry(slot).or_default(), &views)?;
        }
        for layer in model.keepers() {
            let views = self.share.views(model.bank().kept(layer))?;
            extend(self.kept.entry(layer).or_default(), &views)?;
        }

        Ok(())
    }

    /// Makes one step at `learning_rate`. `norm` is the global norm of all gradients, which is
    /// clipped. `gradients` are those of the optimizer's share. Each is freed as soon as it is
    /// applied.
    ///
    /// Slots are stepped in rising order. If several slots share one storage (the authors' reading,
    /// DEVIATIONS row 2), each updates it in turn.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn step(
        &mut self,
        model: &Model,
        gradients: Gradients,
        norm: f64,
        learning_rate: f64,
    ) -> Result<()> {
        // The scale is applied inside the AdamW kernel, so clipping costs no pass over the
        // gradients.
        let scale = clip_coefficient(norm, self.spec.clip_norm);
        let stepper = Stepper { spec: &self.spec, model, scale, share: self.share };
        stepper.step(model.trained_shared(), gradients.shared, &mut self.shared, learning_rate)?;

        for (slot, gradients) in gradients.slots {
            let moments = self.slots.entry(slot).or_default();
            // AdamW's step does not grow with a summed gradient, but one step on weights that m
            // layers share changes the model m times (DEVIATIONS row 28).
            let rate = learning_rate * self.group_rate.factor(members(model, slot));
            stepper.step(model.slot_parameters(slot), gradients, moments, rate)?;
        }

        for (layer, gradients) in gradients.kept {
            let moments = self.kept.entry(layer).or_default();
            stepper.step(model.bank().kept(layer), gradients, moments, learning_rate)?;
        }

        Ok(())
    }

    /// Updates the moments after a decision. Moments of tied layers are dropped, or rest if
    /// `tying.moments` resumes them. Moments of newly independent layers start as that rule says;
    /// those of replicated layers start fresh under every rule. Where blocks were averaged, their
    /// moments are averaged too.
    ///
    /// # Errors
    /// Fails if the device is out of memory, or if the disk that moments rest on fails.
    pub fn settle(&mut self, settlement: &Settlement) -> Result<()> {
        // Taken before `follow`, which drops the moments of tied layers. A clone shares the
        // tensors.
        let going: Vec<_> =
            settlement.merged.iter().map(|merged| self.slots.get(&merged.from).cloned()).collect();
        self.follow(settlement)?;

        for (merged, going) in settlement.merged.iter().zip(going) {
            self.blend(merged, going)?;
        }

        Ok(())
    }

    /// Averages the moments of a block that was merged into the moments of the block that replaces
    /// it. Moments that do not exist yet count as zero. The step count is the greater one, because
    /// it says how far the running means are from their start at zero.
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

    /// The present moments of all blocks, for [`go_back`](Self::go_back). Nothing is copied, so
    /// this is only valid until the next step, which writes the moments in place.
    #[must_use]
    pub fn hold(&self) -> HeldMoments {
        HeldMoments { slots: self.slots.clone(), resting: self.resting.clone() }
    }

    /// Undoes every [`settle`](Self::settle) since [`hold`](Self::hold).
    pub fn go_back(&mut self, held: HeldMoments) {
        self.slots = held.slots;
        self.resting = held.resting;
    }

    /// Applies `tying.moments` to the layers that a decision tied, untied or replicated.
    fn follow(&mut self, settlement: &Settlement) -> Result<()> {
        for layer in &settlement.replicated {
            self.slots.remove(layer);
        }

        // Copied before anything is removed: the former owner may be tied in this very decision,
        // and its moments are dropped below.
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

    /// Writes moments of tied layers to disk, then reads those of untied layers back. In this order
    /// there are never more moments in memory than before or after.
    fn rest_and_wake(&mut self, settlement: &Settlement) -> Result<()> {
        // Without a place all moments stay in `slots`, where a layer finds its own again.
        let Some(place) = &self.place else { return Ok(()) };

        for &layer in &settlement.tied {
            if let Some(moments) = self.slots.get(&layer).filter(|moments| place.takes(moments)) {
                // Removed from memory only once the file holds them: an error leaves them usable.
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

    /// Copies of the former owner's moments, by newly independent layer, under `inherit`. A layer
    /// without a former owner with moments (it was frozen, say) gets none.
    fn inherited(&self, settlement: &Settlement) -> Result<BTreeMap<usize, Vec<ParameterMoments>>> {
        let mut inherited = BTreeMap::new();
        for &(layer, owner) in &settlement.untied {
            if let Some(moments) = owner.and_then(|owner| self.slots.get(&owner)) {
                let copies = moments.iter().map(|moments| {
                    Ok(ParameterMoments {
                        // A true copy: a step writes moments in place, and owner and layer train
                        // apart from now on.
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

    /// Moments in memory, by slot; those of a slot are in the order of the tied parameters.
    #[must_use]
    pub fn slots(&self) -> &BTreeMap<usize, Vec<ParameterMoments>> {
        &self.slots
    }

    /// Moments of what each layer keeps for itself, by layer.
    #[must_use]
    pub fn kept(&self) -> &BTreeMap<usize, Vec<ParameterMoments>> {
        &self.kept
    }

    /// Moments at rest on disk, by the slot that will resume them.
    #[must_use]
    pub fn resting(&self) -> &BTreeMap<usize, Arc<Resting>> {
        &self.resting
    }

    /// Bytes of the moments in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let in_blocks = self.slots.values().chain(self.kept.values()).flatten();
        self.shared.iter().chain(in_blocks).map(ParameterMoments::bytes).sum()
    }
}

/// What is the same for all parameters of one step.
struct Stepper<'a> {
    spec: &'a OptimizerSpec,
    model: &'a Model,
    scale: f64,
    share: Share,
}

impl Stepper<'_> {
    fn step(
        &self,
        parameters: &Parameters,
        gradients: Vec<Tensor>,
        moments: &mut Vec<ParameterMoments>,
        learning_rate: f64,
    ) -> Result<()> {
        let views = self.share.views(parameters)?;
        extend(moments, &views)?;
        let places = parameters.layout().entries().iter().zip(&views).zip(moments);

        for (((entry, view), moments), gradient) in places.zip(gradients) {
            moments.step += 1;
            // Rank 2 and above are matrices; biases and gains of norms have rank 1.
            let decays = self.spec.decayed == Decayed::All || entry.shape.len() >= 2;
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
                .adamw(view, &moments.first, &moments.second, &gradient, &step)
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
fn extend(moments: &mut Vec<ParameterMoments>, views: &[Tensor]) -> Result<()> {
    for view in views.iter().skip(moments.len()) {
        let zeros = || view.zeros_like().map(|zeros| zeros.detach()).map_err(ModelError::from);
        moments.push(ParameterMoments { first: zeros()?, second: zeros()?, step: 0 });
    }
    Ok(())
}

/// Number of layers whose gradient goes to a slot.
fn members(model: &Model, slot: usize) -> usize {
    (0..model.binding().n_layers()).filter(|&layer| model.slot(layer) == Some(slot)).count()
}

/// Factor that scales a global norm down to `limit`, at most 1. It is PyTorch's, with its 1e-6
/// against a division by zero.
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
        use dlt_models::division::Keeps;
        use dlt_models::families::gpt2::Gpt2;
        use dlt_models::{Batch, Model};
        use dlt_spec::spec::Checkpointing;

        let architecture = || {
            Arc::new(Gpt2 {
                form: Form {
                    layers: 4,
                    width: 8,
                    heads: 2,
                    feed_forward: 16,
                    norm_epsilon: 1e-5,
                    initial_std: 0.1,
                    residual_factors: Vec::new(),
                    keeps: Keeps::NOTHING,
                    head: HeadSettings::NEXT_TOKEN,
                },
                positions: 4,
                vocabulary: 11,
                gelu: dlt_kernels::Gelu::Tanh,
            })
        };

        let state = dlt_state::State::all_tied(4);
        // How far the first step moves one weight of the shared block. The first step of AdamW has
        // the size of the learning rate.
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
