//! Where and when something was measured: host, date, versions.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::tree::git_in;

/// The provenance of a measurement, read before it starts.
#[derive(Clone, Debug)]
pub(crate) struct Provenance {
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mb: Option<u64>,
    pub(crate) system: String,
    /// Load average over one minute. Other work on the machine makes measurements worse.
    pub(crate) load: Option<String>,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    /// Whether files differ from that commit.
    pub(crate) is_dirty: bool,
}

impl Provenance {
    pub(crate) fn read(root: &Path) -> Self {
        let seconds =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let said = |command: &mut Command| {
            let output = command.output().ok().filter(|output| output.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };

        let git = |arguments: &[&str]| {
            said(git_in(root).args(["-c", "safe.directory=*"]).args(arguments))
        };
        let unknown = || "unknown".to_owned();

        Self {
            date: date(seconds),
            processor: entry("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: entry("/proc/meminfo", "MemTotal").and_then(|text| megabytes(&text)),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            load: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split_whitespace().next().map(str::to_owned)),
            rustc: said(Command::new("rustc").arg("--version").current_dir(root))
                .unwrap_or_else(unknown),
            commit: git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(unknown),
            is_dirty: git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty()),
        }
    }

    /// Two sentences for the top of a page.
    pub(crate) fn sentences(&self) -> String {
        let memory = self.memory_mb.map_or(String::new(), |mb| format!(", {mb} MB of memory"));
        let load =
            self.load.as_ref().map_or(String::new(), |load| format!(", load average {load}"));
        let dirty = if self.is_dirty { " **with uncommitted changes**" } else { "" };

        format!(
            "Host: {}, {} cores{memory}, {}. Date: {}{load} at the start; {}, commit {}{dirty}.",
            self.processor, self.cores, self.system, self.date, self.rustc, self.commit
        )
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "date": self.date, "processor": self.processor, "cores": self.cores, "memory_mb": self.memory_mb,
            "system": self.system, "load": self.load, "rustc": self.rustc, "commit": self.commit,
            "is_dirty": self.is_dirty,
        })
    }
}

/// The first value of a key in a file of `key : value` lines.
fn entry(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)?;

    Some(value.trim().to_owned())
}

/// Converts `1024 kB`, as Linux writes it, to 10^6 bytes.
fn megabytes(text: &str) -> Option<u64> {
    Some(text.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024 / 1_000_000)
}

/// The day in UTC, by the Gregorian calendar.
fn date(seconds_since_1970: u64) -> String {
    let is_leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    let mut days = seconds_since_1970 / 86_400;
    let mut year = 1970;
    let mut month = 0;

    while days >= if is_leap(year) { 366 } else { 365 } {
        days -= if is_leap(year) { 366 } else { 365 };
        year += 1;
    }

    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }

    format!("{year}-{:02}-{:02}", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        let dates = [0, 86_399, 951_782_400, 1_709_164_800, 1_735_689_599, 1_795_478_400].map(date);
        let expected =
            ["1970-01-01", "1970-01-01", "2000-02-29", "2024-02-29", "2024-12-31", "2026-11-24"];
        assert_eq!(dates, expected);
    }

    #[test]
    fn memory_is_in_millions_of_bytes() {
        assert_eq!(megabytes("24684100 kB"), Some(25_276));
        assert_eq!(megabytes("many"), None);
    }

    #[test]
    fn uncommitted_changes_are_shown() {
        let mut provenance =
            Provenance::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")));
        provenance.is_dirty = true;
        assert!(
            provenance.sentences().ends_with("**with uncommitted changes**."),
            "{provenance:?}"
        );
        provenance.is_dirty = false;
        assert!(!provenance.sentences().contains("uncommitted"), "{provenance:?}");
    }
}
