//! What computes the products of tiles.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Block, emulated};
#[cfg(target_arch = "x86_64")]
use super::{amx, dots};

/// The number of the engine that [`set_product_engine`] chose, in [`Engine::ALL`]; one behind the
/// last means the fastest.
static CHOSEN: AtomicUsize = AtomicUsize::new(Engine::ALL.len());

/// A way of multiplying tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The tile registers of AMX.
    Amx,
    /// The instruction of AVX512-BF16.
    Dots,
    /// Fused multiply-adds in f32.
    Emulated,
}

/// What multiplies bf16 matrices in this process, for people: `AMX`, `AVX512-BF16`, or `f32` where
/// there is no instruction for them.
#[must_use]
pub fn product_engine() -> &'static str {
    match Engine::chosen() {
        Engine::Amx => "AMX",
        Engine::Dots => "AVX512-BF16",
        Engine::Emulated => "f32",
    }
}

/// Makes every product of bf16 matrices that begins after this call run on `name`: `amx`,
/// `avx512-bf16` or `f32`. It is for tests and comparisons, because other engines have other last
/// bits.
///
/// # Errors
/// A message with the possible names, if this machine has no such engine.
pub fn set_product_engine(name: &str) -> Result<(), String> {
    let usable = |engine: &Engine| engine.is_usable();
    match Engine::ALL.iter().position(|engine| engine.name() == name && usable(engine)) {
        Some(number) => {
            CHOSEN.store(number, Ordering::Relaxed);
            Ok(())
        }
        None => {
            let names: Vec<_> =
                Engine::ALL.into_iter().filter(usable).map(|engine| engine.name()).collect();
            Err(format!("expected {} on this machine, got {name}", names.join(" or ")))
        }
    }
}

impl Engine {
    const ALL: [Engine; 3] = [Engine::Amx, Engine::Dots, Engine::Emulated];

    /// The fastest on this machine, or what [`set_product_engine`] chose.
    pub(crate) fn chosen() -> Self {
        Engine::ALL.get(CHOSEN.load(Ordering::Relaxed)).copied().unwrap_or_else(Engine::fastest)
    }

    fn fastest() -> Self {
        if Engine::Amx.is_usable() {
            Engine::Amx
        } else if Engine::Dots.is_usable() && !is_slow_at_dots() {
            Engine::Dots
        } else {
            Engine::Emulated
        }
    }

    fn name(self) -> &'static str {
        match self {
            Engine::Amx => "amx",
            Engine::Dots => "avx512-bf16",
            Engine::Emulated => "f32",
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_usable(self) -> bool {
        match self {
            Engine::Amx => amx::is_usable(),
            Engine::Dots => dots::is_usable(),
            Engine::Emulated => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn is_usable(self) -> bool {
        self == Engine::Emulated
    }

    /// Gets this thread ready.
    ///
    /// # Panics
    /// When this machine lacks the engine, which is a bug in the caller.
    pub(crate) fn start(self) -> Running {
        match self {
            #[cfg(target_arch = "x86_64")]
            Engine::Amx => Running::Amx(amx::Registers::new()),
            #[cfg(target_arch = "x86_64")]
            Engine::Dots => Running::Dots,
            _ => Running::Emulated,
        }
    }
}

/// Whether the instruction of AVX512-BF16 is slower than multiply-adds of f32. On Intel's processors
/// it has half their rate.
#[cfg(target_arch = "x86_64")]
fn is_slow_at_dots() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_slow_at_dots() -> bool {
    true
}

/// A thread that is ready to multiply.
pub(crate) enum Running {
    #[cfg(target_arch = "x86_64")]
    Amx(amx::Registers),
    #[cfg(target_arch = "x86_64")]
    Dots,
    Emulated,
}

impl Running {
    pub(super) fn multiply(&self, block: Block<'_>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Running::Amx(registers) => registers.multiply(block),
            #[cfg(target_arch = "x86_64")]
            Running::Dots => dots::multiply(block),
            Running::Emulated => emulated::multiply(block),
        }
    }
}
