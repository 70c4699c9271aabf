//! The weights of a model that a run starts from, under the names that this program uses.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use dlt_models::ModelError;
use dlt_models::architecture::Architecture;
use dlt_models::file::ModelFile;
use dlt_models::huggingface;
use dlt_spec::CheckedSpec;
use dlt_spec::size::Extents;

use super::{Pretrained, WeightsLocation};
use crate::Result;
use crate::growth::Growth;
use crate::observer::Observer;

impl Pretrained {
    /// Opens the weights for a model of this spec.
    ///
    /// # Errors
    /// If they cannot be read, or do not fit.
    pub fn weights(
        &self,
        spec: &CheckedSpec,
        data: Extents,
        device: &Device,
        observer: &dyn Observer,
    ) -> Result<Weights<'_>> {
        let (architecture, growth) = Growth::of(spec, data, self.extents)?;
        let tensors = match &self.location {
            WeightsLocation::Saved(saved) => TensorSource::Saved(saved.file()),
            WeightsLocation::Folder(folder) => {
                let weights = huggingface::Weights::open(folder, &*architecture, device)?;
                for note in weights.notes() {
                    observer.remark(&format!("{}: {note}", self.name));
                }
                TensorSource::Folder(weights)
            }
        };

        let mut weights =
            Weights { tensors, architecture, growth, device: device.clone(), drawn: Vec::new() };
        weights.drawn = weights.unfit()?;

        Ok(weights)
    }
}

/// Weights under the names that this program uses.
pub struct Weights<'a> {
    tensors: TensorSource<'a>,
    /// Layout of the model that they belong to, before any growth.
    architecture: Arc<dyn Architecture>,
    /// Rows to add to them.
    growth: Growth,
    device: Device,
    /// Names of the objective's own parameters, if one of them is missing or has another shape.
    drawn: Vec<String>,
}

/// Where the tensors are read from.
enum TensorSource<'a> {
    Saved(&'a ModelFile),
    Folder(huggingface::Weights),
}

impl Weights<'_> {
    /// One tensor; `None` if it does not exist, or if it belongs to a head that is drawn instead.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn lookup(&self, name: &str) -> dlt_models::Result<Option<Tensor>> {
        if self.drawn.iter().any(|drawn| drawn == name) { Ok(None) } else { self.find(name) }
    }

    /// Names of the parameters of a new head, which have to be drawn at random.
    #[must_use]
    pub fn drawn(&self) -> &[String] {
        &self.drawn
    }

    /// One tensor, also of a head that would be drawn.
    ///
    /// # Errors
    /// If a folder lacks it.
    pub(crate) fn find(&self, name: &str) -> dlt_models::Result<Option<Tensor>> {
        let found = self.find_as_it_is(name)?;
        found.map(|tensor| self.growth.grow(name, tensor)).transpose()
    }

    fn find_as_it_is(&self, name: &str) -> dlt_models::Result<Option<Tensor>> {
        match &self.tensors {
            TensorSource::Saved(file) => file.lookup(name, &*self.architecture, &self.device),
            TensorSource::Folder(weights) => weights.lookup(name),
        }
    }

    /// Names of the head's parameters if any of them does not fit: half a head of another task
    /// would be useless, so either all of it is used or all of it is new.
    fn unfit(&self) -> dlt_models::Result<Vec<String>> {
        let layout = self.architecture.shared_layout();
        let prefix = self.architecture.shared_prefix();
        let own = self.architecture.own_head();
        let own: Vec<_> =
            layout.entries().iter().filter(|entry| own.contains(&entry.name)).collect();
        let named = |name: &str| format!("{prefix}{name}");

        for entry in &own {
            let is_fit = match self.find_as_it_is(&named(entry.name)) {
                Ok(found) => found.is_some_and(|tensor| tensor.dims() == entry.shape),
                Err(ModelError::Weight { .. }) => false,
                Err(error) => return Err(error),
            };

            if !is_fit {
                return Ok(own.iter().map(|entry| named(entry.name)).collect());
            }
        }

        Ok(Vec::new())
    }
}
