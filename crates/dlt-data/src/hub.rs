//! The Hugging Face hub: what a repository holds, and its files on this machine.
//!
//! Requests are those of the `hf-hub` crate: its client, token, redirects and proxies; and the cache is laid out by
//! it, as Python's `huggingface_hub` lays it out, so that a file fetched by either is found by the other:
//!
//! ```text
//! CACHE/datasets--OWNER--NAME/refs/REVISION              the commit that a branch was last seen at
//! CACHE/datasets--OWNER--NAME/blobs/ETAG                 a file's content
//! CACHE/datasets--OWNER--NAME/snapshots/COMMIT/FILE      a link to it
//! ```
//!
//! What comes over it is handled here, because that crate's own download appends whatever a server sends, gives the
//! content its final name before anybody has looked at it, and waits for ever. A file is written as
//! `blobs/ETAG.part`, under a lock that it and other programs of that crate hold, goes on where it was broken off,
//! and is renamed once its size and, where the hub gives one, its SHA-256 are right.

mod answer;
mod layout;
mod listing;
mod name;
mod patience;
mod transfer;

use crate::error::DataError;
use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{ApiBuilder, ApiRepo},
};
use layout::Layout;
use std::{
    fmt,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

pub use listing::{Listing, RemoteFile};
pub use name::{RepoKind, RepoName, Revision};
pub use patience::Patience;

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
pub const HUB_ENDPOINT: &str = "https://huggingface.co";

/// Files that are downloaded at the same time, unless set otherwise.
const PARALLEL: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");

/// How the hub is reached, and where its files are kept.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Address of the hub, without a slash at its end; `HF_ENDPOINT` in the environment.
    pub endpoint: String,
    /// Folder of the cache; `HF_HUB_CACHE`, else `HF_HOME/hub`.
    pub cache: PathBuf,
    /// What private and gated repositories ask for; `HF_TOKEN`.
    pub token: Option<Token>,
    /// Whether nothing may be asked of the hub; `HF_HUB_OFFLINE`.
    pub is_offline: bool,
    /// How long to wait and how often to try.
    pub patience: Patience,
    /// Files that are downloaded at the same time.
    pub parallel: NonZeroUsize,
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
        }
    }
}

/// A secret that no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token of a text, without the white space around it; `None` where nothing is left, or where it holds what
    /// no header may.
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

/// What happens to one file while several are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchEvent {
    /// So many of its bytes are here.
    At {
        /// Name in the repository.
        file: String,
        /// Bytes that are here.
        bytes: u64,
        /// Bytes of the file.
        of: u64,
    },
    /// The hub is asked again, after a pause.
    Waiting {
        /// Name in the repository; the repository's own name while its list is asked for.
        file: String,
        /// Length of the pause.
        wait_ms: u64,
        /// Why.
        reason: String,
    },
    /// The file is here, whole and checked.
    Done {
        /// Name in the repository.
        file: String,
    },
}

/// Takes what happens, from several threads at once.
pub type OnFetch<'a> = &'a (dyn Fn(FetchEvent) + Sync);

/// A repository of the hub at a revision.
pub struct Hub<'a> {
    config: &'a HubConfig,
    name: &'a RepoName,
    revision: &'a Revision,
}

impl<'a> Hub<'a> {
    /// A repository; nothing is asked yet.
    #[must_use]
    pub fn new(config: &'a HubConfig, name: &'a RepoName, revision: &'a Revision) -> Self {
        Self { config, name, revision }
    }

    /// The commit that the revision is now, and the files that it holds. Offline it is the commit that the cache
    /// last saw and the files that the cache has.
    ///
    /// # Errors
    /// If the hub cannot be reached or refuses, if its answer is not to be trusted, or if it is offline and the
    /// cache has nothing.
    pub fn listing(&self, on: OnFetch<'_>) -> Result<Listing, DataError> {
        if self.config.is_offline {
            return self.layout().listing().ok_or_else(|| DataError::Offline {
                what: format!("{} at {}", self.name, self.revision),
                cache: self.config.cache.clone(),
            });
        }
        listing::ask(self, on)
    }

    /// Paths of files, in their order, fetched where they are not here yet.
    ///
    /// # Errors
    /// The first that is met; other files that are under way are finished, and what came of a broken one stays for
    /// the next time.
    pub fn fetch(
        &self,
        listing: &Listing,
        files: &[&RemoteFile],
        on: OnFetch<'_>,
    ) -> Result<Vec<PathBuf>, DataError> {
        let next = AtomicUsize::new(0);
        let is_over = AtomicBool::new(false);
        let found: Vec<Mutex<Option<Result<PathBuf, DataError>>>> =
            files.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            while !is_over.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(index) else { return };
                let result = transfer::file(self, listing, file, on);
                is_over.fetch_or(result.is_err(), Ordering::Relaxed);
                *found[index].lock().expect("no thread panics while it holds the lock") = Some(result);
            }
        };
        thread::scope(|scope| {
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

    fn layout(&self) -> Layout {
        Layout::new(Cache::new(self.config.cache.clone()), self.repo(self.revision.as_str()), self.revision)
    }

    fn repo(&self, revision: &str) -> Repo {
        let kind = match self.name.kind() {
            RepoKind::Dataset => RepoType::Dataset,
            RepoKind::Model => RepoType::Model,
        };
        Repo::with_revision(self.name.as_str().to_owned(), kind, revision.to_owned())
    }

    /// The crate's own client for this repository at a revision.
    fn client(&self, revision: &str) -> Result<ApiRepo, DataError> {
        let api = ApiBuilder::from_cache(Cache::new(self.config.cache.clone()))
            .with_endpoint(self.config.endpoint.clone())
            .with_token(self.config.token.as_ref().map(|token| token.0.clone()))
            .with_user_agent("dlt", env!("CARGO_PKG_VERSION"))
            .with_progress(false)
            .build()
            .map_err(|error| self.unreachable(self.name.as_str(), &error.to_string()))?;
        Ok(api.repo(self.repo(revision)))
    }

    fn unreachable(&self, what: &str, reason: &str) -> DataError {
        DataError::HubUnreachable {
            endpoint: without_password(&self.config.endpoint),
            what: what.to_owned(),
            reason: self.hidden(reason),
        }
    }

    /// A text that came from elsewhere, without the token, should it be in it.
    fn hidden(&self, text: &str) -> String {
        match &self.config.token {
            Some(token) => text.replace(&token.0, "[token]"),
            None => text.to_owned(),
        }
    }
}

/// An address as it may be shown.
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
