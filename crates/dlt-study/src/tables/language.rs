//! Tables 1, 2 and 4: perplexities.

use super::{
    CORE, HOW_TO_READ, INDEPENDENT_END, INDEPENDENT_MEAN, PARAMETERS_END, PARAMETERS_MEAN, ROWS,
    SECONDS_PER_EPOCH, TEST_PERPLEXITY, VALIDATION_PERPLEXITY, details, floor, mean_or_missing,
};
use crate::paper::{self, Language};
use crate::row::Row;
use crate::scale::Scale;
use crate::sheet::{Grid, Sheet};
use crate::subject::{Corpus, Subject};
use crate::view::{Quantity, View};

/// A table of one architecture over the four texts.
pub(super) struct Architecture {
    number: u8,
    title: &'static str,
    subject: fn(Corpus) -> Subject,
    paper: fn(Corpus) -> Language,
    rows: &'static [Row],
}

pub(super) const GPT2: Architecture = Architecture {
    number: 1,
    title: "Table 1: GPT-2",
    subject: Subject::Gpt2,
    paper: paper::gpt2,
    rows: &ROWS,
};
pub(super) const BERT: Architecture = Architecture {
    number: 2,
    title: "Table 2: BERT",
    subject: Subject::Bert,
    paper: paper::bert,
    rows: &CORE,
};

pub(super) fn architecture(view: &View<'_>, table: Architecture) -> Sheet {
    let heads = |corpus: Corpus| ["paper", "here"].map(|of| format!("{}, {of}", corpus.title()));
    let heads =
        [String::new(), String::new()].into_iter().chain(Corpus::ALL.into_iter().flat_map(heads));
    let mut grid = Grid::new("In the paper's layout", heads);
    let random = "Random policy (ours)";

    // Metric, method, row, the paper's value, ours, decimals.
    type Line = (&'static str, &'static str, Row, fn(&Language) -> &'static str, Quantity, usize);
    let lines: [Line; 11] = [
        (
            "Perplexity",
            "Conventional training",
            Row::Conventional,
            |paper| paper.perplexity[0],
            TEST_PERPLEXITY,
            2,
        ),
        ("", "Our method", Row::Full, |paper| paper.perplexity[1], TEST_PERPLEXITY, 2),
        ("", random, Row::Random, |_| "", TEST_PERPLEXITY, 2),
        (
            "Trainable parameters, millions",
            "Conventional training",
            Row::Conventional,
            |paper| paper.parameters[0],
            PARAMETERS_END,
            2,
        ),
        (
            "",
            "Our method, mean over training",
            Row::Full,
            |paper| paper.parameters[1],
            PARAMETERS_MEAN,
            2,
        ),
        ("", "Our method, at the end", Row::Full, |paper| paper.parameters[2], PARAMETERS_END, 2),
        (
            "Independent layers",
            "Conventional training",
            Row::Conventional,
            |paper| paper.independent[0],
            INDEPENDENT_END,
            0,
        ),
        (
            "",
            "Our method, mean over training",
            Row::Full,
            |paper| paper.independent[1],
            INDEPENDENT_MEAN,
            3,
        ),
        ("", "Our method, at the end", Row::Full, |paper| paper.independent[2], INDEPENDENT_END, 1),
        (
            "Time per epoch, seconds",
            "Conventional training",
            Row::Conventional,
            |paper| paper.seconds_per_epoch[0],
            SECONDS_PER_EPOCH,
            1,
        ),
        ("", "Our method", Row::Full, |paper| paper.seconds_per_epoch[1], SECONDS_PER_EPOCH, 1),
    ];

    for (metric, method, row, of_paper, quantity, decimals) in lines {
        let mut cells = vec![metric.to_owned(), method.to_owned()];
        for corpus in Corpus::ALL {
            cells.push(of_paper(&(table.paper)(corpus)).to_owned());
            let group = view.group((table.subject)(corpus), row);
            cells.push(mean_or_missing(&group, quantity, decimals));
        }

        grid.rows.push(cells);
    }

    let here = |&corpus: &Corpus| (table.subject)(corpus).ground(view.plan.scale).is_ok();
    let mut sheet = Sheet {
        name: format!("table-{}", table.number),
        title: table.title.to_owned(),
        introduction: vec![view.plan.scale.sentence().to_owned()],
        grids: vec![grid],
        notes: paper::contradictions(table.number).iter().map(|&note| note.to_owned()).collect(),
        figures: Vec::new(),
    };

    for corpus in Corpus::ALL.into_iter().filter(here) {
        let subject = (table.subject)(corpus);
        sheet
            .introduction
            .extend(floor(view, subject).map(|floor| format!("{}: {floor}", corpus.title())));
        sheet.grids.push(details(view, subject, table.rows, corpus.title()));

        let of_paper = (table.paper)(corpus);
        for &row in table.rows {
            let perplexity = match row {
                Row::Conventional => of_paper.perplexity[0].parse().ok(),
                Row::Full => of_paper.perplexity[1].parse().ok(),
                _ => None,
            };

            sheet.figures.extend(view.figures(subject, row, perplexity, &FIGURES));
        }
    }

    sheet.introduction.push(HOW_TO_READ.to_owned());
    if view.plan.scale == Scale::Laptop {
        sheet.introduction.push(
            "Times per epoch were measured while the machine did other work, so only their order of \
             magnitude counts. The page data/results/bench compares the speed of a step with PyTorch."
                .to_owned(),
        );
    }

    sheet
}

pub(super) fn ablations(view: &View<'_>) -> Sheet {
    let columns = [Subject::Gpt2(Corpus::WikiText2), Subject::Shakespeare];
    let mut grid = Grid::new(
        "In the paper's layout: perplexity on test",
        ["", "Wiki-2, paper", "Wiki-2, here", "Shakespeare, paper", "Shakespeare, here"],
    );

    for row in Row::OF_TABLE_4.into_iter().chain(Row::OURS) {
        let of_paper = paper::ablation(row);
        let mut cells = vec![row.label()];
        for (index, subject) in columns.into_iter().enumerate() {
            cells.push(match (of_paper, index) {
                (None, _) => String::new(),
                (Some([wikitext, _]), 0) => wikitext.to_string(),
                (Some([_, shakespeare]), _) => format!("{shakespeare:.1}"),
            });

            let group = view.group(subject, row);
            let is_left = group.done.is_empty() && is_left_out(view, subject, row);
            cells.push(if is_left {
                "not at this scale".to_owned()
            } else {
                group.text(TEST_PERPLEXITY, 1)
            });
        }

        grid.rows.push(cells);
    }

    let rows: Vec<Row> = Row::OF_TABLE_4.into_iter().chain(Row::OURS).collect();
    let mut sheet = Sheet {
        name: "table-4".to_owned(),
        title: "Table 4: ablations".to_owned(),
        introduction: vec![
            view.plan.scale.sentence().to_owned(),
            RULES.to_owned(),
            HOW_TO_READ.to_owned(),
        ],
        grids: vec![grid, details(view, Subject::Shakespeare, &rows, "Shakespeare")],
        notes: Vec::new(),
        figures: Vec::new(),
    };

    sheet.introduction.extend(floor(view, Subject::Shakespeare));
    for (index, subject) in columns.into_iter().enumerate() {
        for &row in &rows {
            if !is_left_out(view, subject, row) {
                let of_paper = paper::ablation(row).map(|paper| paper[index]);
                sheet.figures.extend(view.figures(subject, row, of_paper, &FIGURES));
            }
        }
    }

    sheet
}

/// Whether the grid has no such cell at this scale.
fn is_left_out(view: &View<'_>, subject: Subject, row: Row) -> bool {
    subject != Subject::Shakespeare && view.plan.scale != Scale::Paper && !ROWS.contains(&row)
}

const RULES: &str = "Each row is the full method (`--method paper`) with some settings changed; \
    `cells.jsonl` names them. Row (i) has as many layers as the full method of the same seed had \
    independent at its end. Rows (iii) and (iv) follow its recorded decisions under another root seed, \
    because with the same seed (iv) would be the same run. \"Settings for short runs\" are those of \
    `--method short`.";

const FIGURES: [(&str, Quantity); 10] = [
    ("perplexity, test", TEST_PERPLEXITY),
    ("perplexity, validation", VALIDATION_PERPLEXITY),
    ("independent layers, mean", INDEPENDENT_MEAN),
    ("independent layers, end", INDEPENDENT_END),
    ("distinct layers, mean", super::DISTINCT_MEAN),
    ("distinct layers, end", super::DISTINCT_END),
    ("trainable parameters, mean, millions", PARAMETERS_MEAN),
    ("trainable parameters, end, millions", PARAMETERS_END),
    ("trainable parameters in blocks, mean, millions", super::BLOCK_PARAMETERS_MEAN),
    ("time per epoch, seconds", SECONDS_PER_EPOCH),
];
