//! What a run learns from, and where its tokens are kept between runs.

use std::env;
use std::path::PathBuf;

use dlt_data::{Material, Places, Progress, Tokenizer};
use dlt_spec::CheckedSpec;

use crate::failure::Result;
use crate::hub;

/// Loads what a spec names.
pub(crate) fn load(spec: &CheckedSpec, progress: &mut dyn FnMut(Progress)) -> Result<Material> {
    let (cache, hub) = (cache(), hub::config()?);
    let places = Places { cache: cache.as_deref(), hub: hub.as_ref() };
    Ok(Material::load(spec, places, progress)?)
}

/// The tokenizer that a spec names.
pub(crate) fn tokenizer(name: &str) -> Result<Tokenizer> {
    Ok(match hub::config()? {
        Some(hub) => Tokenizer::open_from(name, &hub, &|_| ())?,
        None => Tokenizer::open(name)?,
    })
}

/// `DLT_CACHE`, else `XDG_CACHE_HOME/dlt`, else `~/.cache/dlt`; nothing where none of them is set.
pub(crate) fn cache() -> Option<PathBuf> {
    let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("DLT_CACHE")
        .or_else(|| path("XDG_CACHE_HOME").map(|folder| folder.join("dlt")))
        .or_else(|| path("HOME").map(|home| home.join(".cache").join("dlt")))
}
