//! Activations of bf16 over f32 weights. The result of an operation is that of the same numbers in
//! f32, rounded. What it adds to gradients of weights is not rounded.

use crate::reference::*;
use candle_core::{DType, Device, Result, Tensor};
use dlt_kernels::optimizer::{self, AdamwStep};
use dlt_kernels::{
    Attention, Dropout, Gelu, HeadSums, Kernels, KeyValues, Mask, Packs, Projection, Rotary, Weight,
};

const KERNELS: [Kernels; 2] = [Kernels::Fused, Kernels::Composed];

fn narrow(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::BF16).unwrap()
}

fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F32).unwrap()
}

/// Activations that are numbers of bf16.
fn held(shape: &[usize], seed: u64) -> Tensor {
    narrow(&noise(shape, seed))
}

/// Runs `f` on activations and on the same numbers in f32. Only the first `rounded` results are
/// activations.
fn check(
    what: &str,
    activations: &[Tensor],
    rounded: usize,
    f: impl Fn(Kernels, &[Tensor]) -> Result<Vec<Tensor>>,
) {
    check_to(what, 0.0, activations, rounded, f);
}

/// [`check`] of an operation with products. Its fused loops round what they multiply to bf16, so
/// their results may differ by `tolerance` of the largest number.
fn check_to(
    what: &str,
    tolerance: f64,
    activations: &[Tensor],
    rounded: usize,
    f: impl Fn(Kernels, &[Tensor]) -> Result<Vec<Tensor>>,
) {
    for kernels in KERNELS {
        let got = f(kernels, activations).unwrap();
        let expected = f(kernels, &activations.iter().map(wide).collect::<Vec<_>>()).unwrap();
        assert_eq!(got.len(), expected.len(), "{what}");

        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let what = format!("{what} {kernels:?} result {i}");
            assert_eq!(expected.dtype(), DType::F32, "{what}");

            let (dtype, expected) = if i < rounded {
                (DType::BF16, narrow(expected))
            } else {
                (DType::F32, expected.clone())
            };

            assert_eq!((got.dtype(), got.dims()), (dtype, expected.dims()), "{what}");
            if kernels == Kernels::Composed || tolerance == 0.0 {
                assert_eq!(bits(got), bits(&expected), "{what}");
                continue;
            }

            let (got, expected) = (host(got), host(&expected));
            let most = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let apart = (got - expected).abs();
                assert!(apart <= tolerance * most, "{what}: {got}, not {expected}, at {at}");
            }
        }
    }
}

/// The bits of all numbers; those of NaN are always the same.
fn bits(tensor: &Tensor) -> Vec<u64> {
    let bits = |x: f64| if x.is_nan() { u64::MAX } else { x.to_bits() };
    host(tensor).into_iter().map(bits).collect()
}

/// [`held`], with numbers that are none, infinite, of no size or of the largest size in its last
/// row.
fn extreme(shape: &[usize], seed: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let mut x = host(&held(shape, seed));
    let row = count - shape[shape.len() - 1];
    let last = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e-40, -3e38, 3e38];
    for (at, special) in last.into_iter().enumerate() {
        // Neither at the same places as with another seed, nor next to each other.
        let place = row + (5 * at + seed as usize) % (count - row);
        x[place] = special;
    }

    narrow(&Tensor::from_vec(x, shape, &Device::Cpu).unwrap())
}

#[test]
fn law_a_narrow_affine_map_is_the_wide_one_rounded() {
    // Few rows, which are multiplied in f32, and more than a block of each dimension.
    for [windows, tokens, inputs, outputs] in [[1, 3, 5, 11], [3, 7, 5, 11], [2, 67, 75, 140]] {
        let weight = wide(&held(&[outputs, inputs], 2));
        let bias = noise(&[outputs], 3);
        let x = held(&[windows, tokens, inputs], 1);
        let gradient = held(&[windows, tokens, outputs], 4);

        // Only results are rounded: by half of the last of 8 bits.
        check_to("linear", 1.0 / 256.0, &[x, gradient], 2, |k, t| {
            let mut sums = (None, None);
            // The second time, the sums already exist.
            for _ in 0..2 {
                k.linear_weight_gradient(&t[0], &t[1], &mut sums.0)?;
                k.linear_bias_gradient(&t[1], &mut sums.1)?;
            }

            // The packed weight of the second product is that of the first.
            let packs = Packs::default();
            let kept = Weight::kept(&weight, Some(&packs));
            let values =
                [k.linear(&t[0], &weight, Some(&bias))?, k.linear_input_gradient(&weight, &t[1])?];
            for _ in 0..2 {
                assert_eq!(bits(&k.linear(&t[0], kept, Some(&bias))?), bits(&values[0]));
                assert_eq!(bits(&k.linear_input_gradient(kept, &t[1])?), bits(&values[1]));
            }

            Ok([values.to_vec(), vec![sums.0.unwrap(), sums.1.unwrap()]].concat())
        });
    }

    let weight = noise(&[11, 5], 2);
    let bias = noise(&[11], 3);
    let x = held(&[3, 7, 5], 1);
    for kernels in KERNELS {
        // GELU is applied to the rounded map, so that it can be computed again.
        let [before, after] =
            kernels.linear_then_gelu(&x, &weight, Some(&bias), Gelu::Erf).unwrap();
        assert_eq!(host(&before), host(&kernels.linear(&x, &weight, Some(&bias)).unwrap()));
        assert_eq!(host(&after), host(&kernels.gelu(&before, Gelu::Erf).unwrap()));

        assert_eq!(
            host(&after),
            host(&kernels.linear_gelu(&x, &weight, Some(&bias), Gelu::Erf).unwrap())
        );
        assert_eq!([before.dtype(), after.dtype()], [DType::BF16; 2]);
    }
}

#[test]
fn law_narrow_norms_are_the_wide_ones_rounded() {
    let weight = noise(&[10], 2);
    let bias = noise(&[10], 3);

    check("norms", &[held(&[4, 6, 10], 1), held(&[4, 6, 10], 4)], 4, |k, t| {
        let mut of_weight = None;
        let mut of_bias = None;
        let mut of_size = None;
        let sums = Some([&mut of_weight, &mut of_bias]);
        let layer = k.layer_norm_gradient(&t[0], &weight, 1e-5, &t[1], sums)?;
        let size = k.rms_norm_gradient(&t[0], &weight, 1e-5, &t[1], Some(&mut of_size))?;

        let values =
            [k.layer_norm(&t[0], &weight, &bias, 1e-5)?, k.rms_norm(&t[0], &weight, 1e-5)?];
        Ok([
            values.to_vec(),
            vec![layer, size],
            [of_weight, of_bias, of_size].map(Option::unwrap).to_vec(),
        ]
        .concat())
    });
}

#[test]
fn law_narrow_elements_are_the_wide_ones_rounded() {
    let dropout = Dropout { probability: 0.3, seed: 5, offset: 11 };
    let rotary = Rotary::new(4, 100.0, None).unwrap();

    check(
        "elements",
        &[held(&[2, 5, 12], 1), held(&[2, 5, 12], 2), held(&[2, 5, 6], 3)],
        11,
        |k, t| {
            Ok(vec![
                k.gelu(&t[0], Gelu::Tanh)?,
                k.gelu_gradient(&t[0], Gelu::Tanh, &t[1])?,
                k.swiglu(&t[0])?,
                k.swiglu_gradient(&t[0], &t[2])?,
                k.dropout(&t[0], dropout)?,
                k.rotate(&t[0], 2, &rotary, &[3, 0])?,
                k.rotate_gradient(&t[0], 2, &rotary, &[])?,
                k.add(&t[0], &t[1])?,
                k.scaled(&t[0], 1.0 / 3.0)?,
                k.add_scaled(&t[0], &t[1], 1.0 / 3.0)?,
                k.add_rows(&t[0], &noise(&[7, 12], 4))?,
            ])
        },
    );
}

/// Shapes of a row and of many, of rows that are longer than what is widened at once, and of more
/// than one thread's work.
const SHAPES: [[usize; 2]; 6] = [[1, 2], [3, 14], [5, 2_050], [2, 5_002], [70, 306], [1, 40_006]];

#[test]
fn law_narrow_elements_of_every_size_are_the_wide_ones_rounded() {
    let dropout = Dropout { probability: 0.3, seed: 5, offset: u64::from(u32::MAX) - 1_000 };

    for shape in SHAPES {
        let inputs = [extreme(&shape, 1), extreme(&shape, 2)];
        check(&format!("{shape:?}"), &inputs, 8, |k, t| {
            Ok(vec![
                k.gelu(&t[0], Gelu::Tanh)?,
                k.gelu(&t[0], Gelu::Erf)?,
                k.gelu_gradient(&t[0], Gelu::Tanh, &t[1])?,
                k.gelu_gradient(&t[0], Gelu::Erf, &t[1])?,
                k.dropout(&t[0], dropout)?,
                k.add(&t[0], &t[1])?,
                k.scaled(&t[0], 1.0 / 3.0)?,
                k.add_scaled(&t[0], &t[1], 1.0 / 3.0)?,
            ])
        });
    }

    let empty = narrow(&Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap());
    let scalar = narrow(&Tensor::new(1.25f32, &Device::Cpu).unwrap());
    for x in [empty, scalar] {
        check("no row", &[x], 2, |k, t| Ok(vec![k.scaled(&t[0], 3.0)?, k.add(&t[0], &t[0])?]));
    }
}

#[test]
fn law_narrow_rows_of_every_size_are_the_wide_ones_rounded() {
    for shape in SHAPES {
        for make in [held, extreme] {
            let inputs = [make(&shape, 1), make(&shape, 2), make(&[shape[0], shape[1] / 2], 3)];
            check(&format!("{shape:?}"), &inputs, 6, rows_of);
        }
    }
}

/// Six results for rows, then sums over all rows.
fn rows_of(k: Kernels, t: &[Tensor]) -> Result<Vec<Tensor>> {
    let width = t[0].dim(1)?;
    let [weight, bias] = [noise(&[width], 4), noise(&[width], 5)];
    let mut layer = [None, None];
    let mut size = None;
    // A later pass adds to sums that already exist.
    let mut sum = Some(noise(&[width], 6));
    k.linear_bias_gradient(&t[1], &mut sum)?;

    let [of_weight, of_bias] = &mut layer;
    let values = vec![
        k.layer_norm(&t[0], &weight, &bias, 1e-5)?,
        k.layer_norm_gradient(&t[0], &weight, 1e-5, &t[1], Some([of_weight, of_bias]))?,
        k.rms_norm(&t[0], &weight, 1e-5)?,
        k.rms_norm_gradient(&t[0], &weight, 1e-5, &t[1], Some(&mut size))?,
        k.swiglu(&t[0])?,
        k.swiglu_gradient(&t[0], &t[2])?,
    ];

    Ok(values.into_iter().chain(layer.into_iter().chain([size, sum]).flatten()).collect())
}

#[test]
fn law_narrow_windows_of_every_size_are_the_wide_ones_rounded() {
    let rotary = Rotary::new(6, 100.0, None).unwrap();

    for [windows, tokens, width] in [[1, 1, 6], [3, 5, 14], [2, 1, 2_054], [2, 40, 306]] {
        for make in [held, extreme] {
            let x = make(&[windows, tokens, width], 1);
            let first: Vec<usize> = (0..windows).map(|window| 3 * window).collect();
            let places = ids(&[windows, tokens], 4, 7);

            check(&format!("{:?}", x.dims()), &[x], 3, |k, t| {
                let heads = width / 6;
                // A table with more rows than a window.
                let table = noise(&[tokens + 2, width], 3);
                let sum = noise(&[tokens + 2, width], 4);
                let rows = noise(&[4, width], 5);

                let values = vec![
                    k.rotate(&t[0], heads, &rotary, &first)?,
                    k.rotate_gradient(&t[0], heads, &rotary, &[])?,
                    k.add_rows(&t[0], &table)?,
                ];
                k.add_rows_gradient(&t[0], &sum)?;
                k.embedding_gradient(&rows, &places, &t[0])?;
                Ok([values, vec![sum, rows]].concat())
            });
        }
    }
}

/// The work between two steps, on gradients that an extension might have narrowed.
#[test]
fn law_narrow_gradients_step_as_the_wide_ones() {
    let step = AdamwStep {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        gradient_scale: 0.5,
    };

    for shape in [[1, 3], [3, 45_007]] {
        check(&format!("{shape:?}"), &[held(&shape, 1)], 0, |k, t| {
            let [parameter, first, second] = [2, 3, 4].map(|seed| noise(&shape, seed));
            let second = second.sqr()?;
            k.adamw(&parameter, &first, &second, &t[0], &step)?;

            let sum = noise(&shape, 5);
            optimizer::add_in_place(&sum, &t[0])?;
            let sketch = k.sketch(&[&t[0], &t[0]], 7)?.to_dtype(DType::F32)?;
            Ok(vec![parameter, first, second, sum, sketch])
        });

        let narrow = held(&shape, 1);
        let pieces = optimizer::squared_pieces(&narrow).unwrap();
        assert_eq!(pieces, optimizer::squared_pieces(&wide(&narrow)).unwrap(), "{shape:?}");
    }
}

#[test]
fn law_narrow_attention_is_the_wide_one_rounded_and_its_sums_are_f32() {
    for [tokens, width] in [[6, 4], [150, 20]] {
        let lengths = [tokens, tokens / 2];
        let dropout = Some(Dropout { probability: 0.2, seed: 5, offset: 0 });
        let plain = Attention { key_heads: 2, dropout, ..Attention::new(4, Mask::Causal) };
        let padded = Attention { lengths: Some(&lengths), ..Attention::new(1, Mask::Full) };

        for attention in [plain, padded] {
            let columns = width * (attention.heads + 2 * attention.key_heads);
            let out = width * attention.heads;
            let qkv = held(&[2, tokens, columns], 1);

            // Probabilities are rounded too.
            check_to("attention", 1.0 / 64.0, std::slice::from_ref(&qkv), 2, |k, t| {
                let [value, sums] = k.attention_and_sums(&t[0], &attention)?;
                Ok(vec![value, k.attention(&t[0], &attention)?, sums])
            });

            let gradient = held(&[2, tokens, out], 3);
            check_to("attention's gradient", 1.0 / 64.0, &[qkv, gradient], 1, |k, t| {
                // The backward pass reads the rounded result in both cases.
                let [value, sums] = k.attention_and_sums(&t[0], &attention)?;
                let value = narrow(&value).to_dtype(t[0].dtype())?;
                Ok(vec![k.attention_gradient(&t[0], [&value, &sums], &attention, &t[1])?])
            });
        }
    }
}

/// Keys and values that a cache holds in f32 are those that attention over whole sequences sees.
#[test]
fn law_a_wide_cache_continues_with_narrow_tokens() {
    let attention = Attention { key_heads: 1, ..Attention::new(2, Mask::Causal) };
    let qkv = held(&[2, 6, 16], 1);

    for kernels in KERNELS {
        let whole = kernels.attention(&qkv, &attention).unwrap();
        let mut cache = KeyValues::new(2, 6, 1, 4, DType::F32, &Device::Cpu).unwrap();
        let mut parts = Vec::new();

        for (start, tokens) in [(0, 3), (3, 1), (4, 2)] {
            let part = qkv.narrow(1, start, tokens).unwrap();
            parts.push(kernels.attend_cached(&part, &mut cache, &[0, 1], 2).unwrap());
        }

        let got = Tensor::cat(&parts, 1).unwrap();
        assert_eq!(got.dtype(), DType::BF16);

        // Half of bf16's last bit: sums in another order may round to the other side.
        assert_close("cached", &got, &whole, 1.0 / 256.0);
        let mut narrow_cache = KeyValues::new(2, 6, 1, 4, DType::BF16, &Device::Cpu).unwrap();
        let refused =
            kernels.attend_cached(&wide(&qkv), &mut narrow_cache, &[0, 1], 2).unwrap_err();

        assert!(refused.to_string().contains("expected BF16"), "{refused}");
    }
}

#[test]
fn law_sums_of_narrow_gradients_are_f32() {
    let tokens = ids(&[2, 5], 7, 9);
    check("tables", &[held(&[2, 5, 12], 1)], 0, |k, t| {
        let table = noise(&[7, 12], 2);
        let positions = noise(&[6, 12], 3);
        k.embedding_gradient(&table, &tokens, &t[0])?;
        k.add_rows_gradient(&t[0], &positions)?;
        optimizer::add_in_place(&positions, &t[0].flatten_to(1)?.narrow(0, 0, 6)?)?;
        Ok(vec![table, positions])
    });

    // The second vocabulary has several chunks, the last one with fewer entries.
    for [rows, width, vocabulary] in [[10, 12, 9], [70, 40, 2500]] {
        let table = wide(&held(&[vocabulary, width], 2));
        let bias = noise(&[vocabulary], 3);
        let targets = ids(&[rows], vocabulary as u32, 4);
        let projection = Projection { table: &table, bias: Some(&bias) };

        check_to("loss", 1.0 / 128.0, &[held(&[rows, width], 1)], 1, |k, t| {
            let sums = HeadSums::default();
            let made = k.cross_entropy(&t[0], projection, &targets, 0.1, sums)?;
            let bias = made.bias.unwrap();
            let plain = Projection { bias: None, ..projection };
            let again = HeadSums { table: Some(&made.table), bias: Some(&bias) };
            k.cross_entropy(&t[0], projection, &targets, 0.1, again)?;

            let losses = [
                made.loss_sum,
                k.cross_entropy_sum(&t[0], projection, &targets)?,
                k.cross_entropy_sum(&t[0], plain, &targets)?,
            ];
            let losses = Tensor::new(&losses.map(|loss| loss as f32), &Device::Cpu)?;
            Ok(vec![made.hidden, made.table, bias, losses])
        });
    }
}
