//! Watches for a loss that explodes while it is still a finite number.

use std::collections::VecDeque;

/// Losses that the next one is compared with: enough that a single odd batch does not move their
/// median.
const WINDOW: usize = 16;

/// Multiple of the median of recent losses above which a loss is worth a warning. In a healthy run
/// the losses of batches differ by some tens of a percent; one and a half times the median is far
/// outside of that.
const FACTOR: f64 = 1.5;

/// Least median that losses are compared with, in nats. Below it, where a model classifies nearly
/// everything right, the losses of single batches differ by multiples.
const LEAST: f64 = 1.0;

/// Steps between two warnings, so that a failing run does not fill the log.
const EVERY: usize = 64;

/// The recent losses of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct LossWatch {
    last: VecDeque<f64>,
    warned: Option<usize>,
}

impl LossWatch {
    /// Takes the loss of a step. Returns the median of the losses before it if the loss is far
    /// above that, and no warning was given recently.
    pub(crate) fn see(&mut self, step: usize, loss: f64) -> Option<f64> {
        let median = (self.last.len() == WINDOW).then(|| {
            let mut sorted: Vec<_> = self.last.iter().copied().collect();
            sorted.sort_by(f64::total_cmp);
            sorted[WINDOW / 2]
        });

        // A loss that is not finite is no measure for the next ones; `training.non_finite` says
        // what becomes of its step.
        if loss.is_finite() {
            self.last.push_back(loss);
            if self.last.len() > WINDOW {
                self.last.pop_front();
            }
        }

        let is_quiet = self.warned.is_some_and(|warned| step < warned + EVERY);
        let exploded = median.filter(|median| loss > FACTOR * median.max(LEAST) && !is_quiet);
        if exploded.is_some() {
            self.warned = Some(step);
        }

        exploded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_far_above_the_others_is_reported_once_in_a_while() {
        let mut watch = LossWatch::default();
        assert!((0..100).all(|step| watch.see(step, 5.0 + (step % 7) as f64 / 7.0).is_none()));

        let median = watch.see(100, 9.0).expect("far above");
        assert!((5.0..6.0).contains(&median));
        assert_eq!(watch.see(101, 9.0), None);

        assert!(
            (102..200)
                .filter(|&step| watch.see(step, 5.0 * 1.2f64.powi(step as i32)).is_some())
                .count()
                >= 1
        );
    }

    #[test]
    fn a_falling_loss_and_the_first_steps_are_not_reported() {
        let mut watch = LossWatch::default();
        assert!((0..200).all(|step| watch.see(step, 10.0 * 0.98f64.powi(step as i32)).is_none()));

        // If nearly all classes are right, one batch of hard examples is many times worse than the
        // others. That is no explosion.
        let mut watch = LossWatch::default();
        assert!(
            (0..200).all(|step| watch.see(step, if step % 20 == 0 { 1.2 } else { 0.1 }).is_none())
        );
        assert!(watch.see(200, 1.6).is_some());

        let mut watch = LossWatch::default();
        assert_eq!(watch.see(0, 1.0), None);
        assert_eq!(watch.see(1, 100.0), None);
    }
}
