//! The model file: safetensors, each distinct block once, with the binding of layers in the metadata.
//!
//! # Format, version 1
//! Tensors are f32, named as in the Hugging Face model of the architecture, linear weights (out, in). A block
//! stands under the number of the lowest layer that uses it. Metadata, all text:
//!
//! | key | value |
//! |---|---|
//! | `format` | `pt`, for readers that ask for it |
//! | `dlt-model` | version of this layout, `1` |
//! | `storage` | for each layer the lowest layer with the same weights, `0,0,2` |
//! | `frozen` | layers that still use their untrained initial weights, `3,4` |
//! | `frozen-seed` | root seed that those weights were drawn from; they stand in the file all the same |
//! | `independent` | layers that train by themselves, `0,2` |
//!
//! and whatever the writer adds, among it `spec`, the run's specification as TOML.

pub(crate) mod deferred;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{Device, Tensor};
use dlt_kernels::Kernels;
use safetensors::SafeTensors;

use crate::architecture::Architecture;
use crate::binding::{Binding, Rules, StorageId};
use crate::file::deferred::Deferred;
use crate::parameters::Layout;
use crate::{Model, ModelError, Result};

/// Version of the layout that this program writes and reads.
pub const VERSION: &str = "1";

impl Model {
    /// Tensors by name as a model file holds them: shared ones, and each distinct block once.
    ///
    /// # Errors
    /// Fails where the device has no memory left for the weights of frozen layers.
    pub fn named_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.written().into_iter().map(|(name, tensor)| Ok((name, tensor.tensor()?))).collect()
    }

    fn written(&self) -> Vec<(String, Deferred<'_>)> {
        let mut named = Vec::new();
        let mut name_all = |prefix: &str, place, layout: &Layout| {
            for (index, entry) in layout.entries().iter().enumerate() {
                let fetch = move || self.parameter(place, index);
                named.push((format!("{prefix}{}", entry.name), Deferred::new(entry.shape.clone(), fetch)));
            }
        };
        name_all(self.architecture.shared_prefix(), Place::Shared, self.shared.layout());
        for (layer, &lowest) in self.binding.partition().iter().enumerate() {
            if layer == lowest {
                let prefix = self.architecture.block_prefix(layer);
                name_all(&prefix, Place::Block(self.binding.storage(layer)), self.bank.layout());
            }
        }
        named
    }

    /// One parameter, by its number in the layout: so the weights of frozen layers are drawn one by one and never
    /// held together.
    pub(crate) fn parameter(&self, place: Place, index: usize) -> Result<Tensor> {
        match place {
            Place::Shared => Ok(self.shared.variables()[index].as_detached_tensor()),
            Place::Block(id) => self.bank.parameter(id, index),
        }
    }

    /// Writes the model: to a temporary sibling, synced, then renamed into place.
    ///
    /// # Errors
    /// [`ModelError::Io`] where the folder cannot be written; what stood under `path` before is then
    /// untouched.
    pub fn save(&self, path: &Path, extra: &BTreeMap<String, String>) -> Result<()> {
        let layers = |wanted: &dyn Fn(usize) -> bool| {
            list((0..self.binding.n_layers()).filter(|&layer| wanted(layer)))
        };
        let mut metadata = extra.clone();
        metadata.insert("format".to_owned(), "pt".to_owned());
        metadata.insert("dlt-model".to_owned(), VERSION.to_owned());
        metadata.insert("storage".to_owned(), list(self.binding.partition()));
        metadata.insert("frozen".to_owned(), layers(&|layer| self.binding.is_frozen(layer)));
        metadata.insert("independent".to_owned(), layers(&|layer| self.binding.is_independent(layer)));

        if let Some(seed) = self.bank.seed() {
            metadata.insert("frozen-seed".to_owned(), seed.to_string());
        }
        deferred::write(path, self.written(), metadata)
    }
}

/// Where a parameter of a model stands.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Outside of blocks.
    Shared,
    /// In the block behind this storage.
    Block(StorageId),
}

/// A model file that has been read and whose binding has been checked.
pub struct ModelFile {
    path: PathBuf,
    metadata: BTreeMap<String, String>,
    binding: Binding,
    tensors: BufferedSafetensors,
}

impl ModelFile {
    /// Reads a model file.
    ///
    /// # Errors
    /// [`ModelError::Io`] where it cannot be read, [`ModelError::Format`] where it is not a model file of
    /// this version, is damaged, or its binding contradicts itself.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let refuse = |reason: String| ModelError::Format { path: path.to_owned(), reason };
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| refuse(format!("not a safetensors file: {error}")))?;
        let metadata: BTreeMap<String, String> =
            header.metadata().clone().unwrap_or_default().into_iter().collect();
        match metadata.get("dlt-model").map(String::as_str) {
            Some(VERSION) => {}
            Some(other) => {
                return Err(refuse(format!("expected model layout version {VERSION}, came {other}")));
            }
            None => return Err(refuse("a safetensors file, but not one of dlt's model files".to_owned())),
        }
        let binding = binding(&metadata).map_err(refuse)?;
        let tensors = BufferedSafetensors::new(bytes).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { path: path.to_owned(), metadata, binding, tensors })
    }

    /// What the writer noted beside the tensors.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Which layers share weights.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The model that the file holds.
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a tensor that is missing or has another shape than `architecture` says,
    /// [`ModelError::Depth`] where the depths differ.
    pub fn model(
        &self,
        architecture: Box<dyn Architecture>,
        rules: Rules,
        kernels: Kernels,
        device: &Device,
    ) -> Result<Model> {
        let (expected, came) = (architecture.n_layers(), self.binding.n_layers());
        if expected != came {
            return Err(ModelError::Depth { expected, came });
        }
        let lookup = |name: &str| self.tensor(name, device);
        let seed = self.metadata.get("frozen-seed").and_then(|seed| seed.parse().ok());
        Model::from_weights(architecture, self.binding.clone(), rules, kernels, &lookup, seed, device)
    }
}

impl ModelFile {
    fn tensor(&self, name: &str, device: &Device) -> Result<Option<Tensor>> {
        match self.tensors.get(name) {
            Ok(_) => self.tensors.load(name, device).map(Some).map_err(|error| ModelError::Format {
                path: self.path.clone(),
                reason: format!("tensor `{name}`: {error}"),
            }),
            Err(_) => Ok(None),
        }
    }

    /// A tensor by the name that it has in a model whose layers share nothing: every layer finds the weights that it
    /// uses, though they stand in the file under another one's name.
    ///
    /// # Errors
    /// [`ModelError::Format`] where the tensor is damaged.
    pub fn lookup(
        &self,
        name: &str,
        architecture: &dyn Architecture,
        device: &Device,
    ) -> Result<Option<Tensor>> {
        for (layer, lowest) in self.binding.partition().into_iter().enumerate() {
            if let Some(own) = name.strip_prefix(architecture.block_prefix(layer).as_str()) {
                return self.tensor(&format!("{}{own}", architecture.block_prefix(lowest)), device);
            }
        }
        self.tensor(name, device)
    }
}

fn list(layers: impl IntoIterator<Item = usize>) -> String {
    layers.into_iter().map(|layer| layer.to_string()).collect::<Vec<_>>().join(",")
}

fn binding(metadata: &BTreeMap<String, String>) -> std::result::Result<Binding, String> {
    let parse = |key: &str| -> std::result::Result<Vec<usize>, String> {
        let text = metadata.get(key).ok_or_else(|| format!("the metadata lacks `{key}`"))?;
        let numbers = text.split(',').filter(|part| !part.is_empty()).map(str::parse);
        numbers.collect::<std::result::Result<_, _>>().map_err(|_| {
            format!("metadata `{key}`: expected layer numbers with commas between, came `{text}`")
        })
    };
    Binding::from_parts(&parse("storage")?, &parse("frozen")?, &parse("independent")?)
}
