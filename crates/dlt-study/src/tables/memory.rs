//! Table 3: memory.

use crate::paper;
use crate::row::Row;
use crate::scale::Scale;
use crate::sheet::{Grid, Sheet};
use crate::subject::Subject;
use crate::view::{Quantity, View};

/// Rows of a subject. The paper's size leaves out the random policy, because a step takes minutes
/// there, and memory depends only on the states.
fn rows(subject: Subject) -> &'static [Row] {
    let all = &[Row::Conventional, Row::Full, Row::Random];
    if subject == Subject::MemoryPaper { &all[..2] } else { all }
}

/// The state of conventional training, under the name that `dlt inspect --memory` gives it.
const CONVENTIONAL: &str = "no layer tied";

pub(super) fn table(view: &View<'_>) -> Sheet {
    let mut paper =
        Grid::new("In the paper (48 layers of width 1,600)", ["", "Conventional", "Ours", "share"]);
    for (name, [conventional, ours]) in
        ["Peak memory, MB", "Average memory, MB"].into_iter().zip(paper::MEMORY)
    {
        paper.push([
            name.to_owned(),
            format!("{conventional:.2}"),
            format!("{ours:.2}"),
            format!("{:.3}", ours / conventional),
        ]);
    }

    let (small, large) = match view.plan.scale {
        Scale::Paper => ("48 layers of width 1,600, measured", "the same again"),
        Scale::Laptop => ("24 layers of width 1,024, measured", "48 layers of width 1,600"),
        Scale::Smoke | Scale::Long => ("Small", "Small, conventional training predicted"),
    };

    let mut sheet = Sheet {
        name: "table-3".to_owned(),
        title: "Table 3: memory during training".to_owned(),
        introduction: vec![
            view.plan.scale.sentence().to_owned(),
            "Resident memory is what the system counts for the process, in 10^6 bytes, over all steps. \
             It is more than the paper's figures, which leave out activations. The columns for weights, \
             gradients and moments show what the authors' code counts."
                .to_owned(),
        ],
        grids: vec![paper, grid(view, Subject::Memory, small), grid(view, Subject::MemoryPaper, large)],
        notes: paper::contradictions(3).iter().map(|&note| note.to_owned()).collect(),
        figures: Vec::new(),
    };

    sheet.notes.insert(
        0,
        "Predicted rows say so: training without tying at the paper's size needs more memory in f32 \
         than the machine has. data/results/memory compares predictions with measurements."
            .to_owned(),
    );

    for subject in [Subject::Memory, Subject::MemoryPaper] {
        for &row in rows(subject) {
            sheet.figures.extend(view.figures(subject, row, None, &FIGURES));
        }
    }

    sheet
}

fn grid(view: &View<'_>, subject: Subject, caption: &str) -> Grid {
    let mut grid = Grid::new(
        caption,
        [
            "",
            "resident, peak",
            "share of conventional",
            "resident, mean",
            "share of conventional",
            "weights + gradients + moments, peak",
            "share of conventional",
            "distinct layers, most at the end",
            "steps",
        ],
    );

    let conventional = view.group(subject, Row::Conventional);
    let predicted = conventional
        .predicted
        .and_then(|states| states.iter().find(|one| one.state == CONVENTIONAL));
    let against = |of: Quantity, predicted: Option<f64>| {
        conventional.mean(of).map(|mean| mean.mean).or(predicted)
    };

    let predicted_peak = predicted.map(|one| one.peak_bytes as f64 / 1e6);
    let predicted_state = predicted.map(|one| one.state_bytes as f64 / 1e6);

    for &row in rows(subject) {
        let group = view.group(subject, row);
        if row == Row::Conventional
            && let (Some(peak), Some(state)) = (predicted_peak, predicted_state)
        {
            grid.push([
                format!("{} (predicted)", row.label()),
                format!("{peak:.1}"),
                "1".to_owned(),
                String::new(),
                String::new(),
                format!("{state:.1}"),
                "1".to_owned(),
            ]);
            continue;
        }

        if group.done.is_empty() {
            grid.push([row.label(), group.missing]);
            continue;
        }

        let text = |of: Quantity| group.mean(of).map_or_else(String::new, |mean| mean.text(1));
        grid.push([
            row.label(),
            text(PEAK),
            group.share(PEAK, against(PEAK, predicted_peak)),
            text(MEAN),
            group.share(MEAN, against(MEAN, None)),
            text(STATE),
            group.share(STATE, against(STATE, predicted_state)),
            group
                .mean(super::DISTINCT_END)
                .map_or_else(String::new, |mean| format!("{:.0}", mean.most)),
            group.done[0].summary.steps.to_string(),
        ]);
    }

    grid
}

const PEAK: Quantity = |done| done.summary.peak_rss_mb.unwrap_or(f64::NAN);
const MEAN: Quantity = |done| done.summary.mean_rss_mb.unwrap_or(f64::NAN);
const STATE: Quantity = |done| done.summary.weights_gradients_moments_mb_peak;

const FIGURES: [(&str, Quantity); 3] = [
    ("resident memory, peak, MB", PEAK),
    ("resident memory, mean, MB", MEAN),
    ("weights, gradients and moments, peak, MB", STATE),
];
