//! How the hub is reached, out of the environment, and what a person sees of it.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::sync::Mutex;

use dlt_data::{FetchEvent, HUB_ENDPOINT, HubConfig, Token};
use dlt_spec::ExitCode;
use indicatif::{ProgressBar, ProgressStyle};

use crate::environment::{folder, in_user_cache};
use crate::failure::{Failure, Result};
use crate::numbers::decimal;
use crate::output::{self, BARS};
use crate::shown::escaped;

/// Gigabytes that may be fetched for one data set or model.
const MOST_FETCHED: &str = "DLT_MOST_FETCHED_GB";

/// Values of `HF_HUB_OFFLINE` that mean yes, as Python's package reads them.
const YES: [&str; 4] = ["1", "ON", "YES", "TRUE"];

/// `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`, as
/// Python's package reads them; `DLT_MOST_FETCHED_GB` is our own. Proxies are read by the client
/// itself: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`. Nothing where no folder can be
/// found for what is fetched.
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
        return Err(Failure::refused(ExitCode::Usage, message));
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

/// The most that may be fetched for one data set or model.
fn most_bytes() -> Result<Option<u64>> {
    let Some(value) = text(MOST_FETCHED) else { return Ok(None) };
    let bytes =
        value.trim().parse::<u64>().ok().and_then(|gigabytes| gigabytes.checked_mul(1_000_000_000));

    bytes.map(Some).ok_or_else(|| {
        let message = format!("{MOST_FETCHED}: expected a whole number of gigabytes, got {value}");
        Failure::refused(ExitCode::Usage, message)
    })
}

fn home() -> Result<Option<PathBuf>> {
    if let Some(home) = folder("HF_HOME")? {
        return Ok(Some(home));
    }
    in_user_cache("huggingface")
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// What is fetched, a bar for each file on a terminal, else a line.
#[derive(Default)]
pub(crate) struct Fetching {
    bars: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Fetching {
    /// Shows an event.
    pub(crate) fn tell(&self, event: FetchEvent) {
        // A panic elsewhere while bars were moved leaves bars that can still be moved.
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
                    "comparing {file} of the cache with its checksum, {size} MB; once"
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

fn begin(file: &str, bytes: u64) -> ProgressBar {
    let size = decimal(bytes as f64 / 1e6, 1);
    if !output::is_watched() {
        output::note(&format!("fetching {file}, {size} MB"));
        return ProgressBar::hidden();
    }

    let template = "{wide_msg} {bar:25} {bytes}/{total_bytes} {eta}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());

    BARS.add(ProgressBar::new(bytes).with_style(style).with_message(escaped(file).into_owned()))
}
