//! Compares gradients without autograd with those of autograd, in both implementations. Also tests
//! sums that continue from a sum.

use crate::reference::*;
use candle_core::{DType, Result, Tensor};
use dlt_kernels::{Attention, Dropout, Gelu, Kernels, Mask, Rotary};

/// The probe that [`value_and_gradients`] multiplies a result by.
fn upstream(dims: &[usize], dtype: DType) -> Tensor {
    noise(dims, 4711).to_dtype(dtype).unwrap()
}

/// Compares the result of `plain`, a value and gradients of all inputs, with autograd over the
/// composed operations in f64.
fn check_plain(
    what: &str,
    inputs: &[Tensor],
    f: impl Fn(Kernels, &[Tensor]) -> Result<Tensor>,
    plain: impl Fn(Kernels, &[Tensor], &Tensor) -> Result<(Tensor, Vec<Tensor>)>,
) {
    let (value, gradients) = value_and_gradients(Kernels::Composed, DType::F64, inputs, &f);

    for (kernels, dtype) in [(Kernels::Fused, DType::F32), (Kernels::Composed, DType::F64)] {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        let (got, got_gradients) = plain(kernels, &inputs, &upstream(value.dims(), dtype)).unwrap();
        assert!(!got.track_op(), "{what}: outside autograd");
        assert_close(&format!("{what} {kernels:?} value"), &got, &value, F32_TOLERANCE);
        assert_eq!(got_gradients.len(), gradients.len());

        for (i, (got, expected)) in got_gradients.iter().zip(&gradients).enumerate() {
            let what = format!("{what} {kernels:?} gradient of input {i}");
            assert!(!got.track_op(), "{what}: outside autograd");
            assert_close(&what, got, expected, F32_TOLERANCE);
        }
    }
}

fn affine_gradients(k: Kernels, t: &[Tensor], gradient: &Tensor) -> Result<Vec<Tensor>> {
    let mut weight = None;
    let mut bias = None;
    k.linear_weight_gradient(&t[0], gradient, &mut weight)?;
    k.linear_bias_gradient(gradient, &mut bias)?;
    Ok(vec![k.linear_input_gradient(&t[1], gradient)?, weight.unwrap(), bias.unwrap()])
}

#[test]
fn matches_reference_affine_gradients() {
    for (rows, inputs, outputs) in
        [(vec![3, 7], 5, 11), (vec![233], 35, 101), (vec![1], 1, 3), (vec![2], 4, 1)]
    {
        let x = noise(&[rows, vec![inputs]].concat(), 1);
        let arguments = [x, noise(&[outputs, inputs], 2), noise(&[outputs], 3)];
        check_plain(
            "linear",
            &arguments,
            |k, t| k.linear(&t[0], &t[1], Some(&t[2])),
            |k, t, up| Ok((k.linear(&t[0], &t[1], Some(&t[2]))?, affine_gradients(k, t, up)?)),
        );

        for kind in [Gelu::Tanh, Gelu::Erf] {
            check_plain(
                "linear and gelu",
                &arguments,
                |k, t| k.linear_gelu(&t[0], &t[1], Some(&t[2]), kind),
                |k, t, up| {
                    let [before, after] = k.linear_then_gelu(&t[0], &t[1], Some(&t[2]), kind)?;
                    let inner = k.gelu_gradient(&before, kind, up)?;
                    Ok((after, affine_gradients(k, t, &inner)?))
                },
            );
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
fn matches_reference_norm_gradients() {
    for shape in [vec![3, 7, 25], vec![33, 101], vec![5]] {
        let width = shape[shape.len() - 1];
        let arguments = [noise(&shape, 1), noise(&[width], 2), noise(&[width], 3)];
        check_plain(
            "layer_norm",
            &arguments,
            |k, t| k.layer_norm(&t[0], &t[1], &t[2], 1e-5),
            |k, t, up| {
                let mut weight = None;
                let mut bias = None;
                let sums = Some([&mut weight, &mut bias]);
                let of_x = k.layer_norm_gradient(&t[0], &t[1], 1e-5, up, sums)?;
                let alone = k.layer_norm_gradient(&t[0], &t[1], 1e-5, up, None)?;

                assert_eq!(host(&of_x), host(&alone));
                Ok((
                    k.layer_norm(&t[0], &t[1], &t[2], 1e-5)?,
                    vec![of_x, weight.unwrap(), bias.unwrap()],
                ))
            },
        );
    }
}

#[test]
fn matches_reference_rms_norm_gradients() {
    for shape in [vec![3, 7, 25], vec![33, 101], vec![5]] {
        let width = shape[shape.len() - 1];
        check_plain(
            "rms_norm",
            &[noise(&shape, 1), noise(&[width], 2)],
            |k, t| k.rms_norm(&t[0], &t[1], 1e-5),
            |k, t, up| {
                let mut weight = None;
                let of_x = k.rms_norm_gradient(&t[0], &t[1], 1e-5, up, Some(&mut weight))?;
                let alone = k.rms_norm_gradient(&t[0], &t[1], 1e-5, up, None)?;

                assert_eq!(host(&of_x), host(&alone));
                Ok((k.rms_norm(&t[0], &t[1], 1e-5)?, vec![of_x, weight.unwrap()]))
            },
        );
    }
}

#[test]
fn matches_reference_swiglu_gradients() {
    for shape in [vec![3, 7, 26], vec![2, 40_002], vec![2]] {
        check_plain(
            "swiglu",
            &[(noise(&shape, 1) * 4.0).unwrap()],
            |k, t| k.swiglu(&t[0]),
            |k, t, up| Ok((k.swiglu(&t[0])?, vec![k.swiglu_gradient(&t[0], up)?])),
        );
    }
}

#[test]
fn matches_reference_rotation_gradients() {
    let rotary = Rotary::new(10, 10_000.0, None).unwrap();

    for (shape, heads, first) in [([3, 7, 45], 4, vec![5, 0, 1023]), ([1, 900, 20], 2, vec![])] {
        check_plain(
            "rotate",
            &[noise(&shape, 1)],
            |k, t| k.rotate(&t[0], heads, &rotary, &first),
            |k, t, up| {
                let of_qkv = k.rotate_gradient(up, heads, &rotary, &first)?;
                Ok((k.rotate(&t[0], heads, &rotary, &first)?, vec![of_qkv]))
            },
        );
    }
}

#[test]
fn matches_reference_attention_gradients() {
    let dropout = Dropout { probability: 0.3, seed: 5, offset: 77 };
    for (batch, tokens, heads, width) in [(2, 7, 3, 5), (1, 130, 2, 8), (3, 1, 1, 4)] {
        let qkv = noise(&[batch, tokens, 3 * heads * width], 1);
        for (mask, dropout) in
            [(Mask::Causal, None), (Mask::Full, None), (Mask::Causal, Some(dropout))]
        {
            check_plain_attention(&qkv, &Attention { dropout, ..Attention::new(heads, mask) });
        }
    }
}

#[test]
fn matches_reference_attention_gradients_of_groups_and_lengths() {
    let dropout = Some(Dropout { probability: 0.3, seed: 5, offset: 77 });
    for mask in [Mask::Causal, Mask::Full] {
        let qkv = noise(&[3, 71, (6 + 2 * 2) * 5], 1);
        let grouped = Attention { key_heads: 2, ..Attention::new(6, mask) };
        check_plain_attention(&qkv, &grouped);
        check_plain_attention(&qkv, &Attention { lengths: Some(&[1, 71, 66]), dropout, ..grouped });
    }
}

fn check_plain_attention(qkv: &Tensor, attention: &Attention<'_>) {
    check_plain(
        "attention",
        std::slice::from_ref(qkv),
        |k, t| k.attention(&t[0], attention),
        |k, t, up| {
            let [out, sums] = k.attention_and_sums(&t[0], attention)?;
            let of_qkv = k.attention_gradient(&t[0], [&out, &sums], attention, up)?;
            Ok((out, vec![of_qkv]))
        },
    );
}

#[test]
fn matches_reference_added_rows() {
    for (batch, tokens, positions) in [(2, 5, 9), (3, 4, 4), (1, 1, 2)] {
        check_plain(
            "add_rows",
            &[noise(&[batch, tokens, 6], 1), noise(&[positions, 6], 2)],
            |_, t| t[0].broadcast_add(&t[1].narrow(0, 0, tokens)?),
            |k, t, up| {
                let table = t[1].zeros_like()?;
                k.add_rows_gradient(up, &table)?;
                Ok((k.add_rows(&t[0], &t[1])?, vec![up.clone(), table]))
            },
        );
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
