//! Accuracies: how they are rewarded, and how they are counted.

use dlt_data::{Batches, Draw, ExampleBatch, Examples, Split};
use dlt_models::Batch;
use dlt_models::Model;
use dlt_models::batch::{Input, Padding, Tokens, Wanted};
use dlt_models::binding::Change;
use dlt_spec::seeds;
use dlt_state::{Action, State};
use dlt_train::{Confusion, Evaluation, evaluation};
use serde_json::Value;

use crate::bench::{Bench, finish};
use crate::fixtures::{json, number};
use crate::materials::{BARE, Kind, PAIRS, SENTENCES};

/// Labels of a list.
fn labels(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|label| label.as_u64().expect("a class") as u32)
        .collect()
}

/// The fixture holds scikit-learn's results. Where scikit-learn defines none, it holds 0, as GLUE's
/// evaluation does.
#[test]
fn matches_reference_accuracy_f1_and_matthews_correlation() {
    /// The fixture's numbers have 14 digits.
    const ROUNDING: f64 = 1e-12;
    let fixture = json("huggingface/metrics.json");
    let cases = fixture["cases"].as_array().expect("cases");

    assert_eq!(cases.len(), 14);

    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let right = labels(&case["labels"]);
        let said = labels(&case["predictions"]);
        let of_two = !name.starts_with("three");
        let mut confusion = Confusion::new(if of_two { 2 } else { 3 });

        right.iter().zip(&said).for_each(|(&right, &said)| confusion.add(right, said));
        let scores = confusion.scores();
        let near = |ours: Option<f64>, key: &str| {
            let ours = ours.unwrap_or_else(|| panic!("{name}: {key}"));
            assert!((ours - number(&case[key])).abs() < ROUNDING, "{name}: {key} {ours}");
        };

        near(Some(scores.accuracy), "accuracy");
        let most = (0..3).map(|class| right.iter().filter(|&&label| label == class).count()).max();
        assert_eq!(scores.majority_accuracy, most.expect("classes") as f64 / right.len() as f64);

        if of_two {
            near(scores.f1, "f1");
            near(scores.matthews, "matthews");
        } else {
            // These scores exist for two classes only.
            assert_eq!((scores.f1, scores.matthews), (None, None), "{name}");
        }
    }
}

#[test]
fn nothing_said_is_no_accuracy() {
    let confusion = Confusion::new(2);
    assert!(confusion.accuracy().is_nan());
    assert_eq!((confusion.matthews(), confusion.f1()), (Some(0.0), Some(0.0)));
}

/// The batches that rewards are measured on, drawn again.
struct RewardBatches {
    examples: Examples,
    batches: Batches,
}

impl RewardBatches {
    /// Accuracy of each model on the batch of the next reward.
    fn next(&mut self, models: &[&Model]) -> Vec<f64> {
        let chosen = self.batches.next_batch().to_vec();
        let ready = self
            .examples
            .batch(&chosen, Draw::Pass(self.batches.position().pass))
            .expect("examples");
        let ExampleBatch::Sentences { rows, labels } = ready else { panic!("sentences") };

        let tokens = Tokens {
            ids: &rows.ids,
            types: Some(&rows.types),
            lengths: Some(&rows.lengths),
            padding: if rows.masks_padding { Padding::Hidden } else { Padding::Seen },
        };

        let input = Input::Tokens(tokens);
        let wanted = Wanted::Classes(&labels);
        let batch = Batch { input, wanted, windows: rows.rows };
        let accuracy = |model: &&Model| {
            let scores = model.scores(&batch).expect("scores").to_vec2::<f32>().expect("rows");
            let is_right = |(row, &label): (&Vec<f32>, &u32)| {
                let said = if row[1] > row[0] { 1 } else { 0 };
                said == label
            };

            let right = scores.iter().zip(&labels).filter(|&pair| is_right(pair)).count();
            right as f64 / labels.len() as f64
        };

        models.iter().map(accuracy).collect()
    }
}

/// The reward is measured right after tying, before the next step trains, with dropout off.
fn check_rewards(kind: Kind, reward: &str, sign: f64) {
    let bench = Bench::new();
    let more = [
        reward,
        "model.dropout=0.3",
        "agent.policy=random",
        "training.batch=16",
        "model.initial_std=0.5",
    ];

    let settings = [kind.settings, &more].concat();
    let mut trainer = bench.trainer("a", &settings, None);
    let spec = bench.spec(&settings);
    let examples = bench.material(&spec).examples(Split::Train).clone();
    let batches =
        Batches::new(examples.count(), 16, seeds::stream(spec.seed, "reward")).expect("batches");

    let mut measured = RewardBatches { examples, batches };
    let mut state = spec.initial_state();
    let mut rewarded = 0;
    let mut told_apart = 0;

    loop {
        let before = bench.model(&bench.keep(trainer.model(), "before"), &settings);
        let Some(report) = trainer.advance().expect("it does not diverge") else { break };
        let Some(row) = report.decision else { continue };
        let mut decided = bench.model(&bench.keep(&before, "decided"), &settings);
        let to = State::new(row.state.clone()).expect("a state");
        let action =
            Action::new(row.action.clone().expect("a policy that acts")).expect("an action");

        decided
            .apply(&Change { from: &state, to: &to, action: &action, visited: row.layer })
            .expect("applied");
        state = to;

        let expected = measured.next(&[&decided, &before]);
        assert_eq!(row.reward, Some(sign * expected[0]), "{} step {}", kind.name, row.step);
        rewarded += 1;
        told_apart += usize::from(expected[0] != expected[1]);
    }

    assert_eq!(rewarded, 7);
    assert!(told_apart > 0, "{}: the test needs decisions that change the accuracy", kind.name);
    finish(trainer);
}

#[test]
fn a_reward_of_accuracy_is_that_of_the_decided_and_not_yet_trained_model() {
    check_rewards(SENTENCES, "agent.reward=accuracy", 1.0);
    check_rewards(PAIRS, "agent.reward=neg-accuracy", -1.0);
    check_rewards(BARE, "agent.reward=accuracy", 1.0);
}

/// Class 1 is predicted if the single score is above 0, and the loss is binary cross-entropy.
#[test]
fn a_single_score_is_evaluated_as_two_classes() {
    let bench = Bench::new();
    // Initial weights wide enough that the score at the last position, which is padding, depends on
    // the words before it.
    let settings = [BARE.settings, &["model.initial_std=0.5"]].concat();
    let spec = bench.spec(&settings);
    let trainer = bench.trainer("a", &settings, None);
    let examples = bench.material(&spec).examples(Split::Validation).clone();

    let numbers: Vec<usize> = (0..examples.count()).collect();
    let ready = examples.batch(&numbers, Draw::Fixed).expect("examples");
    let ExampleBatch::Sentences { rows, labels } = ready else { panic!("sentences") };

    assert!(
        (rows.width, rows.masks_padding) == (12, false),
        "padding is seen, so there is as much as there can be"
    );

    let tokens = Tokens {
        ids: &rows.ids,
        types: None,
        lengths: Some(&rows.lengths),
        padding: Padding::Seen,
    };

    let batch = Batch {
        input: Input::Tokens(tokens),
        wanted: Wanted::Classes(&labels),
        windows: rows.rows,
    };

    let scores = trainer.model().scores(&batch).expect("scores").to_vec2::<f32>().expect("rows");
    let mut loss = 0.0;
    let mut right = 0;
    let mut ones = 0;

    for (row, &label) in scores.iter().zip(&labels) {
        let z = f64::from(row[1]);
        let y = f64::from(label);
        loss += z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
        right += usize::from((z > 0.0) == (label == 1));
        ones += usize::from(z > 0.0);
    }

    assert!(ones > 0 && ones < labels.len(), "the test needs both classes predicted");
    let evaluated =
        evaluation::evaluate(trainer.model(), &examples, labels.len()).expect("an evaluation");
    assert_eq!(evaluated.scores().expect("classes").accuracy, right as f64 / labels.len() as f64);
    assert!((evaluated.loss_sum / loss - 1.0).abs() < 1e-12, "{} for {loss}", evaluated.loss_sum);

    let again = Evaluation::of_batch(trainer.model(), &batch).expect("an evaluation");
    assert_eq!(again, evaluated);
}

#[test]
fn rejects_fewer_classes_than_the_data_have() {
    let bench = Bench::new();
    let pictures = crate::materials::PICTURES.settings;
    let refused = bench.refusal(&[pictures, &["model.classes=1"]].concat(), None);
    assert_eq!(refused.to_string(), "model.classes: expected at least the data's 10, got 1");
}
