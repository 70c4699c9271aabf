//! Which files of a repository hold which split.

use crate::{
    catalogue::{OWN_SPLITS, Part, RowShare, Tail, validation_from_train},
    error::DataError,
    files::Format,
    hub::{Listing, RemoteFile},
    split::Split,
};

/// Share of train that becomes the split that a repository lacks, in percent.
const LACKING_PERCENT: u64 = 5;

/// The files of the hub's splits, and how ours are made of them.
#[derive(Debug)]
pub(crate) struct Selected<'a> {
    /// The configuration that was taken, empty where there are none.
    pub(crate) config: String,
    /// Files of train, validation and test.
    pub(crate) files: [Vec<&'a RemoteFile>; 3],
    /// How ours are made; `None` where there is train alone, to be cut by fractions.
    pub(crate) parts: Option<[Part; 3]>,
}

impl<'a> Selected<'a> {
    /// Every file, each once, in the order of splits and names.
    pub(crate) fn all(&self) -> Vec<&'a RemoteFile> {
        self.files.iter().flatten().copied().collect()
    }
}

/// A data file, and what its name says.
struct Named<'a> {
    file: &'a RemoteFile,
    config: String,
    split: Split,
}

/// Chooses by configuration and split. `parts` says which splits are needed; without it they follow from what there is.
pub(crate) fn select<'a>(
    repository: &str,
    listing: &'a Listing,
    config: Option<&str>,
    parts: Option<[Part; 3]>,
) -> Result<Selected<'a>, DataError> {
    let named = data_files(listing);
    let mut configs: Vec<&str> = named.iter().map(|named| named.config.as_str()).collect();
    configs.sort_unstable();
    configs.dedup();
    let missing = |what: &str, wanted: String, known: Vec<&str>| DataError::NotInRepository {
        repository: repository.to_owned(),
        what: what.to_owned(),
        wanted,
        known: if known.is_empty() { "nothing that could be read".to_owned() } else { known.join(", ") },
    };
    let config = match (config, configs.as_slice()) {
        (Some(config), known) if known.contains(&config) => config,
        (Some(config), _) => {
            let known = if configs.is_empty() { file_names(listing) } else { configs };
            return Err(missing("the list of files", format!("configuration {config:?}"), known));
        }
        (None, [only]) => only,
        (None, known) if known.contains(&"") => "",
        (None, known) if known.contains(&"default") => "default",
        (None, []) => {
            let wanted = "files of rows or text named by split".to_owned();
            return Err(missing("the list of files", wanted, file_names(listing)));
        }
        (None, _) => {
            let wanted =
                "single configuration, so that one has to be named (hf:OWNER/NAME:CONFIG)".to_owned();
            return Err(missing("the list of files", wanted, configs));
        }
    };
    let mut files = Split::ALL.map(|split| {
        let fits = |named: &&Named<'_>| named.config == config && named.split == split;
        named.iter().filter(fits).map(|named| named.file).collect::<Vec<_>>()
    });
    for (files, split) in files.iter_mut().zip(Split::ALL) {
        files.sort_by(|left, right| left.name.cmp(&right.name));
        check_whole(repository, files, split)?;
    }
    let has = |split: Split| !files[split as usize].is_empty();
    let parts = match parts {
        Some(parts) => Some(parts),
        None => usual_parts(Split::ALL.map(has)),
    };
    let needed = parts.map_or(vec![Split::Train], |parts| parts.map(|part| part.of).to_vec());
    if let Some(split) = needed.into_iter().find(|&split| !has(split)) {
        let known = named.iter().filter(|named| named.config == config).map(|named| named.file.name.as_str());
        return Err(missing(&format!("configuration {config:?}"), format!("{split} split"), known.collect()));
    }
    Ok(Selected { config: config.to_owned(), files, parts })
}

/// How our splits are made, where nobody says it: those that are there, the missing one of the end of train.
fn usual_parts(has: [bool; 3]) -> Option<[Part; 3]> {
    let tail = Tail::Percent(LACKING_PERCENT);
    match has {
        [_, true, true] => Some(OWN_SPLITS),
        [_, false, true] => Some(validation_from_train(tail)),
        [_, true, false] => Some([
            Part { of: Split::Train, rows: RowShare::Before(tail) },
            Part { of: Split::Validation, rows: RowShare::All },
            Part { of: Split::Train, rows: RowShare::Last(tail) },
        ]),
        [_, false, false] => None,
    }
}

/// Whether a file may hold rows or text. Repositories describe their content in JSON, so that such a file has to be named
/// for a split, too.
pub(crate) fn is_data(name: &str) -> bool {
    match Format::of_name(name) {
        Some((Format::Json(_), _)) => config_and_split(name).is_some(),
        other => other.is_some(),
    }
}

fn file_names(listing: &Listing) -> Vec<&str> {
    listing.files.iter().map(|file| file.name.as_str()).collect()
}

/// Files whose name says a split: Parquet where there is any, else other tables and texts.
fn data_files(listing: &Listing) -> Vec<Named<'_>> {
    let of = |wanted: &dyn Fn(Format) -> bool| -> Vec<Named<'_>> {
        let files = listing.files.iter();
        files
            .filter_map(|file| {
                let (format, _) = Format::of_name(&file.name)?;
                let (config, split) = wanted(format).then(|| config_and_split(&file.name))??;
                Some(Named { file, config, split })
            })
            .collect()
    };
    let tables = of(&|format| format == Format::Parquet);
    if tables.is_empty() { of(&|format| format != Format::Parquet) } else { tables }
}

/// `CONFIG/SPLIT-00000-of-00001.parquet`, `CONFIG/SPLIT/0000.parquet`, `data/SPLIT-...`, `SPLIT.csv`.
fn config_and_split(name: &str) -> Option<(String, Split)> {
    let mut parts: Vec<&str> = name.split('/').collect();
    let stem = parts.pop()?.split('.').next()?;
    let first = stem.split(['-', '_']).next()?;
    let split = match Split::of_word(first) {
        Some(split) => split,
        None => {
            let folder = parts.pop()?;
            let whole = folder.strip_prefix("partial-").inspect(|_| {
                tracing::warn!(file = name, "the hub has converted only a part of this split");
            });
            Split::of_word(whole.unwrap_or(folder))?
        }
    };
    let config = parts.first().copied().filter(|&folder| folder != "data").unwrap_or_default();
    Some((config.to_owned(), split))
}

/// Where names count parts, as `-00000-of-00002`, all of them have to be there.
fn check_whole(repository: &str, files: &[&RemoteFile], split: Split) -> Result<(), DataError> {
    let stated = files.iter().filter_map(|file| {
        let (_, of) = file.name.rsplit_once("-of-")?;
        of.split('.').next()?.parse::<usize>().ok()
    });
    match stated.max() {
        Some(stated) if stated != files.len() => Err(DataError::NotInRepository {
            repository: repository.to_owned(),
            what: format!("the {split} split"),
            wanted: format!("{stated} files, as their names say"),
            known: files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", "),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let file = |name: &&str| RemoteFile { name: (*name).to_owned(), size: None, sha256: None };
        Listing { commit: String::new(), files: names.iter().map(file).collect() }
    }

    fn chosen(names: &[&str], config: Option<&str>) -> Result<[Vec<String>; 3], String> {
        let listing = listing(names);
        let selected = select("a/b", &listing, config, None).map_err(|error| error.to_string())?;
        Ok(selected.files.map(|files| files.iter().map(|file| file.name.clone()).collect()))
    }

    #[test]
    fn both_layouts_of_the_hub_are_known() {
        let own = [
            "c/train-00001-of-00002.parquet",
            "c/train-00000-of-00002.parquet",
            "c/test-00000-of-00001.parquet",
        ];
        let [train, validation, test] = chosen(&own, Some("c")).unwrap();
        assert_eq!(train, [own[1], own[0]]);
        assert_eq!((validation.len(), test.len()), (0, 1));
        let [train, validation, _] =
            chosen(&["c/train/0000.parquet", "c/validation/0000.parquet"], None).unwrap();
        assert_eq!(
            (train, validation),
            (vec!["c/train/0000.parquet".to_owned()], vec!["c/validation/0000.parquet".to_owned()])
        );
        let [train, ..] = chosen(&["data/train-00000-of-00001.parquet", "README.md"], None).unwrap();
        assert_eq!(train.len(), 1);
        let [train, _, test] = chosen(&["train.jsonl", "test.csv.gz", "dataset_infos.json"], None).unwrap();
        assert_eq!((train.len(), test.len()), (1, 1));
    }

    #[test]
    fn rejects_what_does_not_fit_with_the_list_in_hand() {
        let error = chosen(&["x/train.parquet", "y/train.parquet"], None).unwrap_err();
        assert!(error.contains("x, y") && error.contains("hf:OWNER/NAME:CONFIG"), "{error}");
        let error = chosen(&["x/train.parquet"], Some("z")).unwrap_err();
        assert!(error.contains("\"z\"") && error.contains("it has: x"), "{error}");
        let error = chosen(&["script.py"], None).unwrap_err();
        assert!(error.contains("script.py"), "{error}");
        let error = chosen(&["x/train-00000-of-00002.parquet"], None).unwrap_err();
        assert!(error.contains("2 files"), "{error}");
        let error = chosen(&["x/test.parquet"], None).unwrap_err();
        assert!(error.contains("train split") && error.contains("x/test.parquet"), "{error}");
    }
}
