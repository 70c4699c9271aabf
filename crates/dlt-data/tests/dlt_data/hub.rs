//! A hub that behaves well: layout, resuming, offline, tokens.

use crate::some_text;
use dlt_data::{
    DataError, FetchEvent, Hub, HubConfig, Listing, Patience, RepoName, Revision, Token,
};
use dlt_hub_stand_in::{Fault, Repository, RequestKind, StandIn};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Duration,
};
use tempfile::TempDir;

pub(crate) const NAME: &str = "someone/books";

/// A stand-in, a folder for the cache, and settings that wait only briefly.
pub(crate) struct Workplace {
    pub(crate) hub: StandIn,
    pub(crate) folder: TempDir,
    pub(crate) config: HubConfig,
}

impl Workplace {
    pub(crate) fn new() -> Self {
        let hub = StandIn::start();
        let folder = TempDir::new().unwrap();
        let patience = Patience {
            tries: 3,
            first_wait: Duration::from_millis(2),
            longest_wait: Duration::from_millis(40),
            stall: Duration::from_millis(400),
            least_bytes_per_s: 2_000,
            listing: Duration::from_secs(5),
        };

        let config = HubConfig {
            endpoint: hub.endpoint(),
            patience,
            ..HubConfig::new(folder.path().join("hub"))
        };

        Self { hub, folder, config }
    }

    /// A workplace whose hub has a repository of two files, a large one and a small one.
    pub(crate) fn with_books() -> Self {
        let place = Self::new();
        place.hub.serve(books());
        place
    }

    pub(crate) fn listing(&self) -> Result<Listing, DataError> {
        let name = RepoName::dataset(NAME).unwrap();
        let revision = Revision::default();
        Hub::new(&self.config, &name, &revision).listing(&|_| ())
    }

    /// Fetches the files with these names.
    pub(crate) fn fetch(&self, names: &[&str]) -> Result<Vec<PathBuf>, DataError> {
        self.fetch_with_events(names, &|_| ())
    }

    pub(crate) fn fetch_with_events(
        &self,
        names: &[&str],
        on: &(dyn Fn(FetchEvent) + Sync),
    ) -> Result<Vec<PathBuf>, DataError> {
        let name = RepoName::dataset(NAME).unwrap();
        let revision = Revision::default();
        let hub = Hub::new(&self.config, &name, &revision);
        let listing = hub.listing(on)?;
        let files: Vec<_> =
            listing.files.iter().filter(|file| names.contains(&file.name.as_str())).collect();

        hub.fetch(&listing, &files, on)
    }

    /// Every file in the hub's cache, with its size.
    pub(crate) fn files(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        walk(&self.config.cache, &self.config.cache, &mut found);
        found.sort();
        found
    }

    /// How often the content of a large file was requested.
    pub(crate) fn downloads(&self) -> usize {
        self.hub.requests().iter().filter(|request| request.path.starts_with("/store/")).count()
    }
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, u64)>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, found);
        } else {
            let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            found.push((path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), size));
        }
    }
}

pub(crate) const LARGE: &str = "data/train-00000-of-00001.parquet";
pub(crate) const SMALL: &str = "README.md";

/// Content of the large file: longer than a piece that is read at a time.
pub(crate) fn large() -> Vec<u8> {
    some_text().repeat(60).into_bytes()
}

pub(crate) fn books() -> Repository {
    Repository::dataset(NAME).file(LARGE, large()).file(SMALL, "# Books\n")
}

#[test]
fn files_are_where_python_looks_for_them() {
    let place = Workplace::with_books();
    let paths = place.fetch(&[LARGE, SMALL]).unwrap();
    assert_eq!(fs::read(&paths[0]).unwrap(), large());

    let commit = books().commit();
    let repository = "datasets--someone--books";
    let names: Vec<String> = place.files().into_iter().map(|(name, _)| name).collect();

    assert_eq!(
        names.iter().filter(|name| name.starts_with(&format!("{repository}/blobs/"))).count(),
        5,
        "two contents, their locks, and what was compared: {names:?}"
    );

    for name in [
        "refs/main".to_owned(),
        format!("snapshots/{commit}/{LARGE}"),
        format!("snapshots/{commit}/{SMALL}"),
    ] {
        assert!(names.contains(&format!("{repository}/{name}")), "{name} is not in {names:?}");
    }

    assert_eq!(
        fs::read_to_string(place.config.cache.join(repository).join("refs/main")).unwrap(),
        commit
    );
    let link = fs::read_link(
        place.config.cache.join(repository).join(format!("snapshots/{commit}/{LARGE}")),
    );
    assert!(link.unwrap().starts_with("../../../blobs"));

    assert!(
        !names.iter().any(|name| name.ends_with(".part") || name.ends_with(".partial")),
        "{names:?}"
    );
}

#[test]
fn files_on_this_machine_are_not_fetched_again() {
    let place = Workplace::with_books();
    place.fetch(&[LARGE]).unwrap();

    let before = place.downloads();
    assert_eq!(before, 1);
    place.fetch(&[LARGE]).unwrap();
    assert_eq!(place.downloads(), before);

    // Another commit with the same content needs only a link.
    place.hub.serve(books().file("new.txt", "new"));
    let paths = place.fetch(&[LARGE]).unwrap();
    assert_eq!((place.downloads(), fs::read(&paths[0]).unwrap()), (before, large()));
}

#[test]
fn a_cut_download_resumes_where_it_was_cut() {
    let size = large().len();

    for after in [0, 1, 65_536, size / 2, size - 1] {
        let place = Workplace::with_books();
        place.hub.misbehave(RequestKind::Content, 1, Fault::Cut { after });

        let paths = place.fetch(&[LARGE]).unwrap();
        assert_eq!(fs::read(&paths[0]).unwrap(), large(), "cut after {after}");

        let ranges: Vec<_> = place
            .hub
            .requests()
            .into_iter()
            .filter(|request| request.path.starts_with("/store/"))
            .map(|request| request.range)
            .collect();

        let second = if after == 0 { None } else { Some((after as u64, None)) };
        assert_eq!(ranges, [None, second]);
    }
}

#[test]
fn a_broken_download_is_kept_and_resumed_by_the_next_process() {
    let mut place = Workplace::with_books();
    place.config.patience.tries = 1;
    place.hub.misbehave(RequestKind::Content, 1, Fault::Cut { after: 70_000 });

    let error = place.fetch(&[LARGE]).unwrap_err().to_string();
    assert!(
        error.contains("broke off at byte 70000 of") && error.contains("the same command resumes"),
        "{error}"
    );

    let whole = |names: &[(String, u64)]| {
        names.iter().filter(|(name, _)| name.contains("/snapshots/")).count()
    };
    assert_eq!(whole(&place.files()), 0, "a partial file has a final name");
    place.hub.behave();

    let paths = place.fetch(&[LARGE]).unwrap();
    assert_eq!(fs::read(&paths[0]).unwrap(), large());
    assert_eq!(place.hub.requests().last().unwrap().range, Some((70_000, None)));
}

#[test]
fn a_server_that_ignores_ranges_begins_again() {
    let place = Workplace::with_books();
    place.hub.misbehave(RequestKind::Content, 1, Fault::Cut { after: 70_000 });
    place.hub.misbehave(RequestKind::Content, 1, Fault::NoRanges);
    assert_eq!(fs::read(&place.fetch(&[LARGE]).unwrap()[0]).unwrap(), large());
}

#[test]
fn a_beginning_that_is_another_files_is_thrown_away() {
    let place = Workplace::with_books();
    // A partial file as an interrupted run leaves it, but with other bytes.
    place.fetch(&[LARGE]).unwrap();

    let blobs = place.config.cache.join("datasets--someone--books/blobs");
    let blob = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
    let blob = blob.into_iter().find(|path| path.extension().is_none()).unwrap();

    for left in
        [vec![b'x'; 1_000], vec![b'x'; large().len()], vec![b'x'; large().len() + 5], large()]
    {
        fs::remove_file(&blob).unwrap();
        fs::write(blob.with_extension("part"), left).unwrap();
        assert_eq!(fs::read(&place.fetch(&[LARGE]).unwrap()[0]).unwrap(), large());
        assert!(!blob.with_extension("part").exists());
    }
}

#[test]
fn offline_the_cache_is_enough_and_nothing_is_asked() {
    let mut place = Workplace::with_books();
    let online = place.fetch(&[LARGE]).unwrap();
    place.config.is_offline = true;

    let asked = place.hub.requests().len();
    assert_eq!(place.listing().unwrap().commit, books().commit());
    assert_eq!(place.fetch(&[LARGE]).unwrap(), online);
    assert_eq!(place.hub.requests().len(), asked);

    let empty = Workplace {
        config: HubConfig { is_offline: true, ..Workplace::new().config },
        ..Workplace::new()
    };

    let error = empty.listing().unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE") && error.contains(NAME), "{error}");
}

#[test]
fn a_token_goes_to_the_hub_and_to_nobody_else() {
    let mut place = Workplace::with_books();
    place.config.token = Token::new("hf_verysecret");
    place.fetch(&[LARGE, SMALL]).unwrap();

    let requests = place.hub.requests();
    for request in &requests {
        let sees = request.authorization.as_deref() == Some("Bearer hf_verysecret");
        assert_eq!(sees, !request.path.starts_with("/store/"), "{request:?}");
    }

    assert!(requests.iter().any(|request| request.path.starts_with("/store/")));

    for fault in [Fault::Status { code: 401, retry_after: None }, Fault::HtmlPage, Fault::NoHeaders]
    {
        place.hub.serve(books().file("other.parquet", format!("{fault:?}")));
        place.hub.misbehave(RequestKind::Resolve, 1, fault);
        let error = place.fetch(&["other.parquet"]).unwrap_err();
        let shown = format!("{error} {error:?} {:?}", place.config);
        assert!(!shown.contains("verysecret") && !shown.contains("0123secret"), "{shown}");
    }
}

#[test]
fn regression_another_port_of_the_same_host_is_not_sent_the_token() {
    for at in [RequestKind::Listing, RequestKind::Resolve] {
        let mut place = Workplace::with_books();
        place.config.token = Token::new("hf_verysecret");

        let other = StandIn::start();
        other.serve(books());
        place.hub.misbehave(at, usize::MAX, Fault::Elsewhere { server: other.endpoint() });
        assert_eq!(fs::read(&place.fetch(&[LARGE]).unwrap()[0]).unwrap(), large());

        let seen = other.requests();
        assert!(!seen.is_empty(), "nobody was sent there");
        assert!(seen.iter().all(|request| request.authorization.is_none()), "{seen:?}");

        let own = place.hub.requests();
        assert!(
            own.iter()
                .all(|request| request.authorization.is_some()
                    != request.path.starts_with("/store/")),
            "{own:?}"
        );
    }
}

#[test]
fn rejects_redirects_in_a_circle() {
    let place = Workplace::with_books();
    place.hub.misbehave(
        RequestKind::Listing,
        usize::MAX,
        Fault::Elsewhere { server: place.hub.endpoint() },
    );

    let error = place.listing().unwrap_err().to_string();
    assert!(error.contains("redirects in a circle"), "{error}");
    assert_eq!(place.hub.requests().len(), 6);
}

/// The path of the content of the large file.
fn blob(place: &Workplace) -> PathBuf {
    fs::canonicalize(&place.fetch(&[LARGE]).unwrap()[0]).unwrap()
}

#[test]
fn regression_a_damaged_file_of_the_cache_is_fetched_again() {
    let place = Workplace::with_books();
    let blob = blob(&place);
    let mut damaged = large();

    damaged[1_000] ^= 1;
    fs::write(&blob, &damaged).unwrap();
    assert_eq!(fs::read(&place.fetch(&[LARGE]).unwrap()[0]).unwrap(), large());
    assert_eq!(place.downloads(), 2);

    // The same content reached by another commit.
    fs::write(&blob, &damaged).unwrap();
    place.hub.serve(books().file("new.txt", "new"));
    assert_eq!(fs::read(&place.fetch(&[LARGE]).unwrap()[0]).unwrap(), large());
    assert_eq!(place.downloads(), 3);
}

#[test]
fn rejects_a_damaged_file_of_the_cache_offline() {
    let mut place = Workplace::with_books();
    let blob = blob(&place);
    let mut damaged = large();

    damaged[1_000] ^= 1;
    fs::write(&blob, &damaged).unwrap();
    place.config.is_offline = true;

    let error = place.fetch(&[LARGE]).unwrap_err().to_string();
    let digits = blob.file_name().unwrap().to_string_lossy();
    assert!(
        error.contains("is damaged") && error.contains(&format!("expected {digits}")),
        "{error}"
    );
    assert_eq!(fs::read(&blob).unwrap(), damaged, "it was changed, or removed");
}

#[test]
fn rejects_more_than_may_be_fetched() {
    let mut place = Workplace::with_books();
    place.config.most_bytes = large().len() as u64 - 1;

    let error = place.fetch(&[LARGE]).unwrap_err().to_string();
    assert!(error.contains("DLT_MOST_FETCHED_GB") && error.contains(NAME), "{error}");

    // The same if only the file's own headers state its size.
    place.hub.misbehave(RequestKind::Listing, 1, Fault::BareListing);
    let error = place.fetch(&[LARGE]).unwrap_err().to_string();
    assert!(error.contains("DLT_MOST_FETCHED_GB"), "{error}");
    assert_eq!(place.downloads(), 0);
    place.config.most_bytes += 1;
    place.fetch(&[LARGE]).unwrap();
}

#[test]
fn a_list_without_sizes_is_enough() {
    let place = Workplace::with_books();
    place.hub.misbehave(RequestKind::Listing, 1, Fault::BareListing);
    let paths = place.fetch(&[LARGE, SMALL]).unwrap();
    assert_eq!(fs::read(&paths[0]).unwrap(), large());
    assert_eq!(fs::read(&paths[1]).unwrap(), b"# Books\n");
}

#[test]
fn names_with_blanks_are_fetched() {
    let place = Workplace::new();
    place.hub.serve(Repository::dataset(NAME).file("some data/part 1.parquet", large()));
    assert_eq!(fs::read(&place.fetch(&["some data/part 1.parquet"]).unwrap()[0]).unwrap(), large());
}

#[test]
fn many_fetchers_at_once_download_each_file_once() {
    let place = Workplace::new();
    let names: Vec<String> = (0..6).map(|part| format!("data/train-{part}.parquet")).collect();
    let fill = |repository: Repository, name: &String| {
        repository.file(name, format!("{name} ").repeat(9_000))
    };

    place.hub.serve(names.iter().fold(Repository::dataset(NAME), fill));
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for (path, name) in place.fetch(&wanted).unwrap().iter().zip(&names) {
                    assert_eq!(fs::read_to_string(path).unwrap(), format!("{name} ").repeat(9_000));
                }
            });
        }
    });

    assert_eq!(place.downloads(), 6);
}

#[test]
fn progress_reports_every_file() {
    let place = Workplace::with_books();
    place.hub.misbehave(RequestKind::Content, 1, Fault::Status { code: 503, retry_after: None });

    let events = Mutex::new(Vec::new());
    place.fetch_with_events(&[LARGE], &|event| events.lock().unwrap().push(event)).unwrap();

    let events = events.into_inner().unwrap();
    let size = large().len() as u64;
    assert!(
        matches!(&events[1], FetchEvent::Waiting { file, reason, .. } if file == LARGE && reason.contains("503"))
    );
    assert!(events.contains(&FetchEvent::At { file: LARGE.to_owned(), bytes: size, of: size }));
    assert_eq!(events.last(), Some(&FetchEvent::Done { file: LARGE.to_owned() }));
}
