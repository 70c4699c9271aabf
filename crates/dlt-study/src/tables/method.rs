//! Our method compared with conventional training, fixed sharings, chance and the paper's method.

use super::{BLOCK_PARAMETERS_MEAN, TEST_PERPLEXITY, VALIDATION_PERPLEXITY, floor_of, mean_text};
use crate::method::choice::{BLOCKS_MEAN, Choice, Chosen, group};
use crate::method::points::whole;
use crate::method::worth::Curve;
use crate::method::{LEFT_OUT, Pace, Point, Setup, What, points, rows};
use crate::row::Row;
use crate::sheet::{Figure, Grid, Sheet};
use crate::subject::Subject;
use crate::view::{Group, Quantity, View};

pub(super) fn table(view: &View<'_>) -> Sheet {
    let scale = view.plan.scale;
    let chosen = Chosen::of(view);
    let mut introduction =
        vec![scale.sentence().to_owned(), HOW_CHOSEN.to_owned(), HOW_VALUED.to_owned()];
    let conventional = chosen.of_row(What::Conventional);

    introduction
        .extend(conventional.and_then(|one| one.group.done.first()).map(|done| floor_of(done)));
    introduction.extend(conventional.and_then(past_best));

    let mut sheet = Sheet {
        name: "method".to_owned(),
        title: "Our method".to_owned(),
        introduction,
        grids: Vec::new(),
        notes: vec![HOW_TIMED.to_owned(), HOW_COMPARED.to_owned()],
        figures: figures(view),
    };

    if let Some(setup) = Setup::of(scale) {
        sheet.grids =
            vec![outcome(view, &chosen), rivals(&chosen), rates(view), sizes(view, setup)];
    }

    sheet
}

const BLOCKS_END: Quantity = |done| done.summary.block_parameters_end as f64;

const PEAK_MEMORY: Quantity = |done| done.summary.peak_rss_mb.unwrap_or(f64::NAN);

/// Time of training, decisions and rewards, in milliseconds per step.
const STEP_MS: Quantity =
    |done| 1e3 * done.summary.elapsed_training_s / done.summary.steps.max(1) as f64;

const BEST_STEP: Quantity = |done| done.summary.best_step as f64;

const ALL_PARAMETERS: Quantity = |done| done.summary.trainable_parameters_end as f64;

const LAST_TO_BEST: Quantity = |done| done.last_to_best.unwrap_or(f64::NAN);

/// How far conventional training went past its best. The paper's regime is one that goes past it, so
/// a page has to say whether its runs do.
fn past_best(conventional: &Choice<'_>) -> Option<String> {
    let group = &conventional.group;
    let last = group.mean(LAST_TO_BEST).filter(|mean| mean.mean.is_finite())?;
    let best = group.mean(BEST_STEP)?;
    let steps = group.done.first()?.summary.steps;

    Some(format!(
        "At its best rate, conventional training is best on validation after {:.0} of {steps} steps, \
         in the mean. Its perplexity after the last step is {} times the best.",
        best.mean,
        last.text(3)
    ))
}

/// Every row with its figures.
fn outcome(view: &View<'_>, chosen: &Chosen<'_>) -> Grid {
    let mut grid = Grid::new(
        "Each row at its best learning rate",
        [
            "",
            "learning rate",
            "seeds",
            "perplexity, validation",
            "perplexity, test",
            "best step",
            "block parameters, share of conventional, mean",
            "end",
            "peak memory, MB",
            "time per step, share of conventional",
            "conventional model of equal perplexity: block parameters, millions",
            "all parameters, millions",
        ],
    );

    let conventional = chosen.of_row(What::Conventional);
    let whole = conventional.and_then(whole);
    let curves = [BLOCKS_MEAN as Quantity, ALL_PARAMETERS].map(|of| curve(view, of));
    let pace = conventional.and_then(|one| one.group.mean(STEP_MS));

    for what in rows(view.plan.scale) {
        let Some(choice) = chosen.of_row(what) else {
            grid.push([what.label(), String::new(), "0".to_owned(), why_missing(view, what)]);
            continue;
        };

        let group = &choice.group;
        let time = match (group.mean(STEP_MS), pace) {
            (Some(own), Some(pace)) if pace.mean > 0.0 => format!("{:.2}", own.mean / pace.mean),
            _ => String::new(),
        };

        let test = group.mean(TEST_PERPLEXITY);
        let worth = |curve: &Option<Curve>| {
            let worth = curve.as_ref().zip(test).and_then(|(curve, test)| curve.worth(test.mean));
            worth.map_or_else(String::new, |worth| worth.to_string())
        };

        grid.push([
            what.label(),
            choice.rate(),
            group.done.len().to_string(),
            group.text(VALIDATION_PERPLEXITY, 1),
            test.map_or_else(String::new, |mean| mean.text(1)),
            mean_text(group, BEST_STEP, 0),
            group.share(BLOCKS_MEAN, whole),
            group.share(BLOCKS_END, whole),
            group
                .mean(PEAK_MEMORY)
                .filter(|mean| mean.mean.is_finite())
                .map_or_else(String::new, |mean| mean.text(0)),
            time,
            worth(&curves[0]),
            worth(&curves[1]),
        ]);
    }

    for (label, why) in LEFT_OUT {
        grid.push([label, "", "", &format!("left out: {why}")]);
    }

    grid
}

/// Why a row has no finished run at any rate.
fn why_missing(view: &View<'_>, what: What) -> String {
    let mut whys: Vec<String> =
        what.paces().iter().map(|&pace| group(view, what, pace).missing).collect();
    whys.dedup();

    if whys.len() > 1 {
        whys.retain(|why| why != NOT_RUN);
    }

    whys.join("; ")
}

/// The curve of the conventional models that value a perplexity.
fn curve(view: &View<'_>, parameters: Quantity) -> Option<Curve> {
    let sizes = Setup::of(view.plan.scale)?.sizes();
    let point = |what: What| {
        let group = group(view, what, Pace::Once);
        Some((group.mean(parameters)?.mean, group.mean(TEST_PERPLEXITY)?.mean))
    };

    Curve::of(sizes.into_iter().filter_map(point))
}

/// What a method has to beat: conventional training, its random twin and the best fixed sharing.
fn rivals(chosen: &Chosen<'_>) -> Grid {
    let mut grid = Grid::new(
        "Compared with what a method has to beat: validation, then test",
        [
            "",
            "conventional training",
            "its random twin",
            "the best fixed sharing",
            "the best fixed sharing that is no larger in the mean",
        ],
    );

    let is_method =
        |what: What| what.twin().is_some() || matches!(what, What::GrowRandom | What::GrowAnywhere);
    for choice in chosen.all().filter(|choice| is_method(choice.what)) {
        let own = &choice.group;
        let against = |other: Option<&Choice<'_>>| {
            other.map_or_else(String::new, |other| versus(own, &other.group))
        };

        let named = |other: Option<&Choice<'_>>| {
            other.map_or_else(String::new, |one| {
                format!("{} ({})", versus(own, &one.group), one.what.name())
            })
        };

        // A margin, because means of equal sizes can differ by rounding.
        let blocks = own.mean(BLOCKS_MEAN).map_or(0.0, |mean| mean.mean * (1.0 + 1e-6));
        grid.push([
            choice.what.label(),
            against(chosen.of_row(What::Conventional)),
            against(choice.what.twin().and_then(|twin| chosen.of_row(twin))),
            named(chosen.best_fixed(f64::INFINITY)),
            named(chosen.best_fixed(blocks)),
        ]);
    }

    grid
}

/// `-7.1 % apart, -6.5 % overlapping`: the difference on validation, then on test, and whether the
/// ranges over seeds overlap.
fn versus(own: &Group<'_>, other: &Group<'_>) -> String {
    let on = |of: Quantity| {
        let difference = own.above(other, of);
        match (own.mean(of), other.mean(of)) {
            (Some(one), Some(two)) if one.seeds > 1 && two.seeds > 1 => {
                let is_apart = one.most < two.least || two.most < one.least;
                format!("{difference} {}", if is_apart { "apart" } else { "overlapping" })
            }
            _ => difference,
        }
    };

    format!("{}, {}", on(VALIDATION_PERPLEXITY), on(TEST_PERPLEXITY))
}

/// Every row at every rate.
fn rates(view: &View<'_>) -> Grid {
    let heads = Pace::ALL.map(|pace| format!("rate {}", pace.text()));
    let heads = [String::new()].into_iter().chain(heads);
    let mut grid = Grid::new("Perplexity on validation at every rate", heads);

    for what in rows(view.plan.scale).into_iter().filter(|what| what.paces().len() > 1) {
        let at = |&pace: &Pace| group(view, what, pace).text(VALIDATION_PERPLEXITY, 1);
        grid.push([what.label()].into_iter().chain(Pace::ALL.iter().map(at)));
    }

    grid
}

/// A table of the conventional models that value a perplexity.
fn sizes(view: &View<'_>, setup: &Setup) -> Grid {
    let heads = setup.widths.iter().map(|width| format!("width {width}"));
    let mut grid = Grid::new(
        "Conventional models of other sizes: perplexity on test, block parameters in millions",
        ["layers".to_owned()].into_iter().chain(heads),
    );

    for &layers in setup.depths {
        let at = |&width: &u16| {
            let group = group(view, What::Size { layers, width }, Pace::Once);
            if group.done.is_empty() {
                return group.missing;
            }

            let perplexity = mean_text(&group, TEST_PERPLEXITY, 1);
            format!("{perplexity}, {}", mean_text(&group, BLOCK_PARAMETERS_MEAN, 2))
        };

        grid.push([layers.to_string()].into_iter().chain(setup.widths.iter().map(at)));
    }

    grid
}

fn figures(view: &View<'_>) -> Vec<Figure> {
    let quantities: [(&str, Quantity); 7] = [
        ("perplexity, validation", VALIDATION_PERPLEXITY),
        ("perplexity, test", TEST_PERPLEXITY),
        ("trainable parameters in blocks, mean", BLOCKS_MEAN),
        ("trainable parameters in blocks, end", BLOCKS_END),
        ("peak memory, MB", PEAK_MEMORY),
        ("time a step, ms", STEP_MS),
        ("perplexity after the last step, validation, of the best during training", LAST_TO_BEST),
    ];

    let figures =
        |point: Point| view.figures(Subject::Method, Row::Method(point), None, &quantities);
    // A quantity that no run recorded is NaN, which JSON cannot hold: such a figure is absent.
    let said = |figure: Figure| {
        let is_said = figure.mean.is_some_and(f64::is_finite);
        if is_said { figure } else { Figure { mean: None, least: None, most: None, ..figure } }
    };

    points(view.plan.scale).into_iter().flat_map(figures).map(said).collect()
}

/// What a group says if none of its seeds has been run.
const NOT_RUN: &str = "not run yet";
const HOW_CHOSEN: &str = "Each row is shown at the learning rate (of 5e-4, 1e-3 and 2e-3) that is best \
    on validation. Rates are compared on the seeds that all rates of the row have. The page names the \
    rate, and says whether it is the lowest or the highest that was tried. All rows train on the same \
    number of tokens. Every row except those of the main job is `--method paper` with the settings \
    that `cells.jsonl` names. Values are means over seeds, with the least and the most in brackets.";
const HOW_VALUED: &str = "The last two columns say how large a conventional model with the same \
    perplexity on test is. They interpolate, in logarithms, between the conventional models at the end \
    of this page. Each of those has one seed and the rate 1e-3. A larger model that is no better is \
    left out. Nothing is extrapolated beyond the smallest and the best of them.";
const HOW_TIMED: &str = "Times were measured while the machine did other work. data/results/bench \
    measures the speed of a step.";
const HOW_COMPARED: &str = "Differences are between means: a negative one is a lower perplexity. \
    \"Apart\" says that the ranges over seeds have no value in common. The random twin of a method has \
    the same times, merges, gate and budget. It draws its changes, or the states that it judges, at \
    random.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Plan;
    use crate::record::Records;
    use crate::scale::Scale;

    #[test]
    fn a_page_without_records_says_so_in_every_row() {
        for scale in Scale::ALL {
            let records = Records::default();
            let sheet = table(&View { records: &records, plan: Plan { scale, seeds: None } });
            let Some(outcome) = sheet.grids.first() else {
                assert_eq!(scale, Scale::Paper);
                continue;
            };

            let (left_out, rows): (Vec<_>, Vec<_>) =
                outcome.rows.iter().partition(|row| row[3].starts_with("left out: "));
            assert_eq!(left_out.len(), LEFT_OUT.len());
            assert!(rows.iter().all(|row| row[3] == "not run yet"), "{rows:?}");
            assert!(sheet.figures.iter().all(|figure| figure.mean.is_none()));
        }
    }
}
