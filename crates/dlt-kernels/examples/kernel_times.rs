//! Milliseconds of each kernel, fused and composed, compared with its floor: `cargo run --release
//! --example kernel_times`.
//!
//! Every row is one pass of one kernel. The floor is the time that no implementation on this
//! machine can beat: the larger of its matrix operations at the matrix rate and its bytes at the
//! copy rate, both measured in this process. The bytes are those that must move: each input is read
//! once, each result is written once, and what the forward pass leaves for the backward pass is
//! written once. The last rows are linear maps in f32 and in bf16 on one thread, against the best
//! rate of products in that format on one thread. With `--json` each row is a line of JSON, after a
//! first line with the rates.
#![allow(clippy::print_stdout, reason = "an example prints what it measures")]

use candle_core::{DType, Device, Result, Tensor, bail};
use dlt_kernels::optimizer::{AdamwStep, squared_norm};
use dlt_kernels::{Attention, Dropout, Gelu, HeadSums, Kernels, Mask, Projection, product_engine};
use rayon::prelude::*;
use std::time::Instant;

const BATCH: usize = 8;
const TOKENS: usize = 256;
const WIDTH: usize = 384;
const HEADS: usize = 6;
const VOCABULARY: usize = 50_257;
const ROWS: usize = BATCH * TOKENS;
/// Rounds of one row of the table; the fastest counts.
const ROUNDS: usize = 7;
/// Rounds of a slow kernel.
const LONG_ROUNDS: usize = 3;
const FLOAT: usize = size_of::<f32>();
/// Rows, inputs and outputs of the linear maps on one thread.
const PRODUCTS: [[usize; 3]; 2] = [[2048, 384, 1536], [2048, 768, 3072]];
/// Formats of their activations; weights are f32.
const FORMATS: [DType; 2] = [DType::F32, DType::BF16];

fn main() -> Result<()> {
    let report = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => Report::Table,
        [only] if only == "--json" => Report::Lines,
        other => bail!("kernel_times: expected nothing or --json, got {other:?}"),
    };

    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let one_thread = one_thread.map_err(candle_core::Error::wrap)?;
    let [f32_rate, bf16_rate] = FORMATS.map(|format| one_thread.install(|| matrix_rate(format)));
    let one_thread_rates = [f32_rate?, bf16_rate?];

    let bench = Bench { report, matrix_rate: matrix_rate(DType::F32)?, product: None };
    bench.print_rates(one_thread_rates);
    linear(&bench)?;
    pointwise(&bench)?;
    attention(&bench)?;
    vocabulary(&bench)?;

    optimizer(&bench)?;

    one_thread.install(|| products(report, one_thread_rates))
}

fn linear(bench: &Bench) -> Result<()> {
    for (name, inputs, outputs, gelu) in [
        ("linear C to 3C", WIDTH, 3 * WIDTH, false),
        ("linear 4C to C", 4 * WIDTH, WIDTH, false),
        ("linear_gelu C to 4C", WIDTH, 4 * WIDTH, true),
    ] {
        let x = &values(&[ROWS, inputs])?;
        let weight = &values(&[outputs, inputs])?;
        let bias = &values(&[outputs])?;
        let product = 2.0 * (ROWS * inputs * outputs) as f64;
        let x_floats = ROWS * inputs;
        let y_floats = ROWS * outputs;
        let weights = (inputs + 1) * outputs;

        // The map before the activation is left for the backward pass.
        let left = if gelu { y_floats } else { 0 };
        let costs = [
            Cost::new(product, x_floats + weights + y_floats + left),
            Cost::new(2.0 * product, y_floats + left + 2 * x_floats + 2 * weights),
        ];
        let shape = format!("[{ROWS}, {inputs}] x [{outputs}, {inputs}]");

        let forward = |k: Kernels| {
            if gelu {
                let [before, after] = k.linear_then_gelu(x, weight, Some(bias), Gelu::Tanh)?;
                Ok(vec![after, before])
            } else {
                Ok(vec![k.linear(x, weight, Some(bias))?])
            }
        };

        bench.differentiable(name, &shape, costs, forward, |k, kept, up| {
            let of_map = match kept {
                [_, before] => &k.gelu_gradient(before, Gelu::Tanh, up)?,
                _ => up,
            };

            let mut of_weight = None;
            let mut of_bias = None;
            k.linear_weight_gradient(x, of_map, &mut of_weight)?;
            k.linear_bias_gradient(of_map, &mut of_bias)?;
            let of_x = k.linear_input_gradient(weight, of_map)?;
            Ok([Some(of_x), of_weight, of_bias].into_iter().flatten().collect())
        })?;
    }

    Ok(())
}

fn pointwise(bench: &Bench) -> Result<()> {
    let wide = &values(&[ROWS, 4 * WIDTH])?;
    let narrow = &values(&[ROWS, WIDTH])?;
    let weight = &values(&[WIDTH])?;
    let bias = &values(&[WIDTH])?;
    let x = ROWS * WIDTH;
    let x_wide = ROWS * 4 * WIDTH;

    for (name, kind) in [("gelu tanh", Gelu::Tanh), ("gelu erf", Gelu::Erf)] {
        let costs = [Cost::new(0.0, 2 * x_wide), Cost::new(0.0, 3 * x_wide)];
        let shape = format!("[{ROWS}, {}]", 4 * WIDTH);
        bench.differentiable(
            name,
            &shape,
            costs,
            |k| Ok(vec![k.gelu(wide, kind)?]),
            |k, _, up| Ok(vec![k.gelu_gradient(wide, kind, up)?]),
        )?;
    }

    let shape = format!("[{ROWS}, {WIDTH}]");
    let costs = [Cost::new(0.0, 2 * x), Cost::new(0.0, 3 * x)];
    bench.differentiable(
        "layer_norm",
        &shape,
        costs,
        |k| Ok(vec![k.layer_norm(narrow, weight, bias, 1e-5)?]),
        |k, _, up| {
            let mut of_weight = None;
            let mut of_bias = None;
            let sums = Some([&mut of_weight, &mut of_bias]);
            let of_x = k.layer_norm_gradient(narrow, weight, 1e-5, up, sums)?;
            Ok([Some(of_x), of_weight, of_bias].into_iter().flatten().collect())
        },
    )?;

    let costs = [Cost::new(0.0, 2 * x), Cost::new(0.0, 2 * x)];
    bench.differentiable(
        "dropout",
        &shape,
        costs,
        |k| Ok(vec![k.dropout(narrow, DROPOUT)?]),
        |k, _, up| Ok(vec![k.dropout(up, DROPOUT)?]),
    )
}

/// Linear maps in each format, on the threads that call it.
fn products(report: Report, rates: [f64; 2]) -> Result<()> {
    for shape @ [rows, inputs, outputs] in PRODUCTS {
        for (format, matrix_rate) in FORMATS.into_iter().zip(rates) {
            let x = &values(&[rows, inputs])?.to_dtype(format)?;
            let weight = &values(&[outputs, inputs])?;
            let operations = 2.0 * (rows * inputs * outputs) as f64;
            let [x_bytes, y_bytes] =
                [inputs, outputs].map(|columns| rows * columns * format.size_in_bytes());
            let weight_bytes = inputs * outputs * FLOAT;
            let costs = [
                Cost::of_bytes(operations, x_bytes + weight_bytes + y_bytes),
                Cost::of_bytes(2.0 * operations, y_bytes + 2 * x_bytes + 2 * weight_bytes),
            ];

            let bench = Bench { report, matrix_rate, product: Some((shape, format)) };
            bench.differentiable(
                &format!("linear {}", format.as_str()),
                &format!("[{rows}, {inputs}] x [{outputs}, {inputs}]"),
                costs,
                |k| Ok(vec![k.linear(x, weight, None)?]),
                |k, _, up| {
                    let mut of_weight = None;
                    k.linear_weight_gradient(x, up, &mut of_weight)?;
                    let of_x = k.linear_input_gradient(weight, up)?;
                    Ok([Some(of_x), of_weight].into_iter().flatten().collect())
                },
            )?;
        }
    }

    Ok(())
}

const DROPOUT: Dropout = Dropout { probability: 0.1, seed: 1, offset: 0 };

fn attention(bench: &Bench) -> Result<()> {
    let qkv = &values(&[BATCH, TOKENS, 3 * WIDTH])?;
    let shape = format!("[{BATCH}, {TOKENS}, 3 x {WIDTH}], {HEADS} heads");
    let out = ROWS * WIDTH;

    for (name, mask, dropout) in [
        ("attention causal", Mask::Causal, None),
        ("attention full", Mask::Full, None),
        ("attention causal, dropout", Mask::Causal, Some(DROPOUT)),
    ] {
        let pairs = match mask {
            Mask::Causal => TOKENS * (TOKENS + 1) / 2,
            Mask::Full => TOKENS * TOKENS,
        };

        // For each pair: its score, and its share of the value. Backward: the score again, and four
        // gradients.
        let product = 2.0 * (BATCH * pairs * WIDTH) as f64;
        let costs = [Cost::new(2.0 * product, 4 * out), Cost::new(5.0 * product, 8 * out)];
        let attention = Attention { dropout, ..Attention::new(HEADS, mask) };

        bench.differentiable(
            name,
            &shape,
            costs,
            |k| Ok(k.attention_and_sums(qkv, &attention)?.to_vec()),
            |k, kept, up| {
                let forward = [&kept[0], &kept[1]];
                Ok(vec![k.attention_gradient(qkv, forward, &attention, up)?])
            },
        )?;
    }

    Ok(())
}

fn vocabulary(bench: &Bench) -> Result<()> {
    let hidden = values(&[ROWS, WIDTH])?;
    let table = values(&[VOCABULARY, WIDTH])?;
    let into = table.zeros_like()?;
    let ids = ids(ROWS)?;
    let shape = format!("[{ROWS}, {WIDTH}] x [{VOCABULARY}, {WIDTH}]");
    let product = 2.0 * (ROWS * WIDTH * VOCABULARY) as f64;

    let x = ROWS * WIDTH;
    let weights = VOCABULARY * WIDTH;
    let cost = Cost::new(3.0 * product, 2 * x + 3 * weights);

    bench.plain("cross_entropy", "both", &shape, cost, |k| {
        let sums = HeadSums { table: Some(&into), bias: None };
        k.cross_entropy(&hidden, Projection { table: &table, bias: None }, &ids, 1e-3, sums)
            .map(drop)
    })?;

    bench.plain("cross_entropy_sum", "forward", &shape, Cost::new(product, x + weights), |k| {
        k.cross_entropy_sum(&hidden, Projection { table: &table, bias: None }, &ids).map(drop)
    })?;

    let shape = format!("[{ROWS}] of [{VOCABULARY}, {WIDTH}]");
    bench.plain("embedding", "forward", &shape, Cost::new(0.0, 2 * x), |k| {
        k.embedding(&table, &ids).map(drop)
    })?;

    let gradient = values(&[ROWS, WIDTH])?;

    bench.plain("embedding_gradient", "backward", &shape, Cost::in_place(3 * x), |k| {
        k.embedding_gradient(&into, &ids, &gradient)
    })
}

fn optimizer(bench: &Bench) -> Result<()> {
    let gradient = values(&[VOCABULARY, WIDTH])?;
    let parameter = gradient.copy()?;
    let first = gradient.zeros_like()?;
    let second = gradient.zeros_like()?;

    let step = AdamwStep {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        step: 1,
        gradient_scale: 1.0,
    };

    let shape = format!("[{VOCABULARY}, {WIDTH}]");
    let count = VOCABULARY * WIDTH;
    bench.plain("adamw", "update", &shape, Cost::in_place(7 * count), |k| {
        k.adamw(&parameter, &first, &second, &gradient, &step)
    })?;

    bench.plain("squared_norm", "update", &shape, Cost::in_place(count), |k| match k {
        Kernels::Fused | Kernels::FusedBf16x3 => squared_norm(&parameter).map(drop),
        Kernels::Composed => {
            parameter.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>().map(drop)
        }
    })
}

/// The work of a pass, for every implementation.
#[derive(Clone, Copy)]
struct Cost {
    /// Additions and multiplications of matrix products.
    operations: f64,
    bytes: usize,
    movement: Movement,
}

/// How bytes move. A processor fetches the cache lines of a fresh buffer before it writes them, but
/// not those that it has just read. So an update in place is faster than a copy of as many bytes.
#[derive(Clone, Copy)]
enum Movement {
    Copied,
    Updated,
}

impl Cost {
    fn new(operations: f64, floats: usize) -> Self {
        Self::of_bytes(operations, floats * FLOAT)
    }

    fn of_bytes(operations: f64, bytes: usize) -> Self {
        Self { operations, bytes, movement: Movement::Copied }
    }

    fn in_place(floats: usize) -> Self {
        Self { movement: Movement::Updated, ..Self::new(0.0, floats) }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Report {
    Table,
    Lines,
}

struct Bench {
    report: Report,
    /// Operations per second.
    matrix_rate: f64,
    /// Shape and format of the linear map on one thread that is measured.
    product: Option<([usize; 3], DType)>,
}

impl Bench {
    /// A row for the forward pass and one for the backward pass, which starts from a gradient of
    /// ones. `forward` returns its result and what it keeps for `backward`. Where a composed
    /// gradient is candle's autograd, that runs the operation again.
    fn differentiable(
        &self,
        name: &str,
        shape: &str,
        [forward_cost, backward_cost]: [Cost; 2],
        forward: impl Fn(Kernels) -> Result<Vec<Tensor>>,
        backward: impl Fn(Kernels, &[Tensor], &Tensor) -> Result<Vec<Tensor>>,
    ) -> Result<()> {
        let mut times = Vec::new();

        for kernels in [Kernels::Fused, Kernels::Composed] {
            // Once without measuring: the first pass meets cold caches and fresh memory.
            let kept = forward(kernels)?;
            let up = kept[0].ones_like()?;
            backward(kernels, &kept, &up)?;
            drop(kept);

            let mut forward_ms = f64::INFINITY;
            let mut backward_ms = f64::INFINITY;

            for _ in 0..ROUNDS {
                let start = Instant::now();
                let kept = forward(kernels)?;
                forward_ms = forward_ms.min(elapsed_ms(start));

                let start = Instant::now();
                let gradients = backward(kernels, &kept, &up)?;
                backward_ms = backward_ms.min(elapsed_ms(start));
                drop(gradients);
            }

            times.push([forward_ms, backward_ms]);
        }

        for (pass, direction, cost) in
            [(0, "forward", forward_cost), (1, "backward", backward_cost)]
        {
            self.print_row(name, direction, shape, times[0][pass], times[1][pass], cost);
        }

        Ok(())
    }

    /// One row, for a kernel without a backward pass of its own.
    fn plain(
        &self,
        name: &str,
        pass: &str,
        shape: &str,
        cost: Cost,
        f: impl Fn(Kernels) -> Result<()>,
    ) -> Result<()> {
        let mut times = Vec::new();
        for kernels in [Kernels::Fused, Kernels::Composed] {
            f(kernels)?;
            times.push(least_ms(LONG_ROUNDS, || f(kernels))?);
        }

        self.print_row(name, pass, shape, times[0], times[1], cost);
        Ok(())
    }

    /// The rates of all threads, and those of products on one thread in each of the [`FORMATS`].
    fn print_rates(&self, one_thread: [f64; 2]) {
        let threads = rayon::current_num_threads();
        let matrix = self.matrix_rate / 1e9;
        let [f32_one, bf16_one] = one_thread.map(|rate| rate / 1e9);
        let large = 64 << 20;
        let copy = large as f64 / move_ms(large, Movement::Copied) / 1e6;
        let engine = product_engine();

        match self.report {
            Report::Lines => println!(
                "{{\"threads\": {threads}, \"matrix_gflop_per_s\": {matrix:.1}, \
                 \"copy_gb_per_s\": {copy:.2}, \"one_thread_f32_gflop_per_s\": {f32_one:.1}, \
                 \"one_thread_bf16_gflop_per_s\": {bf16_one:.1}, \"product_engine\": \"{engine}\"}}"
            ),
            Report::Table => {
                println!(
                    "{threads} threads, matrix products {matrix:.0} GFLOP/s, copies {copy:.1} GB/s; one \
                     thread, products of f32 {f32_one:.0} GFLOP/s, of bf16 by {engine} {bf16_one:.0}\n"
                );
                println!(
                    "| kernel | pass | shape | fused ms | composed ms | ratio | floor ms | share | GFLOP/s |"
                );
                println!("|---|---|---|---|---|---|---|---|---|");
            }
        }
    }

    fn print_row(
        &self,
        name: &str,
        pass: &str,
        shape: &str,
        fused: f64,
        composed: f64,
        cost: Cost,
    ) {
        let matrix = cost.operations / self.matrix_rate * 1e3;
        let copy = move_ms(cost.bytes, cost.movement);
        let floor = matrix.max(copy);
        let product = self.product.map_or(String::new(), |([rows, inputs, outputs], format)| {
            let format = format.as_str();
            format!(", \"product\": \"{rows}x{inputs}x{outputs}\", \"format\": \"{format}\"")
        });

        match self.report {
            Report::Lines => println!(
                "{{\"kernel\": \"{name}\", \"pass\": \"{pass}\", \"shape\": \"{shape}\", \
                 \"fused_ms\": {fused:.4}, \"composed_ms\": {composed:.4}, \"floor_ms\": {floor:.4}, \
                 \"matrix_floor_ms\": {matrix:.4}, \"copy_floor_ms\": {copy:.4}, \
                 \"operations\": {:.0}, \"bytes\": {}{product}}}",
                cost.operations, cost.bytes
            ),
            Report::Table => println!(
                "| {name} | {pass} | {shape} | {fused:.2} | {composed:.2} | {:.1} | {floor:.2} | {:.2} | {:.0} |",
                composed / fused,
                floor / fused,
                cost.operations / fused / 1e6
            ),
        }
    }
}

/// Operations per second of matrix products with factors of this format, on the threads that call
/// it: the best of several shapes, from a square to one layer's. Those of f32 are candle's. candle
/// has no fast ones of bf16, so those are ours, of bf16 with f32 weights.
fn matrix_rate(format: DType) -> Result<f64> {
    let mut best = 0.0_f64;
    for (rows, inner, columns) in [(2048, 2048, 2048), (4096, 1024, 1024), (ROWS, WIDTH, 4 * WIDTH)]
    {
        let a = values(&[rows, inner])?.to_dtype(format)?;
        let b = values(&[columns, inner])?;
        let product = || match format {
            DType::F32 => a.matmul(&b.t()?).map(drop),
            _ => Kernels::Fused.linear(&a, &b, None).map(drop),
        };
        product()?;

        let ms = least_ms(ROUNDS, product)?;
        best = best.max(2.0 * (rows * inner * columns) as f64 / ms * 1e3);
    }

    Ok(best)
}

/// Milliseconds in which all threads move `bytes` bytes, half of them read and half written. It is
/// measured at that size, because data that fits in a cache moves faster.
fn move_ms(bytes: usize, movement: Movement) -> f64 {
    const PIECE: usize = 16_384;
    let count = (bytes / 2 / FLOAT).max(1);
    let from = vec![1.0_f32; count];
    let mut into = vec![0.0_f32; count];
    let mut least = f64::INFINITY;

    for _ in 0..=ROUNDS {
        let start = Instant::now();
        match movement {
            Movement::Copied => into
                .par_chunks_mut(PIECE)
                .zip(from.par_chunks(PIECE))
                .for_each(|(into, from)| into.copy_from_slice(from)),
            Movement::Updated => {
                into.par_chunks_mut(PIECE).for_each(|into| into.iter_mut().for_each(|x| *x += 1.0))
            }
        }

        least = least.min(elapsed_ms(start));
        std::hint::black_box(&mut into);
    }

    least
}

/// The least time of all rounds, because other load on the machine only adds time.
fn least_ms(rounds: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        f()?;
        least = least.min(elapsed_ms(start));
    }

    Ok(least)
}

fn elapsed_ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn values(shape: &[usize]) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) as f32 / 4.3e9 - 0.5) / 4.0)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

fn ids(count: usize) -> Result<Tensor> {
    let ids: Vec<u32> =
        (0..count as u32).map(|i| i.wrapping_mul(2_654_435_761) % VOCABULARY as u32).collect();
    Tensor::from_vec(ids, count, &Device::Cpu)
}
