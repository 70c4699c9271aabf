//! A small run in which a policy of this file decides which layers share:
//!
//! ```sh
//! cargo run -p own-parts --example own_policy -- [RUN]
//! ```
//!
//! `RUN` is the folder of the run, else a temporary one. It takes seconds on one core.
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;
use std::path::PathBuf;

use dlt_agent::{
    Agent, AgentError, Choice, Experience, Policy, PolicySnapshot, Situation, Update, Visit,
};
use dlt_data::{BYTES, Places, SHAKESPEARE};
use dlt_run::{Beginning, Destination, Program, Silent, Site};
use dlt_spec::spec::{Credit, Initial, InitialName, PolicyKind, Reward, Size};
use dlt_spec::{CheckedSpec, presets};
use dlt_train::{DeviceChoice, Products, open_device};

/// Begins with one block for all layers, and splits the largest group whenever the loss has not
/// improved by at least `patience` nats since the last decision.
#[derive(Debug)]
struct Patient {
    patience: f64,
    best: f64,
    improves: bool,
}

impl Policy for Patient {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        let split = if self.improves { None } else { situation.state.split_largest() };
        let state = split.unwrap_or_else(|| situation.state.clone());
        Ok(Choice::new(state.into(), Visit::All))
    }

    fn learn(
        &mut self,
        experience: &Experience<'_>,
        _sweep_ended: bool,
    ) -> Result<Option<Update>, AgentError> {
        // The spec below makes the reward the negative loss, in nats.
        self.improves = experience.reward > self.best + self.patience;
        self.best = self.best.max(experience.reward);
        Ok(None)
    }

    /// A checkpoint could not hold more than the snapshots of the policies that a spec can name.
    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::None
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (device, device_name) = open_device(DeviceChoice::Cpu, Products::F32)?;
    // Dropping this removes the folder, so it has to live as long as the run.
    let temporary = tempfile::tempdir()?;
    let path =
        std::env::args_os().nth(1).map_or_else(|| temporary.path().join("run"), PathBuf::from);

    let spec = spec()?;
    let policy = Patient { patience: 0.02, best: f64::NEG_INFINITY, improves: true };
    let agent = Agent::with_policy(
        Box::new(policy),
        Reward::NegLoss,
        spec.tying.decision,
        spec.initial_state(),
    );

    let beginning = Beginning::of_spec(spec, Destination::Exactly(path), None, &Silent)?;
    let mut trainer = beginning
        .begin(&Site {
            device,
            device_name: &device_name,
            places: Places::default(),
            program: &Program::new(env!("CARGO_PKG_VERSION"), 1),
            observer: &Silent,
        })?
        .deciding_by(agent.crediting(Credit::All))?;

    while let Some(report) = trainer.advance()? {
        if let Some(decision) = &report.decision {
            println!("step {}: loss {:.3}, owners {:?}", report.step, report.loss, decision.state);
        }
    }

    // What was decided is in the run's folder, as of any other run: `dlt inspect RUN` shows it.
    let events = trainer.recording().event_counts();
    let summary = trainer.finish()?;
    println!("{} layers became independent", events.untied);
    println!("validation perplexity {:.2}", summary.validation_perplexity);

    if events.untied == 0 {
        return Err("expected the policy to split a group".into());
    }

    Ok(())
}

fn spec() -> Result<CheckedSpec, Box<dyn Error>> {
    let mut spec = presets::preset("smoke")?.spec()?;
    spec.name = "own-policy".to_owned();
    spec.model.layers = 4;
    spec.model.context = 32;
    spec.data.source = SHAKESPEARE.to_owned();
    spec.data.tokenizer = BYTES.to_owned();
    spec.training.steps = Size::Fixed(60);
    spec.evaluation.windows = Size::Fixed(16);
    spec.optimizer.learning_rate = 4e-3;

    // When decisions are due, and what the agent is rewarded with. The policy that is named here is
    // the one that `deciding_by` replaces.
    spec.agent.policy = PolicyKind::Random;
    spec.agent.reward = Reward::NegLoss;
    spec.tying.initial = Initial::Named(InitialName::Tied);
    spec.tying.decide_every = 5;

    Ok(spec.check()?)
}
