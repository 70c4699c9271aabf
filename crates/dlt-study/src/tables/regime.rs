//! Where tying pays: validation perplexity by learning rate, steps between decisions, and share of
//! training with decisions.

use super::{INDEPENDENT_MEAN, VALIDATION_PERPLEXITY, floor_of};
use crate::row::{Rate, Regime, Row, Who};
use crate::sheet::{Grid, Sheet};
use crate::subject::Subject;
use crate::view::View;

pub(super) fn table(view: &View<'_>) -> Sheet {
    let mut points: Vec<(u32, u32)> = Regime::all()
        .iter()
        .filter(|point| point.who != Who::Nobody)
        .map(|point| (point.every, point.until))
        .collect();
    points.sort_unstable_by_key(|&(every, until)| (std::cmp::Reverse(until), every));
    points.dedup();

    let rates = Rate::ALL.map(|rate| format!("learning rate {}", rate.text()));
    let heads = [String::new()].into_iter().chain(rates);
    let mut perplexity = Grid::new("Perplexity on validation", heads.clone());
    let mut share =
        Grid::new("Difference from conventional training at the same rate", heads.clone());
    let mut layers = Grid::new("Independent layers, mean over training", heads);

    let group = |who, rate, every, until| {
        view.group(Subject::Regime, Row::Regime(Regime { who, rate, every, until }))
    };

    let conventional = Rate::ALL.map(|rate| group(Who::Nobody, rate, 0, 0));
    perplexity.push(
        ["Conventional training".to_owned()]
            .into_iter()
            .chain(conventional.iter().map(|group| group.text(VALIDATION_PERPLEXITY, 1))),
    );

    for (every, until) in points {
        for (who, name) in [(Who::Agent, "Full method"), (Who::Chance, "Random policy")] {
            let label = format!("{name}, k = {every}, decisions in the first {until} %");
            let groups = Rate::ALL.map(|rate| group(who, rate, every, until));
            let line = |cells: [String; 3]| [label.clone()].into_iter().chain(cells);

            perplexity.push(line(groups.clone().map(|group| group.text(VALIDATION_PERPLEXITY, 1))));
            let above: Vec<String> = groups
                .iter()
                .zip(&conventional)
                .map(|(group, conventional)| group.above(conventional, VALIDATION_PERPLEXITY))
                .collect();
            share.push([label.clone()].into_iter().chain(above));
            layers.push(line(groups.map(|group| super::mean_text(&group, INDEPENDENT_MEAN, 2))));
        }
    }

    let quantity = [("perplexity, validation", VALIDATION_PERPLEXITY)];
    let of = |point| view.figures(Subject::Regime, Row::Regime(point), None, &quantity);
    let figures = Regime::all().into_iter().flat_map(of).collect();

    let mut introduction = vec![
        view.plan.scale.sentence().to_owned(),
        "The model is that of the main job under `--method paper`. Each point has one seed, so \
         differences of a few percent are chance. k is the number of steps between decisions."
            .to_owned(),
    ];

    let first = conventional.iter().find_map(|group| group.done.first());
    introduction.extend(first.map(|done| floor_of(done)));

    Sheet {
        name: "regime".to_owned(),
        title: "Where tying pays".to_owned(),
        introduction,
        grids: vec![perplexity, share, layers],
        notes: Vec::new(),
        figures,
    }
}
