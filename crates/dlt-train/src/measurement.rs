//! Measures the training step of a spec alone, on random tokens or pictures, without decisions and
//! evaluations. It shows speed and memory, not quality.

use candle_core::Device;
use dlt_data::{ExampleBatch, PictureBatch, SentenceBatch};
use dlt_kernels::{Kernels, gpu};
use dlt_models::ModelError;
use dlt_models::architecture::of_spec;
use dlt_spec::size::{CHANNELS, Extents};
use dlt_spec::spec::{Architecture, Objective};
use dlt_spec::{CheckedSpec, seeds};
use rand::Rng;

use crate::assembly::{initial_binding, model_for};
use crate::clock::Clock;
use crate::exchange::Exchange;
use crate::feed::view;
use crate::optimizer::Optimizer;
use crate::{Result, TrainError, memory, step};

/// The figures of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFigures {
    /// Trained parameters: those outside of blocks and those of each owner's block.
    pub parameters: usize,
    /// Milliseconds of each step, in order.
    pub step_ms: Vec<f64>,
    /// Predicted tokens of a step.
    pub tokens: usize,
    /// Peak resident memory of the process, in megabytes; `None` if the system does not report it.
    pub peak_rss_mb: Option<f64>,
    /// The prediction of that peak: the process before the measurement, plus the step.
    pub predicted_peak_mb: Option<f64>,
    /// Resident memory after a step in megabytes, averaged over all steps but the first.
    pub mean_rss_mb: Option<f64>,
    /// Peak memory that the process held on a GPU, in megabytes; `None` on the CPU.
    pub peak_device_mb: Option<f64>,
    /// Peak of the part that tensors used, in megabytes.
    pub peak_device_used_mb: Option<f64>,
    /// Mean cross-entropy of the last step, in nats.
    pub loss: f64,
    /// Seconds of each step in which the process waited for others; 0 for one process.
    pub waited_s: Vec<f64>,
    /// Bytes that a process sends to others in a step, on average over the processes.
    pub sent_bytes: f64,
}

impl StepFigures {
    /// Median time in milliseconds over all steps but the first, which allocates memory for the
    /// first time.
    #[must_use]
    pub fn median_ms(&self) -> f64 {
        let mut times = self.step_ms[self.step_ms.len().min(2) - 1..].to_vec();
        times.sort_by(f64::total_cmp);

        let middle = times.len() / 2;
        if times.len().is_multiple_of(2) {
            f64::midpoint(times[middle - 1], times[middle])
        } else {
            times[middle]
        }
    }

    /// Share of the time in which the process waited for others, over all steps but the first.
    #[must_use]
    pub fn exchange_share(&self) -> f64 {
        let later = |numbers: &[f64]| numbers.iter().skip(1).sum::<f64>();
        1e3 * later(&self.waited_s) / later(&self.step_ms)
    }

    /// Predicted tokens per second, by the median step.
    #[must_use]
    pub fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.median_ms() * 1e3
    }
}

/// Makes `steps` training steps (at least one) of a spec. All of them are in its initial state and
/// on one batch of random tokens, whose targets are those of the spec's objective. The processes of
/// `exchange` make them together; memory is that of the process with the highest peak.
///
/// # Errors
/// [`TrainError::Memory`] if a step does not fit, [`TrainError::Diverged`] if the loss is not
/// finite, [`TrainError::Processes`] if their number does not divide `training.shards`.
pub fn measure_steps(
    spec: &CheckedSpec,
    data: Extents,
    steps: usize,
    kernels: Kernels,
    device: &Device,
    exchange: &mut Exchange,
) -> Result<StepFigures> {
    let processes = exchange.world().size();
    let make = || {
        let shards = spec.training.shards;
        if !shards.is_multiple_of(processes) {
            return Err(TrainError::Processes { processes, shards });
        }

        let binding = initial_binding(spec);
        let architecture = of_spec(spec, data);
        let fits = memory::check_fit(&*architecture, spec, None, &binding, processes, device)?;
        let predicted = fits.step.peak as f64 / 1e6;

        // Before the model exists: the prediction adds the step to this.
        let before = memory::resident();
        Ok((model_for(architecture, spec, None, kernels, device)?, before, predicted))
    };

    let (model, before, predicted) = exchange.all("the model", make(), TrainError::exit_code)?;
    let mut optimizer = Optimizer::new(&spec.optimizer, &spec.tying).of_share(exchange.share());
    let made = made_up(spec, spec.extents(data));
    let batch = view(&made);

    let mut figures = StepFigures {
        parameters: model.n_trainable_parameters(),
        step_ms: Vec::new(),
        tokens: spec.units_per_step(),
        peak_rss_mb: None,
        predicted_peak_mb: before.map(|before| before.now_mb + predicted),
        mean_rss_mb: None,
        peak_device_mb: None,
        peak_device_used_mb: None,
        loss: 0.0,
        waited_s: Vec::new(),
        sent_bytes: 0.0,
    };

    // As in a run, where these policies read sketches between two decisions.
    let sketches = spec.agent.policy.reads_gradients();
    let mut resident = Vec::new();

    for index in 0..steps.max(1) {
        let started = Clock::start();
        let before = exchange.traffic();
        optimizer.prepare(&model)?;

        let (losses, gradients) = step::gradients(&model, batch, spec, index, sketches, exchange)?;
        let loss = exchange.losses(losses)?.loss();
        let norm = exchange.norm(&gradients)?;
        optimizer.step(&model, gradients, norm, spec.optimizer.learning_rate)?;
        exchange.spread_weights(&model)?;

        // A GPU works asynchronously: without this line the time would be that of queueing the
        // work.
        device.synchronize().map_err(ModelError::from)?;
        figures.step_ms.push(started.elapsed_ms());
        figures.loss = loss;

        let traffic = exchange.traffic();
        figures.waited_s.push(traffic.waited_s - before.waited_s);
        figures.sent_bytes = (traffic.sent_bytes - before.sent_bytes) as f64;

        if !loss.is_finite() {
            return Err(TrainError::Diverged { step: index, loss, tensor: "the loss".to_owned() });
        }

        resident.extend(memory::resident());
    }

    let own = resident.last().map_or(f64::NAN, |resident| resident.peak_mb);
    let sent = figures.sent_bytes;
    let all = exchange.numbers("peaks of memory", &[own, sent])?;
    figures.peak_rss_mb =
        all.iter().map(|numbers| numbers[0]).reduce(f64::max).filter(|peak| peak.is_finite());
    figures.sent_bytes = all.iter().map(|numbers| numbers[1]).sum::<f64>() / processes as f64;

    if let Some(peaks) = gpu::memory_peaks(device) {
        figures.peak_device_mb = Some(peaks.held as f64 / 1e6);
        figures.peak_device_used_mb = Some(peaks.used as f64 / 1e6);
    }

    let later = &resident[resident.len().min(1)..];
    if !later.is_empty() {
        let total: f64 = later.iter().map(|resident| resident.now_mb).sum();
        figures.mean_rss_mb = Some(total / later.len() as f64);
    }

    Ok(figures)
}

/// A batch of random tokens or pictures.
fn made_up(spec: &CheckedSpec, extents: Extents) -> ExampleBatch {
    let mut rng = seeds::stream(spec.seed, "bench");
    let windows = spec.training.batch;
    let context = spec.model.context;

    if spec.model.architecture == Architecture::Vit {
        let side = spec.model.picture;
        let pixels =
            (0..windows * CHANNELS * side * side).map(|_| rng.random_range(-1.0..1.0)).collect();
        let labels = (0..windows).map(|_| rng.random_range(0..extents.classes as u32)).collect();

        return ExampleBatch::Pictures(PictureBatch { pixels, labels, side });
    }

    let words = extents.vocabulary as u32;
    let inputs: Vec<u32> = (0..windows * context).map(|_| rng.random_range(0..words)).collect();

    match spec.model.objective {
        Objective::NextToken => {
            // The last token of a window gets the first one as its target: a measurement needs any
            // target, not the right one.
            let mut targets = inputs.clone();
            targets.chunks_exact_mut(context).for_each(|window| window.rotate_left(1));
            ExampleBatch::Windows { inputs, targets, windows }
        }
        Objective::MaskedToken => {
            let predicted = spec.predictions();
            let targets = inputs.iter().enumerate();
            let targets =
                targets.map(|(at, &id)| (at % context < predicted).then_some(id)).collect();

            ExampleBatch::Masked { inputs, targets, windows }
        }
        Objective::Classes => {
            let labels: Vec<u32> =
                (0..windows).map(|_| rng.random_range(0..extents.classes as u32)).collect();
            let rows = SentenceBatch {
                rows: windows,
                width: context,
                types: vec![0; inputs.len()],
                mask: vec![1; inputs.len()],
                lengths: vec![context; windows],
                masks_padding: true,
                labels: labels.iter().copied().map(Some).collect(),
                ids: inputs,
            };

            ExampleBatch::Sentences { rows, labels }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_leaves_the_first_step_out() {
        let figures = |step_ms: &[f64]| StepFigures {
            parameters: 1,
            step_ms: step_ms.to_vec(),
            tokens: 100,
            peak_rss_mb: None,
            predicted_peak_mb: None,
            mean_rss_mb: None,
            peak_device_mb: None,
            peak_device_used_mb: None,
            loss: 1.0,
            waited_s: Vec::new(),
            sent_bytes: 0.0,
        };

        assert_eq!(figures(&[900.0, 10.0, 30.0, 20.0]).median_ms(), 20.0);
        assert_eq!(figures(&[900.0, 10.0, 30.0]).median_ms(), 20.0);
        assert_eq!(figures(&[900.0]).median_ms(), 900.0);
        assert_eq!(figures(&[900.0, 50.0]).tokens_per_s(), 2000.0);
    }
}
