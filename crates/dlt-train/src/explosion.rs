//! Watches for a loss that explodes while it is still a finite number.

use std::collections::VecDeque;

/// Losses that the next one is compared with: as many as make a median that a single odd batch does
/// not move.
const WINDOW: usize = 16;

/// How far above the median of the last losses a loss is worth a word. Batches of a run that goes
/// well differ by some tens of a percent; one and a half times the median is far outside of that.
const FACTOR: f64 = 1.5;

/// Least median that losses are compared with, in nats: below it, where classes are nearly told
/// apart, the losses of single batches differ by multiples.
const LEAST: f64 = 1.0;

/// Steps between two warnings, so that a run that has gone wrong does not fill the log.
const EVERY: usize = 64;

/// The last losses of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct LossWatch {
    last: VecDeque<f64>,
    warned: Option<usize>,
}

impl LossWatch {
    /// Takes the loss of a step; the answer is the median that it has left far behind, if it has.
    pub(crate) fn see(&mut self, step: usize, loss: f64) -> Option<f64> {
        let median = (self.last.len() == WINDOW).then(|| {
            let mut sorted: Vec<_> = self.last.iter().copied().collect();
            sorted.sort_by(f64::total_cmp);
            sorted[WINDOW / 2]
        });

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
    fn a_loss_that_leaves_the_others_behind_is_told_once_in_a_while() {
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
    fn a_falling_loss_and_the_first_steps_are_not_told() {
        let mut watch = LossWatch::default();
        assert!((0..200).all(|step| watch.see(step, 10.0 * 0.98f64.powi(step as i32)).is_none()));

        // Where classes are nearly told apart, one batch of hard ones is many times as bad as
        // others, and no explosion.
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
