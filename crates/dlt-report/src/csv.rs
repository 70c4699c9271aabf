//! The metrics of a run as CSV tables, for spreadsheets and other programs: one file for each kind
//! of row.
//!
//! | file | a line for each |
//! |---|---|
//! | `steps.csv` | training step |
//! | `evaluations.csv` | evaluation |
//! | `decisions.csv` | decision |
//!
//! The first line names the columns: the keys of `dlt_spec::record`, with units. A value that a row
//! lacks is empty. NaN, and `null` in the metrics, is `NaN`. Numbers have as many digits as are
//! needed to distinguish them from every other f64. The layers of an action or a state are joined
//! with spaces.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use ::csv::Writer;
use dlt_spec::durable;
use dlt_spec::record::{DecisionRow, EvaluationRow, METRICS_FILE, SearchRow, StepRow};

use crate::error::{ReportError, Result};
use crate::metrics::Metrics;

/// The folder for tables in a run folder.
pub const FOLDER: &str = "csv";

/// Name of a column, and the function that gives a row's cell in it.
type Column<R> = (&'static str, fn(&R) -> String);

const STEPS: &[Column<StepRow>] = &[
    ("step", |row| row.step.to_string()),
    ("loss_nats", |row| number(row.loss)),
    ("learning_rate", |row| number(row.learning_rate)),
    ("gradient_norm", |row| number(row.gradient_norm)),
    ("tokens", |row| row.tokens.to_string()),
    ("independent_layers", |row| row.independent_layers.to_string()),
    ("distinct_layers", |row| row.distinct_layers.to_string()),
    ("trainable_parameters", |row| row.trainable_parameters.to_string()),
    ("block_parameters", |row| row.block_parameters.to_string()),
    ("elapsed_ms", |row| number(row.elapsed_ms)),
    ("tokens_per_s", |row| row.tokens_per_s.map_or_else(String::new, number)),
    ("current_rss_mb", |row| row.current_rss_mb.map_or_else(String::new, number)),
    ("skipped_steps", |row| row.skipped_steps.map_or_else(String::new, |steps| steps.to_string())),
];

const EVALUATIONS: &[Column<EvaluationRow>] = &[
    ("step", |row| row.step.to_string()),
    ("split", |row| row.split.name().to_owned()),
    ("loss_nats", |row| number(row.loss)),
    ("perplexity", |row| number(row.perplexity)),
    ("tokens", |row| row.tokens.to_string()),
    ("accuracy", |row| row.accuracy.map_or_else(String::new, number)),
    ("elapsed_ms", |row| number(row.elapsed_ms)),
];

const DECISIONS: &[Column<DecisionRow>] = &[
    ("step", |row| row.step.to_string()),
    ("visit", |row| row.visit.to_string()),
    ("layer", |row| row.layer.map_or_else(String::new, |layer| layer.to_string())),
    ("action", |row| row.action.as_deref().map_or_else(String::new, layers)),
    ("state", |row| layers(&row.state)),
    ("explored", |row| row.explored.to_string()),
    ("epsilon", |row| row.epsilon.map_or_else(String::new, number)),
    ("reward", |row| row.reward.map_or_else(String::new, number)),
    ("q_predicted", |row| row.q_predicted.map_or_else(String::new, number)),
    ("q_target", |row| row.q_target.map_or_else(String::new, number)),
    ("q_loss", |row| row.q_loss.map_or_else(String::new, number)),
    ("tied_events", |row| row.tied_events.to_string()),
    ("untied_events", |row| row.untied_events.to_string()),
    ("elapsed_ms", |row| number(row.elapsed_ms)),
    ("refused", |row| row.refused.to_string()),
    ("conflict", |row| row.conflict.map_or_else(String::new, number)),
    ("loss_before_nats", |row| row.loss_before.map_or_else(String::new, number)),
    ("loss_after_nats", |row| row.loss_after.map_or_else(String::new, number)),
    ("unlikeness", |row| row.unlikeness.map_or_else(String::new, number)),
    ("search_candidates", |row| of_search(row, |search| search.candidates.to_string())),
    ("search_passes", |row| of_search(row, |search| search.passes.to_string())),
    ("search_loss_before_nats", |row| of_search(row, |search| number(search.loss_before))),
    ("search_loss_after_nats", |row| of_search(row, |search| number(search.loss_after))),
];

/// How many columns the table of decisions had in earlier builds. The newer ones follow.
const EARLIER_DECISIONS: [usize; 2] = [14, 19];

/// Writes the tables of a run into a folder, and returns their paths. A file whose first line has
/// our column names, or those of an earlier build, is replaced. If there is any other file of that
/// name, it stays and nothing is written.
///
/// # Errors
/// [`ReportError::NoRun`] if `run` is not a run folder; [`ReportError::Io`] if a file cannot be
/// read or written; [`ReportError::Format`] if the metrics are damaged or dlt did not write an
/// existing file of that name.
pub fn convert(run: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let metrics = run.join(METRICS_FILE);
    if !metrics.is_file() {
        return Err(ReportError::NoRun { path: run.to_owned(), file: METRICS_FILE });
    }

    let metrics = Metrics::read(&metrics)?;
    let tables = [
        ("steps.csv", table(STEPS, &metrics.steps), Vec::new()),
        ("evaluations.csv", table(EVALUATIONS, &metrics.evaluations), Vec::new()),
        (
            "decisions.csv",
            table(DECISIONS, &metrics.decisions),
            EARLIER_DECISIONS.map(|columns| table(&DECISIONS[..columns], &[])).to_vec(),
        ),
    ];

    durable::refuse_link(folder).map_err(ReportError::io("write", folder))?;
    fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;

    // All files are checked before the first one is written.
    for (name, bytes, earlier) in &tables {
        refuse_others(&folder.join(name), bytes, earlier)?;
    }

    let mut paths = Vec::new();
    for (name, bytes, _) in &tables {
        let path = folder.join(name);
        // A reader finds the old table or the new one, never a part.
        durable::replace(&path, bytes).map_err(ReportError::io("write", &path))?;
        paths.push(path);
    }

    Ok(paths)
}

/// Refuses a file whose first line is neither ours nor that of an earlier build.
fn refuse_others(path: &Path, table: &[u8], earlier: &[Vec<u8>]) -> Result<()> {
    let header = table.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
    let file = match dlt_spec::file::regular(path, u64::MAX) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ReportError::io("read", path)(error)),
    };

    let mut found = Vec::new();
    let line = BufReader::new(file).take(header.len() as u64).read_until(b'\n', &mut found);
    line.map_err(ReportError::io("read", path))?;

    if found != header && !earlier.contains(&found) {
        return Err(ReportError::format(
            path,
            "already exists, and was not written by dlt: move it away",
        ));
    }

    Ok(())
}

fn table<R>(columns: &[Column<R>], rows: &[R]) -> Vec<u8> {
    const IN_MEMORY: &str = "rows of one length, written to memory, cannot fail";
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(columns.iter().map(|(name, _)| name)).expect(IN_MEMORY);

    for row in rows {
        writer.write_record(columns.iter().map(|(_, cell)| cell(row))).expect(IN_MEMORY);
    }

    writer.into_inner().expect(IN_MEMORY)
}

/// A number with a decimal point or an exponent, whichever is shorter, so that it does not look
/// like an integer.
fn number(value: f64) -> String {
    format!("{value:?}")
}

/// A cell about a search; empty if there was none.
fn of_search(row: &DecisionRow, cell: impl FnOnce(SearchRow) -> String) -> String {
    row.search.map_or_else(String::new, cell)
}

fn layers(layers: &[usize]) -> String {
    layers.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
}
