//! Takes the place of `network` in a program without the feature `hub`: what the cache holds can be
//! used, and nothing is requested.

use super::{FEATURE, Hub, Listing, OnFetch, RemoteFile};
use crate::error::DataError;
use dlt_spec::NotBuilt;
use std::{path::PathBuf, sync::atomic::AtomicU64};

/// As `network::listing`.
pub(super) fn listing(hub: &Hub<'_>, _: OnFetch<'_>) -> Result<Listing, DataError> {
    Err(refused(hub, "the list of files"))
}

/// As `network::file`.
pub(super) fn file(
    hub: &Hub<'_>,
    _: &Listing,
    file: &RemoteFile,
    _: &AtomicU64,
    _: OnFetch<'_>,
) -> Result<PathBuf, DataError> {
    Err(refused(hub, &file.name))
}

fn refused(hub: &Hub<'_>, what: &str) -> DataError {
    let what = format!("cannot ask the hub for {what} of {} at {}", hub.name, hub.revision);
    DataError::NotBuilt(NotBuilt { what, feature: FEATURE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{HubConfig, RepoName, Revision};

    #[test]
    fn what_only_the_hub_has_is_refused_and_the_cache_is_the_best_source() {
        let config = HubConfig::new(PathBuf::from("cache"));
        let (name, revision) = (RepoName::model("a/b").unwrap(), Revision::default());
        let hub = Hub::new(&config, &name, &revision);

        let error = listing(&hub, &|_| ()).unwrap_err();
        assert!(error.is_hub_away());
        assert!(error.to_string().starts_with(
            "cannot ask the hub for the list of files of a/b at main: this program was built \
             without the feature `hub`"
        ));

        let remote = RemoteFile { name: "x.json".to_owned(), size: None, sha256: None };
        let list = Listing { commit: "c".to_owned(), files: Vec::new() };
        let error = file(&hub, &list, &remote, &AtomicU64::new(0), &|_| ()).unwrap_err();
        assert!(error.to_string().contains("for x.json of a/b at main"), "{error}");
    }
}
