//! Where and when something was measured: host, date, versions.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::tree::git_in;

/// The flags of a processor with instructions that multiply bf16 matrices.
const BF16_FLAGS: [&str; 2] = ["avx512_bf16", "amx_bf16"];

/// The provenance of a measurement, read before it starts.
#[derive(Clone, Debug)]
pub(crate) struct Provenance {
    pub(crate) date: String,
    /// Model name of the processor.
    pub(crate) processor: String,
    /// `family 6, model 207, stepping 2`: many processors have the same name in a virtual machine.
    pub(crate) processor_kind: Option<String>,
    /// Those of the [`BF16_FLAGS`] that the processor has.
    pub(crate) bf16_flags: Vec<&'static str>,
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
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();

        Self {
            date: date(seconds),
            processor: entry(&cpu, "model name").unwrap_or_else(unknown),
            processor_kind: processor_kind(&cpu),
            bf16_flags: bf16_flags(&cpu),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: fs::read_to_string("/proc/meminfo")
                .ok()
                .and_then(|text| megabytes(&entry(&text, "MemTotal")?)),
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
            "Host: {} ({}), {} cores{memory}, {}. Date: {}{load} at the start; {}, commit {}{dirty}.",
            self.processor,
            self.kind_and_flags(),
            self.cores,
            self.system,
            self.date,
            self.rustc,
            self.commit
        )
    }

    fn kind_and_flags(&self) -> String {
        let kind = self.processor_kind.as_ref().map_or(String::new(), |kind| format!("{kind}; "));
        let flags = match &self.bf16_flags[..] {
            [] => format!("neither {}", BF16_FLAGS.join(" nor ")),
            flags => flags.join(" and "),
        };

        format!("{kind}{flags}")
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "date": self.date, "processor": self.processor, "processor_kind": self.processor_kind,
            "bf16_flags": self.bf16_flags, "cores": self.cores, "memory_mb": self.memory_mb,
            "system": self.system, "load": self.load, "rustc": self.rustc, "commit": self.commit,
            "is_dirty": self.is_dirty,
        })
    }
}

/// Family, model and stepping of the first processor in the text of `/proc/cpuinfo`.
fn processor_kind(cpu: &str) -> Option<String> {
    let [family, model, stepping] = ["cpu family", "model", "stepping"].map(|key| entry(cpu, key));
    Some(format!("family {}, model {}, stepping {}", family?, model?, stepping?))
}

fn bf16_flags(cpu: &str) -> Vec<&'static str> {
    let flags = entry(cpu, "flags").unwrap_or_default();
    let has = |flag: &&str| flags.split_whitespace().any(|word| word == *flag);
    BF16_FLAGS.into_iter().filter(has).collect()
}

/// The first value of a key in the text of a file of `key : value` lines.
fn entry(text: &str, key: &str) -> Option<String> {
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
    fn a_processor_has_its_kind_and_what_multiplies_bf16() {
        let cpu = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: Intel(R) Xeon(R)\n\
                   stepping\t: 2\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n\nprocessor\t: 1\n";
        let mut provenance =
            Provenance::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")));
        provenance.processor = entry(cpu, "model name").unwrap();
        provenance.processor_kind = processor_kind(cpu);
        provenance.bf16_flags = bf16_flags(cpu);
        let kind = "Intel(R) Xeon(R) (family 6, model 207, stepping 2; avx512_bf16 and amx_bf16), ";
        assert!(provenance.sentences().contains(kind), "{provenance:?}");

        provenance.processor_kind = processor_kind("flags : fpu\n");
        provenance.bf16_flags = bf16_flags("flags : fpu avx512_bf16_new\n");
        let kind = "Intel(R) Xeon(R) (neither avx512_bf16 nor amx_bf16), ";
        assert!(provenance.sentences().contains(kind), "{provenance:?}");
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
