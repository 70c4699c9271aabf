use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::{Kernels, SKETCH_WIDTH};

/// Sizes around that of a chunk and that of a partial sum, and one of several parts.
pub(crate) const COUNTS: [usize; 9] = [1, 31, 255, 256, 257, 16_383, 16_384, 16_385, 50_001];
/// The number of seeds of a mean.
const SEEDS: u64 = 400;
/// The most standard errors that a mean may be off. The seeds are fixed, so the result is the same
/// in each run. One correct projection in two million exceeds five.
const ERRORS: f64 = 5.0;

fn sketch(tensors: &[&Tensor], seed: u64) -> Vec<f64> {
    host(&Kernels::Fused.sketch(tensors, seed).unwrap())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A block's tensors: a matrix whose rows are as long as a sketch, a view, a vector, and an empty
/// tensor.
fn block(seed: u64) -> [Tensor; 4] {
    let view = noise(&[90, 31], seed + 1).t().unwrap();
    let none = Tensor::zeros(0, DType::F32, &Device::Cpu).unwrap();
    [noise(&[70, SKETCH_WIDTH], seed), view, noise(&[77], seed + 2), none]
}

#[test]
fn matches_reference_sketch() {
    for count in COUNTS {
        let x = noise(&[count], count as u64);
        for seed in [0, 1, u64::MAX] {
            let expected = Kernels::Composed.sketch(&[&x], seed).unwrap();
            assert_eq!((expected.dims(), expected.dtype()), (&[SKETCH_WIDTH][..], DType::F64));

            let got = Kernels::Fused.sketch(&[&x], seed).unwrap();
            assert_close("a sketch", &got, &expected, F32_TOLERANCE);
        }
    }

    let block = block(1);
    let expected = Kernels::Composed.sketch(&block.each_ref(), 3).unwrap();
    let got = Kernels::Fused.sketch(&block.each_ref(), 3).unwrap();

    assert_close("that of several tensors", &got, &expected, F32_TOLERANCE);
}

#[test]
fn law_narrow_tensors_have_the_sketch_of_their_numbers() {
    for kernels in [Kernels::Fused, Kernels::Composed] {
        let narrow = noise(&[3, 300], 1).to_dtype(DType::BF16).unwrap();
        let wide = narrow.to_dtype(DType::F32).unwrap();
        let [narrow, wide] = [narrow, wide].map(|x| host(&kernels.sketch(&[&x], 7).unwrap()));

        assert_eq!(narrow, wide);
    }
}

#[test]
fn law_a_sketch_is_linear() {
    let a = block(1);
    let b = block(11);
    let mixed = [0, 1, 2, 3].map(|i| ((&a[i] * 3.0).unwrap() - (&b[i] * 0.5).unwrap()).unwrap());
    let [of_a, of_b, of_mixed] = [&a, &b, &mixed].map(|x| sketch(&x.each_ref(), 5));
    let expected: Vec<f64> = of_a.iter().zip(&of_b).map(|(a, b)| 3.0 * a - 0.5 * b).collect();
    let [got, expected] = [of_mixed, expected].map(|x| Tensor::new(x, &Device::Cpu).unwrap());

    assert_close("a sketch of a sum", &got, &expected, F32_TOLERANCE);
}

#[test]
fn law_numbers_of_one_chunk_never_meet() {
    for seed in 0..20 {
        let ones = Tensor::ones(SKETCH_WIDTH, DType::F32, &Device::Cpu).unwrap();
        let of_one = sketch(&[&ones], seed);
        assert!(of_one.iter().all(|x| x.abs() == 1.0), "{of_one:?}");

        let positive = of_one.iter().filter(|&&x| x == 1.0).count();
        assert!((80..176).contains(&positive), "six standard errors from one half: {positive}");

        // Each tensor begins with its own chunk, so numbers of two tensors may be added to each
        // other.
        let halves = ones.chunk(2, 0).unwrap();
        let of_two = sketch(&[&halves[0], &halves[1]], seed);
        assert!(of_two.iter().all(|x| [0.0, 1.0, 2.0].contains(&x.abs())), "{of_two:?}");
    }
}

/// The most that the estimate's standard error can be. With independent signs and places, its
/// variance is at most (|a|² |b|² + <a, b>² - 2 Σ a² b²) / 256, which is at most twice the first
/// term. The rotations of a chunk do not change that.
fn standard_error(a: &[&Tensor], b: &[&Tensor]) -> f64 {
    let norm = |x: &[&Tensor]| x.iter().map(|x| host(x)).map(|x| dot(&x, &x)).sum::<f64>();
    (2.0 * norm(a) * norm(b) / SKETCH_WIDTH as f64).sqrt()
}

fn product(a: &[&Tensor], b: &[&Tensor]) -> f64 {
    a.iter().zip(b).map(|(a, b)| dot(&host(a), &host(b))).sum()
}

#[test]
fn law_products_of_sketches_have_the_inner_product_as_their_mean() {
    let a = block(1);
    let b = block(11);

    // The same, half the same, and unrelated.
    let half = [0, 1, 2, 3].map(|i| (&a[i] + &b[i]).unwrap());

    for (one, other) in [(&a, &a), (&a, &half), (&a, &b)] {
        let one = one.each_ref();
        let other = other.each_ref();
        let expected = product(&one, &other);
        let error = standard_error(&one, &other);
        let of_seed = |seed| dot(&sketch(&one, seed), &sketch(&other, seed)) - expected;
        let misses: Vec<f64> = (0..SEEDS).map(of_seed).collect();

        let mean = misses.iter().sum::<f64>() / SEEDS as f64;
        assert!(mean.abs() < ERRORS * error / (SEEDS as f64).sqrt(), "{mean} off {expected}");

        let variance = dot(&misses, &misses) / SEEDS as f64;
        // The variance of a sample of 400 is within a seventh of the true one (two standard
        // errors), so well within a half.
        assert!(variance < 1.5 * error.powi(2), "{variance} for at most {}", error.powi(2));

        assert!(
            variance > 0.1 * error.powi(2),
            "a sketch of fewer numbers knows no more: {variance}"
        );
    }
}

/// If the rows of a matrix are as long as chunks, a column would, without rotations, be added to
/// one number of the sketch. Its estimate would then vary like that of a sketch of one number.
#[test]
fn law_a_column_is_spread_over_the_sketch() {
    let mut column = vec![0.0f32; 70 * SKETCH_WIDTH];
    column.iter_mut().step_by(SKETCH_WIDTH).for_each(|x| *x = 1.0);

    let column = Tensor::from_vec(column, (70, SKETCH_WIDTH), &Device::Cpu).unwrap();
    let expected = 70.0;
    let error = standard_error(&[&column], &[&column]);
    let misses: Vec<f64> = (0..SEEDS)
        .map(|seed| {
            let sketch = sketch(&[&column], seed);
            dot(&sketch, &sketch) - expected
        })
        .collect();

    let mean = misses.iter().sum::<f64>() / SEEDS as f64;
    assert!(mean.abs() < ERRORS * error / (SEEDS as f64).sqrt(), "{mean} off {expected}");

    let variance = dot(&misses, &misses) / SEEDS as f64;
    assert!(variance < 1.5 * error.powi(2), "{variance} for at most {}", error.powi(2));
}

#[test]
fn law_the_number_of_threads_changes_no_bit() {
    let x = noise(&[300_001], 1);
    let of_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| sketch(&[&x, &x], 9))
    };

    let one = of_threads(1);
    assert_ne!(one, sketch(&[&x, &x], 10));

    for threads in [2, 3, 8] {
        assert_eq!(of_threads(threads), one);
    }
}

#[test]
fn rejects_a_sketch_of_nothing() {
    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(kernels.sketch(&[], 1), &["one tensor or more", "none"]);
    }
}
