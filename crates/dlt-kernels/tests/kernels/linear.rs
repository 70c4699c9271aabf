use crate::operations::{Operation, linear, linear_gelu};
use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::{Gelu, Kernels};

#[test]
fn matches_reference_linear() {
    for (rows, inputs, outputs) in [
        (vec![3, 7], 5, 11),
        (vec![33], 35, 101),
        (vec![233], 35, 101),
        (vec![2, 3, 4], 64, 1),
        (vec![1], 1, 3),
        (vec![2], 4, 1),
    ] {
        let x = noise(&[rows.clone(), vec![inputs]].concat(), 1);
        let all = [x, noise(&[outputs, inputs], 2), noise(&[outputs], 3)];
        check("linear", &all, &linear());
        check("linear without bias", &all[..2], &linear());

        for kind in [Gelu::Tanh, Gelu::Erf] {
            check("linear_gelu", &all, &linear_gelu(kind));
            check("linear_gelu without bias", &all[..2], &linear_gelu(kind));
        }
    }
}

#[test]
fn matches_reference_linear_of_many_rows() {
    let all = [noise(&[3, 233, 40], 1), noise(&[160, 40], 2), noise(&[160], 3)];
    check("linear", &all, &linear());
    check("linear_gelu", &all, &linear_gelu(Gelu::Tanh));
}

#[test]
fn matches_reference_linear_on_views() {
    let x = noise(&[5, 7, 3], 1).transpose(0, 2).unwrap();
    let w = noise(&[5, 11], 2).t().unwrap();
    let b = noise(&[11, 2], 3).narrow(1, 1, 1).unwrap().squeeze(1).unwrap();

    let all = [x, w, b];
    check("linear", &all, &linear());
    check("linear without bias", &all[..2], &linear());
}

/// Numbers of rows around the limit up to which the weight is read in place.
const FEW_ROWS: std::ops::RangeInclusive<usize> = 1..=9;

#[test]
fn matches_reference_linear_of_few_rows() {
    for rows in FEW_ROWS {
        // Widths around that of a vector, and outputs around the number that is computed together.
        for (inputs, outputs) in [(1, 1), (15, 3), (16, 4), (17, 5), (35, 102), (64, 8), (101, 7)] {
            let all =
                [noise(&[rows, inputs], 1), noise(&[outputs, inputs], 2), noise(&[outputs], 3)];
            check("linear", &all, &linear());
            check("linear_gelu", &all, &linear_gelu(Gelu::Tanh));
        }
    }
}

#[test]
fn matches_reference_linear_of_few_rows_on_views() {
    let x = noise(&[37, 3, 2], 1).narrow(0, 1, 35).unwrap().transpose(0, 2).unwrap();
    let w = noise(&[37, 11], 2).narrow(0, 2, 35).unwrap().t().unwrap();
    let w = w.narrow(0, 3, 8).unwrap();
    let b = noise(&[11, 2], 3).narrow(1, 1, 1).unwrap().squeeze(1).unwrap();
    let b = b.narrow(0, 1, 8).unwrap();

    check("linear", &[x, w, b], &linear());
}

/// Bits of `linear`, of `linear_gelu`, and of both results of `linear_then_gelu`, row by row.
fn few_row_bits(x: &Tensor, w: &Tensor, b: &Tensor) -> Vec<Vec<u32>> {
    let kernels = Kernels::Fused;
    let [before, after] = kernels.linear_then_gelu(x, w, Some(b), Gelu::Erf).unwrap();
    let all = [
        kernels.linear(x, w, Some(b)).unwrap(),
        kernels.linear_gelu(x, w, Some(b), Gelu::Erf).unwrap(),
        before,
        after,
    ];

    let rows = Tensor::cat(&all, 1).unwrap().to_vec2::<f32>().unwrap();
    rows.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
}

#[test]
fn law_a_row_has_the_same_bits_among_others() {
    // The last weight is large enough for several tasks at any number of rows. The last task is
    // narrower.
    for (inputs, outputs) in [(1, 3), (16, 4), (75, 33), (384, 101), (384, 8_193)] {
        let x = noise(&[8, inputs], 1);
        let w = noise(&[outputs, inputs], 2);
        let b = noise(&[outputs], 3);
        let together = few_row_bits(&x, &w, &b);

        for rows in 1..8 {
            for first in [0, 8 - rows] {
                let some = few_row_bits(&x.narrow(0, first, rows).unwrap(), &w, &b);
                assert!(
                    some == together[first..first + rows],
                    "{rows} rows from {first}, {inputs} to {outputs}"
                );
            }
        }
    }
}

#[test]
fn law_few_rows_keep_what_is_not_finite_in_its_place() {
    let inputs = 37;
    let outputs = 9;
    let w = noise(&[outputs, inputs], 2).affine(1.0, 2.0).unwrap();

    for (value, at) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -3e38, 1e-45, 0.0]
        .into_iter()
        .flat_map(|value| [0, 15, 16, 36].map(|at| (value, at)))
    {
        let mut values = noise(&[3, inputs], 1).to_vec2::<f32>().unwrap();
        let plain = Tensor::new(values.clone(), &Device::Cpu).unwrap();
        values[1][at] = value;

        let x = Tensor::new(values, &Device::Cpu).unwrap();
        let y = Kernels::Fused.linear(&x, &w, None).unwrap().to_vec2::<f32>().unwrap();
        let plain = Kernels::Fused.linear(&plain, &w, None).unwrap().to_vec2::<f32>().unwrap();

        assert_eq!((&y[0], &y[2]), (&plain[0], &plain[2]), "{value} at {at}: the other rows");
        let weights = w.to_vec2::<f32>().unwrap();
        for (y, weights) in y[1].iter().zip(weights) {
            // Weights are above one, so that the largest numbers overflow.
            match value {
                v if v.is_nan() => assert!(y.is_nan()),
                v if v.abs() > 1.0 && (v * weights[at]).is_infinite() => {
                    assert_eq!(*y, v * weights[at])
                }
                _ => assert!(y.is_finite()),
            }
        }
    }
}

#[test]
fn law_gradients_reach_through_chains_and_add_up() {
    const LENGTH: usize = 4;
    let kind = Gelu::Tanh;
    let chain = Operation::new(
        |k, t| (0..LENGTH).try_fold(t[0].clone(), |x, _| k.linear_gelu(&x, &t[1], None, kind)),
        |k, t, up| {
            let mut x = t[0].clone();
            let mut kept = Vec::new();
            for _ in 0..LENGTH {
                let [before, after] = k.linear_then_gelu(&x, &t[1], None, kind)?;
                kept.push((x, before));
                x = after;
            }

            let mut of_weight = None;
            let mut gradient = up.clone();
            for (x, before) in kept.into_iter().rev() {
                let inner = k.gelu_gradient(&before, kind, &gradient)?;
                k.linear_weight_gradient(&x, &inner, &mut of_weight)?;
                gradient = k.linear_input_gradient(&t[1], &inner)?;
            }

            Ok(vec![gradient, of_weight.unwrap()])
        },
    );

    let all = [noise(&[4, 6], 1), noise(&[6, 6], 2)];
    check("a shared weight", &all, &chain);
    let (_, gradients) = chain.value_and_gradients(Kernels::Fused, &all);
    assert!(host(&gradients[1]).iter().any(|g| g.abs() > 1e-3));
}

#[test]
fn fused_takes_the_composed_path_for_other_dtypes() {
    let x = noise(&[3, 5], 1).to_dtype(DType::F64).unwrap();
    let w = noise(&[2, 5], 2).to_dtype(DType::F64).unwrap();
    let fused = Kernels::Fused.linear(&x, &w, None).unwrap();
    assert_eq!(fused.dtype(), DType::F64);
    assert_eq!(host(&fused), host(&Kernels::Composed.linear(&x, &w, None).unwrap()));
}

#[test]
fn rejects_linear_of_wrong_shapes() {
    let x = noise(&[3, 5], 1);
    let w = noise(&[2, 5], 2);
    let b = noise(&[2], 3);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(
            kernels.linear(&x, &noise(&[2, 4], 1), None),
            &["linear", "[2, 5]", "[2, 4]"],
        );
        assert_rejected(kernels.linear(&x, &noise(&[10], 1), None), &["linear", "matrix", "[10]"]);
        assert_rejected(kernels.linear(&x, &w, Some(&noise(&[3], 1))), &["bias", "[2]", "[3]"]);

        let empty = Tensor::zeros((0, 5), DType::F32, &Device::Cpu).unwrap();
        assert_rejected(kernels.linear(&empty, &w, Some(&b)), &["non-empty", "[0, 5]"]);
        assert_rejected(
            kernels.linear_gelu(&x, &noise(&[2, 4], 1), None, Gelu::Erf),
            &["linear_gelu"],
        );

        let scalar = Tensor::new(1.0f32, &Device::Cpu).unwrap();
        assert_rejected(kernels.linear(&scalar, &w, None), &["scalar"]);
    }
}
