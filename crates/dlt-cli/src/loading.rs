//! Where data, tokens and tokenizers are, by the environment, and the loading of what commands read.

use std::env;
use std::path::PathBuf;

use dlt_data::{DataRequest, HubConfig, LoadedText, Material, Places, Progress, Split, Tokenizer};
use dlt_spec::CheckedSpec;
use dlt_spec::spec::DataSpec;

use crate::environment::{folder, in_user_cache};
use crate::failure::{Failure, Result};
use crate::hub;

/// Where data, tokens and tokenizers are, as the environment says.
pub(crate) struct Environment {
    cache: Option<PathBuf>,
    hub: Option<HubConfig>,
    limit: Option<u64>,
}

impl Environment {
    /// Reads the environment.
    ///
    /// # Errors
    /// If a variable has a value that cannot be used.
    pub(crate) fn read() -> Result<Self> {
        Ok(Self { cache: cache()?, hub: hub::config()?, limit: limit()? })
    }

    /// The same, for the libraries.
    pub(crate) fn places(&self) -> Places<'_> {
        Places { cache: self.cache.as_deref(), hub: self.hub.as_ref(), limit: self.limit }
    }
}

/// Loads the data that a spec names.
pub(crate) fn load(spec: &CheckedSpec, progress: &mut dyn FnMut(Progress)) -> Result<Material> {
    Ok(Material::load(spec, Environment::read()?.places(), progress)?)
}

/// Loads one text, or one split of it, as `data` says. The text is not cut into windows.
pub(crate) fn load_text(
    data: &DataSpec,
    split: Option<Split>,
    progress: &mut dyn FnMut(Progress),
) -> Result<LoadedText> {
    let environment = Environment::read()?;
    let Places { cache, hub, limit } = environment.places();
    let request = DataRequest { cache, hub, limit, ..DataRequest::new(data, 1) };

    Ok(dlt_data::load_text(&request, split, progress)?)
}

/// Opens a tokenizer by the name that a spec has for it.
pub(crate) fn tokenizer(name: &str) -> Result<Tokenizer> {
    Ok(dlt_run::open_tokenizer(name, hub::config()?.as_ref())?)
}

/// The folder of cached tokens: `DLT_CACHE`, else `XDG_CACHE_HOME/dlt`, else `~/.cache/dlt`; `None`
/// if none of the variables is set, not even `HOME`.
pub(crate) fn cache() -> Result<Option<PathBuf>> {
    if let Some(cache) = folder("DLT_CACHE")? {
        return Ok(Some(cache));
    }
    in_user_cache("dlt")
}

/// Bytes of tokens that a split may become, by `DLT_CACHE_LIMIT`, as in `100GB`; `None` if it is
/// not set.
pub(crate) fn limit() -> Result<Option<u64>> {
    let Some(text) = env::var_os("DLT_CACHE_LIMIT").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = text.to_string_lossy();

    parse_bytes(&text).map(Some).ok_or_else(|| {
        Failure::usage(format!(
            "DLT_CACHE_LIMIT: expected a number of bytes, MB, GB or TB, as in 100GB, got {text:?}"
        ))
    })
}

/// A whole number of bytes, with or without a unit that is a power of a thousand; `None` if it is
/// no such number or too large.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };

    digits.trim().parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_units() {
        for (text, bytes) in
            [("5", 5), ("5B", 5), ("2kb", 2_000), ("3 MB", 3_000_000), ("100GB", 100_000_000_000)]
        {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }

        for text in ["", "GB", "-1", "1.5GB", "5 apples", "99999999999999999999", "99999999TB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
