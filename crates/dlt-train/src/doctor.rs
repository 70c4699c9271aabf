//! Examines a run folder: what is whole, what is damaged, and what can still be done with it.
//! Nothing in the folder is changed.

use std::io::BufReader;
use std::path::Path;

use candle_core::Device;
use dlt_data::{BYTES, Companions, GPT2, HUB_PREFIX, KeptTokenizer};
use dlt_models::ModelError;
use dlt_models::architecture::of_spec;
use dlt_spec::record::{
    Lines, METRICS_FILE, MetricRow, PROVENANCE_FILE, RECORD_SCHEMA, SPEC_FILE, STATES_FILE,
    SUMMARY_FILE, whole_lines,
};
use dlt_spec::size::Extents;
use dlt_spec::spec::Architecture;
use dlt_spec::tensors::not_finite;
use dlt_spec::{CheckedSpec, durable};
use dlt_state::Recording;

use crate::checkpoint::{CHECKPOINT_FOLDER, CheckpointFolder};
use crate::folder::{RunFolder, leftovers};
use crate::lock::{LOCK_FILE, holder};
use crate::model_file::{open_model, saved_model, with_repair};
use crate::{MODEL_FILE, Result, TrainError};

/// The condition of a part of a run folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Missing or incomplete, as is normal in a run that was stopped.
    Note,
    /// Damaged.
    Wrong,
}

/// The result for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the run folder.
    pub file: String,
    /// Its condition.
    pub verdict: Verdict,
    /// What was found, and what to do if it is wrong.
    pub says: String,
}

/// What can be done with a run folder in its present condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Its spec can be trained again.
    pub start_again: bool,
    /// The step that the run can be resumed from.
    pub resume_from: Option<usize>,
    /// Its model can be evaluated, sampled and inspected.
    pub use_model: bool,
    /// Its decisions can be inspected and replayed.
    pub replay: bool,
}

/// The results for a run folder.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// File by file.
    pub findings: Vec<Finding>,
    /// What can still be done with it.
    pub abilities: Abilities,
}

impl Report {
    /// Files that are damaged.
    #[must_use]
    pub fn n_wrong(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count()
    }

    fn add(&mut self, file: &str, verdict: Verdict, says: impl Into<String>) {
        self.findings.push(Finding { file: file.to_owned(), verdict, says: says.into() });
    }
}

/// Examines a run folder.
///
/// # Errors
/// [`TrainError::Format`] if there is no such folder, or if it holds nothing of a run.
pub fn examine(run: &Path) -> Result<Report> {
    let refuse =
        |reason: &str| TrainError::Format { path: run.to_owned(), reason: reason.to_owned() };
    if !run.is_dir() {
        return Err(refuse("no such run folder"));
    }

    let files = [SPEC_FILE, METRICS_FILE, STATES_FILE, SUMMARY_FILE, CHECKPOINT_FOLDER, MODEL_FILE];
    if !files.iter().any(|file| run.join(file).exists()) {
        return Err(refuse("not a run folder: expected one that `dlt train` wrote"));
    }

    let mut report = Report::default();
    if let Some(holder) = holder(run)? {
        let says = format!("{holder} writes into the folder: these findings can be out of date");
        report.add(LOCK_FILE, Verdict::Note, says);
    }

    links(run, &mut report);
    let spec = spec(run, &mut report);
    provenance(run, &mut report);

    let metrics = metrics(run, &mut report);
    states(run, spec.as_ref(), &mut report);
    model(run, spec.as_ref(), metrics.validations, &mut report);
    tokenizer(run, spec.as_ref(), &mut report);
    checkpoints(run, spec.is_some(), &mut report)?;
    summary(run, metrics.steps, &mut report);

    for path in leftovers(run) {
        let name = path.strip_prefix(run).unwrap_or(&path).display().to_string();
        report.add(
            &name,
            Verdict::Note,
            "left by a killed process; a resume or --repair removes it",
        );
    }

    Ok(report)
}

/// Reports links among the files that a run changes in place: they must be in the folder itself.
fn links(run: &Path, report: &mut Report) {
    for name in [LOCK_FILE, METRICS_FILE, STATES_FILE, CHECKPOINT_FOLDER] {
        if let Err(error) = durable::refuse_link(&run.join(name)) {
            report.add(name, Verdict::Wrong, error.to_string());
        }
    }
}

fn spec(run: &Path, report: &mut Report) -> Option<CheckedSpec> {
    match RunFolder::read_spec(run) {
        Ok(spec) => {
            report.add(SPEC_FILE, Verdict::Good, format!("{}, seed {}", spec.name, spec.seed));
            report.abilities.start_again = true;
            Some(spec)
        }
        Err(error) => {
            report.add(SPEC_FILE, Verdict::Wrong, reason(&error));
            None
        }
    }
}

fn provenance(run: &Path, report: &mut Report) {
    match RunFolder::read_provenance(run) {
        Ok(found) => {
            let times = found.resumed.len();
            let says =
                format!("dlt {}, {} threads, resumed {times} times", found.version, found.threads);
            report.add(PROVENANCE_FILE, Verdict::Good, says);
        }
        Err(error) if is_missing(&error) => {
            report.add(PROVENANCE_FILE, Verdict::Note, "missing; a resume writes it again");
        }
        Err(error) => report.add(PROVENANCE_FILE, Verdict::Wrong, reason(&error)),
    }
}

/// Counts of rows in the metrics.
#[derive(Default)]
struct Metrics {
    steps: usize,
    validations: usize,
}

fn metrics(run: &Path, report: &mut Report) -> Metrics {
    let mut found = Metrics::default();
    let lines = match dlt_spec::file::regular(&run.join(METRICS_FILE), u64::MAX) {
        Ok(file) => Lines::new(BufReader::new(file)),
        Err(error) => {
            report.add(METRICS_FILE, Verdict::Wrong, format!("cannot be read: {error}"));
            return found;
        }
    };

    let mut wrong = None;
    let mut last = (0, false);

    for (index, line) in lines.enumerate() {
        let line = line.map_err(|error| error.to_string());
        // After a line that cannot be read, the reader has no place to continue from.
        let is_end = line.is_err();
        let row = line
            .and_then(|line| MetricRow::from_line(&line.text).map_err(|error| error.to_string()));

        last = (index + 1, row.is_err());
        let check = row.and_then(|row| found.take(index, &row));
        if let Err(reason) = check {
            wrong.get_or_insert((index + 1, reason));
        }

        if is_end {
            break;
        }
    }

    if last.0 == 0 {
        wrong = Some((1, "it is empty".to_owned()));
    }

    let ends = ends_in_a_line(&run.join(METRICS_FILE));
    let steps = found.steps;
    match wrong {
        None => report.add(METRICS_FILE, Verdict::Good, format!("{steps} steps, no line missing")),
        // Only the last line is wrong, and it has no line end: the writer was stopped.
        Some((line, _)) if last == (line, true) && !ends => report.add(
            METRICS_FILE,
            Verdict::Note,
            format!(
                "{steps} steps; the last line was not written to its end; a resume cuts it off"
            ),
        ),
        Some((line, reason)) => {
            report.add(METRICS_FILE, Verdict::Wrong, format!("line {line}: {reason}"));
        }
    }

    found
}

impl Metrics {
    /// Counts a row, and says what is wrong with it at this place.
    fn take(&mut self, index: usize, row: &MetricRow) -> std::result::Result<(), String> {
        match row {
            MetricRow::Header(header) if index == 0 && header.schema == RECORD_SCHEMA => Ok(()),
            MetricRow::Header(header) if index == 0 => {
                Err(format!("expected layout {RECORD_SCHEMA}, got {}", header.schema))
            }
            MetricRow::Header(_) => Err("a second header".to_owned()),
            _ if index == 0 => Err("expected the header".to_owned()),
            MetricRow::Step(row) if row.step == self.steps + 1 => {
                self.steps = row.step;
                Ok(())
            }
            MetricRow::Step(row) => {
                Err(format!("expected step {}, got step {}", self.steps + 1, row.step))
            }
            MetricRow::Evaluation(_) => {
                self.validations += 1;
                Ok(())
            }
            MetricRow::Decision(_) => Ok(()),
        }
    }
}

fn ends_in_a_line(path: &Path) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let mut last = [b'\n'];
    let read = dlt_spec::file::regular(path, u64::MAX).and_then(|mut file| {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)
    });

    read.is_ok() && last == *b"\n"
}

fn states(run: &Path, spec: Option<&CheckedSpec>, report: &mut Report) {
    let path = run.join(STATES_FILE);
    let file = dlt_spec::file::regular(&path, dlt_spec::file::RECORD_BYTES);
    let text = match file.and_then(|file| whole_lines(BufReader::new(file))) {
        Ok(text) => text,
        Err(error) => {
            return report.add(STATES_FILE, Verdict::Wrong, format!("cannot be read: {error}"));
        }
    };

    let is_torn = !ends_in_a_line(&path);

    match Recording::parse(&text) {
        Ok(recording) if spec.is_some_and(|spec| spec.model.layers != recording.n_layers()) => {
            let says =
                format!("for {} layers, but the spec has another number", recording.n_layers());
            report.add(STATES_FILE, Verdict::Wrong, says);
        }
        Ok(recording) if is_torn => {
            let says = format!(
                "{} decisions; the last line was not written to its end; a resume cuts it off",
                recording.rows().len()
            );
            report.add(STATES_FILE, Verdict::Note, says);
        }
        Ok(recording) => {
            report.abilities.replay = !recording.rows().is_empty();
            let says = format!("{} decisions", recording.rows().len());
            report.add(STATES_FILE, Verdict::Good, says);
        }
        Err(error) => {
            report.add(
                STATES_FILE,
                Verdict::Wrong,
                format!("{error}; a resume takes it from the checkpoint"),
            );
        }
    }
}

fn model(run: &Path, spec: Option<&CheckedSpec>, validations: usize, report: &mut Report) {
    let path = run.join(MODEL_FILE);
    if !path.exists() {
        // Only a checkpoint holds the weights that a repair writes.
        let has_checkpoint = CheckpointFolder::of(run).list().is_ok_and(|list| !list.is_empty());
        let (verdict, says) = match (validations, has_checkpoint) {
            (0, _) => (Verdict::Note, "none yet; the first validation writes it"),
            (_, false) => {
                (Verdict::Wrong, "missing, though a model was validated; a resume writes it again")
            }
            (_, true) => (
                Verdict::Wrong,
                "missing, though a model was validated; a resume, or `dlt doctor RUN --repair`, \
                 writes it again",
            ),
        };

        return report.add(MODEL_FILE, verdict, says);
    }

    let file = match open_model(&path) {
        Ok(file) => file,
        Err(error) => return report.add(MODEL_FILE, Verdict::Wrong, reason(&error)),
    };

    let note = |key: &str| file.metadata().get(key).cloned().unwrap_or_default();
    let data = note("vocabulary").parse().map(|vocabulary| Extents {
        vocabulary,
        classes: note("classes").parse().unwrap_or_default(),
    });

    let (Some(spec), Ok(data)) = (spec, data) else {
        report.abilities.use_model = true;
        return report.add(
            MODEL_FILE,
            Verdict::Note,
            "readable; its shapes cannot be checked without the spec",
        );
    };

    match saved_model(&file, of_spec(spec, data), spec, &Device::Cpu) {
        Ok(_) => {
            report.abilities.use_model = true;
            report.add(
                MODEL_FILE,
                Verdict::Good,
                format!("the best on validation, of step {}", note("step")),
            );
        }
        Err(error) => report.add(MODEL_FILE, Verdict::Wrong, reason(&with_repair(error, &path))),
    }
}

/// Checks that the tokenizer is the one that the run was trained with.
fn tokenizer(run: &Path, spec: Option<&CheckedSpec>, report: &mut Report) {
    let Some(spec) = spec.filter(|spec| spec.model.architecture != Architecture::Vit) else {
        return;
    };
    let kept = match KeptTokenizer::of_run(run) {
        Ok(kept) => kept,
        Err(error) => return wrong_tokenizer("tokenizer", error.to_string(), report),
    };

    let named = spec.data.tokenizer.as_str();
    let path = match &kept {
        KeptTokenizer::BuiltIn(name) => {
            return report.add("tokenizer", Verdict::Good, format!("{name}, built in"));
        }
        KeptTokenizer::Nothing if named == GPT2 || named == BYTES => {
            return report.add("tokenizer", Verdict::Good, format!("{named}, built in"));
        }
        KeptTokenizer::Nothing if named.starts_with(HUB_PREFIX) => {
            let says = format!(
                "no copy: it is {named}, which is downloaded and checked before it is used"
            );
            return report.add("tokenizer", Verdict::Note, says);
        }
        KeptTokenizer::Copy(copy) => copy.as_path(),
        KeptTokenizer::Nothing => Path::new(named),
    };

    let is_copy = kept != KeptTokenizer::Nothing;
    let name = path.strip_prefix(run).unwrap_or(path).to_string_lossy().into_owned();
    let trained_with =
        RunFolder::read_provenance(run).ok().map(|provenance| provenance.data.tokenizer);
    let trained_with = trained_with.filter(|id| id.starts_with("sha256:"));

    match (Companions::of_tokenizer(path).map(|companions| companions.tokenizer_id()), trained_with)
    {
        (Err(error), _) => wrong_tokenizer(&name, error.to_string(), report),
        (Ok(now), Some(then)) if now.as_ref() != Some(&then) => {
            let now = now.unwrap_or_default();
            let says = format!(
                "not the tokenizer that the run was trained with: expected {then}, got {now}; \
                 put the file back, or put a copy of it into the run as companions/tokenizer.json"
            );
            wrong_tokenizer(&name, says, report);
        }
        (Ok(_), Some(_)) if is_copy => {
            report.add(&name, Verdict::Good, "the one that the run was trained with")
        }
        (Ok(_), None) if is_copy => report.add(&name, Verdict::Good, "the run's own"),
        (Ok(_), Some(_)) => {
            report.add(
                &name,
                Verdict::Note,
                "the one used in training, but the run has no copy of it",
            );
        }
        (Ok(_), None) => {
            let says =
                "the run has no copy of it, and no record says whether training used the same one";
            report.add(&name, Verdict::Note, says);
        }
    }
}

/// Reports a wrong tokenizer. With it the model gives wrong numbers, and a resume is refused.
fn wrong_tokenizer(name: &str, says: String, report: &mut Report) {
    report.abilities.use_model = false;
    report.add(name, Verdict::Wrong, says);
}

fn checkpoints(run: &Path, has_spec: bool, report: &mut Report) -> Result<()> {
    let folder = CheckpointFolder::of(run);
    let list = folder.list()?;
    let mut newest = None;

    for (step, path) in &list {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{CHECKPOINT_FOLDER}/{name}");

        match folder.open(*step, path) {
            Ok(_) => {
                newest = newest.or(Some(*step));
                report.add(&name, Verdict::Good, "whole");
            }
            Err(error) => report.add(&name, Verdict::Wrong, reason(&error)),
        }
    }

    if list.is_empty() {
        report.add(
            CHECKPOINT_FOLDER,
            Verdict::Note,
            "no checkpoint yet: a resume starts again at step 0",
        );
        newest = Some(0);
    }

    for path in folder.leftovers()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let says = "left by a stopped writer, or set aside; it is not used";
        report.add(&format!("{CHECKPOINT_FOLDER}/{name}"), Verdict::Note, says);
    }

    report.abilities.resume_from = newest.filter(|_| has_spec);
    Ok(())
}

fn summary(run: &Path, steps: usize, report: &mut Report) {
    match RunFolder::read_summary(run) {
        Ok(Some(summary)) if summary.steps == steps => {
            let says =
                format!("finished, validation perplexity {:.2}", summary.validation_perplexity);
            report.add(SUMMARY_FILE, Verdict::Good, says);
        }
        Ok(Some(summary)) => {
            let says = format!("says {} steps, but the metrics have {steps}", summary.steps);
            report.add(SUMMARY_FILE, Verdict::Wrong, says);
        }
        Ok(None) => report.add(SUMMARY_FILE, Verdict::Note, "missing: the run has not finished"),
        Err(error) => report.add(SUMMARY_FILE, Verdict::Wrong, reason(&error)),
    }
}

fn is_missing(error: &TrainError) -> bool {
    matches!(error, TrainError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// The message of an error without the path, which the report prints next to it.
fn reason(error: &TrainError) -> String {
    match error {
        TrainError::Format { reason, .. } => reason.clone(),
        TrainError::Io { source, .. } => format!("cannot be read: {source}"),
        TrainError::Model(ModelError::Format { reason, .. }) => reason.clone(),
        TrainError::Model(ModelError::NotFinite { tensor, count, of, .. }) => {
            not_finite(tensor, *count, *of)
        }
        TrainError::Damaged { reason, whole, run, .. } => format!(
            "{reason}; {} holds the whole model: `dlt doctor {} --repair` writes it again",
            whole.display(),
            run.display()
        ),
        other => other.to_string(),
    }
}
