//! Tables 5 and 6: tasks with classes.

use super::{
    CORE, HOW_TO_READ, INDEPENDENT_END, INDEPENDENT_MEAN, PARAMETERS_END, PARAMETERS_MEAN, ROWS,
    TEST_ACCURACY, VALIDATION_ACCURACY, details, floor, mean_or_missing, mean_text,
};
use crate::paper;
use crate::row::Row;
use crate::sheet::{Grid, Sheet};
use crate::subject::{GlueTask, Subject};
use crate::table::grouped;
use crate::view::{Group, Quantity, View};

const FIGURES_OF_VISION: [(&str, Quantity); 4] = [
    ("accuracy, test", TEST_ACCURACY),
    ("accuracy, validation", VALIDATION_ACCURACY),
    ("independent layers, mean", INDEPENDENT_MEAN),
    ("trainable parameters, mean, millions", PARAMETERS_MEAN),
];
const FIGURES_OF_GLUE: [(&str, Quantity); 3] = [
    ("accuracy, validation", VALIDATION_ACCURACY),
    ("accuracy, test", TEST_ACCURACY),
    ("Matthews correlation, validation", VALIDATION_MATTHEWS),
];

pub(super) fn vision(view: &View<'_>) -> Sheet {
    let subject = Subject::Vision;
    let mut grid = Grid::new(
        "In the paper's layout",
        [
            "",
            "ViT, paper",
            "Ours, paper",
            "Conventional, here",
            "Full method, here",
            "Random policy, here",
        ],
    );

    let quantities: [(Quantity, usize); 5] = [
        (TEST_ACCURACY, 3),
        (PARAMETERS_MEAN, 2),
        (PARAMETERS_END, 2),
        (INDEPENDENT_MEAN, 2),
        (INDEPENDENT_END, 1),
    ];

    for ((name, conventional, ours), (quantity, decimals)) in
        paper::VISION.into_iter().zip(quantities)
    {
        let mut cells = vec![name.to_owned(), conventional.to_owned(), ours.to_owned()];
        for row in CORE {
            let group = view.group(subject, row);
            cells.push(mean_or_missing(&group, quantity, decimals));
        }

        grid.rows.push(cells);
    }

    let mut introduction = vec![view.plan.scale.sentence().to_owned()];
    if let Some(first) = view.group(subject, Row::Conventional).done.first() {
        let pictures = grouped(first.provenance.data.train_tokens);
        introduction.push(format!("Trained on {pictures} pictures."));
    }

    introduction.extend(floor(view, subject));
    introduction.push(HOW_TO_READ.to_owned());

    let mut figures = Vec::new();
    for row in ROWS {
        let of_paper = match row {
            Row::Conventional => Some(0.999),
            Row::Full => Some(0.995),
            _ => None,
        };

        figures.extend(view.figures(subject, row, of_paper, &FIGURES_OF_VISION));
    }

    Sheet {
        name: "table-5".to_owned(),
        title: "Table 5: ViT on CIFAR-10".to_owned(),
        introduction,
        grids: vec![grid, details(view, subject, &ROWS, "In detail")],
        notes: Vec::new(),
        figures,
    }
}

pub(super) fn glue(view: &View<'_>) -> Sheet {
    let mut grid = Grid::new(
        "In the paper's layout: accuracy on GLUE's own validation split",
        [
            "",
            "Conventional, paper",
            "Ours, paper",
            "Majority class, here",
            "Conventional, here",
            "Full method, here",
            "Random policy, here",
            "Full minus conventional",
            "Full minus random",
        ],
    );

    let mut matthews = Grid::new(
        "In detail: Matthews correlation on validation, accuracy on test (the last twentieth of train)",
        [
            "",
            "Conventional",
            "Full method",
            "Random policy",
            "majority, test",
            "Conventional",
            "Full method",
            "Random policy",
        ],
    );

    let mut figures = Vec::new();
    for task in GlueTask::ALL {
        let subject = Subject::Glue(task);
        let [conventional, full, random] = CORE.map(|row| view.group(subject, row));
        let [of_conventional, of_ours] = paper::glue(task).map(|accuracy| format!("{accuracy:.3}"));

        if conventional.done.is_empty() && full.done.is_empty() {
            grid.push([
                task.title().to_owned(),
                of_conventional,
                of_ours,
                String::new(),
                conventional.missing,
                full.missing,
            ]);
            continue;
        }

        let points = |other: &Group<'_>| match (
            full.mean(VALIDATION_ACCURACY),
            other.mean(VALIDATION_ACCURACY),
        ) {
            (Some(full), Some(other)) => format!("{:+.3}", full.mean - other.mean),
            _ => String::new(),
        };

        let text = |group: &Group<'_>, of: Quantity| mean_text(group, of, 3);
        grid.push([
            task.title().to_owned(),
            of_conventional,
            of_ours,
            text(&conventional, VALIDATION_MAJORITY),
            conventional.text(VALIDATION_ACCURACY, 3),
            full.text(VALIDATION_ACCURACY, 3),
            random.text(VALIDATION_ACCURACY, 3),
            points(&conventional),
            points(&random),
        ]);

        matthews.push([
            task.title().to_owned(),
            text(&conventional, VALIDATION_MATTHEWS),
            text(&full, VALIDATION_MATTHEWS),
            text(&random, VALIDATION_MATTHEWS),
            text(&conventional, TEST_MAJORITY),
            text(&conventional, TEST_ACCURACY),
            text(&full, TEST_ACCURACY),
            text(&random, TEST_ACCURACY),
        ]);

        for (row, of_paper) in
            CORE.into_iter().zip(paper::glue(task).map(Some).into_iter().chain([None]))
        {
            figures.extend(view.figures(subject, row, of_paper, &FIGURES_OF_GLUE));
        }
    }

    let pretrained = Subject::pretrained(view.plan.scale);
    let parameters = CORE.map(|row| mean_text(&view.group(pretrained, row), PARAMETERS_END, 2));
    let [of_conventional, of_ours] = paper::GLUE_PARAMETERS;

    grid.push(
        [
            "Trainable parameters at the end of training (here in millions)",
            of_conventional,
            of_ours,
            "",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain(parameters),
    );

    let layers = CORE.map(|row| mean_text(&view.group(pretrained, row), INDEPENDENT_END, 1));
    grid.push(["Independent layers", "48", "5", ""].map(str::to_owned).into_iter().chain(layers));

    for (row, paper) in CORE.into_iter().zip([Some(1500.0), Some(235.0), None]) {
        let quantity = [("trainable parameters, end, millions", PARAMETERS_END)];
        figures.extend(view.figures(pretrained, row, paper, &quantity));
    }

    Sheet {
        name: "table-6".to_owned(),
        title: "Table 6: GLUE, fine-tuned with the tying held fixed".to_owned(),
        introduction: vec![
            view.plan.scale.sentence().to_owned(),
            format!(
                "The models of `{}` are fine-tuned. Parameters and layers are those of these models.",
                pretrained.name()
            ),
        ],
        grids: vec![grid, matthews],
        notes: paper::contradictions(6).iter().map(|&note| note.to_owned()).collect(),
        figures,
    }
}

const VALIDATION_MAJORITY: Quantity =
    |done| done.summary.validation_scores.map_or(f64::NAN, |scores| scores.majority_accuracy);

const TEST_MAJORITY: Quantity =
    |done| done.summary.test_scores.map_or(f64::NAN, |scores| scores.majority_accuracy);

const VALIDATION_MATTHEWS: Quantity =
    |done| done.summary.validation_scores.and_then(|scores| scores.matthews).unwrap_or(f64::NAN);
