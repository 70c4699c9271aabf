//! The files that belong to a model besides its weights: its tokenizer and settings, how it
//! generates, how it reads pictures. A run keeps them unchanged, and an export writes them again.

use super::{TOKENIZER_FILE, kept::BUILT_IN_FILE, legacy, vetting::MOST_BYTES};
use crate::{checksum::hex, error::DataError};
use dlt_spec::file;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The folder of a run that holds them.
pub const COMPANIONS_FOLDER: &str = "companions";

/// The config of a model: what it computes, and ids of its special tokens.
pub(crate) const CONFIG: &str = "config.json";
/// How a model generates.
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";
/// The settings of a tokenizer in transformers.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The special tokens by their use.
pub(crate) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// Files about a tokenizer.
const OF_TOKENIZER: [&str; 12] = [
    TOKENIZER_FILE,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS_MAP,
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
];

/// Files about a model. Its config is kept for the special tokens that it names.
const OF_MODEL: [&str; 4] =
    [GENERATION_CONFIG, "preprocessor_config.json", "processor_config.json", CONFIG];

/// A folder of further chat templates, and the ending of their files.
const CHAT_TEMPLATES: (&str, &str) = ("additional_chat_templates", ".jinja");

/// Most chat templates that are read.
const MOST_CHAT_TEMPLATES: usize = 64;

/// Largest of the other files, in bytes: vocabularies of several MB, chat templates of some ten KB.
const MOST_OTHER_BYTES: u64 = 32 << 20;

/// The files that belong to a model besides its weights, by their names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Companions {
    files: BTreeMap<String, Vec<u8>>,
}

impl Companions {
    /// The companions of a model's folder. If it has no `tokenizer.json` but its older equivalents,
    /// one is made from them.
    ///
    /// # Errors
    /// If a file cannot be read or is too large, or a tokenizer cannot be made.
    pub fn of_model(folder: &Path) -> Result<Self, DataError> {
        let mut companions = Self::gather(folder, &[&OF_TOKENIZER[..], &OF_MODEL].concat())?;
        companions.complete(folder)?;
        Ok(companions)
    }

    /// The companions of a tokenizer: a `tokenizer.json` with the files about it next to it, a
    /// folder that has one, or a file with any other name by itself. Generation settings are not
    /// included, but the special tokens that a model's files name are, in a config that names
    /// nothing else.
    ///
    /// # Errors
    /// As [`Companions::of_model`].
    pub fn of_tokenizer(path: &Path) -> Result<Self, DataError> {
        let folder = if path.is_dir() {
            path
        } else if path.file_name().is_some_and(|name| name == TOKENIZER_FILE) {
            path.parent().unwrap_or(Path::new(""))
        } else {
            let content = read(path, MOST_BYTES)?;
            return Ok(Self { files: BTreeMap::from([(TOKENIZER_FILE.to_owned(), content)]) });
        };

        let mut companions = Self::gather(folder, &OF_TOKENIZER)?;
        companions.complete(folder)?;

        let of_model = Self::gather(folder, &[GENERATION_CONFIG, CONFIG])?;
        companions
            .files
            .extend(of_model.special_tokens().map(|config| (CONFIG.to_owned(), config)));

        Ok(companions)
    }

    /// The companions in a run folder, or in a folder of `dlt export --format tied`. Older folders
    /// do not keep companions; for them this is the tokenizer next to the model.
    ///
    /// # Errors
    /// As [`Companions::of_model`].
    pub fn of_run(run: &Path) -> Result<Self, DataError> {
        let kept = run.join(COMPANIONS_FOLDER);
        if !file::is_there(&kept) {
            return Self::gather(run, &[TOKENIZER_FILE]);
        }

        file::folder(&kept).map_err(|source| DataError::Read { path: kept.clone(), source })?;
        Self::gather(&kept, &[&OF_TOKENIZER[..], &OF_MODEL, &[BUILT_IN_FILE]].concat())
    }

    /// Whether files with this name are kept with a model. For a file in a folder, the name
    /// includes the folder and a slash.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        is_companion(name) || name == BUILT_IN_FILE
    }

    /// Whether a folder with this name holds files that are kept with a model.
    #[must_use]
    pub fn is_folder(name: &str) -> bool {
        name == CHAT_TEMPLATES.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The content of a file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// Adds a file, or replaces the one with this name.
    pub fn put(&mut self, name: &str, content: Vec<u8>) {
        self.files.insert(name.to_owned(), content);
    }

    /// Every file: its name (with folder and slash, if it is in a folder) and its content.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    /// Adds those of the files whose names it does not have yet.
    pub fn add(&mut self, others: Self) {
        for (name, content) in others.files {
            self.files.entry(name).or_insert(content);
        }
    }

    /// The same without the files about a tokenizer.
    #[must_use]
    pub fn without_tokenizer(mut self) -> Self {
        self.files.retain(|name, _| !is_of_tokenizer(name) && name != BUILT_IN_FILE);
        self
    }

    /// The same without the files that name ids of a vocabulary: generation settings and special
    /// tokens.
    #[must_use]
    pub fn without_ids(mut self) -> Self {
        self.files.retain(|name, _| name != CONFIG && name != GENERATION_CONFIG);
        self
    }

    /// The identity of the tokenizer, as [`Tokenizer::id`](super::Tokenizer::id).
    #[must_use]
    pub fn tokenizer_id(&self) -> Option<String> {
        self.get(TOKENIZER_FILE).map(id)
    }

    fn gather(folder: &Path, names: &[&str]) -> Result<Self, DataError> {
        let mut files = BTreeMap::new();
        for name in names {
            let path = folder.join(name);
            if file::is_there(&path) {
                let most = if *name == TOKENIZER_FILE { MOST_BYTES } else { MOST_OTHER_BYTES };
                check(&path)?;
                files.insert((*name).to_owned(), read(&path, most)?);
            }
        }

        if names.len() > 1 {
            for (name, path) in chat_templates(folder)? {
                check(&path)?;
                files.insert(name, read(&path, MOST_OTHER_BYTES)?);
            }
        }

        Ok(Self { files })
    }

    /// Makes a `tokenizer.json` from its older equivalents, if there is none.
    fn complete(&mut self, folder: &Path) -> Result<(), DataError> {
        if !self.files.contains_key(TOKENIZER_FILE) {
            let made = legacy::tokenizer_json(&|name| self.get(name).map(<[u8]>::to_vec));
            let refuse = |reason| DataError::BadTokenizer {
                name: folder.to_string_lossy().into_owned(),
                reason,
            };

            self.files.extend(made.map_err(refuse)?.map(|made| (TOKENIZER_FILE.to_owned(), made)));
        }

        Ok(())
    }

    /// A config that holds only the special tokens that these files name.
    fn special_tokens(&self) -> Option<Vec<u8>> {
        let parsed = |name| {
            serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(self.get(name)?).ok()
        };
        let files = [GENERATION_CONFIG, CONFIG].map(parsed);
        let mut named = serde_json::Map::new();

        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            let value = files
                .iter()
                .flatten()
                .filter_map(|file| file.get(key))
                .find(|value| !value.is_null());
            named.extend(value.map(|value| (key.to_owned(), value.clone())));
        }

        (!named.is_empty()).then(|| format!("{}\n", serde_json::Value::Object(named)).into_bytes())
    }
}

impl std::fmt::Debug for Companions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.files.keys()).finish()
    }
}

/// Whether a file is about a tokenizer.
fn is_of_tokenizer(name: &str) -> bool {
    OF_TOKENIZER.contains(&name) || name.starts_with(CHAT_TEMPLATES.0)
}

/// Whether a file of a repository has the name of a companion, and is therefore fetched.
pub(crate) fn is_companion(name: &str) -> bool {
    let is_template = name
        .strip_prefix(CHAT_TEMPLATES.0)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|file| !file.contains('/') && file.ends_with(CHAT_TEMPLATES.1));
    is_template || OF_TOKENIZER.contains(&name) || OF_MODEL.contains(&name)
}

/// The identity of a `tokenizer.json` with this content.
pub(super) fn id(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content).into()))
}

/// The content of a file of at most `most` bytes. Pipes and devices are refused, because they may
/// never end.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let refuse = |reason: String| DataError::BadTokenizer {
        name: path.to_string_lossy().into_owned(),
        reason,
    };
    dlt_spec::file::read(path, most).map_err(|error| refuse(error.to_string()))
}

/// Refuses a companion that exists but is not a regular file: it is neither missing nor readable.
pub(super) fn check(path: &Path) -> Result<(), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    file::regular(path, u64::MAX).map(drop).map_err(unreadable)
}

fn chat_templates(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let templates = folder.join(CHAT_TEMPLATES.0);
    if !file::is_there(&templates) {
        return Ok(Vec::new());
    }

    let unreadable = |source| DataError::Read { path: templates.clone(), source };
    let entries = file::folder(&templates).map_err(unreadable)?;
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.ends_with(CHAT_TEMPLATES.1)
                .then(|| (format!("{}/{name}", CHAT_TEMPLATES.0), entry.path()))
        })
        .collect();

    found.sort();
    found.truncate(MOST_CHAT_TEMPLATES);
    Ok(found)
}
