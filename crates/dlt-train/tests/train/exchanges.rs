//! Where a run exchanges with other processes, in which order, and that it continues from the answers.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

use dlt_agent::Decision;
use dlt_models::backward::Gradients;
use dlt_state::{Action, State};
use dlt_train::{Alone, Evaluation, Exchange, MODEL_FILE, Result, Trainer};

use crate::bench::{Bench, finish};

/// Two steps with a decision between them, then a validation, a checkpoint and the end.
const SETTINGS: [&str; 3] =
    ["training.steps=2", "tying.decide_every=1", "evaluation.every_steps=2"];

/// What to do with one kind of call.
type Change<T> = Box<dyn Fn(T) -> T>;

/// An exchange that notes every call, and may answer otherwise than [`Alone`].
struct Noting {
    calls: Rc<RefCell<Vec<&'static str>>>,
    losses: Change<Evaluation>,
    decision: Change<Decision>,
    gradient_scale: f64,
    writes: bool,
}

impl Default for Noting {
    fn default() -> Self {
        Self {
            calls: Rc::default(),
            losses: Box::new(|own| own),
            decision: Box::new(|own| own),
            gradient_scale: 1.0,
            writes: true,
        }
    }
}

impl Exchange for Noting {
    fn losses(&mut self, own: Evaluation) -> Result<Evaluation> {
        self.calls.borrow_mut().push("losses");
        Ok((self.losses)(Alone.losses(own)?))
    }

    fn gradients(&mut self, own: &mut Gradients) -> Result<()> {
        self.calls.borrow_mut().push("gradients");
        let all = own.shared.iter_mut().chain(own.slots.values_mut().flatten());
        for gradient in all.filter(|_| self.gradient_scale != 1.0) {
            *gradient = gradient.affine(self.gradient_scale, 0.0).expect("it fits");
        }

        Alone.gradients(own)
    }

    fn decision(&mut self, step: usize, own: Decision) -> Result<Decision> {
        self.calls.borrow_mut().push("decision");
        assert_eq!(step, 1, "the step that the decision is after");
        Ok((self.decision)(Alone.decision(step, own)?))
    }

    fn writes(&self) -> bool {
        self.calls.borrow_mut().push("writes");
        self.writes
    }
}

/// A run that exchanges.
fn trainer(bench: &Bench, run: &str, exchange: Noting) -> Trainer {
    let mut trainer = bench.trainer(run, &SETTINGS, None);
    trainer.exchange_with(Box::new(exchange));
    trainer
}

#[test]
fn law_a_run_exchanges_at_its_four_places_in_order_and_keeps_its_bits() {
    let bench = Bench::new();
    bench.run("alone", &SETTINGS);

    let calls = Rc::default();
    finish(trainer(&bench, "noting", Noting { calls: Rc::clone(&calls), ..Noting::default() }));

    let step = ["losses", "gradients", "writes"];
    // The line of `states.jsonl`, then the reward, then the decision's line of the metrics.
    let decision = ["decision", "writes", "losses", "writes"];
    // Its line of the metrics, then the model, which is the best so far.
    let validation = ["losses", "writes", "writes"];
    let checkpoint = ["writes"];
    // The best model on validation and test, then the summary.
    let end = ["losses", "writes", "losses", "writes", "writes"];

    let expected = [&step[..], &decision, &step, &validation, &checkpoint, &end].concat();
    assert_eq!(*calls.borrow(), expected);
    bench
        .outcome("noting")
        .assert_same(&bench.outcome("alone"), "an exchange that changes nothing");
}

#[test]
fn law_a_run_continues_from_what_the_exchange_answers() {
    let bench = Bench::new();
    bench.run("alone", &SETTINGS);

    let doubled: Change<Evaluation> =
        Box::new(|own| Evaluation { loss_sum: 2.0 * own.loss_sum, ..own });
    finish(trainer(&bench, "losses", Noting { losses: doubled, ..Noting::default() }));

    // No loss reaches a gradient, so both runs train alike as long as they decide alike.
    let [alone, losses] = ["alone", "losses"].map(|run| bench.steps(run).remove(0));
    assert_eq!(losses.loss, 2.0 * alone.loss);
    assert_eq!(losses.gradient_norm, alone.gradient_norm);
    let loss = |run| bench.evaluations(run, dlt_spec::record::Split::Validation)[0].loss;
    assert!(loss("losses") > 1.5 * loss("alone"));

    finish(trainer(&bench, "gradients", Noting { gradient_scale: 2.0, ..Noting::default() }));
    let gradients = bench.steps("gradients").remove(0);
    assert_eq!(gradients.loss, alone.loss);
    assert_eq!(gradients.gradient_norm, 2.0 * alone.gradient_norm);

    let independent: Change<Decision> = Box::new(|own| {
        let action = Action::new(vec![0, 1, 2, 3]).expect("an action");
        let state = State::from_action(&action);
        assert_ne!(state, own.state, "the test needs another decision");
        Decision { action, state, ..own }
    });
    finish(trainer(&bench, "decision", Noting { decision: independent, ..Noting::default() }));
    assert_eq!(bench.decisions("decision")[0].state, [0, 1, 2, 3]);
    assert_eq!(bench.steps("decision")[1].distinct_layers, 4);
}

#[test]
fn a_process_that_does_not_write_leaves_the_folder_as_it_was() {
    let bench = Bench::new();
    let mut trainer = trainer(&bench, "second", Noting { writes: false, ..Noting::default() });
    let read = |name: &str| fs::read(bench.path("second").join(name)).expect("there");
    let before = ["metrics.jsonl", "states.jsonl"].map(read);

    while trainer.advance().expect("it does not diverge").is_some() {}
    trainer.save_checkpoint().expect("nothing to do");
    assert_eq!((trainer.step(), trainer.last_checkpoint()), (2, None));
    assert_eq!(["metrics.jsonl", "states.jsonl"].map(read), before);
    assert!(!bench.path("second").join(MODEL_FILE).exists());
    assert!(!bench.path("second").join("checkpoint").exists());
}
