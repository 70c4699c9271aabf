//! A process that is killed or stopped ends the run with one message, and a signal to the run saves
//! it. In all cases the run resumes to the same bits.

use std::fs;
use std::time::{Duration, Instant};

use super::bits::{assert_same, letters};
use super::job::{Job, one_error, send, steps_of};
use crate::workplace::{Said, Workplace};

/// The limit on silence, in seconds.
const LIMIT: [&str; 2] = ["--exchange-timeout", "3"];
/// By when a run has ended after one of its processes was stopped or killed, on a machine with other
/// work.
const ENDING: Duration = Duration::from_secs(30);
/// More steps than any test waits for.
const LONG: [&str; 8] =
    ["train", "spec.toml", "--steps", "100000", "--threads", "1", "--out", "run"];

/// Resumes a run for some steps with this number of processes, and compares it with one that nobody
/// has disturbed.
fn resumes(place: &Workplace, processes: &str) {
    let steps = (steps_of(place, "run") + 4).to_string();
    let few = ["--steps", &steps, "--threads", "1", "--quiet"];
    let resume = ["train", "--resume", "run", "--processes", processes];
    Job::dlt(place, &[&resume[..], &few].concat()).end().ok();

    place.dlt(&[&["train", "spec.toml", "--out", "alone"], &few[..]].concat()).ok();
    assert_same(place, "alone", "run");
}

/// Checks the only message about a lost process.
fn is_told(said: &Said, lost: usize, how: &str) {
    let error = one_error(said);
    for part in [&format!("process {lost} (host "), how, "after step "] {
        assert!(error.contains(part), "{part} is missing in {error}");
    }
    assert!(error.contains("exchanging ") || error.contains("between two exchanges"), "{error}");

    let advice = "resume from the last checkpoint with: dlt train --resume run";
    assert_eq!(said.err.matches(advice).count(), 1, "{}", said.err);
    assert!(!said.err.contains("mpirun") && !said.err.contains("stopping"), "{}", said.err);
}

#[test]
fn a_stopped_process_ends_the_run_with_one_message_and_the_run_resumes() {
    for (processes, lost) in [("2", 1), ("4", 0)] {
        let place = letters(4);
        let more = [&LIMIT[..], &["--processes", processes]].concat();
        let mut job = Job::dlt(&place, &[&LONG[..], &more].concat());
        job.wait_for_steps("run", 10);
        assert!(send("-STOP", job.process(lost)));

        let stopped = Instant::now();
        let said = job.end_within(ENDING);
        assert!(stopped.elapsed() > Duration::from_secs(1), "a pause may be as long as that");
        is_told(&said, lost, "gave no sign of life for 3 s");
        resumes(&place, "1");
    }
}

#[test]
fn a_killed_process_ends_the_run_with_one_message_and_the_run_resumes() {
    for (processes, lost, then) in [("2", 0, "4"), ("4", 3, "2")] {
        let place = letters(4);
        let mut job = Job::dlt(&place, &[&LONG[..], &["--processes", processes]].concat());
        job.wait_for_steps("run", 10);
        assert!(send("-KILL", job.process(lost)));
        is_told(&job.end_within(ENDING), lost, " ended ");
        resumes(&place, then);
    }
}

/// Each process has a shell between itself and `mpirun`. The shells keep the exit codes, and end
/// only when all are known, so `mpirun` notices nothing before.
#[test]
fn every_process_of_a_run_that_lost_one_fails() {
    let place = letters(4);
    let shell =
        "\"$@\"; echo $? > code-$OMPI_COMM_WORLD_RANK; until [ -e known ]; do sleep 0.1; done";
    let start = ["--quiet", "-n", "4", "sh", "-c", shell, "sh", "dlt"];
    let mut job = Job::mpirun(&place, &[&start[..], &LONG].concat());
    job.wait_for_steps("run", 10);
    assert!(send("-KILL", job.process(2)));

    let code = |rank: usize| fs::read_to_string(place.path(&format!("code-{rank}"))).ok();
    let codes = || (0..4).map(|rank| code(rank).unwrap_or_default()).collect::<String>();
    job.wait_until("exit codes", || codes().lines().count() == 4);
    assert_eq!(codes(), "5\n5\n137\n5\n");

    place.write("known", "");
    is_told(&Said { code: None, ..job.end_within(ENDING) }, 2, " ended ");
}

/// Checks that a run was saved because a signal asked for it.
fn is_interrupted(place: &Workplace, said: &Said) {
    assert_eq!(said.code, Some(130), "{said:?}");
    assert_eq!(said.err.matches("interrupted: after step ").count(), 1, "{}", said.err);
    assert!(said.err.contains("resume with: dlt train --resume run"), "{}", said.err);

    let steps = steps_of(place, "run");
    let checkpoint = format!("run/checkpoint/step-{steps:012}.safetensors");
    assert!(fs::exists(place.path(&checkpoint)).unwrap(), "{checkpoint}");
}

#[test]
fn a_signal_to_the_program_saves_the_run_of_all_processes() {
    for (signal, then) in [("-INT", "1"), ("-TERM", "2")] {
        let place = letters(4);
        let mut job = Job::dlt(&place, &[&LONG[..], &["--processes", "2"]].concat());
        job.wait_for_steps("run", 10);
        assert!(send(signal, job.id()));

        let said = job.end();
        is_interrupted(&place, &said);
        assert_eq!(said.err.matches("stopping after this step").count(), 1, "{}", said.err);
        assert!(!said.err.contains("mpirun"), "{}", said.err);
        resumes(&place, then);
    }
}

#[test]
fn mpirun_passes_sigusr1_on_and_the_run_is_saved() {
    let place = letters(4);
    let mut job = Job::mpirun(&place, &[&["-n", "4", "dlt"], &LONG[..]].concat());
    job.wait_for_steps("run", 10);
    assert!(send("-USR1", job.id()));
    is_interrupted(&place, &job.end());
    resumes(&place, "1");
}
