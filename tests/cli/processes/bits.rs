//! The bits of a run do not depend on the number of its processes, and not on kills.

use std::process::{Child, Stdio};
use std::time::Duration;

use super::job::{DEADLINE, Job, command, end_of, ranks, send, steps_of};
use crate::kills::{Killer, Moments, Outcome, SPEC, end, kill, outcome, place};
use crate::models::{self, Kind, training};
use crate::workplace::{PROGRAM, Workplace};

/// Kills of a random process at a random moment. The variable `DLT_TEST_KILLS` sets another number.
const KILLS: usize = 20;

/// Steps of a run that is killed until it ends: each start takes about a second.
const STEPS: usize = 120;

/// Figures about what one process holds or sends, which depend on how many there are.
const OWN: [&str; 3] = ["processes", "sent_bytes_per_step", "weights_gradients_moments_mb_peak"];

/// Settings with which every number of processes up to four has the same bits.
pub(super) const SHARDS: [&str; 2] = ["--set", "training.shards=4"];

/// A place with letters, and a spec for runs of these shards.
pub(super) fn letters(shards: usize) -> Workplace {
    place(&SPEC.replace("[training]", &format!("[training]\nshards = {shards}")))
}

/// What two runs have in common if they had other numbers of processes.
pub(super) fn bits(place: &Workplace, run: &str) -> (Outcome, Vec<u8>) {
    let mut outcome = outcome(place, run);
    let summary = outcome.summary.as_object_mut().unwrap();
    summary.retain(|key, _| !OWN.contains(&key.as_str()));
    (outcome, end(place, run))
}

/// Fails unless two runs have the same bits.
pub(super) fn assert_same(place: &Workplace, run: &str, other: &str) {
    assert!(bits(place, run) == bits(place, other), "{run} and {other} differ");
}

#[test]
fn law_every_number_of_processes_has_the_same_bits() {
    let place = letters(4);
    let steps = ["train", "spec.toml", "--steps", "40", "--quiet", "--threads", "1"];
    for processes in ["1", "2", "4"] {
        let more = ["--processes", processes, "--out", processes];
        Job::dlt(&place, &[&steps[..], &more].concat()).end().ok();
    }

    assert_same(&place, "1", "2");
    assert_same(&place, "1", "4");
    place.dlt(&["doctor", "4"]).ok();
}

/// Each family begins with one number of processes, is killed, and continues with another one.
#[test]
fn law_a_run_of_every_family_continues_with_other_processes_to_the_same_bits() {
    for (kind, [first, second]) in Kind::ALL.into_iter().zip([["4", "2"], ["2", "4"]].repeat(3)) {
        let place = models::place();
        let saves = [&SHARDS[..], &["--set", "checkpoint.every_steps=2"]].concat();
        let long = ["--set", "training.steps=100000", "--processes", first];
        let long = [&saves[..], &long].concat();

        let mut job = Job::dlt(&place, &training(kind, "run", &long));
        job.wait_for_steps("run", 6);
        assert!(send("-KILL", job.process(1)), "{kind:?}");
        assert_ne!(job.end().code, Some(0), "{kind:?}");

        let steps = format!("training.steps={}", steps_of(&place, "run") + 4);
        let rest = ["train", "--resume", "run", "--set", &steps, "--quiet", "--threads", "1"];
        Job::dlt(&place, &[&rest[..], &["--processes", second]].concat()).end().ok();

        let alone = [&saves[..], &["--set", &steps]].concat();
        models::train(&place, kind, "alone", &alone);
        assert_same(&place, "alone", "run");
    }
}

/// Runs of 1, 2 or 4 processes, of which one is killed.
struct AnyProcess {
    /// How many the present one has.
    processes: usize,
}

impl Killer for AnyProcess {
    fn start(&mut self, place: &Workplace, arguments: &[&str], moments: &mut Moments) -> Child {
        self.processes = 1 << moments.next(3);
        let mut command = command(place, PROGRAM, arguments);
        let processes = self.processes.to_string();
        command.args(["--quiet", "--threads", "1", "--processes", &processes]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn kill(&mut self, place: &Workplace, child: &mut Child, moments: &mut Moments) {
        let victim = moments.next(self.processes as u64) as usize;
        if self.processes == 1 {
            child.kill().unwrap();
        }

        // It may not have been started yet.
        while self.processes > 1 && child.try_wait().unwrap().is_none() {
            if let Some((id, _)) = ranks(place).into_iter().find(|(_, rank)| *rank == victim) {
                send("-KILL", id);
                break;
            }
        }
        end_of(place, child, DEADLINE);
    }

    /// A run of several processes takes longer, and a second to start.
    fn limit(&self, whole: Duration) -> Duration {
        whole + Duration::from_secs(1)
    }

    fn outcome(&self, place: &Workplace, run: &str) -> Outcome {
        bits(place, run).0
    }
}

#[test]
fn law_kills_of_random_processes_change_nothing() {
    let place = letters(4);
    let spec = place.read("spec.toml");
    place.write("spec.toml", spec.replace("steps = 240", &format!("steps = {STEPS}")));

    let kills = std::env::var("DLT_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    kill(&place, kills, &mut AnyProcess { processes: 1 });
}
