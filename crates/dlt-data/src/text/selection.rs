//! Which files of a repository hold which split.

use crate::{
    error::DataError,
    hub::catalogue::{OWN_SPLITS, Part, Tail, validation_from_train},
    hub::{Listing, RemoteFile},
    material::plan::{Owner, plan},
};
use dlt_spec::record::{Division, FolderPlan};

/// Share of the rows of train that become the validation split if no file is for it, in percent.
const LACKING_PERCENT: u64 = 5;

/// The files of the hub's splits, and how our splits are made of them.
#[derive(Debug)]
pub(crate) struct Selected<'a> {
    /// The configuration that was selected; empty if there are none.
    pub(crate) config: String,
    /// Files of train, validation and test.
    pub(crate) files: [Vec<&'a RemoteFile>; 3],
    /// How our splits are made; `None` if there is only train, to be cut by fractions.
    pub(crate) parts: Option<[Part; 3]>,
    /// Which file belongs to which split.
    pub(crate) plan: FolderPlan,
}

impl<'a> Selected<'a> {
    /// Every file once, in the order of splits and names.
    pub(crate) fn all(&self) -> Vec<&'a RemoteFile> {
        self.files.iter().flatten().copied().collect()
    }
}

/// Selects files by configuration and split. `parts` says how splits are made; without it, this
/// follows from the files that exist.
pub(crate) fn select<'a>(
    repository: &str,
    listing: &'a Listing,
    config: Option<&str>,
    parts: Option<[Part; 3]>,
) -> Result<Selected<'a>, DataError> {
    let names: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
    let planned = plan(repository, &names, Owner::Repository, config)?;
    let mut plan = planned.plan;
    let by_name = |name: &String| listing.files.iter().find(|file| file.name == *name);
    let files = [&plan.train, &plan.validation, &plan.test]
        .map(|names| names.iter().filter_map(by_name).collect::<Vec<_>>());

    if let Some(partial) = files.iter().flatten().find(|file| file.name.contains("partial-")) {
        tracing::warn!(file = partial.name, "the hub has converted only a part of this split");
    }

    let parts = match parts {
        None => usual_parts(plan.division),
        Some(parts) => {
            plan.division = Division::Catalogue;
            let lacks = |part: &Part| files[part.of as usize].is_empty();
            if let Some(part) = parts.iter().find(|part| lacks(part)) {
                return Err(DataError::MissingSplit {
                    place: repository.to_owned(),
                    missing: part.of,
                    found: files
                        .iter()
                        .flatten()
                        .map(|file| file.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", "),
                });
            }

            Some(parts)
        }
    };

    Ok(Selected { config: planned.config, files, parts, plan })
}

/// How splits are made of files; `None` if one text is cut by fractions.
pub(crate) fn usual_parts(division: Division) -> Option<[Part; 3]> {
    match division {
        Division::Names | Division::Catalogue => Some(OWN_SPLITS),
        Division::ValidationFromTrain | Division::ValidationByChecksums => {
            Some(validation_from_train(Tail::Percent(LACKING_PERCENT)))
        }
        Division::Fractions | Division::Checksums => None,
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

        let [train, ..] =
            chosen(&["data/train-00000-of-00001.parquet", "README.md"], None).unwrap();
        assert_eq!(train.len(), 1);

        let [train, _, test] =
            chosen(&["train.jsonl", "test.csv.gz", "dataset_infos.json"], None).unwrap();
        assert_eq!((train.len(), test.len()), (1, 1));
    }

    #[test]
    fn parts_with_checksums_and_folders_of_other_things_are_known() {
        let names = [
            "data/train-00001-of-00002-9f86d081884c7d65.parquet",
            "data/train-00000-of-00002-2d5a1467fff1081b.parquet",
            "data/validation-00000-of-00001-0a1b2c3d4e5f6071.parquet",
            "scripts/notes.txt",
            "raw/train.txt",
            "stats/summary.json",
        ];

        let [train, validation, test] = chosen(&names, None).unwrap();
        assert_eq!(
            (train, validation.len(), test.len()),
            (vec![names[1].to_owned(), names[0].to_owned()], 1, 0)
        );

        let error = chosen(&[names[0], names[2]], None).unwrap_err();
        assert!(error.contains("expected 2 files"), "{error}");

        let [train, _, _] = chosen(&["en/train.parquet", "scripts/notes.txt"], None).unwrap();
        assert_eq!(train, ["en/train.parquet"]);
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

        let error = chosen(&["train.csv", "train.jsonl"], None).unwrap_err();
        assert!(error.contains("CSV") && error.contains("JSON Lines"), "{error}");
    }

    #[test]
    fn what_says_no_split_is_read_only_where_nothing_does() {
        let [train, _, test] = chosen(&["train.jsonl", "all.jsonl", "test.jsonl"], None).unwrap();
        assert_eq!((train, test), (vec!["train.jsonl".to_owned()], vec!["test.jsonl".to_owned()]));

        let [train, validation, test] =
            chosen(&["part-10.jsonl", "part-9.jsonl", "README.md"], None).unwrap();
        assert_eq!(train, ["part-9.jsonl", "part-10.jsonl"]);
        assert!(validation.is_empty() && test.is_empty());
    }
}
