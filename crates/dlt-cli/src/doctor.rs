//! `dlt doctor`: what is whole in a run folder, what is damaged, and what still works.

use dlt_report::shell::quoted;
use dlt_spec::ExitCode;
use dlt_spec::record::{SPEC_FILE, STATES_FILE};
use dlt_train::doctor::{Finding, Report, Verdict, examine};
use dlt_train::{MODEL_FILE, Repaired, repair_model};

use crate::arguments::DoctorTask;
use crate::failure::{Failure, Result};
use crate::numbers::whole;
use crate::output;

pub(crate) fn run(task: &DoctorTask) -> Result {
    if task.repair {
        // First whether it is a run folder at all.
        examine(&task.run)?;
        output::note(&repaired(repair_model(&task.run)?));
    }
    let report = examine(&task.run)?;
    let run = quoted(&task.run.to_string_lossy());
    output::print(&format!("{}\n{}", findings(&report), abilities(&report, &run)))?;
    match report.n_wrong() {
        0 => Ok(()),
        wrong => {
            let what = if wrong == 1 { "file is" } else { "files are" };
            Err(Failure::refused(ExitCode::BadData, format!("{wrong} {what} damaged or missing in {run}")))
        }
    }
}

fn repaired(repaired: Option<Repaired>) -> String {
    let Some(Repaired { source, step, aside }) = repaired else {
        return format!("{MODEL_FILE} is whole: nothing to repair");
    };
    let kept = aside.map_or_else(String::new, |aside| format!("; the damaged one is {}", aside.display()));
    format!("{MODEL_FILE} of step {} is written again from {}{kept}", whole(step), source.display())
}

fn findings(report: &Report) -> String {
    let width = report.findings.iter().map(|finding| finding.file.len()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let verdict = match finding.verdict {
            Verdict::Good => "good ",
            Verdict::Note => "note ",
            Verdict::Wrong => "WRONG",
        };
        format!("{verdict}  {:<width$}  {}\n", finding.file, finding.says)
    };
    report.findings.iter().map(line).collect()
}

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
            format!("dlt train ... --set agent.policy=replay --set agent.recording={run}/{STATES_FILE}"),
        ),
        (can.start_again, format!("dlt train {run}/{SPEC_FILE} --out OTHER")),
    ];
    let list = |works: bool| -> String {
        lines.iter().filter(|(can, _)| *can == works).map(|(_, line)| format!("  {line}\n")).collect()
    };
    let (works, fails) = (list(true), list(false));
    let mut text = String::new();
    if !works.is_empty() {
        text.push_str(&format!("What works\n{works}"));
    }
    if !fails.is_empty() {
        text.push_str(&format!("What does not\n{fails}"));
    }
    text
}
