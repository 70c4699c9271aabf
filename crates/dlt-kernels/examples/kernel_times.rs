//! Milliseconds of each kernel, fused and composed, forward and backward: `cargo run --release --example kernel_times`.
#![allow(clippy::print_stdout, reason = "an example prints what it measures")]

use candle_core::{Device, Result, Tensor, Var};
use dlt_kernels::optimizer::{AdamwStep, squared_norm};
use dlt_kernels::{Dropout, Gelu, Kernels, Mask};
use std::time::Instant;

const BATCH: usize = 8;
const TOKENS: usize = 256;
const WIDTH: usize = 384;
const HEADS: usize = 6;
const VOCABULARY: usize = 50_257;
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let heads: Vec<&str> = vec!["kernel", "fused ms", "(forward)", "composed ms", "(forward)", "ratio"];
    println!("| {} |\n|---|---|---|---|---|---|", heads.join(" | "));
    let x = || values(&[BATCH, TOKENS, WIDTH]);
    let wide = || values(&[BATCH, TOKENS, 4 * WIDTH]);
    let dropout = Dropout { probability: 0.1, seed: 1, offset: 0 };
    differentiable(
        "linear C to 3C",
        vec![x()?, values(&[3 * WIDTH, WIDTH])?, values(&[3 * WIDTH])?],
        |k, t| k.linear(&t[0], &t[1], Some(&t[2])),
    )?;
    differentiable(
        "linear 4C to C",
        vec![wide()?, values(&[WIDTH, 4 * WIDTH])?, values(&[WIDTH])?],
        |k, t| k.linear(&t[0], &t[1], Some(&t[2])),
    )?;
    differentiable(
        "linear_gelu C to 4C",
        vec![x()?, values(&[4 * WIDTH, WIDTH])?, values(&[4 * WIDTH])?],
        |k, t| k.linear_gelu(&t[0], &t[1], Some(&t[2]), Gelu::Tanh),
    )?;
    differentiable("gelu tanh 4C", vec![wide()?], |k, t| k.gelu(&t[0], Gelu::Tanh))?;
    differentiable("gelu erf 4C", vec![wide()?], |k, t| k.gelu(&t[0], Gelu::Erf))?;
    differentiable("layer_norm", vec![x()?, values(&[WIDTH])?, values(&[WIDTH])?], |k, t| {
        k.layer_norm(&t[0], &t[1], &t[2], 1e-5)
    })?;
    differentiable("dropout", vec![x()?], |k, t| k.dropout(&t[0], dropout))?;
    for (name, mask, dropout) in [
        ("attention causal", Mask::Causal, None),
        ("attention full", Mask::Full, None),
        ("attention causal, dropout", Mask::Causal, Some(dropout)),
    ] {
        differentiable(name, vec![values(&[BATCH, TOKENS, 3 * WIDTH])?], |k, t| {
            k.attention(&t[0], HEADS, mask, dropout)
        })?;
    }
    let ids = ids(BATCH * TOKENS)?;
    differentiable("embedding", vec![values(&[VOCABULARY, WIDTH])?], |k, t| k.embedding(&t[0], &ids))?;
    let (hidden, table) = (values(&[BATCH * TOKENS, WIDTH])?, values(&[VOCABULARY, WIDTH])?);
    let into = table.zeros_like()?;
    plain("cross_entropy", |k| k.cross_entropy(&hidden, &table, &ids, 1e-3, Some(&into)).map(drop))?;
    plain("cross_entropy_sum", |k| k.cross_entropy_sum(&hidden, &table, &ids).map(drop))?;
    let gradient = values(&[BATCH * TOKENS, WIDTH])?;
    plain("embedding_gradient", |k| k.embedding_gradient(&into, &ids, &gradient))?;
    let (first, second) = (table.zeros_like()?, table.zeros_like()?);
    let step = AdamwStep {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        step: 1,
        gradient_scale: 1.0,
    };
    plain("adamw of V x C", |k| k.adamw(&table, &first, &second, &into, &step))?;
    plain("squared_norm of V x C", |k| match k {
        Kernels::Fused => squared_norm(&table).map(drop),
        Kernels::Composed => table.sqr()?.sum_all()?.to_scalar::<f32>().map(drop),
    })
}

fn values(shape: &[usize]) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / 4.3e9 - 0.5) / 4.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

fn ids(count: usize) -> Result<Tensor> {
    let ids: Vec<u32> =
        (0..count as u32).map(|i| i.wrapping_mul(2_654_435_761) % VOCABULARY as u32).collect();
    Tensor::from_vec(ids, count, &Device::Cpu)
}

fn differentiable(
    name: &str,
    inputs: Vec<Tensor>,
    f: impl Fn(Kernels, &[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let arguments: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let mut times = Vec::new();
    for kernels in [Kernels::Fused, Kernels::Composed] {
        f(kernels, &arguments)?.backward()?;
        let mut forward = Vec::new();
        let mut whole = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let y = f(kernels, &arguments)?;
            forward.push(start.elapsed().as_secs_f64() * 1e3);
            // Starts from a gradient of ones.
            let gradients = y.backward()?;
            whole.push(start.elapsed().as_secs_f64() * 1e3);
            drop(gradients);
        }
        times.push((best(whole), best(forward)));
    }
    report(name, &times);
    Ok(())
}

fn plain(name: &str, f: impl Fn(Kernels) -> Result<()>) -> Result<()> {
    let mut times = Vec::new();
    for kernels in [Kernels::Fused, Kernels::Composed] {
        f(kernels)?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS.min(3) {
            let start = Instant::now();
            f(kernels)?;
            rounds.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.push((best(rounds), f64::NAN));
    }
    report(name, &times);
    Ok(())
}

/// The least: what else runs on the machine only adds.
fn best(times: Vec<f64>) -> f64 {
    times.into_iter().fold(f64::INFINITY, f64::min)
}

fn report(name: &str, times: &[(f64, f64)]) {
    let ((fused, fused_forward), (composed, composed_forward)) = (times[0], times[1]);
    let ratio = composed / fused;
    println!(
        "| {name} | {fused:.2} | {fused_forward:.2} | {composed:.2} | {composed_forward:.2} | {ratio:.1} |"
    );
}
