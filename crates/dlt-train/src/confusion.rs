//! Right classes against predicted ones.

use dlt_spec::record::Scores;

/// Counts of right classes against predicted classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// (K, K) counts, row by row: right class, then predicted class.
    counts: Vec<u64>,
    classes: usize,
}

impl Confusion {
    /// No answers yet, for this number of classes.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { counts: vec![0; classes * classes], classes }
    }

    /// Counts one answer. Classes outside of the range are not counted.
    pub fn add(&mut self, right: u32, said: u32) {
        if let Some(count) = self.counts.get_mut(right as usize * self.classes + said as usize) {
            *count += 1;
        }
    }

    /// The counts of two parts of the same examples together.
    #[must_use]
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own += other);
        self
    }

    /// (K, K) counts, row by row: right class, then predicted class.
    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The confusion of such counts.
    pub(crate) fn of_counts(counts: Vec<u64>) -> Self {
        Self { classes: counts.len().isqrt(), counts }
    }

    fn count(&self, right: usize, said: usize) -> f64 {
        self.counts[right * self.classes + said] as f64
    }

    fn total(&self) -> f64 {
        self.counts.iter().sum::<u64>() as f64
    }

    /// Share of right answers; NaN if there are no answers.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        (0..self.classes).map(|class| self.count(class, class)).sum::<f64>() / self.total()
    }

    /// Share of the most frequent right class.
    #[must_use]
    pub fn majority_accuracy(&self) -> f64 {
        let of = |right| (0..self.classes).map(|said| self.count(right, said)).sum::<f64>();
        (0..self.classes).map(of).fold(0.0, f64::max) / self.total()
    }

    /// Matthews correlation for two classes: 0 if only one class is ever right, or only one is ever
    /// predicted.
    ///
    /// # Source
    /// GLUE reports it on CoLA.
    #[must_use]
    pub fn matthews(&self) -> Option<f64> {
        let [true_negative, false_positive, false_negative, true_positive] = self.of_two()?;
        let product = (true_positive + false_positive)
            * (true_positive + false_negative)
            * (true_negative + false_positive)
            * (true_negative + false_negative);
        let difference = true_positive * true_negative - false_positive * false_negative;

        Some(if product == 0.0 { 0.0 } else { difference / product.sqrt() })
    }

    /// F1 of class 1 of two: 0 if it is never right and never predicted.
    ///
    /// # Source
    /// GLUE reports it on MRPC.
    #[must_use]
    pub fn f1(&self) -> Option<f64> {
        let [_, false_positive, false_negative, true_positive] = self.of_two()?;
        let all = 2.0 * true_positive + false_positive + false_negative;
        Some(if all == 0.0 { 0.0 } else { 2.0 * true_positive / all })
    }

    fn of_two(&self) -> Option<[f64; 4]> {
        let counts: &[u64; 4] = self.counts.as_slice().try_into().ok()?;
        Some(counts.map(|count| count as f64))
    }

    /// All scores.
    #[must_use]
    pub fn scores(&self) -> Scores {
        Scores {
            accuracy: self.accuracy(),
            majority_accuracy: self.majority_accuracy(),
            matthews: self.matthews(),
            f1: self.f1(),
        }
    }
}
