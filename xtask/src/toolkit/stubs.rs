//! Stub libraries with the names of CUDA's functions and without their work. A program can be linked
//! with them without an installed CUDA. Loaded in place of the driver, every function reports that
//! there is no device.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use dlt_study::program::{make_folder, read};

/// The libraries that candle links, by cudarc's module, with the version in the file name. `error` is
/// an error code of the library. For the driver it means that there is no device; for the others it
/// mostly means that they are not ready.
const LIBRARIES: [Library; 6] = [
    Library { module: "driver", name: "cuda", version: 1, error: 100 },
    Library { module: "nvrtc", name: "nvrtc", version: 13, error: 1 },
    Library { module: "curand", name: "curand", version: 10, error: 101 },
    Library { module: "cublas", name: "cublas", version: 13, error: 1 },
    Library { module: "cublaslt", name: "cublasLt", version: 13, error: 1 },
    Library { module: "nccl", name: "nccl", version: 2, error: 1 },
];

struct Library {
    module: &'static str,
    name: &'static str,
    version: u32,
    error: u32,
}

/// What a function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gives {
    Number,
    Text,
    Nothing,
}

/// Compiles the stubs of every library from cudarc's sources.
pub(super) fn make(cudarc: &Path, folder: &Path) -> Result<()> {
    make_folder(folder)?;
    for library in &LIBRARIES {
        let path = cudarc.join(library.module).join("sys").join("mod.rs");
        let text = read(&path)?;
        let functions = functions(&text);

        ensure!(
            !functions.is_empty(),
            "expected functions in {}, got none: the layout of cudarc has changed",
            path.display()
        );

        let source = folder.join(format!("{}.c", library.name));
        fs::write(&source, in_c(&functions, library.error))
            .with_context(|| format!("cannot write {}", source.display()))?;
        compile(&source, folder, library)?;
    }

    Ok(())
}

fn compile(source: &Path, folder: &Path, library: &Library) -> Result<()> {
    let named = format!("lib{}.so.{}", library.name, library.version);
    let output = Command::new("gcc")
        .args(["-shared", "-fPIC", "-w", &format!("-Wl,-soname,{named}"), "-o"])
        .arg(folder.join(&named))
        .arg(source)
        .output()
        .context("cannot start gcc")?;

    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "gcc cannot make {named}: {}", said.trim());

    super::link(&named, &folder.join(format!("lib{}.so", library.name)))
}

/// The functions that bindgen declares in a text, each name once. Several versions of CUDA can
/// declare the same name.
fn functions(text: &str) -> BTreeSet<(&str, Gives)> {
    let mut functions = BTreeSet::new();
    for line in text.lines() {
        let Some(rest) = line.trim_start().strip_prefix("pub unsafe fn ") else { continue };
        let Some((name, signature)) = rest.split_once('(') else { continue };
        let gives = match signature.rsplit_once("->") {
            None => Gives::Nothing,
            Some((_, result)) if result.trim_start().starts_with('*') => Gives::Text,
            Some(_) => Gives::Number,
        };

        if !functions.iter().any(|&(known, _)| known == name) {
            functions.insert((name, gives));
        }
    }

    functions
}

fn in_c(functions: &BTreeSet<(&str, Gives)>, error: u32) -> String {
    let mut source = String::new();
    for (name, gives) in functions {
        source += &match gives {
            Gives::Number => format!("unsigned long {name}(void) {{ return {error}; }}\n"),
            Gives::Text => {
                format!("const char *{name}(void) {{ return \"a stub, for linking only\"; }}\n")
            }
            Gives::Nothing => format!("void {name}(void) {{}}\n"),
        };
    }

    source
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &str = "pub unsafe fn cuInit(Flags: ::core::ffi::c_uint) -> CUresult {\n    unsafe { \
                            cuInit(Flags) }\n}\n#[cfg(feature = \"x\")]\npub unsafe fn cuInit(a: F) -> CUresult \
                            {\npub unsafe fn nameOf(a: A) -> *const ::core::ffi::c_char {\npub unsafe fn done(a: A) \
                            {\npub type F = unsafe extern \"C\" fn(A) -> B;\n";

    #[test]
    fn every_declared_function_has_a_stub() {
        let found: Vec<_> = functions(DECLARED).into_iter().collect();
        let expected =
            [("cuInit", Gives::Number), ("done", Gives::Nothing), ("nameOf", Gives::Text)];
        assert_eq!(found, expected);
    }

    #[test]
    fn stubs_say_that_there_is_no_device() {
        let source = in_c(&functions(DECLARED), 100);
        assert!(source.contains("unsigned long cuInit(void) { return 100; }\n"), "{source}");
        assert!(source.contains("const char *nameOf(void)"), "{source}");
    }

    #[test]
    fn rejects_sources_without_functions() {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("driver").join("sys");
        fs::create_dir_all(&module).unwrap();
        fs::write(module.join("mod.rs"), "").unwrap();

        let error = make(folder.path(), &folder.path().join("stubs")).unwrap_err().to_string();
        assert!(error.contains("the layout of cudarc has changed"), "{error}");
    }
}
