//! Several runs beside each other.

use dlt_spec::fields::FIELDS;

use super::html::{Column, Html, Table};
use super::settings::plain;
use crate::digest::Digest;
use crate::numbers::{decimal, or_dash, perplexity, signed, whole};
use crate::run::Run;

/// The table of runs, with the difference to the first conventional one.
pub(super) fn table(runs: &[Run], digests: &[Digest]) -> Html {
    let has_classes = digests.iter().any(|digest| digest.validation_accuracy.is_some());
    let is_base = runs.iter().position(Digest::is_conventional);
    let quality = if has_classes { "accuracy" } else { "perplexity" };
    let mut columns = vec![("run", Column::Words), ("method", Column::Words), ("steps", Column::Numbers)];
    columns
        .push((if has_classes { "validation accuracy" } else { "validation perplexity" }, Column::Numbers));
    columns.extend(is_base.map(|_| ("difference", Column::Numbers)));
    columns.push((if has_classes { "test accuracy" } else { "test perplexity" }, Column::Numbers));
    columns.push(("share of blocks, mean", Column::Numbers));
    columns.extend([("independent, mean", Column::Numbers), ("distinct, mean", Column::Numbers)]);
    columns.extend([("per second", Column::Numbers), ("peak MB", Column::Numbers)]);
    let mut table = Table::new(&columns);
    let base = is_base.map(|index| &digests[index]);
    for (index, (run, digest)) in runs.iter().zip(digests).enumerate() {
        let number =
            |number: Option<f64>, decimals: usize| or_dash(number, |number| decimal(number, decimals));
        let (validation, test) = qualities(digest, has_classes);
        let mut name = Html::new();
        name.markup("<a href=\"#run-")
            .text(&index.to_string())
            .markup("\">")
            .text(&run.name())
            .markup("</a>");
        let mut cells = vec![name, Html::of(&digest.method), Html::of(&whole(digest.steps))];
        cells.push(Html::of(&validation));
        if let Some(base) = base {
            let is_itself = is_base == Some(index);
            cells.push(Html::of(&if is_itself {
                String::new()
            } else {
                difference(digest, base, has_classes)
            }));
        }
        cells.push(Html::of(&test));
        for cell in [
            number(digest.block_share_mean(), 3),
            number(digest.independent_layers_mean, 2),
            number(digest.distinct_layers_mean, 2),
            number(digest.tokens_per_s, 0),
            number(digest.peak_rss_mb, 0),
        ] {
            cells.push(Html::of(&cell));
        }
        table.row_of(cells);
    }
    let mut html = Html::new();
    html.markup("<div class=\"tight\">").add(&table.html("The runs beside each other")).markup("</div>");
    html.markup("<p class=\"note\">");
    if let Some(index) = is_base {
        html.tagged(
            "Differences are to <b>",
            &runs[index].name(),
            "</b>, the first run of conventional training here. ",
        );
    }
    html.markup("The share is that of the conventional model’s block parameters. ");
    html.markup("Runs of other data, tokenizers or numbers of steps are not to be compared by ");
    html.tagged("", quality, ".</p>");
    html.add(&strangers(digests)).add(&settings(runs));
    html
}

/// The settings in which the runs differ, but for their names.
fn settings(runs: &[Run]) -> Html {
    let mut columns = vec![("setting", Column::Words)];
    let names: Vec<String> = runs.iter().map(Run::name).collect();
    columns.extend(names.iter().map(|name| (name.as_str(), Column::Words)));
    let mut table = Table::new(&columns);
    for field in FIELDS.iter().filter(|field| field.key() != "name") {
        let values: Vec<String> = runs.iter().map(|run| plain(field, &run.spec)).collect();
        if values.iter().any(|value| *value != values[0]) {
            let mut key = Html::new();
            key.tagged("<code>", field.key(), "</code>");
            table.row_of([key].into_iter().chain(values.iter().map(|value| Html::of(value))).collect());
        }
    }
    let mut html = Html::new();
    match table.is_empty() {
        true => html.markup("<p class=\"note\">Their settings are the same.</p>"),
        false => html
            .markup("<details id=\"beside-settings\"><summary>Settings in which they differ</summary>")
            .add(&table.html("Settings in which the runs differ"))
            .markup("</details>"),
    };
    html
}

/// Validation and test.
fn qualities(digest: &Digest, has_classes: bool) -> (String, String) {
    let show = |number: Option<f64>| match (number, has_classes) {
        (None, _) => "–".to_owned(),
        (Some(number), true) => decimal(number, 4),
        (Some(number), false) => perplexity(number),
    };
    match has_classes {
        true => (show(digest.validation_accuracy), show(digest.test_scores.map(|scores| scores.accuracy))),
        false => (show(digest.validation_perplexity), show(digest.test_perplexity)),
    }
}

/// Accuracies in points, perplexities in percent.
fn difference(digest: &Digest, base: &Digest, has_classes: bool) -> String {
    let pair = match has_classes {
        true => digest.validation_accuracy.zip(base.validation_accuracy).map(|(a, b)| signed(a - b, 4)),
        false => digest
            .validation_perplexity
            .zip(base.validation_perplexity)
            .map(|(a, b)| format!("{} %", signed(100.0 * (a / b - 1.0), 1))),
    };
    or_dash(pair, |text| text)
}

/// Says where runs learned from other data than the first.
fn strangers(digests: &[Digest]) -> Html {
    let mut html = Html::new();
    let Some(first) = digests.first() else { return html };
    let others = digests.iter().filter(|digest| digest.data_sha256 != first.data_sha256);
    let names: Vec<_> = others.map(|digest| digest.name.as_str()).collect();
    if !names.is_empty() {
        html.tagged("<p class=\"warning\">Other data than the first run: ", &names.join(", "), ".</p>");
    }
    html
}
