//! The list of files of a repository, as the hub gives it.

use super::answer::{Failed, Question, Redirects, is_page};
use crate::{
    error::DataError,
    hub::{
        FetchEvent, Hub, Listing, OnFetch, RemoteFile,
        name::{as_sha256, is_commit, is_safe_file},
    },
};
use serde::Deserialize;
use std::{
    io::{self, Read},
    time::Instant,
};

/// Longest list that is read, in bytes: some 300,000 files with sizes and checksums, three times
/// the hub's recommended limit.
const LONGEST: usize = 64 << 20;

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// The parts of the hub's answer that are used.
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

/// Asks the hub, as often as its patience allows.
pub(in crate::hub) fn ask(hub: &Hub<'_>, on: OnFetch<'_>) -> Result<Listing, DataError> {
    let mut failed = 0;
    let what = format!("the list of files of {} at {}", hub.name, hub.revision);
    on(FetchEvent::Asking { what: what.clone(), endpoint: hub.endpoint() });

    loop {
        let failure = match once(hub, &what) {
            Ok(listing) => return Ok(listing),
            Err(failure) => failure,
        };

        failed += 1;
        hub.pause(hub.name.as_str(), failed, failure, on)?;
    }
}

fn once(hub: &Hub<'_>, what: &str) -> Result<Listing, Failed> {
    let client = hub.client(hub.revision.as_str())?;
    let question = Question { address: None, range: None, redirects: Redirects::Followed, what };
    let mut response = hub.ask(&client, &question)?;
    let untrusted = |reason: String| hub.untrusted(what, reason);

    if is_page(&response) {
        let reason =
            "got a web page instead; is there a log-in page or a proxy in between?".to_owned();
        return Err(untrusted(reason).into());
    }

    let text = receive(hub, what, &mut response.body_mut().as_reader())?;
    let answer: Answer = serde_json::from_slice(&text)
        .map_err(|error| untrusted(format!("it cannot be read: {error}")))?;
    if !is_commit(&answer.sha) {
        return Err(
            untrusted(format!("expected a commit of 40 digits, got {:?}", answer.sha)).into()
        );
    }

    let files = answer.siblings.into_iter().map(|sibling| {
        if !is_safe_file(&sibling.rfilename) {
            return Err(untrusted(format!(
                "the file name {:?} leaves its folder",
                sibling.rfilename
            )));
        }

        let large = sibling.lfs.as_ref();
        let size = large.and_then(|large| large.size).or(sibling.size);
        let sha256 = large.and_then(|large| as_sha256(large.sha256.as_deref()?));

        Ok(RemoteFile { name: sibling.rfilename, size, sha256 })
    });

    Ok(Listing { commit: answer.sha, files: files.collect::<Result<_, _>>()? })
}

/// The body of an answer, within bounds of size, speed and time.
fn receive(hub: &Hub<'_>, what: &str, body: &mut impl Read) -> Result<Vec<u8>, Failed> {
    let patience = &hub.config.patience;
    let began = Instant::now();
    let mut pace = patience.pace();
    let mut text = Vec::new();
    let mut piece = vec![0; PIECE];

    let failed = |reason: String| Failed::ForNow {
        error: hub.unreachable(what, &reason),
        retry_after: None,
    };

    loop {
        let read = match body.read(&mut piece) {
            Ok(0) => return Ok(text),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error.to_string())),
        };

        text.extend_from_slice(&piece[..read]);
        if text.len() > LONGEST {
            let reason = format!("it is longer than {} MiB, the most that is read", LONGEST >> 20);
            return Err(hub.untrusted(what, reason).into());
        }

        if !pace.is_kept(read) || began.elapsed() > patience.listing {
            let seconds = began.elapsed().as_secs();
            return Err(failed(format!(
                "it arrives too slowly: {} bytes in {seconds} s",
                text.len()
            )));
        }
    }
}
