//! The tile registers of Intel's AMX. Rust has no stable intrinsics for AMX yet, so the instructions
//! are assembly.
#![allow(unsafe_code, reason = "AMX has no stable intrinsics")]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{Block, EDGE, Tile};

/// Whether this process may use AMX with bf16. The first call asks the system for permission.
pub(super) fn is_usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| has_amx() && is_permitted())
}

/// Whether the processor has AMX for bf16, and the system saves its registers.
fn has_amx() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const XSAVE: u32 = 1 << 27;
    const TILE_STATES: u64 = 1 << 17 | 1 << 18;

    if __cpuid(0).eax < 7 || __cpuid(1).ecx & XSAVE == 0 {
        return false;
    }

    let features = __cpuid_count(7, 0).edx;
    // SAFETY: the processor has XSAVE, and the system has switched it on (checked above).
    let states = unsafe { enabled_states() };

    features & BF16 != 0 && features & TILE != 0 && states & TILE_STATES == TILE_STATES
}

/// The registers that the system saves when it switches between threads.
///
/// # Safety
/// The system must have switched XSAVE on.
#[target_feature(enable = "xsave")]
unsafe fn enabled_states() -> u64 {
    // SAFETY: register 0 exists wherever XSAVE does.
    unsafe { _xgetbv(0) }
}

/// Linux gives the tile registers only to a process that has asked for them.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;

    // SAFETY: this system call reads and writes no memory of the process. It changes the registers
    // that are named here.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }

    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// The shape of the eight tile registers, as `ldtilecfg` reads it.
#[repr(C, align(64))]
struct Shape([u8; 64]);

/// All eight registers have 16 rows of 64 bytes.
const SHAPE: Shape = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut register = 0;
    while register < 8 {
        bytes[16 + 2 * register] = 64;
        bytes[48 + register] = 16;
        register += 1;
    }
    Shape(bytes)
};

/// The tile registers of this thread, with their shape set. They are released when it is dropped.
/// While it exists, the thread must not wait for other tasks: one of them could run on it and release
/// the registers.
pub(crate) struct Registers {
    /// The shape belongs to the thread that set it, so this type must not move to another one.
    owner: PhantomData<*const ()>,
}

impl Registers {
    /// Sets the shape of this thread's registers.
    ///
    /// # Panics
    /// When the process may not use AMX, which is a bug in the caller.
    pub(super) fn new() -> Self {
        assert!(is_usable(), "AMX on a machine without it");
        let shape = &SHAPE.0;
        // SAFETY: the process may use AMX, and `shape` is 64 bytes of a valid shape.
        unsafe { asm!("ldtilecfg [{}]", in(reg) shape, options(nostack, readonly)) };
        Registers { owner: PhantomData }
    }

    /// Computes one block.
    pub(super) fn multiply(&self, block: Block<'_>) {
        let Block { left, right, out, stride, adds } = block;
        let steps = left.len() / 2;

        // SAFETY: this thread's registers have their shape, because `self` exists. Each step reads
        // two tiles of `left` and of `right`, which both hold `2 steps` tiles; `steps` is at least
        // one. Four tiles of 16 rows of 64 bytes are read from and written to `out`, whose rows are
        // `stride` numbers apart: `Block` has checked that the last row ends inside it.
        unsafe {
            asm!(
                "test {adds:e}, {adds:e}",
                "jz 2f",
                "tileloadd tmm0, [{top} + {stride}]",
                "tileloadd tmm1, [{top} + {stride} + 64]",
                "tileloadd tmm2, [{bottom} + {stride}]",
                "tileloadd tmm3, [{bottom} + {stride} + 64]",
                "jmp 3f",
                "2:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "3:",
                "tileloadd tmm4, [{left} + {row}]",
                "tileloadd tmm6, [{right} + {row}]",
                "tileloadd tmm7, [{right} + {row} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{left} + {row} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {left}, 2048",
                "add {right}, 2048",
                "dec {steps}",
                "jnz 3b",
                "tilestored [{top} + {stride}], tmm0",
                "tilestored [{top} + {stride} + 64], tmm1",
                "tilestored [{bottom} + {stride}], tmm2",
                "tilestored [{bottom} + {stride} + 64], tmm3",
                adds = in(reg) u32::from(adds),
                top = in(reg) out.as_mut_ptr(),
                bottom = in(reg) out.as_mut_ptr().wrapping_add(EDGE / 2 * stride),
                stride = in(reg) stride * size_of::<f32>(),
                row = in(reg) size_of::<[u32; 16]>(),
                left = inout(reg) left.as_ptr() => _,
                right = inout(reg) right.as_ptr() => _,
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: the process may use AMX, because `self` exists. A released register costs the
        // system nothing when it switches threads.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

const _: () = assert!(size_of::<Tile>() == 1024);
