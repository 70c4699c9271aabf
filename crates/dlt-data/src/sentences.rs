//! Sentences and pairs of them with their class: GLUE's tasks, from the hub or in their original files.

mod batch;
mod glue;

pub use batch::{Framing, SentenceBatch, SentenceIds, truncated_lengths};
pub use glue::read_sentences;

use crate::{
    catalogue::{Columns, Task},
    error::DataError,
    files::{
        DataFile, Flow,
        table::{Cell, Table},
    },
    hub::HubConfig,
    load::{Progress, retrieved},
    origin::{Origin, known_names},
    split::Split,
    stream::HubProvenance,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Classes that a task has at most. A larger number is a mistake, and a model would make an output for each below it.
const MOST_CLASSES: u32 = 1_000_000;

/// One sentence or two, and their class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The only sentence, or the first of two: the question where there is one.
    pub first: String,
    /// The second.
    pub second: Option<String>,
    /// The class, from 0; `None` in test splits that are published without.
    pub label: Option<u32>,
}

/// A task's examples.
#[derive(Clone, Debug)]
pub struct SentenceSplits {
    /// Trained on.
    pub train: Vec<Example>,
    /// Chooses the model.
    pub validation: Vec<Example>,
    /// Read once, at the end; GLUE's has no labels.
    pub test: Vec<Example>,
    /// Number of classes.
    pub classes: usize,
    /// The commit that was read, where it comes from the hub.
    pub hub: Option<HubProvenance>,
}

impl SentenceSplits {
    /// The examples of a split.
    #[must_use]
    pub fn split(&self, split: Split) -> &[Example] {
        split.of([&self.train, &self.validation, &self.test])
    }
}

/// A task of the catalogue, as `glue/rte`, or a folder of GLUE's original files: `train.tsv`, `dev.tsv` and, where
/// it is there, `test.tsv`.
///
/// # Errors
/// If the name is none, the hub or the disk misbehaves, or a row is not what it should be.
pub fn load_sentences(
    source: &str,
    hub: Option<&HubConfig>,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<SentenceSplits, DataError> {
    let splits = match Origin::parse(source)? {
        Origin::Hub(origin) => {
            let Some((first, second)) = origin.entry.and_then(|entry| match entry.columns {
                Columns::Sentences { first, second } => Some((first, second)),
                _ => None,
            }) else {
                return Err(Task::Classification.not_of(source, origin.entry.map(|entry| entry.task)));
            };
            let found = retrieved(&origin, hub, cache, progress)?;
            let [train, validation, test] = found.files;
            let read = |files: Vec<(DataFile, String)>| read_tables(&files, first, second);
            (read(train)?, read(validation)?, read(test)?, Some(found.provenance))
        }
        Origin::Shipped(_) => return Err(Task::Classification.not_of(source, Some(Task::LanguageModel))),
        Origin::Local { path, .. } => {
            let (train, validation, test) = original_files(source, &path)?;
            let test = test.map_or_else(|| Ok(Vec::new()), |path| read_sentences(&path))?;
            (read_sentences(&train)?, read_sentences(&validation)?, test, None)
        }
    };
    let (train, validation, test, hub) = splits;
    let largest = train.iter().chain(&validation).filter_map(|example| example.label).max();
    Ok(SentenceSplits {
        train,
        validation,
        test,
        classes: largest.map_or(0, |label| label as usize + 1),
        hub,
    })
}

/// The files of a folder: train, validation and, where it is there, test.
fn original_files(source: &str, folder: &Path) -> Result<(PathBuf, PathBuf, Option<PathBuf>), DataError> {
    let entries = fs::read_dir(folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            DataError::NoSuchSource { name: source.to_owned(), known: known_names() }
        }
        _ => DataError::Read { path: folder.to_owned(), source: error },
    })?;
    let mut found: [Option<PathBuf>; 3] = [const { None }; 3];
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "tsv")) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some(split) = stem.split(['.', '-', '_']).find_map(Split::of_word) else { continue };
        found[split as usize].get_or_insert(path);
    }
    let missing = |missing| DataError::MissingSplit { path: folder.to_owned(), missing };
    let [train, validation, test] = found;
    let train = train.ok_or_else(|| missing(Split::Train))?;
    Ok((train, validation.ok_or_else(|| missing(Split::Validation))?, test))
}

/// Rows of the hub's tables.
fn read_tables(
    files: &[(DataFile, String)],
    first: &str,
    second: Option<&str>,
) -> Result<Vec<Example>, DataError> {
    let mut examples = Vec::new();
    for (file, _) in files {
        let table = Table::open(file)?;
        let firsts = texts(&table, file, first)?;
        let seconds = second.map(|second| texts(&table, file, second)).transpose()?;
        let labels = labels(&table, file)?;
        let seconds =
            seconds.map_or_else(|| vec![None; firsts.len()], |rows| rows.into_iter().map(Some).collect());
        if seconds.len() != firsts.len() || labels.len() != firsts.len() {
            let reason = "its columns have different lengths".to_owned();
            return Err(DataError::BadFile { path: file.path.clone(), format: "Parquet", reason });
        }
        let rows = firsts.into_iter().zip(seconds).zip(labels);
        examples.extend(rows.map(|((first, second), label)| Example { first, second, label }));
    }
    Ok(examples)
}

fn texts(table: &Table<'_>, file: &DataFile, name: &str) -> Result<Vec<String>, DataError> {
    let mut rows = Vec::new();
    table.cells(table.column(name)?, &(0..u64::MAX), &mut |row, cell| {
        let text = match cell {
            Cell::Bytes(bytes) => String::from_utf8(bytes.to_vec()).ok(),
            _ => None,
        };
        rows.push(text.ok_or_else(|| bad(file, row, format!("expected text in {name:?}")))?);
        Ok(Flow::On)
    })?;
    Ok(rows)
}

/// Classes; the hub writes -1 where there is none.
pub(crate) fn labels(table: &Table<'_>, file: &DataFile) -> Result<Vec<Option<u32>>, DataError> {
    let mut rows = Vec::new();
    table.cells(table.column("label")?, &(0..u64::MAX), &mut |row, cell| {
        rows.push(match cell {
            Cell::Whole(-1) | Cell::Missing => None,
            Cell::Whole(label) if (0..MOST_CLASSES.into()).contains(&label) => Some(label as u32),
            _ => {
                return Err(bad(file, row, "expected a class of 0 or above, or -1, in \"label\"".to_owned()));
            }
        });
        Ok(Flow::On)
    })?;
    Ok(rows)
}

fn bad(file: &DataFile, row: u64, reason: String) -> DataError {
    DataError::BadRow { path: file.path.clone(), row: row + 1, reason }
}
