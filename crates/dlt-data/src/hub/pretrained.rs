//! Models of the hub: config, weights and tokenizer in one folder of this machine.

use crate::{
    error::DataError,
    hub::{Hub, HubConfig, Listing, OnFetch, RemoteFile, RepoName},
    tokenizer::is_companion,
};
use dlt_spec::record::SPEC_FILE;
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// The file that says what a model computes.
const CONFIG_FILE: &str = "config.json";

/// The weights of a model in one file.
const WEIGHTS_FILE: &str = "model.safetensors";

/// Names for weights in one file, and for the index of weights in several. They are in the order in
/// which transformers looks for them.
const LAYOUTS: [(&str, &str); 2] = [
    (WEIGHTS_FILE, "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
];

/// A model of the hub on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedModel {
    /// Name of its repository.
    pub repository: String,
    /// The commit that was fetched.
    pub commit: String,
    /// Folder of its files, in the layout of the repository.
    pub folder: PathBuf,
}

/// The part of an index that says where weights are.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Fetches `OWNER/NAME[@REVISION]`: `config.json` and the weights, as safetensors or else as torch
/// writes them, in one file or several. Also, where they exist, the files of its tokenizer and chat
/// templates, `generation_config.json`, `preprocessor_config.json` and `spec.toml`. If a commit is
/// requested and all its files are on this machine, the hub is not asked. A branch may have moved,
/// so the hub is asked for its commit. If the hub does not answer and all files are on this
/// machine, these are used with a warning.
///
/// # Errors
/// If the name is not valid, the repository lacks config or weights, the hub cannot be reached or
/// misbehaves, or the disk fails.
pub fn fetch_model(
    model: &str,
    hub: &HubConfig,
    on: OnFetch<'_>,
) -> Result<FetchedModel, DataError> {
    let (name, revision) = RepoName::model_at(model)?;
    let offline = hub.offline();
    let cached = {
        let hub = Hub::new(&offline, &name, &revision);
        hub.listing(on).and_then(|listing| gather(&hub, &listing, on))
    };

    let found = match cached {
        Ok(found) if !hub.is_offline && !revision.is_commit() => found,
        Err(_) if !hub.is_offline => {
            let hub = Hub::new(hub, &name, &revision);
            return gather(&hub, &hub.listing(on)?, on);
        }
        settled => return settled,
    };

    // All files are here: the hub is only asked whether the branch has moved.
    match Hub::new(&hub.brief(), &name, &revision).listing(on) {
        Ok(listing) => gather(&Hub::new(hub, &name, &revision), &listing, on),
        Err(error) if error.is_hub_away() => {
            tracing::warn!(
                "{error}; using {name} at commit {} from the cache, {}",
                found.commit,
                hub.cache.display()
            );
            Ok(found)
        }
        Err(error) => Err(error),
    }
}

fn gather(hub: &Hub<'_>, listing: &Listing, on: OnFetch<'_>) -> Result<FetchedModel, DataError> {
    let needed = |wanted: &str| find(listing, wanted).ok_or_else(|| hub.missing(listing, wanted));
    let mut files = vec![needed(CONFIG_FILE)?];
    let found = LAYOUTS.map(|(single, index)| (find(listing, single), find(listing, index)));

    match found.into_iter().find(|(single, index)| single.is_some() || index.is_some()) {
        Some((None, Some(index))) => {
            files.push(index);
            let path = hub.fetch(listing, &[index], on)?.remove(0);
            for part in parts(path)? {
                files.push(needed(&part)?);
            }
        }
        Some((Some(single), _)) => files.push(single),
        _ => files.push(needed(WEIGHTS_FILE)?),
    }

    // What belongs to the model besides its weights. This program's exports contain a spec too.
    let is_beside = |file: &&RemoteFile| {
        file.name == SPEC_FILE || is_companion(&file.name) && file.name != CONFIG_FILE
    };
    files.extend(listing.files.iter().filter(is_beside));

    let mut folder = hub.fetch(listing, &files, on)?.remove(0);
    folder.pop();
    Ok(FetchedModel { repository: hub.name().to_string(), commit: listing.commit.clone(), folder })
}

fn find<'a>(listing: &'a Listing, wanted: &str) -> Option<&'a RemoteFile> {
    listing.files.iter().find(|file| file.name == wanted)
}

/// The files that an index names, each once.
fn parts(index: PathBuf) -> Result<Vec<String>, DataError> {
    let text = dlt_spec::file::read(&index, dlt_spec::file::CONFIGURATION_BYTES)
        .map_err(|source| DataError::Read { path: index.clone(), source })?;
    let read: Index = serde_json::from_slice(&text).map_err(|error| DataError::BadFile {
        path: index,
        format: "index of weights",
        reason: error.to_string(),
    })?;

    let mut files: Vec<String> = read.weight_map.into_values().collect();
    files.sort();
    files.dedup();

    Ok(files)
}
