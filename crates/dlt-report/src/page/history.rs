//! The states of a run over time: the data of the page's map, and the tables of decisions and
//! layers.

use std::collections::BTreeMap;

use dlt_spec::record::DecisionRow;
use dlt_state::binding::Binding;
use dlt_state::{Event, Recording};
use serde::Serialize;
use serde_json::Value;

use super::html::{Column, Html, HtmlTable};
use crate::numbers::{decimal, significant, whole};
use crate::run::Run;

/// Largest number of bytes for the moments of one run in a page.
const BYTES_OF_MOMENTS: usize = 160_000;
/// Largest number of rows of the table of decisions.
const MOST_ROWS: usize = 400;
/// Largest number of owners in that table, in all of its rows.
const MOST_OWNERS: usize = 400_000;
/// Largest number of rows of the table of layers.
const MOST_LAYERS: usize = 2048;

/// The run before its first decision, or after a decision: what the map shows at one position of
/// its slider.
#[derive(Debug, Default, Serialize)]
struct Moment {
    /// Training steps done before.
    step: usize,
    /// Number of the decision, from 1; 0 is the start.
    decision: usize,
    /// The owner of each layer.
    state: Vec<usize>,
    /// The state before the decision, if that is not the state of the previous moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Vec<usize>>,
    /// Layers that still use their own initial weights, untrained.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    frozen: Vec<usize>,
    /// Number of different storages that layers use in the step that follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct: Option<usize>,
    /// The layer that the decision is about, if it is about a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
    /// Whether the decision was undone. The state is then the previous one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    undone: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    explored: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reward: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    q: Option<f64>,
}

/// The data of a run's map: number of layers, number of decisions, and the moments. If there are
/// too many moments, some are chosen at equal distances.
pub(super) fn moments(run: &Run) -> Value {
    let recording = &run.recording;
    let decisions = recording.rows().len();
    // A moment takes about 100 bytes, and up to 8 for each layer.
    let most = BYTES_OF_MOMENTS / (100 + 8 * recording.n_layers());
    let every = (decisions + 1).div_ceil(most.max(2)).max(1);
    let rows = rows_by_decision(run);
    let mut bindings = run.bindings();

    let mut before = recording.initial();
    let mut shown = vec![Moment {
        state: before.owners().to_vec(),
        frozen: bindings.next().as_ref().map(frozen).unwrap_or_default(),
        distinct: distinct_after(run, 0),
        ..Moment::default()
    }];

    for ((index, row), binding) in recording.rows().iter().enumerate().zip(bindings) {
        let decision = index + 1;
        if decision % every == 0 || decision == decisions {
            let metrics = rows.get(&index);
            let finite = |number: Option<f64>| number.filter(|number| number.is_finite());
            let follows = shown.last().is_some_and(|last| last.decision + 1 == decision);

            shown.push(Moment {
                step: row.step(),
                decision,
                state: row.state().owners().to_vec(),
                before: (!follows).then(|| before.owners().to_vec()),
                frozen: frozen(&binding),
                distinct: distinct_after(run, row.step()),
                layer: row.layer(),
                undone: row.refused().is_some(),
                explored: metrics.map(|metrics| metrics.explored),
                epsilon: finite(metrics.and_then(|metrics| metrics.epsilon)),
                reward: finite(metrics.and_then(|metrics| metrics.reward)),
                q: finite(metrics.and_then(|metrics| metrics.q_predicted)),
            });
        }

        before = row.state();
    }

    serde_json::json!({
        "layers": recording.n_layers(),
        "decisions": decisions,
        "every": every,
        "steps": run.steps_done(),
        "moments": shown,
    })
}

/// The rows of the metrics by the number of their decision. A row is written when its reward is
/// known, so the last decision of a run under way may have none yet.
fn rows_by_decision(run: &Run) -> BTreeMap<usize, &DecisionRow> {
    run.metrics.decisions.iter().map(|row| (row.visit, row)).collect()
}

fn distinct_after(run: &Run, step: usize) -> Option<usize> {
    let steps = &run.metrics.steps;
    steps.get(steps.partition_point(|row| row.step <= step)).map(|row| row.distinct_layers)
}

/// The layers that still use their own initial weights.
fn frozen(binding: &Binding) -> Vec<usize> {
    (0..binding.n_layers()).filter(|&layer| binding.is_frozen(layer)).collect()
}

/// The table of decisions. If there are many, some are chosen at equal distances.
pub(super) fn decisions(run: &Run) -> Html {
    let recording = &run.recording;
    let count = recording.rows().len();
    let mut html = Html::new();

    if count == 0 {
        html.markup("<p class=\"note\">No decision has been made.</p>");
        return html;
    }

    let most = MOST_ROWS.min(MOST_OWNERS / recording.n_layers()).max(1);
    let every = count.div_ceil(most);
    if every > 1 {
        html.tagged(
            "<p class=\"note\">Every ",
            &whole(every),
            "th decision, and the last one. All are in <code>states.jsonl</code>.</p>",
        );
    }

    let rows = rows_by_decision(run);
    let has = |of: fn(&DecisionRow) -> bool| run.metrics.decisions.iter().any(of);
    let has_layer = recording.rows().iter().any(|row| row.layer().is_some());
    let has_q = has(|row| row.q_predicted.is_some());
    let has_epsilon = has(|row| row.epsilon.is_some());
    let has_reward = has(|row| row.reward.is_some());

    let has_gate = recording.version() == Recording::GATED_VERSION;
    let mut columns = vec![("step", Column::Numbers)];
    columns.extend(has_layer.then_some(("layer", Column::Numbers)));
    columns.extend([
        ("groups", Column::Numbers),
        ("tied", Column::Numbers),
        ("untied", Column::Numbers),
    ]);
    columns.extend(has_gate.then_some(("undone", Column::Words)));
    columns.push(("drawn", Column::Words));
    columns.extend(has_epsilon.then_some(("ε", Column::Numbers)));
    columns.extend(has_reward.then_some(("reward", Column::Numbers)));
    columns.extend(has_q.then_some(("Q", Column::Numbers)));
    columns.extend(has_q.then_some(("target", Column::Numbers)));
    columns.push(("owner of each layer", Column::Words));

    let mut table = HtmlTable::new(&columns);
    for (index, (row, (_, transition))) in
        recording.rows().iter().zip(recording.transitions()).enumerate()
    {
        if (index + 1) % every != 0 && index + 1 != count {
            continue;
        }

        let metrics = rows.get(&index);
        let number = |of: fn(&DecisionRow) -> Option<f64>| {
            metrics.and_then(|metrics| of(metrics)).map_or_else(String::new, significant)
        };
        let events = transition.event_counts();
        let mut cells = vec![whole(row.step())];

        cells.extend(
            has_layer.then(|| row.layer().map_or_else(String::new, |layer| layer.to_string())),
        );
        cells.extend(
            [row.state().n_independent(), events.tied, events.untied]
                .map(|count| count.to_string()),
        );
        cells.extend(has_gate.then(|| if row.refused().is_some() { "yes" } else { "" }.to_owned()));

        cells.push(
            metrics
                .map_or("", |metrics| if metrics.explored { "at random" } else { "by policy" })
                .to_owned(),
        );
        cells.extend(has_epsilon.then(|| number(|metrics| metrics.epsilon)));
        cells.extend(has_reward.then(|| number(|metrics| metrics.reward)));
        cells.extend(has_q.then(|| number(|metrics| metrics.q_predicted)));
        cells.extend(has_q.then(|| number(|metrics| metrics.q_target)));
        cells.push(
            row.state().owners().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        );
        table.row(cells);
    }

    html.add(&table.html("Decisions"));
    html
}

/// Each layer: its owner, its events, and for how long it was independent.
pub(super) fn layers_table(run: &Run) -> Html {
    let recording = &run.recording;
    let until = run.steps_done();
    let mut changes = vec![[0_usize; 2]; recording.n_layers()];

    for (_, transition) in recording.transitions() {
        for event in transition.events() {
            changes[event.layer()][usize::from(matches!(event, Event::Untied { .. }))] += 1;
        }
    }

    let columns = ["owner now", "tied", "untied", "steps independent", "share"];
    let mut table = HtmlTable::new(&[("layer", Column::Numbers)]);
    for name in columns {
        table.column(name, Column::Numbers);
    }

    table.column("", Column::Words);
    for (layer, steps) in
        recording.steps_independent(until).into_iter().enumerate().take(MOST_LAYERS)
    {
        let share = steps as f64 / until.max(1) as f64;
        let mut cells: Vec<Html> = [
            layer.to_string(),
            run.state().owner(layer).to_string(),
            whole(changes[layer][0]),
            whole(changes[layer][1]),
            whole(steps),
            decimal(share, 2),
        ]
        .iter()
        .map(|cell| Html::of(cell))
        .collect();

        let mut bar = Html::new();
        bar.markup(
            "<svg class=\"bar\" viewBox=\"0 0 1 1\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\">",
        );
        bar.tagged("<rect height=\"1\" width=\"", &format!("{share:.3}"), "\"/></svg>");
        cells.push(bar);
        table.row_of(cells);
    }

    let mut html = Html::new();
    html.markup("<div class=\"narrow\">")
        .add(&table.html("Each layer over training"))
        .markup("</div>");

    if recording.n_layers() > MOST_LAYERS {
        let layers = whole(MOST_LAYERS);
        html.tagged(
            "<p class=\"note\">Only the first ",
            &layers,
            " layers. All are in <code>states.jsonl</code>.</p>",
        );
    }

    html
}
