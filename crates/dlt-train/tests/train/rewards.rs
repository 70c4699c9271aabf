//! The reward of a decision: the loss of the model that the decision made, on fresh training
//! batches.

use std::path::PathBuf;

use dlt_data::{Batches, Split, Windows};
use dlt_models::binding::Change;
use dlt_models::{Batch, Model};
use dlt_spec::record::DecisionRow;
use dlt_spec::{CheckedSpec, seeds};
use dlt_state::{Action, State};

use crate::bench::{Bench, finish};

/// Relative. Both sides are the same sums in f32 of the same weights; a reward on another batch, or
/// of the model before the decision, is thousands of times further away.
const TOLERANCE: f64 = 1e-9;

/// The batches that rewards are measured on, drawn again.
struct RewardBatches {
    windows: Windows,
    batches: Batches,
    of_one_reward: usize,
}

impl RewardBatches {
    fn new(bench: &Bench, spec: &CheckedSpec) -> Self {
        let windows = bench.splits(spec).windows(Split::Train).expect("windows");
        let rng = seeds::stream(spec.seed, "reward");
        let batches = Batches::new(windows.count(), spec.training.batch, rng).expect("batches");
        Self { windows, batches, of_one_reward: spec.agent.reward_batches }
    }

    /// Negative perplexity of each model on the batches of the next reward.
    fn next(&mut self, models: &[&Model]) -> Vec<f64> {
        let context = self.windows.context();
        let mut losses = vec![0.0; models.len()];
        let mut n_tokens = 0;

        for _ in 0..self.of_one_reward {
            let chosen = self.batches.next_batch().to_vec();
            let mut inputs = Vec::new();
            let mut targets = Vec::new();

            for &window in &chosen {
                let mut input = vec![0; context];
                let mut target = vec![0; context];
                self.windows.fill(window, &mut input, &mut target).expect("a window");
                inputs.extend(input);
                targets.extend(target);
            }

            let batch = Batch::next_token(&inputs, &targets, chosen.len());
            n_tokens += targets.len();

            for (loss, model) in losses.iter_mut().zip(models) {
                *loss += model.loss_sum(&batch).expect("a loss");
            }
        }

        losses.into_iter().map(|loss| -(loss / n_tokens as f64).exp()).collect()
    }
}

fn agree(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < TOLERANCE
}

fn reward(row: &DecisionRow) -> f64 {
    row.reward.unwrap_or_else(|| panic!("the decision after {} steps has no reward", row.step))
}

/// Carries out the decision of a row on a copy of the model before it.
fn decide(model: &mut Model, from: &State, row: &DecisionRow) -> State {
    let to = State::new(row.state.clone()).expect("a state");
    let action = Action::new(row.action.clone().expect("a policy that acts")).expect("an action");
    model.apply(&Change { from, to: &to, action: &action, visited: row.layer }).expect("applied");
    to
}

/// The reward is measured right after tying, before the next step trains, with dropout off. The
/// model before each decision is copied, the decision is carried out on the copy, and its loss is
/// measured on the stream of reward batches.
#[test]
fn a_reward_at_once_is_that_of_the_decided_and_not_yet_trained_model() {
    for reward_batches in [1, 2] {
        let bench = Bench::new();
        let batches = format!("agent.reward_batches={reward_batches}");
        let settings = [batches.as_str(), "model.dropout=0.3", "agent.policy=random"];
        let mut trainer = bench.trainer("a", &settings, None);
        let spec = bench.spec(&settings);
        let mut measured = RewardBatches::new(&bench, &spec);

        let mut state = spec.initial_state();
        let mut rewarded = 0;
        let mut told_apart = 0;

        loop {
            let before = bench.model(&bench.keep(trainer.model(), "before"), &settings);
            let Some(report) = trainer.advance().expect("it does not diverge") else { break };
            let Some(row) = report.decision else { continue };
            let mut decided = bench.model(&bench.keep(&before, "decided"), &settings);

            state = decide(&mut decided, &state, &row);
            let expected = measured.next(&[&decided, &before, trainer.model()]);
            assert!(
                agree(reward(&row), expected[0]),
                "step {}: {:?} for {expected:?}",
                row.step,
                row.reward
            );
            rewarded += 1;
            told_apart +=
                usize::from(!agree(expected[0], expected[1]) && !agree(expected[0], expected[2]));
        }

        assert_eq!(rewarded, 7);
        assert!(
            told_apart >= 5,
            "the test needs decisions and steps that change the loss: {told_apart}"
        );
        trainer.finish().expect("it finishes");
        assert_eq!(bench.decisions("a").len(), 7, "each decision has one row");
    }
}

/// The authors' reading: the reward is measured after the k steps that follow a decision, or after
/// the steps that are left.
fn check_rewards_after_steps(settings: &[&str], expected_steps: &[(usize, usize)]) {
    let bench = Bench::new();
    let base = ["agent.reward_timing=after-steps", "model.dropout=0.3", "agent.policy=random"];
    let settings = [&base[..], settings].concat();
    let mut trainer = bench.trainer("a", &settings, None);
    let mut after: Vec<PathBuf> = vec![bench.keep(trainer.model(), "after-0")];

    while let Some(report) = trainer.advance().expect("it does not diverge") {
        after.push(bench.keep(trainer.model(), &format!("after-{}", report.step)));
    }

    trainer.finish().expect("it finishes");
    let rows = bench.decisions("a");
    assert_eq!(rows.len(), expected_steps.len());

    let mut measured = RewardBatches::new(&bench, &bench.spec(&settings));

    for (row, &(step, measured_at)) in rows.iter().zip(expected_steps) {
        assert_eq!(row.step, step);
        let models: Vec<_> = after.iter().map(|path| bench.model(path, &settings)).collect();
        let rewards = measured.next(&models.iter().collect::<Vec<_>>());
        let fitting: Vec<_> =
            (0..rewards.len()).filter(|&steps| agree(reward(row), rewards[steps])).collect();

        assert_eq!(fitting, [measured_at], "{} of {rewards:?}", reward(row));
    }
}

#[test]
fn a_reward_after_steps_is_that_of_the_model_k_steps_on() {
    check_rewards_after_steps(&["training.steps=12"], &[(3, 6), (6, 9), (9, 12)]);
    check_rewards_after_steps(&["training.steps=6", "agent.reward_batches=2"], &[(3, 6)]);
}

#[test]
fn the_last_reward_after_steps_is_measured_where_training_ends() {
    check_rewards_after_steps(&["training.steps=11"], &[(3, 6), (6, 9), (9, 11)]);
}

#[test]
fn the_last_reward_after_steps_does_not_wait_for_the_end() {
    check_rewards_after_steps(&["training.steps=14", "tying.decide_until=0.5"], &[(3, 6), (6, 9)]);
}

/// In the authors' order every reward starts a fresh shuffle.
#[test]
fn a_reward_of_a_sweep_is_on_the_first_batch_of_a_fresh_shuffle() {
    let bench = Bench::new();
    let settings =
        ["tying.decision=per-layer", "data.order=sweep", "agent.policy=random", "training.steps=9"];
    let mut trainer = bench.trainer("a", &settings, None);
    let spec = bench.spec(&settings);
    let mut measured = RewardBatches::new(&bench, &spec);

    let mut state = spec.initial_state();
    let mut rewarded = 0;

    loop {
        let mut decided = bench.model(&bench.keep(trainer.model(), "before"), &settings);
        let Some(report) = trainer.advance().expect("it does not diverge") else { break };
        let Some(row) = report.decision else { continue };

        state = decide(&mut decided, &state, &row);
        measured.batches.restart();

        let expected = measured.next(&[&decided]);
        assert!(
            agree(reward(&row), expected[0]),
            "step {}: {:?} for {expected:?}",
            row.step,
            row.reward
        );
        rewarded += 1;
    }

    assert_eq!(rewarded, 2);
    finish(trainer);
}

#[test]
fn a_reward_is_measured_without_dropout() {
    let bench = Bench::new();
    let reward = |name: &str, dropout: &str| {
        // Before any training step the weights of both runs are the same.
        let settings = [
            dropout,
            "agent.policy=random",
            "agent.reward=neg-loss",
            "tying.first_decision=before-first-step",
        ];
        bench.run(name, &settings);
        (bench.decisions(name)[0].reward, bench.steps(name)[0].loss)
    };

    let (without, loss) = reward("without", "model.dropout=0.0");
    let (with, noisy) = reward("with", "model.dropout=0.5");
    assert!(without.is_some());
    assert_eq!(with, without);
    assert_ne!(noisy, loss, "training has dropout");
}
