//! Which file belongs to which split: one rule for a user's folders and for repositories of the
//! hub.
//!
//! A name gives its split by a word in it or by a folder (`train-00000-of-00002.parquet`,
//! `wiki.valid.tokens`, `test/0001.jsonl`). Files of one split are read in the order of their
//! names, with numbers sorted as numbers. Names that could be read in two ways are refused, so that
//! no text for testing is trained on.

mod naming;

use crate::{
    error::DataError,
    split::Split,
    text::files::{DATA_EXTENSIONS, Format},
};
use dlt_spec::{
    file,
    record::{Division, FolderPlan, LeftOut, Reason},
};
use naming::{NamedFile, natural};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Levels of folders below a folder that are read: a configuration, `data`, a split, and one more.
/// Deeper trees come from a link that leads back, or are no data set.
const MOST_DEPTH: usize = 4;

/// Most files of a folder. A larger folder is no data set but a whole disk, and its list would fill
/// the memory.
const MOST_FILES: usize = 100_000;

/// Names that a message shows from a long list.
const SHOWN: usize = 8;

/// Whose files are planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A folder of the user, who can rename what is ambiguous.
    Folder,
    /// A repository of the hub, which holds other things too. Tables are preferred, and files that
    /// name no split are left out where others name one.
    Repository,
}

/// A plan, and its configuration.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: FolderPlan,
    /// Empty where there are none.
    pub(crate) config: String,
}

/// Which files of a folder are read for which split. A single file gives a plan with one file.
///
/// # Errors
/// If the folder cannot be read, has no files of text or rows, or has too many files. Or if it is
/// unclear which file is for which split: the message shows what was found and says what to do.
pub fn plan_folder(path: &Path) -> Result<FolderPlan, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    if !file::regular_or_folder(path).map_err(unreadable)?.is_dir() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(FolderPlan {
            division: Division::Fractions,
            train: vec![name],
            validation: Vec::new(),
            test: Vec::new(),
            left_out: Vec::new(),
        });
    }

    let mut names = Vec::new();
    collect(path, "", MOST_DEPTH, &mut names)?;

    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    plan(&path.to_string_lossy(), &known, Owner::Folder, None).map(|planned| planned.plan)
}

/// Files below a folder, as paths with `/`.
fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    names: &mut Vec<String>,
) -> Result<(), DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // A name that is not UTF-8 cannot be written into a plan, so its file is never read.
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{prefix}{name}");
        let is_hidden = name.rsplit('/').next().unwrap_or_default().starts_with('.');

        if path.is_file() {
            names.push(name);
        } else if path.is_dir() {
            if depth > 0 && !is_hidden {
                collect(&path, &format!("{name}/"), depth - 1, names)?;
            }
        } else if !is_hidden && Format::of_name(&name).is_some() {
            // A pipe or a broken link: a file with the name of data must not be left out silently.
            file::regular(&path, u64::MAX)
                .map_err(|source| DataError::Read { path: path.clone(), source })?;
        }

        if names.len() > MOST_FILES {
            return Err(DataError::TooManyFiles { path: folder.to_owned(), most: MOST_FILES });
        }
    }

    Ok(())
}

/// The split that a file's name gives, if it gives exactly one.
pub(crate) fn split_said_by(name: &str) -> Option<Split> {
    NamedFile::new(name, None).ok().filter(|file| !file.contradicts_itself())?.split()
}

/// Whether a file of a repository may hold rows or text.
pub(crate) fn is_data_of_hub(name: &str) -> bool {
    NamedFile::new(name, None).is_ok_and(|file| file.is_data_of_hub())
}

/// The plan of a list of files.
pub(crate) fn plan(
    place: &str,
    names: &[&str],
    owner: Owner,
    config: Option<&str>,
) -> Result<Planned, DataError> {
    let mut left_out = Vec::new();
    let mut leave = |file: &str, reason| left_out.push(LeftOut { file: file.to_owned(), reason });
    let mut files = Vec::new();

    for name in names {
        match NamedFile::new(name, config) {
            Ok(file) if owner == Owner::Repository && !file.is_data_of_hub() => {
                leave(name, Reason::AboutData)
            }
            Ok(file) => files.push(file),
            Err(reason) => leave(name, reason),
        }
    }

    files.sort_by(|left, right| natural(left.name, right.name));
    let place = Planning { place, owner };
    let config = place.config(&place.deciding(&files, config), config, names)?;
    let (files, others): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.config == config);

    others.iter().for_each(|file| leave(file.name, Reason::OtherFolder));
    let (kept, others): (Vec<_>, Vec<_>) = {
        let is_read = place.format(&files);
        files.into_iter().partition(|file| is_read(file))
    };

    others.iter().for_each(|file| leave(file.name, Reason::OtherFormat));
    let [files, others] = place.strays(kept)?;
    others.iter().for_each(|file| leave(file.name, Reason::NoSplit));
    place.check(&files)?;

    let config = config.to_owned();
    let mut splits = [const { Vec::new() }; 3];
    for file in &files {
        splits[file.split().unwrap_or(Split::Train) as usize].push(file.name.to_owned());
    }

    left_out.sort_by(|left, right| natural(&left.file, &right.file));
    let [train, validation, test] = splits;
    let division = match (validation.is_empty(), test.is_empty()) {
        (false, _) => Division::Names,
        (true, false) => Division::ValidationFromTrain,
        (true, true) => Division::Fractions,
    };

    Ok(Planned { plan: FolderPlan { division, train, validation, test, left_out }, config })
}

/// Whose files are planned: the name of the folder or repository, for messages, and its rules.
struct Planning<'a> {
    place: &'a str,
    owner: Owner,
}

impl Planning<'_> {
    fn ambiguous(&self, found: String, advice: &'static str) -> DataError {
        DataError::AmbiguousFolder { place: self.place.to_owned(), found, advice }
    }

    /// The files that decide which folder is read. A repository holds other things too. There only
    /// files that name a split count, and of these only Parquet files where there are any.
    fn deciding<'a>(&self, files: &[NamedFile<'a>], wanted: Option<&str>) -> Vec<NamedFile<'a>> {
        if self.owner == Owner::Folder || wanted.is_some() {
            return files.to_vec();
        }

        let is_read = self.format(files);
        let says = |file: &&NamedFile<'_>| file.split().is_some();
        let deciding: Vec<_> =
            files.iter().filter(says).filter(|file| is_read(file)).cloned().collect();

        if deciding.is_empty() { files.to_vec() } else { deciding }
    }

    /// The folder, below this one, whose files are read.
    fn config<'a>(
        &self,
        files: &[NamedFile<'a>],
        wanted: Option<&'a str>,
        names: &[&str],
    ) -> Result<&'a str, DataError> {
        let configs: BTreeSet<&str> = files.iter().map(|file| file.config).collect();
        let missing = |what: &str, wanted: String, known: String| DataError::NotInRepository {
            repository: self.place.to_owned(),
            what: what.to_owned(),
            wanted,
            known: if known.is_empty() { "nothing that can be read".to_owned() } else { known },
        };

        if files.is_empty() {
            return Err(match self.owner {
                Owner::Folder => DataError::NoTextFiles {
                    path: self.place.into(),
                    extensions: DATA_EXTENSIONS.map(|ending| format!(".{ending}")).join(", "),
                },
                Owner::Repository => {
                    let wanted = wanted.map_or("files of rows or text".to_owned(), |config| {
                        format!("configuration {config:?}")
                    });
                    missing("the list of files", wanted, list(names.iter().copied()))
                }
            });
        }

        if let Some(wanted) = wanted {
            if configs.contains(wanted) {
                return Ok(wanted);
            }

            let wanted = format!("configuration {wanted:?}");
            return Err(missing("the list of files", wanted, list(configs.into_iter())));
        }

        let says_split =
            |config: &str| files.iter().any(|file| file.config == config && file.split().is_some());

        match configs.len() {
            1 => Ok(files[0].config),
            _ if configs.contains("") && self.owner == Owner::Folder && !says_split("") => {
                match configs.iter().find(|config| says_split(config)) {
                    None => Ok(""),
                    Some(other) => Err(self.ambiguous(
                        format!("files at its top name no split, those in {other:?} do"),
                        "name the folder or the file to read",
                    )),
                }
            }
            _ if configs.contains("") && (self.owner == Owner::Folder || says_split("")) => Ok(""),
            _ if configs.contains("default") => Ok("default"),
            _ => match self.owner {
                Owner::Folder => Err(self.ambiguous(
                    format!("it has several folders with data: {}", list(configs.into_iter())),
                    "name one of them",
                )),
                Owner::Repository => Err(missing(
                    "the list of files",
                    "single configuration: name one, as in hf:OWNER/NAME:CONFIG".to_owned(),
                    list(configs.into_iter().filter(|config| !config.is_empty())),
                )),
            },
        }
    }

    /// Whether a file has the format that is read. In a repository with tables of Parquet that is
    /// only Parquet.
    fn format(&self, files: &[NamedFile<'_>]) -> impl Fn(&NamedFile<'_>) -> bool + use<> {
        let is_table = |file: &NamedFile<'_>| file.format == Format::Parquet;
        let has_tables = files.iter().any(|file| is_table(file) && file.split().is_some());
        let prefers = self.owner == Owner::Repository && has_tables;
        move |file| !prefers || is_table(file)
    }

    /// Files that are read, and files that name no split where others name one.
    fn strays<'a>(&self, files: Vec<NamedFile<'a>>) -> Result<[Vec<NamedFile<'a>>; 2], DataError> {
        let (with, without): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.split().is_some());

        if with.is_empty() {
            return Ok([without, with]);
        }
        if self.owner == Owner::Repository || without.is_empty() {
            return Ok([with, without]);
        }

        let names = |files: &[NamedFile<'_>]| list(files.iter().map(|file| file.name));
        Err(self.ambiguous(
            format!("{} name a split, {} name none", names(&with), names(&without)),
            "rename or move the others, or name one file",
        ))
    }

    /// Refuses files that could be read in two ways, and splits that lack parts.
    fn check(&self, files: &[NamedFile<'_>]) -> Result<(), DataError> {
        if let Some(file) = files.iter().find(|file| file.contradicts_itself()) {
            let words: Vec<_> = file.says.iter().map(|(word, _)| format!("{word:?}")).collect();
            return Err(self.ambiguous(
                format!("{:?} names more than one split: {}", file.name, words.join(" and ")),
                "rename it, or name one file",
            ));
        }

        let of_split = |split: Split| -> Vec<&NamedFile<'_>> {
            files.iter().filter(|file| file.split().unwrap_or(Split::Train) == split).collect()
        };
        Split::ALL.into_iter().try_for_each(|split| self.check_split(split, &of_split(split)))?;

        let mut stems = BTreeMap::new();
        for file in files {
            if let Some(other) = stems.insert(file.stem(), file) {
                return Err(self.ambiguous(
                    format!("{:?} and {:?} are one text in two forms", other.name, file.name),
                    "keep one of them",
                ));
            }
        }

        Split::ALL.into_iter().try_for_each(|split| self.check_parts(&of_split(split)))?;
        if files.iter().any(|file| file.split().is_some())
            && !files.iter().any(|file| file.split() == Some(Split::Train))
        {
            let found = list(files.iter().map(|file| file.name));
            return Err(DataError::MissingSplit {
                place: self.place.to_owned(),
                missing: Split::Train,
                found,
            });
        }

        Ok(())
    }

    fn check_split(&self, split: Split, files: &[&NamedFile<'_>]) -> Result<(), DataError> {
        let Some(first) = files.first() else { return Ok(()) };
        let differs = |other: &&&NamedFile<'_>| other.format != first.format;
        if let Some(other) = files.iter().find(differs) {
            return Err(self.ambiguous(
                format!(
                    "{:?} is {}, {:?} is {}, and both would be parts of one text",
                    first.name,
                    first.format.name(),
                    other.name,
                    other.format.name()
                ),
                "keep one format, or name one file",
            ));
        }

        let words = |file: &NamedFile<'_>| {
            file.says.iter().map(|(word, _)| word.clone()).collect::<Vec<_>>()
        };
        if let Some(other) = files.iter().find(|other| words(other) != words(first)) {
            return Err(self.ambiguous(
                format!(
                    "{:?} and {:?} both name the {split} split, in different words",
                    first.name, other.name
                ),
                "keep one of them, or use the same word in both names",
            ));
        }

        Ok(())
    }

    /// Where names count parts, each part has to exist exactly once. Numbers may begin at 0 or 1.
    fn check_parts(&self, files: &[&NamedFile<'_>]) -> Result<(), DataError> {
        let mut wholes: BTreeMap<(String, u64), Vec<u64>> = BTreeMap::new();
        for file in files {
            if let Some(part) = file.part {
                wholes.entry((file.whole(), part.of)).or_default().push(part.number);
            }
        }

        for ((_, of), mut numbers) in wholes {
            numbers.sort_unstable();
            let start = numbers[0].min(1);
            let is_whole =
                numbers.len() as u64 == of && numbers.iter().copied().eq(start..start + of);

            if !is_whole {
                return Err(DataError::MissingParts {
                    place: self.place.to_owned(),
                    expected: of,
                    found: list(files.iter().map(|file| file.name)),
                });
            }
        }

        Ok(())
    }
}

/// Names for a message, at most [`SHOWN`] of them.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
