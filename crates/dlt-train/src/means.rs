//! Means and peaks over training steps.

use serde::{Deserialize, Serialize};

/// Numbers that are averaged, one sample per training step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) trainable_parameters: usize,
    pub(crate) block_parameters: usize,
    pub(crate) independent_layers: usize,
    pub(crate) distinct_layers: usize,
}

/// Peak resident memory of a run in megabytes, measured and predicted, over all processes of the
/// run; `None` if the system does not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peaks {
    pub(crate) resident_mb: Option<f64>,
    pub(crate) predicted_mb: Option<f64>,
}

impl Peaks {
    /// The greater of both values, field by field.
    pub(crate) fn or_above(self, other: Self) -> Self {
        let most = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        Self {
            resident_mb: most(self.resident_mb, other.resident_mb),
            predicted_mb: most(self.predicted_mb, other.predicted_mb),
        }
    }
}

/// Running sums of samples.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Means {
    steps: usize,
    trainable_parameters: f64,
    block_parameters: f64,
    independent_layers: f64,
    distinct_layers: f64,
    rss_mb: f64,
    /// Steps at which resident memory was known.
    rss_steps: usize,
}

impl Means {
    pub(crate) fn add(&mut self, sample: &Sample, rss_mb: Option<f64>) {
        self.steps += 1;
        self.trainable_parameters += sample.trainable_parameters as f64;
        self.block_parameters += sample.block_parameters as f64;
        self.independent_layers += sample.independent_layers as f64;
        self.distinct_layers += sample.distinct_layers as f64;

        if let Some(rss_mb) = rss_mb {
            self.rss_mb += rss_mb;
            self.rss_steps += 1;
        }
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.steps.max(1) as f64
    }

    pub(crate) fn trainable_parameters(&self) -> f64 {
        self.mean(self.trainable_parameters)
    }

    pub(crate) fn block_parameters(&self) -> f64 {
        self.mean(self.block_parameters)
    }

    pub(crate) fn independent_layers(&self) -> f64 {
        self.mean(self.independent_layers)
    }

    pub(crate) fn distinct_layers(&self) -> f64 {
        self.mean(self.distinct_layers)
    }

    pub(crate) fn rss_mb(&self) -> Option<f64> {
        (self.rss_steps > 0).then(|| self.rss_mb / self.rss_steps as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_a_peak_is_that_of_the_process_that_had_most() {
        let peaks = |resident_mb, predicted_mb| Peaks { resident_mb, predicted_mb };
        let large = peaks(Some(300.0), Some(90.0));
        let small = peaks(Some(200.0), Some(100.0));

        assert_eq!(small.or_above(large), peaks(Some(300.0), Some(100.0)));
        assert_eq!(small.or_above(large), large.or_above(small));
        assert_eq!(small.or_above(Peaks::default()), small);
        assert_eq!(Peaks::default().or_above(peaks(None, Some(1.0))), peaks(None, Some(1.0)));
    }
}
