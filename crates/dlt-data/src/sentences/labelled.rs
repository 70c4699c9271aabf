//! The user's own labelled texts: tables with one or two texts and a label, which is a word or a
//! number.
//!
//! The text is in the columns of [`TEXTS`], the label in one of [`LABELS`]. `PATH::TEXT,LABEL` and
//! `PATH::FIRST,SECOND,LABEL` name others. Files of a folder belong to the split that their name
//! gives, as for texts. A table is not cut by position, because rows are often sorted by their
//! class. Instead the checksum of a row's text decides its split, so equal texts are in one split
//! and no random draw is needed.

use super::{Example, MOST_CLASSES};
use crate::{
    error::DataError,
    material::plan::plan_folder,
    split::{Split, cut_by_fractions},
    text::files::{
        BadRows, DataFile, Flow, Format, JsonLayout, Quoting, Reading, by_file, kind,
        table::{Cell, Table},
        usable,
    },
};
use dlt_spec::record::{Division, FolderPlan};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Columns that hold the label, unless one is named.
const LABELS: [&str; 3] = ["label", "labels", "class"];

/// Columns that hold the text or the pair of texts, unless they are named.
const TEXTS: [(&str, Option<&str>); 6] = [
    ("text", None),
    ("question", Some("sentence")),
    ("sentence1", Some("sentence2")),
    ("premise", Some("hypothesis")),
    ("sentence", None),
    ("content", None),
];

/// Share of the rows of train that become validation if no file is for it.
const VALIDATION_SHARE: f64 = 0.05;

/// Most bytes of all examples, which are held in memory.
const MOST_BYTES: usize = 4 << 30;

/// Labelled texts in their splits.
pub(super) struct Labelled {
    pub(super) splits: [Vec<Example>; 3],
    /// The name of each class, by its number.
    pub(super) classes: Vec<String>,
    pub(super) plan: FolderPlan,
    /// Rows that were left out.
    pub(super) bad_rows: BadRows,
}

/// A row whose label has no number yet.
struct LabelledRow {
    first: String,
    second: Option<String>,
    label: Option<String>,
}

/// Names of columns, if the user gives them.
#[derive(Default)]
struct Columns<'a> {
    texts: Option<(&'a str, Option<&'a str>)>,
    label: Option<&'a str>,
}

impl<'a> Columns<'a> {
    fn parse(named: Option<&'a str>) -> Self {
        let parts: Vec<&str> =
            named.map_or_else(Vec::new, |named| named.split(',').map(str::trim).collect());

        match parts[..] {
            [] => Self::default(),
            [text] => Self { texts: Some((text, None)), label: None },
            [text, label] => Self { texts: Some((text, None)), label: Some(label) },
            [first, second, ..] => {
                Self { texts: Some((first, Some(second))), label: parts.last().copied() }
            }
        }
    }
}

/// Indices of the columns that are read, among all columns.
struct Places {
    first: usize,
    second: Option<usize>,
    label: usize,
}

impl Places {
    fn find(path: &Path, known: &[String], named: Option<&str>) -> Result<Self, DataError> {
        let columns = Columns::parse(named);
        let position = |name: &str| known.iter().position(|column| column == name);
        let missing = |wanted: String| DataError::NoColumn {
            path: path.to_owned(),
            wanted,
            known: known.join(", "),
        };

        let named = |name: &str| position(name).ok_or_else(|| missing(format!("{name:?}")));
        let label = match columns.label {
            Some(name) => named(name)?,
            None => LABELS.iter().find_map(|name| position(name)).ok_or_else(|| {
                missing(format!(
                    "of classes ({}); name both, as in PATH::TEXT,LABEL",
                    LABELS.join(", ")
                ))
            })?,
        };

        let (first, second) = match columns.texts {
            Some((first, second)) => (named(first)?, second.map(named).transpose()?),
            None => {
                let usual = TEXTS.iter().find_map(|(first, second)| match second {
                    None => Some((position(first)?, None)),
                    Some(second) => Some((position(first)?, Some(position(second)?))),
                });

                // Of two columns, the one that is not the label is the text.
                let other = (known.len() == 2).then_some((1 - label.min(1), None));
                let advice =
                    "that is clearly its text; name it and the label, as in PATH::TEXT,LABEL";
                usual.or(other).ok_or_else(|| missing(advice.to_owned()))?
            }
        };

        Ok(Self { first, second, label })
    }
}

/// Reads a file of labelled texts, or a folder of them.
pub(super) fn read(
    path: &Path,
    named: Option<&str>,
    fractions: [f64; 3],
    reading: Reading,
) -> Result<Labelled, DataError> {
    let mut plan = plan_folder(path)?;
    let is_folder = path.is_dir();
    let at = |name: &String| if is_folder { path.join(name) } else { path.to_owned() };
    let mut bytes = 0;
    let mut bad_rows = BadRows::default();
    let mut rows = |files: &[String]| -> Result<Vec<LabelledRow>, DataError> {
        let mut rows = Vec::new();
        for file in files.iter().map(at) {
            read_file(&file, named, reading, &mut bad_rows, &mut |row| {
                bytes += row.first.len() + row.second.as_ref().map_or(0, String::len);
                rows.push(row);

                if bytes > MOST_BYTES { Err(too_large(&file)) } else { Ok(Flow::On) }
            })?;
        }

        Ok(rows)
    };

    let mut train = rows(&plan.train)?;
    let mut validation = rows(&plan.validation)?;
    let mut test = rows(&plan.test)?;

    match plan.division {
        Division::Names | Division::Catalogue => {}
        Division::ValidationFromTrain | Division::ValidationByChecksums => {
            plan.division = Division::ValidationByChecksums;
            [train, validation, _] = deal(train, [1.0 - VALIDATION_SHARE, VALIDATION_SHARE, 0.0])?;
        }
        Division::Fractions | Division::Checksums => {
            plan.division = Division::Checksums;
            [train, validation, test] = deal(train, fractions)?;
        }
    }

    let classes = classes(path, [&train, &validation, &test])?;
    let splits = [train, validation, test].map(|rows| numbered(rows, &classes));
    Ok(Labelled { splits, classes, plan, bad_rows })
}

fn too_large(path: &Path) -> DataError {
    let reason =
        format!("its texts and those before it have more than {MOST_BYTES} bytes: use fewer texts");
    DataError::BadFile { path: path.to_owned(), format: "labelled texts", reason }
}

/// Divides rows into splits by the checksum of their text. Within a split they stay in order.
fn deal(rows: Vec<LabelledRow>, fractions: [f64; 3]) -> Result<[Vec<LabelledRow>; 3], DataError> {
    let checksum = |row: &LabelledRow| -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((row.first.len() as u64).to_le_bytes());
        hash.update(&row.first);
        hash.update(row.second.as_deref().unwrap_or_default());
        hash.finalize().into()
    };

    let checksums: Vec<[u8; 32]> = rows.iter().map(checksum).collect();
    let mut sorted = checksums.clone();
    sorted.sort_unstable();

    // The checksum at a cut is the least of its split, so all rows with equal texts are on one
    // side.
    let cuts = cut_by_fractions(rows.len() as u64, fractions)?;
    let [validation, test] = cuts.map(|cut| sorted.get(cut as usize));
    let mut splits = [const { Vec::new() }; 3];
    for (row, checksum) in rows.into_iter().zip(checksums) {
        let is_at_least = |cut: Option<&[u8; 32]>| cut.is_some_and(|cut| checksum >= *cut);
        let split = match (is_at_least(test), is_at_least(validation)) {
            (true, _) => Split::Test,
            (false, true) => Split::Validation,
            (false, false) => Split::Train,
        };

        splits[split as usize].push(row);
    }

    Ok(splits)
}

/// The names of the classes, by number. Classes are numbered in order: by value if all of them are
/// whole numbers, otherwise as text.
fn classes(path: &Path, splits: [&Vec<LabelledRow>; 3]) -> Result<Vec<String>, DataError> {
    let labels: BTreeSet<&str> =
        splits.into_iter().flatten().filter_map(|row| row.label.as_deref()).collect();
    let bad = |reason: String| DataError::BadFile {
        path: path.to_owned(),
        format: "labelled texts",
        reason,
    };

    if labels.len() < 2 || labels.len() > MOST_CLASSES as usize {
        let shown = labels.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        return Err(bad(format!(
            "expected 2 to {MOST_CLASSES} classes, got {} ({shown})",
            labels.len()
        )));
    }

    let is_fraction = |label: &&&str| label.parse::<i64>().is_err() && label.parse::<f64>().is_ok();
    if let Some(label) = labels.iter().find(is_fraction) {
        return Err(bad(format!(
            "expected classes as words or whole numbers, got {label}: numbers cannot be learned"
        )));
    }

    let mut labels: Vec<&str> = labels.into_iter().collect();
    let numbers: Option<Vec<i64>> = labels.iter().map(|label| label.parse().ok()).collect();
    if numbers.is_some() {
        labels.sort_by_key(|label| label.parse::<i64>().unwrap_or(i64::MAX));
    }

    Ok(labels.into_iter().map(str::to_owned).collect())
}

fn numbered(rows: Vec<LabelledRow>, classes: &[String]) -> Vec<Example> {
    let numbers: BTreeMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    rows.into_iter()
        .map(|LabelledRow { first, second, label }| {
            let label = label.and_then(|label| numbers.get(label.as_str()).copied());
            Example { first, second, label }
        })
        .collect()
}

/// A label in the form in which labels are compared: `1`, `1.0` and ` 1 ` are equal. `None` if
/// there is no label.
fn label_of(text: &str) -> Option<String> {
    let text = text.trim();
    match text.parse::<f64>() {
        // The hub's mark for a missing class.
        Ok(-1.0) => None,
        Ok(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            Some(format!("{}", number as i64))
        }
        _ => Some(text.to_owned()).filter(|text| !text.is_empty()),
    }
}

type Take<'a> = &'a mut dyn FnMut(LabelledRow) -> Result<Flow, DataError>;

/// Reads a file, and adds the rows that are left out to `bad_rows`.
fn read_file(
    path: &Path,
    named: Option<&str>,
    reading: Reading,
    bad_rows: &mut BadRows,
    take: Take<'_>,
) -> Result<(), DataError> {
    let mut file = DataFile::at(path);
    file.examine_rows(reading)?;

    let read = match file.format {
        Format::Json(layout) => objects(&file, layout, named, take),
        Format::Separated(quoting) => records(&file, quoting, named, take),
        Format::Parquet => table(&file, named, take),
        Format::Text => Err(DataError::BadFile {
            path: path.to_owned(),
            format: "labelled texts",
            reason: "expected a table with columns text and label: CSV, TSV, JSON or Parquet"
                .to_owned(),
        }),
    };

    // Also after a failure: the rows that were left out may be the reason.
    for (path, rows) in by_file(std::iter::once(&file)) {
        rows.tell(path);
        bad_rows.add(rows);
    }

    read
}

/// Hands a row to `take`, unless it cannot be used and is left out.
fn hand_on(
    file: &DataFile,
    number: u64,
    row: Result<LabelledRow, String>,
    take: Take<'_>,
) -> Result<Flow, DataError> {
    usable(file, number, row)?.map_or(Ok(Flow::On), take)
}

fn records(
    file: &DataFile,
    quoting: Quoting,
    named: Option<&str>,
    take: Take<'_>,
) -> Result<(), DataError> {
    let mut places = None;

    file.each_record(quoting, &mut |names, number, record| {
        let places = match &places {
            Some(known) => known,
            None => places.insert(Places::find(&file.path, names, named)?),
        };

        let row = record.and_then(|record| {
            let field = |at: usize| {
                std::str::from_utf8(record.get(at).unwrap_or_default())
                    .map_err(|error| format!("not UTF-8: {error}"))
            };

            Ok(LabelledRow {
                first: field(places.first)?.to_owned(),
                second: places.second.map(|at| field(at).map(str::to_owned)).transpose()?,
                label: label_of(field(places.label)?),
            })
        });

        hand_on(file, number, row, take)
    })
}

fn objects(
    file: &DataFile,
    layout: JsonLayout,
    named: Option<&str>,
    take: Take<'_>,
) -> Result<(), DataError> {
    let mut found = None;
    let each = file.each_object(layout, &mut |number, row| {
        let object = serde_json::from_slice::<Map<String, Value>>(row);
        let object = object.map_err(|error| format!("expected an object of JSON: {error}"));
        let Some(object) = usable(file, number, object)? else { return Ok(Flow::On) };
        let (names, places) = match &found {
            Some(known) => known,
            None => {
                let names: Vec<String> = object.keys().cloned().collect();
                let places = Places::find(&file.path, &names, named)?;
                found.insert((names, places))
            }
        };

        hand_on(file, number, row_of(&object, names, places), take)
    });

    each.map(drop)
}

fn row_of(
    object: &Map<String, Value>,
    names: &[String],
    places: &Places,
) -> Result<LabelledRow, String> {
    let text = |at: usize| match object.get(&names[at]) {
        Some(Value::String(text)) => Ok(text.clone()),
        other => {
            let got = kind(other.unwrap_or(&Value::Null));
            Err(format!("expected text in {:?}, got {got}", names[at]))
        }
    };

    let label = match object.get(&names[places.label]) {
        None | Some(Value::Null) => None,
        Some(Value::String(label)) => label_of(label),
        Some(label @ (Value::Number(_) | Value::Bool(_))) => label_of(&label.to_string()),
        Some(other) => {
            let got = kind(other);
            return Err(format!(
                "expected a word or a number in {:?}, got {got}",
                names[places.label]
            ));
        }
    };

    Ok(LabelledRow {
        first: text(places.first)?,
        second: places.second.map(text).transpose()?,
        label,
    })
}

/// The text of a cell of Parquet, or why it cannot be read.
type CellText = Result<Option<String>, String>;

fn table(file: &DataFile, named: Option<&str>, take: Take<'_>) -> Result<(), DataError> {
    let table = Table::open(file)?;
    let names = table.columns();
    let places = Places::find(&file.path, &names, named)?;
    let column = |at: usize| -> Result<std::vec::IntoIter<CellText>, DataError> {
        let mut values = Vec::new();
        table.cells(at, &(0..u64::MAX), &mut |_, cell| {
            values.push(match cell {
                Cell::Missing => Ok(None),
                Cell::Whole(number) => Ok(Some(number.to_string())),
                Cell::Bytes(bytes) => match String::from_utf8(bytes.to_vec()) {
                    Ok(text) => Ok(Some(text)),
                    Err(error) => Err(format!("not UTF-8: {error}")),
                },
            });

            Ok(Flow::On)
        })?;

        Ok(values.into_iter())
    };

    let text = |value: CellText, at: usize| {
        value?.ok_or_else(|| format!("expected text in {:?}, got null", names[at]))
    };
    let firsts = column(places.first)?;
    let mut seconds = places.second.map(column).transpose()?;
    let labels = column(places.label)?;

    for ((first, label), number) in firsts.zip(labels).zip(1..) {
        let second = seconds.as_mut().map(|seconds| seconds.next().unwrap_or(Ok(None)));
        let row = || {
            Ok(LabelledRow {
                first: text(first, places.first)?,
                second: second
                    .map(|second| text(second, places.second.unwrap_or_default()))
                    .transpose()?,
                label: label?.as_deref().and_then(label_of),
            })
        };

        if hand_on(file, number, row(), take)? == Flow::Stop {
            break;
        }
    }

    Ok(())
}
