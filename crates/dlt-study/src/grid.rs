//! The grid of all cells, a pure function of scale and seeds.

use crate::cell::{Cell, CellId, GridEntry, Job, Plan, Setting};
use crate::method;
use crate::row::{Regime, Row};
use crate::scale::Scale;
use crate::subject::{Corpus, GlueTask, Subject};

/// Default seeds of the rows that have every seed.
const CORE_SEEDS: [u64; 3] = [1, 2, 3];
const FEW_SEEDS: [u64; 2] = [1, 2];

/// A part of the study that a command can request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A table of the paper, 1 to 6.
    Table(u8),
    /// Where tying pays.
    Regime,
    /// Our method and what it is compared with.
    Method,
}

impl Part {
    /// The parts that a scale has.
    pub(crate) fn all(scale: Scale) -> Vec<Self> {
        let of_paper = [4, 1, 2, 5, 6].map(Self::Table);
        match scale {
            Scale::Smoke | Scale::Laptop => {
                [&of_paper[..], &[Self::Regime, Self::Table(3), Self::Method]].concat()
            }
            Scale::Long => vec![Self::Method],
            Scale::Paper => [&of_paper[..], &[Self::Regime, Self::Table(3)]].concat(),
        }
    }

    /// Subjects and rows in the order in which they run. The most important come first, in case time
    /// runs out.
    pub(crate) fn pairs(self, scale: Scale) -> Vec<(Subject, Row)> {
        let all = |subject: Subject, rows: &[Row]| {
            rows.iter().map(|&row| (subject, row)).collect::<Vec<_>>()
        };
        let core = [Row::Conventional, Row::Full, Row::Random];
        let of_ours = [Row::Short, Row::ShortRandom];

        match self {
            Self::Table(1) => Corpus::ALL
                .iter()
                .flat_map(|&corpus| all(Subject::Gpt2(corpus), &[&core[..], &of_ours].concat()))
                .collect(),
            Self::Table(2) => {
                Corpus::ALL.iter().flat_map(|&corpus| all(Subject::Bert(corpus), &core)).collect()
            }
            Self::Table(3) => {
                [all(Subject::Memory, &core), all(Subject::MemoryPaper, &core[..2])].concat()
            }
            Self::Table(4) => {
                let mut rows = core.to_vec();
                rows.push(Row::Reference);
                rows.extend(
                    Row::OF_TABLE_4
                        .into_iter()
                        .chain(Row::OURS)
                        .filter(|row| !rows.contains(row))
                        .collect::<Vec<_>>(),
                );

                let shakespeare = all(Subject::Shakespeare, &rows);
                match scale {
                    // The table's first column needs every row on WikiText-2. At smaller scales it has
                    // only the rows that Table 1 runs anyway.
                    Scale::Paper => {
                        [shakespeare, all(Subject::Gpt2(Corpus::WikiText2), &rows)].concat()
                    }
                    Scale::Smoke | Scale::Laptop | Scale::Long => shakespeare,
                }
            }
            Self::Table(5) => all(Subject::Vision, &[&core[..], &of_ours].concat()),
            Self::Table(_) => {
                GlueTask::ALL.iter().flat_map(|&task| all(Subject::Glue(task), &core)).collect()
            }
            Self::Method => {
                let rows: Vec<Row> = method::points(scale).into_iter().map(Row::Method).collect();
                all(Subject::Method, &rows)
            }
            Self::Regime => {
                let points: Vec<Row> = Regime::all().into_iter().map(Row::Regime).collect();
                all(Subject::Regime, if scale == Scale::Smoke { &points[2..4] } else { &points })
            }
        }
    }

    /// Its cells, each after those that it needs.
    pub(crate) fn cells(self, plan: Plan<'_>) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (subject, row) in self.pairs(plan.scale) {
            for seed in seeds(subject, row, plan) {
                add(&mut cells, subject, row, seed, plan.scale);
            }
        }

        cells
    }
}

/// The cells of several parts, each once.
pub(crate) fn cells(parts: &[Part], plan: Plan<'_>) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for cell in parts.iter().flat_map(|part| part.cells(plan)) {
        if !cells.iter().any(|other| other.id == cell.id) {
            cells.push(cell);
        }
    }

    cells
}

/// Seeds of a row.
pub(crate) fn seeds(subject: Subject, row: Row, plan: Plan<'_>) -> Vec<u64> {
    let usual: &[u64] = match (plan.seeds, plan.scale, subject) {
        (Some(seeds), ..) => return seeds.to_vec(),
        (None, Scale::Smoke | Scale::Paper, _) => &CORE_SEEDS[..1],
        (None, Scale::Laptop | Scale::Long, Subject::Method) => &CORE_SEEDS,
        (None, Scale::Laptop, Subject::Shakespeare) => &CORE_SEEDS,
        (None, Scale::Laptop, Subject::Memory | Subject::MemoryPaper | Subject::Regime) => {
            &CORE_SEEDS[..1]
        }
        (None, Scale::Laptop | Scale::Long, _) => &FEW_SEEDS,
    };

    usual[..if row.has_every_seed() { usual.len() } else { 1 }].to_vec()
}

/// Adds a cell after those that it needs, unless it is already in the list.
fn add(cells: &mut Vec<Cell>, subject: Subject, row: Row, seed: u64, scale: Scale) {
    let Some(cell) = grid_entry(subject, row, seed, scale).cell() else { return };
    if cells.iter().any(|other| other.id == cell.id) {
        return;
    }

    for need in cell.needs() {
        if let Some((subject, row)) = needed(subject, row, scale)
            .filter(|(subject, row)| CellId::new(*subject, *row, seed) == need)
        {
            add(cells, subject, row, seed, scale);
        }
    }

    cells.push(cell);
}

/// The only row that a cell of this row can need a run of.
fn needed(subject: Subject, row: Row, scale: Scale) -> Option<(Subject, Row)> {
    match (subject, row) {
        (Subject::Glue(_), row) => Some((Subject::pretrained(scale), row)),
        (subject, Row::Method(point)) => Some((subject, Row::Method(point.needed()?))),
        (_, Row::Shallow | Row::Static | Row::Permuted | Row::Replayed) => {
            Some((subject, Row::Full))
        }
        _ => None,
    }
}

/// The cell of a subject and a row, or why there is none.
pub(crate) fn grid_entry(subject: Subject, row: Row, seed: u64, scale: Scale) -> GridEntry {
    let ground = match subject.ground(scale) {
        Ok(ground) => ground,
        Err(why) => return GridEntry::LeftOut(why),
    };

    let method = row.method(subject);
    let mut settings: Vec<Setting> = ground.settings.iter().map(Setting::fixed).collect();
    let job = match subject {
        Subject::Glue(task) => Job::Finetune {
            of: CellId::new(Subject::pretrained(scale), row, seed),
            task: task.data(),
        },
        Subject::MemoryPaper if row == Row::Conventional => Job::Predict { preset: ground.preset },
        _ => Job::Train { preset: ground.preset, method, data: ground.data },
    };

    match &job {
        // The tying comes from the pretrained model and stays fixed.
        Job::Finetune { .. } => {}
        // A prediction needs neither steps nor a policy.
        Job::Predict { .. } => settings.clear(),
        Job::Train { .. } => settings.extend(row.settings(subject, scale, seed)),
    }

    if subject == Subject::Memory && row == Row::Conventional && scale == Scale::Laptop {
        // Its memory is the same after each step, so 4 steps are enough.
        settings.push(Setting::fixed("training.steps=4"));
    }

    let id = CellId::new(subject, row, seed);
    GridEntry::Run(Box::new(Cell { id, subject, row, seed: row.seed(seed), job, settings }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SCALES: [Scale; 4] = Scale::ALL;

    fn all(scale: Scale) -> Vec<Cell> {
        cells(&Part::all(scale), Plan { scale, seeds: None })
    }

    #[test]
    fn law_every_cell_stands_behind_what_it_needs_and_has_a_name_of_its_own() {
        for scale in SCALES {
            let mut before = BTreeSet::new();
            for cell in all(scale) {
                for need in cell.needs() {
                    assert!(
                        before.contains(&need),
                        "{scale:?}: {} needs {need}, which is not before it",
                        cell.id
                    );
                }

                assert!(before.insert(cell.id.clone()), "{scale:?}: {} is there twice", cell.id);
            }
        }
    }

    #[test]
    fn law_every_spec_of_the_grid_is_one_that_can_train() {
        for scale in SCALES {
            for cell in all(scale) {
                if let Err(error) = cell.spec() {
                    panic!("{scale:?}: {}: {error}", cell.id);
                }
            }
        }
    }

    #[test]
    fn the_main_rows_have_three_seeds_on_shakespeare() {
        let plan = Plan { scale: Scale::Laptop, seeds: None };
        for row in [Row::Full, Row::Conventional, Row::Random, Row::Reference] {
            assert_eq!(seeds(Subject::Shakespeare, row, plan), [1, 2, 3], "{row:?}");
        }

        assert_eq!(seeds(Subject::Shakespeare, Row::Cycle, plan), [1]);
        assert_eq!(
            seeds(Subject::Shakespeare, Row::Cycle, Plan { seeds: Some(&[4, 5]), ..plan }),
            [4, 5]
        );
    }

    #[test]
    fn recorded_decisions_are_followed_under_another_seed() {
        for row in [Row::Permuted, Row::Replayed] {
            let cell = grid_entry(Subject::Shakespeare, row, 2, Scale::Laptop).cell().unwrap();
            assert_eq!(cell.seed, 1002);
            assert_eq!(cell.needs(), [CellId::new(Subject::Shakespeare, Row::Full, 2)]);
        }
    }

    #[test]
    fn every_ablation_of_the_paper_is_a_row() {
        let rows: Vec<Row> =
            Part::Table(4).pairs(Scale::Laptop).into_iter().map(|(_, row)| row).collect();
        for row in Row::OF_TABLE_4.into_iter().chain(Row::OURS) {
            assert_eq!(rows.iter().filter(|&&other| other == row).count(), 1, "{row:?}");
        }
    }
}
