//! The provenance of a run: program, machine, data and command line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use dlt_data::{BadRows, Material, Split};
use dlt_spec::record::{
    Boundary, DataBadRows, DataColumn, DataProvenance, FIGURES_REVISION, Host, PROVENANCE_FILE,
    Processes, Provenance, RECORD_SCHEMA, ResumeProvenance,
};
use dlt_spec::spec::{Pipeline, Separator};
use dlt_spec::{Change, CheckedSpec, Spec, file, fingerprint};
use dlt_train::{World, product_engine};

use crate::Result;

/// The program that makes a run, as its provenance records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// The git revision that it is built from, if that is known.
    pub revision: Option<String>,
    /// The compiler, or `unknown`.
    pub toolchain: String,
    /// Threads that compute.
    pub threads: usize,
    /// The command line, word by word; empty if there is none.
    pub command_line: Vec<String>,
}

impl Program {
    /// A program of this version, of which nothing else is known. It computes with `threads`
    /// threads.
    #[must_use]
    pub fn new(version: &str, threads: usize) -> Self {
        Self {
            version: version.to_owned(),
            revision: None,
            toolchain: "unknown".to_owned(),
            threads,
            command_line: Vec::new(),
        }
    }
}

/// The provenance that is written before the first step of a run.
#[must_use]
pub fn of(spec: &CheckedSpec, material: &Material, device: &str, program: &Program) -> Provenance {
    let data = material.provenance();
    let amount = |split| match material.tokens() {
        Some(tokens) => tokens.split(split).len() as u64,
        None => material.examples(split).count() as u64,
    };

    let data = DataProvenance {
        source: data.source.clone(),
        sha256: data.sha256.clone(),
        commit: data.hub.as_ref().map(|hub| format!("{}@{}", hub.repository, hub.commit)),
        column: data.column.as_ref().map(|column| DataColumn {
            name: column.name.clone(),
            chosen: column.chosen.name().to_owned(),
        }),
        bad_rows: bad_rows(&data.bad_rows),
        tokenizer: data.tokenizer.clone(),
        train_tokens: amount(Split::Train),
        validation_tokens: amount(Split::Validation),
        test_tokens: material.has(Split::Test).then(|| amount(Split::Test)),
        boundary: data.boundary,
        plan: data.plan.clone(),
        class_names: data.class_names.clone(),
    };

    with_data(spec, data, device, program)
}

fn bad_rows(rows: &BadRows) -> Option<DataBadRows> {
    let BadRows { empty, skipped, ref first } = *rows;
    (empty + skipped > 0).then(|| DataBadRows { empty, skipped, first: first.clone() })
}

/// The provenance of a model that was made elsewhere: it is not known what it was trained on.
pub(crate) fn of_import(
    spec: &CheckedSpec,
    model: &str,
    tokenizer: String,
    program: &Program,
) -> Provenance {
    let data = DataProvenance {
        source: model.to_owned(),
        sha256: String::new(),
        commit: None,
        column: None,
        bad_rows: None,
        tokenizer,
        train_tokens: 0,
        validation_tokens: 0,
        test_tokens: None,
        boundary: None,
        plan: None,
        class_names: Vec::new(),
    };

    with_data(spec, data, "cpu", program)
}

fn with_data(
    spec: &CheckedSpec,
    data: DataProvenance,
    device: &str,
    program: &Program,
) -> Provenance {
    let Program { version, revision, toolchain, threads, command_line } = program.clone();

    Provenance {
        schema: RECORD_SCHEMA,
        version,
        revision,
        toolchain,
        host: host(),
        threads,
        processes: None,
        device: device.to_owned(),
        seed: spec.seed,
        spec_fingerprint: fingerprint(spec),
        figures_revision: Some(FIGURES_REVISION),
        data,
        command_line,
        started_at: now(),
        resumed: Vec::new(),
    }
}

/// The processes of a run, as its provenance records them; `None` for one alone.
pub(crate) fn processes(world: &World) -> Option<Processes> {
    (world.size() > 1)
        .then(|| Processes { hosts: world.hosts.to_vec(), engine: world.engine.clone() })
}

/// The provenance of a run folder, or of the run that a file is in; `None` if there is none that
/// can be read.
#[must_use]
pub fn of_run(run: &Path) -> Option<Provenance> {
    let folder = if run.is_file() { run.parent()? } else { run };
    let text = file::read_text(&folder.join(PROVENANCE_FILE), file::CONFIGURATION_BYTES).ok()?;
    serde_json::from_str(&text).ok()
}

/// The spec of a run, with `data.separator` as it was in training if the spec leaves it open: new
/// documents must be separated in the same way.
///
/// # Errors
/// If that spec breaks a rule of specs.
pub fn as_trained(spec: &CheckedSpec, run: &Path) -> Result<CheckedSpec> {
    let separator = match (spec.data.separator, of_run(run).map(|provenance| provenance.data)) {
        (Separator::Auto, Some(data)) => match data.boundary {
            Some(Boundary::EndOfText) if spec.data.pipeline == Pipeline::Stream => {
                Separator::EndOfText
            }
            Some(_) => Separator::Line,
            // Nobody knows it for an imported model. Earlier versions, which did not write it down,
            // had only the line end.
            None if data.sha256.is_empty() => Separator::Auto,
            None => Separator::Line,
        },
        (asked, _) => asked,
    };

    let mut spec: Spec = (**spec).clone();
    spec.data.separator = separator;
    Ok(spec.check()?)
}

/// The entry that is added when a run resumes after `step`; the rest is from the provenance `now`.
pub(crate) fn resumed(now: Provenance, step: usize, changed: &[Change]) -> ResumeProvenance {
    ResumeProvenance {
        step,
        version: now.version,
        revision: now.revision,
        threads: now.threads,
        processes: now.processes,
        device: now.device,
        changed: changed.iter().map(|change| change.key.to_owned()).collect(),
        command_line: now.command_line,
        started_at: now.started_at,
    }
}

/// Seconds since 1970; 0 if the clock is before that, so was never set.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn host() -> Host {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Host {
        cpu: processor().unwrap_or_else(|| "unknown".to_owned()),
        cores,
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        product_engine: Some(product_engine().to_owned()),
    }
}

/// The model name of this machine's processor, if Linux says it.
#[must_use]
pub fn processor() -> Option<String> {
    // The file has an entry for each core, and the system makes an entry when it is read.
    let lines = BufReader::new(File::open("/proc/cpuinfo").ok()?).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
