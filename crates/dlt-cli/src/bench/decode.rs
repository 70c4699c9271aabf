//! `dlt bench decode`: speed and memory of generation.

use std::ops::ControlFlow;

use candle_core::Device;
use dlt_models::Model;
use dlt_models::architecture::of_spec;
use dlt_models::binding::Rules;
use dlt_models::generation::{Continuation, Sampling, generate};
use dlt_spec::size::Extents;
use dlt_spec::spec::Size;
use dlt_spec::{CheckedSpec, ExitCode};
use dlt_train::{Kernels, initial_binding, memory};

use super::{POSITIONS, activations, in_mib, megabytes, round, row, rows, word};
use crate::arguments::BenchDecodeTask;
use crate::failure::{Failure, Result};
use crate::generate::Speed;
use crate::numbers::{decimal, whole};
use crate::{machine, output};

/// A prime, so that its multiples reach the whole vocabulary.
const SPREAD: usize = 7919;

/// The measured figures; times and rates are medians.
struct Figures {
    peer: String,
    /// What multiplied bf16 matrices; `None` on a GPU.
    engine: Option<&'static str>,
    parameters: usize,
    prefill_ms: f64,
    decode_tokens_per_s: f64,
    peak_rss_mb: Option<f64>,
}

pub(super) fn run(task: &BenchDecodeTask) -> Result {
    if task.prompt_tokens == 0 || task.new_tokens < 2 {
        let message = "expected --prompt-tokens of at least 1 and --new-tokens of at least 2";
        return Err(Failure::refused(ExitCode::Usage, message));
    }

    let spec = spec(task)?;
    let (device, device_name) = machine::open(&task.machine)?;
    let model = model(&spec, task.model.vocab, &device)?;
    let mut prefill_ms = Vec::new();
    let mut rates = Vec::new();

    for _ in 0..task.runs.get() {
        let speed = measure(task, &model)?;
        prefill_ms.push(speed.reading.seconds * 1e3);
        rates.push(speed.writing.tokens_per_s());
    }

    let figures = Figures {
        peer: format!(
            "dlt {} {device_name} {} tying={} batch={}",
            env!("CARGO_PKG_VERSION"),
            word(&task.dtype),
            word(&task.model.tying),
            task.batch
        ),
        engine: machine::engine(&device),
        parameters: model.n_trainable_parameters(),
        prefill_ms: median(prefill_ms),
        decode_tokens_per_s: median(rates),
        peak_rss_mb: memory::resident().map(|resident| resident.peak_mb),
    };

    output::print(&if task.json { line(&figures) } else { table(&figures) })
}

fn spec(task: &BenchDecodeTask) -> Result<CheckedSpec> {
    let mut spec = super::model_spec(&task.model)?;
    let tokens = task.prompt_tokens.saturating_add(task.new_tokens);
    spec.model.context = tokens;
    spec.model.positions = Size::Fixed(POSITIONS.max(tokens));
    spec.training.activations = activations(task.dtype);
    Ok(spec.check()?)
}

fn model(spec: &CheckedSpec, vocabulary: usize, device: &Device) -> Result<Model> {
    let architecture = of_spec(spec, Extents::of_text(vocabulary));
    let binding = initial_binding(spec);
    let rules = Rules::from(&spec.tying);
    let model = Model::new(architecture, binding, rules, Kernels::Fused, spec.seed, device)?;
    Ok(model.computing_in(spec.training.activations))
}

/// One run: a batch of prompts, each continued to the last token.
fn measure(task: &BenchDecodeTask, model: &Model) -> Result<Speed> {
    // Any tokens would do; these are spread over the whole vocabulary.
    let token = |number: usize| (number.wrapping_mul(SPREAD) % task.model.vocab) as u32;
    let tokens: Vec<u32> = (0..task.batch.get() * task.prompt_tokens).map(token).collect();
    let prompts: Vec<_> = tokens.chunks(task.prompt_tokens).map(<[u32]>::to_vec).collect();

    let wanted = Continuation {
        prompts: &prompts,
        tokens: task.new_tokens,
        context: model.architecture().max_tokens(),
        stop: &[],
        sampling: Sampling::GREEDY,
        seed: 1,
        at_once: task.batch.get(),
    };

    let mut speed = Speed::start();
    generate(model, &wanted, |_, event| {
        speed.take(event, task.prompt_tokens);
        ControlFlow::Continue(())
    })?;

    Ok(speed)
}

/// Median over all runs but the first, which gets its memory from the system. With a single run,
/// that one counts.
fn median(mut runs: Vec<f64>) -> f64 {
    let first = usize::from(runs.len() > 1);
    let counted = &mut runs[first..];
    counted.sort_by(f64::total_cmp);

    let middle = counted.len() / 2;
    if counted.len().is_multiple_of(2) {
        f64::midpoint(counted[middle - 1], counted[middle])
    } else {
        counted[middle]
    }
}

fn line(figures: &Figures) -> String {
    let line = serde_json::json!({
        "peer": figures.peer,
        "params": figures.parameters,
        "decode_tokens_per_s": round(figures.decode_tokens_per_s, 1),
        "prefill_ms": round(figures.prefill_ms, 1),
        "peak_rss_mb": figures.peak_rss_mb.map(in_mib),
        "product_engine": figures.engine,
    });

    format!("{line}\n")
}

fn table(figures: &Figures) -> String {
    let text = rows(
        &figures.peer,
        &[
            ("parameters", whole(figures.parameters)),
            ("prefill", format!("{} ms", decimal(figures.prefill_ms, 1))),
            ("decode", format!("{} tokens a second", decimal(figures.decode_tokens_per_s, 1))),
            ("peak memory", megabytes(figures.peak_rss_mb)),
        ],
    );

    text + &figures.engine.map_or(String::new(), |engine| row("bf16 products", engine))
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_leaves_the_first_run_out() {
        assert_eq!(median(vec![9.0]), 9.0);
        assert_eq!(median(vec![9.0, 1.0]), 1.0);
        assert_eq!(median(vec![9.0, 1.0, 3.0]), 2.0);
        assert_eq!(median(vec![9.0, 5.0, 1.0, 3.0]), 3.0);
    }
}
