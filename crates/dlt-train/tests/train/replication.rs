//! Replication without tying (DEVIATIONS row 32): moments that start fresh, and whole runs.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use dlt_kernels::{Gelu, Kernels};
use dlt_models::architecture::of_spec;
use dlt_models::backward::TrainingPass;
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::{Batch, Model};
use dlt_spec::Spec;
use dlt_spec::spec::{Checkpointing, Moments, Tie, TyingSpec};
use dlt_state::State;
use dlt_train::disk::SystemDisk;
use dlt_train::memory;
use dlt_train::optimizer::resting::RestingPlace;
use dlt_train::optimizer::{Optimizer, ParameterMoments};

use crate::bench::{Bench, finish, losses};
use crate::fixtures::{adamw, gpt2};

/// Each state, with the layers that its decision replicates: those whose owner changes to another
/// layer.
const SCRIPT: [([usize; 4], &[usize]); 7] = [
    ([0, 1, 0, 1], &[2, 3]),
    ([0, 1, 0, 1], &[]),
    ([0, 0, 2, 0], &[1, 3]),
    ([0, 1, 2, 2], &[3]),
    ([0, 0, 0, 0], &[1, 2, 3]),
    ([0, 0, 2, 3], &[]),
    ([0, 0, 2, 2], &[3]),
];

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("f32");
    values.into_iter().map(f32::to_bits).collect()
}

fn is_zero(moments: &ParameterMoments) -> bool {
    [&moments.first, &moments.second]
        .iter()
        .all(|tensor| bits(tensor).iter().all(|&bits| bits == 0))
}

/// Weights at the end of the script under a rule. Checks on the way that every replicated layer
/// starts fresh and that every other one continues.
fn weights_under(moments: Moments) -> Vec<(String, Vec<u32>)> {
    let folder = tempfile::tempdir().expect("a folder");
    let tying = TyingSpec { tie: Tie::Replicate, moments, ..Spec::default().tying };
    let architecture = Arc::new(gpt2([4, 12, 3, 20, 8, 31], Gelu::Tanh));
    let rules = Rules::from(&tying);
    let mut model =
        Model::new(architecture, Binding::frozen(4), rules, Kernels::Fused, 7, &Device::Cpu)
            .expect("it fits");

    let place = RestingPlace::on(Arc::new(SystemDisk), folder.path(), 1);
    let mut optimizer = Optimizer::new(&adamw(), &tying).resting_in(place);
    let ids: Vec<u32> = (0..25).map(|i| (i * i * 7 + i * 3 + 5) % 31).collect();
    let batch = Batch::next_token(&ids[..24], &ids[1..], 3);

    let pass = TrainingPass {
        checkpointing: Checkpointing::None,
        dropout: None,
        scale: 1.0 / 24.0,
        sketch: None,
    };

    let step = |model: &Model, optimizer: &mut Optimizer| {
        let (_, gradients) = model.gradients(&batch, &pass).expect("a pass");
        let norm = gradients.norm().expect("a norm");
        optimizer.step(model, gradients, norm, 1e-2).expect("a step");
    };

    let mut state = State::all_tied(4);
    step(&model, &mut optimizer);

    let mut steps = [1, 0, 0, 0];
    for (owners, replicated) in SCRIPT {
        let next = State::new(owners.to_vec()).expect("a state");
        let change = Change { from: &state, to: &next, action: next.as_action(), visited: None };
        let settlement = model.apply(&change).expect("applied");

        assert_eq!(settlement.replicated, replicated, "{owners:?}");
        optimizer.settle(&settlement).expect("settled");
        optimizer.prepare(&model).expect("there is memory");
        replicated.iter().for_each(|&layer| steps[layer] = 0);

        let check = |optimizer: &Optimizer, steps: [u64; 4]| {
            for (&layer, moments) in optimizer.slots() {
                assert!(
                    moments.iter().all(|moments| moments.step == steps[layer]),
                    "{layer} in {owners:?}"
                );
                let is_fresh = moments.iter().all(is_zero);
                assert_eq!(is_fresh, steps[layer] == 0, "layer {layer} in {owners:?}");
            }
            assert_eq!(optimizer.slots().len(), 4);
            assert!(optimizer.resting().is_empty(), "every layer trains");
        };

        check(&optimizer, steps);
        step(&model, &mut optimizer);
        step(&model, &mut optimizer);
        steps = steps.map(|steps| steps + 2);
        check(&optimizer, steps);
        state = next;
    }

    let tensors = model.named_tensors().expect("weights");
    tensors.into_iter().map(|(name, tensor)| (name, bits(&tensor))).collect()
}

#[test]
fn law_moments_of_replicated_layers_begin_afresh_under_every_rule() {
    let fresh = weights_under(Moments::Fresh);
    assert!(weights_under(Moments::Inherit) == fresh);
    assert!(weights_under(Moments::Resume) == fresh);
}

/// Ablation (v): decisions as in the full method, and the parameters and memory of a conventional
/// model.
#[test]
fn a_run_that_replicates_trains_with_as_many_blocks_as_layers() {
    let bench = Bench::new();
    let ablation = ["tying.tie=replicate", "agent.policy=random", "training.steps=60"];
    let conventional = ["agent.policy=none", "tying.initial=independent", "training.steps=60"];
    let mut trainer = bench.trainer("replicated", &ablation, None);
    let spec = bench.spec(&ablation);
    let extents = bench.material(&spec).extents();

    let architecture = of_spec(&spec, extents);
    let predict = |binding: &Binding| {
        memory::predict(&*architecture, &spec, None, binding, 1).expect("a prediction")
    };
    let independent = predict(&Binding::of_state(&State::independent(4)));

    while let Some(report) = trainer.advance().expect("it does not diverge") {
        let binding = trainer.model().binding();
        let is_decided = report.step > 3;
        assert_eq!(trainer.model().bank().blocks().len(), if is_decided { 4 } else { 1 });
        assert_eq!(predict(binding) == independent, is_decided, "step {}", report.step);
    }

    let summary = finish(trainer);
    let whole = bench.run("conventional", &conventional);
    assert_eq!(summary.trainable_parameters_end, whole.conventional_parameters);
    assert_eq!(summary.block_parameters_end, whole.conventional_block_parameters);
    assert_eq!(summary.weights_gradients_moments_mb_peak, whole.weights_gradients_moments_mb_peak);

    let recording = bench.recording("replicated");
    assert!(recording.event_counts().tied > 10, "the test needs tied events");

    for step in bench.steps("replicated") {
        assert_eq!(step.independent_layers, recording.state_at(step.step - 1).n_independent());
        assert_eq!(step.distinct_layers, 4);
        assert_eq!(step.block_parameters == whole.conventional_block_parameters, step.step > 3);
    }

    assert!(
        summary.independent_layers_mean < 3.5,
        "what the state says: {}",
        summary.independent_layers_mean
    );
    let losses = losses(&bench.metrics("replicated"));

    assert!(
        losses[50..].iter().sum::<f64>() < 0.8 * losses[..10].iter().sum::<f64>(),
        "{losses:?}"
    );
}

/// A random policy does not see the weights. The weights of the two runs differ from the first step
/// after a tied event on.
#[test]
fn replication_changes_what_is_trained_and_not_what_a_random_policy_decides() {
    let bench = Bench::new();
    bench.run("shared", &["agent.policy=random"]);
    bench.run("replicated", &["agent.policy=random", "tying.tie=replicate"]);
    assert_eq!(bench.recording("shared").to_text(), bench.recording("replicated").to_text());

    let [shared, replicated] = ["shared", "replicated"].map(|run| losses(&bench.metrics(run)));
    assert_eq!(shared[..4], replicated[..4], "before the first decision, and right after it");
    assert_ne!(shared[4..], replicated[4..]);
}
