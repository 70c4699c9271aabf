//! The tokenizer that a run keeps: a copy of its file, or the name of a built-in tokenizer.

use super::{
    BYTES, GPT2, TOKENIZER_FILE, Tokenizer,
    companions::{COMPANIONS_FOLDER, Companions, read},
};
use crate::{
    error::DataError,
    hub::origin::HUB_PREFIX,
    hub::{HubConfig, OnFetch},
};
use dlt_spec::file;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file that says which built-in tokenizer a run uses.
pub(super) const BUILT_IN_FILE: &str = "built-in.json";

/// Largest note of a built-in tokenizer, in bytes.
const MOST_NOTE_BYTES: u64 = 1 << 16;

/// The built-in tokenizers, each with [`Tokenizer::checksum`].
const BUILT_IN: [(&str, &str); 2] = [
    (GPT2, "1b0b4d1f2288958613732175557fa89f8db2b619574bc7500c5b8cb8269c16ee"),
    (BYTES, "7d47e3a9850ab327ec881b15eb98dccdb66c559ad5bf87189b0cd092ec898970"),
];

/// The tokenizer that a run keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptTokenizer {
    /// A copy in this file.
    Copy(PathBuf),
    /// The name of a built-in tokenizer.
    BuiltIn(&'static str),
    /// Nothing: the run is older than this record.
    Nothing,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// Name of the tokenizer.
    name: String,
    /// [`Tokenizer::checksum`].
    sha256: String,
}

impl KeptTokenizer {
    /// What a run folder keeps, or a folder of `dlt export --format tied`.
    ///
    /// # Errors
    /// If the run was made with a built-in tokenizer that this program does not have.
    pub fn of_run(run: &Path) -> Result<Self, DataError> {
        let folder = run.join(COMPANIONS_FOLDER);
        let copy = folder.join(TOKENIZER_FILE);
        let older = run.join(TOKENIZER_FILE);

        if file::is_there(&copy) {
            return Ok(Self::Copy(copy));
        }

        let note = folder.join(BUILT_IN_FILE);
        if !file::is_there(&note) {
            return Ok(if file::is_there(&older) { Self::Copy(older) } else { Self::Nothing });
        }

        let refuse = |reason: String| DataError::BadTokenizer {
            name: note.to_string_lossy().into_owned(),
            reason,
        };

        let said: Note = serde_json::from_slice(&read(&note, MOST_NOTE_BYTES)?)
            .map_err(|error| refuse(error.to_string()))?;
        let (name, sha256) =
            BUILT_IN.into_iter().find(|(name, _)| *name == said.name).ok_or_else(|| {
                refuse(format!("this program has no built-in tokenizer {:?}", said.name))
            })?;

        if said.sha256 != sha256 {
            return Err(refuse(format!(
                "the run used a tokenizer {name:?} with the checksum {}, but this program's has \
                 {sha256}: use the version of dlt that made the run",
                said.sha256
            )));
        }

        Ok(Self::BuiltIn(name))
    }
}

impl Companions {
    /// The companions of a tokenizer that a spec names. For a built-in one, this is a note of its
    /// name and checksum.
    ///
    /// # Errors
    /// As [`Companions::of_tokenizer`], or if the hub cannot be reached or misbehaves.
    pub fn named(name: &str, hub: Option<&HubConfig>, on: OnFetch<'_>) -> Result<Self, DataError> {
        if let Some((name, sha256)) = BUILT_IN.into_iter().find(|(known, _)| *known == name) {
            let note = Note { name: name.to_owned(), sha256: sha256.to_owned() };
            let mut companions = Self::default();
            let text = serde_json::to_string(&note).expect("two strings can be written as JSON");

            companions.put(BUILT_IN_FILE, format!("{text}\n").into_bytes());
            return Ok(companions);
        }

        match name.strip_prefix(HUB_PREFIX) {
            Some(model) => {
                let hub = hub.ok_or_else(|| DataError::NoHub { name: name.to_owned() })?;
                Self::of_tokenizer(&super::of_model(model, hub, on)?)
            }
            None => Self::of_tokenizer(Path::new(name)),
        }
    }

    /// The files that are written into a published model folder, without those that only a run
    /// needs.
    pub fn published(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let own = [super::companions::CONFIG, BUILT_IN_FILE];
        self.iter().filter(move |(name, _)| !own.contains(name))
    }
}

impl Tokenizer {
    /// SHA-256 of every token in the order of ids. It does not depend on how the tokenizer is
    /// stored.
    #[must_use]
    pub fn checksum(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();

        for id in 0..self.vocabulary as u32 {
            let token = self.inner.id_to_token(id).unwrap_or_default();
            hash.update((token.len() as u64).to_le_bytes());
            hash.update(token);
        }

        crate::checksum::hex(&hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_noted_checksums_are_those_of_the_built_in_tokenizers() {
        for (name, sha256) in BUILT_IN {
            assert_eq!(Tokenizer::open(name).expect("it is built in").checksum(), sha256, "{name}");
        }
    }

    #[test]
    fn a_run_of_another_built_in_tokenizer_is_refused() {
        let run = tempfile::tempdir().expect("a folder");
        assert_eq!(
            KeptTokenizer::of_run(run.path()).expect("nothing is wrong"),
            KeptTokenizer::Nothing
        );

        let folder = run.path().join(COMPANIONS_FOLDER);
        fs::create_dir(&folder).expect("made");

        let companions = Companions::named(BYTES, None, &|_| ()).expect("it is built in");
        let note = companions.get(BUILT_IN_FILE).expect("it is noted");
        fs::write(folder.join(BUILT_IN_FILE), note).expect("written");
        assert_eq!(
            KeptTokenizer::of_run(run.path()).expect("it is the same"),
            KeptTokenizer::BuiltIn(BYTES)
        );
        assert_eq!(companions.published().count(), 0);

        let other = String::from_utf8_lossy(note).replace("sha256\":\"", "sha256\":\"0");
        fs::write(folder.join(BUILT_IN_FILE), other).expect("written");

        let error = KeptTokenizer::of_run(run.path()).expect_err("another one").to_string();
        assert!(error.contains("built-in.json") && error.contains("checksum"), "{error}");
        fs::write(folder.join(BUILT_IN_FILE), r#"{"name": "gpt7", "sha256": ""}"#)
            .expect("written");
        assert!(
            KeptTokenizer::of_run(run.path())
                .is_err_and(|error| error.to_string().contains("gpt7"))
        );

        // A copy takes precedence over a note.
        fs::write(folder.join(TOKENIZER_FILE), "{}").expect("written");

        assert_eq!(
            KeptTokenizer::of_run(run.path()).expect("a copy"),
            KeptTokenizer::Copy(folder.join(TOKENIZER_FILE))
        );
    }
}
