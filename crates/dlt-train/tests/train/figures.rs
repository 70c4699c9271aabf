//! Checks that the program still gives the recorded figures: those of the study's runs that are
//! cheap to run again, and those of small runs of every kind. The latter are pinned with the
//! revision of figures that they belong to.

use std::path::{Path, PathBuf};

use candle_core::Device;
use dlt_data::{Material, Places};
use dlt_spec::record::{FIGURES_REVISION, FIRST_FIGURES_REVISION, METRICS_FILE, MetricRow};
use dlt_train::{Plan, RunFolder, Trainer};

use crate::bench::{Bench, losses, provenance};
use crate::materials::{BERT, LLAMA, PICTURES, SENTENCES};

/// Relative tolerance for a loss before any step. Other instruction sets and candle's own
/// operations sum in another order. Other random draws move such a loss by a thousandth at least.
const FORWARD_TOLERANCE: f64 = 1e-5;
/// The same after some steps. AdamW divides small gradients by their own size, so rounding grows.
const TRAINED_TOLERANCE: f64 = 1e-3;

/// Runs of the study on the shipped text whose first steps are kept.
const RECORDED: [&str; 3] = ["conventional-1", "short-1", "reference-1"];
/// Steps that are run again. They include the first two recorded steps, 1 and 4.
const STEPS: usize = 4;

fn recorded(run: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/laptop/runs/shakespeare").join(run)
}

#[test]
fn law_runs_of_the_study_begin_as_they_were_recorded() {
    assert_eq!(
        FIGURES_REVISION, FIRST_FIGURES_REVISION,
        "run the study again, then compare with its records"
    );
    let folder = tempfile::tempdir().expect("a folder");

    for run in RECORDED {
        let spec = RunFolder::read_spec(&recorded(run)).expect("a kept spec");
        let material =
            Material::load(&spec, Places::default(), &mut |_| {}).expect("the shipped text");
        let to = RunFolder::create(&folder.path().join(run), &spec, &provenance())
            .expect("a fresh folder");
        let prepared = Plan::new(spec, material, None, Device::Cpu)
            .and_then(|plan| plan.with_weights(None))
            .expect("it fits");
        let mut trainer = Trainer::new(prepared, to);

        for _ in 0..STEPS {
            trainer.advance().expect("it does not diverge").expect("it has more steps");
        }

        drop(trainer);

        let expected = steps(&recorded(run));
        let now = steps(&folder.path().join(run));
        let compared: Vec<_> = expected.iter().filter(|(step, _)| *step <= STEPS).collect();

        assert_eq!(compared.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, STEPS], "{run}");
        for (step, expected) in compared {
            let tolerance = if *step == 1 { FORWARD_TOLERANCE } else { TRAINED_TOLERANCE };
            let (_, now) = now.iter().find(|(other, _)| other == step).expect("it was run");
            assert!(
                (now / expected - 1.0).abs() < tolerance,
                "{run}, step {step}: {now} for {expected}"
            );
        }
    }
}

/// The losses of a run by their steps.
fn steps(run: &Path) -> Vec<(usize, f64)> {
    let text = std::fs::read_to_string(run.join(METRICS_FILE)).expect("metrics");
    let step = |line: &str| match MetricRow::from_line(line).expect("a row") {
        MetricRow::Step(row) => Some((row.step, row.loss)),
        _ => None,
    };

    text.lines().filter_map(step).collect()
}

/// A small run, its settings, and its results at [`PINNED_AT`]: the loss of the first step, the
/// loss of the last step, and the validation loss of the kept model. It is not an oracle; it only
/// makes a change of figures visible.
struct Pinned {
    name: &'static str,
    settings: &'static [&'static str],
    first: f64,
    last: f64,
    validation: f64,
}

/// The revision that the figures below belong to.
const PINNED_AT: u32 = 1;

const PINNED: [Pinned; 8] = [
    Pinned {
        name: "decided by Q",
        settings: &[],
        first: 3.056307,
        last: 1.928521,
        validation: 1.914529,
    },
    Pinned {
        name: "conventional",
        settings: &["agent.policy=none", "tying.initial=independent"],
        first: 3.056307,
        last: 1.984145,
        validation: 1.916433,
    },
    Pinned {
        name: "at random, dropout",
        settings: &["agent.policy=random", "model.dropout=0.1"],
        first: 3.054853,
        last: 1.990797,
        validation: 1.896190,
    },
    Pinned {
        name: "reference",
        settings: &[
            "method reference",
            "optimizer.learning_rate=0.01",
            "data.tokenizer='@/ended.json'",
        ],
        first: 3.082064,
        last: 2.028635,
        validation: 1.993953,
    },
    Pinned {
        name: BERT.name,
        settings: BERT.settings,
        first: 3.014552,
        last: 1.607925,
        validation: 1.796307,
    },
    Pinned {
        name: LLAMA.name,
        settings: LLAMA.settings,
        first: 3.046076,
        last: 1.449898,
        validation: 1.344154,
    },
    Pinned {
        name: PICTURES.name,
        settings: PICTURES.settings,
        first: 2.310316,
        last: 0.856468,
        validation: 0.745364,
    },
    Pinned {
        name: SENTENCES.name,
        settings: SENTENCES.settings,
        first: 0.688505,
        last: 0.380865,
        validation: 0.318641,
    },
];

#[test]
fn the_figures_of_small_runs_are_those_of_their_revision() {
    assert_eq!(PINNED_AT, FIGURES_REVISION, "pin the figures of the new revision");
    let bench = Bench::new();
    let mut moved = Vec::new();

    for (index, pinned) in PINNED.iter().enumerate() {
        let run = format!("run-{index}");
        // After few steps rounding has not grown yet, and every kind of decision was made once.
        let settings =
            [&["training.steps=12", "evaluation.every_steps=6"], pinned.settings].concat();
        let summary = bench.run(&run, &settings);
        let losses = losses(&bench.metrics(&run));

        for (what, now, expected, tolerance) in [
            ("first loss", losses[0], pinned.first, FORWARD_TOLERANCE),
            ("last loss", losses[losses.len() - 1], pinned.last, TRAINED_TOLERANCE),
            ("validation loss", summary.validation_loss, pinned.validation, TRAINED_TOLERANCE),
        ] {
            let apart = (now / expected - 1.0).abs();
            if apart.is_nan() || apart >= tolerance {
                moved.push(format!("{}: {what} is {now:?}, pinned is {expected:?}", pinned.name));
            }
        }
    }

    assert!(
        moved.is_empty(),
        "figures moved. Where that is meant, raise FIGURES_REVISION, pin the new figures, and run the study again; \
         otherwise find out why:\n{}",
        moved.join("\n")
    );
}
