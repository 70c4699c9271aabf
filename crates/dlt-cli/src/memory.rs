//! `dlt inspect --memory`: how much memory training needs, before anything is allocated.

use std::path::Path;

use dlt_data::Tokenizer;
use dlt_models::architecture::of_spec;
use dlt_models::binding::Binding;
use dlt_models::memory::Prediction as StepPrediction;
use dlt_run::SpecLayers;
use dlt_spec::record::SPEC_FILE;
use dlt_spec::size::Extents;
use dlt_spec::spec::{Architecture, Checkpointing, Size, Tie};
use dlt_spec::{CheckedSpec, presets};
use dlt_state::{State, pattern};
use dlt_train::memory::Prediction;
use dlt_train::{grown_groups, initial_binding, memory};

use crate::arguments::InspectTask;
use crate::failure::{Failure, Result};
use crate::numbers::{decimal, whole};
use crate::output;
use crate::table::Table;

/// Title of the row for the state in which a run that splits groups ends.
const AFTER_SPLITS: &str = "after the last split";

pub(crate) fn run(task: &InspectTask) -> Result {
    let processes = task.processes.get();
    let spec = spec(task)?;
    let architecture = of_spec(&spec, extents(&spec)?);
    let mut rows = Vec::new();

    for (name, binding) in bindings(&spec, &task.owners)? {
        let prediction = memory::predict(&*architecture, &spec, None, &binding, processes)?;
        rows.push((name, binding.trained().len(), prediction));
    }

    output::print(&if task.json { lines(&rows) } else { text(&spec, &rows) })
}

/// The sizes that depend on the data, without reading the data. The number of classes is guessed
/// from the name of the data set: 2 for GLUE, else 10.
pub(crate) fn extents(spec: &CheckedSpec) -> Result<Extents> {
    let model = &spec.model;
    let vocabulary = match (model.vocabulary, model.architecture) {
        (Size::Fixed(size), _) => size,
        (Size::Auto(_), Architecture::Vit) => 0,
        (Size::Auto(_), _) => Tokenizer::open(&spec.data.tokenizer)?.vocabulary(),
    };

    let usual = if spec.data.source.starts_with("glue/") { 2 } else { 10 };
    Ok(Extents { vocabulary, classes: model.classes.or(usual) })
}

/// The spec that `--memory` names: a run folder's, a file, or a preset.
fn spec(task: &InspectTask) -> Result<CheckedSpec> {
    let name = task.memory.as_deref().unwrap_or_default();
    let path = Path::new(name);
    let inside = path.join(SPEC_FILE);
    let file = match (path.is_dir(), path.is_file()) {
        (true, _) => Some(inside.as_path()),
        (false, true) => Some(path),
        // It is read as a file even if it does not exist: the message then names the file.
        (false, false) if name.ends_with(".toml") => Some(path),
        (false, false) => None,
    };

    let preset = file.is_none().then(|| presets::preset(name).map(|_| name)).transpose()?;
    let processes = task.processes.get();
    Ok(SpecLayers { preset, file, set: &task.set, processes, ..SpecLayers::default() }.spec()?)
}

/// The states to print a row for, with their titles. If layers are replicated, each of them has its
/// own block, whatever the state says.
fn bindings(spec: &CheckedSpec, owners: &[usize]) -> Result<Vec<(String, Binding)>> {
    let layers = spec.model.layers;
    let replicates = spec.tying.tie == Tie::Replicate;

    if !owners.is_empty() {
        let refuse = |message: String| Failure::usage(format!("--owners: {message}"));
        if owners.len() != layers {
            return Err(refuse(format!("expected {layers} layers, got {}", owners.len())));
        }

        let state = State::new(owners.to_vec()).map_err(|error| refuse(error.to_string()))?;
        let spared = spec.exempt().spare_state(&state);
        if spared != state {
            return Err(refuse(format!(
                "expected no tie with a layer of tying.exempt, as in {spared}, got {state}"
            )));
        }

        let state = if replicates { State::independent(layers) } else { state };
        return Ok(vec![("these owners".to_owned(), Binding::of_state(&state))]);
    }

    // If each layer acts at random, layer i of those that may be tied is independent with probability
    // 1 / i, so the expected number of these is a harmonic number. Exempt layers come on top.
    let free = spec.exempt().free().len();
    let harmonic: f64 = (1..=free).map(|layer| 1.0 / layer as f64).sum();
    let usual = layers - free + harmonic.round() as usize;
    let of = |groups: usize| Binding::of_state(&pattern::leading(layers, groups));
    let mut rows = vec![("at the start".to_owned(), initial_binding(spec))];

    match grown_groups(spec) {
        Some(groups) => rows.push((AFTER_SPLITS.to_owned(), of(groups))),
        None if replicates => {}
        None => rows.push(("usual under a random policy".to_owned(), of(usual))),
    }

    rows.push(("no layer tied".to_owned(), of(layers)));
    Ok(rows)
}

/// The rows as a table, for people.
fn text(spec: &CheckedSpec, rows: &[(String, usize, Prediction)]) -> String {
    let mb = |bytes: usize| decimal(bytes as f64 / 1e6, 1);
    let mut table = Table::new(&[
        "state",
        "trained blocks",
        "weights",
        "gradients",
        "moments",
        "activations",
        "workspace",
        "agent",
        "peak",
    ]);

    for (name, blocks, prediction) in rows {
        let Prediction { step, agent, peak, .. } = *prediction;
        let StepPrediction { weights, gradients, moments, activations, workspace, .. } = step;
        let sizes = [weights, gradients, moments, activations, workspace, agent, peak].map(mb);

        table.row([name.clone(), whole(*blocks)].into_iter().chain(sizes));
    }

    let keeps = match spec.training.checkpointing {
        Checkpointing::None => "all activations are kept",
        Checkpointing::Block => "only the input of each block is kept",
    };

    let mut text = format!(
        "{}: {} windows of {} tokens in memory at the same time; {keeps}\nMemory of training in MB, without the \
         program and its data\n{}",
        spec.name,
        spec.micro_batch(),
        spec.tokens(),
        table.render()
    );

    if let Some((_, _, prediction)) = rows.first() {
        text += &format!(
            "\nEach column is the maximum of its kind. They are reached at different times, so the peak (here in {}) \
             is less than their sum.\n",
            prediction.phase
        );
    }

    if let Some(available) = memory::available_mb() {
        text += &format!("This machine has {} MB available.\n", decimal(available, 0));
    }

    text
}

/// The rows as JSON, one a line.
fn lines(rows: &[(String, usize, Prediction)]) -> String {
    let line = |(name, blocks, prediction): &(String, usize, Prediction)| {
        let line = serde_json::json!({
            "state": name,
            "trained_blocks": blocks,
            "weights_bytes": prediction.step.weights,
            "gradient_bytes": prediction.step.gradients,
            "moment_bytes": prediction.step.moments,
            "activation_bytes": prediction.step.activations,
            "workspace_bytes": prediction.step.workspace,
            "agent_bytes": prediction.agent,
            "peak_bytes": prediction.peak,
            "phase": prediction.phase,
        });

        format!("{line}\n")
    };

    rows.iter().map(line).collect()
}
