//! The cache of Python's `huggingface_hub`, as `fixtures/python_hub_cache.py` recorded it from the
//! same stand-in.

use dlt_data::{Hub, HubConfig, RepoName, Revision};
use dlt_hub_stand_in::{Repository, StandIn, catalogue};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// What was fetched: a large and a small file of a data set, a file of another branch, and a file
/// of a model.
fn wanted() -> [(RepoName, &'static str, &'static [&'static str]); 3] {
    let dataset = |name| RepoName::dataset(name).unwrap();
    [
        (
            dataset("cimec/lambada"),
            "main",
            &["plain_text/validation-00000-of-00001.parquet", "README.md"],
        ),
        (
            dataset("ptb-text-only/ptb_text_only"),
            "refs/convert/parquet",
            &["penn_treebank/train/0000.parquet"],
        ),
        (RepoName::model("someone/model").unwrap(), "main", &["config.json"]),
    ]
}

fn recorded() -> BTreeMap<String, Value> {
    let text = include_str!("../fixtures/python_hub_cache.json");
    let recorded: Value = serde_json::from_str(text).unwrap();
    serde_json::from_value(recorded["files"].clone()).unwrap()
}

fn fetch(config: &HubConfig) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (name, revision, files) in wanted() {
        let revision = Revision::new(revision).unwrap();
        let hub = Hub::new(config, &name, &revision);
        let listing = hub.listing(&|_| ()).unwrap();
        let find = |file: &&str| listing.files.iter().find(|remote| remote.name == **file).unwrap();

        paths.extend(
            hub.fetch(&listing, &files.iter().map(find).collect::<Vec<_>>(), &|_| ()).unwrap(),
        );
    }

    paths
}

/// The tree of a cache: links as they are, contents in base64. Locks and notes next to contents are
/// left out.
fn tree(root: &Path, folder: &Path, found: &mut BTreeMap<String, Value>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if let Ok(target) = fs::read_link(&path) {
            found.insert(name, serde_json::json!({ "link": target }));
        } else if path.is_dir() {
            tree(root, &path, found);
        } else if !name.ends_with(".lock") && !name.ends_with(".checked") {
            found.insert(name, serde_json::json!({ "base64": base64(&fs::read(&path).unwrap()) }));
        }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte))
            << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }

    text
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |digit: u8| DIGITS.iter().position(|&other| other == digit).unwrap() as u32;
    let mut bytes = Vec::new();

    for four in text.as_bytes().chunks(4) {
        let digits: Vec<u32> =
            four.iter().filter(|&&digit| digit != b'=').map(|&digit| value(digit)).collect();
        let bits =
            digits.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - digits.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..digits.len()]);
    }

    bytes
}

#[cfg(unix)]
#[test]
fn matches_reference_cache_of_python() {
    let hub = StandIn::start();
    let folder = TempDir::new().unwrap();
    catalogue(8).into_iter().for_each(|repository| hub.serve(repository));
    hub.serve(Repository::model("someone/model").file("config.json", "{}\n"));

    let config = HubConfig { endpoint: hub.endpoint(), ..HubConfig::new(folder.path().to_owned()) };
    fetch(&config);

    let mut ours = BTreeMap::new();
    tree(folder.path(), folder.path(), &mut ours);
    assert_eq!(ours.keys().collect::<Vec<_>>(), recorded().keys().collect::<Vec<_>>());
    assert_eq!(ours, recorded());
}

#[cfg(unix)]
#[test]
fn what_python_fetched_is_found_without_a_hub() {
    let folder = TempDir::new().unwrap();
    let mut contents = BTreeMap::new();

    for (name, entry) in recorded() {
        let path = folder.path().join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();

        match entry["link"].as_str() {
            Some(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            None => {
                let content = from_base64(entry["base64"].as_str().unwrap());
                fs::write(&path, &content).unwrap();
                contents.insert(name, content);
            }
        }
    }

    let config = HubConfig { is_offline: true, ..HubConfig::new(folder.path().to_owned()) };
    let paths = fetch(&config);
    assert_eq!(paths.len(), 4);

    for path in paths {
        let content = fs::read(&path).unwrap();
        assert!(contents.values().any(|recorded| *recorded == content), "{}", path.display());
    }
}
