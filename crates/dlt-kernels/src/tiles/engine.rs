//! What computes the products of tiles.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{Block, amx, emulated};

static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// A way of multiplying tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The tile registers of AMX.
    Amx,
    /// Fused multiply-adds in f32.
    Emulated,
}

impl Engine {
    /// The fastest way on this machine, or what [`set_engine`] has chosen.
    pub(crate) fn chosen() -> Self {
        match CHOSEN.load(Ordering::Relaxed) {
            1 => Engine::Amx,
            2 => Engine::Emulated,
            _ if amx::is_usable() => Engine::Amx,
            _ => Engine::Emulated,
        }
    }

    /// Gets this thread ready.
    pub(crate) fn start(self) -> Running {
        match self {
            Engine::Amx => Running::Amx(amx::Registers::new()),
            Engine::Emulated => Running::Emulated,
        }
    }
}

/// What computes the products of bf16 activations on this machine, for people: `AMX`, or `f32` where
/// there is no instruction for them.
#[must_use]
pub fn product_engine() -> &'static str {
    match Engine::chosen() {
        Engine::Amx => "AMX",
        Engine::Emulated => "f32",
    }
}

/// A thread that is ready to multiply.
pub(crate) enum Running {
    Amx(amx::Registers),
    Emulated,
}

impl Running {
    pub(super) fn multiply(&self, block: Block<'_>) {
        match self {
            Running::Amx(registers) => registers.multiply(block),
            Running::Emulated => emulated::multiply(block),
        }
    }
}
