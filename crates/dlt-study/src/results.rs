//! What the repository keeps of a study: records, tables, figures, and the parts of runs that are
//! needed to draw the figures again.
//!
//! | | |
//! |---|---|
//! | `cells.jsonl` | a [`Record`](crate::record::Record) for each cell |
//! | `table-N.md`, `.csv`, `.json`, `regime.*`, `method.*` | made from `cells.jsonl` alone |
//! | `runs/` | run folders without their models, and with only some of their steps |
//! | `figures/` | made from `runs/` alone, except `method-tradeoff`, which is made from points in `cells.jsonl`; `drawn.json` lists the files that each was made from |
//!
//! The baselines that `dlt train` prints are made from the records of scale laptop too, see
//! [`baselines`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use dlt_spec::record::{
    METRICS_FILE, MetricRow, PROVENANCE_FILE, SPEC_FILE, STATES_FILE, SUMMARY_FILE,
};
use dlt_state::State;

use crate::cell::{Cell, CellId, Known, Plan};
use crate::drawn::Drawn;
use crate::figures::{self, Drawing};
use crate::grid::{self, Part};
use crate::method::points;
use crate::program::{make_folder, read, replace};
use crate::record::{Outcome, Records, without_folders};
use crate::sheet::Sheet;
use crate::store::{CellStatus, Store};
use crate::tables;
use crate::view::View;
use crate::{baselines, basis};

/// The file of the records of a scale.
pub(crate) const CELLS: &str = "cells.jsonl";
const RUNS: &str = "runs";
pub(crate) const FIGURES: &str = "figures";
/// Correlations of feed-forward weights. They are kept, because only the model could give them again.
const CORRELATIONS: &str = "correlations.json";
/// About so many training steps of a run are kept.
const KEPT_STEPS: usize = 200;

/// The results of a scale in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Results<'a> {
    pub(crate) folder: PathBuf,
    pub(crate) plan: Plan<'a>,
    /// The file of the baselines that are made from these records, if any are.
    pub(crate) baselines: Option<PathBuf>,
}

impl Results<'_> {
    /// The kept run folders, as a store to draw figures from.
    pub(crate) fn kept(&self) -> Store {
        Store::new(self.folder.join(RUNS), Default::default())
    }

    /// Writes the records of a store. Older records stay for cells without an outcome in the store.
    pub(crate) fn collect(&self, store: &Store, cells: &[Cell]) -> Result<Records> {
        make_folder(&self.folder)?;
        let records = Records::of_store(store, cells)?.over(records(&self.folder)?);
        records.write(&self.folder.join(CELLS))?;
        Ok(records)
    }

    /// Copies the finished runs that figures show. Returns an error for each run that could not be
    /// copied; all others are copied.
    pub(crate) fn keep_runs(&self, store: &Store, cells: &[Cell]) -> Vec<anyhow::Error> {
        let kept = figures::cells_that_are_kept(self.plan.scale);
        let is_done =
            |cell: &&Cell| kept.contains(&cell.id) && store.status(cell) == CellStatus::Done;
        let keep = |cell: &Cell| self.keep(store, &cell.id).with_context(|| format!("{}", cell.id));
        cells.iter().filter(is_done).filter_map(|cell| keep(cell).err()).collect()
    }

    /// Draws the figures whose runs were kept. Returns the written files, and an error for each figure
    /// that could not be drawn, which stays as it was.
    pub(crate) fn draw(&self, dlt: &Path) -> Result<(Vec<PathBuf>, Vec<anyhow::Error>)> {
        let kept = self.kept();
        let folder = self.folder.join(FIGURES);
        let mut files = Vec::new();
        let mut failures = Vec::new();

        // Damaged notes are no reason to stop, because drawing makes them again.
        let mut drawn = Drawn::read(&folder).unwrap_or_default();

        for drawing in figures::drawings().iter().filter(|drawing| drawing.is_ready(&kept, &folder))
        {
            match drawing.draw(dlt, &kept, &folder) {
                Ok(figures) => {
                    for figure in figures {
                        drawn.note(&figure, &self.folder, &self.files_of(drawing))?;
                        files.push(figure);
                    }
                }
                Err(error) => failures.push(error),
            }
        }

        if !files.is_empty() {
            drawn.write(&folder)?;
        }

        Ok((files, failures))
    }

    /// The files of the kept runs that a figure shows, below the folder of the results.
    fn files_of(&self, drawing: &Drawing) -> Vec<String> {
        if drawing.has_points {
            return vec![format!("{FIGURES}/{}.json", drawing.name)];
        }

        let names =
            [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE, STATES_FILE, SUMMARY_FILE, CORRELATIONS];
        let of = |cell: CellId| names.map(|name| format!("{RUNS}/{cell}/{name}"));
        let files = drawing.cells().into_iter().flat_map(of);

        files.filter(|file| self.folder.join(file).is_file()).collect()
    }

    /// Copies a run folder, without its model and with fewer steps.
    fn keep(&self, store: &Store, cell: &CellId) -> Result<()> {
        let from = store.run(cell);
        let to = self.kept().run(cell);
        make_folder(&to)?;

        let read = |file: &str| read(&from.join(file));

        for file in [SPEC_FILE, STATES_FILE, SUMMARY_FILE] {
            replace(&to.join(file), portable_spec(&read(file)?))?;
        }

        let metrics = thinned(&read(METRICS_FILE)?)
            .with_context(|| format!("{}", from.join(METRICS_FILE).display()))?;
        replace(&to.join(METRICS_FILE), metrics)?;
        replace(&to.join(PROVENANCE_FILE), portable_provenance(&read(PROVENANCE_FILE)?)?)?;

        match from.join(CORRELATIONS) {
            file if file.is_file() => replace(&to.join(CORRELATIONS), read(CORRELATIONS)?),
            _ => Ok(()),
        }
    }

    /// The pages of all parts.
    fn sheets(&self, records: &Records) -> Vec<(Part, Sheet)> {
        Part::all(self.plan.scale)
            .into_iter()
            .map(|part| (part, tables::sheet(part, records, self.plan)))
            .collect()
    }

    /// The files that are made from the records, with their contents.
    pub(crate) fn pages(
        &self,
        records: &Records,
        command: &dyn Fn(Part) -> String,
    ) -> Result<Vec<(PathBuf, String)>> {
        let mut pages = Vec::new();
        for (part, sheet) in self.sheets(records) {
            let file = |ending: &str| self.folder.join(&sheet.name).with_extension(ending);
            pages.push((file("md"), sheet.markdown(&command(part))));
            pages.push((file("csv"), sheet.csv()));
            pages.push((file("json"), sheet.json()));
        }

        let view = View { records, plan: self.plan };
        if let Some(text) = points::text(&view) {
            pages.push((points::path(&self.folder.join(FIGURES)), text));
        }
        if let Some(path) = &self.baselines {
            pages.push((path.clone(), baselines::text(records, self.plan)?));
        }

        Ok(pages)
    }

    /// What differs from what the records and the grid give now, in words. Empty if nothing does.
    pub(crate) fn stale(&self, command: &dyn Fn(Part) -> String) -> Result<Vec<String>> {
        let records = records(&self.folder)?;
        let mut stale = Vec::new();

        for (path, text) in self.pages(&records, command)? {
            match fs::read_to_string(&path) {
                Ok(found) if found == text => {}
                Ok(_) => stale.push(format!("{}: differs from what {CELLS} gives", path.display())),
                Err(error) => stale.push(format!("{}: {error}", path.display())),
            }
        }

        for record in records.all() {
            let Outcome::Done(done) = &record.outcome else { continue };
            let changes = basis::changes(record, done).into_iter();
            stale.extend(
                changes.map(|why| format!("{}: {} {why}", self.folder.display(), record.cell)),
            );
        }

        let strangers = basis::strangers(records.all()).into_iter();
        stale.extend(strangers.map(|why| format!("{}: {why}", self.folder.display())));

        // A record whose needs are unknown is not compared, because its arguments depend on them.
        let known = OfRecords(&records);
        for cell in grid::cells(&Part::all(self.plan.scale), self.plan) {
            let Some(record) = records.get(&cell.id) else { continue };
            let is_result = matches!(record.outcome, Outcome::Done(_) | Outcome::Predicted(_));
            if is_result
                && cell.arguments(&known).is_some_and(|arguments| arguments != record.arguments)
            {
                stale.push(format!(
                    "{}: {} was run with other settings than the grid has",
                    self.folder.display(),
                    cell.id
                ));
            }
        }

        let folder = self.folder.join(FIGURES);
        let drawn = Drawn::read(&folder)?;

        for drawing in
            figures::drawings().iter().filter(|drawing| drawing.is_ready(&self.kept(), &folder))
        {
            let files = self.files_of(drawing);
            for figure in drawing.files(&folder) {
                let whys = drawn.stale(&figure, &self.folder, &files);
                stale.extend(whys.into_iter().map(|why| format!("{}: {why}", figure.display())));
            }
        }

        Ok(stale)
    }
}

/// What records know about other cells.
struct OfRecords<'a>(&'a Records);

impl Known for OfRecords<'_> {
    fn last_state(&self, cell: &CellId) -> Option<State> {
        match &self.0.get(cell)?.outcome {
            Outcome::Done(done) => State::new(done.state.clone()).ok(),
            _ => None,
        }
    }

    fn folder(&self, cell: &CellId) -> String {
        cell.to_string()
    }

    fn source(&self, _data: &str) -> Option<String> {
        None
    }
}

/// Every n-th step, so that about [`KEPT_STEPS`] are left, and every row that is no step.
fn thinned(metrics: &str) -> Result<String> {
    let read = |(index, line)| {
        let row =
            MetricRow::from_line(line).map_err(|error| anyhow!("line {}: {error}", index + 1))?;
        Ok((row, line))
    };

    let rows = metrics.lines().enumerate().map(read).collect::<Result<Vec<(MetricRow, &str)>>>()?;
    let steps = rows.iter().filter(|(row, _)| matches!(row, MetricRow::Step(_))).count();
    let every = steps.div_ceil(KEPT_STEPS).max(1);
    let mut text = String::new();

    for (row, line) in rows {
        let keeps = match row {
            MetricRow::Step(row) => row.step.is_multiple_of(every) || row.step == 1,
            _ => true,
        };

        if keeps {
            text += line;
            text.push('\n');
        }
    }

    Ok(text)
}

/// A spec file, with each path reduced to its last part.
fn portable_spec(text: &str) -> String {
    let line = |line: &str| match line.split_once(" = \"") {
        Some((key @ ("source" | "recording" | "start" | "tokenizer"), rest)) => {
            match rest.split_once('"') {
                Some((path, comment)) => format!("{key} = \"{}\"{comment}", without_folders(path)),
                None => line.to_owned(),
            }
        }
        _ => line.to_owned(),
    };

    text.lines().map(|one| line(one) + "\n").collect()
}

fn portable_provenance(text: &str) -> Result<String> {
    let mut provenance: dlt_spec::record::Provenance =
        serde_json::from_str(text).context("provenance")?;
    crate::record::without_machine(&mut provenance);
    Ok(serde_json::to_string_pretty(&provenance)? + "\n")
}

/// The records that a folder of results keeps, if it has any.
pub(crate) fn records(folder: &Path) -> Result<Records> {
    match folder.join(CELLS) {
        path if path.is_file() => Records::read(&path),
        _ => Ok(Records::default()),
    }
}

/// The folder of the results of a scale.
pub(crate) fn folder(root: &Path, scale: crate::scale::Scale) -> PathBuf {
    root.join("results").join(scale.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_row_that_is_no_step_and_every_nth_step() {
        let step = |step: usize| {
            format!(
                r#"{{"kind":"step","step":{step},"loss":1.0,"learning_rate":0.1,"gradient_norm":1.0,"tokens":1,"independent_layers":1,"distinct_layers":1,"trainable_parameters":1,"block_parameters":1,"elapsed_ms":1.0,"tokens_per_s":1.0}}"#
            )
        };

        let mut text = "{\"kind\":\"header\",\"schema\":1}\n".to_owned();
        (1..=800).for_each(|one| text += &(step(one) + "\n"));

        let kept = thinned(&text).unwrap();
        assert_eq!(kept.lines().count(), 1 + 1 + 200);
        assert!(
            thinned(&text[..text.len() - 9]).unwrap_err().to_string().starts_with("line 801: ")
        );
        assert!(kept.contains(r#""step":800,"#) && kept.starts_with("{\"kind\":\"header\""));
    }

    #[test]
    fn a_kept_spec_names_no_folder() {
        let spec = "schema = 1\n\n[data]\nsource = \"/somewhere/wiki\"   # NAME\n[agent]\nrecording = \"../a/full-1\"\n";
        let kept = portable_spec(spec);
        assert!(
            kept.contains("source = \"wiki\"   # NAME") && kept.contains("recording = \"full-1\""),
            "{kept}"
        );
    }
}
