//! What the name of a source means.

use crate::{
    error::DataError,
    hub::catalogue::{self, CATALOGUE, Columns, Entry, Joining, Part},
    hub::{RepoName, Revision},
    text::corpus::shipped,
};
use std::path::PathBuf;

/// Prefix of the name of any data set of the hub.
pub const HUB_PREFIX: &str = "hf:";

/// What separates a path from the column of a table.
const COLUMN_MARK: &str = "::";

/// What the name of a source means.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Texts inside the library: train, validation and test.
    Shipped([&'static str; 3]),
    /// A file or a folder, and the column of its tables.
    Local { path: PathBuf, column: Option<String> },
    /// A data set of the hub.
    Hub(HubOrigin),
}

/// A data set of the hub, as it was requested.
#[derive(Clone, Debug)]
pub(crate) struct HubOrigin {
    /// The name that was requested.
    pub(crate) name: String,
    /// Its entry in the catalogue, if it has one.
    pub(crate) entry: Option<&'static Entry>,
    /// Its repository.
    pub(crate) repository: RepoName,
    /// The revision to read.
    pub(crate) revision: Revision,
    /// Whether the revision was requested, rather than being the usual one.
    pub(crate) is_pinned: bool,
    /// Its configuration.
    pub(crate) config: Option<String>,
    /// The column of its text.
    pub(crate) column: Option<String>,
}

impl Origin {
    /// Reads `NAME[@REVISION]`, `hf:OWNER/NAME[@REVISION][:CONFIG][:COLUMN]`, or a path,
    /// `PATH[::COLUMN]`.
    pub(crate) fn parse(source: &str) -> Result<Self, DataError> {
        if let Some(rest) = source.strip_prefix(HUB_PREFIX) {
            return HubOrigin::any(source, rest).map(Self::Hub);
        }
        if let Some(texts) = shipped(source) {
            return Ok(Self::Shipped(texts));
        }

        let (name, revision) = match source.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (source, None),
        };

        if let Some(entry) = catalogue::find(name) {
            return HubOrigin::named(source, entry, revision).map(Self::Hub);
        }

        // The mark of a column may be a part of a file's name: an existing file is never cut.
        let whole = PathBuf::from(source);

        match source.rsplit_once(COLUMN_MARK) {
            Some((path, column)) if !column.is_empty() && !whole.exists() => {
                Ok(Self::Local { path: path.into(), column: Some(column.to_owned()) })
            }
            _ => Ok(Self::Local { path: whole, column: None }),
        }
    }
}

/// Whether the name of a source is the path of an existing file or folder, with or without a
/// column.
#[must_use]
pub fn is_local(source: &str) -> bool {
    matches!(Origin::parse(source), Ok(Origin::Local { path, .. }) if path.exists())
}

impl HubOrigin {
    fn named(
        source: &str,
        entry: &'static Entry,
        revision: Option<&str>,
    ) -> Result<Self, DataError> {
        let Some(repository) = entry.repository else {
            let expected = "a name without a revision, because this text is shipped";
            return Err(DataError::BadHubName { name: source.to_owned(), expected });
        };

        Ok(Self {
            name: source.to_owned(),
            entry: Some(entry),
            repository: RepoName::dataset(repository)?,
            revision: Revision::new(revision.unwrap_or(entry.revision))?,
            is_pinned: revision.is_some(),
            config: Some(entry.config.to_owned()),
            column: match entry.columns {
                Columns::Text { column, .. } => Some(column.to_owned()),
                _ => None,
            },
        })
    }

    fn any(source: &str, rest: &str) -> Result<Self, DataError> {
        let mut parts = rest.split(':');
        let repository = parts.next().unwrap_or_default();
        let mut part = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
        let config = part();
        let column = part();

        if parts.next().is_some() {
            let expected = "hf:OWNER/NAME[@REVISION][:CONFIG][:COLUMN]";
            return Err(DataError::BadHubName { name: source.to_owned(), expected });
        }

        let (repository, revision) = match repository.split_once('@') {
            Some((repository, revision)) => (repository, Some(Revision::new(revision)?)),
            None => (repository, None),
        };

        Ok(Self {
            name: source.to_owned(),
            entry: None,
            repository: RepoName::dataset(repository)?,
            is_pinned: revision.is_some(),
            revision: revision.unwrap_or_default(),
            config,
            column,
        })
    }

    /// The same at another revision, with a name that contains the revision.
    pub(crate) fn at(&self, revision: &str) -> Result<Self, DataError> {
        let bare =
            |text: &str| text.split_once('@').map_or(text.to_owned(), |(name, _)| name.to_owned());
        let name = match self.name.strip_prefix(HUB_PREFIX) {
            None => format!("{}@{revision}", bare(&self.name)),
            Some(rest) => {
                let (repository, after) =
                    rest.find(':').map_or((rest, ""), |colon| rest.split_at(colon));
                format!("{HUB_PREFIX}{}@{revision}{after}", bare(repository))
            }
        };

        Ok(Self { name, revision: Revision::new(revision)?, is_pinned: true, ..self.clone() })
    }

    /// How rows become one text.
    pub(crate) fn joining(&self) -> Joining {
        match self.entry.map(|entry| entry.columns) {
            Some(Columns::Text { joining, .. }) => joining,
            _ => Joining::Lines,
        }
    }

    /// Which rows form which split, for a data set of the catalogue.
    pub(crate) fn parts(&self) -> Option<[Part; 3]> {
        self.entry.map(|entry| entry.parts)
    }
}

/// The name of a source with another revision, as `wikitext-2@REVISION`.
///
/// # Errors
/// If the source does not come from the hub, or the revision is not valid.
pub fn pinned(source: &str, revision: &str) -> Result<String, DataError> {
    match Origin::parse(source)? {
        Origin::Hub(origin) => Ok(origin.at(revision)?.name),
        _ => Err(DataError::BadHubName {
            name: source.to_owned(),
            expected: "a name that comes from the hub",
        }),
    }
}

/// All names of the catalogue, for messages.
pub(crate) fn known_names() -> String {
    CATALOGUE.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(source: &str) -> HubOrigin {
        match Origin::parse(source).unwrap() {
            Origin::Hub(origin) => origin,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_of_the_hub_are_read_whole() {
        let origin = hub("hf:someone/books@v1.0:english:body");
        assert_eq!(
            (origin.repository.as_str(), origin.revision.as_str()),
            ("someone/books", "v1.0")
        );

        assert_eq!(
            (origin.config.as_deref(), origin.column.as_deref()),
            (Some("english"), Some("body"))
        );
        let origin = hub("hf:someone/books::body");
        assert_eq!((origin.config, origin.column.as_deref()), (None, Some("body")));
        assert_eq!(origin.revision.as_str(), "main");
        assert!(Origin::parse("hf:a/b:c:d:e").is_err() && Origin::parse("hf:../b").is_err());
    }

    #[test]
    fn names_of_the_catalogue_come_before_paths() {
        assert_eq!(hub("wikitext-2").config.as_deref(), Some("wikitext-2-v1"));
        assert_eq!(hub("ptb").revision.as_str(), "refs/convert/parquet");
        assert_eq!(hub("wikitext-2@abc").revision.as_str(), "abc");
        assert!(matches!(Origin::parse("./wikitext-2"), Ok(Origin::Local { .. })));
        assert!(matches!(Origin::parse("shakespeare"), Ok(Origin::Shipped(_))));
        assert!(Origin::parse("shakespeare@main").is_err());
    }

    #[test]
    fn a_path_may_name_a_column() {
        let Ok(Origin::Local { path, column }) = Origin::parse("rows.jsonl::body") else {
            panic!()
        };
        assert_eq!((path.to_str(), column.as_deref()), (Some("rows.jsonl"), Some("body")));
    }

    #[test]
    fn a_revision_is_pinned_in_the_name() {
        assert_eq!(pinned("ptb", "abc").unwrap(), "ptb@abc");
        assert_eq!(pinned("ptb@old", "abc").unwrap(), "ptb@abc");
        assert_eq!(pinned("hf:a/b@x:c:d", "abc").unwrap(), "hf:a/b@abc:c:d");
        assert_eq!(pinned("hf:a/b", "abc").unwrap(), "hf:a/b@abc");
        assert!(pinned("some/path.txt", "abc").is_err());
    }
}
