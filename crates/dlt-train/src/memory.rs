//! How much memory this process uses, from the system's own books.

use std::fs;

/// Resident memory in megabytes (10^6 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Resident {
    /// Now.
    pub now_mb: f64,
    /// Most since the process began.
    pub peak_mb: f64,
}

/// Reads the resident memory; `None` where the system does not tell (anything but Linux).
#[must_use]
pub fn resident() -> Option<Resident> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let megabytes = |kib: f64| kib * 1024.0 / 1e6;
    Some(Resident { now_mb: megabytes(kib("VmRSS:")?), peak_mb: megabytes(kib("VmHWM:")?) })
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn resident_memory_is_told_and_below_its_peak() {
        let resident = super::resident().expect("Linux tells");
        assert!(resident.now_mb > 0.5 && resident.now_mb <= resident.peak_mb);
    }
}
