use crate::operations::rms_norm;
use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::Kernels;

#[test]
fn matches_reference_rms_norm() {
    for shape in [vec![3, 7, 25], vec![33, 101], vec![5], vec![2, 300, 64]] {
        let width = shape[shape.len() - 1];
        let x = noise(&shape, 1);
        let w = noise(&[width], 2);

        check("rms_norm", &[x, w], &rms_norm());
    }

    let x = noise(&[25, 7], 1).t().unwrap();
    let w = noise(&[50], 2).narrow(0, 25, 25).unwrap();

    check("rms_norm of views", &[x, w], &rms_norm());
}

#[test]
fn matches_reference_rms_norm_of_rows_of_one_number() {
    // All of the gradient except epsilon's part cancels, and leaves its rounding. Here that part is
    // 1/200.
    const CANCELLED: f64 = 200.0 * F32_TOLERANCE;
    check_to(CANCELLED, "width 1", &[noise(&[4, 1], 1), noise(&[1], 2)], &rms_norm());
}

#[test]
fn matches_reference_rms_norm_of_extreme_rows() {
    let w = noise(&[64], 2);
    let large = (noise(&[4, 64], 1) * 1e4).unwrap();
    let small = (noise(&[4, 64], 1) * 1e-4).unwrap();
    let zero = Tensor::zeros((4, 64), DType::F32, &Device::Cpu).unwrap();
    let constant = Tensor::full(-3.0f32, (4, 64), &Device::Cpu).unwrap();
    let alternating: Vec<f32> = (0..256).map(|i| if i % 3 == 0 { -1e4 } else { 1e4 }).collect();
    let alternating = Tensor::from_vec(alternating, (4, 64), &Device::Cpu).unwrap();

    for (what, x) in [
        ("large rows", large),
        ("rows below epsilon", small),
        ("rows of zeros", zero),
        ("constant rows", constant),
        ("rows of one size", alternating),
    ] {
        check_to(F32_TOLERANCE, what, &[x, w.clone()], &rms_norm());
    }
}

#[test]
fn law_rms_norm_gives_rows_of_size_one_whatever_their_scale() {
    let x = noise(&[9, 33], 1);
    let ones = Tensor::ones(33, DType::F32, &Device::Cpu).unwrap();
    let y = Kernels::Fused.rms_norm(&x, &ones, 0.0).unwrap();

    for row in host(&y).chunks(33) {
        let mean_square = row.iter().map(|y| y * y).sum::<f64>() / 33.0;
        assert!((mean_square - 1.0).abs() < F32_TOLERANCE, "{mean_square}");
    }

    // A power of two moves the exponents only.
    let scaled = Kernels::Fused.rms_norm(&(&x * 1024.0).unwrap(), &ones, 0.0).unwrap();
    assert_eq!(host(&scaled), host(&y));
}

#[test]
fn rejects_rms_norm_of_wrong_shapes() {
    let x = noise(&[3, 5], 1);
    let w = noise(&[5], 2);
    let short = noise(&[4], 2);
    let empty = Tensor::zeros((3, 0), DType::F32, &Device::Cpu).unwrap();

    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(kernels.rms_norm(&x, &short, 1e-5), &["rms_norm", "weight", "[5]", "[4]"]);
        assert_rejected(kernels.rms_norm(&empty, &w, 1e-5), &["rms_norm", "non-empty"]);

        let gradient = kernels.rms_norm_gradient(&x, &short, 1e-5, &x, None);
        assert_rejected(gradient, &["rms_norm_gradient", "weight", "[5]", "[4]"]);

        let gradient = kernels.rms_norm_gradient(&x, &w, 1e-5, &noise(&[5, 3], 1), None);
        assert_rejected(gradient, &["rms_norm_gradient", "gradient", "[3, 5]", "[5, 3]"]);

        let mut sum = Some(noise(&[4], 1));
        assert!(kernels.rms_norm_gradient(&x, &w, 1e-5, &x, Some(&mut sum)).is_err());
    }
}
