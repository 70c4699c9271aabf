use crate::operations::{gelu, layer_norm};
use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::{Gelu, Kernels};

#[test]
fn matches_reference_gelu() {
    for kind in [Gelu::Tanh, Gelu::Erf] {
        for shape in [vec![1], vec![3, 7, 25], vec![2, 20_001]] {
            let x = (noise(&shape, 1) * 6.0).unwrap();
            check("gelu", &[x], &gelu(kind));
        }

        let view = (noise(&[5, 9], 1) * 3.0).unwrap().t().unwrap();
        check("gelu of a view", &[view], &gelu(kind));
    }
}

#[test]
fn matches_reference_gelu_in_its_tails() {
    let x = Tensor::new(
        &[-1e20f32, -1e4, -40.0, -13.5, -12.9, -0.0, 0.0, 1e-8, 12.9, 40.0, 1e4],
        &Device::Cpu,
    )
    .unwrap();

    for kind in [Gelu::Tanh, Gelu::Erf] {
        check_to(1e-7, "gelu", std::slice::from_ref(&x), &gelu(kind));
        let nan = Kernels::Fused
            .gelu(&Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap(), kind)
            .unwrap();
        assert!(host(&nan)[0].is_nan() && !host(&nan)[1].is_nan());
    }
}

#[test]
fn matches_reference_layer_norm() {
    for shape in [vec![3, 7, 25], vec![33, 101], vec![5], vec![2, 300, 64]] {
        let width = shape[shape.len() - 1];
        let x = noise(&shape, 1);
        let w = noise(&[width], 2);
        let b = noise(&[width], 3);

        check("layer_norm", &[x, w, b], &layer_norm());
    }

    let x = noise(&[25, 7], 1).t().unwrap();
    let w = noise(&[25], 2);
    let b = noise(&[25], 3);

    check("layer_norm of a view", &[x, w, b], &layer_norm());
}

#[test]
fn matches_reference_layer_norm_of_extreme_rows() {
    let w = noise(&[64], 2);
    let b = noise(&[64], 3);

    // Next to a large mean, f32 has fewer digits for the deviations: they are off by up to 100 /
    // 2^24.
    let offset = (noise(&[4, 64], 1) + 100.0).unwrap();
    check_to(5e-5, "a large mean", &[offset, w.clone(), b.clone()], &layer_norm());

    let large = (noise(&[4, 64], 1) * 1e4).unwrap();
    check_to(F32_TOLERANCE, "large rows", &[large, w.clone(), b.clone()], &layer_norm());

    let constant = Tensor::full(-3.0f32, (4, 64), &Device::Cpu).unwrap();
    check_to(F32_TOLERANCE, "constant rows", &[constant, w, b], &layer_norm());
}

#[test]
fn rejects_pointwise_of_wrong_shapes() {
    let x = noise(&[3, 5], 1);
    let w = noise(&[5], 2);
    let short = noise(&[4], 2);
    let empty = Tensor::zeros((3, 0), DType::F32, &Device::Cpu).unwrap();

    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(kernels.gelu(&empty, Gelu::Tanh), &["gelu", "[3, 0]"]);
        assert_rejected(kernels.layer_norm(&x, &short, &w, 1e-5), &["weight", "[5]", "[4]"]);
        assert_rejected(kernels.layer_norm(&x, &w, &short, 1e-5), &["bias", "[5]", "[4]"]);
        assert_rejected(kernels.layer_norm(&empty, &w, &w, 1e-5), &["non-empty"]);
    }
}

#[test]
fn matches_reference_multiples() {
    for shape in [vec![1], vec![3, 7, 25], vec![2, 20_001]] {
        let a = noise(&shape, 1);
        let b = noise(&shape, 2);
        let view = Tensor::cat(&[&b, &b], 0).unwrap().narrow(0, shape[0], shape[0]).unwrap();
        let expected = |x: &Tensor| (x.to_dtype(DType::F64).unwrap() / 3.0).unwrap();

        for kernels in [Kernels::Fused, Kernels::Composed] {
            let multiple = kernels.scaled(&view, 1.0 / 3.0).unwrap();
            assert_close("scaled", &multiple, &expected(&b), F32_TOLERANCE);

            let sum = kernels.add_scaled(&a, &view, 1.0 / 3.0).unwrap();
            let expected = (a.to_dtype(DType::F64).unwrap() + expected(&b)).unwrap();
            assert_close("add_scaled", &sum, &expected, F32_TOLERANCE);
        }
    }
}

/// A factor of 1 changes nothing, and a factor of 0 leaves nothing.
#[test]
fn law_a_sum_with_a_whole_multiple_is_a_sum() {
    let a = noise(&[33, 7], 1);
    let b = noise(&[33, 7], 2);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_eq!(
            host(&kernels.add_scaled(&a, &b, 1.0).unwrap()),
            host(&kernels.add(&a, &b).unwrap())
        );
        assert_eq!(host(&kernels.add_scaled(&a, &b, 0.0).unwrap()), host(&a));

        let other = noise(&[7, 33], 2);
        assert_rejected(kernels.add_scaled(&a, &other, 0.5), &["add_scaled", "[33, 7]", "[7, 33]"]);
    }
}
