//! `dlt doctor`: what is whole in a run folder, what is damaged, what still works, and what killed
//! processes have left behind.

mod half_made;

use std::io;
use std::path::{Path, PathBuf};

use dlt_data::{Leftovers, leftovers, remove_leftover};
use dlt_report::shell::quoted;
use dlt_spec::record::{SPEC_FILE, STATES_FILE};
use dlt_spec::{ExitCode, durable};
use dlt_train::doctor::{Finding, Report, Verdict, examine};
use dlt_train::{MODEL_FILE, Repaired, repair_model, sweep};

use crate::arguments::DoctorTask;
use crate::failure::{Failure, Result};
use crate::numbers::{decimal, whole};
use crate::{engine, hub, loading, output};

pub(crate) fn run(task: &DoctorTask) -> Result {
    let outside = outside(task)?;
    let Some(run) = &task.run else {
        return output::print(&if outside.is_empty() {
            "killed processes have left nothing in the caches\n".to_owned()
        } else {
            lines(&outside)
        });
    };

    let mut report = match looked_at(run, task.repair) {
        Ok(report) => report,
        Err(error) => {
            // The folder may be missing because a killed process had only half made it. Its remains
            // are worth showing even then.
            output::print(&lines(&outside))?;
            return Err(error);
        }
    };

    report.findings.extend(outside);
    let name = quoted(&run.to_string_lossy());
    output::print(&format!(
        "{}\n{}This machine\n  {}\n",
        lines(&report.findings),
        abilities(&report, &name),
        engine::described()
    ))?;

    match report.n_wrong() {
        0 => Ok(()),
        wrong => {
            let what = if wrong == 1 { "file is" } else { "files are" };
            Err(Failure::refused(
                ExitCode::BadData,
                format!("{wrong} {what} damaged or missing in {name}"),
            ))
        }
    }
}

/// Examines a run folder, after repairing it if `repair` is set.
fn looked_at(run: &Path, repair: bool) -> Result<Report> {
    if repair {
        // Refuses a folder that is not a run folder, before anything in it is changed.
        examine(run)?;

        for path in sweep(run)? {
            output::note(&format!("removed {}, which a killed process had left", path.display()));
        }

        output::note(&repaired(repair_model(run)?));
    }

    Ok(examine(run)?)
}

/// What killed processes left next to the run folder and, with `--caches`, in the caches. A repair
/// removes it.
fn outside(task: &DoctorTask) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let remove = |path: &Path, remove: &dyn Fn(&Path) -> io::Result<bool>| {
        if !task.repair {
            return "left by a killed process; --repair removes it".to_owned();
        }

        match remove(path) {
            Ok(true) => "left by a killed process; removed".to_owned(),
            Ok(false) => "a process is writing it now".to_owned(),
            Err(error) => format!("left by a killed process; cannot be removed: {error}"),
        }
    };

    let mut note = |path: &Path, says: String| {
        findings.push(Finding { file: path.display().to_string(), verdict: Verdict::Note, says });
    };

    if let Some(run) = &task.run {
        let place = named(run);
        for path in durable::dead_folders(parent(&place)) {
            let says = match half_made::reason_to_leave(&path, &place) {
                Some(reason) => format!("left as it is: {reason}"),
                None => remove(&path, &durable::remove_if_dead),
            };

            note(&path, says);
        }
    }

    if task.caches {
        let hub = hub::config()?.map(|hub| hub.cache);
        let Leftovers { dead, parts, .. } = leftovers(loading::cache()?.as_deref(), hub.as_deref());
        for path in dead {
            note(&path, remove(&path, &remove_leftover));
        }

        for (path, bytes) in parts {
            let size = decimal(bytes as f64 / 1e6, 1);
            note(
                &path,
                format!("{size} MB of a file from the hub; the next fetch of it continues there"),
            );
        }
    }

    Ok(findings)
}

/// A folder by a path that ends in its name: `.` and `..` become full paths.
fn named(folder: &Path) -> PathBuf {
    match folder.file_name() {
        Some(_) => folder.to_owned(),
        None => folder.canonicalize().unwrap_or_else(|_| folder.to_owned()),
    }
}

/// The folder that a folder is in.
fn parent(folder: &Path) -> &Path {
    folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A line about what a repair of the model has done.
fn repaired(repaired: Option<Repaired>) -> String {
    let Some(Repaired { source, step, aside }) = repaired else {
        return format!("{MODEL_FILE} is whole: nothing to repair");
    };
    let kept = aside
        .map_or_else(String::new, |aside| format!("; the damaged file is now {}", aside.display()));

    format!(
        "{MODEL_FILE} of step {} was written again from {}{kept}",
        whole(step),
        source.display()
    )
}

/// One line for each finding, with the verdicts and files aligned.
fn lines(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.file.len()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let verdict = match finding.verdict {
            Verdict::Good => "good ",
            Verdict::Note => "note ",
            Verdict::Wrong => "WRONG",
        };

        format!("{verdict}  {:<width$}  {}\n", finding.file, finding.says)
    };

    findings.iter().map(line).collect()
}

/// Which commands work with the folder, and which do not. `run` is its path, quoted for a shell.
fn abilities(report: &Report, run: &str) -> String {
    let can = report.abilities;
    let resume = can.resume_from.map_or_else(
        || format!("dlt train --resume {run}"),
        |step| format!("dlt train --resume {run}   (after step {})", whole(step)),
    );

    let lines = [
        (can.resume_from.is_some(), resume),
        (can.use_model, format!("dlt eval, generate and inspect {run}")),
        (
            can.replay,
            format!(
                "dlt train ... --set agent.policy=replay --set agent.recording={run}/{STATES_FILE}"
            ),
        ),
        (can.start_again, format!("dlt train {run}/{SPEC_FILE} --out OTHER")),
    ];

    let mut text = String::new();
    for (title, works) in [("What works", true), ("What does not", false)] {
        let lines = lines.iter().filter(|(can, _)| *can == works);
        let lines: String = lines.map(|(_, line)| format!("  {line}\n")).collect();
        if !lines.is_empty() {
            text.push_str(&format!("{title}\n{lines}"));
        }
    }

    text
}
