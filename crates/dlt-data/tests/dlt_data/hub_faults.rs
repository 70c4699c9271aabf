//! A hub that misbehaves: each fault and its message. No fault leaves a file under a final name.

use crate::hub::{LARGE, SMALL, Workplace, books, large};
use dlt_data::{FetchEvent, Token};
use dlt_hub_stand_in::{Fault, RequestKind};
use std::{fs, sync::Mutex, time::Duration};

/// Fetches the large file, which must fail, and returns the message.
fn rejection(place: &Workplace) -> String {
    let error = place.fetch(&[LARGE]).unwrap_err().to_string();
    let final_names: Vec<_> = place
        .files()
        .into_iter()
        .filter(|(name, _)| !name.ends_with(".part") && !name.ends_with(".lock"))
        .collect();
    assert_eq!(final_names, [], "{error}");

    error
}

fn with(at: RequestKind, times: usize, fault: Fault) -> Workplace {
    let place = Workplace::with_books();
    place.hub.misbehave(at, times, fault);
    place
}

const ALWAYS: usize = usize::MAX;

fn status(code: u16) -> Fault {
    Fault::Status { code, retry_after: None }
}

#[test]
fn rejects_a_missing_repository_at_once() {
    for at in [RequestKind::Listing, RequestKind::Resolve, RequestKind::Content] {
        let place = with(at, ALWAYS, status(404));
        let error = rejection(&place);
        assert!(
            error.contains("404") && error.contains("no such repository, revision or file"),
            "{error}"
        );
        assert!(place.hub.requests().len() <= 4, "it was tried again");
    }
}

#[test]
fn rejects_what_needs_a_token_or_another() {
    for (code, has_token, says) in [
        (401, false, "set HF_TOKEN"),
        (401, true, "not accepted"),
        (403, false, "accept the terms"),
        (403, true, "accept the terms on its page, or use another token"),
    ] {
        let mut place = with(RequestKind::Resolve, ALWAYS, status(code));
        place.config.token = has_token.then(|| Token::new("hf_verysecret").unwrap());

        let error = rejection(&place);
        assert!(error.contains(&code.to_string()) && error.contains(says), "{error}");
        assert!(!error.contains("verysecret"), "{error}");
    }
}

#[test]
fn too_many_requests_are_made_again_after_the_pause_that_is_asked_for() {
    let mut place =
        with(RequestKind::Listing, 2, Fault::Status { code: 429, retry_after: Some(0) });
    place.config.patience.first_wait = Duration::from_secs(3_600);
    place.config.patience.longest_wait = Duration::from_secs(3_600);
    assert_eq!(place.listing().unwrap().commit, books().commit());

    let place =
        with(RequestKind::Resolve, ALWAYS, Fault::Status { code: 429, retry_after: Some(1_000) });
    let error = rejection(&place);
    assert!(error.contains("429") && error.contains("too many requests"), "{error}");
}

#[test]
fn a_hub_in_trouble_is_asked_again_and_given_up_in_the_end() {
    for code in [500, 502, 503, 504] {
        for at in [RequestKind::Listing, RequestKind::Resolve, RequestKind::Content] {
            let place = with(at, 2, status(code));
            assert_eq!(fs::read(&place.fetch(&[LARGE]).unwrap()[0]).unwrap(), large());
        }
    }

    for at in [RequestKind::Listing, RequestKind::Resolve, RequestKind::Content] {
        let error = rejection(&with(at, ALWAYS, status(500)));
        assert!(error.contains("500") && error.contains("the hub itself has trouble"), "{error}");
    }
}

#[test]
fn rejects_connections_that_are_always_cut() {
    let error = rejection(&with(RequestKind::Content, ALWAYS, Fault::Cut { after: 10 }));
    assert!(error.contains("broke off at byte"), "{error}");

    for at in [RequestKind::Listing, RequestKind::Resolve] {
        // An answer without a body is complete after its headers: only a list can be cut.
        let place = with(at, 1, Fault::Cut { after: 5 });
        assert_eq!(fs::read(&place.fetch(&[LARGE]).unwrap()[0]).unwrap(), large());
    }

    let error = rejection(&with(RequestKind::Listing, ALWAYS, Fault::Cut { after: 5 }));
    assert!(error.contains("cannot reach the hub"), "{error}");
}

#[test]
fn rejects_a_wrong_size() {
    let size = large().len() as u64;

    for stated in [size - 1, size + 1] {
        for at in [RequestKind::Listing, RequestKind::Resolve] {
            let error = rejection(&with(at, ALWAYS, Fault::Size { stated }));
            assert!(
                error.contains("does not have the size") && error.contains(&stated.to_string()),
                "{error}"
            );
        }

        // The list and the headers agree, but the file differs.
        let place = with(RequestKind::Listing, ALWAYS, Fault::Size { stated });
        place.hub.misbehave(RequestKind::Resolve, ALWAYS, Fault::Size { stated });

        let error = rejection(&place);
        assert!(
            error.contains("does not have the size") || error.contains("broke off at byte"),
            "{error}"
        );
    }
}

#[test]
fn rejects_another_content() {
    let place = with(RequestKind::Content, ALWAYS, Fault::OtherBytes);
    let error = rejection(&place);
    assert!(error.contains("does not have the content") && error.contains("SHA-256"), "{error}");
    assert!(!place.files().iter().any(|(name, _)| name.ends_with(".part")), "wrong bytes are kept");
    place.hub.behave();
    assert_eq!(fs::read(&place.fetch(&[LARGE]).unwrap()[0]).unwrap(), large());

    // A list and a header that disagree about the content.
    let tag = "0".repeat(64);
    let error = rejection(&with(RequestKind::Resolve, ALWAYS, Fault::Etag { tag }));
    assert!(error.contains("does not have the content"), "{error}");
}

#[test]
fn rejects_a_slow_drip() {
    let drip = Fault::Drip { bytes: 1, pause: Duration::from_millis(30) };
    let mut place = with(RequestKind::Content, ALWAYS, drip);
    place.config.patience.stall = Duration::from_millis(120);

    let error = rejection(&place);
    assert!(error.contains("it arrives too slowly") && error.contains("broke off"), "{error}");

    let stop = Fault::Drip { bytes: 100, pause: Duration::from_secs(2) };
    let mut place = with(RequestKind::Content, ALWAYS, stop);
    place.config.patience.stall = Duration::from_millis(80);

    let error = rejection(&place);
    assert!(error.contains("broke off at byte 300 of"), "{error}");
}

#[test]
fn rejects_a_list_that_drips_and_says_that_it_waits() {
    let drip = Fault::Drip { bytes: 1, pause: Duration::from_millis(30) };
    let mut place = with(RequestKind::Listing, ALWAYS, drip);
    place.config.patience.stall = Duration::from_millis(120);

    let events = Mutex::new(Vec::new());
    let error =
        place.fetch_with_events(&[LARGE], &|event| events.lock().unwrap().push(event)).unwrap_err();
    assert!(error.to_string().contains("it arrives too slowly"), "{error}");

    let events = events.into_inner().unwrap();
    assert!(
        matches!(&events[0], FetchEvent::Asking { what, .. } if what.contains("someone/books"))
    );
    assert!(
        matches!(&events[1], FetchEvent::Waiting { reason, .. } if reason.contains("too slowly"))
    );
    assert_eq!(events.len(), 3);

    // Fast enough, but without an end.
    let drip = Fault::Drip { bytes: 1, pause: Duration::from_millis(5) };
    let mut place = with(RequestKind::Listing, ALWAYS, drip);
    place.config.patience.least_bytes_per_s = 1;
    place.config.patience.listing = Duration::from_millis(100);

    let error = place.listing().unwrap_err().to_string();
    assert!(error.contains("it arrives too slowly"), "{error}");
}

#[test]
fn rejects_a_list_of_any_length() {
    let place = with(RequestKind::Listing, ALWAYS, Fault::Padded { bytes: 64 << 20 });
    let error = place.listing().unwrap_err().to_string();
    assert!(error.contains("longer than 64 MiB"), "{error}");
    assert_eq!(place.hub.requests().len(), 1, "it was tried again");
}

#[test]
fn rejects_a_page_instead_of_data() {
    for at in [RequestKind::Listing, RequestKind::Resolve, RequestKind::Content] {
        let error = rejection(&with(at, ALWAYS, Fault::HtmlPage));
        assert!(error.contains("web page") && error.contains("log-in page or a proxy"), "{error}");
    }
}

#[test]
fn rejects_file_names_that_leave_their_folder() {
    for name in [
        "../../../evil.parquet",
        "/evil.parquet",
        "data/../../evil.parquet",
        "data\\..\\evil.parquet",
        "",
    ] {
        let place = with(RequestKind::Listing, ALWAYS, Fault::FileName { name: name.to_owned() });
        let error = rejection(&place);
        assert!(error.contains("leaves its folder"), "{error}");
        assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0, "something was written");
    }
}

#[test]
fn rejects_headers_that_are_paths_or_none() {
    let evil = || "../../../evil".to_owned();
    for (at, fault, says) in [
        (RequestKind::Resolve, Fault::Etag { tag: evil() }, "an entity tag of letters and digits"),
        (RequestKind::Resolve, Fault::Etag { tag: String::new() }, "an entity tag"),
        (RequestKind::Resolve, Fault::Commit { commit: evil() }, "expected commit"),
        (RequestKind::Resolve, Fault::Commit { commit: "0".repeat(40) }, "expected commit"),
        (RequestKind::Listing, Fault::Commit { commit: evil() }, "expected a commit of 40 digits"),
        (RequestKind::Resolve, Fault::NoHeaders, "a redirect that leads nowhere"),
        (RequestKind::Resolve, Fault::NoLocation, "a redirect that leads nowhere"),
    ] {
        let place = with(at, ALWAYS, fault);
        let error = rejection(&place);
        assert!(error.contains("cannot trust the hub's answer") && error.contains(says), "{error}");
        assert!(
            !place.folder.path().join("evil").exists()
                && !place.folder.path().join("evil.part").exists()
        );
    }

    let place = with(RequestKind::Resolve, ALWAYS, Fault::NoHeaders);
    let error = place.fetch(&[SMALL]).unwrap_err().to_string();
    assert!(error.contains("without X-Repo-Commit"), "{error}");
}

#[test]
fn rejects_a_hub_that_does_not_exist() {
    let mut place = Workplace::with_books();
    place.config.endpoint = "http://me:password@127.0.0.1:9".to_owned();
    let error = rejection(&place);
    assert!(error.contains("cannot reach the hub at http://127.0.0.1:9"), "{error}");
    assert!(!error.contains("password"), "{error}");
}
