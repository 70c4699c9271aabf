use super::*;
use dlt_kernels::Kernels;
use dlt_kernels::cuda::{adamw, add_in_place, squared_norms};
use dlt_kernels::optimizer::AdamwStep;

const STEP: AdamwStep = AdamwStep {
    learning_rate: 0.01,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.1,
    step: 1,
    gradient_scale: 0.3,
};

#[test]
fn law_adamw_has_the_bits_of_the_loops() {
    let [got, expected] = [(), ()].map(|()| {
        let parameter = noise(&[5, 401], 1);
        let moments = [(), ()].map(|()| parameter.zeros_like().unwrap());
        (parameter, moments)
    });

    for step in 1..=5 {
        let gradient = noise(&[401, 5], 10 + step).t().unwrap();
        let step = AdamwStep { step, ..STEP };
        let (parameter, [first, second]) = &got;

        adamw(&Host, parameter, first, second, &gradient, &step).unwrap();
        let (parameter, [first, second]) = &expected;
        Kernels::Fused.adamw(parameter, first, second, &gradient, &step).unwrap();
    }

    assert_eq!(host(&got.0), host(&expected.0));

    for (got, expected) in got.1.iter().zip(&expected.1) {
        assert_eq!(host(got), host(expected));
    }
}

#[test]
fn law_a_step_accepts_gradients_of_bf16_and_changes_views_in_place() {
    let gradient = held(&[1, 300], 2, DType::BF16);
    let whole = noise(&[3, 300], 1);
    let other = noise(&[3, 300], 1);
    let middle = whole.narrow(0, 1, 1).unwrap();
    let other_middle = other.narrow(0, 1, 1).unwrap();
    let zeros = || middle.zeros_like().unwrap();

    adamw(&Host, &middle, &zeros(), &zeros(), &gradient, &STEP).unwrap();
    let gradient = gradient.to_dtype(DType::F32).unwrap();
    Kernels::Fused.adamw(&other_middle, &zeros(), &zeros(), &gradient, &STEP).unwrap();
    assert_eq!(host(&whole), host(&other));
}

#[test]
fn rejects_a_step_on_shared_moments() {
    let parameter = noise(&[3, 4], 1);
    let moments = noise(&[3, 4], 2);
    let gradient = noise(&[3, 4], 3);

    assert_rejected(
        adamw(&Host, &parameter, &moments, &moments, &gradient, &STEP),
        &["its own memory"],
    );
}

#[test]
fn matches_reference_squared_norm_on_cuda() {
    for count in [1usize, 1023, 16_384, 16_385, 40_001] {
        for (dtype, _) in ACTIVATIONS {
            let x = held(&[count], 1, dtype);
            let expected: f64 = host(&x).iter().map(|x| x * x).sum();
            let got = squared_norms(&Host, &[&x]).unwrap();

            // Everything is f64; only the order of the sum differs.
            assert!((got / expected - 1.0).abs() < 1e-12, "{got} against {expected}");
        }
    }
}

#[test]
fn law_norms_of_many_tensors_are_the_sum_of_their_norms_on_cuda() {
    let all =
        [held(&[20_000], 1, DType::F32), held(&[3, 5], 2, DType::BF16), held(&[1], 3, DType::F32)];
    let one_by_one: f64 = all.iter().map(|x| squared_norms(&Host, &[x]).unwrap()).sum();
    assert_eq!(squared_norms(&Host, &all.each_ref()).unwrap(), one_by_one);
    assert_eq!(squared_norms(&Host, &[]).unwrap(), 0.0);
}

#[test]
fn law_terms_of_either_dtype_are_added_in_place() {
    let term = noise(&[300, 31], 2);
    for (dtype, tolerance) in ACTIVATIONS {
        let into = noise(&[31, 300], 1);
        let expected = (&into + term.t().unwrap()).unwrap();
        add_in_place(&Host, &into, &term.t().unwrap().to_dtype(dtype).unwrap()).unwrap();
        assert_close("a sum", &into, &expected, tolerance);
    }
}
