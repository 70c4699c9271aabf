//! Files in the caches that were left by processes killed while they wrote there.

use crate::{durable, hub::lock};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Ending of a file of the hub that is partly fetched; the next fetch continues it.
pub(crate) const PART: &str = "part";

/// Ending of the lock file that a process holds while it fetches a file of the hub.
pub(crate) const LOCK: &str = "lock";

/// Folders of a repository in the hub's cache.
const CONTENTS: &str = "blobs";
const REVISIONS: &str = "refs";
const COMMITS: &str = "snapshots";

/// Levels of folders below a repository that are searched.
const DEEPEST: usize = 16;

/// What dead processes left in the caches, sorted by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Files that are of no use. [`remove_leftover`] removes them.
    pub dead: Vec<PathBuf>,
    /// Partly fetched files of the hub, with their bytes. The next fetch of the file continues
    /// there.
    pub parts: Vec<(PathBuf, u64)>,
}

/// Searches a token cache and a cache of the hub for partial files that no living process writes.
#[must_use]
pub fn leftovers(tokens: Option<&Path>, hub: Option<&Path>) -> Leftovers {
    let mut found = Leftovers::default();
    if let Some(tokens) = tokens {
        found.dead.extend(durable::dead(tokens));
        found.dead.extend(durable::dead(&tokens.join(lock::FOLDER)));
    }

    for repository in hub.map_or_else(Vec::new, repositories) {
        found.dead.extend(durable::dead(&repository.join(CONTENTS)));
        for folder in [REVISIONS, COMMITS] {
            below(&repository.join(folder), DEEPEST, &mut found.dead);
        }

        let contents = entries(&repository.join(CONTENTS)).into_iter();
        let is_part = |path: &PathBuf| path.extension().is_some_and(|ending| ending == PART);
        found.parts.extend(contents.filter(is_part).filter_map(|path| {
            let metadata = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
            held(&path).is_ok().then_some((path, metadata.len()))
        }));
    }

    found
}

/// Removes a file that [`leftovers`] calls dead, unless a process writes it by now. Returns whether
/// it was removed.
///
/// # Errors
/// If the system cannot remove it.
pub fn remove_leftover(path: &Path) -> io::Result<bool> {
    let _lock = match fs::read_link(path) {
        Ok(content) => match held(&content_of(path, &content)) {
            Ok(lock) => lock,
            Err(Held) => return Ok(false),
        },
        Err(_) => None,
    };

    durable::remove_if_dead(path)
}

/// Folders of repositories in a cache of the hub.
fn repositories(hub: &Path) -> Vec<PathBuf> {
    let is_repository = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ["models--", "datasets--"].iter().any(|kind| name.starts_with(kind))
            && fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
    };

    entries(hub).into_iter().filter(is_repository).collect()
}

/// Dead files in a folder and the folders below it. Links are not followed. The link of a file that
/// is being fetched is not dead.
fn below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let is_free = |path: &PathBuf| match fs::read_link(path) {
        Ok(content) => held(&content_of(path, &content)).is_ok(),
        Err(_) => true,
    };

    found.extend(durable::dead(folder).into_iter().filter(is_free));
    let is_folder = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());

    if depth > 0 {
        entries(folder)
            .iter()
            .filter(|path| is_folder(path))
            .for_each(|path| below(path, depth - 1, found));
    }
}

/// The content that a link leads to.
fn content_of(link: &Path, content: &Path) -> PathBuf {
    link.parent().unwrap_or(link).join(content)
}

/// Another process is fetching the content.
struct Held;

/// Takes the lock of a file of the hub, if it has one. The lock ends with the returned file.
fn held(content: &Path) -> Result<Option<File>, Held> {
    let Ok(file) = durable::no_links().read(true).open(content.with_extension(LOCK)) else {
        return Ok(None);
    };

    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Held),
        _ => Ok(Some(file)),
    }
}

/// The entries of a folder, sorted; empty if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a file with the folders above it.
    fn write(path: PathBuf) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "half").unwrap();
        path
    }

    #[test]
    fn what_dead_processes_left_in_the_caches_is_found_and_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let dead = [
            "tokens/aa.partial",
            "tokens/hub/x.lock.json.partial",
            "hub/datasets--a--b/blobs/aa.whole.partial",
            "hub/datasets--a--b/refs/convert/parquet.partial",
        ]
        .map(|name| write(at(name)));

        let part = write(at("hub/models--a--b/blobs/bb.part"));
        let others = [
            "tokens/aa.tokens",
            "hub/models--a--b/blobs/cc.incomplete",
            "hub/other/blobs/x.partial",
            "hub/x.partial",
        ]
        .map(|name| write(at(name)));

        let look = || leftovers(Some(&at("tokens")), Some(&at("hub")));
        assert_eq!(look(), Leftovers { dead: dead.to_vec(), parts: vec![(part.clone(), 4)] });

        let living = durable::no_links().read(true).open(&dead[0]).unwrap();
        living.lock().unwrap();
        assert_eq!(look().dead, dead[1..]);
        assert!(!remove_leftover(&dead[0]).unwrap() && dead[0].exists());
        drop(living);
        assert!(dead.iter().all(|path| remove_leftover(path).unwrap() && !path.exists()));
        assert!(others.iter().chain([&part]).all(|path| path.exists()));
        assert_eq!(leftovers(None, None), Leftovers::default());
        assert_eq!(leftovers(Some(&at("gone")), Some(&at("gone"))), Leftovers::default());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_fetched_now_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let repository = place.path().join("models--a--b");
        let lock = write(repository.join("blobs/aa.lock"));
        let part = write(repository.join("blobs/aa.part"));
        let link = repository.join("snapshots/c/model.bin.partial");

        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("../../blobs/aa", &link).unwrap();

        let fetching = durable::no_links().read(true).open(&lock).unwrap();
        fetching.lock().unwrap();

        let look = || leftovers(None, Some(place.path()));
        assert_eq!(look(), Leftovers::default());
        assert!(!remove_leftover(&link).unwrap() && link.is_symlink());
        drop(fetching);
        assert_eq!(look(), Leftovers { dead: vec![link.clone()], parts: vec![(part, 4)] });
        assert!(remove_leftover(&link).unwrap() && !link.is_symlink());
    }
}
