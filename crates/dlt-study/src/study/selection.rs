//! Selects the cells of a part that run: rows and learning rates by name, with what they need.

use anyhow::{Context, Result};

use super::Study;
use crate::cell::{Cell, Plan};
use crate::grid::Part;
use crate::method::choice::choose;
use crate::method::{self, Pace, Point, Setup, What};
use crate::row::Row;
use crate::view::View;

/// Name on the command line of all conventional models that value a perplexity.
const SIZES: &str = "sizes";
const BEST: &str = "best";

/// Learning rates of the study of our method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rates {
    These(Vec<Pace>),
    /// The rate of each row that is best on validation so far.
    Best,
}

/// Parses `5e-4,1e-3`, or `best`.
pub(super) fn parse_rates(text: &str) -> Result<Rates, String> {
    if text == BEST {
        return Ok(Rates::Best);
    }

    let rate = |word: &str| {
        let pace = Pace::ALL.into_iter().find(|pace| pace.text() == word.trim());
        let known = || Pace::ALL.map(Pace::text).join(", ");
        pace.ok_or_else(|| format!("expected some of {}, or {BEST}, got {word}", known()))
    };

    text.split(',').map(rate).collect::<Result<_, _>>().map(Rates::These)
}

/// The rows of Table 4 with these names.
pub(super) fn ablations(names: &[String]) -> Result<Vec<Row>> {
    let all: Vec<Row> = Row::OF_TABLE_4.into_iter().chain(Row::OURS).collect();
    let find = |name: &String| {
        let known = || all.iter().map(|row| row.name()).collect::<Vec<_>>().join(", ");
        let row = all.iter().find(|row| row.name() == name.trim());
        row.copied().with_context(|| format!("--only: expected one of {}, got {name}", known()))
    };

    names.iter().map(find).collect()
}

/// The cells that are wanted, and those that they need before them.
pub(super) fn with_needs(mut cells: Vec<Cell>, is_wanted: impl Fn(&Cell) -> bool) -> Vec<Cell> {
    let wanted = cells.iter().filter(|cell| is_wanted(cell));
    let needed: Vec<_> =
        wanted.flat_map(|cell| cell.needs().into_iter().chain([cell.id.clone()])).collect();
    cells.retain(|cell| needed.contains(&cell.id));
    cells
}

/// The cells of the points that are wanted, and those that they need before them.
fn selected(cells: Vec<Cell>, is_wanted: impl Fn(Point) -> bool) -> Result<Vec<Cell>> {
    let is_wanted = |cell: &Cell| matches!(cell.row, Row::Method(point) if is_wanted(point));
    let cells = with_needs(cells, is_wanted);
    anyhow::ensure!(
        !cells.is_empty(),
        "--only, --rates: expected at least one run at this scale, got none; name other rows or rates \
         (`best` needs results at some rate first)"
    );

    Ok(cells)
}

/// Whether a row runs at this rate. A row with only one rate always does.
fn is_at_rate(point: Point, rates: &Rates, chosen: &[(What, Pace)]) -> bool {
    let is_named = || match rates {
        Rates::These(paces) => paces.contains(&point.pace),
        Rates::Best => chosen.contains(&(point.what, point.pace)),
    };
    point.what.paces().len() == 1 || is_named()
}

impl Study<'_> {
    /// The cells of the study of our method in these rows; without names, in every row.
    pub(super) fn method(&self, names: &[String], rates: &Rates) -> Result<Vec<Cell>> {
        let scale = self.arguments.scale;
        let rows = method::rows(scale);
        let sizes = Setup::of(scale).map(Setup::sizes).unwrap_or_default();
        let mut wanted: Vec<What> = Vec::new();

        for name in names {
            match rows.iter().find(|what| what.name() == name.trim()) {
                Some(what) => wanted.push(*what),
                None if name.trim() == SIZES => wanted.extend(&sizes),
                None => {
                    let known = rows.iter().map(|what| what.name()).collect::<Vec<_>>().join(", ");
                    anyhow::bail!("--only: expected one of {known}, {SIZES}, got {name}");
                }
            }
        }

        if names.is_empty() {
            wanted = [rows, sizes].concat();
        }

        let chosen = match rates {
            Rates::These(_) => Vec::new(),
            Rates::Best => self.chosen(&wanted)?,
        };

        selected(self.cells(&[Part::Method]), |point| {
            wanted.contains(&point.what) && is_at_rate(point, rates, &chosen)
        })
    }

    /// The best rate of each row, from records here and in the repository. All seeds count, whatever
    /// `--seeds` says.
    fn chosen(&self, rows: &[What]) -> Result<Vec<(What, Pace)>> {
        let plan = Plan { scale: self.arguments.scale, seeds: None };
        let cells = crate::grid::cells(&[Part::Method], plan);
        let records = self.records(&cells)?;
        let view = View { records: &records, plan };
        let best = rows.iter().filter_map(|&what| choose(&view, what));

        Ok(best.map(|choice| (choice.what, choice.pace)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Scale;

    #[test]
    fn rates_are_read_as_they_are_typed() {
        assert_eq!(parse_rates("best").unwrap(), Rates::Best);
        assert_eq!(parse_rates("2e-3,5e-4").unwrap(), Rates::These(vec![Pace::Twice, Pace::Half]));

        for bad in ["", "1e-4", "1e-3,", "best,1e-3"] {
            let said = parse_rates(bad).unwrap_err();
            assert!(
                said.starts_with("expected some of 5e-4, 1e-3, 2e-3, or best, got"),
                "{bad}: {said}"
            );
        }
    }

    fn names(rates: &Rates, wanted: impl Fn(What) -> bool) -> Result<Vec<String>> {
        let plan = Plan { scale: Scale::Smoke, seeds: Some(&[1]) };
        let cells = crate::grid::cells(&[Part::Method], plan);
        let cells = selected(cells, |point| wanted(point.what) && is_at_rate(point, rates, &[]))?;
        Ok(cells.into_iter().map(|cell| cell.row.name()).collect())
    }

    #[test]
    fn rows_with_one_rate_are_run_whatever_the_rates() {
        let is_single = |what| matches!(what, What::MainJob | What::Size { .. });
        let all = names(&Rates::These(Pace::ALL.to_vec()), is_single).unwrap();
        assert!(all.len() > 1 && all.contains(&What::MainJob.name()), "{all:?}");

        for rates in [Rates::These(vec![Pace::Twice]), Rates::Best] {
            assert_eq!(names(&rates, is_single).unwrap(), all, "{rates:?}");
        }
    }

    #[test]
    fn rejects_a_selection_of_nothing() {
        // This scale runs it at the middle rate alone.
        let twice = Rates::These(vec![Pace::Twice]);
        let said = names(&twice, |what| what == What::Paper).unwrap_err().to_string();
        assert!(said.starts_with("--only, --rates: expected at least one run"), "{said}");
        assert!(names(&Rates::Best, |what| what == What::Grow).is_err());
        assert!(names(&twice, |what| what == What::Grow).is_ok());
    }
}
