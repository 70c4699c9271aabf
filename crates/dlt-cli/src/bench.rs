//! `dlt bench`: time and memory of a training step, and of generation.

mod decode;

use dlt_spec::spec::{Activations, Checkpointing, Gradient, Initial, InitialName, Size};
use dlt_spec::{CheckedSpec, ExitCode, Spec, presets};
use dlt_train::Exchange;
use dlt_train::measurement::{StepFigures, measure_steps};

use crate::arguments::{
    BenchCheckpointing, BenchDtype, BenchKernels, BenchModel, BenchStepTask, BenchTask, BenchTying,
};
use crate::failure::{Failure, Result};
use crate::numbers::{decimal, whole};
use crate::{machine, memory, output, processes, rehearsal};

/// Rows of the position table, as in GPT-2. Longer windows get as many rows as they have tokens.
const POSITIONS: usize = 1024;
const LEARNING_RATE: f64 = 1e-4;

pub(crate) fn run(task: &BenchTask) -> Result {
    match task {
        BenchTask::Step(task) => step(task),
        BenchTask::Decode(task) => decode::run(task),
    }
}

fn step(task: &BenchStepTask) -> Result {
    let mut exchange = processes::exchange(&task.several)?;
    let processes = exchange.world().size();
    let measured = measured(task, &mut exchange);
    let step = processes::settle(exchange, measured)?;
    output::print(&if task.json { line(&step, processes) } else { table(&step, processes) })
}

/// A measured step.
struct Step {
    /// Program, device and settings.
    peer: String,
    /// What multiplied bf16 matrices; `None` on a GPU.
    engine: Option<&'static str>,
    figures: StepFigures,
}

fn measured(task: &BenchStepTask, exchange: &mut Exchange) -> Result<Step> {
    let processes = exchange.world().size();
    let open = || {
        let spec = spec(task, processes)?;
        if task.steps == 0 {
            return Err(Failure::refused(ExitCode::Usage, "--steps: expected at least 1, got 0"));
        }

        let extents = memory::extents(&spec)?;
        Ok((spec, extents, machine::open(&task.machine)?))
    };

    let (spec, extents, (device, device_name)) = processes::together(exchange, "the spec", open())?;
    let kernels = match task.kernels {
        BenchKernels::Fused => dlt_train::Kernels::Fused,
        BenchKernels::FusedBf16x3 => dlt_train::Kernels::FusedBf16x3,
        BenchKernels::Composed => dlt_train::Kernels::Composed,
    };

    let figures = measure_steps(&spec, extents, task.steps, kernels, &device, exchange)?;
    Ok(Step { peer: peer(task, &device_name), engine: machine::engine(&device), figures })
}

/// The spec that the options describe. Its rules refuse combinations that are impossible.
fn spec(task: &BenchStepTask, processes: usize) -> Result<CheckedSpec> {
    let mut spec = match &task.preset {
        Some(preset) => tied(presets::preset(preset)?.spec()?, &task.model)?,
        None => {
            let mut spec = model_spec(&task.model)?;
            spec.model.context = task.seq;
            spec.model.positions = Size::Fixed(POSITIONS.max(task.seq));
            spec.training.batch = task.batch;
            spec
        }
    };

    spec.training.shards = processes;
    spec.training.micro_batch = task.micro_batch.map_or(Size::AUTO, Size::Fixed);
    spec.training.checkpointing = match task.checkpointing {
        BenchCheckpointing::None => Checkpointing::None,
        BenchCheckpointing::Block => Checkpointing::Block,
    };

    spec.training.activations = activations(task.dtype);

    spec.optimizer.learning_rate = LEARNING_RATE;
    spec.optimizer.clip_norm = 1.0;
    if rehearsal::is_on()? {
        dlt_run::rehearsal::shrink(&mut spec);
    }

    Ok(spec.check()?)
}

fn activations(dtype: BenchDtype) -> Activations {
    match dtype {
        BenchDtype::F32 => Activations::F32,
        BenchDtype::Bf16 => Activations::Bf16,
    }
}

/// A spec with the sizes and the tying of a model.
fn model_spec(model: &BenchModel) -> Result<Spec> {
    let mut spec = Spec { name: "bench".to_owned(), ..Spec::default() };
    spec.model.layers = model.layers;
    spec.model.width = model.width;
    spec.model.heads = model.heads;
    spec.model.vocabulary = Size::Fixed(model.vocab);

    tied(spec, model)
}

/// A spec without dropout, in which layers share weights as the options say.
fn tied(mut spec: Spec, model: &BenchModel) -> Result<Spec> {
    spec.model.dropout = 0.0;
    spec.tying.gradient =
        if model.tying == BenchTying::Owner { Gradient::Owner } else { Gradient::Sum };
    spec.tying.initial = match (model.tying, model.owners.is_empty()) {
        (BenchTying::None, true) => Initial::Named(InitialName::Independent),
        (BenchTying::None, false) => {
            let message = "--owners has no effect without tying; add --tying sum or --tying owner";
            return Err(Failure::refused(ExitCode::Usage, message));
        }
        (_, true) => Initial::Named(InitialName::Tied),
        (_, false) => Initial::Owners(model.owners.clone()),
    };

    Ok(spec)
}

/// A value of an option as the user types it.
fn word(value: &dyn std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// A line about what was measured: program, device and settings.
fn peer(task: &BenchStepTask, device: &str) -> String {
    let mut peer = format!(
        "dlt {} {device} {} {} tying={} checkpointing={}",
        env!("CARGO_PKG_VERSION"),
        word(&task.kernels),
        word(&task.dtype),
        word(&task.model.tying),
        word(&task.checkpointing)
    );

    if let Some(preset) = &task.preset {
        peer.push_str(&format!(" preset={preset}"));
    }
    if let Some(size) = task.micro_batch {
        peer.push_str(&format!(" micro_batch={size}"));
    }

    peer
}

fn line(step: &Step, processes: usize) -> String {
    let Step { peer, engine, figures } = step;
    let mut line = serde_json::json!({
        "peer": peer,
        "params": figures.parameters,
        "step_ms_median": round(figures.median_ms(), 1),
        "tokens_per_s": round(figures.tokens_per_s(), 1),
        "peak_rss_mb": figures.peak_rss_mb.map(in_mib),
        "predicted_peak_mb": figures.predicted_peak_mb.map(in_mib),
        "mean_rss_mb": figures.mean_rss_mb.map(in_mib),
        "peak_device_mb": figures.peak_device_mb.map(in_mib),
        "peak_device_used_mb": figures.peak_device_used_mb.map(in_mib),
        "loss": round(figures.loss, 4),
        "product_engine": engine,
    });

    if processes > 1 {
        line["processes"] = processes.into();
        line["exchange_share"] = round(figures.exchange_share(), 4).into();
        line["bytes_per_step"] = figures.sent_bytes.into();
        line["rank_rss_mb"] = figures.peak_rss_mb.map(in_mib).into();
    }

    format!("{line}\n")
}

fn table(step: &Step, processes: usize) -> String {
    let Step { peer, engine, figures } = step;
    let mut text = rows(
        peer,
        &[
            ("parameters", whole(figures.parameters)),
            ("step, median", format!("{} ms", decimal(figures.median_ms(), 1))),
            ("tokens", format!("{} a second", decimal(figures.tokens_per_s(), 0))),
            ("peak memory", megabytes(figures.peak_rss_mb)),
            ("predicted peak", megabytes(figures.predicted_peak_mb)),
            ("mean memory", megabytes(figures.mean_rss_mb)),
            ("loss", decimal(figures.loss, 4)),
        ],
    );

    if processes > 1 {
        let share = 100.0 * figures.exchange_share();
        text += &row("processes", &whole(processes));
        text += &row("sent by each", &megabytes(Some(figures.sent_bytes / 1e6)));
        text += &row("waiting", &format!("{} % of a step", decimal(share, 1)));
    }

    if let Some(engine) = engine {
        text += &row("bf16 products", engine);
    }

    match figures.peak_device_mb {
        Some(_) => {
            let used = row("in tensors", &megabytes(figures.peak_device_used_mb));
            text + &row("on the GPU", &megabytes(figures.peak_device_mb)) + &used
        }
        None => text,
    }
}

/// The line about what was measured, and the figures below it.
fn rows(peer: &str, rows: &[(&str, String)]) -> String {
    let mut text = format!("{peer}\n");
    for (name, value) in rows {
        text.push_str(&row(name, value));
    }
    text
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<14} {value}\n")
}

fn megabytes(megabytes: Option<f64>) -> String {
    megabytes.map_or("not known on this system".to_owned(), |mb| format!("{} MB", decimal(mb, 0)))
}

/// Rounds to so many decimals. A number that is not finite stays so: a clock that did not advance
/// gives no speed.
fn round(number: f64, digits: i32) -> f64 {
    (number * 10f64.powi(digits)).round() / 10f64.powi(digits)
}

/// Memory in units of 1,024 KiB, as the programs in data/peers print it.
fn in_mib(megabytes: f64) -> f64 {
    round(megabytes * 1e6 / f64::from(1 << 20), 1)
}
