use crate::reference::*;
use candle_core::{DType, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use dlt_kernels::Kernels;
use dlt_kernels::optimizer::{AdamwStep, add_in_place, squared_norm, squared_norms};

const STEP: AdamwStep = AdamwStep {
    learning_rate: 0.01,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.1,
    step: 1,
    gradient_scale: 1.0,
};

/// Ten steps, each with other gradients. `gradient_scale` undoes a factor of the gradients.
fn ten_steps(kernels: Kernels, dtype: DType, factor: f64) -> (Tensor, Tensor, Tensor) {
    let start = noise(&[5, 40_001], 1).to_dtype(dtype).unwrap();
    let parameter = Var::from_tensor(&start).unwrap();
    let first = start.zeros_like().unwrap();
    let second = start.zeros_like().unwrap();

    for step in 1..=10 {
        let gradient = (noise(&[5, 40_001], 10 + step).to_dtype(dtype).unwrap() * factor).unwrap();
        let step = AdamwStep { step, gradient_scale: 1.0 / factor, ..STEP };
        kernels.adamw(parameter.as_tensor(), &first, &second, &gradient, &step).unwrap();
    }

    (parameter.as_detached_tensor(), first, second)
}

#[test]
fn matches_reference_adamw() {
    let start = Var::from_tensor(&noise(&[5, 40_001], 1).to_dtype(DType::F64).unwrap()).unwrap();
    let params = ParamsAdamW { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
    let mut other = AdamW::new(vec![start.clone()], params).unwrap();

    for step in 1..=10 {
        let gradient = noise(&[5, 40_001], 10 + step).to_dtype(DType::F64).unwrap();
        other.backward_step(&(start.as_tensor() * gradient).unwrap().sum_all().unwrap()).unwrap();
    }

    let composed = ten_steps(Kernels::Composed, DType::F64, 1.0);
    assert_close("composed", &composed.0, start.as_tensor(), 1e-12);

    for factor in [1.0, 8.0, 0.3] {
        let fused = ten_steps(Kernels::Fused, DType::F32, factor);
        assert_close("parameter", &fused.0, &composed.0, F32_TOLERANCE);
        assert_close("first moment", &fused.1, &composed.1, F32_TOLERANCE);
        assert_close("second moment", &fused.2, &composed.2, F32_TOLERANCE);
    }
}

#[test]
fn law_a_step_changes_views_in_place() {
    let whole = noise(&[3, 10], 1);
    let middle = whole.narrow(0, 1, 1).unwrap();
    let first = middle.zeros_like().unwrap();
    let second = middle.zeros_like().unwrap();
    let before = host(&whole);

    Kernels::Fused.adamw(&middle, &first, &second, &noise(&[1, 10], 2), &STEP).unwrap();
    let after = host(&whole);
    assert_eq!((&before[..10], &before[20..]), (&after[..10], &after[20..]));
    assert!(before[10..20].iter().zip(&after[10..20]).all(|(a, b)| a != b));
}

#[test]
fn matches_reference_squared_norm() {
    for count in [1usize, 15, 17, 65_536, 65_537, 300_001] {
        let x = noise(&[count], 1);
        let expected: f64 = host(&x).iter().map(|x| x * x).sum();
        let got = squared_norm(&x).unwrap();

        // Everything is f64; only the order of the sum differs.
        assert!((got / expected - 1.0).abs() < 1e-12, "{got} against {expected}");
        assert_eq!(got, squared_norm(&x).unwrap());
        assert_eq!(squared_norms(&[&x, &x]).unwrap(), 2.0 * got);

        let in_f64 = squared_norm(&x.to_dtype(DType::F64).unwrap()).unwrap();
        assert!((in_f64 / expected - 1.0).abs() < 1e-12);
    }

    let view = noise(&[7, 5], 1);
    let far = squared_norm(&view.t().unwrap()).unwrap() - squared_norm(&view).unwrap();
    assert!(far.abs() < 1e-12);

    let huge = Tensor::full(1e30f32, 3, &candle_core::Device::Cpu).unwrap();
    assert!((squared_norm(&huge).unwrap() / 3e60 - 1.0).abs() < 1e-6);
}

#[test]
fn law_add_in_place_adds() {
    for other in [noise(&[300, 301], 2), noise(&[301, 300], 2).t().unwrap()] {
        let into = noise(&[300, 301], 1);
        let expected = (&into + &other).unwrap();
        add_in_place(&into, &other).unwrap();
        assert_eq!(host(&into), host(&expected));

        let into = noise(&[300, 301], 1).to_dtype(DType::F64).unwrap();
        add_in_place(&into, &other.to_dtype(DType::F64).unwrap()).unwrap();
        assert_close("in f64", &into, &expected, 1e-7);
    }
}

#[test]
fn rejects_steps_of_wrong_arguments() {
    let make = || noise(&[3, 4], 1);
    let p = make();
    let m = make();
    let v = make();
    let g = make();

    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(
            kernels.adamw(&p, &noise(&[4, 3], 1), &v, &g, &STEP),
            &["first", "[3, 4]", "[4, 3]"],
        );
        assert_rejected(kernels.adamw(&p, &m, &noise(&[3], 1), &g, &STEP), &["second"]);
        assert_rejected(kernels.adamw(&p, &m, &v, &noise(&[3], 1), &STEP), &["gradient"]);
        assert_rejected(kernels.adamw(&p, &m, &v, &g, &AdamwStep { step: 0, ..STEP }), &["got 0"]);

        let view = noise(&[4, 3], 1).t().unwrap();
        assert_rejected(kernels.adamw(&view, &m, &v, &g, &STEP), &["contiguous"]);
    }

    let shared = "its own memory";
    assert_rejected(Kernels::Fused.adamw(&p, &p, &v, &g, &STEP), &[shared]);
    assert_rejected(Kernels::Fused.adamw(&p, &m, &m, &g, &STEP), &[shared]);
    assert_rejected(Kernels::Fused.adamw(&p, &m, &v, &p, &STEP), &[shared]);
    assert_rejected(add_in_place(&p, &p), &[shared]);

    let wide = p.to_dtype(DType::F64).unwrap();
    assert_rejected(add_in_place(&wide, &wide.detach()), &[shared]);
    assert_rejected(add_in_place(&p, &noise(&[4, 3], 1)), &["[3, 4]", "[4, 3]"]);
    assert_rejected(add_in_place(&noise(&[4, 3], 1).t().unwrap(), &p), &["contiguous"]);
}
