//! Runs whose agent is not the one that their spec describes.

use dlt_agent::{Agent, FixedPolicy};
use dlt_state::{State, pattern};
use dlt_train::Trainer;

use crate::bench::{Bench, finish};

const SPEC: [&str; 2] = ["agent.policy=random", "tying.initial=tied"];

/// An agent that asks for pairs of neighbours, for a run of `SPEC` that begins in `initial`.
fn neighbours(trainer: &Trainer, initial: State) -> Agent {
    let policy = Box::new(FixedPolicy::new(pattern::sequence(4)));
    let spec = trainer.spec();
    Agent::with_policy(policy, spec.agent.reward, spec.tying.decision, initial)
}

#[test]
fn another_agent_decides_when_the_spec_says_so() {
    let bench = Bench::new();
    finish(bench.trainer("random", &SPEC, None));

    let trainer = bench.trainer("own", &SPEC, None);
    let agent = neighbours(&trainer, State::all_tied(4));
    finish(trainer.deciding_by(agent).expect("it begins in the state of the run"));

    let steps = |run| -> Vec<usize> { bench.decisions(run).iter().map(|row| row.step).collect() };
    assert_eq!(steps("own"), steps("random"));
    let recording = bench.recording("own");
    assert!(recording.rows().iter().all(|row| *row.state() == pattern::sequence(4)));
}

#[test]
fn rejects_an_agent_that_begins_in_another_state() {
    let bench = Bench::new();
    for (run, initial, got) in [
        ("other", State::independent(4), "[0, 1, 2, 3]"),
        ("deeper", State::all_tied(5), "[0, 0, 0, 0, 0]"),
    ] {
        let trainer = bench.trainer(run, &SPEC, None);
        let agent = neighbours(&trainer, initial);
        let refused = trainer.deciding_by(agent).err().expect("another state").to_string();
        let expected = "agent: the state that the agent begins in: expected [0, 0, 0, 0], got ";
        assert_eq!(refused, format!("{expected}{got}"));
    }
}
