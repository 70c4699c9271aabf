use super::*;
use crate::operations::{self, EPSILON};
use candle_core::Device;
use dlt_kernels::Kernels;
use dlt_kernels::cuda::{layer_norm, layer_norm_gradients, rms_norm, rms_norm_gradients, row_sum};

/// Widths around the threads of a block, and rows around those of a partial sum.
const SHAPES: [(usize, usize); 7] =
    [(1, 1), (3, 5), (16, 33), (17, 128), (40, 131), (130, 4), (2500, 3)];

#[test]
fn matches_reference_layer_norm() {
    for ((rows, width), (dtype, tolerance)) in
        SHAPES.into_iter().flat_map(|s| ACTIVATIONS.map(|a| (s, a)))
    {
        let weight = noise(&[width], 2);
        let bias = noise(&[width], 3);
        let x = held(&[rows, width], 1, dtype);
        let gradient = held(&[rows, width], 4711, dtype);
        let inputs = [&x, &weight, &bias].map(wide);

        let (value, gradients) = by_autograd(&inputs, &operations::layer_norm().value);
        let what = format!("layer_norm {rows} x {width} {dtype:?}");
        let y = layer_norm(&Host, &x, &weight, &bias, EPSILON).unwrap();
        assert_close(&what, &y, &value, tolerance);

        let got = layer_norm_gradients(&Host, &x, &weight, EPSILON, &gradient).unwrap();
        // The reference has the probe before rounding, so the tolerance covers that too.
        compare(&what, &got, &gradients, tolerance);
    }
}

#[test]
fn matches_reference_rms_norm() {
    for ((rows, width), (dtype, tolerance)) in
        SHAPES.into_iter().flat_map(|s| ACTIVATIONS.map(|a| (s, a)))
    {
        let weight = noise(&[width], 2);
        let x = held(&[rows, width], 1, dtype);
        let gradient = held(&[rows, width], 4711, dtype);
        let inputs = [&x, &weight].map(wide);

        let (value, gradients) = by_autograd(&inputs, &operations::rms_norm().value);
        let what = format!("rms_norm {rows} x {width} {dtype:?}");
        let y = rms_norm(&Host, &x, &weight, EPSILON).unwrap();
        assert_close(&what, &y, &value, tolerance);

        let got = rms_norm_gradients(&Host, &x, &weight, EPSILON, &gradient).unwrap();
        compare(&what, &got, &gradients, tolerance);
    }
}

fn compare(what: &str, got: &[Tensor], expected: &[Tensor], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let what = format!("{what} gradient of input {i}");
        if host(expected).iter().all(|x| x.abs() < 1e-4) {
            // Rows of one number have no direction: only epsilon's part and rounding remain.
            assert!(host(got).iter().all(|x| x.abs() < 1e-4), "{what}: {got}");
        } else {
            assert_close(&what, got, expected, tolerance);
        }
    }
}

#[test]
fn matches_reference_norms_of_extreme_rows() {
    let weight = noise(&[131], 2);
    let bias = noise(&[131], 3);
    let large = (noise(&[5, 131], 1) + 100.0).unwrap();
    let expected =
        Kernels::Composed.layer_norm(&wide(&large), &wide(&weight), &wide(&bias), EPSILON).unwrap();

    let y = layer_norm(&Host, &large, &weight, &bias, EPSILON).unwrap();
    assert_close("a large mean", &y, &expected, 1e-4);

    let constant = Tensor::full(3.0f32, (5, 131), &Device::Cpu).unwrap();
    let y = layer_norm(&Host, &constant, &weight, &bias, EPSILON).unwrap();
    assert_close("constant rows", &y, &bias.broadcast_as((5, 131)).unwrap(), F32_TOLERANCE);
}

#[test]
fn law_gradients_of_views_are_those_of_copies() {
    let x = noise(&[35, 20], 1).t().unwrap();
    let gradient = noise(&[35, 20], 2);
    let weight = noise(&[35], 3);
    let gradient = gradient.t().unwrap();
    let views = layer_norm_gradients(&Host, &x, &weight, EPSILON, &gradient).unwrap();

    let [x, gradient] = [&x, &gradient].map(|view| view.contiguous().unwrap());
    let copies = layer_norm_gradients(&Host, &x, &weight, EPSILON, &gradient).unwrap();

    for (view, copy) in views.iter().zip(&copies) {
        assert_eq!(host(view), host(copy));
    }
}

#[test]
fn matches_reference_row_sums() {
    for (rows, width) in [(1, 1), (15, 300), (16, 7), (17, 257), (129, 5), (2049, 3), (5000, 2)] {
        for (dtype, _) in ACTIVATIONS {
            let x = held(&[rows, width], 1, dtype);
            let sum = row_sum(&Host, &x, width).unwrap();
            assert_eq!(sum.dtype(), DType::F32);

            // Numbers of both signs cancel, and leave their rounding.
            assert_close("row_sum", &sum, &wide(&x).sum(0).unwrap(), 1e-4);
        }
    }
}
