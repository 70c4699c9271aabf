//! The parts of a run built from its spec: the model, the agent and the first recording.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use dlt_agent::{Agent, replay_permutation};
use dlt_kernels::Kernels;
use dlt_models::Model;
use dlt_models::architecture::Architecture;
use dlt_models::binding::{Binding, Rules};
use dlt_models::division::Half;
use dlt_models::parameters::Layout;
use dlt_spec::CheckedSpec;
use dlt_spec::spec::{PolicyKind, Products, Tie};
use dlt_state::{Recording, State, pattern};

use crate::timetable::{Timetable, grows};
use crate::{Result, TrainError};

/// Looks up initial weights by the names that our model files use; `None` for a weight that does
/// not exist.
pub type Weights<'a> = &'a dyn Fn(&str) -> dlt_models::Result<Option<Tensor>>;

/// The kernels that a spec trains and evaluates with.
///
/// # Errors
/// [`TrainError::Device`] if the spec asks for products that the device does not have.
pub(crate) fn kernels(spec: &CheckedSpec, device: &Device) -> Result<Kernels> {
    match spec.training.products {
        Products::F32 => Ok(Kernels::Fused),
        Products::Bf16x3 if device.is_cpu() => Ok(Kernels::FusedBf16x3),
        Products::Bf16x3 => Err(TrainError::Device {
            device: "a GPU".to_owned(),
            reason: "expected the CPU, because training.products = \"bf16x3\" is for its \
                     instructions; set training.products=f32"
                .to_owned(),
        }),
    }
}

/// The model of an architecture, as a spec trains it. Its weights are freshly drawn, or read from
/// `start`. Weights that `start` lacks because a new objective adds them are drawn.
///
/// # Errors
/// Fails if `start` lacks any other weight or has it in another shape, or if the device is out of
/// memory.
pub fn model_for(
    architecture: Arc<dyn Architecture>,
    spec: &CheckedSpec,
    start: Option<Weights<'_>>,
    kernels: Kernels,
    device: &Device,
) -> Result<Model> {
    let binding = initial_binding(spec);
    let rules = Rules::from(&spec.tying);
    let seed = spec.seed;

    let model = match start {
        None => Model::new(architecture, binding, rules, kernels, seed, device)?,
        Some(lookup) => {
            // Scales are new in a model that had none: 1, which changes nothing.
            let width = architecture.width();
            let scale = |name: &str| -> dlt_models::Result<Option<Tensor>> {
                let is_new = [Half::Attention, Half::FeedForward]
                    .iter()
                    .any(|half| name.ends_with(half.scale()));
                let ones = || Tensor::ones(width, DType::F32, device);
                Ok(if is_new { Some(ones()?) } else { None })
            };

            // Parameters that belong to the head alone (a classifier, say) have no counterpart in a
            // model that was trained on another objective. Only these may be missing; a missing
            // weight of any other name is an error, not a silent fresh draw.
            let own = architecture.own_head();
            let prefix = architecture.shared_prefix();
            // Drawn from the streams that a model without `start` uses for these parameters.
            let drawn = Layout::new(architecture.shared_layout().entries().to_vec());
            let or_drawn = |name: &str| -> dlt_models::Result<Option<Tensor>> {
                let given = lookup(name)?;
                let own_name = name.strip_prefix(prefix).filter(|name| own.contains(name));
                match (given, own_name) {
                    (None, Some(name)) => {
                        Ok(Some(drawn.draw_one(seed, "shared", drawn.number(name)?, device)?))
                    }
                    (None, None) => scale(name),
                    (given, _) => Ok(given),
                }
            };

            Model::from_weights(
                architecture,
                binding,
                rules,
                kernels,
                &or_drawn,
                Some(seed),
                device,
            )?
        }
    };

    Ok(model.training(spec.training.trains).computing_in(spec.training.activations))
}

/// The storage that each layer uses before the first decision.
#[must_use]
pub fn initial_binding(spec: &CheckedSpec) -> Binding {
    spec.initial_binding()
}

/// The largest binding that a run over `train_windows` windows is certain to reach. Ties depend on
/// the decisions, so none is assumed. Copies stay once they are made. Splits stay too: their number
/// is known in advance, their places are not.
pub(crate) fn certain_binding(spec: &CheckedSpec, train_windows: usize) -> Binding {
    if grows(spec) {
        let splits =
            Timetable::new(spec, spec.steps(train_windows), train_windows, None).n_splits();
        let layers = spec.model.layers;
        let groups = spec.initial_state().n_independent() + splits;

        // Memory depends on the number of groups only, so any state with that many serves.
        return Binding::of_state(&pattern::leading(layers, groups));
    }

    let decides = spec.agent.policy != PolicyKind::None && spec.tying.decide_until > 0.0;

    match spec.tying.tie {
        Tie::Replicate if decides => Binding::of_state(&State::independent(spec.model.layers)),
        Tie::Replicate | Tie::Share => initial_binding(spec),
    }
}

/// The recording of a run before its first decision. If the spec has a gate, rows of the recording
/// also say whether the decision was undone.
pub(crate) fn empty_recording(spec: &CheckedSpec) -> Recording {
    if spec.tying.gate.is_finite() {
        Recording::gated(spec.initial_state())
    } else {
        Recording::starting_from(spec.initial_state())
    }
}

/// The agent of a run; `None` if the policy is `none`.
pub(crate) fn agent_for(
    spec: &CheckedSpec,
    recording: Option<&Recording>,
) -> Result<Option<Agent>> {
    if spec.agent.policy == PolicyKind::None {
        return Ok(None);
    }
    if let Some(recording) = recording {
        check_start(spec, recording)?;
    }

    Ok(Some(Agent::new(&spec.agent_setup(), recording)?))
}

/// Refuses a recording that starts in another state than the run: its decisions would mean other
/// changes.
fn check_start(spec: &CheckedSpec, recording: &Recording) -> Result<()> {
    let n_layers = spec.model.layers;
    if recording.n_layers() != n_layers {
        // The agent itself refuses this, in a message that names both depths.
        return Ok(());
    }

    let recorded = match spec.agent.policy {
        PolicyKind::PermutedReplay => {
            recording.initial().relabel(&replay_permutation(&spec.agent_setup()))?
        }
        _ => recording.initial().clone(),
    };

    // The rule that also maps the recorded actions.
    let recorded = spec.exempt().spare_state(&recorded);
    let run = spec.initial_state();
    if recorded == run {
        return Ok(());
    }

    Err(TrainError::OtherStart { recorded: recorded.into_owners(), run: run.into_owners() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlt_spec::{Overlay, Spec};

    #[test]
    fn copies_are_certain_and_ties_are_not() {
        let trained = |set: &[&str]| {
            let overlays: Vec<_> =
                set.iter().map(|one| Overlay::from_assignment(one).unwrap()).collect();
            certain_binding(&Spec::assemble(&overlays).unwrap().check().unwrap(), 800)
                .trained()
                .len()
        };

        let frozen = ["model.layers=3", "tying.initial=frozen"];
        assert_eq!(trained(&frozen), 1);
        assert_eq!(trained(&[&frozen[..], &["tying.tie=replicate"]].concat()), 3);
        assert_eq!(
            trained(&[&frozen[..], &["tying.tie=replicate", "agent.policy=none"]].concat()),
            1
        );

        let growth = [
            "model.layers=8",
            "tying.initial=tied",
            "tying.decision=split",
            "tying.grow=[0.2, 0.4, 0.6]",
        ];
        assert_eq!(trained(&[&growth[..], &["agent.policy=even"]].concat()), 4);
        assert_eq!(trained(&[&growth[..], &["agent.policy=even", "tying.groups=3"]].concat()), 3);
        assert_eq!(trained(&[&growth[..], &["agent.policy=none"]].concat()), 1);

        let replay = ["agent.policy=replay", "agent.recording=states.jsonl"];
        assert_eq!(trained(&[&growth[..], &replay].concat()), 1);
    }
}
