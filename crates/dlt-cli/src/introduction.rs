//! What is about to be trained, on which data and device, and how much memory it will need.

use dlt_data::{Material, Split};
use dlt_models::architecture::of_spec;
use dlt_run::Introduction;
use dlt_spec::spec::{Architecture, Decision};
use dlt_spec::{CheckedSpec, fields};
use dlt_state::Recording;
use dlt_train::{due_decisions, grown_groups};

use crate::numbers::{self, decimal, whole};
use crate::{plan, threads};

/// The lines at the start of a run.
pub(crate) fn lines(introduction: &Introduction<'_>) -> Vec<String> {
    let Introduction { spec, material, recording, device, start_bytes, most_bytes } = *introduction;
    let mut lines = vec![model(spec, material), data(spec, material)];

    if let Some(plan) = &material.provenance().plan {
        lines.push(format!("files: {}", plan::line(plan)));
    }

    let windows = material.examples(Split::Train).count();
    lines.push(steps(spec, windows, device));
    lines.extend(warnings(spec, windows, recording));

    let megabytes = |bytes: usize| decimal(bytes as f64 / 1e6, 0);
    let when =
        if grown_groups(spec).is_some() { "after the last split" } else { "with no layer tied" };

    lines.push(format!(
        "memory: about {} MB at the start, {} MB {when}, without the program and its data",
        megabytes(start_bytes),
        megabytes(most_bytes),
    ));

    lines
}

fn model(spec: &CheckedSpec, material: &Material) -> String {
    let millions = |parameters: usize| format!("{} M", decimal(parameters as f64 / 1e6, 2));
    let architecture = of_spec(spec, material.extents());
    let blocks = architecture.n_layers() * architecture.block_layout().n_parameters();
    let all = millions(blocks + architecture.shared_layout().n_parameters());
    let blocks = millions(blocks);

    let layers = spec.model.layers;
    let width = spec.model.width;
    let heads = spec.model.heads;

    format!(
        "{}: {layers} layers of width {width}, {heads} heads; {all} parameters with no layer tied, \
         {blocks} of them in blocks",
        spec.name
    )
}

fn data(spec: &CheckedSpec, material: &Material) -> String {
    let amount = |split| match material.tokens() {
        Some(tokens) => whole(tokens.split(split).len()),
        None => whole(material.examples(split).count()),
    };

    let test = if material.has(Split::Test) {
        format!("{} to test", amount(Split::Test))
    } else {
        "no test split".to_owned()
    };

    format!(
        "data: {} in {} {} to train on, {} to validate, {test}",
        spec.data.source,
        amount(Split::Train),
        numbers::units(spec),
        amount(Split::Validation),
    )
}

fn steps(spec: &CheckedSpec, train_windows: usize, device: &str) -> String {
    let model = &spec.model;
    let batch = spec.training.batch;
    let per_step = match model.architecture {
        Architecture::Vit => format!("{batch} pictures of {} positions", spec.tokens()),
        _ => format!("{batch} x {} tokens", model.context),
    };

    let steps = whole(spec.steps(train_windows));
    let threads = threads::current();
    format!("{steps} steps of {per_step} on {device}, {threads} threads")
}

/// What a run of so few steps leaves out: warm-up, splits, or all decisions.
fn warnings(
    spec: &CheckedSpec,
    train_windows: usize,
    recording: Option<&Recording>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let steps = spec.steps(train_windows);
    let warmup = spec.optimizer.warmup_steps;

    if warmup > steps {
        lines.push(format!(
            "warm-up: shortened from {} to all {} steps of training",
            whole(warmup),
            whole(steps)
        ));
    }

    if let (Some(groups), times) = (grown_groups(spec), spec.tying.grow.len()) {
        let splits = groups - spec.initial_state().n_independent();
        if splits < times {
            lines.push(format!(
                "tying.groups and tying.budget prevent {} of {times} splits: there are {groups} groups at the end",
                times - splits
            ));
        }
    }

    if due_decisions(spec, train_windows, recording) == Some(0) {
        let keys = match spec.tying.decision {
            Decision::Split | Decision::Swap => &["tying.grow", "tying.groups", "tying.budget"][..],
            _ => &["tying.decide_every", "tying.decide_unit", "tying.decide_until"],
        };

        let settings = keys
            .iter()
            .filter_map(|key| Some(format!("{key} = {}", fields::find(key)?.value(spec))));
        lines.push(format!(
            "no decision is due in {} steps ({}): no layer is tied or untied, so this is no dynamic tying",
            whole(steps),
            settings.collect::<Vec<_>>().join(", ")
        ));
    }

    lines
}
