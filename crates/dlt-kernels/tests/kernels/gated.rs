use crate::operations::swiglu;
use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::Kernels;

#[test]
fn matches_reference_swiglu() {
    for shape in [vec![2], vec![3, 7, 26], vec![2, 20_002], vec![2, 40_002], vec![700, 66]] {
        let x = (noise(&shape, 1) * 4.0).unwrap();
        check("swiglu", &[x], &swiglu());
    }

    let view = (noise(&[6, 9], 1) * 3.0).unwrap().t().unwrap();
    check("swiglu of a view", &[view], &swiglu());
}

#[test]
fn matches_reference_swiglu_in_its_tails() {
    let gates =
        [-1e20f32, -1e4, -100.0, -88.5, -86.9, -40.0, -0.0, 0.0, 1e-8, 17.0, 40.0, 89.0, 1e4];

    for up in [1.0f32, -1.0, 1e4, -1e4, 0.0] {
        // One row for each gate, so that the tolerance of each is relative to its own size.
        for gate in gates {
            let x = Tensor::new(&[gate, up], &Device::Cpu).unwrap();
            let y = Kernels::Fused.swiglu(&x).unwrap();
            let gate = f64::from(gate);
            let up = f64::from(up);
            let expected = gate / (1.0 + (-gate).exp()) * up;

            // Below -87 the crate's exponential is zero. The lost part is less than f32's smallest
            // normal number.
            let allowed = F32_TOLERANCE * expected.abs() + 2e-36 * up.abs();
            assert!((host(&y)[0] - expected).abs() <= allowed, "{gate}, {up}: {:?}", host(&y));
        }

        let rows: Vec<f32> = gates.iter().flat_map(|&gate| [gate, up]).collect();
        let x = Tensor::from_vec(rows, (gates.len(), 2), &Device::Cpu).unwrap();
        check_to(F32_TOLERANCE, "tails", &[x], &swiglu());
    }

    let nan = Kernels::Fused
        .swiglu(&Tensor::new(&[f32::NAN, 1.0, 1.0, 1.0], &Device::Cpu).unwrap())
        .unwrap();
    assert!(host(&nan)[0].is_nan() && !host(&nan)[1].is_nan());
}

#[test]
fn rejects_swiglu_of_wrong_shapes() {
    let empty = Tensor::zeros((3, 0), DType::F32, &Device::Cpu).unwrap();
    let scalar = Tensor::new(1.0f32, &Device::Cpu).unwrap();
    let x = noise(&[3, 6], 1);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(
            kernels.swiglu(&noise(&[3, 5], 1)),
            &["swiglu", "half of it a gate", "got 5"],
        );
        assert_rejected(kernels.swiglu(&empty), &["swiglu", "[3, 0]"]);
        assert_rejected(kernels.swiglu(&scalar), &["swiglu", "scalar"]);
        assert_rejected(
            kernels.swiglu_gradient(&noise(&[5], 1), &x),
            &["swiglu_gradient", "got 5"],
        );
        assert_rejected(kernels.swiglu_gradient(&x, &x), &["swiglu_gradient", "[3, 3]", "[3, 6]"]);
    }
}
