//! The model file: safetensors, each distinct block once, with the binding of layers in the
//! metadata.
//!
//! # Format, version 2
//! Tensors are f32, named as in the Hugging Face model of the architecture, linear weights (out,
//! in), in the order of their names. A block is under the number of the lowest layer that uses it.
//! Metadata, all text:
//!
//! | key | value |
//! |---|---|
//! | `format` | `pt`, for readers that ask for it |
//! | `dlt-model` | version of this layout, `2` |
//! | `checksum` | SHA-256 of the whole file with 64 zeros in this place |
//! | `storage` | for each layer the lowest layer with the same weights, `0,0,2` |
//! | `frozen` | layers that still use their untrained initial weights, `3,4` |
//! | `frozen-seed` | root seed that those weights were drawn from; they are in the file all the same |
//! | `independent` | layers that train by themselves, `0,2` |
//!
//! and whatever the writer adds, among it `spec`, the run's specification as TOML.
//!
//! Weights are those that train. Where the spec says `residual_scale = "uses"` (DEVIATIONS row 44),
//! a reader multiplies the residual branches of each layer by 1 / (layers in its group at the
//! start); what `dlt export` writes has these factors in its weights.
//!
//! Version 1 is the same without `checksum`, and is read too. The checkpoint of a run holds the
//! checksum of its model file, whatever its version.
//!
//! All of a file is checked when it is opened: no key is there twice, the tensors cover the data
//! exactly, all are f32 and finite, the checksum is that of the bytes, and the binding does not
//! contradict itself. Whether the names and shapes are those of a model is checked by
//! [`ModelFile::check`].

pub(crate) mod deferred;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dlt_kernels::Kernels;
use dlt_spec::tensors::{CHECKSUM, LAYOUT, LAYOUT_KEY, TensorFile, open_model};

use crate::architecture::Architecture;
use crate::binding::{Binding, Rules, StorageId};
use crate::file::deferred::Deferred;
use crate::parameters::Layout;
use crate::{Model, ModelError, Result};

impl Model {
    /// Tensors by name as a model file holds them: shared ones, and each distinct block once.
    ///
    /// # Errors
    /// Fails where the device has no memory left for the weights of frozen layers.
    pub fn named_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.written().into_iter().map(|(name, tensor)| Ok((name, tensor.tensor()?))).collect()
    }

    fn written(&self) -> Vec<(String, Deferred<'_>)> {
        let named = named(&*self.architecture, &self.binding);
        let deferred = |(name, shape, place, index)| {
            (name, Deferred::new(shape, move || self.parameter(place, index)))
        };
        named.into_iter().map(deferred).collect()
    }

    /// One parameter, by its number in the layout: so the weights of frozen layers are drawn one by
    /// one and never held together.
    pub(crate) fn parameter(&self, place: ParameterLocation, index: usize) -> Result<Tensor> {
        match place {
            ParameterLocation::Shared => Ok(self.shared.variables()[index].as_detached_tensor()),
            ParameterLocation::Block(id) => self.bank.parameter(id, index),
        }
    }

    /// Writes the model: to a temporary sibling, synced, then renamed into place.
    ///
    /// # Errors
    /// [`ModelError::Io`] where the folder cannot be written; what stood under `path` before is
    /// then untouched.
    pub fn save(&self, path: &Path, extra: &BTreeMap<String, String>) -> Result<()> {
        let layers = |wanted: &dyn Fn(usize) -> bool| {
            list((0..self.binding.n_layers()).filter(|&layer| wanted(layer)))
        };
        let mut metadata = extra.clone();
        metadata.insert("format".to_owned(), "pt".to_owned());
        metadata.insert(LAYOUT_KEY.to_owned(), LAYOUT.to_owned());
        metadata.insert("storage".to_owned(), list(self.binding.partition()));
        metadata.insert("frozen".to_owned(), layers(&|layer| self.binding.is_frozen(layer)));
        metadata
            .insert("independent".to_owned(), layers(&|layer| self.binding.trains_alone(layer)));

        if let Some(seed) = self.bank.seed() {
            metadata.insert("frozen-seed".to_owned(), seed.to_string());
        }

        deferred::write(path, self.written(), metadata)
    }
}

/// Where a parameter of a model stands.
#[derive(Clone, Copy)]
pub(crate) enum ParameterLocation {
    /// Outside of blocks.
    Shared,
    /// In the block behind this storage.
    Block(StorageId),
}

/// The parameters of a model by name, with shape and place: shared ones, and each distinct block
/// once.
fn named(
    architecture: &dyn Architecture,
    binding: &Binding,
) -> Vec<(String, Vec<usize>, ParameterLocation, usize)> {
    let mut named = Vec::new();
    let mut name_all = |prefix: &str, place, layout: &Layout| {
        for (index, entry) in layout.entries().iter().enumerate() {
            named.push((format!("{prefix}{}", entry.name), entry.shape.clone(), place, index));
        }
    };

    name_all(
        architecture.shared_prefix(),
        ParameterLocation::Shared,
        &architecture.shared_layout(),
    );
    let block = architecture.block_layout();

    for (layer, &lowest) in binding.partition().iter().enumerate() {
        if layer == lowest {
            name_all(
                &architecture.block_prefix(layer),
                ParameterLocation::Block(binding.storage(layer)),
                &block,
            );
        }
    }

    named
}

/// A model file of which every byte has been checked. Tensors are read when they are asked for.
pub struct ModelFile {
    binding: Binding,
    tensors: TensorFile,
    sha256: String,
}

impl ModelFile {
    /// Opens a model file and checks all of it.
    ///
    /// # Errors
    /// [`ModelError::Io`] where it cannot be read, [`ModelError::Format`] where it is not a model
    /// file of a version that is read, is damaged, or its binding contradicts itself,
    /// [`ModelError::NotFinite`] where a weight is no number.
    pub fn open(path: &Path) -> Result<Self> {
        let (tensors, examined) = open_model(path)?;
        let binding =
            binding(&tensors.header().metadata).map_err(|reason| tensors.refuse(reason))?;
        Ok(Self { binding, tensors, sha256: examined.sha256 })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.tensors.path()
    }

    /// SHA-256 of the whole file.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether the file holds its own checksum, as all do since version 2.
    #[must_use]
    pub fn has_checksum(&self) -> bool {
        self.metadata().contains_key(CHECKSUM)
    }

    /// What the writer noted beside the tensors.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.tensors.header().metadata
    }

    /// Which layers share weights.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Compares the file with what a model of this architecture has: each tensor once, of its
    /// shape, and no other.
    ///
    /// # Errors
    /// [`ModelError::Depth`] where the depths differ, [`ModelError::Weight`] for a tensor that is
    /// missing or has another shape, [`ModelError::Format`] for one that such a model has not.
    pub fn check(&self, architecture: &dyn Architecture) -> Result<()> {
        let expected = architecture.n_layers();
        let got = self.binding.n_layers();
        if expected != got {
            return Err(ModelError::Depth { expected, got });
        }

        let mut others = self.tensors.header().tensors.clone();
        for (name, expected, ..) in named(architecture, &self.binding) {
            let got = match others.remove(&name) {
                Some(place) if place.shape == expected => continue,
                Some(place) => format!("got {:?}", place.shape),
                None => format!("it is missing in {}", self.path().display()),
            };

            return Err(ModelError::Weight { name, expected, got });
        }

        match others.keys().next() {
            Some(other) => Err(self
                .tensors
                .refuse(format!("tensor `{other}`: its model has none of this name"))
                .into()),
            None => Ok(()),
        }
    }

    /// The model that the file holds.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`ModelError::Io`].
    pub fn model(
        &self,
        architecture: Box<dyn Architecture>,
        rules: Rules,
        kernels: Kernels,
        device: &Device,
    ) -> Result<Model> {
        self.check(&*architecture)?;
        let lookup = |name: &str| self.tensor(name, device);
        let seed = self.metadata().get("frozen-seed").and_then(|seed| seed.parse().ok());

        Model::from_weights(
            architecture,
            self.binding.clone(),
            rules,
            kernels,
            &lookup,
            seed,
            device,
        )
    }

    fn tensor(&self, name: &str, device: &Device) -> Result<Option<Tensor>> {
        let Some(place) = self.tensors.header().tensors.get(name) else { return Ok(None) };
        let bytes = self.tensors.bytes(name)?.unwrap_or_default();
        Ok(Some(Tensor::from_raw_buffer(&bytes, DType::F32, &place.shape, device)?))
    }

    /// A tensor by the name that it has in a model whose layers share nothing: every layer finds
    /// the weights that it uses, though they stand in the file under another one's name.
    ///
    /// # Errors
    /// [`ModelError::Io`] where it cannot be read.
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
        if text.is_empty() {
            return Ok(Vec::new());
        }

        text.split(',').map(str::parse).collect::<std::result::Result<_, _>>().map_err(|_| {
            format!("metadata `{key}`: expected layer numbers with commas between, got `{text}`")
        })
    };

    Binding::from_parts(&parse("storage")?, &parse("frozen")?, &parse("independent")?)
}
