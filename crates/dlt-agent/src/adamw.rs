//! AdamW for the Q-network, as PyTorch defines it.

use crate::network::Parameters;
use serde::{Deserialize, Serialize};

/// Decay of the first moment.
const BETA1: f64 = 0.9;
/// Decay of the second moment.
const BETA2: f64 = 0.999;
/// Added to the root of the second moment.
const EPSILON: f64 = 1e-8;

/// Moments and step count of one Q-network. Weight decay is decoupled; like PyTorch's default it
/// applies to biases too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    /// Steps made so far.
    pub steps: u64,
    /// Running mean of the gradient.
    pub first_moment: Parameters,
    /// Running mean of the squared gradient.
    pub second_moment: Parameters,
}

impl AdamW {
    /// An optimizer that has made no step.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        Self { steps: 0, first_moment: parameters.zeros(), second_moment: parameters.zeros() }
    }

    /// Moves `parameters` one step down `gradient`.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradient: &Parameters,
        learning_rate: f64,
        weight_decay: f64,
    ) {
        self.steps += 1;
        // The scalars are computed in f64 and rounded once; the loop below is f32, as the
        // parameters are.
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let step_size = (learning_rate / (1.0 - BETA1.powi(steps))) as f32;
        let second_root = (1.0 - BETA2.powi(steps)).sqrt() as f32;
        let kept = (1.0 - learning_rate * weight_decay) as f32;
        let moments =
            self.first_moment.tensors_mut().into_iter().zip(self.second_moment.tensors_mut());

        for ((weights, slopes), (first, second)) in
            parameters.tensors_mut().into_iter().zip(gradient.tensors()).zip(moments)
        {
            for (((weight, &slope), first), second) in
                weights.iter_mut().zip(slopes).zip(first).zip(second)
            {
                *first += (1.0 - BETA1) as f32 * (slope - *first);
                *second = BETA2 as f32 * *second + (1.0 - BETA2) as f32 * slope * slope;

                // Epsilon is added after the bias correction of the root, as PyTorch does. Added
                // before it, early steps would be of another size.
                let root = second.sqrt() / second_root + EPSILON as f32;
                *weight = kept * *weight - step_size * *first / root;
            }
        }
    }
}
