//! The comparison of an operation with candle's autograd over its definition in f64: value and
//! every gradient.

use crate::operations::Operation;
use candle_core::{DType, Device, Result, Tensor, Var};
use dlt_kernels::Kernels;

/// Relative to the largest element: f32 has 24 bits, and sums of a few hundred products lose a few
/// of them.
pub(crate) const F32_TOLERANCE: f64 = 3e-6;
/// A central difference of width 1e-5 in f64 is accurate to about 1e-9, relative.
const DIFFERENCE_TOLERANCE: f64 = 1e-6;
const DIFFERENCE_STEP: f64 = 1e-5;
/// The composed gradients in f64 differ from those of autograd by the order of sums at most.
const F64_TOLERANCE: f64 = 1e-12;

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

/// The gradient of the result that tests start from.
pub(crate) fn upstream(dims: &[usize], dtype: DType) -> Tensor {
    noise(dims, 4711).to_dtype(dtype).unwrap()
}

/// The composed value in f64, and the gradient of `Σ value · upstream` for each input, by candle's
/// autograd.
pub(crate) fn by_autograd(
    inputs: &[Tensor],
    value: &dyn Fn(Kernels, &[Tensor]) -> Result<Tensor>,
) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|x| Var::from_tensor(&x.to_dtype(DType::F64).unwrap().copy().unwrap()).unwrap())
        .collect();
    let arguments: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = value(Kernels::Composed, &arguments).unwrap();

    let probe = upstream(y.dims(), DType::F64);
    let gradients = (&y * probe).unwrap().sum_all().unwrap().backward().unwrap();
    let gradients = vars
        .iter()
        .map(|var| gradients.get(var).expect("a gradient for each input").clone())
        .collect();

    (y.detach(), gradients)
}

/// Compares an operation with autograd: fused in f32, and composed. Then compares autograd with
/// finite differences.
pub(crate) fn check(what: &str, inputs: &[Tensor], operation: &Operation<'_>) {
    check_to(F32_TOLERANCE, what, inputs, operation);
    check_differences(what, inputs, operation);
}

/// The comparison alone, where f32 is off by up to `tolerance`.
pub(crate) fn check_to(tolerance: f64, what: &str, inputs: &[Tensor], operation: &Operation<'_>) {
    let expected = by_autograd(inputs, &operation.value);
    let compare = |kernels, inputs: &[Tensor], tolerance| {
        let (value, gradients) = operation.value_and_gradients(kernels, inputs);
        let what = format!("{what} {kernels:?} {:?}", value.dtype());
        assert_close(&format!("{what} value"), &value, &expected.0, tolerance);
        assert_eq!(gradients.len(), inputs.len(), "{what}: a gradient of each input");

        for (i, (gradient, expected)) in gradients.iter().zip(&expected.1).enumerate() {
            assert_close(&format!("{what} gradient of input {i}"), gradient, expected, tolerance);
        }
    };

    compare(Kernels::Fused, inputs, tolerance);

    // A change of dtype makes a copy, so views are composed in f32 as well.
    let copies: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
    compare(Kernels::Composed, &copies, F64_TOLERANCE);
    if inputs.iter().any(is_view) {
        compare(Kernels::Composed, inputs, tolerance);
    }
}

fn is_view(x: &Tensor) -> bool {
    !x.is_contiguous() || x.layout().start_offset() > 0
}

fn check_differences(what: &str, inputs: &[Tensor], operation: &Operation<'_>) {
    let (value, gradients) = by_autograd(inputs, &operation.value);
    let probe = host(&upstream(value.dims(), DType::F64));
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();

    for (i, gradient) in gradients.iter().enumerate() {
        let direction = noise(inputs[i].dims(), 99 + i as u64).to_dtype(DType::F64).unwrap();
        let at = |step: f64| {
            let mut moved = inputs.clone();
            moved[i] = (&inputs[i] + (&direction * step).unwrap()).unwrap();

            let y = host(&(operation.value)(Kernels::Composed, &moved).unwrap());
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
