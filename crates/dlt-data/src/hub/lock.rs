//! The lock file of a data set of the hub: it pins the commit.
//!
//! `CACHE/hub/NAME.lock.json` holds one object: `schema` (1), `source` (the requested name),
//! `repository`, `revision`, `commit`, `config`, and `files`, each with `name`, `size` and
//! `sha256`. It is written when a data set is fetched. As long as it exists, the same name means
//! the same commit, and the hub is not asked while the files are on this machine. `dlt data fetch`
//! asks again and rewrites it.

use crate::{durable, error::DataError, hub::RemoteFile, hub::origin::HubOrigin};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const SCHEMA: u32 = 1;

/// Ending of the file's name.
pub(crate) const EXTENSION: &str = ".lock.json";

/// Folder of these files in the token cache.
pub(crate) const FOLDER: &str = "hub";

/// What a name of the hub meant when it was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock {
    schema: u32,
    source: String,
    pub(crate) repository: String,
    pub(crate) revision: String,
    pub(crate) commit: String,
    config: String,
    pub(crate) files: Vec<RemoteFile>,
}

impl Lock {
    pub(crate) fn new(
        origin: &HubOrigin,
        revision: &str,
        commit: &str,
        config: &str,
        files: Vec<RemoteFile>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            source: origin.name.clone(),
            repository: origin.repository.to_string(),
            revision: revision.to_owned(),
            commit: commit.to_owned(),
            config: config.to_owned(),
            files,
        }
    }

    /// The lock of a name, if it exists and is for the same repository.
    pub(crate) fn read(cache: &Path, origin: &HubOrigin) -> Option<Self> {
        let path = path(cache, &origin.name);
        let text = dlt_spec::file::read_text(&path, dlt_spec::file::CONFIGURATION_BYTES).ok()?;
        let lock: Self = match serde_json::from_str(&text) {
            Ok(lock) => lock,
            Err(error) => {
                tracing::warn!(
                    path = %path.display(),
                    %error,
                    "the lock file cannot be read and is made again"
                );
                return None;
            }
        };

        let is_same = lock.schema == SCHEMA
            && lock.source == origin.name
            && lock.repository == origin.repository.as_str();

        is_same.then_some(lock)
    }

    pub(crate) fn write(&self, cache: &Path) -> Result<(), DataError> {
        let path = path(cache, &self.source);
        let failed = |error: serde_json::Error| DataError::Write {
            path: path.clone(),
            reason: error.to_string(),
        };

        let mut text = serde_json::to_string_pretty(self).map_err(failed)?;
        text.push('\n');
        durable::replace(&path, text.as_bytes())
    }
}

/// The path of the lock of a name: the name itself, with other characters replaced, and some digits
/// of its checksum, which keep different names apart.
fn path(cache: &Path, source: &str) -> PathBuf {
    let readable =
        |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    let name: String = source.chars().map(readable).take(60).collect();
    let digits: String =
        Sha256::digest(source).iter().take(6).map(|byte| format!("{byte:02x}")).collect();

    cache.join(FOLDER).join(format!("{name}-{digits}{EXTENSION}"))
}
