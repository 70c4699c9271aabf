//! Whole runs of a tiny model: the files they leave, what they share with other runs, and which
//! model they keep.

use dlt_data::Split;
use dlt_spec::record::{self, MetricRow, without_times};
use dlt_state::State;
use dlt_train::{MODEL_FILE, RunFolder, evaluation};

use crate::bench::{Bench, losses};
use crate::fixtures::largest;
use crate::materials::{BERT, LLAMA};

#[test]
fn a_run_learns_and_leaves_a_complete_folder() {
    let bench = Bench::new();
    let summary = bench.run("a", &["training.steps=60"]);

    for file in [
        "spec.toml",
        "provenance.json",
        "metrics.jsonl",
        "states.jsonl",
        "summary.json",
        MODEL_FILE,
    ] {
        assert!(bench.path("a").join(file).is_file(), "{file}");
    }

    let files = std::fs::read_dir(bench.path("a")).expect("a folder").count();
    assert_eq!(files, 8, "besides these only the checkpoints and the lock");

    let losses = losses(&bench.metrics("a"));
    assert_eq!(losses.len(), 60);
    assert!(
        losses[50..].iter().sum::<f64>() < 0.8 * losses[..10].iter().sum::<f64>(),
        "{losses:?}"
    );
    assert!(summary.validation_perplexity < summary.unigram_perplexity);

    assert_eq!(
        summary,
        RunFolder::read_summary(&bench.path("a")).expect("readable").expect("finished")
    );
    let spec = RunFolder::read_spec(&bench.path("a")).expect("readable");
    assert_eq!(*spec, *bench.spec(&["training.steps=60"]));
}

/// Tolerance for the loss, which is one to two nats. bf16 rounds each number by up to 4e-3 of it,
/// up or down.
const NARROW_TOLERANCE: f64 = 0.01;

#[test]
fn a_run_with_narrow_activations_learns_as_one_with_wide_ones() {
    let bench = Bench::new();

    for kind in [&[][..], BERT.settings, LLAMA.settings] {
        let run = |name: &str, activations: &str| {
            // Decisions that do not depend on the loss, so that both runs train the same layers.
            // Small steps, so that small differences stay small.
            let small =
                ["training.steps=60", "agent.policy=random", "optimizer.learning_rate=0.002"];
            let settings = [kind, &small, &[activations]].concat();
            bench.run(name, &settings)
        };

        let name = |activations: &str| format!("{activations}-{}", kind.len());
        let expected = run(&name("f32"), "training.activations=f32");
        let narrow = name("bf16");
        let got = run(&narrow, "training.activations=bf16");
        let losses = losses(&bench.metrics(&narrow));

        assert!(
            losses[50..].iter().sum::<f64>() < 0.9 * losses[..10].iter().sum::<f64>(),
            "{losses:?}"
        );
        let loss = |perplexity: f64| perplexity.ln();

        for (got, expected) in [
            (got.validation_perplexity, expected.validation_perplexity),
            (got.test_perplexity.unwrap(), expected.test_perplexity.unwrap()),
        ] {
            assert_ne!(got.to_bits(), expected.to_bits());
            let apart = (loss(got) / loss(expected) - 1.0).abs();
            assert!(apart < NARROW_TOLERANCE, "{kind:?}: {got} for {expected}");
        }
    }
}

/// Three products of bf16 are nearly as exact as one of f32, so a run stays near; one product is
/// not.
#[test]
fn law_a_run_of_three_products_stays_by_that_of_f32() {
    let bench = Bench::new();
    let losses = |name: &str, setting: &str| {
        bench.run(name, &["training.steps=20", "agent.policy=random", setting]);
        losses(&bench.metrics(name))
    };

    let expected = losses("f32", "training.products=f32");
    let apart = |got: &[f64]| {
        let apart = got.iter().zip(&expected).map(|(got, expected)| (got / expected - 1.0).abs());
        apart.fold(0.0, f64::max)
    };

    let three = apart(&losses("three", "training.products=bf16x3"));
    let one = apart(&losses("one", "training.activations=bf16"));
    assert!(three < one / 30.0, "{three} and {one}");
    // candle's own operations know no other products.
    assert_eq!(three == 0.0, cfg!(feature = "composed"), "{three}");
}

#[test]
fn law_the_same_seed_gives_the_same_bits_and_another_does_not() {
    let bench = Bench::new();
    let comparable = |run: &str| -> Vec<String> {
        let text =
            std::fs::read_to_string(bench.path(run).join(record::METRICS_FILE)).expect("metrics");
        text.lines().map(without_times).collect()
    };

    let dropout = "model.dropout=0.1";
    bench.run("a", &[dropout]);
    bench.run("b", &[dropout]);
    bench.run("c", &[dropout, "seed=2"]);
    assert_eq!(comparable("a"), comparable("b"));
    assert_ne!(comparable("a"), comparable("c"));

    let model = |run: &str| std::fs::read(bench.path(run).join(MODEL_FILE)).expect("a model");
    assert!(model("a") == model("b"), "equal runs leave equal model files");
}

#[test]
fn metrics_agree_with_the_recorded_states() {
    let bench = Bench::new();
    let summary = bench.run("a", &[]);
    let recording = bench.recording("a");
    let mut independent = Vec::new();

    for row in bench.metrics("a") {
        if let MetricRow::Step(step) = row {
            // The state that this step trained: the last one decided before it.
            let state: &State = recording.state_at(step.step - 1);
            assert_eq!(step.independent_layers, state.n_independent());
            independent.push(step.independent_layers as f64);
        }
    }

    let mean = independent.iter().sum::<f64>() / independent.len() as f64;
    assert!((summary.independent_layers_mean - mean).abs() < 1e-12);

    let steps: usize = recording.steps_independent(24).iter().sum();
    assert_eq!(steps as f64, independent.iter().sum::<f64>());
}

#[test]
fn conventional_training_trains_every_layer_and_decides_nothing() {
    let bench = Bench::new();
    let summary = bench.run("c", &["agent.policy=none", "tying.initial=independent"]);
    assert_eq!(summary.trainable_parameters_end, summary.conventional_parameters);
    assert_eq!(summary.block_parameters_mean, summary.conventional_block_parameters as f64);
    assert_eq!(summary.independent_layers_mean, 4.0);
    assert!(bench.recording("c").rows().is_empty());
}

#[test]
fn a_fixed_pattern_can_stand_from_the_start_or_be_decided() {
    let bench = Bench::new();
    let summary = bench.run("start", &["agent.policy=none", "tying.initial=cycle"]);
    assert_eq!((summary.independent_layers_mean, summary.distinct_layers_end), (2.0, 2));
    bench.run("decided", &["agent.policy=fixed", "agent.pattern=cycle"]);

    let recording = bench.recording("decided");
    assert!(recording.iter().all(|(_, state)| state.owners() == [0, 1, 0, 1]));
}

#[test]
fn the_reference_method_runs_with_its_own_order_and_reports_selection_on_test() {
    let bench = Bench::new();
    let settings = [
        "method reference",
        "data.pipeline=stream",
        "tying.decide_every=3",
        "optimizer.learning_rate=0.01",
    ];

    let summary = bench.run("r", &settings);
    let selected = summary.test_perplexity_selected_on_test.expect("requested");
    assert!(selected.is_finite() && selected > 1.0);

    let recording = bench.recording("r");
    let visits: Vec<_> = recording.rows().iter().map(|row| (row.step(), row.layer())).collect();
    assert_eq!(visits[..4], [(0, Some(1)), (3, Some(2)), (6, Some(3)), (9, Some(1))]);

    let rewarded = |row: &&MetricRow| matches!(row, MetricRow::Decision(decision) if decision.reward.is_some());
    assert_eq!(bench.metrics("r").iter().filter(rewarded).count(), recording.rows().len());
}

#[test]
fn micro_batches_follow_the_whole_batch() {
    /// f32 sums in another order, through 24 AdamW steps at 1e-2.
    const TOLERANCE: f64 = 1e-3;
    let bench = Bench::new();
    bench.run("whole", &["model.dropout=0.1"]);
    bench.run("pieces", &["model.dropout=0.1", "training.micro_batch=1"]);

    let whole = losses(&bench.metrics("whole"));
    let pieces = losses(&bench.metrics("pieces"));
    assert_eq!(whole.len(), pieces.len());

    let apart = largest(whole.iter().zip(&pieces).map(|(a, b)| a - b));
    assert!(apart < TOLERANCE, "{apart}");
}

#[test]
fn the_kept_model_is_the_best_on_validation() {
    let bench = Bench::new();
    // The rate is too large, so that the last evaluation is not the best one.
    let settings = ["optimizer.learning_rate=0.3", "evaluation.every_steps=2", "training.steps=20"];
    let summary = bench.run("a", &settings);
    let mut rows = bench.evaluations("a", record::Split::Validation);
    let last = rows.pop().expect("the kept model is evaluated last");

    assert_eq!(
        rows.iter().map(|row| row.step).collect::<Vec<_>>(),
        (2..=20).step_by(2).collect::<Vec<_>>()
    );
    let best = rows.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).expect("evaluations");
    assert!(best.step < summary.steps, "the test needs a run whose last model is not its best");
    assert_eq!(summary.best_step, best.step);

    // The split has fewer windows than requested, so the best row is an evaluation of all of it.
    assert_eq!((last.step, last.loss, last.tokens), (best.step, best.loss, best.tokens));
    assert_eq!(summary.validation_loss, best.loss);

    let spec = bench.spec(&settings);
    let model = bench.model(&bench.path("a").join(MODEL_FILE), &settings);
    let material = bench.material(&spec);
    let loss = |split| {
        let examples = material.examples(split);
        evaluation::evaluate(&model, examples, spec.evaluation_batch()).expect("an evaluation")
    };

    assert_eq!(loss(Split::Validation).loss(), best.loss, "the saved weights are the best ones");
    let tests = bench.evaluations("a", record::Split::Test);
    assert_eq!(tests.len(), 1, "the test split is read once");
    assert_eq!(tests[0].loss, loss(Split::Test).loss());
    assert_eq!(summary.test_perplexity, Some(tests[0].loss.exp()));
}

#[test]
fn law_a_trainable_start_differs_from_an_independent_one_by_the_state_alone() {
    let bench = Bench::new();
    let run = |name: &str, initial: &str| {
        bench.run(name, &["agent.policy=random", "tying.decide_every=5", initial]);
        (losses(&bench.metrics(name)), bench.steps(name), bench.recording(name))
    };

    let (losses, steps, recording) = run("trainable", "tying.initial=trainable");
    let (expected, expected_steps, expected_recording) =
        run("independent", "tying.initial=independent");
    assert_eq!(losses, expected, "chance sees no state, and the same weights train");
    assert_eq!(recording.state_at(24), expected_recording.state_at(24));

    let before = |steps: &[dlt_spec::record::StepRow]| {
        (steps[0].independent_layers, steps[0].distinct_layers, steps[0].block_parameters)
    };
    let (state, storages, parameters) = before(&steps);
    assert_eq!((state, storages), (1, 4));
    assert_eq!((4, storages, parameters), before(&expected_steps));
}
