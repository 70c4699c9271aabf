//! The tables: first in the paper's layout with the paper's values next to ours, then in detail.

mod language;
mod memory;
mod method;
mod regime;
mod tasks;

use std::collections::BTreeMap;

use dlt_spec::record::Provenance;

use crate::cell::Plan;
use crate::grid::Part;
use crate::method::choice::BLOCKS_MEAN;
use crate::record::{Done, Outcome, Records};
use crate::row::Row;
use crate::sheet::{Grid, Sheet};
use crate::subject::Subject;
use crate::view::{Group, Quantity, View};

/// The rows of every table of the paper.
const CORE: [Row; 3] = [Row::Conventional, Row::Full, Row::Random];
/// The same with ours for short runs.
const ROWS: [Row; 5] = [Row::Conventional, Row::Full, Row::Random, Row::Short, Row::ShortRandom];

/// The page of a part of the work.
pub(crate) fn sheet(part: Part, records: &Records, plan: Plan<'_>) -> Sheet {
    let view = View { records, plan };
    let mut sheet = match part {
        Part::Table(1) => language::architecture(&view, language::GPT2),
        Part::Table(2) => language::architecture(&view, language::BERT),
        Part::Table(3) => memory::table(&view),
        Part::Table(4) => language::ablations(&view),
        Part::Table(5) => tasks::vision(&view),
        Part::Table(_) => tasks::glue(&view),
        Part::Regime => regime::table(&view),
        Part::Method => method::table(&view),
    };

    sheet.notes.extend(places(part, records, plan));
    sheet
}

/// A note on the machines on which the runs of a part were made; `None` without a run.
fn places(part: Part, records: &Records, plan: Plan<'_>) -> Option<String> {
    let mut places = BTreeMap::<&str, usize>::new();
    for cell in part.cells(plan) {
        if let Some(Outcome::Done(done)) = records.get(&cell.id).map(|record| &record.outcome) {
            let Provenance { device, host, .. } = &done.provenance;
            *places.entry(if device == "cpu" { &host.cpu } else { device }).or_default() += 1;
        }
    }

    let all: Vec<String> =
        places.iter().map(|(place, runs)| format!("{runs} on {place}")).collect();

    (!all.is_empty()).then(|| {
        format!(
            "Runs behind this page: {}. Times depend on the machine. What a model learns differs \
             between machines only by rounding.",
            all.join(", ")
        )
    })
}

/// A table of rows with all of their figures.
fn details(view: &View<'_>, subject: Subject, rows: &[Row], caption: &str) -> Grid {
    let has_classes =
        view.group(subject, Row::Full).done.iter().any(|done| done.summary.test_scores.is_some());
    let (what, decimals): (_, usize) =
        if has_classes { ("accuracy", 3) } else { ("perplexity", 1) };
    let validation = if has_classes { VALIDATION_ACCURACY } else { VALIDATION_PERPLEXITY };
    let test = if has_classes { TEST_ACCURACY } else { TEST_PERPLEXITY };

    let on_validation = format!("{what}, validation");
    let on_test = format!("{what}, test");
    let mut grid = Grid::new(
        caption,
        [
            "",
            "seeds",
            &on_validation,
            &on_test,
            "test, compared with conventional",
            "test, compared with random policy",
            "independent layers, mean",
            "end",
            "distinct layers, mean",
            "end",
            "trainable parameters, mean",
            "end",
            "of these in blocks, share of conventional, mean",
        ],
    );

    let conventional = view.group(subject, Row::Conventional);
    let random = view.group(subject, Row::Random);

    for &row in rows {
        let group = view.group(subject, row);
        if group.done.is_empty() {
            grid.push([row.label(), "0".to_owned(), group.missing]);
            continue;
        }

        let other = |other: Row, of: &Group<'_>| {
            if row == other { String::new() } else { group.above(of, test) }
        };
        grid.push([
            row.label(),
            group.done.len().to_string(),
            group.text(validation, decimals),
            group.mean(test).map_or_else(String::new, |mean| mean.text(decimals)),
            other(Row::Conventional, &conventional),
            other(Row::Random, &random),
            mean_text(&group, INDEPENDENT_MEAN, 2),
            mean_text(&group, INDEPENDENT_END, 1),
            mean_text(&group, DISTINCT_MEAN, 2),
            mean_text(&group, DISTINCT_END, 1),
            mean_text(&group, PARAMETERS_MEAN, 2),
            mean_text(&group, PARAMETERS_END, 2),
            share_of_blocks(&group, &conventional),
        ]);
    }

    grid
}

/// Trainable parameters in blocks, mean over training, as a share of those of the conventional model
/// with all of its layers. The largest value of all runs is that model's, because a row with fewer
/// layers records only its own.
fn share_of_blocks(group: &Group<'_>, conventional: &Group<'_>) -> String {
    let whole = conventional
        .done
        .iter()
        .chain(&group.done)
        .map(|done| done.summary.conventional_block_parameters)
        .max();
    group.share(BLOCKS_MEAN, whole.map(|whole| whole as f64))
}

/// A mean without its range; empty if there is none.
fn mean_text(group: &Group<'_>, of: Quantity, decimals: usize) -> String {
    group.mean(of).map_or_else(String::new, |mean| format!("{:.decimals$}", mean.mean))
}

/// A mean without its range; if there is none, why.
fn mean_or_missing(group: &Group<'_>, of: Quantity, decimals: usize) -> String {
    if group.done.is_empty() { group.missing.clone() } else { mean_text(group, of, decimals) }
}

/// A sentence on the floor: the best model that knows only frequencies.
fn floor(view: &View<'_>, subject: Subject) -> Option<String> {
    view.group(subject, Row::Conventional).done.first().map(|done| floor_of(done))
}

fn floor_of(done: &Done) -> String {
    let summary = &done.summary;
    let tokenizer = match done.provenance.data.tokenizer.as_str() {
        "gpt2" => "GPT-2's tokenizer",
        _ => "a tokenizer that was trained on the text",
    };

    let test = |number: Option<f64>| {
        number.map_or_else(|| "not measured".to_owned(), |number| format!("{number:.1}"))
    };

    match (summary.validation_scores, summary.test_scores) {
        (Some(validation), Some(test)) => format!(
            "Always predicting the most frequent class gives an accuracy of {:.3} on validation and \
             {:.3} on test.",
            validation.majority_accuracy, test.majority_accuracy
        ),
        _ => format!(
            "The unigram floor is {:.1} on validation and {} on test. It is the best model of token \
             frequencies alone, fitted to the split itself. Perplexity is per token of {tokenizer}, \
             over the whole split, for the model that is best on validation.",
            summary.unigram_perplexity,
            test(summary.unigram_test_perplexity)
        ),
    }
}

const VALIDATION_PERPLEXITY: Quantity = |done| done.summary.validation_perplexity;
const TEST_PERPLEXITY: Quantity = |done| done.summary.test_perplexity.unwrap_or(f64::NAN);
const VALIDATION_ACCURACY: Quantity =
    |done| done.summary.validation_scores.map_or(f64::NAN, |scores| scores.accuracy);
const TEST_ACCURACY: Quantity =
    |done| done.summary.test_scores.map_or(f64::NAN, |scores| scores.accuracy);
const INDEPENDENT_MEAN: Quantity = |done| done.summary.independent_layers_mean;
const INDEPENDENT_END: Quantity = |done| done.summary.independent_layers_end as f64;
const DISTINCT_MEAN: Quantity = |done| done.summary.distinct_layers_mean;
const DISTINCT_END: Quantity = |done| done.summary.distinct_layers_end as f64;
/// In millions.
const PARAMETERS_MEAN: Quantity = |done| done.summary.trainable_parameters_mean / 1e6;
/// In millions.
const PARAMETERS_END: Quantity = |done| done.summary.trainable_parameters_end as f64 / 1e6;
/// In millions.
const BLOCK_PARAMETERS_MEAN: Quantity = |done| done.summary.block_parameters_mean / 1e6;
const SECONDS_PER_EPOCH: Quantity = |done| done.summary.seconds_per_epoch;

const HOW_TO_READ: &str = "Values are means over seeds, with the least and the most in brackets. \
    Differences are between means. A positive difference is a higher perplexity (worse) or a higher \
    accuracy (better). Independent layers are those that the state calls independent. Distinct layers \
    are those with their own storage. Parameters are in millions.";
