//! This program as `dlt --version` and the provenance of runs show it.

use std::sync::LazyLock;

use dlt_run::Program;

use crate::{engine, threads};

/// Version, and the git revision if it is known: `dlt -V`.
pub(crate) const VERSION: &str = env!("DLT_LONG_VERSION");

/// What `dlt --version` prints after the name: version and revision, and what decides how fast it
/// computes. A report of a problem should have all of it.
pub(crate) static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let features = [
        ("figures", cfg!(feature = "figures")),
        ("hub", cfg!(feature = "hub")),
        ("parquet", cfg!(feature = "parquet")),
        ("cuda", cfg!(feature = "cuda")),
        ("mpi", cfg!(feature = "mpi")),
        ("nccl", cfg!(feature = "nccl")),
        ("composed", cfg!(feature = "composed")),
    ];
    let built: Vec<_> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let built = if built.is_empty() { "none".to_owned() } else { built.join(", ") };

    format!(
        "{VERSION}\nfeatures: {built}\nCPU: {}\ncompiler: {}",
        engine::described(),
        env!("DLT_TOOLCHAIN")
    )
});

/// This program, with its present threads and its command line.
pub(crate) fn this() -> Program {
    let revision = env!("DLT_REVISION");

    Program {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: (!revision.is_empty()).then(|| revision.to_owned()),
        toolchain: env!("DLT_TOOLCHAIN").to_owned(),
        threads: threads::current(),
        command_line: std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
    }
}
