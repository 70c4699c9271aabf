//! Memory: how much a run will take, how much is available, and how much this process uses as the
//! system counts it.

use std::fs;

use candle_core::Device;
use dlt_agent::AgentMemory;
use dlt_models::architecture::Architecture;
use dlt_models::binding::Binding;
use dlt_models::memory::{Prediction as StepPrediction, StepShape};
use dlt_spec::CheckedSpec;
use dlt_spec::spec::{Checkpointing, Size};

use crate::{Result, TrainError, device};

/// Megabytes from which on a message names the agent too. Agents of usual runs take less than one.
const LARGE_AGENT_MB: f64 = 50.0;

/// Bytes that a run takes besides the program and its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// The model's training steps.
    pub step: StepPrediction,
    /// The agent, throughout.
    pub agent: usize,
    /// Peak of both together.
    pub peak: usize,
    /// The phase of a run that has the peak.
    pub phase: &'static str,
}

/// Predicts what a run of a spec takes in a given binding, before anything is allocated: training
/// steps, decisions and checkpoints.
///
/// `architecture` is that of its model. `widest` is the number of tokens per window in the widest
/// batch, if the data limit it; else batches are as wide as the model's windows. `processes` is the
/// number of those that train together; the prediction is for one of them.
///
/// # Errors
/// Fails if the context is longer than the architecture allows, which a checked spec excludes.
pub fn predict(
    architecture: &dyn Architecture,
    spec: &CheckedSpec,
    widest: Option<usize>,
    binding: &Binding,
    processes: usize,
) -> Result<Prediction> {
    let step = predict_steps(architecture, spec, widest, binding, processes)?;
    let agent = AgentMemory::of(&spec.agent, spec.model.layers);

    // Decisions and checkpoints come between two steps, when activations and gradients are freed.
    let between = step.weights + step.moments + dlt_models::memory::THREADS;
    // A search holds its candidates while a forward pass judges one of them. That pass keeps
    // nothing for a backward pass.
    let judging = if spec.agent.policy.searches() { step.workspace } else { 0 };
    let phases = [
        (step.phase, step.peak),
        ("a decision", between.saturating_add(judging).saturating_add(agent.learning)),
        ("a checkpoint", between.saturating_add(agent.saving)),
    ];

    let [first, decision, checkpoint] = phases;
    // Of equal peaks the first, so that a run without an agent names its training steps.
    let later = |most: (&'static str, usize), next: (&'static str, usize)| {
        if next.1 > most.1 { next } else { most }
    };
    let (phase, peak) = later(later(first, decision), checkpoint);

    Ok(Prediction { step, agent: agent.held, peak: peak.saturating_add(agent.held), phase })
}

fn predict_steps(
    architecture: &dyn Architecture,
    spec: &CheckedSpec,
    widest: Option<usize>,
    binding: &Binding,
    processes: usize,
) -> Result<StepPrediction> {
    let windows = spec.micro_batch();
    let tokens = widest.unwrap_or(spec.tokens()).min(spec.tokens());
    let shape = StepShape {
        windows,
        pieces: spec.shard_windows() / windows,
        tokens,
        predictions: windows * spec.predictions(),
        trains: spec.training.trains,
        checkpointing: spec.training.checkpointing,
        activations: spec.training.activations,
        gradient: spec.tying.gradient,
        processes,
        shards: (spec.training.shards / processes).max(1),
    };

    Ok(dlt_models::memory::predict(architecture, binding, &shape)?)
}

/// The [`prediction`](predict) for a spec whose next steps, in this binding, fit into the memory
/// that is left: main memory, or that of the GPU. On a GPU, operations without a kernel of ours take
/// more than is predicted.
///
/// A run can grow beyond that as layers become independent; [`predict`] says how far.
///
/// # Errors
/// [`TrainError::Memory`] with the settings that would help; else as [`predict`].
pub fn check_fit(
    architecture: &dyn Architecture,
    spec: &CheckedSpec,
    widest: Option<usize>,
    binding: &Binding,
    processes: usize,
    device: &Device,
) -> Result<Prediction> {
    let limits = if device.is_cpu() {
        let process = resident().map(|resident| resident.now_mb);
        process.zip(available_mb()).map(|(process, available)| (process, available + process))
    } else {
        device::free_mb(device).map(|free| (0.0, free))
    };

    let (process_mb, limit_mb) = limits.unwrap_or((0.0, f64::INFINITY));
    check_fit_in(architecture, spec, widest, binding, processes, process_mb, limit_mb)
}

/// [`check_fit`] with a limit of `limit_mb` megabytes, of which the process already uses
/// `process_mb`.
fn check_fit_in(
    architecture: &dyn Architecture,
    spec: &CheckedSpec,
    widest: Option<usize>,
    binding: &Binding,
    processes: usize,
    process_mb: f64,
    limit_mb: f64,
) -> Result<Prediction> {
    let needed = |prediction: Prediction| process_mb + prediction.peak as f64 / 1e6;
    let prediction = predict(architecture, spec, widest, binding, processes)?;
    let needed_mb = needed(prediction);

    if needed_mb <= limit_mb {
        return Ok(prediction);
    }

    let mut help = Vec::new();
    let mut least = needed_mb;

    // Each remedy alone first, then both: a message should not ask for more than is needed.
    for (blocks, small) in [(true, false), (false, true), (true, true)] {
        let mut other = (**spec).clone();
        let mut settings = Vec::new();

        if blocks {
            other.training.checkpointing = Checkpointing::Block;
            settings.push("training.checkpointing=block");
        }

        if small {
            other.training.micro_batch = Size::Fixed(1);
            settings.push("training.micro_batch=1");
        }

        let needed = needed(predict(architecture, &other.check()?, widest, binding, processes)?);
        least = least.min(needed);

        if needed <= limit_mb {
            help.push(format!("{} takes {needed:.0} MB", settings.join(" with ")));
        }
    }

    let advice = if help.is_empty() {
        format!(
            "training.checkpointing=block and training.micro_batch=1 still take {least:.0} MB: {}",
            too_large(spec)
        )
    } else {
        help.join("; ")
    };

    Err(TrainError::Memory { needed_mb, limit_mb, advice })
}

/// What is too large if no setting of the training steps helps.
fn too_large(spec: &CheckedSpec) -> String {
    let agent = AgentMemory::of(&spec.agent, spec.model.layers);
    let agent_mb = agent.held.saturating_add(agent.saving) as f64 / 1e6;
    let search_mb = agent.learning as f64 / 1e6;

    if spec.agent.policy.searches() && search_mb >= LARGE_AGENT_MB {
        return format!(
            "the states of a search take {search_mb:.0} MB of it with agent.budget = {}; reduce it",
            spec.agent.budget
        );
    }

    if agent_mb < LARGE_AGENT_MB {
        return "the model itself is too large".to_owned();
    }

    format!(
        "the agent's Q-network takes {agent_mb:.0} MB of it with agent.hidden = {} and model.layers = {}; \
         reduce one of them",
        spec.agent.hidden, spec.model.layers
    )
}

/// Megabytes that this process may still take: the least of what the system calls available, and
/// what its control group and its own limits leave. `None` if the system does not report it.
#[must_use]
pub fn available_mb() -> Option<f64> {
    let system = field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let limits = [Some(system), control_group_mb(), address_space_mb()];
    limits.into_iter().flatten().reduce(f64::min)
}

/// Megabytes that the limit on this process's address space (`ulimit -v`) leaves; `None` without a
/// limit.
#[must_use]
pub fn address_space_mb() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let used = field(&fs::read_to_string("/proc/self/status").ok()?, "VmSize:")?;
    Some((address_limit_mb(&limits)? - used).max(0.0))
}

/// The limit on the address space, in megabytes, from the system's table of limits, which is in
/// bytes.
fn address_limit_mb(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1e6)
}

/// Megabytes that the control group (version 2) of this process leaves; `None` if it sets no limit.
fn control_group_mb() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let read = |folder: &str, file: &str| {
        fs::read_to_string(format!("/sys/fs/cgroup/{folder}/{file}"))
            .ok()?
            .trim()
            .parse::<f64>()
            .ok()
    };

    // Inside a container the path can be that of the host. The container's own group is then at the
    // root.
    let folder = if read(path, "memory.current").is_some() { path } else { "" };
    let inactive = fs::read_to_string(format!("/sys/fs/cgroup/{folder}/memory.stat")).ok();

    let inactive = inactive.and_then(|stat| {
        let line = stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?;
        line.parse::<f64>().ok()
    });

    // Files in the page cache count as used, but the system drops inactive ones when memory is
    // needed.
    let left =
        read(folder, "memory.max")? - read(folder, "memory.current")? + inactive.unwrap_or(0.0);
    Some(left / 1e6)
}

/// A field of a /proc file in megabytes; such files count in KiB.
fn field(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0 / 1e6)
}

/// Gives freed memory back to the system, if the C library is glibc, which keeps it otherwise.
#[allow(unsafe_code, reason = "the C library has no safe interface")]
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes a number of bytes to keep, touches the allocator's free pages only,
    // and may be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Resident memory in megabytes (10^6 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Resident {
    /// Now.
    pub now_mb: f64,
    /// Peak since the process started.
    pub peak_mb: f64,
}

/// Reads the resident memory; `None` if the system does not report it (any other than Linux).
#[must_use]
pub fn resident() -> Option<Resident> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(Resident { now_mb: field(&status, "VmRSS:")?, peak_mb: field(&status, "VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assembly::initial_binding;
    use dlt_models::architecture::of_spec;
    use dlt_spec::size::Extents;
    use dlt_spec::spec::{Activations, Initial, InitialName};

    /// The prediction for the architecture that a spec names.
    fn predicted(
        spec: &CheckedSpec,
        data: Extents,
        widest: Option<usize>,
        binding: &Binding,
    ) -> Prediction {
        predict(&*of_spec(spec, data), spec, widest, binding, 1).expect("a prediction")
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn resident_memory_is_known_and_below_its_peak() {
        let resident = resident().expect("Linux reports it");
        assert!(resident.now_mb > 0.5 && resident.now_mb <= resident.peak_mb);
        assert!(available_mb().expect("Linux reports it") > 1.0);
    }

    #[test]
    fn limits_on_addresses_are_read_where_there_are_any() {
        let table = |limit: &str| {
            format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax address space  {limit}  8000000  bytes\n"
            )
        };

        assert_eq!(address_limit_mb(&table("4000000")), Some(4.0));
        assert_eq!(address_limit_mb(&table("unlimited")), None);
        assert_eq!(address_limit_mb(""), None);
    }

    #[test]
    fn rejects_a_spec_that_cannot_fit_and_says_what_helps() {
        let mut spec = dlt_spec::Spec::default();
        spec.model.vocabulary = Size::Fixed(5000);
        spec.model.layers = 24;
        spec.model.width = 512;
        spec.model.heads = 8;
        spec.model.context = 256;
        spec.training.batch = 8;
        spec.tying.initial = Initial::Named(InitialName::Tied);

        let spec = spec.check().expect("a spec");
        let binding = initial_binding(&spec);
        let process = resident().map_or(0.0, |resident| resident.now_mb);
        let architecture = of_spec(&spec, Extents::default());
        let check =
            |limit_mb| check_fit_in(&*architecture, &spec, None, &binding, 1, process, limit_mb);

        let refusal = |limit_mb: f64| match check(limit_mb) {
            Err(TrainError::Memory { needed_mb, limit_mb: limit, advice }) => {
                assert!(needed_mb > limit && limit == limit_mb);
                advice
            }
            other => panic!("expected a refusal, got {other:?}"),
        };

        let peak = |spec: &CheckedSpec| {
            process + predicted(spec, Extents::default(), None, &binding).peak as f64 / 1e6
        };

        assert!(check(1.2 * peak(&spec)).is_ok());
        let some = refusal(0.8 * peak(&spec));
        assert!(some.contains("training.checkpointing=block takes"), "{some}");
        assert!(some.contains("training.micro_batch=1 takes"), "{some}");

        let none = refusal(10.0);
        assert!(none.contains("the model itself is too large"), "{none}");
    }

    #[test]
    fn rejects_an_agent_that_cannot_fit_and_names_it() {
        let mut spec = dlt_spec::Spec::default();
        spec.model.vocabulary = Size::Fixed(101);

        let small = predicted(
            &spec.clone().check().expect("a spec"),
            Extents::default(),
            None,
            &Binding::frozen(4),
        );
        spec.agent.hidden = 20_000_000;

        let spec = spec.check().expect("a spec");
        let binding = initial_binding(&spec);
        let large = predicted(&spec, Extents::default(), None, &binding);
        let numbers = large.agent / 3 / size_of::<f32>();

        assert!(numbers > spec.agent.hidden * spec.model.layers, "{numbers}");
        assert!(large.peak > small.peak + 4 * large.agent, "{large:?}");
        assert_eq!(large.phase, "a checkpoint");

        let architecture = of_spec(&spec, Extents::default());
        match check_fit_in(&*architecture, &spec, None, &binding, 1, 0.0, 1000.0) {
            Err(TrainError::Memory { advice, .. }) => {
                assert!(advice.contains("agent.hidden = 20000000"), "{advice}");
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn rejects_a_search_whose_states_cannot_fit_and_names_its_budget() {
        let of = |budget| {
            let mut spec = dlt_spec::Spec::default();
            spec.model.vocabulary = Size::Fixed(101);
            spec.agent.policy = dlt_spec::spec::PolicyKind::Beam;
            spec.agent.budget = budget;
            spec.check().expect("a spec")
        };

        let predict = |budget| {
            let spec = of(budget);
            predicted(&spec, Extents::default(), None, &initial_binding(&spec))
        };
        let (small, large) = (predict(64), predict(100_000_000));
        assert!(large.peak > small.peak + 1_000_000_000, "{large:?}");
        assert_eq!(large.phase, "a decision");

        let spec = of(100_000_000);
        let architecture = of_spec(&spec, Extents::default());
        let binding = initial_binding(&spec);
        match check_fit_in(&*architecture, &spec, None, &binding, 1, 0.0, 1000.0) {
            Err(TrainError::Memory { advice, .. }) => {
                assert!(advice.contains("agent.budget = 100000000; reduce it"), "{advice}");
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn law_short_sentences_are_predicted_by_the_widest_batch() {
        let mut spec = dlt_spec::Spec::default();
        spec.model.vocabulary = Size::Fixed(101);

        let spec = spec.check().expect("a spec");
        let peak =
            |widest| predicted(&spec, Extents::of_text(101), widest, &initial_binding(&spec)).peak;

        let windows = spec.model.context;
        assert_eq!(peak(Some(windows)), peak(None));
        assert_eq!(
            peak(Some(2 * windows)),
            peak(None),
            "no batch is wider than the model's windows"
        );
        assert!(peak(Some(windows / 4)) < peak(None));
    }

    /// Activations take half, except for the sums of attention's softmax. Nothing else is narrower.
    #[test]
    fn law_narrow_activations_take_half_and_weights_the_same() {
        let step = |activations| {
            let mut spec = dlt_spec::Spec::default();
            spec.model.vocabulary = Size::Fixed(101);
            spec.training.activations = activations;

            let spec = spec.check().expect("a spec");
            predicted(&spec, Extents::of_text(101), None, &initial_binding(&spec)).step
        };

        let [wide, narrow] = Activations::ALL.iter().map(|&one| step(one)).collect::<Vec<_>>()[..]
        else {
            panic!("two formats")
        };

        let spec = dlt_spec::Spec::default();
        // The sums of the one layer that is not frozen; frozen layers only keep their input.
        let rows = spec.training.batch * spec.model.context;
        let sums = 2 * rows * spec.model.heads * size_of::<f32>();

        assert_eq!(wide.activations - sums, 2 * (narrow.activations - sums));
        let lasting = |one: &StepPrediction| [one.weights, one.gradients, one.moments];
        assert_eq!(lasting(&wide), lasting(&narrow));
        assert!(narrow.peak < wide.peak, "{narrow:?} {wide:?}");
    }

    /// Weights, gradients and two moments exist for owners only, so each further group costs four
    /// times a block.
    #[test]
    fn law_memory_follows_the_number_of_groups() {
        let mut spec = dlt_spec::Spec::default();
        spec.model.vocabulary = Size::Fixed(101);

        let spec = spec.check().expect("a spec");
        let n_layers = spec.model.layers;
        let prediction =
            |binding: &Binding| predicted(&spec, Extents::of_text(101), None, binding).step;

        let lasting = |binding: &Binding| {
            let prediction = prediction(binding);
            prediction.weights + prediction.gradients + prediction.moments
        };

        let grouped = |n: usize| {
            let owners = (0..n_layers).map(|layer| if layer < n { layer } else { 0 }).collect();
            Binding::of_state(&dlt_state::State::new(owners).expect("a state"))
        };

        let block = 4 * 4 * of_spec(&spec, Extents::of_text(101)).block_layout().n_parameters();
        for n in 1..n_layers {
            assert_eq!(lasting(&grouped(n + 1)) - lasting(&grouped(n)), block);
        }

        assert_eq!(lasting(&Binding::frozen(n_layers)), lasting(&grouped(1)));
        let peaks: Vec<usize> = (1..=n_layers).map(|n| prediction(&grouped(n)).peak).collect();
        assert!(peaks.windows(2).all(|pair| pair[0] < pair[1]), "{peaks:?}");
    }
}
