use crate::operations;
use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::{Dropout, Kernels};

fn dropout(probability: f32, seed: u64, offset: u64) -> Dropout {
    Dropout { probability, seed, offset }
}

fn kept(d: Dropout, count: usize) -> Vec<f64> {
    let ones = Tensor::ones(count, DType::F32, &Device::Cpu).unwrap();
    host(&Kernels::Fused.dropout(&ones, d).unwrap())
}

#[test]
fn matches_reference_dropout() {
    for probability in [0.0, 0.1, 0.5, 0.999] {
        let d = dropout(probability, 3, 11);
        check("dropout", &[noise(&[3, 7, 2001], 1)], &operations::dropout(d));

        let view = noise(&[9, 5], 1).t().unwrap();
        check("dropout of a view", &[view], &operations::dropout(d));
    }
}

#[test]
fn law_one_element_is_one_number_of_the_stream() {
    // Across the place where the low half of the counter wraps, and across the end of the whole
    // counter.
    for offset in [0, u64::from(u32::MAX) - 40_000, u64::MAX - 5] {
        let d = dropout(0.4, 5, offset);
        let mask = kept(d, 100_000);
        for (i, &factor) in mask.iter().enumerate() {
            assert_eq!(factor != 0.0, d.keeps(i as u64), "element {i} from {offset}");
        }

        let later = kept(dropout(0.4, 5, offset.wrapping_add(17)), 1000);
        assert_eq!(later, mask[17..1017]);
    }
}

#[test]
fn law_shares_and_scale_follow_the_probability() {
    const COUNT: usize = 1_000_000;

    for probability in [0.1f32, 0.5, 0.9] {
        let mask = kept(dropout(probability, 1, 0), COUNT);
        let share = mask.iter().filter(|&&x| x != 0.0).count() as f64 / COUNT as f64;

        // Six standard deviations of a fair stream are at most 0.003.
        assert!(
            (share - (1.0 - f64::from(probability))).abs() < 0.003,
            "kept {share} at {probability}"
        );
        let scale = 1.0 / (1.0 - probability);
        assert!(mask.iter().all(|&x| x == 0.0 || x == f64::from(scale)));
    }
}

#[test]
fn law_streams_are_independent() {
    const COUNT: usize = 200_000;
    let of = |seed, offset| kept(dropout(0.5, seed, offset), COUNT);
    let first = of(1, 0);

    for other in [of(2, 0), of(1 << 40, 0), of(1, 1), of(1, 2), of(1, 64), of(1, 1 << 32)] {
        let same = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / COUNT as f64;
        // Six standard deviations are 0.0067.
        assert!((same - 0.5).abs() < 0.0067, "two streams agree in {same} of their elements");
    }
}

#[test]
fn rejects_dropout_of_impossible_probabilities() {
    let x = noise(&[3], 1);
    for kernels in [Kernels::Fused, Kernels::Composed] {
        for probability in [1.0, -0.1, f32::NAN] {
            assert_rejected(kernels.dropout(&x, dropout(probability, 0, 0)), &["[0, 1)"]);
        }

        let empty = Tensor::zeros(0, DType::F32, &Device::Cpu).unwrap();
        assert_rejected(kernels.dropout(&empty, dropout(0.1, 0, 0)), &["non-empty"]);
    }
}
