//! What gradients have in common: they carry no graph, continue from sums, and refuse wrong shapes.

use crate::operations::{
    Operation, add_rows, attention, dropout, gelu, layer_norm, linear, linear_gelu, rms_norm,
    rotate, swiglu,
};
use crate::reference::*;
use candle_core::{Tensor, Var};
use dlt_kernels::{Attention, Dropout, Gelu, Kernels, Mask, Rotary};

/// candle records nothing of what a loop computes, not even from the variables of a model.
#[test]
fn law_results_of_loops_carry_no_graph() {
    let rotary = Rotary::new(4, 100.0, None).unwrap();
    let full = Attention::new(1, Mask::Full);
    let x = &noise(&[2, 5, 12], 1);
    let w = &noise(&[12], 2);
    let square = &noise(&[12, 12], 3);

    let operations: [(&[&Tensor], Operation<'_>); 10] = [
        (&[x, square, w], linear()),
        (&[x, square], linear_gelu(Gelu::Erf)),
        (&[x], gelu(Gelu::Tanh)),
        (&[x], swiglu()),
        (&[x, w, w], layer_norm()),
        (&[x, w], rms_norm()),
        (&[x], dropout(Dropout { probability: 0.3, seed: 5, offset: 11 })),
        (&[x], rotate(2, &rotary, &[])),
        (&[x], attention(&full)),
        (&[x, square], add_rows()),
    ];

    for (at, (arguments, operation)) in operations.iter().enumerate() {
        let plain: Vec<Tensor> = arguments.iter().map(|&x| x.clone()).collect();
        let variables: Vec<Var> = plain.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
        let tracked: Vec<Tensor> = variables.iter().map(|x| x.as_tensor().clone()).collect();
        assert!(tracked.iter().all(Tensor::track_op));

        let (value, gradients) = operation.value_and_gradients(Kernels::Fused, &tracked);
        let (expected, expected_gradients) = operation.value_and_gradients(Kernels::Fused, &plain);
        let got = [vec![value], gradients].concat();
        let expected = [vec![expected], expected_gradients].concat();

        for (got, expected) in got.iter().zip(&expected) {
            assert!(!got.track_op(), "operation {at}: a graph");
            assert_eq!(host(got), host(expected), "operation {at}: tracked and untracked");
        }
    }
}

#[test]
fn law_what_is_computed_before_gelu_gives_what_is_after() {
    let x = noise(&[5, 8], 1);
    let w = noise(&[12, 8], 2);
    for kernels in [Kernels::Fused, Kernels::Composed] {
        let [before, after] = kernels.linear_then_gelu(&x, &w, None, Gelu::Tanh).unwrap();
        assert_eq!(host(&before), host(&kernels.linear(&x, &w, None).unwrap()));
        assert_eq!(host(&after), host(&kernels.gelu(&before, Gelu::Tanh).unwrap()));
    }
}

#[test]
fn matches_reference_added_rows() {
    for (batch, tokens, positions) in [(2, 5, 9), (3, 4, 4), (1, 1, 2)] {
        let all = [noise(&[batch, tokens, 6], 1), noise(&[positions, 6], 2)];
        check("add_rows", &all, &add_rows());

        let value = Kernels::Composed.add_rows(&all[0], &all[1]).unwrap();
        let expected = all[0].broadcast_add(&all[1].narrow(0, 0, tokens).unwrap()).unwrap();
        assert_eq!(host(&value), host(&expected));
    }
}

#[test]
fn law_sums_continue_from_given_ones() {
    let x = noise(&[33, 20], 1);
    let gradient = noise(&[33, 12], 2);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        let gradients = |weight: &mut Option<Tensor>, bias: &mut Option<Tensor>| {
            kernels.linear_weight_gradient(&x, &gradient, weight).unwrap();
            kernels.linear_bias_gradient(&gradient, bias).unwrap();
        };

        let mut weight = None;
        let mut bias = None;
        gradients(&mut weight, &mut bias);

        let once =
            [weight.as_ref().unwrap().copy().unwrap(), bias.as_ref().unwrap().copy().unwrap()];
        gradients(&mut weight, &mut bias);

        for (what, twice, once) in [("weight", weight, &once[0]), ("bias", bias, &once[1])] {
            assert_close(what, &twice.unwrap(), &(once * 2.0).unwrap(), F32_TOLERANCE);
        }

        let table = noise(&[40, 20], 3);
        let before = table.copy().unwrap();
        let windows = x.reshape((3, 11, 20)).unwrap();

        kernels.add_rows_gradient(&windows, &table).unwrap();
        let added = (&table - &before).unwrap();
        assert_close("rows", &added.narrow(0, 0, 11).unwrap(), &windows.sum(0).unwrap(), 1e-5);
        assert!(host(&added.narrow(0, 11, 29).unwrap()).iter().all(|&x| x == 0.0));
    }
}

#[test]
fn matches_reference_sums_of_views() {
    let a = noise(&[7, 5], 1);
    let b = noise(&[5, 7], 2);
    let expected = (a.t().unwrap() + &b).unwrap();

    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_eq!(host(&kernels.add(&a.t().unwrap(), &b).unwrap()), host(&expected));
    }

    // Larger than one task.
    let a = noise(&[3, 20_001], 1);
    let b = noise(&[3, 20_001], 2);
    assert_eq!(host(&Kernels::Fused.add(&a, &b).unwrap()), host(&(&a + &b).unwrap()));
}

#[test]
fn rejects_gradients_of_wrong_shapes() {
    let x = noise(&[6, 4], 1);
    let w = noise(&[3, 4], 2);
    let right = noise(&[6, 3], 3);

    for k in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(
            k.linear_input_gradient(&w, &x),
            &["linear_input_gradient", "rows of 3", "got 4"],
        );

        assert_rejected(
            k.linear_weight_gradient(&x, &noise(&[5, 3], 1), &mut None),
            &["6 rows", "got 5"],
        );

        assert_rejected(
            k.linear_weight_gradient(&x, &right, &mut Some(x.copy().unwrap())),
            &["a sum of shape [3, 4]", "got [6, 4]"],
        );

        assert_rejected(
            k.linear_bias_gradient(&right, &mut Some(noise(&[4], 1))),
            &["a sum of shape [3]"],
        );

        assert_rejected(
            k.gelu_gradient(&x, Gelu::Tanh, &right),
            &["gelu_gradient", "[6, 4]", "[6, 3]"],
        );
        assert_rejected(k.add(&x, &right), &["add", "[6, 4]", "[6, 3]"]);

        let norm = k.layer_norm_gradient(&x, &noise(&[4], 1), 1e-5, &right, None);
        assert_rejected(norm, &["layer_norm_gradient", "[6, 4]", "[6, 3]"]);

        let rows = noise(&[1, 5, 4], 1);
        assert_rejected(
            k.add_rows(&rows, &w),
            &["add_rows", "at most 3 tokens, 4", "got [1, 5, 4]"],
        );
        assert_rejected(k.add_rows_gradient(&rows, &w), &["add_rows_gradient", "at most 3 tokens"]);

        let qkv = noise(&[1, 4, 6], 1);
        let attention = Attention::new(1, Mask::Causal);
        let [out, sums] = k.attention_and_sums(&qkv, &attention).unwrap();
        let gradient = |out: &Tensor, sums: &Tensor, up: &Tensor| {
            k.attention_gradient(&qkv, [out, sums], &attention, up)
        };

        assert_rejected(
            gradient(&out, &sums, &qkv),
            &["attention_gradient", "[1, 4, 2]", "[1, 4, 6]"],
        );

        assert_rejected(gradient(&out, &out, &out), &["the result for [1, 4, 6]", "got [1, 4, 2]"]);

        assert_rejected(
            gradient(&qkv, &sums, &qkv),
            &["the result for [1, 4, 6]", "got [1, 4, 6]"],
        );
    }

    let square = noise(&[4, 4], 1);

    assert_rejected(
        Kernels::Fused.linear_weight_gradient(
            &square,
            &noise(&[4, 4], 2),
            &mut Some(square.clone()),
        ),
        &["its own memory"],
    );
}
