//! Functions of shared libraries that are looked up at their first call, so that a program starts
//! without the libraries.
//!
//! A linker uses the first definition of a function that it finds. [`lazy_functions!`] defines
//! functions of a library under the library's own names, in front of the library. Every call by
//! name, in any crate, then reaches the definition here. It finds the real function and jumps to it
//! with the arguments untouched. So nothing makes the system load the library with the program.
#![allow(unsafe_code, reason = "it jumps to functions of another library, which it finds by name")]

use std::error::Error;
use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Replaces a function that is missing: does nothing, and returns an error code.
pub(super) type Answer = extern "C" fn() -> usize;

/// The [`Answer`] with this code.
pub(super) extern "C" fn answer<const CODE: usize>() -> usize {
    CODE
}

/// A shared library that may be missing.
pub(super) struct Library {
    file: &'static str,
    needs: &'static [&'static Library],
    missing: Answer,
    lacking: Answer,
    opened: OnceLock<Result<libloading::Library, String>>,
}

impl Library {
    /// The library in this file, and others that it is useless without. Its functions return the
    /// first code where one of these libraries is missing, and the second code where the library is
    /// older and lacks the function.
    pub(super) const fn new(
        file: &'static str,
        needs: &'static [&'static Self],
        [missing, lacking]: [Answer; 2],
    ) -> Self {
        Self { file, needs, missing, lacking, opened: OnceLock::new() }
    }

    /// Loads the library, once; it stays loaded until the process ends. The error is the file's
    /// name and the reason.
    pub(super) fn open(&self) -> Result<&libloading::Library, &str> {
        let open = || {
            // SAFETY: the program was linked with this library, so the system would have loaded it
            // otherwise.
            unsafe { libloading::Library::new(self.file) }.map_err(|error| {
                // The system's own message begins with the file's name.
                error
                    .source()
                    .map_or_else(|| format!("{}: {error}", self.file), ToString::to_string)
            })
        };

        self.opened.get_or_init(open).as_ref().map_err(String::as_str)
    }

    /// Loads the library, and all that it is useless without.
    pub(super) fn open_all(&self) -> Result<&libloading::Library, &str> {
        let opened = self.open()?;
        self.needs.iter().try_for_each(|library| library.open_all().map(drop))?;
        Ok(opened)
    }
}

/// One function of a library.
#[repr(C)]
pub(super) struct Function {
    /// Its address; null before the first call.
    address: AtomicPtr<c_void>,
    library: &'static Library,
    name: &'static str,
}

impl Function {
    pub(super) const fn new(library: &'static Library, name: &'static str) -> Self {
        Self { address: AtomicPtr::new(ptr::null_mut()), library, name }
    }

    /// Finds the function, or its [`Answer`] where it is missing.
    extern "C" fn find(&self) -> *mut c_void {
        let address =
            self.library.open_all().map_or(self.library.missing as *mut c_void, |library| {
                // SAFETY: the address is only kept and jumped to here; the caller's declaration has
                // the types of arguments and result.
                let found = unsafe { library.get::<*mut c_void>(self.name) };
                found.map_or(self.library.lacking as *mut c_void, |address| *address)
            });

        self.address.store(address, Ordering::Relaxed);
        address
    }
}

/// Finds the [`Function`] that `r11` points to and jumps to it. Everything that may hold an
/// argument is preserved: six registers of integers, `rax` (for a variadic function, the number of
/// vector registers in use), eight vector registers, and the caller's stack. The seven pushes and
/// 128 bytes also align the stack to 16 bytes, which `movaps` and the call need.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn find_and_jump() {
    core::arch::naked_asm!(
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "push rax",
        "sub rsp, 128",
        "movaps [rsp], xmm0",
        "movaps [rsp + 16], xmm1",
        "movaps [rsp + 32], xmm2",
        "movaps [rsp + 48], xmm3",
        "movaps [rsp + 64], xmm4",
        "movaps [rsp + 80], xmm5",
        "movaps [rsp + 96], xmm6",
        "movaps [rsp + 112], xmm7",
        "mov rdi, r11",
        "call {find}",
        "mov r11, rax",
        "movaps xmm0, [rsp]",
        "movaps xmm1, [rsp + 16]",
        "movaps xmm2, [rsp + 32]",
        "movaps xmm3, [rsp + 48]",
        "movaps xmm4, [rsp + 64]",
        "movaps xmm5, [rsp + 80]",
        "movaps xmm6, [rsp + 96]",
        "movaps xmm7, [rsp + 112]",
        "add rsp, 128",
        "pop rax",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "jmp r11",
        find = sym Function::find,
    )
}

/// Defines functions of a library under its own names, which the whole program then calls. With
/// `private`, only the module sees them.
macro_rules! lazy_functions {
    ($library:ident: $($name:ident)+) => {$(
        // Hidden from other libraries, such as NVIDIA's own: each continues to use the functions
        // that it was linked with.
        $crate::gpu::lazy::lazy_functions! {
            @ $library $name concat!(".hidden ", stringify!($name)); #[unsafe(no_mangle)]
        }
    )+};
    (private $library:ident: $($name:ident)+) => {$(
        $crate::gpu::lazy::lazy_functions! { @ $library $name ""; }
    )+};
    (@ $library:ident $name:ident $directive:expr; $(#[$attribute:meta])?) => {
        $(#[$attribute])?
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            use $crate::gpu::lazy::{Function, find_and_jump};

            static FUNCTION: Function = Function::new(&$library, stringify!($name));
            // The address is the first field.
            core::arch::naked_asm!(
                $directive,
                "mov r11, [rip + {function}]",
                "test r11, r11",
                "jz 2f",
                "jmp r11",
                "2:",
                "lea r11, [rip + {function}]",
                "jmp {find_and_jump}",
                function = sym FUNCTION,
                find_and_jump = sym find_and_jump,
            )
        }
    };
}
#[cfg_attr(not(feature = "cuda"), allow(unused_imports, reason = "tests alone use it then"))]
pub(super) use lazy_functions;

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::{c_char, c_int};
    use std::mem::transmute;

    static C: Library = Library::new("libc.so.6", &[], [answer::<77>, answer::<78>]);
    static NONE: Library =
        Library::new("libdlt-has-no-such.so.1", &[], [answer::<79>, answer::<80>]);
    static USELESS: Library = Library::new("libm.so.6", &[&C, &NONE], [answer::<81>, answer::<82>]);

    // Everything else continues to use the C library's own.
    lazy_functions! { private C: snprintf no_such_function }
    lazy_functions! { private NONE: of_no_library }
    lazy_functions! { private USELESS: abs }

    #[test]
    fn arguments_in_every_place_arrive_at_the_first_call_and_later() {
        type Print = unsafe extern "C" fn(*mut c_char, usize, *const c_char, ...) -> c_int;
        // SAFETY: it jumps to the C library's function, which has this signature.
        let print = unsafe { transmute::<unsafe extern "C" fn(), Print>(snprintf) };

        for _ in 0..2 {
            let mut text = [0u8; 128];
            let form = c"%d %d %d %d %d %d|%g %g %g %g %g %g %g %g %g %g";

            // SAFETY: the buffer has the given length, and every place of the format has an
            // argument of its type.
            let length = unsafe {
                print(
                    text.as_mut_ptr().cast(),
                    text.len(),
                    form.as_ptr(),
                    1,
                    2,
                    3,
                    4,
                    5,
                    6,
                    0.5,
                    1.5,
                    2.5,
                    3.5,
                    4.5,
                    5.5,
                    6.5,
                    7.5,
                    8.5,
                    9.5,
                )
            };

            let expected = "1 2 3 4 5 6|0.5 1.5 2.5 3.5 4.5 5.5 6.5 7.5 8.5 9.5";
            assert_eq!(usize::try_from(length).ok(), Some(expected.len()));
            assert_eq!(&text[..expected.len()], expected.as_bytes());
        }
    }

    #[test]
    fn a_missing_library_and_a_missing_function_answer_with_an_error() {
        type Call = unsafe extern "C" fn(u64) -> usize;

        for (function, code) in
            [(of_no_library as unsafe extern "C" fn(), 79), (abs, 81), (no_such_function, 78)]
        {
            // SAFETY: each is replaced by a function without parameters that returns a number.
            let function = unsafe { transmute::<unsafe extern "C" fn(), Call>(function) };

            for _ in 0..2 {
                // SAFETY: as above.
                assert_eq!(unsafe { function(5) }, code);
            }
        }
    }

    #[test]
    fn a_missing_library_is_named_with_the_reason() {
        let text = NONE.open().expect_err("there is none");
        assert!(text.starts_with("libdlt-has-no-such.so.1: cannot open"), "{text}");
        assert!(C.open_all().is_ok() && USELESS.open().is_ok());
        assert_eq!(USELESS.open_all().err(), NONE.open().err());
    }
}
