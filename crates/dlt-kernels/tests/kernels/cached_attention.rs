//! Compares attention over a cache with attention over whole sequences.

use crate::reference::*;
use candle_core::{DType, Device, Result, Tensor};
use dlt_kernels::{Attention, Kernels, KeyValues, Mask};

const BOTH: [(Kernels, DType); 2] = [(Kernels::Fused, DType::F32), (Kernels::Composed, DType::F64)];

fn cache(sequences: usize, capacity: usize, heads: [usize; 2], dtype: DType) -> KeyValues {
    KeyValues::new(sequences, capacity, heads[0], heads[1], dtype, &Device::Cpu).unwrap()
}

/// Attention over whole sequences, in f64.
fn whole(qkv: &Tensor, heads: usize, key_heads: usize) -> Tensor {
    let qkv = qkv.to_dtype(DType::F64).unwrap();
    let attention = Attention { key_heads, ..Attention::new(heads, Mask::Causal) };
    Kernels::Composed.attention(&qkv, &attention).unwrap()
}

#[test]
fn matches_reference_attention_in_pieces() {
    for (tokens, heads, key_heads, width) in
        [(7, 3, 3, 5), (150, 4, 2, 16), (80, 6, 1, 7), (33, 1, 1, 64)]
    {
        let qkv = noise(&[2, tokens, (heads + 2 * key_heads) * width], 1);
        let expected = whole(&qkv, heads, key_heads);

        for (kernels, dtype) in BOTH {
            let qkv = qkv.to_dtype(dtype).unwrap();
            // A capacity that is just enough, and a larger one.
            for capacity in [tokens, tokens + 30] {
                let mut cache = cache(2, capacity, [key_heads, width], dtype);
                let mut start = 0;
                let mut results = Vec::new();

                for count in [1, 3, tokens - 5, 1] {
                    let piece = qkv.narrow(1, start, count).unwrap();
                    results
                        .push(kernels.attend_cached(&piece, &mut cache, &[0, 1], heads).unwrap());
                    start += count;
                    assert_eq!((cache.filled(0), cache.filled(1)), (start, start));
                }

                let got = Tensor::cat(&results, 1).unwrap();
                assert_close(&format!("{kernels:?} in pieces"), &got, &expected, F32_TOLERANCE);
            }
        }
    }
}

#[test]
fn matches_reference_attention_of_different_fills() {
    let heads = 4;
    let key_heads = 2;
    let width = 8;
    let qkv = noise(&[3, 90, (heads + 2 * key_heads) * width], 1);
    let expected = whole(&qkv, heads, key_heads);

    for (kernels, dtype) in BOTH {
        let qkv = qkv.to_dtype(dtype).unwrap();
        let mut cache = cache(4, 100, [key_heads, width], dtype);

        // Window w is in sequence 3 - w. Sequence 0 stays empty.
        let mut step = |windows: &[usize], count: usize| {
            let sequences: Vec<usize> = windows.iter().map(|window| 3 - window).collect();
            let starts: Vec<usize> =
                sequences.iter().map(|&sequence| cache.filled(sequence)).collect();
            let rows = |x: &Tensor| {
                let rows: Result<Vec<Tensor>> = windows
                    .iter()
                    .zip(&starts)
                    .map(|(&window, &start)| x.narrow(0, window, 1)?.narrow(1, start, count))
                    .collect();
                Tensor::cat(&rows.unwrap(), 0).unwrap()
            };

            let got = kernels.attend_cached(&rows(&qkv), &mut cache, &sequences, heads).unwrap();
            assert!(!got.track_op());

            let what = format!("{kernels:?} {count} tokens of {windows:?} after {starts:?}");
            assert_close(&what, &got, &rows(&expected), F32_TOLERANCE);
        };

        step(&[1], 70);
        step(&[0], 2);
        step(&[2, 0, 1], 1);
        step(&[1, 2], 9);
        step(&[0, 1, 2], 7);
        step(&[0, 2], 72);
        step(&[2, 1, 0], 1);
        assert_eq!([0, 1, 2, 3].map(|sequence| cache.filled(sequence)), [0, 90, 88, 83]);
    }
}

#[test]
fn matches_reference_one_cache_of_both_paths() {
    let qkv = noise(&[1, 40, 3 * 8], 1);
    let expected = whole(&qkv, 2, 2);
    let mut cache = cache(1, 40, [2, 4], DType::F32);

    for (i, start) in (0..40).step_by(4).enumerate() {
        let piece = qkv.narrow(1, start, 4).unwrap();
        let kernels = BOTH[i % 2].0;
        let got = kernels.attend_cached(&piece, &mut cache, &[0], 2).unwrap();

        assert_close("a piece", &got, &expected.narrow(1, start, 4).unwrap(), F32_TOLERANCE);
    }
}

#[test]
fn law_what_was_forgotten_is_not_seen() {
    for kernels in [Kernels::Fused, Kernels::Composed] {
        let first = noise(&[2, 5, 24], 1);
        let wrong = noise(&[2, 20, 24], 2);
        let second = noise(&[2, 3, 24], 3);
        let mut used = cache(2, 25, [2, 4], DType::F32);
        let attend = |cache: &mut KeyValues, qkv: &Tensor| {
            host(&kernels.attend_cached(qkv, cache, &[0, 1], 2).unwrap())
        };

        attend(&mut used, &first);
        attend(&mut used, &wrong);
        used.truncate(0, 5).unwrap();
        used.truncate(1, 5).unwrap();
        assert_eq!((used.filled(0), used.filled(1)), (5, 5));

        let mut fresh = cache(2, 25, [2, 4], DType::F32);
        attend(&mut fresh, &first);
        assert_eq!(attend(&mut used, &second), attend(&mut fresh, &second));

        used.clear();
        assert_eq!(
            (used.filled(0), used.filled(1), used.capacity(), used.sequences()),
            (0, 0, 25, 2)
        );

        let mut fresh = cache(2, 25, [2, 4], DType::F32);
        assert_eq!(attend(&mut used, &second), attend(&mut fresh, &second));
    }
}

#[test]
fn law_large_scores_stay_finite() {
    let qkv = Tensor::full(1e4f32, (1, 9, 24), &Device::Cpu).unwrap();
    let mut cache = cache(1, 9, [2, 4], DType::F32);

    for start in 0..9 {
        let token = qkv.narrow(1, start, 1).unwrap();
        let y = Kernels::Fused.attend_cached(&token, &mut cache, &[0], 2).unwrap();
        assert!(host(&y).iter().all(|y| (y - 1e4).abs() < 1e-2));
    }
}

#[test]
fn rejects_what_does_not_fit_a_cache() {
    let qkv = noise(&[2, 4, 24], 1);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        let mut cache = cache(3, 6, [2, 4], DType::F32);
        let mut attend = |qkv: &Tensor, sequences: &[usize], heads| {
            kernels.attend_cached(qkv, &mut cache, sequences, heads)
        };
        attend(&qkv, &[2, 0], 2).unwrap();

        let full = ["at most 6 tokens, the capacity", "got 8 of sequence 0", "4 held and 4 new"];
        assert_rejected(attend(&qkv, &[1, 0], 2), &full);
        assert_rejected(attend(&qkv, &[1, 3], 2), &["a sequence below 3", "got 3"]);
        assert_rejected(attend(&qkv, &[1, 1], 2), &["distinct sequences", "got 1 twice"]);
        assert_rejected(attend(&qkv, &[1], 2), &["each of 2 windows", "got [1]"]);
        assert_rejected(attend(&qkv, &[], 2), &["each of 2 windows", "got []"]);
        assert_rejected(attend(&qkv, &[0, 1], 3), &["3 heads and 2 key heads"]);
        assert_rejected(attend(&qkv, &[0, 1], 0), &["0 heads"]);
        assert_rejected(attend(&qkv, &[0, 1], 4), &["heads of width 4", "got 3"]);

        assert_rejected(
            attend(&noise(&[2, 4, 25], 1), &[0, 1], 2),
            &["2 heads + 2 x 2 key heads", "25"],
        );
        assert_rejected(attend(&noise(&[4, 24], 1), &[0, 1], 2), &["attend_cached", "[4, 24]"]);

        let empty = Tensor::zeros((2, 0, 24), DType::F32, &Device::Cpu).unwrap();
        assert_rejected(attend(&empty, &[0, 1], 2), &["non-empty"]);

        let double = qkv.to_dtype(DType::F64).unwrap();
        assert_rejected(attend(&double, &[0, 1], 2), &["F32", "as in the cache", "got F64"]);

        // The cache holds nothing of what was refused.
        assert_eq!([0, 1, 2].map(|sequence| cache.filled(sequence)), [4, 0, 4]);
        assert_rejected(cache.truncate(3, 0), &["truncate", "below 3", "got 3"]);
        assert_rejected(cache.truncate(0, 5), &["at most the 4 tokens of sequence 0", "got 5"]);
        assert_eq!((cache.filled(0), cache.filled(3)), (4, 0));
    }
}

#[test]
fn rejects_caches_of_nothing() {
    for [sequences, capacity, key_heads, width] in
        [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]]
    {
        let cache = KeyValues::new(sequences, capacity, key_heads, width, DType::F32, &Device::Cpu);
        assert_rejected(cache, &["key_values", "above zero"]);
    }
}
