//! The comparison of a fused kernel with the composed operations in f64: value and every gradient.

use candle_core::{DType, Device, Result, Tensor, Var};
use dlt_kernels::Kernels;

/// Relative to the largest element: f32 has 24 bits, and sums of a few hundred products lose a few
/// of them.
pub(crate) const F32_TOLERANCE: f64 = 3e-6;
/// A central difference of width 1e-5 in f64 is accurate to about 1e-9, relative.
const DIFFERENCE_TOLERANCE: f64 = 1e-6;
const DIFFERENCE_STEP: f64 = 1e-5;

/// Numbers in (-1, 1) that depend on `seed` and the position only.
pub(crate) fn noise(shape: &[usize], seed: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / 8_388_608.0) - 1.0
        })
        .collect();

    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Ids below `limit`.
pub(crate) fn ids(shape: &[usize], limit: u32, seed: u64) -> Tensor {
    let unit = noise(shape, seed).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let ids: Vec<u32> =
        unit.iter().map(|x| ((x + 1.0) / 2.0 * limit as f32) as u32 % limit).collect();
    Tensor::from_vec(ids, shape, &Device::Cpu).unwrap()
}

pub(crate) fn host(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Fails unless both agree to `tolerance`, relative to the largest expected element.
pub(crate) fn assert_close(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims(), "{what}: shape");
    let got = host(got);
    let expected = host(expected);
    let largest = expected.iter().fold(1e-30f64, |most, x| most.max(x.abs()));

    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let far = (got - expected).abs() / largest;
        assert!(
            far <= tolerance,
            "{what}[{i}]: got {got}, expected {expected}, off by {far:.2e} of {largest}"
        );
    }
}

/// The value of `f` and the gradient of `Σ f · probe` for each input.
pub(crate) fn value_and_gradients(
    kernels: Kernels,
    dtype: DType,
    inputs: &[Tensor],
    f: &impl Fn(Kernels, &[Tensor]) -> Result<Tensor>,
) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap().copy().unwrap()).unwrap())
        .collect();
    let arguments: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = f(kernels, &arguments).unwrap();

    let probe = noise(y.dims(), 4711).to_dtype(dtype).unwrap();
    let gradients = (&y * probe).unwrap().sum_all().unwrap().backward().unwrap();
    let gradients = vars
        .iter()
        .map(|var| gradients.get(var).expect("a gradient for each input").clone())
        .collect();

    (y.detach(), gradients)
}

/// Compares fused in f32 with composed in f64: value and every gradient. Then compares composed
/// with finite differences.
pub(crate) fn check(
    what: &str,
    inputs: &[Tensor],
    f: impl Fn(Kernels, &[Tensor]) -> Result<Tensor>,
) {
    check_to(F32_TOLERANCE, what, inputs, &f);
    check_differences(what, inputs, &f);
}

pub(crate) fn check_to(
    tolerance: f64,
    what: &str,
    inputs: &[Tensor],
    f: &impl Fn(Kernels, &[Tensor]) -> Result<Tensor>,
) {
    let (value, gradients) = value_and_gradients(Kernels::Fused, DType::F32, inputs, f);
    let (expected, expected_gradients) =
        value_and_gradients(Kernels::Composed, DType::F64, inputs, f);
    assert_close(&format!("{what} value"), &value, &expected, tolerance);

    for (i, (gradient, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        assert_close(&format!("{what} gradient of input {i}"), gradient, expected, tolerance);
    }

    // Without tracking, the result has the same bits.
    let plain = f(Kernels::Fused, inputs).unwrap();
    assert!(!plain.track_op(), "{what}: an untracked result");
    assert_eq!(host(&plain), host(&value), "{what}: tracked and untracked");
}

fn check_differences(
    what: &str,
    inputs: &[Tensor],
    f: &impl Fn(Kernels, &[Tensor]) -> Result<Tensor>,
) {
    let (value, gradients) = value_and_gradients(Kernels::Composed, DType::F64, inputs, f);
    let probe = host(&noise(value.dims(), 4711));
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();

    for (i, gradient) in gradients.iter().enumerate() {
        let direction = noise(inputs[i].dims(), 99 + i as u64).to_dtype(DType::F64).unwrap();
        let at = |step: f64| {
            let mut moved = inputs.clone();
            moved[i] = (&inputs[i] + (&direction * step).unwrap()).unwrap();

            let y = host(&f(Kernels::Composed, &moved).unwrap());
            y.iter().zip(&probe).map(|(y, probe)| y * probe).sum::<f64>()
        };

        let difference = (at(DIFFERENCE_STEP) - at(-DIFFERENCE_STEP)) / (2.0 * DIFFERENCE_STEP);
        let along: f64 = host(gradient).iter().zip(host(&direction)).map(|(g, d)| g * d).sum();
        let scale = difference.abs().max(1e-2);

        assert!(
            (along - difference).abs() / scale < DIFFERENCE_TOLERANCE,
            "{what} input {i}: along a direction got {along}, by differences {difference}"
        );
    }
}

/// Fails unless `result` is an error whose text contains each of `words`.
pub(crate) fn assert_rejected<T>(result: Result<T>, words: &[&str]) {
    let text = result.err().expect("an error").to_string();
    for word in words {
        assert!(text.contains(word), "expected {word:?} in {text:?}");
    }
}
