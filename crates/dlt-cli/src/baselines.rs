//! Recorded results of other ways to train the same model with the same budget, to show with the
//! result of a run.

use dlt_spec::baseline::Baseline;
use dlt_spec::{CheckedSpec, Spec, diff, presets};

/// Every recorded result, as `cargo xtask report` makes them from the records of the study.
const RECORDED: &str = include_str!("../baselines/recorded.json");

/// The results recorded for the same budget. A run with another method or seed has the same budget.
/// A run with another model, other data, another number of steps, another batch, or an evaluation
/// of fewer windows has not.
pub(crate) fn recorded_for(spec: &CheckedSpec) -> Vec<Baseline> {
    let recorded: Vec<Baseline> = serde_json::from_str(RECORDED).unwrap_or_default();
    recorded
        .into_iter()
        .filter(|baseline| {
            preset(&baseline.preset).is_some_and(|preset| is_same_budget(spec, &preset))
        })
        .collect()
}

fn preset(name: &str) -> Option<Spec> {
    presets::preset(name).and_then(presets::Preset::spec).ok()
}

fn is_same_budget(a: &Spec, b: &Spec) -> bool {
    // The perplexity of some windows is not comparable with that of the whole split.
    let budget = ["model.", "data.", "training.", "evaluation.final_windows"];
    !diff(a, b).iter().any(|change| budget.iter().any(|section| change.key.starts_with(section)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlt_spec::Overlay;

    #[test]
    fn what_is_recorded_can_be_read_and_belongs_to_presets() {
        let recorded: Vec<Baseline> = serde_json::from_str(RECORDED).unwrap();
        assert!(recorded.iter().any(|baseline| baseline.preset == presets::DEFAULT_PRESET));

        for baseline in recorded {
            let preset = preset(&baseline.preset).unwrap();
            assert_eq!(preset.training.steps.or(baseline.steps), baseline.steps, "{baseline:?}");
            assert!(baseline.command.starts_with("dlt train"), "{baseline:?}");
            assert!(baseline.validation_perplexity > 1.0 && baseline.test_perplexity > 1.0);
        }
    }

    #[test]
    fn another_method_or_seed_has_the_same_budget_and_other_steps_have_not() {
        let preset = presets::preset("smoke").unwrap();
        let with = |set: &str| {
            Spec::assemble(&[preset.overlay().unwrap(), Overlay::from_assignment(set).unwrap()])
                .unwrap()
        };

        for same in ["seed=7", "name=x", "agent.policy=none", "optimizer.learning_rate=0.1"] {
            assert!(is_same_budget(&with(same), &preset.spec().unwrap()), "{same}");
        }

        for other in [
            "training.steps=31",
            "model.width=64",
            "data.source=x.txt",
            "evaluation.final_windows=3",
        ] {
            assert!(!is_same_budget(&with(other), &preset.spec().unwrap()), "{other}");
        }
    }
}
