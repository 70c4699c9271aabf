use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::{Dropout, Kernels, Mask};

const MASKS: [Mask; 2] = [Mask::Causal, Mask::Full];

#[test]
fn matches_reference_attention() {
    for mask in MASKS {
        for (batch, tokens, heads, width) in
            [(3, 7, 5, 5), (1, 1, 1, 3), (2, 33, 2, 16), (1, 64, 3, 7), (2, 130, 1, 32)]
        {
            let qkv = noise(&[batch, tokens, 3 * heads * width], 1);
            check("attention", &[qkv], |k, t| k.attention(&t[0], heads, mask, None));
        }
        let view = noise(&[30, 9, 2], 1);
        check("attention of a view", &[view], |k, t| k.attention(&t[0].transpose(0, 2)?, 2, mask, None));
    }
}

#[test]
fn matches_reference_attention_with_dropout() {
    let dropout = Some(Dropout { probability: 0.3, seed: 7, offset: 1_000_003 });
    for mask in MASKS {
        for tokens in [7, 70] {
            let qkv = noise(&[2, tokens, 3 * 2 * 8], 1);
            check("attention with dropout", &[qkv], |k, t| k.attention(&t[0], 2, mask, dropout));
        }
    }
}

#[test]
fn matches_reference_attention_of_extreme_inputs() {
    for mask in MASKS {
        // Scores of a few thousand: f32 rounds them by 1e-4, and the probabilities follow.
        let large = (noise(&[2, 33, 3 * 2 * 16], 1) * 40.0).unwrap();
        check_to(5e-3, "large scores", &[large], &|k, t: &[Tensor]| k.attention(&t[0], 2, mask, None));
        let constant = Tensor::full(-3.0f32, (2, 33, 48), &Device::Cpu).unwrap();
        // Where everything cancels to zero, three times as large inputs leave three times the rounding.
        check_to(3.0 * F32_TOLERANCE, "constant rows", &[constant], &|k, t: &[Tensor]| {
            k.attention(&t[0], 2, mask, None)
        });
        let huge = Tensor::full(1e4f32, (1, 9, 24), &Device::Cpu).unwrap();
        let y = Kernels::Fused.attention(&huge, 2, mask, None).unwrap();
        assert!(host(&y).iter().all(|y| (y - 1e4).abs() < 1e-2));
    }
}

#[test]
fn law_causal_attention_sees_no_later_token() {
    let qkv = noise(&[1, 70, 24], 1);
    let whole = host(&Kernels::Fused.attention(&qkv, 2, Mask::Causal, None).unwrap());
    // A different future, in the same block and in a later one.
    let changed = Tensor::cat(&[qkv.narrow(1, 0, 41).unwrap(), noise(&[1, 29, 24], 2)], 1).unwrap();
    let other = host(&Kernels::Fused.attention(&changed, 2, Mask::Causal, None).unwrap());
    assert_eq!(whole[..41 * 8], other[..41 * 8]);
    assert_ne!(whole[41 * 8..], other[41 * 8..]);
}

#[test]
fn rejects_attention_of_wrong_shapes() {
    let qkv = noise(&[2, 4, 24], 1);
    for kernels in [Kernels::Fused, Kernels::Composed] {
        assert_rejected(kernels.attention(&qkv, 0, Mask::Full, None), &["heads"]);
        assert_rejected(kernels.attention(&qkv, 3, Mask::Full, None), &["3 x 3 heads", "24"]);
        assert_rejected(kernels.attention(&noise(&[4, 24], 1), 2, Mask::Full, None), &["[4, 24]"]);
        let empty = Tensor::zeros((2, 0, 24), DType::F32, &Device::Cpu).unwrap();
        assert_rejected(kernels.attention(&empty, 2, Mask::Full, None), &["non-empty"]);
        let dropout = Some(Dropout { probability: 1.0, seed: 0, offset: 0 });
        assert_rejected(kernels.attention(&qkv, 2, Mask::Full, dropout), &["[0, 1)"]);
    }
}
