//! Whether the program still gives the figures that are recorded: those of the study's runs, as far as they are cheap to run
//! again.

use std::path::{Path, PathBuf};

use candle_core::Device;
use dlt_data::{Material, Places};
use dlt_spec::record::{FIGURES_REVISION, FIRST_FIGURES_REVISION, METRICS_FILE, MetricRow};
use dlt_train::{RunFolder, Trainer};

use crate::bench::provenance;

/// Of a loss before any step: sums in another order, as other instruction sets have it.
const FORWARD_TOLERANCE: f64 = 2e-6;
/// Of a loss after some steps: AdamW divides small gradients by their own size, so that rounding grows. Other draws move
/// the loss by some hundredths of a part.
const TRAINED_TOLERANCE: f64 = 2e-4;

/// Runs of the study on the shipped text whose first steps are kept.
const RECORDED: [&str; 3] = ["conventional-1", "short-1", "reference-1"];
/// Steps that are run again. Of those that are kept these are the first two: 1 and 4.
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
        let material = Material::load(&spec, Places::default(), &mut |_| {}).expect("the shipped text");
        let to = RunFolder::create(&folder.path().join(run), &spec, &provenance()).expect("a fresh folder");
        let mut trainer = Trainer::new(spec, material, None, None, to, Device::Cpu).expect("it fits");
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
            assert!((now / expected - 1.0).abs() < tolerance, "{run}, step {step}: {now} for {expected}");
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
