//! Files of the cache that are used without asking the hub for them.

use super::{
    FetchEvent, Hub, Listing, OnFetch, RemoteFile,
    name::as_sha256,
    verified::{self, Content},
};
use crate::error::DataError;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Size in bytes from which on comparing a file takes so long that it is reported.
const BYTES_TO_REPORT: u64 = 64 << 20;

/// The path of a file if it is complete on this machine. `None` if it has to be fetched.
///
/// # Errors
/// If it is missing or damaged and the hub may not be asked, or if it cannot be read.
pub(super) fn file(
    hub: &Hub<'_>,
    listing: &Listing,
    file: &RemoteFile,
    on: OnFetch<'_>,
) -> Result<Option<PathBuf>, DataError> {
    let pointer = hub.layout().pointer(&listing.commit, &file.name);
    let is_here =
        fs::metadata(&pointer).is_ok_and(|here| file.size.is_none_or(|size| size == here.len()));
    let damage = if is_here { damage(hub, file, &pointer, on)? } else { None };

    match damage {
        None if is_here => return Ok(Some(pointer)),
        None if hub.config.is_offline => return Err(hub.not_cached(&file.name)),
        Some(error) if hub.config.is_offline => return Err(error),
        Some(error) => tracing::warn!("{error}; fetching it again"),
        None => {}
    }

    Ok(None)
}

/// The error for a file of the cache that has the right size but a wrong checksum. `None` if it is
/// right, or if the hub gives no checksum.
fn damage(
    hub: &Hub<'_>,
    file: &RemoteFile,
    pointer: &Path,
    on: OnFetch<'_>,
) -> Result<Option<DataError>, DataError> {
    let unreadable = |source| DataError::Read { path: pointer.to_owned(), source };
    let blob = fs::canonicalize(pointer).map_err(unreadable)?;
    let named = || as_sha256(&blob.file_name()?.to_string_lossy());
    let Some(expected) = file.sha256.clone().or_else(named) else { return Ok(None) };
    let begin = |of| report_comparing(&file.name, of, on);
    let content = verified::compare(&blob, &hub.layout().blob(&expected), &expected, begin)
        .map_err(unreadable)?;

    Ok(match content {
        Content::Right => None,
        Content::Wrong(got) => {
            Some(DataError::CacheDamaged { file: file.name.clone(), path: blob, expected, got })
        }
    })
}

/// Reports that a file is about to be compared, if that takes long.
pub(super) fn report_comparing(file: &str, of: u64, on: OnFetch<'_>) {
    if of >= BYTES_TO_REPORT {
        on(FetchEvent::Comparing { file: file.to_owned(), of });
    }
}
