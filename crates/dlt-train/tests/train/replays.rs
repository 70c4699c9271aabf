//! Replays decide at the steps of their recording, whatever the spec says, and start in its first
//! state.

use dlt_spec::ExitCode;
use dlt_state::{Action, Recording, State};
use dlt_train::TrainError;

use crate::bench::{Bench, finish, losses};

const REPLAY: [&str; 2] = ["agent.policy=replay", "agent.recording=full"];
const PERMUTED: [&str; 2] = ["agent.policy=permuted-replay", "agent.recording=full"];

/// Replaying a run's own recording under its own seed gives the same run, bit for bit. (So ablation
/// iv needs another seed to show anything.)
#[test]
fn law_replay_under_the_same_seed_is_the_recorded_run() {
    let bench = Bench::new();
    bench.run("full", &[]);

    let recording = bench.recording("full");
    assert_eq!(recording.rows().len(), 7);

    for (run, clock) in [
        ("same", &[][..]),
        ("slower", &["tying.decide_every=5"]),
        ("rarely", &["tying.decide_every=1000", "tying.decide_until=0.1"]),
        ("earlier", &["tying.first_decision=before-first-step", "tying.decide_every=1"]),
        ("late reward", &["agent.reward_timing=after-steps"]),
    ] {
        finish(bench.trainer(run, &[&REPLAY[..], clock].concat(), Some(&recording)));
        assert_eq!(losses(&bench.metrics("full")), losses(&bench.metrics(run)), "{run}");
        assert_eq!(recording, bench.recording(run), "{run}");
    }
}

/// Uneven steps, with two decisions after one step. Nothing is decided after the last of them.
#[test]
fn a_replay_decides_at_the_recorded_steps() {
    let bench = Bench::new();
    let mut recording = Recording::new(4);

    for (step, action) in [
        (0, [0, 1, 0, 3]),
        (2, [0, 1, 2, 3]),
        (2, [0, 0, 0, 3]),
        (9, [0, 1, 1, 1]),
        (11, [0, 0, 2, 0]),
    ] {
        recording
            .push(step, Action::new(action.to_vec()).expect("an action"), None)
            .expect("in order");
    }

    finish(bench.trainer("replay", &REPLAY, Some(&recording)));
    assert_eq!(bench.recording("replay"), recording);

    let steps: Vec<_> = bench.decisions("replay").iter().map(|row| row.step).collect();
    assert_eq!(steps, [0, 2, 2, 9, 11]);

    let permutation = "agent.permutation=[3, 2, 1, 0]";
    finish(bench.trainer("permuted", &[PERMUTED[0], PERMUTED[1], permutation], Some(&recording)));

    let relabelled = |state: &State| state.relabel(&[3, 2, 1, 0]).expect("a permutation");
    let expected: Vec<_> =
        recording.iter().map(|(step, state)| (step, relabelled(state))).collect();
    let permuted = bench.recording("permuted");
    let got: Vec<_> = permuted.iter().map(|(step, state)| (step, state.clone())).collect();

    assert_eq!(got, expected);
}

fn starting_from(owners: &[usize]) -> Recording {
    let mut recording = Recording::starting_from(State::new(owners.to_vec()).expect("a state"));
    recording.push(3, Action::all_zero(4), None).expect("in order");
    recording
}

#[test]
fn rejects_a_recording_that_starts_elsewhere() {
    for (settings, owners) in [
        (&REPLAY[..], [0, 1, 2, 3]),
        (&["agent.policy=replay", "agent.recording=full", "tying.initial=cycle"], [0, 0, 0, 0]),
        (&PERMUTED, [0, 1, 0, 1]),
    ] {
        let error = Bench::new().refusal(settings, Some(&starting_from(&owners)));
        assert!(matches!(error, TrainError::OtherStart { .. }), "{error}");
        assert_eq!(error.exit_code(), ExitCode::BadSpec);
        assert!(error.to_string().contains("tying.initial"), "{error}");
    }
}

/// A permuted replay starts in the permuted first state of the recording.
#[test]
fn a_permuted_replay_starts_in_the_permuted_state() {
    let recording = starting_from(&[0, 0, 0, 3]);
    let permuted = |initial: &'static str| {
        [PERMUTED[0], PERMUTED[1], "agent.permutation=[3, 2, 1, 0]", initial]
    };
    let bench = Bench::new();

    finish(bench.trainer("good", &permuted("tying.initial=[0, 1, 1, 1]"), Some(&recording)));
    let error = Bench::new().refusal(&permuted("tying.initial=[0, 0, 0, 3]"), Some(&recording));
    assert!(matches!(error, TrainError::OtherStart { .. }), "{error}");
}
