//! Where text comes from: a shipped corpus, a file, or a folder of files.

use crate::{
    corpus::{CORPORA, shipped},
    error::DataError,
    split::{Split, cut_by_fractions},
};
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// Endings of the files that are read from a folder.
pub const TEXT_EXTENSIONS: [&str; 4] = ["txt", "text", "tokens", "raw"];

/// A text and where its splits lie in it.
#[derive(Debug)]
pub(crate) struct SourceText {
    /// Train, validation and test, one after the other.
    pub(crate) text: String,
    /// Byte offsets at which validation and test begin.
    cuts: [usize; 2],
}

impl SourceText {
    /// Reads `name`: a shipped corpus, else the path of a file or of a folder. A single text is cut by `fractions`.
    pub(crate) fn read(name: &str, fractions: [f64; 3]) -> Result<Self, DataError> {
        if let Some(splits) = shipped(name) {
            return Ok(Self::joined(splits));
        }
        let path = Path::new(name);
        let missing = || DataError::NoSuchSource { name: name.to_owned(), known: CORPORA.join(", ") };
        let kind = fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(),
            _ => DataError::Read { path: path.to_owned(), source: error },
        })?;
        if kind.is_dir() {
            Self::read_folder(path, fractions)
        } else {
            Self::cut(read_text(path)?, fractions)
        }
    }

    /// The text of one split.
    pub(crate) fn split(&self, split: Split) -> &str {
        let [validation, test] = self.cuts;
        let range: Range<usize> = match split {
            Split::Train => 0..validation,
            Split::Validation => validation..test,
            Split::Test => test..self.text.len(),
        };
        &self.text[range]
    }

    fn cut(text: String, fractions: [f64; 3]) -> Result<Self, DataError> {
        let cuts = cut_by_fractions(&text, fractions)?;
        Ok(Self { text, cuts })
    }

    fn joined(splits: [&str; 3]) -> Self {
        let validation = splits[0].len();
        Self { text: splits.concat(), cuts: [validation, validation + splits[1].len()] }
    }

    fn read_folder(folder: &Path, fractions: [f64; 3]) -> Result<Self, DataError> {
        let files = text_files(folder)?;
        if let Some(splits) = split_files(folder, &files)? {
            let texts = [read_text(splits[0])?, read_text(splits[1])?, read_text(splits[2])?];
            return Ok(Self::joined([&texts[0], &texts[1], &texts[2]]));
        }
        let mut text = String::new();
        for file in &files {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&read_text(file)?);
        }
        Self::cut(text, fractions)
    }
}

/// The text of one UTF-8 file.
///
/// # Errors
/// If the file cannot be read, is empty, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    if bytes.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        DataError::NotUtf8 { path: path.to_owned(), offset, byte: error.as_bytes()[offset] }
    })
}

/// The text files of a folder in name order; subfolders and hidden files are left out.
fn text_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if !hidden && TEXT_EXTENSIONS.contains(&ending.as_str()) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        let extensions = TEXT_EXTENSIONS.map(|ending| format!(".{ending}")).join(", ");
        return Err(DataError::NoTextFiles { path: folder.to_owned(), extensions });
    }
    files.sort();
    Ok(files)
}

/// The files of train, validation and test, if the folder has them. A folder with two of the three is an error
/// rather than joined: its test text would be trained on.
fn split_files<'a>(folder: &Path, files: &'a [PathBuf]) -> Result<Option<[&'a Path; 3]>, DataError> {
    let mut found: [Option<&Path>; 3] = [None; 3];
    for file in files {
        let Some(split) = split_of(file) else { continue };
        let slot = &mut found[split as usize];
        if let Some(first) = *slot {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (first, second) = (name(first), name(file));
            return Err(DataError::AmbiguousSplit { path: folder.to_owned(), split, first, second });
        }
        *slot = Some(file);
    }
    match found {
        [Some(train), Some(validation), Some(test)] => {
            if files.len() > 3 {
                tracing::warn!(folder = %folder.display(), "only the files of the three splits are read");
            }
            Ok(Some([train, validation, test]))
        }
        _ if found.iter().flatten().count() == 2 => {
            let missing =
                Split::ALL[found.iter().position(Option::is_none).expect("one of the three is missing")];
            Err(DataError::MissingSplit { path: folder.to_owned(), missing })
        }
        _ => Ok(None),
    }
}

/// The split that a file's name says it holds: `train.txt`, `wiki.valid.tokens`, `corpus-test.txt`.
fn split_of(path: &Path) -> Option<Split> {
    let stem = path.file_stem()?.to_string_lossy().to_ascii_lowercase();
    match stem.rsplit(['.', '-', '_']).next()? {
        "train" => Some(Split::Train),
        "validation" | "valid" | "val" | "dev" => Some(Split::Validation),
        "test" => Some(Split::Test),
        _ => None,
    }
}
