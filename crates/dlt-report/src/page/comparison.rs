//! Several runs next to each other.

use dlt_spec::fields::FIELDS;
use dlt_spec::spec::{Architecture, Objective};

use super::html::{Column, Html, HtmlTable};
use super::settings::plain;
use crate::digest::Digest;
use crate::numbers::{decimal, or_dash, perplexity, signed, whole};
use crate::run::Run;

/// Settings of data that affect only training, or that name a place. The evaluated data do not
/// depend on them.
const OF_TRAINING: [&str; 4] = ["data.source", "data.tokenizer", "data.order", "data.augment"];

/// The table of runs. Each has its difference to the first conventional run that it can be compared
/// with.
pub(super) fn table(runs: &[Run], digests: &[Digest]) -> Html {
    let has_classes = digests.iter().any(|digest| digest.validation_accuracy.is_some());
    let bases: Vec<Option<usize>> = runs.iter().map(|run| base(runs, run)).collect();
    let has_base = bases.iter().any(Option::is_some);
    let quality = if has_classes { "accuracy" } else { "perplexity" };
    let [validation, test] = ["validation", "test"].map(|split| format!("{split} {quality}"));
    let of_blocks =
        ["share of blocks, mean", "independent, mean", "distinct, mean", "per second", "peak MB"];
    let numbers = ["steps", &validation].into_iter().chain(has_base.then_some("difference"));
    let numbers = numbers.chain([&*test]).chain(of_blocks).map(|name| (name, Column::Numbers));
    let words = ["run", "method"].map(|name| (name, Column::Words));
    let columns: Vec<_> = words.into_iter().chain(numbers).collect();

    let mut table = HtmlTable::new(&columns);
    for (index, (run, digest)) in runs.iter().zip(digests).enumerate() {
        let number = |number: Option<f64>, decimals: usize| {
            or_dash(number, |number| decimal(number, decimals))
        };
        let (validation, test) = qualities(digest, has_classes);
        let mut name = Html::new();

        name.markup("<a href=\"#run-")
            .text(&index.to_string())
            .markup("\">")
            .text(&run.name())
            .markup("</a>");
        let difference = has_base.then(|| match bases[index] {
            Some(base) if base == index => String::new(),
            Some(base) => difference(digest, &digests[base], has_classes),
            None => "–".to_owned(),
        });

        let mut cells = vec![digest.method.clone(), whole(digest.steps), validation];
        cells.extend(difference);
        cells.extend([
            test,
            number(digest.block_share_mean(), 3),
            number(digest.independent_layers_mean, 2),
            number(digest.distinct_layers_mean, 2),
            number(digest.tokens_per_s, 0),
            number(digest.peak_rss_mb, 0),
        ]);
        let cells = cells.iter().map(|cell| Html::of(cell));
        table.row_of([name].into_iter().chain(cells).collect());
    }

    let mut html = Html::new();
    html.markup("<div class=\"tight\">").add(&table.html("The runs compared")).markup("</div>");
    html.markup("<p class=\"note\">");

    if has_base {
        let mut named: Vec<String> =
            bases.iter().flatten().map(|&base| runs[base].name()).collect();
        named.sort();
        named.dedup();
        html.tagged("Differences are relative to <b>", &named.join(", "), "</b>, ");
        html.markup("the first conventional run with the same data, tokenizer and splits. ");
    }

    html.markup("The share of blocks is relative to the conventional model’s block parameters. ");
    html.tagged("Runs with different numbers of steps cannot be compared by ", quality, ".</p>");
    html.add(&strangers(runs)).add(&settings(runs));

    html
}

/// The conventional run that a run is compared with.
fn base(runs: &[Run], run: &Run) -> Option<usize> {
    runs.iter().position(|other| other.spec.is_conventional() && obstacles(run, other).is_empty())
}

/// Why the losses of two runs cannot be compared, in words; empty if they can.
fn obstacles(a: &Run, b: &Run) -> Vec<&'static str> {
    let of_a = &a.provenance.data;
    let of_b = &b.provenance.data;
    let amounts = |data: &dlt_spec::record::DataProvenance| {
        (data.train_tokens, data.validation_tokens, data.test_tokens)
    };
    let is_known = |sha256: &str| !sha256.is_empty();

    let has_other = |key: &str| {
        FIELDS
            .iter()
            .any(|field| field.key() == key && field.value(&a.spec) != field.value(&b.spec))
    };

    let more = FIELDS.iter().map(dlt_spec::fields::Field::key).filter(|key| {
        key.starts_with("data.") && *key != "data.split" && !OF_TRAINING.contains(key)
    });

    // A finished run shows its last evaluation, a run under way shows those during training.
    let windows = match (&a.summary, &b.summary) {
        (Some(_), Some(_)) => "evaluation.final_windows",
        _ => "evaluation.windows",
    };

    let found = [
        ("other data", of_a.sha256 != of_b.sha256 || !is_known(&of_a.sha256)),
        ("another tokenizer", file_name(&of_a.tokenizer) != file_name(&of_b.tokenizer)),
        ("other splits", has_other("data.split") || amounts(of_a) != amounts(of_b)),
        ("another objective", has_other("model.objective")),
        ("other windows evaluated", has_other(windows)),
        ("other settings of data", more.into_iter().any(has_other)),
    ];

    // Pictures have no tokenizer, whatever the spec says.
    let counts = |why: &str| why != "another tokenizer" || !is_of_pictures(a) || !is_of_pictures(b);
    found.into_iter().filter(|(why, holds)| *holds && counts(why)).map(|(why, _)| why).collect()
}

fn is_of_pictures(run: &Run) -> bool {
    run.spec.model.architecture == Architecture::Vit
        && run.spec.model.objective == Objective::Classes
}

/// The last part of a path. Only this part is compared, because a tokenizer may be copied.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The settings in which the runs differ, except their names.
fn settings(runs: &[Run]) -> Html {
    let mut columns = vec![("setting", Column::Words)];
    let names: Vec<String> = runs.iter().map(Run::name).collect();
    columns.extend(names.iter().map(|name| (name.as_str(), Column::Words)));

    let mut table = HtmlTable::new(&columns);
    for field in FIELDS.iter().filter(|field| field.key() != "name") {
        let values: Vec<String> = runs.iter().map(|run| plain(field, &run.spec)).collect();
        if values.iter().any(|value| *value != values[0]) {
            let mut key = Html::new();
            key.tagged("<code>", field.key(), "</code>");
            table.row_of(
                [key].into_iter().chain(values.iter().map(|value| Html::of(value))).collect(),
            );
        }
    }

    let mut html = Html::new();
    if table.is_empty() {
        html.markup("<p class=\"note\">The runs have the same settings.</p>");
    } else {
        html.markup("<details id=\"different-settings\"><summary>Different settings</summary>")
            .add(&table.html("Settings in which the runs differ"))
            .markup("</details>");
    }

    html
}

/// Validation and test.
fn qualities(digest: &Digest, has_classes: bool) -> (String, String) {
    let show = |number: Option<f64>| match (number, has_classes) {
        (None, _) => "–".to_owned(),
        (Some(number), true) => decimal(number, 4),
        (Some(number), false) => perplexity(number),
    };

    if has_classes {
        (show(digest.validation_accuracy), show(digest.test_scores.map(|scores| scores.accuracy)))
    } else {
        (show(digest.validation_perplexity), show(digest.test_perplexity))
    }
}

/// The difference to the base run: of accuracies as it is, of perplexities in percent.
fn difference(digest: &Digest, base: &Digest, has_classes: bool) -> String {
    let pair = if has_classes {
        digest.validation_accuracy.zip(base.validation_accuracy).map(|(a, b)| signed(a - b, 4))
    } else {
        digest
            .validation_perplexity
            .zip(base.validation_perplexity)
            .map(|(a, b)| format!("{} %", signed(100.0 * (a / b - 1.0), 1)))
    };

    or_dash(pair, |text| text)
}

/// A warning about runs that cannot be compared with the first one, and why.
fn strangers(runs: &[Run]) -> Html {
    let mut html = Html::new();
    let Some((first, others)) = runs.split_first() else { return html };
    let said: Vec<String> = others
        .iter()
        .map(|run| (run, obstacles(first, run)))
        .filter(|(_, obstacles)| !obstacles.is_empty())
        .map(|(run, obstacles)| format!("{} ({})", run.name(), obstacles.join(", ")))
        .collect();

    if !said.is_empty() {
        let before = "<p class=\"warning\">Not comparable with the first run: ";
        html.tagged(before, &said.join("; "), ".</p>");
    }

    html
}
