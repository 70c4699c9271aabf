//! `dlt inspect`: which layers share weights, which parameters there are, and what the decisions
//! did.

use std::path::Path;

use dlt_models::binding::Binding;
use dlt_report::figure::replication_map;
use dlt_run::{Saved, map};
use dlt_spec::record::{SPEC_FILE, STATES_FILE, Summary};
use dlt_spec::{CheckedSpec, ExitCode, fields};
use dlt_state::{Event, Recording, Row, State};
use dlt_train::{MODEL_FILE, RunFolder};

use crate::arguments::InspectTask;
use crate::failure::{Failure, Result};
use crate::numbers::{decimal, whole};
use crate::table::Table;
use crate::{ending, memory, output};

/// Width in columns of the longest bar of a chart.
const BAR: usize = 30;

pub(crate) fn run(task: &InspectTask) -> Result {
    let Some(path) = task.path.as_deref() else { return memory::run(task) };
    if let Some(picture) = &task.svg {
        return draw(path, picture);
    }

    output::print(&if path.is_dir() {
        inspect_run(path)?
    } else if is_recording(path) {
        decisions(&RunFolder::read_recording(path)?, None, None)
    } else {
        describe(&Saved::open(path)?)
    })
}

fn is_recording(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "jsonl") && path.is_file()
}

/// Writes the replication map as an SVG file: of the saved model, or after the last decision of a
/// recording.
fn draw(path: &Path, picture: &Path) -> Result {
    let (state, title) = if is_recording(path) {
        let recording = RunFolder::read_recording(path)?;
        let last = recording.rows().last();
        let title =
            last.map_or("no decision yet".to_owned(), |row| format!("after step {}", row.step()));

        (last.map_or(recording.initial(), Row::state).clone(), title)
    } else {
        let saved = Saved::open(path)?;
        let title = format!(
            "{}, seed {}: the model of step {}",
            saved.spec.name, saved.spec.seed, saved.step
        );

        (saved.state, title)
    };

    output::create(picture, replication_map(&state, &title)?.svg())?;
    output::note(&format!("wrote {}", picture.display()));
    Ok(())
}

fn inspect_run(run: &Path) -> Result<String> {
    if !run.join(SPEC_FILE).is_file() {
        let message =
            format!("{}: not a run folder: expected one that `dlt train` wrote", run.display());
        return Err(Failure::refused(ExitCode::BadData, message));
    }

    let spec = RunFolder::read_spec(run)?;
    let summary = RunFolder::read_summary(run)?;
    let recording = RunFolder::read_recording(&run.join(STATES_FILE))?;
    let mut text = format!("{}\n", run.display());

    text += &outcome(&spec, summary.as_ref());
    let saved = if run.join(MODEL_FILE).is_file() { Some(Saved::open(run)?) } else { None };

    text += &saved.as_ref().map_or_else(
        || "\nNo model has been saved yet.\n".to_owned(),
        |saved| format!("\n{}", describe(saved)),
    );
    let steps = summary.map(|summary| summary.steps);

    Ok(text + "\n" + &decisions(&recording, steps, saved.map(|saved| saved.state).as_ref()))
}

/// The result of a run, compared with its floor.
fn outcome(spec: &CheckedSpec, summary: Option<&Summary>) -> String {
    let name = &spec.name;
    let seed = spec.seed;
    let Some(summary) = summary else {
        return format!("{name}, seed {seed}: not finished (there is no summary.json)\n");
    };
    let ended = format!("{name}, seed {seed}: finished after {} steps", whole(summary.steps));

    if let Some(validation) = summary.validation_scores {
        return format!("{ended}\n{}", ending::scores(summary, validation, summary.test_scores));
    }

    format!("{ended}\n{}", ending::perplexities(summary).render())
}

/// The saved model: its sizes, which layers share weights, its parameters.
fn describe(saved: &Saved) -> String {
    let model = &saved.spec.model;
    let binding = saved.binding();
    let mut text = format!("The saved model, of step {}\n", saved.step);
    let mut table = Table::new(&[]);

    table.row(["architecture", &fields::word(&model.architecture)]);
    for (name, number) in [
        ("layers", model.layers),
        ("width", model.width),
        ("heads", model.heads),
        ("feed-forward width", saved.spec.feed_forward()),
        ("context", saved.spec.tokens()),
        ("vocabulary", saved.extents.vocabulary),
        ("classes", saved.extents.classes),
        ("independent layers", saved.state.n_independent()),
        ("distinct layers in memory", binding.n_distinct()),
    ] {
        table.row([name, &whole(number)]);
    }

    text += &table.render();
    let owners: Vec<_> = saved.state.owners().iter().map(ToString::to_string).collect();
    text += &format!("\nState (the owner of each layer): {}\n\n", owners.join(" "));
    text += &map::draw(&saved.state, Some(binding));
    text += &storage(saved, binding);

    text + "\nParameters\n" + &parameters(saved, binding)
}

/// A line about storage, if layers share weights otherwise than the state says: as in the authors'
/// code, or not at all because they were replicated. Else nothing.
fn storage(saved: &Saved, binding: &Binding) -> String {
    let partition = binding.partition();
    let differs =
        |layer: usize| !binding.is_frozen(layer) && partition[layer] != saved.state.owner(layer);
    if !(0..partition.len()).any(differs) {
        return String::new();
    }

    let lowest: Vec<_> = partition.iter().map(ToString::to_string).collect();
    format!("\nStorage (the lowest layer with the same weights): {}\n", lowest.join(" "))
}

/// The table of tensors, and the totals with and without tying.
fn parameters(saved: &Saved, binding: &Binding) -> String {
    let architecture = saved.architecture();
    let shared = architecture.shared_layout();
    let division = architecture.division();
    let mut table = Table::new(&["tensor", "shape", "parameters"]);

    let mut count = |name: &str, shape: &[usize]| {
        let sizes: Vec<_> = shape.iter().map(ToString::to_string).collect();
        table.row([name, &sizes.join(" x "), &whole(shape.iter().product())]);
    };

    for entry in shared.entries() {
        count(&format!("{}{}", architecture.shared_prefix(), entry.name), &entry.shape);
    }

    let prefix = architecture.block_prefix(0).replace('0', "N");
    for (entry, &is_kept) in division.all().entries().iter().zip(division.is_kept()) {
        let whose = if is_kept { " (each layer's own)" } else { "" };
        count(&format!("{prefix}{}{whose}", entry.name), &entry.shape);
    }

    let outside = shared.n_parameters();
    let layers = binding.n_layers();
    let trained = binding.trained().len();
    let mut totals = Table::new(&["", "blocks", "in blocks", "in all"]);

    for (name, blocks) in [
        ("trainable now", trained),
        ("in memory", binding.n_distinct()),
        ("with no layer tied", layers),
    ] {
        let in_blocks = division.n_parameters(layers, blocks);
        totals.row([name, &whole(blocks), &whole(in_blocks), &whole(outside + in_blocks)]);
    }

    format!("{}\n{}", table.render(), totals.render())
}

/// What the decisions did: events, and for how long each layer was independent (Figs. 2 and 3 of
/// the paper). `steps` is the length of a finished run. `drawn` is a state whose map was shown
/// before, so that it is not drawn twice.
fn decisions(recording: &Recording, steps: Option<usize>, drawn: Option<&State>) -> String {
    let rows = recording.rows();
    let events = recording.event_counts();
    let undone = rows.iter().filter(|row| row.refused().is_some()).count();
    let undone = match recording.version() {
        Recording::GATED_VERSION => format!(" ({} undone by the gate)", whole(undone)),
        _ => String::new(),
    };

    let mut text = format!(
        "Decisions: {}{undone}; tied events: {}; untied events: {}\n",
        whole(rows.len()),
        whole(events.tied),
        whole(events.untied)
    );

    let last = rows.last().map_or_else(|| recording.initial(), |row| row.state());
    if drawn != Some(last) {
        let made = rows
            .last()
            .map_or_else(|| "none was made".to_owned(), |row| format!("step {}", row.step()));
        text += &format!("\nAfter the last decision ({made})\n\n{}", map::draw(last, None));
    }

    // The length of an unfinished run is not known, but it got at least to its last decision.
    let until = steps.or(rows.last().map(|row| row.step())).unwrap_or(0);
    // For each layer: how often it was tied, and how often it was untied.
    let mut changes = vec![[0; 2]; recording.n_layers()];

    for (_, transition) in recording.transitions() {
        for event in transition.events() {
            let kind = usize::from(matches!(event, Event::Untied { .. }));
            changes[event.layer()][kind] += 1;
        }
    }

    let mut table =
        Table::new(&["layer", "owner", "tied", "untied", "steps independent", "share", ""]);

    for (layer, independent) in recording.steps_independent(until).into_iter().enumerate() {
        let share = independent as f64 / until.max(1) as f64;
        let bar = "█".repeat((share * BAR as f64).round() as usize);
        table.row([
            layer.to_string(),
            last.owner(layer).to_string(),
            changes[layer][0].to_string(),
            changes[layer][1].to_string(),
            whole(independent),
            decimal(share, 2),
            format!("{bar:<BAR$}"),
        ]);
    }

    text + &format!("\nEach layer over {} training steps\n{}", whole(until), table.render())
}
