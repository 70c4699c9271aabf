//! One file from the hub to this machine.

use super::answer::{Client, Failed, Question, Redirects, header, is_page};
use crate::{
    checksum::{self, hex},
    durable,
    error::DataError,
    hub::{
        FetchEvent, Hub, Listing, OnFetch, RemoteFile,
        cached::report_comparing,
        name::{as_sha256, escaped, is_commit, is_etag},
        verified::{self, Content},
    },
    leftovers::{LOCK, PART},
};
use dlt_spec::{
    durable::unshare,
    waiting::{self, Waiting},
};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use ureq::{Body, http::Response};

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// Fewest bytes between two reports of progress.
const BYTES_PER_REPORT: u64 = 256 * 1024;

/// What the hub states about a file in its headers.
struct Stated {
    etag: String,
    size: u64,
    sha256: Option<String>,
}

/// Fetches a file; see [`Hub::fetch`]. `bytes` counts the bytes that are fetched of all files
/// together.
pub(in crate::hub) fn file(
    hub: &Hub<'_>,
    listing: &Listing,
    file: &RemoteFile,
    bytes: &AtomicU64,
    on: OnFetch<'_>,
) -> Result<PathBuf, DataError> {
    let client = hub.client(&listing.commit)?;
    let transfer = Transfer { hub, listing, file, bytes, on, client };
    let mut failed = 0;
    let mut best = 0;

    loop {
        let failure = match transfer.attempt() {
            Ok(path) => return Ok(path),
            Err(failure) => failure,
        };

        // A try that got the file well beyond any try before counts as the first failure: a long
        // download over a bad line may break off any number of times.
        let patience = &hub.config.patience;
        let here = transfer.part_bytes();
        let is_progress = here > best && here - best >= patience.least_bytes();

        failed = if is_progress { 1 } else { failed + 1 };
        best = best.max(here);

        hub.pause(&file.name, failed, failure, on)?;
    }
}

struct Transfer<'a> {
    hub: &'a Hub<'a>,
    listing: &'a Listing,
    file: &'a RemoteFile,
    /// Bytes that are fetched of all files together.
    bytes: &'a AtomicU64,
    on: OnFetch<'a>,
    client: Client,
}

impl Transfer<'_> {
    fn attempt(&self) -> Result<PathBuf, Failed> {
        let stated = self.stated()?;
        let layout = self.hub.layout();
        let blob = layout.blob(&stated.etag);
        let _lock = self.lock(&blob)?;

        if !self.is_here(&blob, &stated)? {
            let part = blob.with_extension(PART);
            self.complete(&part, &stated)?;
            fs::rename(&part, &blob).map_err(|error| write_error(&blob, &error))?;
            durable::sync_folder(blob.parent().unwrap_or(&blob));

            if stated.sha256.is_some() {
                verified::remember(&blob);
            }
        }

        Ok(layout.link(&self.listing.commit, &self.file.name, &stated.etag)?)
    }

    /// Whether the content is already on this machine, for another commit or from another process.
    fn is_here(&self, blob: &Path, stated: &Stated) -> Result<bool, DataError> {
        if !fs::metadata(blob).is_ok_and(|here| here.len() == stated.size) {
            return Ok(false);
        }

        let Some(sha256) = &stated.sha256 else { return Ok(true) };
        let begin = |of| report_comparing(&self.file.name, of, self.on);
        let content = verified::compare(blob, blob, sha256, begin)
            .map_err(|source| DataError::Read { path: blob.to_owned(), source })?;

        Ok(content == Content::Right)
    }

    /// Requests the file's headers, and follows redirects only within the hub. A redirect to
    /// elsewhere has the hub's own headers about the file.
    fn stated(&self) -> Result<Stated, Failed> {
        let mut address = self.address();
        let name = &self.file.name;

        for _ in 0..5 {
            let question = Question {
                address: Some(&address),
                range: Some((0, Some(0))),
                redirects: Redirects::Kept,
                what: name,
            };

            let response = self.hub.ask(&self.client, &question)?;
            if !response.status().is_redirection() {
                return Ok(self.read_headers(&response)?);
            }

            let target = header(&response, "location").unwrap_or_default();
            if target.is_empty() {
                return Err(self.untrusted("a redirect that leads nowhere").into());
            }
            if header(&response, "x-repo-commit").is_some() {
                return Ok(self.read_headers(&response)?);
            }

            // The repository was renamed. The request has the token, so only targets on the same
            // host are followed.
            let endpoint = &self.hub.config.endpoint;
            match target
                .strip_prefix(endpoint.as_str())
                .or(target.starts_with('/').then_some(target))
            {
                Some(path) if path.starts_with('/') && !path.starts_with("//") => {
                    address = format!("{endpoint}{path}");
                }
                _ => {
                    return Err(self
                        .untrusted("a redirect to another host without X-Repo-Commit")
                        .into());
                }
            }
        }

        Err(self.untrusted("redirects in a circle").into())
    }

    fn read_headers(&self, response: &Response<Body>) -> Result<Stated, DataError> {
        let commit = header(response, "x-repo-commit").unwrap_or_default();
        if commit.is_empty() {
            let page = if is_page(response) { ", but a web page" } else { "" };
            let reason = format!(
                "an answer without X-Repo-Commit{page}: this is not the hub; is there a log-in \
                 page or a proxy in between?"
            );
            return Err(self.untrusted(&reason));
        }

        if !is_commit(commit) || commit != self.listing.commit {
            let expected = &self.listing.commit;
            return Err(self.untrusted(&format!("expected commit {expected}, got {commit:?}")));
        }

        let etag = header(response, "x-linked-etag")
            .or_else(|| header(response, "etag"))
            .unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"');

        if !is_etag(etag) {
            return Err(self.untrusted(&format!(
                "expected an entity tag of letters and digits, got {etag:?}"
            )));
        }

        let number =
            |name: &str| header(response, name).and_then(|value| value.trim().parse::<u64>().ok());
        let of_range = header(response, "content-range")
            .and_then(|range| range.rsplit_once('/'))
            .and_then(|(_, total)| total.parse().ok());
        let is_whole = response.status().as_u16() == 200;

        let size = number("x-linked-size")
            .or(of_range)
            .or(self.file.size)
            .or_else(|| number("content-length").filter(|_| is_whole))
            .ok_or_else(|| {
                self.untrusted("neither X-Linked-Size nor Content-Range states its length")
            })?;

        if let Some(expected) = self.file.size.filter(|&expected| expected != size) {
            return Err(DataError::HubSize { file: self.file.name.clone(), expected, got: size });
        }

        let sha256 = as_sha256(etag).or_else(|| self.file.sha256.clone());
        if let (Some(expected), Some(got)) = (&self.file.sha256, &sha256)
            && expected != got
        {
            return Err(self.checksum(expected, got));
        }

        Ok(Stated { etag: etag.to_owned(), size, sha256 })
    }

    /// Completes the partial file and checks it.
    fn complete(&self, part: &Path, stated: &Stated) -> Result<(), Failed> {
        let unwritable = |error: io::Error| Failed::from(write_error(part, &error));
        unshare(part).map_err(unwritable)?;

        let mut file = durable::no_links()
            .create(true)
            .append(true)
            .read(true)
            .open(part)
            .map_err(unwritable)?;

        let mut here = file.metadata().map_err(unwritable)?.len();
        // A partial file that is too long cannot be a part of this content: start again.
        if here > stated.size {
            file.set_len(0).map_err(unwritable)?;
            here = 0;
        }

        let is_resumed = here > 0;
        if here < stated.size {
            let more = stated.size - here;
            self.hub
                .check_bytes(self.bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more))?;
            self.receive(&mut file, here, stated.size, part)?;
        }

        file.sync_all().map_err(unwritable)?;
        drop(file);

        let Some(expected) = &stated.sha256 else { return Ok(()) };
        let got = checksum::of_file(part).map(|digest| hex(&digest)).map_err(unwritable)?;
        if *expected == got {
            return Ok(());
        }

        fs::remove_file(part).map_err(unwritable)?;
        let error = self.checksum(expected, &got);

        // The bytes that were here before may belong to another file: try once more from the start.
        if is_resumed {
            Err(Failed::ForNow { error, retry_after: None })
        } else {
            Err(error.into())
        }
    }

    fn receive(
        &self,
        file: &mut File,
        mut here: u64,
        size: u64,
        part: &Path,
    ) -> Result<(), Failed> {
        let address = self.address();
        let range = (here > 0).then_some((here, None));
        let question = Question {
            address: Some(&address),
            range,
            redirects: Redirects::Followed,
            what: &self.file.name,
        };

        let mut response = match self.hub.ask(&self.client, &question) {
            // The server says that the file ends here, although bytes are missing.
            Err(Failed::ForGood(DataError::HubStatus { status: 416, .. })) => {
                file.set_len(0).map_err(|error| write_error(part, &error))?;
                let name = self.file.name.clone();
                return Err(DataError::HubSize { file: name, expected: size, got: here }.into());
            }
            answer => answer?,
        };

        if is_page(&response) && !self.file.name.ends_with(".html") {
            let reason =
                "got a web page instead of the file; is there a log-in page or a proxy in between?";
            return Err(self.untrusted(reason).into());
        }

        let is_resumed = response.status().as_u16() == 206
            && header(&response, "content-range")
                .is_some_and(|range| range.trim().starts_with(&format!("bytes {here}-")));
        // The server ignores the range and sends the whole file.
        if here > 0 && !is_resumed {
            file.set_len(0).map_err(|error| write_error(part, &error))?;
            here = 0;
        }

        let mut body = response.body_mut().as_reader();
        self.copy(&mut body, file, &mut here, size, part)?;

        if here == size {
            return Ok(());
        }

        Err(self.broken(here, size, "the connection was closed early"))
    }

    /// Copies until the answer ends, exceeds the expected size, or is slower than the least speed.
    fn copy(
        &self,
        body: &mut impl Read,
        file: &mut File,
        here: &mut u64,
        size: u64,
        part: &Path,
    ) -> Result<(), Failed> {
        let mut piece = vec![0; PIECE];
        let mut pace = self.hub.config.patience.pace();
        let mut reported = *here;

        self.report(*here, size);

        loop {
            let read = match body.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(self.broken(*here, size, &self.hub.hidden(&error.to_string())));
                }
            };

            if *here + read as u64 > size {
                file.set_len(0).map_err(|error| write_error(part, &error))?;
                return Err(DataError::HubSize {
                    file: self.file.name.clone(),
                    expected: size,
                    got: *here + read as u64,
                }
                .into());
            }

            file.write_all(&piece[..read]).map_err(|error| write_error(part, &error))?;
            *here += read as u64;

            if *here - reported >= BYTES_PER_REPORT || *here == size {
                reported = *here;
                self.report(*here, size);
            }

            if !pace.is_kept(read) && *here < size {
                return Err(self.broken(*here, size, "it arrives too slowly"));
            }
        }
    }

    /// Takes the lock of the content, after waiting for any process that fetches it now.
    fn lock(&self, blob: &Path) -> Result<File, DataError> {
        let path = blob.with_extension(LOCK);
        let failed = |error: io::Error| write_error(&path, &error);
        fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(failed)?;

        let file = durable::no_links()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;

        let what = format!("{} of {}", self.file.name, self.listing.commit);
        let grows = blob.with_extension(PART);

        // The other process may stall and try again for as long as its patience allows, so no
        // progress for a while does not mean that it is dead.
        let still = self.hub.config.patience.stall.saturating_mul(STALLS).max(waiting::STILL);
        waiting::lock(&file, &path, &Waiting { what: &what, grows: &grows, still })
            .map_err(failed)?;

        Ok(file)
    }

    /// Bytes that are on this machine of a partly fetched file.
    fn part_bytes(&self) -> u64 {
        let Some(sha256) = &self.file.sha256 else { return 0 };
        let part = self.hub.layout().blob(sha256).with_extension(PART);
        fs::metadata(part).map_or(0, |part| part.len())
    }

    fn address(&self) -> String {
        self.client.own.url(&escaped(&self.file.name))
    }

    fn report(&self, bytes: u64, of: u64) {
        (self.on)(FetchEvent::At { file: self.file.name.clone(), bytes, of });
    }

    fn untrusted(&self, reason: &str) -> DataError {
        self.hub.untrusted(&self.file.name, reason.to_owned())
    }

    fn checksum(&self, expected: &str, got: &str) -> DataError {
        let file = self.file.name.clone();
        DataError::HubChecksum { file, expected: expected.to_owned(), got: got.to_owned() }
    }

    fn broken(&self, bytes: u64, of: u64, reason: &str) -> Failed {
        let file = self.file.name.clone();
        let error = DataError::HubBroken { file, bytes, of, reason: reason.to_owned() };
        Failed::ForNow { error, retry_after: None }
    }
}

/// How many stall times of the process that fetches a file, pauses included, another process waits
/// without progress.
const STALLS: u32 = 10;

fn write_error(path: &Path, error: &io::Error) -> DataError {
    DataError::Write { path: path.to_owned(), reason: error.to_string() }
}
