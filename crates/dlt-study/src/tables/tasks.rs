//! Tables 5 and 6: tasks with classes.

use super::{
    HOW_TO_READ, details, floor, independent_end, independent_mean, mean_text, parameters_end,
    parameters_mean, test_accuracy, validation_accuracy,
};
use crate::paper;
use crate::record::Done;
use crate::row::Row;
use crate::sheet::{Grid, Sheet};
use crate::subject::{GlueTask, Subject};
use crate::view::{Quantity, View};

const OF_VISION: [Row; 5] =
    [Row::Conventional, Row::Full, Row::Random, Row::Short, Row::ShortRandom];
const OF_GLUE: [Row; 3] = [Row::Conventional, Row::Full, Row::Random];

pub(super) fn vision(view: &View<'_>) -> Sheet {
    let subject = Subject::Vision;
    let mut grid = Grid::new(
        "In the paper's layout",
        &[
            "",
            "ViT, paper",
            "Ours, paper",
            "Conventional, here",
            "Full method, here",
            "Random policy, here",
        ],
    );

    let quantities: [(Quantity, usize); 5] = [
        (test_accuracy, 3),
        (parameters_mean, 2),
        (parameters_end, 2),
        (independent_mean, 2),
        (independent_end, 1),
    ];

    for ((name, conventional, ours), (quantity, decimals)) in
        paper::VISION.into_iter().zip(quantities)
    {
        let mut cells = vec![name.to_owned(), conventional.to_owned(), ours.to_owned()];
        for row in [Row::Conventional, Row::Full, Row::Random] {
            let group = view.group(subject, row);
            cells.push(if group.done.is_empty() {
                group.missing
            } else {
                mean_text(&group, quantity, decimals)
            });
        }

        grid.rows.push(cells);
    }

    let mut introduction = vec![view.plan.scale.sentence().to_owned()];
    let pictures = |done: &Done| done.provenance.data.train_tokens;

    if let Some(first) = view.group(subject, Row::Conventional).done.first() {
        introduction
            .push(format!("Trained on {} pictures.", crate::table::grouped(pictures(first))));
    }

    introduction.extend(floor(view, subject));
    introduction.push(HOW_TO_READ.to_owned());

    let mut figures = Vec::new();
    for row in OF_VISION {
        let of_paper = match row {
            Row::Conventional => Some(0.999),
            Row::Full => Some(0.995),
            _ => None,
        };

        figures.extend([
            view.figure(subject, row, "accuracy, test", of_paper, test_accuracy),
            view.figure(subject, row, "accuracy, validation", None, validation_accuracy),
            view.figure(subject, row, "independent layers, mean", None, independent_mean),
            view.figure(
                subject,
                row,
                "trainable parameters, mean, millions",
                None,
                parameters_mean,
            ),
        ]);
    }

    Sheet {
        name: "table-5".to_owned(),
        title: "Table 5: ViT on CIFAR-10".to_owned(),
        introduction,
        grids: vec![grid, details(view, subject, &OF_VISION, "In detail")],
        notes: Vec::new(),
        figures,
    }
}

pub(super) fn glue(view: &View<'_>) -> Sheet {
    let mut grid = Grid::new(
        "In the paper's layout: accuracy on GLUE's own validation split",
        &[
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
        &[
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
        let [conventional, full, random] = OF_GLUE.map(|row| view.group(subject, row));
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

        let points = |other: &crate::view::Group<'_>| match (
            full.mean(validation_accuracy),
            other.mean(validation_accuracy),
        ) {
            (Some(full), Some(other)) => format!("{:+.3}", full.mean - other.mean),
            _ => String::new(),
        };

        let majority = |of: Quantity| {
            conventional.mean(of).map_or_else(String::new, |mean| format!("{:.3}", mean.mean))
        };
        grid.push([
            task.title().to_owned(),
            of_conventional,
            of_ours,
            majority(validation_majority),
            conventional.text(validation_accuracy, 3),
            full.text(validation_accuracy, 3),
            random.text(validation_accuracy, 3),
            points(&conventional),
            points(&random),
        ]);

        let text = |group: &crate::view::Group<'_>, of: Quantity| mean_text(group, of, 3);
        matthews.push([
            task.title().to_owned(),
            text(&conventional, validation_matthews),
            text(&full, validation_matthews),
            text(&random, validation_matthews),
            majority(test_majority),
            text(&conventional, test_accuracy),
            text(&full, test_accuracy),
            text(&random, test_accuracy),
        ]);

        for (row, of_paper) in
            OF_GLUE.into_iter().zip(paper::glue(task).map(Some).into_iter().chain([None]))
        {
            figures.extend([
                view.figure(subject, row, "accuracy, validation", of_paper, validation_accuracy),
                view.figure(subject, row, "accuracy, test", None, test_accuracy),
                view.figure(
                    subject,
                    row,
                    "Matthews correlation, validation",
                    None,
                    validation_matthews,
                ),
            ]);
        }
    }

    let pretrained = Subject::pretrained(view.plan.scale);
    let parameters = OF_GLUE.map(|row| mean_text(&view.group(pretrained, row), parameters_end, 2));
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

    let layers = OF_GLUE.map(|row| mean_text(&view.group(pretrained, row), independent_end, 1));
    grid.push([
        "Independent layers".to_owned(),
        "48".to_owned(),
        "5".to_owned(),
        String::new(),
        layers[0].clone(),
        layers[1].clone(),
        layers[2].clone(),
    ]);

    for (row, paper) in OF_GLUE.into_iter().zip([Some(1500.0), Some(235.0), None]) {
        let quantity = "trainable parameters, end, millions";
        figures.push(view.figure(pretrained, row, quantity, paper, parameters_end));
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

fn validation_majority(done: &Done) -> f64 {
    done.summary.validation_scores.map_or(f64::NAN, |scores| scores.majority_accuracy)
}

fn test_majority(done: &Done) -> f64 {
    done.summary.test_scores.map_or(f64::NAN, |scores| scores.majority_accuracy)
}

fn validation_matthews(done: &Done) -> f64 {
    done.summary.validation_scores.and_then(|scores| scores.matthews).unwrap_or(f64::NAN)
}
