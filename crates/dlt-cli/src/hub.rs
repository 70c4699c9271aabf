//! The configuration of the hub, read from the environment, and the display of what is fetched.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::sync::Mutex;

use dlt_data::{FetchEvent, HUB_ENDPOINT, HubConfig, Token};
use indicatif::ProgressBar;

use crate::environment::{folder, in_user_cache};
use crate::failure::{Failure, Result};
use crate::numbers::decimal;
use crate::output::{self, BARS, bar_style};
use crate::shown::escaped;

/// Variable with the most gigabytes to fetch for one data set or model.
const MOST_FETCHED: &str = "DLT_MOST_FETCHED_GB";

/// Values of `HF_HUB_OFFLINE` that mean yes, as Python's package reads them.
const YES: [&str; 4] = ["1", "ON", "YES", "TRUE"];

/// The configuration by `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and
/// `HF_HUB_OFFLINE`, read as Python's package reads them, and by our own `DLT_MOST_FETCHED_GB`. The
/// client itself reads the proxies: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`. `None` if
/// there is no folder for what is fetched.
///
/// # Errors
/// If a variable has a value that cannot be used.
pub(crate) fn config() -> Result<Option<HubConfig>> {
    let home = home()?;
    let folder_of_cache = match (folder("HF_HUB_CACHE")?, &home) {
        (Some(cache), _) => cache,
        (None, Some(home)) => home.join("hub"),
        (None, None) => return Ok(None),
    };

    let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB_ENDPOINT.to_owned());
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        let message = "HF_ENDPOINT: expected an address that begins with http:// or https://";
        return Err(Failure::usage(message));
    }

    let file = folder("HF_TOKEN_PATH")?.or_else(|| home.map(|home| home.join("token")));
    let usual = HubConfig::new(folder_of_cache);
    let saved = || {
        Token::new(&dlt_spec::file::read_text(&file?, dlt_spec::file::CONFIGURATION_BYTES).ok()?)
    };

    Ok(Some(HubConfig {
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        token: text("HF_TOKEN").and_then(|token| Token::new(&token)).or_else(saved),
        is_offline: text("HF_HUB_OFFLINE")
            .is_some_and(|value| YES.contains(&value.to_uppercase().as_str())),
        most_bytes: most_bytes()?.unwrap_or(usual.most_bytes),
        ..usual
    }))
}

/// The most bytes to fetch for one data set or model, if the variable sets it.
fn most_bytes() -> Result<Option<u64>> {
    let Some(value) = text(MOST_FETCHED) else { return Ok(None) };
    let bytes =
        value.trim().parse::<u64>().ok().and_then(|gigabytes| gigabytes.checked_mul(1_000_000_000));

    bytes.map(Some).ok_or_else(|| {
        Failure::usage(format!("{MOST_FETCHED}: expected a whole number of gigabytes, got {value}"))
    })
}

/// The folder of Python's package: `HF_HOME`, or else one in the user's cache.
fn home() -> Result<Option<PathBuf>> {
    if let Some(home) = folder("HF_HOME")? {
        return Ok(Some(home));
    }
    in_user_cache("huggingface")
}

/// The value of a variable, if it is set and not blank.
fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Shows what is fetched: a bar for each file on a terminal, a line elsewhere.
#[derive(Default)]
pub(crate) struct Fetching {
    bars: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Fetching {
    /// Shows an event.
    pub(crate) fn show(&self, event: FetchEvent) {
        // A poisoned lock is harmless: whatever a panicking thread left, the bars can still be
        // moved.
        let mut bars = self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner);

        match event {
            FetchEvent::At { file, bytes, of } => {
                let bar = bars.entry(file.clone()).or_insert_with(|| begin(&file, of));
                bar.set_position(bytes);
            }
            FetchEvent::Asking { what, endpoint } => {
                output::note(&format!("asking {endpoint} for {what}"))
            }
            FetchEvent::Comparing { file, of } => {
                let size = decimal(of as f64 / 1e6, 0);
                output::note(&format!(
                    "checking {file} in the cache against its checksum, {size} MB; this is done once"
                ));
            }
            FetchEvent::Waiting { file, wait_ms, reason } => {
                let seconds = decimal(wait_ms as f64 / 1000.0, 1);
                output::note(&format!("{file}: {reason}; trying again in {seconds} s"));
            }
            FetchEvent::Done { file } => {
                if let Some(bar) = bars.remove(&file) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }
}

/// A bar for a file on a terminal. Elsewhere a line is written, and the bar stays hidden.
fn begin(file: &str, bytes: u64) -> ProgressBar {
    let size = decimal(bytes as f64 / 1e6, 1);
    if !output::is_watched() {
        output::note(&format!("fetching {file}, {size} MB"));
        return ProgressBar::hidden();
    }

    let template = "{wide_msg} {bar:25} {bytes}/{total_bytes} {eta}";
    let bar = ProgressBar::new(bytes).with_style(bar_style(template));

    BARS.add(bar.with_message(escaped(file).into_owned()))
}
