//! The outcome of a run: its key numbers at a glance, then detailed tables.

use dlt_spec::record::Scores;
use dlt_spec::spec::Objective;

use super::html::{Html, HtmlTable};
use crate::digest::{Digest, units};
use crate::numbers::{decimal, duration, or_dash, perplexity, whole};
use crate::run::Run;

/// The key numbers at a glance: a name, a number, and a note that puts the number in context.
pub(super) fn glance(run: &Run, digest: &Digest) -> Html {
    let mut html = Html::new();
    html.markup("<dl class=\"glance\">");
    quality_tiles(&mut html, run, digest);
    cost_tiles(&mut html, run, digest);
    html.markup("</dl>");

    html
}

fn quality_tiles(html: &mut Html, run: &Run, digest: &Digest) {
    if let Some(scores) = digest.validation_scores {
        let floor = format!("majority class {}", percent(scores.majority_accuracy));
        tile(html, "Validation accuracy", Some(percent(scores.accuracy)), &floor);

        if let Some(test) = digest.test_scores {
            let floor = format!("majority class {}", percent(test.majority_accuracy));
            tile(html, "Test accuracy", Some(percent(test.accuracy)), &floor);
        }
    } else if run.spec.model.objective == Objective::Classes {
        tile(html, "Validation accuracy so far", digest.validation_accuracy.map(percent), "");
    } else {
        let name =
            if digest.finished { "Validation perplexity" } else { "Validation perplexity so far" };
        let floor = |floor: Option<f64>| {
            floor.map_or_else(String::new, |floor| format!("unigram floor {}", perplexity(floor)))
        };

        tile(
            html,
            name,
            digest.validation_perplexity.map(perplexity),
            &floor(digest.unigram_perplexity),
        );

        if let Some(test) = digest.test_perplexity {
            let number = Some(perplexity(test));
            tile(html, "Test perplexity", number, &floor(digest.unigram_test_perplexity));
        }
    }

    if !digest.finished {
        let loss = run.metrics.steps.last().map(|row| decimal(row.loss, 3));
        tile(html, "Training loss, nats", loss, "of the last step");
    }
}

fn cost_tiles(html: &mut Html, run: &Run, digest: &Digest) {
    let now = if digest.finished { "at the end" } else { "now" };
    let end = digest
        .block_share_end()
        .map_or_else(String::new, |share| format!("{} {now}", percent(share)));

    tile(
        html,
        "Block parameters trained",
        digest.block_share_mean().map(percent),
        &format!("of conventional, mean; {end}"),
    );

    let note = |end: Option<usize>| {
        let end = end.map_or_else(String::new, |end| format!("; {end} {now}"));
        format!("of {}, mean{end}", digest.layers)
    };

    for (name, mean, end) in [
        ("Independent layers", digest.independent_layers_mean, digest.independent_layers_end),
        ("Distinct layers in memory", digest.distinct_layers_mean, digest.distinct_layers_end),
    ] {
        tile(html, name, mean.map(|mean| decimal(mean, 2)), &note(end));
    }

    let elapsed = digest
        .elapsed_s
        .map_or_else(String::new, |seconds| format!("{} in all", duration(seconds)));
    let unit = match units(run) {
        "examples" => "Examples a second",
        _ => "Tokens a second",
    };

    tile(html, unit, digest.tokens_per_s.map(|speed| decimal(speed, 0)), &elapsed);
    let predicted = digest
        .predicted_peak_rss_mb
        .map_or_else(String::new, |mb| format!("predicted {} MB", decimal(mb, 0)));
    tile(html, "Peak memory, MB", digest.peak_rss_mb.map(|mb| decimal(mb, 0)), &predicted);

    let events =
        format!("{} times tied, {} untied", whole(digest.tied_events), whole(digest.untied_events));
    tile(html, "Decisions", Some(whole(digest.decisions)), &events);
}

fn tile(html: &mut Html, name: &str, number: Option<String>, note: &str) {
    html.tagged("<div><dt>", name, "</dt>");
    html.tagged("<dd>", number.as_deref().unwrap_or("–"), "</dd>");
    html.tagged("<dd class=\"against\">", note, "</dd></div>");
}

fn percent(share: f64) -> String {
    format!("{}\u{a0}%", decimal(100.0 * share, 1))
}

/// The detailed tables.
pub(super) fn tables(run: &Run, digest: &Digest) -> Html {
    let mut html = Html::new();
    html.markup("<div class=\"columns\"><div>");
    html.tagged("<h4>Quality <small>", &model_of(digest), "</small></h4>")
        .add(&quality(run, digest));
    html.markup("</div><div><h4>Speed and memory</h4>").add(&machine(run, digest));
    html.markup("</div></div><h4>Parameters <small>trainable; over training steps</small></h4>");
    html.add(&parameters(digest));

    html
}

fn model_of(digest: &Digest) -> String {
    digest.best_step.map_or_else(String::new, |step| {
        format!("best model on validation, from step {}", whole(step))
    })
}

fn quality(run: &Run, digest: &Digest) -> Html {
    if let Some(scores) = digest.validation_scores {
        return scores_table(digest, scores);
    }

    let mut table = HtmlTable::of_numbers(&["this model", "unigram floor"]);
    let cell = |number: Option<f64>| or_dash(number, perplexity);

    for (name, model, floor) in [
        ("validation perplexity", digest.validation_perplexity, digest.unigram_perplexity),
        ("test perplexity", digest.test_perplexity, digest.unigram_test_perplexity),
    ] {
        table.row([name, &cell(model), &cell(floor)]);
    }

    let three = |number: Option<f64>| or_dash(number, |number| decimal(number, 3));
    let floor = digest.unigram_perplexity.map(f64::ln);
    table.row(["validation loss, nats", &three(digest.validation_loss), &three(floor)]);

    if let Some(bits) = digest.bits_per_byte {
        table.row(["validation bits per byte", &decimal(bits, 3), ""]);
    }

    if let Some(selected) =
        run.summary.as_ref().and_then(|summary| summary.test_perplexity_selected_on_test)
    {
        table.row([
            "test perplexity if the test split chose the model (not fair)",
            &perplexity(selected),
            "",
        ]);
    }

    let mut html = table.html("Quality compared with the floor");
    let tokenizer = &run.spec.data.tokenizer;
    match run.spec.model.objective {
        Objective::NextToken => html.tagged("<p class=\"note\">Per token of ", tokenizer, ".</p>"),
        Objective::MaskedToken => html.tagged(
            "<p class=\"note\">Pseudo-perplexity of hidden tokens of ",
            tokenizer,
            ", seen from both sides: not comparable with the perplexity of a decoder.</p>",
        ),
        Objective::Classes => &mut html,
    };

    html
}

fn scores_table(digest: &Digest, validation: Scores) -> Html {
    let mut table = HtmlTable::of_numbers(&["this model", "majority class"]);
    for (split, scores) in [("validation", Some(validation)), ("test", digest.test_scores)] {
        let Some(scores) = scores else { continue };
        let [accuracy, floor] =
            [scores.accuracy, scores.majority_accuracy].map(|share| decimal(share, 4));
        table.row([&format!("{split} accuracy"), &accuracy, &floor]);

        if let Some(matthews) = scores.matthews {
            table.row([&format!("{split} Matthews correlation"), &decimal(matthews, 4), "0.0000"]);
        }

        if let Some(f1) = scores.f1 {
            table.row([&format!("{split} F1 of class 1"), &decimal(f1, 4), ""]);
        }
    }

    let three = |number: Option<f64>| or_dash(number, |number| decimal(number, 3));
    table.row([
        "validation loss, nats",
        &three(digest.validation_loss),
        &three(digest.unigram_perplexity.map(f64::ln)),
    ]);

    table.html("Quality compared with the majority class")
}

fn machine(run: &Run, digest: &Digest) -> Html {
    let mut table = HtmlTable::of_numbers(&[""]);
    let mb = |number: Option<f64>| or_dash(number, |mb| format!("{} MB", decimal(mb, 1)));
    let share =
        |share: Option<f64>| or_dash(share, |share| format!("{} %", decimal(100.0 * share, 2)));
    let time = |seconds: Option<f64>| or_dash(seconds, duration);
    let speed = or_dash(digest.tokens_per_s, |speed| decimal(speed, 0));

    table.row([format!("{} a second", units(run)), speed]);
    table.row(["a pass over the training data", &time(digest.seconds_per_epoch)]);
    table.row(["whole run", &time(digest.elapsed_s)]);
    table.row(["share of training time for rewards", &share(digest.rewarding_share)]);
    table.row(["share of training time for decisions", &share(digest.deciding_share)]);
    table.row(["resident memory, peak", &mb(digest.peak_rss_mb)]);
    table.row(["resident memory, predicted peak", &mb(digest.predicted_peak_rss_mb)]);
    table.row(["resident memory, mean", &mb(digest.mean_rss_mb)]);
    table.row(["weights, gradients, moments, peak", &mb(digest.weights_gradients_moments_mb_peak)]);

    table.html("Speed and memory")
}

fn parameters(digest: &Digest) -> Html {
    let mut table = HtmlTable::of_numbers(&[
        "mean",
        if digest.finished { "end" } else { "now" },
        "conventional",
    ]);
    let number = |number: Option<usize>| or_dash(number, whole);
    let mean =
        |number: Option<f64>, decimals: usize| or_dash(number, |number| decimal(number, decimals));

    table.row([
        "trainable parameters",
        &mean(digest.trainable_parameters_mean, 0),
        &number(digest.trainable_parameters_end),
        &number(digest.conventional_parameters),
    ]);

    let outside = |all: Option<usize>, blocks: Option<usize>| {
        number(all.zip(blocks).map(|(all, blocks)| all.saturating_sub(blocks)))
    };
    let outside_mean = digest
        .trainable_parameters_mean
        .zip(digest.block_parameters_mean)
        .map(|(all, blocks)| all - blocks);

    table.row([
        "outside blocks: embeddings, final norm, head",
        &mean(outside_mean, 0),
        &outside(digest.trainable_parameters_end, digest.block_parameters_end),
        &outside(digest.conventional_parameters, digest.conventional_block_parameters),
    ]);

    table.row([
        "in blocks",
        &mean(digest.block_parameters_mean, 0),
        &number(digest.block_parameters_end),
        &number(digest.conventional_block_parameters),
    ]);

    let block = digest.conventional_block_parameters.map(|all| all / digest.layers.max(1));
    table.row(["one block", "", "", &number(block)]);

    let three = |share: Option<f64>| mean(share, 3);
    table.row([
        "in blocks, share of conventional",
        &three(digest.block_share_mean()),
        &three(digest.block_share_end()),
        "1.000",
    ]);

    let layers = digest.layers.to_string();
    for (name, over_training, end) in [
        ("independent layers", digest.independent_layers_mean, digest.independent_layers_end),
        ("distinct layers in memory", digest.distinct_layers_mean, digest.distinct_layers_end),
    ] {
        table.row([name, &mean(over_training, 2), &number(end), &layers]);
    }

    table.html("Trainable parameters and layers")
}
