//! The learning rate over the run.

use std::f64::consts::PI;

use dlt_spec::spec::{OptimizerSpec, Schedule};

/// Learning rate of training step `step` (from 0) of `steps`: a linear warm-up, then the schedule.
/// A warm-up that is longer than training is cut to its length.
#[must_use]
pub fn learning_rate(spec: &OptimizerSpec, step: usize, steps: usize) -> f64 {
    let warmup_steps = spec.warmup_steps.min(steps);
    if step < warmup_steps {
        // Step 0 already moves: a rate of 0 would waste a batch. The full rate comes with the first
        // step after the warm-up.
        return spec.learning_rate * (step + 1) as f64 / (warmup_steps + 1) as f64;
    }

    match spec.schedule {
        Schedule::Constant => spec.learning_rate,
        Schedule::Cosine => {
            // The last step has the final share, so `rest` is one less than the steps after the
            // warm-up.
            let rest = steps.saturating_sub(warmup_steps + 1).max(1);
            let done = ((step - warmup_steps) as f64 / rest as f64).min(1.0);
            let share =
                spec.final_share + (1.0 - spec.final_share) * 0.5 * (1.0 + (PI * done).cos());

            spec.learning_rate * share
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlt_spec::Spec;

    fn spec(schedule: Schedule, warmup_steps: usize) -> OptimizerSpec {
        OptimizerSpec {
            learning_rate: 2.0,
            schedule,
            warmup_steps,
            final_share: 0.1,
            ..Spec::default().optimizer
        }
    }

    #[test]
    fn constant_without_warmup_never_changes() {
        let spec = spec(Schedule::Constant, 0);
        assert!((0..100).all(|step| learning_rate(&spec, step, 100) == 2.0));
    }

    #[test]
    fn warmup_rises_linearly_to_the_peak() {
        let spec = spec(Schedule::Cosine, 3);
        let rates: Vec<_> = (0..4).map(|step| learning_rate(&spec, step, 100)).collect();
        assert_eq!(rates, [0.5, 1.0, 1.5, 2.0]);
    }

    #[test]
    fn law_a_warmup_longer_than_training_is_as_long_as_training() {
        for schedule in [Schedule::Constant, Schedule::Cosine] {
            let rates = |warmup| {
                (0..3).map(|step| learning_rate(&spec(schedule, warmup), step, 3)).collect()
            };
            let long: Vec<f64> = rates(50);
            let whole: Vec<f64> = rates(3);

            assert_eq!(long, whole);
            assert_eq!(long, [0.5, 1.0, 1.5]);
        }
    }

    #[test]
    fn cosine_ends_at_its_final_share_and_passes_the_middle_halfway() {
        let spec = spec(Schedule::Cosine, 0);
        assert!((learning_rate(&spec, 100, 101) - 0.2).abs() < 1e-12, "the last step of 101");
        assert!((learning_rate(&spec, 50, 101) - 1.1).abs() < 1e-12);

        assert!(
            (1..=100)
                .all(|step| learning_rate(&spec, step, 101) < learning_rate(&spec, step - 1, 101))
        );
    }
}
