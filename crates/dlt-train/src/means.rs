//! Means over training steps.

use serde::{Deserialize, Serialize};

/// What is averaged, one sample a training step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) trainable_parameters: usize,
    pub(crate) block_parameters: usize,
    pub(crate) independent_layers: usize,
    pub(crate) distinct_layers: usize,
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
