//! Sentences and pairs of sentences with their class: GLUE's tasks, from the hub or from their
//! original files, and a user's own tables.

mod batch;
mod glue;
mod labelled;

pub use batch::{Framing, SentenceBatch, SentenceIds, truncated_lengths};
pub use glue::read_sentences;
use labelled::Labelled;

use crate::{
    error::DataError,
    hub::HubConfig,
    hub::catalogue::{Columns, LearningTask},
    hub::origin::{Origin, known_names},
    material::plan::split_said_by,
    split::Split,
    text::files::{
        BadRows, DataFile, Flow,
        table::{Cell, Table},
    },
    text::load::{Progress, retrieved},
    text::stream::HubProvenance,
};
use dlt_spec::{file, record::FolderPlan, spec::DataSpec};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Most classes of a task. A larger number is a mistake, and a model would get an output for each
/// class below it.
const MOST_CLASSES: u32 = 1_000_000;

/// One sentence or two, and their class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The only sentence, or the first of two (the question, if there is one).
    pub first: String,
    /// The second.
    pub second: Option<String>,
    /// The class, from 0; `None` in test splits that are published without classes.
    pub label: Option<u32>,
}

/// A task's examples.
#[derive(Clone, Debug)]
pub struct SentenceSplits {
    /// Trains the model.
    pub train: Vec<Example>,
    /// Chooses the model.
    pub validation: Vec<Example>,
    /// Read once, at the end; GLUE's has no labels.
    pub test: Vec<Example>,
    /// Number of classes.
    pub classes: usize,
    /// The name of each class, by its number; empty for GLUE's tasks.
    pub class_names: Vec<String>,
    /// Which file belongs to which split, for the user's own files. They may lack a test split.
    pub plan: Option<FolderPlan>,
    /// Rows of the user's own files that were left out.
    pub bad_rows: BadRows,
    /// The commit that was read, if the data come from the hub.
    pub hub: Option<HubProvenance>,
}

impl SentenceSplits {
    /// The examples of a split.
    #[must_use]
    pub fn split(&self, split: Split) -> &[Example] {
        split.of([&self.train, &self.validation, &self.test])
    }
}

/// Loads a task of the catalogue, as `glue/rte`; a folder of GLUE's original files, `train.tsv`,
/// `dev.tsv` and optionally `test.tsv`; or a table of texts and labels, or a folder of tables. From
/// `data` it uses the source, the shares of a single table and how rows are read.
///
/// # Errors
/// If the name is not valid, the hub or the disk fails, or a row is not valid.
pub fn load_sentences(
    data: &DataSpec,
    hub: Option<&HubConfig>,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<SentenceSplits, DataError> {
    let source = data.source.as_str();
    let splits = match Origin::parse(source)? {
        Origin::Hub(origin) => {
            let Some((first, second)) = origin.entry.and_then(|entry| match entry.columns {
                Columns::Sentences { first, second } => Some((first, second)),
                _ => None,
            }) else {
                return Err(LearningTask::Classification
                    .not_of(source, origin.entry.map(|entry| entry.task)));
            };

            let found = retrieved(&origin, hub, cache, progress)?;
            let [train, validation, test] = found.files;
            let read = |files: Vec<(DataFile, String)>| read_tables(&files, first, second);

            (read(train)?, read(validation)?, read(test)?, Some(found.provenance))
        }
        Origin::Shipped(_) => {
            return Err(
                LearningTask::Classification.not_of(source, Some(LearningTask::LanguageModel))
            );
        }
        Origin::Local { path, column } => match original_files(source, &path)? {
            Some((train, validation, test)) => {
                let test = test.map_or_else(|| Ok(Vec::new()), |path| read_sentences(&path))?;
                (read_sentences(&train)?, read_sentences(&validation)?, test, None)
            }
            None => return own(&path, column.as_deref(), data),
        },
    };

    let (train, validation, test, hub) = splits;
    let largest = train.iter().chain(&validation).filter_map(|example| example.label).max();

    Ok(SentenceSplits {
        train,
        validation,
        test,
        classes: largest.map_or(0, |label| label as usize + 1),
        class_names: Vec::new(),
        plan: None,
        bad_rows: BadRows::default(),
        hub,
    })
}

/// The user's own labelled texts.
fn own(path: &Path, column: Option<&str>, data: &DataSpec) -> Result<SentenceSplits, DataError> {
    let Labelled { splits: [train, validation, test], classes: class_names, plan, bad_rows } =
        labelled::read(path, column, data.split, data.into())?;
    let classes = class_names.len();
    let plan = Some(plan);
    Ok(SentenceSplits { train, validation, test, classes, class_names, plan, bad_rows, hub: None })
}

/// Train, validation and, if it exists, test.
type OriginalFiles = (PathBuf, PathBuf, Option<PathBuf>);

/// GLUE's files in a folder. `None` for a file, or for a folder that lacks GLUE's train or
/// validation file.
fn original_files(source: &str, folder: &Path) -> Result<Option<OriginalFiles>, DataError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            DataError::NoSuchSource { name: source.to_owned(), known: known_names() }
        }
        _ => DataError::Read { path: folder.to_owned(), source: error },
    };

    if !file::regular_or_folder(folder).map_err(unreadable)?.is_dir() {
        return Ok(None);
    }

    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let mut found: [Option<PathBuf>; 3] = [const { None }; 3];
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();

    paths.sort();
    for path in
        paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "tsv"))
    {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(split) = split_said_by(&name) else { continue };
        found[split as usize].get_or_insert(path);
    }

    Ok(match found {
        [Some(train), Some(validation), test] if glue::is_original(&train)? => {
            Some((train, validation, test))
        }
        _ => None,
    })
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
        let seconds = seconds
            .map_or_else(|| vec![None; firsts.len()], |rows| rows.into_iter().map(Some).collect());

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

/// The classes in the column `label`. The hub writes -1 for a missing class.
pub(crate) fn labels(table: &Table<'_>, file: &DataFile) -> Result<Vec<Option<u32>>, DataError> {
    let mut rows = Vec::new();
    table.cells(table.column("label")?, &(0..u64::MAX), &mut |row, cell| {
        rows.push(match cell {
            Cell::Whole(-1) | Cell::Missing => None,
            Cell::Whole(label) if (0..MOST_CLASSES.into()).contains(&label) => Some(label as u32),
            _ => {
                return Err(bad(
                    file,
                    row,
                    "expected a class of 0 or above, or -1, in \"label\"".to_owned(),
                ));
            }
        });

        Ok(Flow::On)
    })?;

    Ok(rows)
}

fn bad(file: &DataFile, row: u64, reason: String) -> DataError {
    DataError::BadRow { path: file.path.clone(), row: row + 1, reason }
}
