use super::*;
use crate::operations;
use dlt_kernels::cuda::{attention, attention_gradient};
use dlt_kernels::{Attention, Dropout, Kernels, Mask};

const DROPOUT: Option<Dropout> =
    Some(Dropout { probability: 0.3, seed: 7, offset: u32::MAX as u64 - 1000 });

/// Compares value and gradient with the composed operations in f64, and the sums with those of the
/// loops.
fn compare(
    what: &str,
    qkv: &Tensor,
    settings: &Attention<'_>,
    rows: Option<usize>,
    tolerance: f64,
) {
    let [out, sums] = attention(&Host, qkv, settings, rows).unwrap();
    let inputs = [wide(qkv)];
    let (value, gradients) = by_autograd(&inputs, &operations::attention(settings).value);

    assert_close(&format!("{what} value"), &out, &value, tolerance);
    let gradient = upstream(out.dims(), qkv.dtype());
    let got = attention_gradient(&Host, qkv, &sums, settings, &gradient, rows).unwrap();

    assert_eq!((out.dtype(), got.dtype()), (qkv.dtype(), qkv.dtype()));
    assert_close(&format!("{what} gradient"), &got, &gradients[0], tolerance);

    let qkv = qkv.to_dtype(DType::F32).unwrap();
    let [_, expected] = Kernels::Fused.attention_and_sums(&qkv, settings).unwrap();
    assert_close(&format!("{what} sums"), &sums, &expected, tolerance);
}

#[test]
fn matches_reference_attention_on_cuda() {
    for mask in [Mask::Causal, Mask::Full] {
        // Blocks of one row, blocks that do and do not divide the rows, and one block with all
        // rows.
        for (tokens, heads, key_heads, width, rows) in [
            (1, 1, 1, 3, None),
            (7, 4, 2, 5, Some(1)),
            (33, 2, 2, 16, Some(16)),
            (40, 6, 1, 8, Some(8)),
            (70, 6, 3, 4, None),
        ] {
            let settings = Attention { key_heads, ..Attention::new(heads, mask) };

            for (dtype, tolerance) in ACTIVATIONS {
                let qkv = held(&[2, tokens, (heads + 2 * key_heads) * width], 1, dtype);
                // Scores, probabilities and their gradients are rounded too.
                let tolerance = if dtype == DType::BF16 { 3.0 * tolerance } else { tolerance };
                compare(&format!("{mask:?} {tokens} {dtype:?}"), &qkv, &settings, rows, tolerance);
            }
        }
    }
}

#[test]
fn matches_reference_attention_of_lengths_with_dropout_on_cuda() {
    for mask in [Mask::Causal, Mask::Full] {
        for (lengths, dropout) in
            [(Some(&[66, 1, 71][..]), DROPOUT), (None, DROPOUT), (Some(&[3, 70, 16]), None)]
        {
            let settings = Attention { key_heads: 2, lengths, dropout, ..Attention::new(6, mask) };
            let qkv = noise(&[3, 71, (6 + 2 * 2) * 5], 1);

            for rows in [Some(16), None] {
                compare(
                    &format!("{mask:?} {lengths:?} {dropout:?}"),
                    &qkv,
                    &settings,
                    rows,
                    F32_TOLERANCE,
                );
            }
        }
    }
}

#[test]
fn matches_reference_attention_of_large_scores_on_cuda() {
    // Scores of a few thousand: f32 rounds them by 1e-4, so probabilities differ by as much.
    let large = (noise(&[2, 33, 3 * 2 * 16], 1) * 40.0).unwrap();
    compare("large scores", &large, &Attention::new(2, Mask::Causal), Some(16), 5e-3);
}

#[test]
fn law_blocks_change_rounding_only_on_cuda() {
    let qkv = noise(&[2, 40, 3 * 2 * 8], 1);
    let settings = Attention::new(2, Mask::Full);
    let [whole, sums] = attention(&Host, &qkv, &settings, None).unwrap();
    let [in_blocks, other] = attention(&Host, &qkv, &settings, Some(7)).unwrap();

    assert_close("sums", &other, &sums, F32_TOLERANCE);
    assert_close("blocks", &in_blocks, &whole, F32_TOLERANCE);
}
