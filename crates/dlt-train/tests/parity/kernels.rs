//! Every operation: values and gradients, without autograd, as training calls them.

use candle_core::{DType, Device, Result, Tensor};
use dlt_kernels::optimizer::{AdamwStep, add_in_place, squared_norm};
use dlt_kernels::{
    Attention, Dropout, Gelu, HeadGradients, HeadSums, Kernels, KeyValues, Mask, Projection, Rotary,
};

use crate::comparison::{Comparisons, Side, ids, noise};

/// f32 keeps 24 bits, and sums of some hundred products lose up to four of them. Relative to the
/// largest element.
const TOLERANCE: f64 = 1e-5;

const EPSILON: f64 = 1e-5;
const DROPOUT: Dropout = Dropout { probability: 0.3, seed: 5, offset: 77 };

type Run = Box<dyn Fn(Kernels, &[Tensor]) -> Result<Vec<Tensor>>>;

/// An operation with its inputs. It returns all values, then all gradients.
struct Case {
    what: String,
    inputs: Vec<Tensor>,
    run: Run,
}

fn case(
    what: impl Into<String>,
    inputs: Vec<Tensor>,
    run: impl Fn(Kernels, &[Tensor]) -> Result<Vec<Tensor>> + 'static,
) -> Case {
    Case { what: what.into(), inputs, run: Box::new(run) }
}

/// A sum that was requested.
fn made(sum: Option<Tensor>) -> Result<Tensor> {
    sum.ok_or_else(|| candle_core::Error::Msg("expected a gradient, got none".to_owned()))
}

fn scalar(value: f64) -> Result<Tensor> {
    Tensor::new(&[value], &Device::Cpu)
}

/// Products and the operations after them.
fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, inputs, outputs) in [(21, 5, 11), (233, 96, 101), (1, 1, 3), (64, 128, 256)] {
        let arguments = || {
            let up = noise(&[rows, outputs], 4);
            vec![noise(&[rows, inputs], 1), noise(&[outputs, inputs], 2), noise(&[outputs], 3), up]
        };

        let what = format!("linear {rows} x {inputs} x {outputs}");
        cases.push(case(what, arguments(), |k, t| {
            let mut weight = None;
            let mut bias = None;
            let values = [k.linear(&t[0], &t[1], Some(&t[2]))?, k.linear(&t[0], &t[1], None)?];

            // Twice, because sums must add to what the buffer holds.
            for _ in 0..2 {
                k.linear_weight_gradient(&t[0], &t[3], &mut weight)?;
                k.linear_bias_gradient(&t[3], &mut bias)?;
            }

            let of_input = k.linear_input_gradient(&t[1], &t[3])?;
            Ok([values.to_vec(), vec![of_input, made(weight)?, made(bias)?]].concat())
        }));

        for kind in [Gelu::Tanh, Gelu::Erf] {
            let what = format!("linear and gelu {kind:?} {rows} x {inputs} x {outputs}");
            cases.push(case(what, arguments(), move |k, t| {
                let [before, after] = k.linear_then_gelu(&t[0], &t[1], Some(&t[2]), kind)?;
                let of_before = k.gelu_gradient(&before, kind, &t[3])?;
                Ok(vec![k.gelu(&before, kind)?, before, after, of_before])
            }));
        }
    }

    cases.push(case("swiglu", vec![noise(&[3, 7, 26], 1), noise(&[3, 7, 13], 2)], |k, t| {
        Ok(vec![k.swiglu(&t[0])?, k.swiglu_gradient(&t[0], &t[1])?])
    }));

    cases
}

fn norms() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, width) in [(21, 25), (33, 101), (2, 1024)] {
        let arguments = || {
            let up = noise(&[rows, width], 4);
            vec![noise(&[rows, width], 1), noise(&[width], 2), noise(&[width], 3), up]
        };

        cases.push(case(format!("layer_norm {rows} x {width}"), arguments(), |k, t| {
            let mut weight = None;
            let mut bias = None;
            let sums = Some([&mut weight, &mut bias]);
            let of_x = k.layer_norm_gradient(&t[0], &t[1], EPSILON, &t[3], sums)?;
            let value = k.layer_norm(&t[0], &t[1], &t[2], EPSILON)?;

            Ok(vec![value, of_x, made(weight)?, made(bias)?])
        }));

        cases.push(case(format!("rms_norm {rows} x {width}"), arguments(), |k, t| {
            let mut weight = None;
            let of_x = k.rms_norm_gradient(&t[0], &t[1], EPSILON, &t[3], Some(&mut weight))?;
            Ok(vec![k.rms_norm(&t[0], &t[1], EPSILON)?, of_x, made(weight)?])
        }));
    }

    cases
}

fn attentions() -> Vec<Case> {
    let mut cases = Vec::new();
    for (batch, tokens, heads, key_heads, width) in
        [(2, 7, 3, 3, 5), (1, 130, 2, 2, 64), (3, 71, 6, 2, 8)]
    {
        for mask in [Mask::Causal, Mask::Full] {
            for (dropout, is_padded) in [(None, false), (Some(DROPOUT), false), (None, true)] {
                let what = format!(
                    "attention {batch} x {tokens} x {heads}/{key_heads} x {width} {mask:?}{}{}",
                    if dropout.is_some() { " dropout" } else { "" },
                    if is_padded { " padded" } else { "" }
                );
                let qkv = noise(&[batch, tokens, (heads + 2 * key_heads) * width], 1);

                let up = noise(&[batch, tokens, heads * width], 2);
                let lengths: Vec<usize> = (0..batch).map(|window| tokens - window * 2).collect();
                cases.push(case(what, vec![qkv, up], move |k, t| {
                    let lengths = is_padded.then_some(lengths.as_slice());
                    let attention = Attention { heads, key_heads, mask, lengths, dropout };
                    let [out, sums] = k.attention_and_sums(&t[0], &attention)?;
                    let gradient = k.attention_gradient(&t[0], [&out, &sums], &attention, &t[1])?;

                    Ok(vec![k.attention(&t[0], &attention)?, out, gradient])
                }));
            }
        }
    }

    cases.push(case(
        "attend_cached",
        vec![noise(&[2, 5, 40], 1), noise(&[2, 1, 40], 2), noise(&[1, 1, 40], 3)],
        |k, t| {
            let mut cache = KeyValues::new(2, 9, 2, 5, DType::F32, t[0].device())?;
            let first = k.attend_cached(&t[0], &mut cache, &[0, 1], 4)?;
            let second = k.attend_cached(&t[1], &mut cache, &[1, 0], 4)?;

            Ok(vec![first, second, k.attend_cached(&t[2], &mut cache, &[1], 4)?])
        },
    ));

    for first in [vec![], vec![5, 0, 1023]] {
        let inputs = vec![noise(&[3, 7, 45], 1), noise(&[3, 7, 45], 2)];
        cases.push(case(format!("rotate from {first:?}"), inputs, move |k, t| {
            let rotary = Rotary::new(10, 10_000.0, None)?;
            let gradient = k.rotate_gradient(&t[1], 4, &rotary, &first)?;
            Ok(vec![k.rotate(&t[0], 4, &rotary, &first)?, gradient])
        }));
    }

    cases
}

fn tables() -> Vec<Case> {
    let inputs = vec![noise(&[31, 12], 1), ids(&[2, 9], 31, 2), noise(&[2, 9, 12], 3)];
    let embedding = case("embedding", inputs, |k, t| {
        let into = t[0].copy()?;
        k.embedding_gradient(&into, &t[1], &t[2])?;
        Ok(vec![k.embedding(&t[0], &t[1])?, into])
    });

    let rows = case("add_rows", vec![noise(&[3, 4, 6], 1), noise(&[9, 6], 2)], |k, t| {
        let into = t[1].copy()?;
        k.add_rows_gradient(&t[0], &into)?;
        Ok(vec![k.add_rows(&t[0], &t[1])?, into])
    });

    let dropout =
        case("dropout", vec![noise(&[5, 33], 1)], |k, t| Ok(vec![k.dropout(&t[0], DROPOUT)?]));
    let add = case("add", vec![noise(&[7, 5], 1), noise(&[5, 7], 2)], |k, t| {
        let sum = k.add(&t[0], &t[1].t()?)?;
        let into = t[0].copy()?;
        add_in_place(&into, &t[1].t()?.contiguous()?)?;
        Ok(vec![sum, into])
    });

    let scaled = case("add_scaled", vec![noise(&[7, 5], 1), noise(&[5, 7], 2)], |k, t| {
        Ok(vec![k.scaled(&t[1].t()?, 1.0 / 3.0)?, k.add_scaled(&t[0], &t[1].t()?, 1.0 / 3.0)?])
    });

    vec![embedding, rows, dropout, add, scaled]
}

fn losses() -> Vec<Case> {
    let mut cases = Vec::new();
    // More rows than the composed path processes at a time, and more entries than a block of
    // threads has.
    for (rows, width, vocabulary) in [(18, 12, 31), (300, 24, 1500)] {
        let table = noise(&[vocabulary, width], 2);
        let inputs = vec![
            noise(&[rows, width], 1),
            table,
            noise(&[vocabulary], 3),
            ids(&[rows], vocabulary as u32, 4),
            noise(&[vocabulary, width], 5),
        ];

        cases.push(case(
            format!("cross_entropy {rows} x {width} x {vocabulary}"),
            inputs,
            |k, t| {
                let mut all = Vec::new();
                for bias in [None, Some(&t[2])] {
                    let projection = Projection { table: &t[1], bias };
                    let into = t[4].copy()?;
                    let sums = HeadSums { table: Some(&into), bias: None };
                    let found = k.cross_entropy(&t[0], projection, &t[3], 0.25, sums)?;
                    let HeadGradients { loss_sum, hidden, table, bias } = found;
                    let evaluated = k.cross_entropy_sum(&t[0], projection, &t[3])?;

                    all.extend([scalar(loss_sum)?, scalar(evaluated)?, hidden, table]);
                    all.extend(bias);
                }

                Ok(all)
            },
        ));
    }

    cases
}

fn sketches() -> Vec<Case> {
    let inputs = vec![noise(&[70, 300], 1), noise(&[33], 2), noise(&[20, 70], 3)];
    vec![case("sketch".to_owned(), inputs, |k, t| {
        // Also a matrix whose rows are not adjacent.
        let narrow = t[1].to_dtype(DType::BF16)?;
        Ok(vec![k.sketch(&[&t[0], &t[1], &t[2].t()?], 5)?, k.sketch(&[&narrow], u64::MAX)?])
    })]
}

fn steps() -> Vec<Case> {
    [(0.0, 1), (0.1, 7)]
        .map(|(weight_decay, step)| {
            let second = noise(&[70, 33], 3).abs().expect("memory");
            let inputs =
                vec![noise(&[70, 33], 1), noise(&[70, 33], 2), second, noise(&[70, 33], 4)];
            case(format!("adamw step {step}"), inputs, move |k, t| {
                let [parameter, first, second] = [t[0].copy()?, t[1].copy()?, t[2].copy()?];
                let step = AdamwStep {
                    learning_rate: 0.01,
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                    weight_decay,
                    step,
                    gradient_scale: 0.5,
                };

                k.adamw(&parameter, &first, &second, &t[3], &step)?;
                Ok(vec![parameter, first, second, scalar(squared_norm(&t[3])?)?])
            })
        })
        .into()
}

#[test]
fn matches_reference_every_operation() {
    let cpu = Side::cpu();
    let mut comparisons = Comparisons::default();

    for Case { what, inputs, run } in
        [products(), norms(), attentions(), tables(), losses(), sketches(), steps()]
            .into_iter()
            .flatten()
    {
        let expected = run(cpu.kernels, &inputs).expect("the CPU computes everything");
        for side in Side::compared() {
            let got = side.moved(&inputs).and_then(|inputs| run(side.kernels, &inputs));
            comparisons.compare(&what, &side, got, &expected, TOLERANCE);
        }
    }

    comparisons.finish();
}
