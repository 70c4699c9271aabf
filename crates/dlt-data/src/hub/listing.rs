//! What a repository holds at a revision.

use super::{
    FetchEvent, Hub, OnFetch,
    answer::{Failed, Question, is_page},
    name::{as_sha256, is_commit, is_safe_file},
};
use crate::error::DataError;
use serde::{Deserialize, Serialize};
use std::{io::Read, thread};

/// Longest list that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// The files of a repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit that the revision was.
    pub commit: String,
    /// Its files.
    pub files: Vec<RemoteFile>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Name in the repository, with folders.
    pub name: String,
    /// Bytes, where the hub says it.
    pub size: Option<u64>,
    /// SHA-256 of the content, where the hub says it: of large files.
    pub sha256: Option<String>,
}

/// The hub's answer, as far as it is of use.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: Option<String>,
    size: Option<u64>,
}

/// Asks the hub, with patience.
pub(super) fn ask(hub: &Hub<'_>, on: OnFetch<'_>) -> Result<Listing, DataError> {
    let mut failed = 0;
    loop {
        let (error, retry_after) = match once(hub) {
            Ok(listing) => return Ok(listing),
            Err(Failed::ForGood(error)) => return Err(error),
            Err(Failed::ForNow { error, retry_after }) => (error, retry_after),
        };
        failed += 1;
        if failed >= hub.config.patience.tries {
            return Err(error);
        }
        let wait = hub.config.patience.wait(failed, retry_after);
        let (file, wait_ms) = (hub.name.to_string(), wait.as_millis() as u64);
        on(FetchEvent::Waiting { file, wait_ms, reason: error.to_string() });
        thread::sleep(wait);
    }
}

fn once(hub: &Hub<'_>) -> Result<Listing, Failed> {
    let what = format!("the list of files of {} at {}", hub.name, hub.revision);
    let client = hub.client(hub.revision.as_str())?;
    let question = Question { address: None, range: None, keeps_redirects: false, what: &what };
    let mut response = hub.ask(&client, &question)?;
    let untrusted = |reason: String| hub.untrusted(&what, reason);
    if is_page(&response) {
        let reason = "a web page came instead; is there a log-in page or a proxy in between?".to_owned();
        return Err(untrusted(reason).into());
    }
    let mut text = String::new();
    let read = response.body_mut().as_reader().take(LONGEST).read_to_string(&mut text);
    if let Err(error) = read {
        let error = hub.unreachable(&what, &error.to_string());
        return Err(Failed::ForNow { error, retry_after: None });
    }
    let answer: Answer =
        serde_json::from_str(&text).map_err(|error| untrusted(format!("it cannot be read: {error}")))?;
    if !is_commit(&answer.sha) {
        return Err(untrusted(format!("expected a commit of 40 digits, came {:?}", answer.sha)).into());
    }
    let files = answer.siblings.into_iter().map(|sibling| {
        if !is_safe_file(&sibling.rfilename) {
            return Err(untrusted(format!("the file name {:?} leaves its folder", sibling.rfilename)));
        }
        let large = sibling.lfs.as_ref();
        let size = large.and_then(|large| large.size).or(sibling.size);
        let sha256 = large.and_then(|large| as_sha256(large.sha256.as_deref()?));
        Ok(RemoteFile { name: sibling.rfilename, size, sha256 })
    });
    Ok(Listing { commit: answer.sha, files: files.collect::<Result<_, _>>()? })
}
