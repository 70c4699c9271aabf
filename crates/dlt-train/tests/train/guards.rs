//! Every parameter that should train gets a gradient, whatever was decided and optimized before.

use std::sync::Arc;

use candle_core::Device;
use dlt_kernels::{Gelu, Kernels, optimizer};
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::{Batch, Model};
use dlt_spec::Spec;
use dlt_spec::spec::{
    Checkpointing, FirstTie, Gradient, Merge, Moments, Retied, Tie, TyingSpec, Untie,
};
use dlt_state::State;
use dlt_train::optimizer::Optimizer;

use crate::fixtures::{adamw, gpt2};

/// All 15 states of four layers.
fn states() -> Vec<State> {
    let owners = (0..24).map(|code| vec![0, code % 2, code / 2 % 3, code / 6]);
    let states: Vec<_> = owners.filter_map(|owners| State::new(owners).ok()).collect();
    assert_eq!(states.len(), 15);
    states
}

fn gradients(model: &Model) -> Gradients {
    let ids: Vec<u32> = (0..25).map(|i| (i * i * 7 + i * 3 + 5) % 31).collect();
    let batch = Batch::next_token(&ids[..24], &ids[1..], 3);
    let pass = TrainingPass {
        checkpointing: Checkpointing::None,
        dropout: None,
        scale: 1.0 / 24.0,
        sketch: None,
    };

    model.gradients(&batch, &pass).expect("a pass").1
}

fn step(optimizer: &mut Optimizer, model: &Model, gradients: Gradients) {
    let norm = gradients.norm().expect("a norm");
    optimizer.step(model, gradients, norm, 1e-2).expect("a step");
}

fn check(model: &Model, gradients: &Gradients, what: &str) {
    let independent: Vec<_> = (0..4).filter(|&layer| model.binding().trains_alone(layer)).collect();
    assert_eq!(gradients.slots.keys().copied().collect::<Vec<_>>(), independent, "{what}");

    let all: Vec<_> = gradients.shared.iter().chain(gradients.slots.values().flatten()).collect();
    assert_eq!(all.len(), 4 + 12 * independent.len(), "{what}");

    let norms: Vec<_> =
        all.into_iter().map(|one| optimizer::squared_norm(one).expect("a norm")).collect();
    assert!(norms.iter().all(|norm| norm.is_finite() && *norm > 0.0), "{what}: {norms:?}");
}

/// One model goes from frozen through all 15 states and back, with an optimizer step in each.
#[test]
fn every_trainable_parameter_has_a_gradient_after_optimizer_steps_in_every_state() {
    for (tie, untie, retied, moments) in [
        (Tie::Share, Untie::Copy, Retied::Follow, Moments::Fresh),
        (Tie::Share, Untie::Copy, Retied::Follow, Moments::Inherit),
        (Tie::Share, Untie::Alias, Retied::Follow, Moments::Fresh),
        (Tie::Share, Untie::Copy, Retied::Keep, Moments::Inherit),
        (Tie::Share, Untie::Alias, Retied::Keep, Moments::Resume),
        (Tie::Replicate, Untie::Copy, Retied::Follow, Moments::Resume),
    ] {
        for (gradient, kernels) in [
            (Gradient::Sum, Kernels::Fused),
            (Gradient::Owner, Kernels::Fused),
            (Gradient::Sum, Kernels::Composed),
            (Gradient::Owner, Kernels::Composed),
        ] {
            let rules = Rules {
                tie,
                gradient,
                untie,
                retied,
                first_tie: FirstTie::Replicate,
                merge: Merge::Overwrite,
            };

            let architecture = Arc::new(gpt2([4, 12, 3, 20, 8, 31], Gelu::Tanh));
            let mut model =
                Model::new(architecture, Binding::frozen(4), rules, kernels, 7, &Device::Cpu)
                    .expect("a small model fits");
            let mut optimizer =
                Optimizer::new(&adamw(), &TyingSpec { moments, ..Spec::default().tying });

            let mut state = State::all_tied(4);
            step(&mut optimizer, &model, gradients(&model));
            check(&model, &gradients(&model), "frozen");

            for next in states().into_iter().chain(states().into_iter().rev()) {
                let change =
                    Change { from: &state, to: &next, action: next.as_action(), visited: None };
                optimizer.settle(&model.apply(&change).expect("applied")).expect("settled");

                let what = format!("{rules:?} {kernels:?} from {state:?} to {next:?}");
                let first = gradients(&model);
                check(&model, &first, &what);
                step(&mut optimizer, &model, first);
                check(&model, &gradients(&model), &format!("{what}, after a step"));
                state = next;
            }
        }
    }
}
