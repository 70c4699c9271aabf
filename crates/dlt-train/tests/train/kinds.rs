//! Whole runs of every family on every kind of material, under dynamic tying.

use dlt_data::Split;
use dlt_spec::record::{self, EvaluationRow, Summary};
use dlt_train::{MODEL_FILE, evaluation};

use crate::bench::{Bench, losses};
use crate::materials::{KINDS, Kind, MASKED, PICTURES, SENTENCES};

/// The paper's method, and the authors' methods for text and for pictures.
const METHODS: [&[&str]; 3] = [
    &["method paper", "agent.reward=neg-loss"],
    &["method reference", "model.dropout=0.0"],
    &["method reference-vision"],
];

/// Settings that every method is run with here.
const SHORT: [&str; 6] = [
    "data.pipeline=stream",
    "evaluation.windows=auto",
    "evaluation.every_steps=6",
    "training.steps=48",
    "optimizer.learning_rate=0.01",
    "tying.decide_every=3",
];

/// The settings of a kind under the methods that fit it.
fn settings(kind: &Kind) -> Vec<Vec<&'static str>> {
    let classes: [&[&str]; 2] = [&["agent.reward=accuracy"], &["agent.reward=neg-accuracy"]];
    let none: [&[&str]; 2] = [&[], &[]];
    let own = if kind.name == PICTURES.name { METHODS[2] } else { METHODS[1] };
    let augment =
        kind.settings.iter().copied().filter(|setting| setting.starts_with("data.augment"));
    let augment: Vec<_> = augment.collect();

    [METHODS[0], own]
        .into_iter()
        .zip(if kind.has_classes { classes } else { none })
        .map(|(method, reward)| [kind.settings, method, &SHORT, &augment, reward].concat())
        .map(|all| {
            // The reward of accuracy needs classes. Without them the setting is dropped, and the
            // method's reward of a loss stays.
            let needless = |setting: &&str| kind.has_classes || !setting.contains("accuracy");
            all.into_iter().filter(needless).collect()
        })
        .collect()
}

fn key(row: &EvaluationRow) -> (f64, f64) {
    (row.accuracy.unwrap_or(0.0), -row.loss)
}

/// The kept model is the one with the highest accuracy, among equals the one with the lowest loss;
/// without classes it is the one with the lowest loss. Its file gives the numbers of the summary.
fn check_the_kept_model(bench: &Bench, kind: &Kind, settings: &[&str], summary: &Summary) {
    let mut rows = bench.evaluations("a", record::Split::Validation);
    let last = rows.pop().expect("the kept model is evaluated last");
    let mut best = rows[0].clone();

    for row in &rows {
        assert_eq!(row.accuracy.is_some(), kind.has_classes);
        if key(row) > key(&best) {
            best = row.clone();
        }
    }

    assert_eq!(summary.best_step, best.step, "{}: {rows:?}", kind.name);
    assert_eq!(
        (last.step, last.loss, last.accuracy),
        (best.step, best.loss, best.accuracy),
        "{}",
        kind.name
    );

    let spec = bench.spec(settings);
    let model = bench.model(&bench.path("a").join(MODEL_FILE), settings);
    let material = bench.material(&spec);
    let evaluated = |split| {
        let examples = material.examples(split);
        evaluation::evaluate(&model, examples, spec.evaluation_batch()).expect("an evaluation")
    };

    let validation = evaluated(Split::Validation);
    let test = evaluated(Split::Test);
    assert_eq!(
        (validation.loss(), validation.scores()),
        (summary.validation_loss, summary.validation_scores)
    );

    assert_eq!(
        (Some(test.perplexity()), test.scores()),
        (summary.test_perplexity, summary.test_scores)
    );
    assert_eq!(summary.validation_scores.is_some(), kind.has_classes);

    if let Some(scores) = &summary.validation_scores {
        assert_eq!(Some(scores.accuracy), best.accuracy);
        assert!(scores.majority_accuracy > 0.0 && scores.majority_accuracy < 0.7, "{scores:?}");

        let of_two = kind.name != PICTURES.name;
        assert_eq!((scores.f1.is_some(), scores.matthews.is_some()), (of_two, of_two));
    }
}

#[test]
fn every_family_learns_under_dynamic_tying_by_both_methods() {
    for kind in KINDS {
        for settings in settings(&kind) {
            let bench = Bench::new();
            let summary = bench.run("a", &settings);
            let what = format!("{} {settings:?}", kind.name);
            let losses = losses(&bench.metrics("a"));
            let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;

            assert!(mean(&losses[36..]) < 0.9 * mean(&losses[..6]), "{what}: {losses:?}");
            let decisions = bench.decisions("a");
            assert!(decisions.len() >= 15, "{what}: {}", decisions.len());
            assert_eq!(bench.recording("a").rows().len(), decisions.len());

            let of_accuracy = settings.iter().find(|setting| setting.contains("accuracy"));
            for row in &decisions {
                let reward = row.reward.expect("a reward");
                match of_accuracy {
                    // Shares of a batch of four.
                    Some(kind) => {
                        let share = if kind.contains("neg") { -reward } else { reward };
                        assert!(
                            (0.0..=1.0).contains(&share) && (4.0 * share).fract() == 0.0,
                            "{what}: {reward}"
                        );
                    }
                    None => assert!(reward.is_finite() && reward < 0.0, "{what}: {reward}"),
                }
            }

            assert!(summary.independent_layers_mean > 1.0, "{what}");
            check_the_kept_model(&bench, &kind, &settings, &summary);
        }
    }
}

/// If the best accuracy and the lowest loss are at different steps, the accuracy chooses the model.
#[test]
fn the_kept_model_is_the_most_accurate_where_classes_are_predicted() {
    let bench = Bench::new();
    let more = [
        "optimizer.learning_rate=0.03",
        "model.initial_std=0.5",
        "training.steps=20",
        "evaluation.every_steps=2",
        "evaluation.windows=auto",
    ];

    let settings = [SENTENCES.settings, &more].concat();
    let summary = bench.run("a", &settings);
    check_the_kept_model(&bench, &SENTENCES, &settings, &summary);

    let mut rows = bench.evaluations("a", record::Split::Validation);
    rows.pop();

    let lowest = rows.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).expect("evaluations");

    assert_ne!(
        lowest.step, summary.best_step,
        "the test needs a run in which the two differ: {rows:?}"
    );
}

#[test]
fn law_the_same_seed_gives_the_same_bits_whatever_is_learned_from() {
    for kind in KINDS {
        let bench = Bench::new();
        let settings = [kind.settings, &["model.dropout=0.1", "training.steps=12"]].concat();
        bench.run("a", &settings);
        bench.run("b", &settings);
        bench.outcome("a").assert_same(&bench.outcome("b"), kind.name);
        bench.run("c", &[settings, vec!["seed=2"]].concat());
        assert_ne!(losses(&bench.metrics("a")), losses(&bench.metrics("c")), "{}", kind.name);
    }
}

/// Hidden tokens, crops and flips are drawn again in each pass; what is evaluated never changes.
#[test]
fn evaluations_of_one_model_agree_whatever_was_trained_between() {
    for kind in [MASKED, PICTURES, SENTENCES] {
        let bench = Bench::new();
        // Nothing moves.
        let still = [
            "optimizer.learning_rate=1e-30",
            "optimizer.weight_decay=0",
            "agent.policy=none",
            "evaluation.windows=auto",
        ];
        bench.run("a", &[kind.settings, &still].concat());

        let rows = bench.evaluations("a", record::Split::Validation);
        assert_eq!(rows.len(), 4);
        assert!(
            rows.iter().all(|row| (row.loss, row.accuracy) == (rows[0].loss, rows[0].accuracy)),
            "{rows:?}"
        );

        let losses = losses(&bench.metrics("a"));
        assert!(losses.windows(2).any(|pair| pair[0] != pair[1]), "{}", kind.name);
    }
}

/// A run that trains the head alone changes only the head's weights, and every row says so.
#[test]
fn only_the_head_moves_where_the_head_alone_trains() {
    for kind in KINDS.into_iter().filter(|kind| kind.has_classes) {
        let bench = Bench::new();
        let settings = [
            kind.settings,
            &[
                "training.trains=head",
                "agent.policy=none",
                "tying.initial=independent",
                "training.steps=16",
            ],
        ]
        .concat();

        let mut trainer = bench.trainer("a", &settings, None);
        let weights = |model: &dlt_models::Model| {
            let named = model.named_tensors().expect("memory").into_iter();
            let values = |tensor: candle_core::Tensor| {
                tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("f32")
            };
            named.map(|(name, tensor)| (name, values(tensor))).collect::<Vec<_>>()
        };

        let before = weights(trainer.model());
        let (prefix, own) = {
            let architecture = trainer.model().architecture();
            (architecture.shared_prefix(), architecture.own_head())
        };

        while trainer.advance().expect("it does not diverge").is_some() {}
        let after = weights(trainer.model());
        let mut moved = 0;

        for ((name, before), (_, after)) in before.iter().zip(&after) {
            let is_own = name.strip_prefix(prefix).is_some_and(|name| own.contains(&name));
            assert_eq!(before != after, is_own, "{} {name}", kind.name);
            moved += if is_own { before.len() } else { 0 };
        }

        let summary = trainer.finish().expect("it finishes");
        assert_eq!((summary.trainable_parameters_end, summary.block_parameters_end), (moved, 0));
        assert!(bench.steps("a").iter().all(|row| row.trainable_parameters == moved));
    }
}
