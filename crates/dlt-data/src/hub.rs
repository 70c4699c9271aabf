//! The Hugging Face hub: what a repository holds, and its files on this machine.
//!
//! Requests use the `hf-hub` crate: its client, token and proxies. The cache is laid out as that
//! crate and Python's `huggingface_hub` do it, so a file fetched by either is found by the other:
//!
//! ```text
//! CACHE/datasets--OWNER--NAME/refs/REVISION              the commit that a branch was last seen at
//! CACHE/datasets--OWNER--NAME/blobs/ETAG                 a file's content
//! CACHE/datasets--OWNER--NAME/snapshots/COMMIT/FILE      a link to it
//! ```
//!
//! Answers are handled here, not in that crate: its own download appends whatever a server sends,
//! gives the content its final name before anything is checked, and waits for ever. A file is
//! written as `blobs/ETAG.part`, under the lock that programs with that crate hold too. A download
//! that broke off resumes where it stopped. The file is renamed once its size and, if the hub gives
//! one, its SHA-256 are right. A file that is already in the cache is compared with that checksum
//! once, see `verified`.

#![cfg_attr(not(feature = "hub"), allow(dead_code, reason = "only requests use the rest"))]

#[cfg(any(test, not(feature = "hub")))]
mod absent;
mod cached;
pub mod catalogue;
mod layout;
mod listing;
pub(crate) mod lock;
mod name;
#[cfg(feature = "hub")]
mod network;
pub(crate) mod origin;
mod patience;
pub(crate) mod pretrained;
pub(crate) mod retrieval;
mod verified;

use crate::error::DataError;
#[cfg(not(feature = "hub"))]
use absent as network;
use layout::Layout;
use std::{
    fmt,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

pub use listing::{Listing, RemoteFile};
pub use name::{RepoKind, RepoName, Revision};
pub use patience::Patience;

/// The feature without which nothing is requested.
const FEATURE: &str = "hub";

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
pub const HUB_ENDPOINT: &str = "https://huggingface.co";

/// Files that are downloaded at the same time, by default.
const PARALLEL: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");

/// Most bytes that one data set or model may have, by default. It is twice the largest data set of
/// the catalogue when unpacked, and more than any model that trains here. A limit is needed because
/// a hub can state any size.
const MOST_BYTES: u64 = 200_000_000_000;

/// How to reach the hub, and where its files are kept.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Address of the hub, without a slash at its end; `HF_ENDPOINT` in the environment.
    pub endpoint: String,
    /// Folder of the cache; `HF_HUB_CACHE`, else `HF_HOME/hub`.
    pub cache: PathBuf,
    /// The token for private and gated repositories; `HF_TOKEN`.
    pub token: Option<Token>,
    /// Whether the hub may not be asked; `HF_HUB_OFFLINE`.
    pub is_offline: bool,
    /// How long to wait and how often to try.
    pub patience: Patience,
    /// Files that are downloaded at the same time.
    pub parallel: NonZeroUsize,
    /// Most bytes that are fetched for one data set or model.
    pub most_bytes: u64,
}

impl HubConfig {
    /// The public hub with this cache, without a token.
    #[must_use]
    pub fn new(cache: PathBuf) -> Self {
        Self {
            endpoint: HUB_ENDPOINT.to_owned(),
            cache,
            token: None,
            is_offline: false,
            patience: Patience::default(),
            parallel: PARALLEL,
            most_bytes: MOST_BYTES,
        }
    }

    /// The same settings, but the hub may not be asked.
    #[must_use]
    pub(crate) fn offline(&self) -> Self {
        Self { is_offline: true, ..self.clone() }
    }

    /// The same settings with fewer tries, for a question that the cache can answer too.
    #[must_use]
    pub(crate) fn brief(&self) -> Self {
        Self { patience: self.patience.brief(), ..self.clone() }
    }
}

/// A secret that no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token in a text, without the white space around it. `None` if nothing is left, or if it
    /// has characters that an HTTP header cannot hold.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_fit = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// What happens while files are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchEvent {
    /// The hub is about to be asked.
    Asking {
        /// For what.
        what: String,
        /// Its address.
        endpoint: String,
    },
    /// A file on this machine is compared with the hub's checksum, for the first time or because it
    /// has changed.
    Comparing {
        /// Name in the repository.
        file: String,
        /// Bytes of the file.
        of: u64,
    },
    /// Progress of a download.
    At {
        /// Name in the repository.
        file: String,
        /// Bytes that are on this machine.
        bytes: u64,
        /// Bytes of the file.
        of: u64,
    },
    /// The hub is asked again, after a pause.
    Waiting {
        /// Name in the repository; the name of the repository itself while its list is requested.
        file: String,
        /// Length of the pause.
        wait_ms: u64,
        /// Why.
        reason: String,
    },
    /// The file is on this machine, complete and checked.
    Done {
        /// Name in the repository.
        file: String,
    },
}

/// Receives events, from several threads at once.
pub type OnFetch<'a> = &'a (dyn Fn(FetchEvent) + Sync);

/// A repository of the hub at a revision.
pub struct Hub<'a> {
    config: &'a HubConfig,
    name: &'a RepoName,
    revision: &'a Revision,
}

impl<'a> Hub<'a> {
    /// A repository. This makes no request.
    #[must_use]
    pub fn new(config: &'a HubConfig, name: &'a RepoName, revision: &'a Revision) -> Self {
        Self { config, name, revision }
    }

    /// The commit of the revision now, and its files. Offline: the commit that the cache last saw,
    /// and the files that the cache has.
    ///
    /// # Errors
    /// If the hub cannot be reached or refuses, if its answer cannot be trusted, or if offline the
    /// cache has nothing.
    pub fn listing(&self, on: OnFetch<'_>) -> Result<Listing, DataError> {
        if self.config.is_offline {
            return self.layout().listing().ok_or_else(|| self.not_cached(""));
        }
        network::listing(self, on)
    }

    /// Paths of files, in the given order. Files that are not on this machine yet are fetched.
    ///
    /// # Errors
    /// The error of the first file, in the given order, that failed. Downloads that have started
    /// are finished, and the bytes of a broken one are kept for the next time.
    pub fn fetch(
        &self,
        listing: &Listing,
        files: &[&RemoteFile],
        on: OnFetch<'_>,
    ) -> Result<Vec<PathBuf>, DataError> {
        self.check_sizes(listing, files)?;
        let bytes = AtomicU64::new(0);
        let next = AtomicUsize::new(0);
        let is_over = AtomicBool::new(false);
        let found: Vec<Mutex<Option<Result<PathBuf, DataError>>>> =
            files.iter().map(|_| Mutex::new(None)).collect();

        // Each thread fetches the next file that no other has started. After an error no new file
        // is started.
        let work = || {
            while !is_over.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(index) else { return };
                let result = self.file(listing, file, &bytes, on);

                is_over.fetch_or(result.is_err(), Ordering::Relaxed);
                *found[index].lock().expect("no thread panics while it holds the lock") =
                    Some(result);
            }
        };

        thread::scope(|scope| {
            // This thread works too, so one thread fewer is started.
            for _ in 1..self.config.parallel.get().min(files.len()) {
                scope.spawn(work);
            }
            work();
        });

        let results: Vec<_> = found
            .into_iter()
            .filter_map(|slot| slot.into_inner().expect("no thread panics while it holds the lock"))
            .collect();
        let paths: Vec<PathBuf> = results.into_iter().collect::<Result<_, _>>()?;
        self.layout().remember(&listing.commit)?;

        Ok(paths)
    }

    /// The path of a file, which is fetched if it is not complete on this machine. `bytes` counts
    /// the bytes that are fetched of all files together.
    fn file(
        &self,
        listing: &Listing,
        file: &RemoteFile,
        bytes: &AtomicU64,
        on: OnFetch<'_>,
    ) -> Result<PathBuf, DataError> {
        let path = match cached::file(self, listing, file, on)? {
            Some(path) => path,
            None => network::file(self, listing, file, bytes, on)?,
        };

        on(FetchEvent::Done { file: file.name.clone() });
        Ok(path)
    }

    /// Refuses more bytes than may be fetched, before anything is fetched. Sizes that the list
    /// leaves out are counted as they become known.
    fn check_sizes(&self, listing: &Listing, files: &[&RemoteFile]) -> Result<(), DataError> {
        let layout = self.layout();
        let is_away = |file: &&&RemoteFile| !layout.pointer(&listing.commit, &file.name).exists();
        let sizes = files.iter().filter(is_away).filter_map(|file| file.size);
        self.check_bytes(sizes.fold(0, u64::saturating_add))
    }

    fn check_bytes(&self, bytes: u64) -> Result<(), DataError> {
        let most = self.config.most_bytes;
        if bytes <= most {
            return Ok(());
        }

        Err(DataError::HubTooMuch {
            what: format!("{} at {}", self.name, self.revision),
            bytes,
            most,
        })
    }

    /// The error for a needed file that is not in the listing: of the hub, or of the cache if the
    /// hub may not be asked.
    pub(crate) fn missing(&self, listing: &Listing, wanted: &str) -> DataError {
        if self.config.is_offline {
            return self.not_cached(wanted);
        }

        DataError::NotInRepository {
            repository: self.name.to_string(),
            what: format!("revision {}", self.revision),
            wanted: wanted.to_owned(),
            known: listing
                .files
                .iter()
                .map(|file| file.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// The error for something that is not on this machine while the hub may not be asked.
    pub(crate) fn not_cached(&self, wanted: &str) -> DataError {
        let whole = format!("{} at {}", self.name, self.revision);
        let what = if wanted.is_empty() { whole } else { format!("{wanted} of {whole}") };
        DataError::Offline { what, cache: self.config.cache.clone() }
    }

    /// The hub's address without a password, for messages.
    fn endpoint(&self) -> String {
        without_password(&self.config.endpoint)
    }

    fn unreachable(&self, what: &str, reason: &str) -> DataError {
        DataError::HubUnreachable {
            endpoint: self.endpoint(),
            what: what.to_owned(),
            reason: self.hidden(reason),
        }
    }

    /// A text from outside, with the token removed if it contains it.
    fn hidden(&self, text: &str) -> String {
        match &self.config.token {
            Some(token) => text.replace(&token.0, "[token]"),
            None => text.to_owned(),
        }
    }

    /// The repository.
    pub(crate) fn name(&self) -> &RepoName {
        self.name
    }

    fn layout(&self) -> Layout {
        Layout::new(&self.config.cache, self.name, self.revision)
    }
}

impl DataError {
    /// Whether the hub did not answer, something else answered for it, or this program cannot ask
    /// it. Then the cache is the best source.
    pub(crate) fn is_hub_away(&self) -> bool {
        match self {
            Self::HubUnreachable { .. } | Self::HubAnswer { .. } => true,
            Self::NotBuilt(absent) => absent.feature == FEATURE,
            Self::HubStatus { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            _ => false,
        }
    }
}

/// An address without user and password.
fn without_password(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::new(" hf_secret\n").unwrap();
        assert_eq!(token.0, "hf_secret");
        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(Token::new(" \n"), None);
        assert_eq!(Token::new("a\nb"), None);
    }

    #[test]
    fn the_password_of_an_address_is_not_shown() {
        assert_eq!(without_password("https://me:secret@hub.example"), "https://hub.example");
        assert_eq!(without_password(HUB_ENDPOINT), HUB_ENDPOINT);
    }
}
