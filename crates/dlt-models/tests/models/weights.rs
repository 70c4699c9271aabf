//! Initial weights, numbers of parameters, and what a decision does to real weights.

use candle_core::Device;
use dlt_kernels::Kernels;
use dlt_models::architecture::Architecture;
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::parameters::{Entry, Init, Layout};
use dlt_spec::spec::FirstTie;
use dlt_state::{Action, State};

use crate::fixtures::{PAPER, distance, drawn, small};

#[test]
fn initial_weights_are_a_pure_function_of_seed_and_layer() {
    let layout = small().block_layout();
    let draw = |seed, place: &str| layout.draw(seed, place, &Device::Cpu).expect("memory");
    let name =
        |name: &str| layout.entries().iter().position(|entry| entry.name == name).expect("named");
    let weight = name("mlp.c_fc.weight");

    assert_eq!(distance(&draw(1, "layer 2")[weight], &draw(1, "layer 2")[weight]), 0.0);
    assert!(distance(&draw(1, "layer 2")[weight], &draw(1, "layer 3")[weight]) > 0.0);
    assert!(distance(&draw(1, "layer 2")[weight], &draw(2, "layer 2")[weight]) > 0.0);

    let same_shape = name("mlp.c_fc.bias");
    assert_eq!(draw(1, "layer 2")[same_shape].to_vec1::<f32>().expect("f32"), vec![0.0; 20]);
}

#[test]
fn initial_weights_are_normal_with_their_standard_deviation() {
    let std = 0.02;
    let n = 200_000;
    let layout = Layout::new(vec![Entry { name: "w", shape: vec![n], init: Init::Normal(std) }]);
    let values =
        layout.draw(3, "shared", &Device::Cpu).expect("memory")[0].to_vec1::<f32>().expect("f32");
    let moment =
        |power| values.iter().map(|&v| (f64::from(v) / std).powi(power)).sum::<f64>() / n as f64;

    // Five standard errors of each moment of a normal distribution at this size.
    let bound = |variance: f64| 5.0 * (variance / n as f64).sqrt();
    assert!(moment(1).abs() < bound(1.0));
    assert!((moment(2) - 1.0).abs() < bound(2.0));
    assert!(moment(3).abs() < bound(15.0));
    assert!((moment(4) - 3.0).abs() < bound(96.0));
}

#[test]
fn residual_projections_start_smaller_by_the_root_of_twice_the_depth() {
    let std = |wanted: &str| {
        let layout = small().block_layout();
        let entry =
            layout.entries().iter().find(|entry| entry.name == wanted).expect("named").clone();
        match entry.init {
            Init::Normal(std) => std,
            Init::Constant(_) => panic!("{wanted} is drawn"),
        }
    };

    for name in ["attn.c_proj.weight", "mlp.c_proj.weight"] {
        assert!((std(name) - 0.1 / 8f64.sqrt()).abs() < 1e-12);
    }

    assert_eq!(std("attn.c_attn.weight"), 0.1);
}

#[test]
fn frozen_layers_take_no_memory_and_count_as_distinct() {
    let model = drawn(Binding::frozen(4), PAPER, Kernels::Fused);
    assert_eq!(model.bank().blocks().len(), 1);
    assert_eq!((model.binding().n_training_alone(), model.binding().n_distinct()), (1, 4));

    let block = 12 * 36 + 36 + 12 * 12 + 12 + 4 * 12 + 12 * 20 + 20 + 20 * 12 + 12;
    assert_eq!(model.n_block_parameters(), block);
    assert_eq!(model.n_shared_parameters(), 31 * 12 + 9 * 12 + 24);
    assert_eq!(model.n_trainable_parameters(), model.n_shared_parameters() + block);
}

fn decide(model: &mut dlt_models::Model, from: &State, action: &[usize]) -> State {
    let action = Action::new(action.to_vec()).expect("an action");
    let to = State::from_action(&action);
    let change = Change { from, to: &to, action: &action, visited: None };
    model.apply(&change).expect("equal depths");
    to
}

/// A frozen layer that unties keeps exactly the weights that it has been computing with, and the
/// function of the model does not change.
#[test]
fn untying_changes_no_output() {
    let ids: Vec<u32> = (0..9).collect();

    for first_tie in [FirstTie::Replicate, FirstTie::Literal] {
        let mut model = drawn(Binding::frozen(4), Rules { first_tie, ..PAPER }, Kernels::Fused);
        let frozen = model.logits(&ids).expect("logits");
        let state = decide(&mut model, &State::all_tied(4), &[0, 1, 2, 3]);

        assert_eq!(distance(&frozen, &model.logits(&ids).expect("logits")), 0.0);
        let state = decide(&mut model, &state, &[0, 0, 0, 0]);
        let tied = model.logits(&ids).expect("logits");

        assert!(distance(&frozen, &tied) > 0.0);
        decide(&mut model, &state, &[0, 1, 1, 3]);
        assert_eq!(distance(&tied, &model.logits(&ids).expect("logits")), 0.0);
    }
}

#[test]
fn a_transition_frees_blocks_at_once() {
    let mut model = drawn(Binding::of_state(&State::independent(4)), PAPER, Kernels::Fused);
    assert_eq!(model.bank().blocks().len(), 4);

    let state = decide(&mut model, &State::independent(4), &[0, 0, 2, 2]);
    assert_eq!(model.bank().blocks().len(), 2);
    decide(&mut model, &state, &[0, 0, 0, 0]);
    assert_eq!(model.bank().blocks().len(), 1);
}
