//! What `dlt train` says of a run before its first step.

use dlt_data::{Material, Split};
use dlt_models::binding::Binding;
use dlt_spec::spec::{Architecture, Decision};
use dlt_spec::{CheckedSpec, fields};
use dlt_state::{Recording, State, pattern};
use dlt_train::{due_decisions, grown_groups, initial_binding, memory};

use super::steps;
use crate::failure::Result;
use crate::numbers::{decimal, whole};
use crate::progress::Progress;
use crate::{numbers, plan, threads};

/// Notes what is about to be trained, on which data and device, and how much memory it will need.
pub(super) fn introduce(
    progress: &Progress,
    spec: &CheckedSpec,
    material: &Material,
    recording: Option<&Recording>,
    device: &str,
) -> Result {
    let model = &spec.model;
    let training = &spec.training;
    let size = spec.size(material.extents());
    let millions = |parameters: usize| format!("{} M", decimal(parameters as f64 / 1e6, 2));

    let size = size.map_or_else(String::new, |size| {
        let all = millions(size.conventional);
        let blocks = millions(size.all_blocks);
        format!("; {all} parameters with no layer tied, {blocks} of them in blocks")
    });

    let layers = model.layers;
    let width = model.width;
    let heads = model.heads;

    progress.note(&format!("{}: {layers} layers of width {width}, {heads} heads{size}", spec.name));
    let amount = |split| match material.tokens() {
        Some(tokens) => whole(tokens.split(split).len()),
        None => whole(material.examples(split).count()),
    };

    let test = if material.has(Split::Test) {
        format!("{} to test", amount(Split::Test))
    } else {
        "no test split".to_owned()
    };

    progress.note(&format!(
        "data: {} in {} {} to train on, {} to validate, {test}",
        spec.data.source,
        amount(Split::Train),
        numbers::units(spec),
        amount(Split::Validation),
    ));

    if let Some(plan) = &material.provenance().plan {
        progress.note(&format!("files: {}", plan::line(plan)));
    }

    let steps = steps(spec, material);
    let per_step = match model.architecture {
        Architecture::Vit => format!("{} pictures of {} positions", training.batch, spec.tokens()),
        _ => format!("{} x {} tokens", training.batch, model.context),
    };

    let threads = threads::current();
    progress.note(&format!("{} steps of {per_step} on {device}, {threads} threads", whole(steps)));
    forewarn(progress, spec, material.examples(Split::Train).count(), recording);

    let predict = |binding: &Binding| -> Result<String> {
        let peak = memory::predict(spec, material, binding)?.peak;
        Ok(decimal(peak as f64 / 1e6, 0))
    };

    // The state with the most groups, so the most memory, that the run can reach.
    let (most, when) = match grown_groups(spec) {
        Some(groups) => (pattern::leading(layers, groups), "after the last split"),
        None => (State::independent(layers), "with no layer tied"),
    };

    progress.note(&format!(
        "memory: about {} MB at the start, {} MB {when}, without the program and its data",
        predict(&initial_binding(spec))?,
        predict(&Binding::of_state(&most))?,
    ));

    Ok(())
}

/// Notes what a run of so few steps leaves out: warm-up, splits, or all decisions.
fn forewarn(
    progress: &Progress,
    spec: &CheckedSpec,
    train_windows: usize,
    recording: Option<&Recording>,
) {
    let steps = spec.steps(train_windows);
    let warmup = spec.optimizer.warmup_steps;
    if warmup > steps {
        progress.note(&format!(
            "warm-up: shortened from {} to all {} steps of training",
            whole(warmup),
            whole(steps)
        ));
    }

    if let (Some(groups), times) = (grown_groups(spec), spec.tying.grow.len()) {
        let splits = groups - spec.initial_state().n_independent();
        if splits < times {
            progress.note(&format!(
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
        progress.note(&format!(
            "no decision is due in {} steps ({}): no layer is tied or untied, so this is no dynamic tying",
            whole(steps),
            settings.collect::<Vec<_>>().join(", ")
        ));
    }
}
