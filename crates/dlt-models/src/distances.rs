//! How far apart the weights of a model's layers are.

use std::collections::BTreeSet;

use candle_core::Tensor;
use dlt_kernels::optimizer;

use crate::binding::StorageId;
use crate::{Model, Result};

impl Model {
    /// Squared distances between the tied weights of each two layers' blocks, and the squared norm of
    /// each layer's. Sums are f64. Layers with one storage have a distance of zero.
    ///
    /// Each pair of storages is compared once, one parameter at a time. Besides the model, memory
    /// holds at most the drawn weights of two layers for that parameter, and their difference.
    ///
    /// # Shapes
    /// Distances L x L, row-major; norms L.
    ///
    /// # Errors
    /// Fails if the device does or has no memory left.
    pub fn weight_distances(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let layers: Vec<StorageId> =
            (0..self.binding.n_layers()).map(|layer| self.binding.storage(layer)).collect();
        let storages: Vec<StorageId> =
            BTreeSet::from_iter(layers.iter().copied()).into_iter().collect();
        let count = storages.len();
        let mut distances = vec![0.0; count * count];
        let mut norms = vec![0.0; count];

        for parameter in 0..self.bank.layout().entries().len() {
            for (a, &one) in storages.iter().enumerate() {
                let of_one = self.bank.parameter(one, parameter)?;
                norms[a] += optimizer::squared_norm(&of_one)?;

                for (b, &other) in storages.iter().enumerate().skip(a + 1) {
                    let distance =
                        squared_distance(&of_one, &self.bank.parameter(other, parameter)?)?;
                    distances[a * count + b] += distance;
                    distances[b * count + a] += distance;
                }
            }
        }

        // From storages to layers: the numbers of each layer's storage in the rising list.
        let number = |layer: &StorageId| storages.partition_point(|id| id < layer);
        let numbers: Vec<usize> = layers.iter().map(number).collect();
        let pairs = numbers.iter().flat_map(|a| numbers.iter().map(move |b| a * count + b));

        Ok((
            pairs.map(|pair| distances[pair]).collect(),
            numbers.iter().map(|&a| norms[a]).collect(),
        ))
    }
}

fn squared_distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok(optimizer::squared_norm(&(a.detach() - b.detach())?)?)
}
