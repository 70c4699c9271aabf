//! Runs whose agent or architecture is not the one that their spec describes.

use std::sync::Arc;

use candle_core::Device;
use dlt_agent::{Agent, FixedPolicy};
use dlt_models::architecture::{Architecture, of_spec};
use dlt_spec::CheckedSpec;
use dlt_state::{State, pattern};
use dlt_train::{Plan, Resumption, RunFolder, Trainer};

use crate::bench::{Bench, finish, losses, provenance};
use crate::materials::QWEN3;
use crate::resuming::files;

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

    // The same where the run has layers that an agent of its depth would spare.
    let trainer = bench.trainer("exempt", &[&SPEC[..], &["tying.exempt=[3]"]].concat(), None);
    let agent = neighbours(&trainer, State::all_tied(5));
    let refused = trainer.deciding_by(agent).err().expect("another depth").to_string();
    assert!(refused.ends_with("expected [0, 0, 0, 3], got [0, 0, 0, 0, 0]"), "{refused}");
}

/// Another architecture than that of `SPEC`, which names a GPT-2.
fn qwen3(bench: &Bench, more: &[&str]) -> Arc<dyn Architecture> {
    let spec = bench.spec(&[&SPEC[..], QWEN3.settings, more].concat());
    of_spec(&spec, bench.material(&spec).extents())
}

/// A run of `SPEC` with that architecture, before its first step.
fn another(bench: &Bench, run: &str) -> Trainer {
    let spec = bench.spec(&SPEC);
    let folder = RunFolder::create(&bench.path(run), &spec, &provenance()).expect("a fresh folder");
    let plan = plan(bench, spec, qwen3(bench, &[])).expect("it fits");
    Trainer::new(plan.with_weights(None).expect("drawn"), folder)
}

fn plan(
    bench: &Bench,
    spec: CheckedSpec,
    architecture: Arc<dyn Architecture>,
) -> dlt_train::Result<Plan> {
    let material = bench.material(&spec);
    Plan::of_architecture(architecture, spec, material, None, Device::Cpu)
}

#[test]
fn law_a_resumed_run_of_another_architecture_is_the_run_left_alone() {
    let bench = Bench::new();
    finish(another(&bench, "whole"));

    let mut trainer = another(&bench, "stopped");
    for stop in [1, 8, 15, 23] {
        while trainer.step() < stop {
            trainer.advance().expect("it does not diverge");
        }
        trainer.save_checkpoint().expect("saved");
        drop(trainer);

        let resumption = Resumption::open(&bench.path("stopped")).expect("a run folder");
        let material = bench.material(&bench.spec(&SPEC));
        let architecture = qwen3(&bench, &[]);
        let plan = resumption.plan_of_architecture(architecture, material, None, Device::Cpu);
        (trainer, _) = Trainer::resume(plan.expect("it fits"), None).expect("the same parameters");
        assert_eq!(trainer.step(), stop);
    }

    finish(trainer);
    bench.outcome("stopped").assert_same(&bench.outcome("whole"), "another architecture");
}

#[test]
fn another_architecture_trains_as_the_one_that_a_spec_names() {
    let bench = Bench::new();
    let summary = finish(another(&bench, "another"));
    let named = bench.run("named", &[&SPEC[..], QWEN3.settings].concat());
    assert_eq!(losses(&bench.metrics("another")), losses(&bench.metrics("named")));
    assert_eq!(summary.test_perplexity, named.test_perplexity);

    let unlike = bench.run("unlike", &SPEC);
    assert_ne!(summary.trainable_parameters_end, unlike.trainable_parameters_end);
}

#[test]
fn rejects_a_resume_without_the_architecture_of_the_run() {
    let bench = Bench::new();
    let mut trainer = another(&bench, "a");
    trainer.advance().expect("it does not diverge");
    trainer.save_checkpoint().expect("saved");
    drop(trainer);

    let before = files(&bench, "a");
    let refused = bench.try_resume("a", &SPEC, None).err().expect("another architecture");
    let message = refused.to_string();
    let expected = "tensor `transformer.wte.weight`: expected shape [21, 16], it is missing";
    assert!(message.ends_with(expected), "{message}");
    assert!(files(&bench, "a") == before, "nothing in the folder changes");
}

#[test]
fn rejects_an_architecture_of_another_depth() {
    let bench = Bench::new();
    let deeper = qwen3(&bench, &["model.layers=5"]);
    let refused = plan(&bench, bench.spec(&SPEC), deeper).err().expect("another depth").to_string();
    assert!(refused.contains("expected the architecture's 5, got 4"), "{refused}");
}
