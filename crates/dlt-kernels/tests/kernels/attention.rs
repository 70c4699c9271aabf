use crate::operations;
use crate::reference::*;
use candle_core::{DType, Device, Tensor};
use dlt_kernels::{Attention, Dropout, Kernels, Mask};

const MASKS: [Mask; 2] = [Mask::Causal, Mask::Full];
const DROPOUT: Option<Dropout> = Some(Dropout { probability: 0.3, seed: 7, offset: 1_000_003 });

fn check_attention(what: &str, qkv: Tensor, attention: &Attention<'_>) {
    check(what, &[qkv], &operations::attention(attention));
}

#[test]
fn matches_reference_attention() {
    for mask in MASKS {
        for (batch, tokens, heads, width) in [
            (3, 7, 5, 5),
            (2, 7, 3, 5),
            (1, 1, 1, 3),
            (3, 1, 1, 4),
            (2, 33, 2, 16),
            (1, 64, 3, 7),
            (2, 130, 1, 32),
            (1, 130, 2, 8),
        ] {
            let qkv = noise(&[batch, tokens, 3 * heads * width], 1);
            check_attention("attention", qkv, &Attention::new(heads, mask));
        }

        let view = noise(&[30, 9, 2], 1).transpose(0, 2).unwrap();
        check_attention("attention of a view", view, &Attention::new(2, mask));
    }
}

#[test]
fn matches_reference_attention_with_dropout() {
    for mask in MASKS {
        for (batch, tokens, heads, width) in
            [(2, 7, 2, 8), (2, 70, 2, 8), (2, 7, 3, 5), (1, 130, 2, 8), (3, 1, 1, 4)]
        {
            let qkv = noise(&[batch, tokens, 3 * heads * width], 1);
            let attention = Attention { dropout: DROPOUT, ..Attention::new(heads, mask) };
            check_attention("attention with dropout", qkv, &attention);
        }
    }
}

#[test]
fn matches_reference_attention_of_groups() {
    for mask in MASKS {
        for (tokens, heads, key_heads, width) in [
            (7, 4, 2, 5),
            (33, 6, 1, 8),
            (1, 2, 1, 3),
            (70, 6, 3, 4),
            (71, 6, 2, 5),
            (130, 8, 2, 16),
        ] {
            let qkv = noise(&[2, tokens, (heads + 2 * key_heads) * width], 1);
            let attention = Attention { key_heads, ..Attention::new(heads, mask) };
            check_attention("grouped attention", qkv, &attention);
        }
    }
}

#[test]
fn matches_reference_attention_of_lengths() {
    for mask in MASKS {
        for (tokens, lengths) in
            [(7, [3, 7, 1]), (129, [1, 64, 65]), (131, [131, 130, 63]), (1, [1, 1, 1])]
        {
            let qkv = noise(&[3, tokens, 3 * 2 * 8], 1);
            let attention = Attention { lengths: Some(&lengths), ..Attention::new(2, mask) };
            check_attention("attention of lengths", qkv, &attention);
        }
    }
}

#[test]
fn matches_reference_attention_of_groups_and_lengths_with_dropout() {
    for mask in MASKS {
        for lengths in [[66, 1, 71], [1, 71, 66]] {
            let qkv = noise(&[3, 71, (6 + 2 * 2) * 5], 1);
            let attention = Attention {
                key_heads: 2,
                lengths: Some(&lengths),
                dropout: DROPOUT,
                ..Attention::new(6, mask)
            };

            check_attention("attention with everything", qkv, &attention);
        }
    }
}

#[test]
fn matches_reference_attention_of_extreme_inputs() {
    for mask in MASKS {
        let attention = Attention::new(2, mask);
        // Scores of a few thousand: f32 rounds them by 1e-4, so probabilities differ by as much.
        let large = (noise(&[2, 33, 3 * 2 * 16], 1) * 40.0).unwrap();
        check_to(5e-3, "large scores", &[large], &operations::attention(&attention));

        let constant = Tensor::full(-3.0f32, (2, 33, 48), &Device::Cpu).unwrap();
        // Everything cancels to zero, so the rounding of inputs that are three times as large
        // remains.
        let operation = operations::attention(&attention);
        check_to(3.0 * F32_TOLERANCE, "constant rows", &[constant], &operation);

        let huge = Tensor::full(1e4f32, (1, 9, 24), &Device::Cpu).unwrap();
        let y = Kernels::Fused.attention(&huge, &attention).unwrap();
        assert!(host(&y).iter().all(|y| (y - 1e4).abs() < 1e-2));
    }
}

#[test]
fn law_causal_attention_sees_no_later_token() {
    let qkv = noise(&[1, 70, 24], 1);
    let attention = Attention::new(2, Mask::Causal);
    let whole = host(&Kernels::Fused.attention(&qkv, &attention).unwrap());

    // A different future, in the same block and in a later one.
    let changed = Tensor::cat(&[qkv.narrow(1, 0, 41).unwrap(), noise(&[1, 29, 24], 2)], 1).unwrap();
    let other = host(&Kernels::Fused.attention(&changed, &attention).unwrap());
    assert_eq!(whole[..41 * 8], other[..41 * 8]);
    assert_ne!(whole[41 * 8..], other[41 * 8..]);
}

/// The result, and the gradient of the sum of its squares.
fn value_and_gradient(
    kernels: Kernels,
    qkv: &Tensor,
    attention: &Attention<'_>,
) -> (Tensor, Tensor) {
    let [out, sums] = kernels.attention_and_sums(qkv, attention).unwrap();
    let up = (&out * 2.0).unwrap();
    let gradient = kernels.attention_gradient(qkv, [&out, &sums], attention, &up).unwrap();
    (out, gradient)
}

#[test]
fn law_full_lengths_change_nothing() {
    let qkv = noise(&[2, 70, 48], 1);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        for mask in MASKS {
            let plain = Attention { dropout: DROPOUT, ..Attention::new(2, mask) };
            let full = Attention { lengths: Some(&[70, 70]), ..plain };
            let results = |attention: &Attention<'_>| {
                let (y, gradient) = value_and_gradient(kernels, &qkv, attention);
                (host(&y), host(&gradient))
            };

            assert_eq!(results(&plain), results(&full));
        }
    }
}

#[test]
fn law_tokens_behind_the_length_are_seen_by_nobody() {
    const LENGTHS: [usize; 2] = [41, 1];
    let heads = 4;
    let key_heads = 2;
    let width = 3;

    for kernels in [Kernels::Fused, Kernels::Composed] {
        for mask in MASKS {
            let attention =
                Attention { key_heads, lengths: Some(&LENGTHS), ..Attention::new(heads, mask) };
            let qkv = noise(&[2, 70, (heads + 2 * key_heads) * width], 1);
            let (y, gradient) = value_and_gradient(kernels, &qkv, &attention);
            for (window, length) in LENGTHS.into_iter().enumerate() {
                // No result depends on the keys and values of hidden tokens: their gradients are
                // zero.
                let hidden = |x: &Tensor| {
                    let rows =
                        x.narrow(0, window, 1).unwrap().narrow(1, length, 70 - length).unwrap();
                    host(&rows.narrow(2, heads * width, 2 * key_heads * width).unwrap())
                };

                assert!(hidden(&gradient).iter().all(|&x| x == 0.0));
                assert!(hidden(&qkv).iter().all(|&x| x != 0.0));
            }

            assert!(host(&y).iter().chain(&host(&gradient)).all(|x| x.is_finite()));
            let mut other = qkv.to_vec3::<f32>().unwrap();
            for (window, length) in other.iter_mut().zip(LENGTHS) {
                for row in &mut window[length..] {
                    row[heads * width..].fill(1e3);
                }
            }

            let other = Tensor::new(other, &Device::Cpu).unwrap();
            assert_eq!(host(&kernels.attention(&other, &attention).unwrap()), host(&y));
        }
    }
}

#[test]
fn law_repeated_key_heads_are_groups() {
    let heads = 6;
    let key_heads = 2;
    let width = 4;
    let qkv = noise(&[2, 70, (heads + 2 * key_heads) * width], 1);
    let head = |column: usize| qkv.narrow(2, column * width, width).unwrap();
    let shared = |first: usize| (0..heads).map(move |h| first + h / (heads / key_heads));

    let columns = (0..heads).chain(shared(heads)).chain(shared(heads + key_heads));
    let repeated = Tensor::cat(&columns.map(head).collect::<Vec<_>>(), 2).unwrap();

    for mask in MASKS {
        let single = Attention::new(heads, mask);
        let grouped = Attention { key_heads, ..single };
        let y = Kernels::Fused.attention(&qkv, &grouped).unwrap();

        assert_eq!(host(&y), host(&Kernels::Fused.attention(&repeated, &single).unwrap()));
    }
}

#[test]
fn rejects_attention_of_wrong_shapes() {
    let qkv = noise(&[2, 4, 24], 1);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        let attend = |qkv: &Tensor, heads, key_heads| {
            kernels.attention(qkv, &Attention { key_heads, ..Attention::new(heads, Mask::Full) })
        };
        assert_rejected(attend(&qkv, 0, 0), &["multiple of that of key heads", "0 heads"]);
        assert_rejected(attend(&qkv, 4, 0), &["4 heads", "0 key heads"]);
        assert_rejected(attend(&qkv, 4, 3), &["4 heads", "3 key heads"]);
        assert_rejected(attend(&qkv, 2, 4), &["2 heads", "4 key heads"]);
        assert_rejected(attend(&qkv, 3, 3), &["3 heads + 2 x 3 key heads", "24"]);
        assert_rejected(attend(&qkv, 3, 1), &["3 heads + 2 x 1 key heads", "24"]);
        assert_rejected(attend(&noise(&[4, 24], 1), 2, 2), &["[4, 24]"]);

        let empty = Tensor::zeros((2, 0, 24), DType::F32, &Device::Cpu).unwrap();
        assert_rejected(attend(&empty, 2, 2), &["non-empty"]);

        let empty = Tensor::zeros((2, 4, 0), DType::F32, &Device::Cpu).unwrap();
        assert_rejected(attend(&empty, 2, 2), &["non-empty"]);
    }
}

#[test]
fn rejects_attention_of_wrong_lengths_and_dropout() {
    let qkv = noise(&[2, 4, 24], 1);

    for kernels in [Kernels::Fused, Kernels::Composed] {
        let attend = |lengths: &[usize]| {
            let attention = Attention { lengths: Some(lengths), ..Attention::new(2, Mask::Full) };
            let plain = kernels.attention_and_sums(&qkv, &attention).map(|[out, _]| out);
            assert_eq!(plain.is_err(), kernels.attention(&qkv, &attention).is_err());
            plain
        };

        assert_rejected(attend(&[4]), &["each of 2 windows", "got 1 lengths"]);
        assert_rejected(attend(&[]), &["each of 2 windows", "got 0 lengths"]);
        assert_rejected(attend(&[1, 2, 3]), &["got 3 lengths"]);
        assert_rejected(attend(&[4, 0]), &["1 to 4 tokens", "got 0 of window 1"]);
        assert_rejected(attend(&[5, 4]), &["1 to 4 tokens", "got 5 of window 0"]);

        let dropout = Some(Dropout { probability: 1.0, seed: 0, offset: 0 });
        let attention = Attention { dropout, ..Attention::new(2, Mask::Full) };
        assert_rejected(kernels.attention(&qkv, &attention), &["[0, 1)"]);
    }
}
