//! Where files of a repository are on this machine.

use super::{
    Listing, RemoteFile, RepoKind, RepoName, Revision,
    name::{is_commit, is_safe_file},
};
use crate::{durable, error::DataError};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The cache folder of one repository.
pub(super) struct Layout {
    folder: PathBuf,
    revision: String,
}

impl Layout {
    pub(super) fn new(cache: &Path, name: &RepoName, revision: &Revision) -> Self {
        let kind = match name.kind() {
            RepoKind::Dataset => "datasets",
            RepoKind::Model => "models",
        };
        let folder = cache.join(format!("{kind}--{}", name.as_str().replace('/', "--")));
        Self { folder, revision: revision.as_str().to_owned() }
    }

    /// The path of the content with this entity tag.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The folder of a commit.
    fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The path of a file of a commit: a link to its content.
    pub(super) fn pointer(&self, commit: &str, file: &str) -> PathBuf {
        file.split('/').fold(self.snapshot(commit), |path, part| path.join(part))
    }

    /// Makes a file of a commit: a link to the content with this entity tag.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf, DataError> {
        let pointer = self.pointer(commit, file);
        let failed = |error: &io::Error| DataError::Write {
            path: pointer.clone(),
            reason: error.to_string(),
        };

        let parent = pointer.parent().unwrap_or(&pointer);
        fs::create_dir_all(parent).map_err(|error| failed(&error))?;

        // A relative link, from snapshots/COMMIT/FILE up to the repository and then down, so that
        // the cache can be moved as a whole.
        let up = "../".repeat(2 + file.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));

        if fs::read_link(&pointer).is_ok_and(|old| old == target) {
            return Ok(pointer);
        }

        let partial = durable::next_to(&pointer);
        // Removes a link that an interrupted run left. The caller holds the lock of the content, so
        // no other process uses it.
        let _ = fs::remove_file(&partial);
        symlink(&target, &self.blob(etag), &partial)
            .and_then(|()| fs::rename(&partial, &pointer))
            .map_err(|error| failed(&error))?;

        Ok(pointer)
    }

    /// Notes in the cache that the revision is this commit.
    pub(super) fn remember(&self, commit: &str) -> Result<(), DataError> {
        let path = self.reference();
        if self.revision == commit
            || dlt_spec::file::read_text(&path, dlt_spec::file::CONFIGURATION_BYTES)
                .is_ok_and(|old| old == commit)
        {
            return Ok(());
        }

        durable::replace(&path, commit.as_bytes())
    }

    /// The commit at which the revision was last seen, and those of its files that are on this
    /// machine.
    pub(super) fn listing(&self) -> Option<Listing> {
        let commit = if is_commit(&self.revision) {
            self.revision.clone()
        } else {
            dlt_spec::file::read_text(&self.reference(), dlt_spec::file::CONFIGURATION_BYTES)
                .ok()?
                .trim()
                .to_owned()
        };

        if !is_commit(&commit) {
            return None;
        }

        let root = self.snapshot(&commit);
        let mut files = Vec::new();
        collect(&root, "", &mut files).ok()?;
        files.sort_by(|left, right| left.name.cmp(&right.name));

        Some(Listing { commit, files })
    }

    fn reference(&self) -> PathBuf {
        self.revision.split('/').fold(self.folder.join("refs"), |path, part| path.join(part))
    }
}

/// Every file below a folder. Links to missing contents are skipped.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<RemoteFile>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{prefix}{name}");
        let Ok(metadata) = fs::metadata(&path) else { continue };

        if metadata.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else if is_safe_file(&name) {
            let etag = fs::canonicalize(&path)?;
            let etag = etag
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let sha256 = super::name::as_sha256(&etag);

            files.push(RemoteFile { name, size: Some(metadata.len()), sha256 });
        }
    }

    Ok(())
}

#[cfg(unix)]
fn symlink(target: &Path, _content: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Elsewhere links need rights that users rarely have, so the content is copied, as Python does.
#[cfg(not(unix))]
fn symlink(_target: &Path, content: &Path, link: &Path) -> io::Result<()> {
    fs::copy(content, link).map(drop)
}

#[cfg(all(test, feature = "hub"))]
mod tests {
    use super::*;
    use hf_hub::{Cache, Repo};

    #[test]
    fn matches_reference_places_of_the_crate_that_other_programs_use() {
        let cache = Path::new("cache");
        let revision = Revision::default();
        for (name, repo) in [
            (RepoName::model("gpt2").unwrap(), Repo::model("gpt2".to_owned())),
            (RepoName::dataset("a/b-c").unwrap(), Repo::dataset("a/b-c".to_owned())),
        ] {
            let ours = Layout::new(cache, &name, &revision);
            let theirs = Cache::new(cache.to_owned()).repo(repo);
            assert_eq!(ours.blob("e"), theirs.blob_path("e"));
            assert_eq!(ours.pointer("c", "d/f"), theirs.pointer_path("c").join("d").join("f"));
        }
    }
}
