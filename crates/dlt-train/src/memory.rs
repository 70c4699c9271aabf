//! How much memory this process uses, from the system's own books.

use std::fs;

use dlt_models::binding::Binding;
use dlt_models::memory::{Prediction, StepShape};
use dlt_spec::CheckedSpec;

use crate::Result;
use crate::tying::architecture;

/// Predicts what the training steps of a spec take in a binding, before anything is allocated.
///
/// # Errors
/// Fails where the context is longer than the architecture takes, which a checked spec excludes.
pub fn predict(spec: &CheckedSpec, vocabulary: usize, binding: &Binding) -> Result<Prediction> {
    let shape = StepShape {
        windows: spec.micro_batch(),
        pieces: spec.micro_batches(),
        tokens: spec.model.context,
        checkpointing: spec.training.checkpointing,
        gradient: spec.tying.gradient,
    };
    Ok(dlt_models::memory::predict(architecture(spec, vocabulary).as_ref(), binding, &shape)?)
}

/// Gives freed memory back to the system, where the C library is glibc, which keeps it otherwise.
///
/// Buffers that live long, once they take the place of short-lived ones, leave gaps that no later buffer fits
/// into. Their pages would stay resident for good.
#[allow(unsafe_code, reason = "the C library has no safe interface")]
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes a number of bytes to keep, touches the allocator's free pages only, and may be
    // called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

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
