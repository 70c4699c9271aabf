//! Files of a data set of the hub: found on this machine, or fetched.

use crate::{
    checksum::{self, hex},
    error::DataError,
    hub::catalogue::Part,
    hub::lock::Lock,
    hub::origin::{HubOrigin, Origin},
    hub::{Hub, HubConfig, Listing, OnFetch, RemoteFile, Revision},
    material::plan::is_data_of_hub,
    text::files::DataFile,
    text::selection::select,
    text::stream::HubProvenance,
};
use dlt_spec::record::FolderPlan;
use std::path::{Path, PathBuf};

/// Where the hub keeps its own conversion of a data set whose repository is a loading script.
const CONVERTED: &str = "refs/convert/parquet";

/// How to obtain data sets of the hub.
#[derive(Clone, Copy)]
pub(crate) struct Retrieval<'a> {
    pub(crate) hub: &'a HubConfig,
    /// Folder of lock files, which is the token cache; without it no commit is pinned.
    pub(crate) cache: Option<&'a Path>,
    pub(crate) on: OnFetch<'a>,
}

/// The files of a data set on this machine.
pub(crate) struct Retrieved {
    /// Files of the hub's train, validation and test, each with its SHA-256.
    pub(crate) files: [Vec<(DataFile, String)>; 3],
    /// How our splits are made of them; `None` if only train exists and is cut.
    pub(crate) parts: Option<[Part; 3]>,
    /// Which file belongs to which split.
    pub(crate) plan: FolderPlan,
    pub(crate) provenance: HubProvenance,
}

impl Retrieval<'_> {
    /// The files at the commit of the lock file. Without a lock file, those at the revision, which
    /// is then locked.
    pub(crate) fn retrieve(&self, origin: &HubOrigin) -> Result<Retrieved, DataError> {
        match self.cache.and_then(|cache| Lock::read(cache, origin)) {
            Some(lock) => {
                let listing = Listing { commit: lock.commit.clone(), files: lock.files.clone() };
                self.gather(origin, &lock.revision, &listing).map(|(retrieved, _)| retrieved)
            }
            None => self.renew_or_cached(origin),
        }
    }

    /// Asks the hub. If it does not answer and the cache has all files, uses these with a warning.
    fn renew_or_cached(&self, origin: &HubOrigin) -> Result<Retrieved, DataError> {
        // Whether the cache has a listing: only then can it replace the hub's answer.
        let is_known = !self.hub.is_offline
            && Hub::new(&self.hub.offline(), &origin.repository, &origin.revision)
                .listing(self.on)
                .is_ok();

        if !is_known {
            return self.renew(origin);
        }

        match self.renewed(origin, &self.hub.brief()) {
            Err(error) if error.is_hub_away() => {
                let Ok(cached) = (Retrieval { hub: &self.hub.offline(), ..*self }).renew(origin)
                else {
                    return Err(error);
                };

                let name = &origin.name;
                let commit = &cached.provenance.commit;
                let cache = self.hub.cache.display();

                tracing::warn!("{error}; using {name} at commit {commit} from the cache, {cache}");
                Ok(cached)
            }
            renewed => renewed,
        }
    }

    /// Asks the hub which commit the revision is now, fetches it and locks it.
    pub(crate) fn renew(&self, origin: &HubOrigin) -> Result<Retrieved, DataError> {
        self.renewed(origin, self.hub)
    }

    /// The same, with other settings for the listing (`asking`) than for the files.
    fn renewed(&self, origin: &HubOrigin, asking: &HubConfig) -> Result<Retrieved, DataError> {
        let listing = Hub::new(asking, &origin.repository, &origin.revision).listing(self.on)?;
        let has_nothing = origin.entry.is_none()
            && !origin.is_pinned
            && !listing.files.iter().any(|file| is_data_of_hub(&file.name));

        let (retrieved, lock) = if has_nothing {
            let converted = Revision::new(CONVERTED)?;
            let listing = Hub::new(asking, &origin.repository, &converted).listing(self.on)?;
            self.gather(origin, CONVERTED, &listing)?
        } else {
            self.gather(origin, origin.revision.as_str(), &listing)?
        };

        if let Some(cache) = self.cache {
            lock.write(cache)?;
        }

        Ok(retrieved)
    }

    /// Fetches those files of a commit that are needed.
    fn gather(
        &self,
        origin: &HubOrigin,
        revision: &str,
        listing: &Listing,
    ) -> Result<(Retrieved, Lock), DataError> {
        let config = origin.config.as_deref();
        let revision = Revision::new(revision)?;
        let hub = Hub::new(self.hub, &origin.repository, &revision);
        let selected = select(origin.repository.as_str(), listing, config, origin.parts())
            .map_err(|error| match error {
                // Offline, the listing has only what the cache has: the repository may well have
                // this.
                DataError::NotInRepository { what, wanted, .. } if self.hub.is_offline => {
                    hub.not_cached(&format!("{wanted} ({what})"))
                }
                other => other,
            })?;

        let wanted = selected.all();
        let paths = hub.fetch(listing, &wanted, self.on)?;
        let locked = wanted.iter().map(|&file| file.clone()).collect();
        let lock = Lock::new(origin, revision.as_str(), &listing.commit, &selected.config, locked);
        let mut paths = paths.into_iter();
        let mut files: [Vec<(DataFile, String)>; 3] = [const { Vec::new() }; 3];

        for (files, remote) in files.iter_mut().zip(&selected.files) {
            for (remote, path) in remote.iter().zip(paths.by_ref()) {
                files.push((DataFile::at(&path), digest(remote, &path)?));
            }
        }

        let provenance = HubProvenance {
            repository: origin.repository.to_string(),
            revision: revision.to_string(),
            commit: listing.commit.clone(),
        };

        Ok((Retrieved { files, parts: selected.parts, plan: selected.plan, provenance }, lock))
    }
}

/// A data set of the hub on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it comes from.
    pub provenance: HubProvenance,
    /// Its files.
    pub files: Vec<PathBuf>,
}

/// Asks the hub which commit a name is now, fetches its files and writes the lock file into
/// `cache`.
///
/// # Errors
/// If the name does not come from the hub, the hub cannot be reached or misbehaves, or the disk
/// fails.
pub fn fetch(
    source: &str,
    hub: &HubConfig,
    cache: Option<&Path>,
    on: OnFetch<'_>,
) -> Result<Fetched, DataError> {
    let Origin::Hub(origin) = Origin::parse(source)? else {
        let expected = "a name of the catalogue that is not shipped, or hf:OWNER/NAME";
        return Err(DataError::BadHubName { name: source.to_owned(), expected });
    };

    let retrieved = Retrieval { hub, cache, on }.renew(&origin)?;
    let files = retrieved.files.into_iter().flatten().map(|(file, _)| file.path).collect();
    Ok(Fetched { provenance: retrieved.provenance, files })
}

fn digest(remote: &RemoteFile, path: &Path) -> Result<String, DataError> {
    match &remote.sha256 {
        Some(sha256) => Ok(sha256.clone()),
        None => checksum::of_file(path)
            .map(|digest| hex(&digest))
            .map_err(|source| DataError::Read { path: path.to_owned(), source }),
    }
}
