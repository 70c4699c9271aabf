//! What computes the products of tiles.

use super::{Block, amx, emulated};

/// A way of multiplying tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The tile registers of AMX.
    Amx,
    /// Fused multiply-adds in f32.
    Emulated,
}

impl Engine {
    /// The fastest way on this machine.
    pub(crate) fn best() -> Self {
        if amx::is_usable() { Engine::Amx } else { Engine::Emulated }
    }

    /// Gets this thread ready.
    pub(super) fn start(self) -> Running {
        match self {
            Engine::Amx => Running::Amx(amx::Registers::new()),
            Engine::Emulated => Running::Emulated,
        }
    }
}

/// A thread that is ready to multiply.
pub(super) enum Running {
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
