//! The model file: safetensors, each distinct block once, with the binding of layers in the
//! metadata.
//!
//! # Format, version 3
//! Tensors are f32, in the order of their names. Names are those of the Hugging Face model of the
//! architecture; linear weights are (out, in). A block has the number of the lowest layer that uses
//! it. What layers keep for themselves is there for each layer. Metadata, all text:
//!
//! | key | value |
//! |---|---|
//! | `format` | `pt`, for readers that ask for it |
//! | `dlt-model` | version of this layout: `3`, or `2` if layers keep nothing for themselves |
//! | `checksum` | SHA-256 of the whole file with 64 zeros in this place |
//! | `storage` | for each layer the lowest layer with the same weights, `0,0,2` |
//! | `frozen` | layers that still use their untrained initial weights, `3,4` |
//! | `frozen-seed` | root seed that those weights were drawn from; the file holds them anyway |
//! | `independent` | layers that train by themselves, `0,2` |
//! | `kept` | names in a block of the parameters that each layer keeps, `ln_1.weight,ln_1.bias`; absent in version 2 |
//!
//! A writer may add more keys. One of them is `spec`, the run's specification as TOML.
//!
//! Weights are those that train. If the spec says `residual_scale = "uses"` (DEVIATIONS row 44), a
//! reader multiplies the residual branches of each layer by 1 / (layers in its group at the start).
//! What `dlt export` writes has these factors in its weights. If `kept` names `scale.attention` and
//! `scale.feed_forward`, a reader multiplies what the half adds to the residual stream by them.
//!
//! Version 2 is the same without `kept`, version 1 also without `checksum`; both can be read too. The checkpoint of a run holds the
//! checksum of its model file, whatever its version.
//!
//! A file is checked completely when it is opened: no key occurs twice, the tensors cover the data
//! exactly, all numbers are f32 and finite, the checksum is that of the bytes, and the binding does
//! not contradict itself. [`ModelFile::check`] compares names and shapes with those of a model.

pub(crate) mod deferred;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use dlt_kernels::Kernels;
use dlt_spec::tensors::{
    CHECKSUM, KEPT_KEY, LAYOUT, LAYOUT_KEY, TensorFile, WHOLE_BLOCKS, open_model,
};

use crate::architecture::Architecture;
use crate::binding::{Binding, Rules, StorageId};
use crate::file::deferred::Deferred;
use crate::parameters::Layout;
use crate::{Model, ModelError, Result};

impl Model {
    /// Tensors by name as a model file holds them: shared ones, and each distinct block once.
    ///
    /// # Errors
    /// Fails if the device has no memory left for the weights of frozen layers.
    pub fn named_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.written().into_iter().map(|(name, tensor)| Ok((name, tensor.tensor()?))).collect()
    }

    /// What a model file holds, by name. Each tensor is fetched when it is written.
    fn written(&self) -> Vec<(String, Deferred<'_>)> {
        let named = named(&*self.architecture, &self.binding);
        let deferred = |(name, shape, location, index)| {
            (name, Deferred::new(shape, move || self.parameter(location, index)))
        };
        named.into_iter().map(deferred).collect()
    }

    /// One parameter, by its number in the layout. So the weights of frozen layers are drawn one by
    /// one, and memory never holds them together.
    pub(crate) fn parameter(&self, location: ParameterLocation, index: usize) -> Result<Tensor> {
        match location {
            ParameterLocation::Shared => Ok(self.shared.variables()[index].as_detached_tensor()),
            ParameterLocation::Block(id) => self.bank.parameter(id, index),
            ParameterLocation::Kept(layer) => {
                Ok(self.bank.kept(layer).variables()[index].as_detached_tensor())
            }
        }
    }

    /// One parameter of a layer, by its number in the layout of a whole block.
    pub(crate) fn layer_parameter(&self, layer: usize, number: usize) -> Result<Tensor> {
        let is_kept = self.bank.division().is_kept();
        let index = is_kept[..number].iter().filter(|kept| **kept == is_kept[number]).count();
        let location = if is_kept[number] {
            ParameterLocation::Kept(layer)
        } else {
            ParameterLocation::Block(self.binding.storage(layer))
        };

        self.parameter(location, index)
    }

    /// Writes the model to a temporary file in the same folder, syncs it, and renames it into
    /// place. `extra` is metadata to add.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the folder cannot be written. An earlier file at `path` is then
    /// untouched.
    pub fn save(&self, path: &Path, extra: &BTreeMap<String, String>) -> Result<()> {
        let layers = |wanted: &dyn Fn(usize) -> bool| {
            list((0..self.binding.n_layers()).filter(|&layer| wanted(layer)))
        };

        // Inserted after `extra`, so that a writer cannot replace the keys of the format.
        let mut metadata = extra.clone();
        metadata.insert("format".to_owned(), "pt".to_owned());
        let kept = self.bank.division().kept().entries();
        if kept.is_empty() {
            metadata.insert(LAYOUT_KEY.to_owned(), WHOLE_BLOCKS.to_owned());
        } else {
            let names: Vec<_> = kept.iter().map(|entry| entry.name).collect();
            metadata.insert(LAYOUT_KEY.to_owned(), LAYOUT.to_owned());
            metadata.insert(KEPT_KEY.to_owned(), names.join(","));
        }
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

/// Where a parameter of a model is.
#[derive(Clone, Copy)]
pub(crate) enum ParameterLocation {
    /// Outside of blocks.
    Shared,
    /// Tied, in the block behind this storage.
    Block(StorageId),
    /// Kept by this layer.
    Kept(usize),
}

/// The parameters of a model: name, shape, location, and number in the layout. Shared ones come
/// first, then each distinct block once, and what each layer keeps.
fn named(
    architecture: &dyn Architecture,
    binding: &Binding,
) -> Vec<(String, Vec<usize>, ParameterLocation, usize)> {
    let mut named = Vec::new();
    let mut name_all = |prefix: &str, location, layout: &Layout| {
        for (index, entry) in layout.entries().iter().enumerate() {
            named.push((format!("{prefix}{}", entry.name), entry.shape.clone(), location, index));
        }
    };

    name_all(
        architecture.shared_prefix(),
        ParameterLocation::Shared,
        &architecture.shared_layout(),
    );
    let division = architecture.division();

    for (layer, &lowest) in binding.partition().iter().enumerate() {
        if layer == lowest {
            name_all(
                &architecture.block_prefix(layer),
                ParameterLocation::Block(binding.storage(layer)),
                division.tied(),
            );
        }
        name_all(
            &architecture.block_prefix(layer),
            ParameterLocation::Kept(layer),
            division.kept(),
        );
    }

    named
}

/// A model file of which every byte has been checked. Tensors are read when they are requested.
pub struct ModelFile {
    binding: Binding,
    tensors: TensorFile,
    sha256: String,
}

impl ModelFile {
    /// Opens a model file and checks all of it.
    ///
    /// # Errors
    /// - [`ModelError::Io`] if it cannot be read;
    /// - [`ModelError::Format`] if it is not a model file, has an unknown version, is damaged, or
    ///   has a binding that contradicts itself;
    /// - [`ModelError::NotFinite`] if a weight is NaN or infinite.
    pub fn open(path: &Path) -> Result<Self> {
        let (tensors, examined) = open_model(path)?;
        let binding =
            binding(&tensors.header().metadata).map_err(|reason| tensors.refuse(reason))?;
        Ok(Self { binding, tensors, sha256: examined.sha256 })
    }

    /// Path of the file.
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

    /// The metadata of the file.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.tensors.header().metadata
    }

    /// Which layers share weights.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Checks that the file holds the tensors of a model of this architecture: each one once, in
    /// its shape, and no others.
    ///
    /// # Errors
    /// [`ModelError::Depth`] if the depths differ; [`ModelError::Weight`] for a tensor that is
    /// missing or has another shape; [`ModelError::Format`] for one that such a model does not
    /// have.
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

        // A tensor that is left belongs to no parameter, so the file is that of another model.
        match others.keys().next() {
            Some(other) => Err(self
                .tensors
                .refuse(format!("tensor `{other}`: the model has no tensor of this name"))
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
        architecture: Arc<dyn Architecture>,
        rules: Rules,
        kernels: Kernels,
        device: &Device,
    ) -> Result<Model> {
        self.check(&*architecture)?;
        let lookup = |name: &str| self.tensor(name, device);

        // Without a seed the weights of frozen layers are read from the file like all others.
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

    /// Whether each layer keeps the parameter of this name in a block.
    #[must_use]
    pub fn keeps(&self, own: &str) -> bool {
        let kept = self.metadata().get(KEPT_KEY).map_or("", String::as_str);
        kept.split(',').any(|name| name == own)
    }

    /// A tensor by the name that it has in a model whose layers share nothing. Every layer finds
    /// the weights that it uses, though the file has them under the name of another layer.
    ///
    /// # Errors
    /// [`ModelError::Io`] if it cannot be read.
    pub fn lookup(
        &self,
        name: &str,
        architecture: &dyn Architecture,
        device: &Device,
    ) -> Result<Option<Tensor>> {
        for (layer, lowest) in self.binding.partition().into_iter().enumerate() {
            if let Some(own) = name.strip_prefix(architecture.block_prefix(layer).as_str()) {
                let holder = if self.keeps(own) { layer } else { lowest };
                return self.tensor(&format!("{}{own}", architecture.block_prefix(holder)), device);
            }
        }

        self.tensor(name, device)
    }
}

fn list(layers: impl IntoIterator<Item = usize>) -> String {
    layers.into_iter().map(|layer| layer.to_string()).collect::<Vec<_>>().join(",")
}

/// The binding that the metadata describe.
fn binding(metadata: &BTreeMap<String, String>) -> std::result::Result<Binding, String> {
    let parse = |key: &str| -> std::result::Result<Vec<usize>, String> {
        let text = metadata.get(key).ok_or_else(|| format!("the metadata lacks `{key}`"))?;
        if text.is_empty() {
            return Ok(Vec::new());
        }

        text.split(',').map(str::parse).collect::<std::result::Result<_, _>>().map_err(|_| {
            format!("metadata `{key}`: expected layer numbers separated by commas, got `{text}`")
        })
    };

    Binding::from_parts(&parse("storage")?, &parse("frozen")?, &parse("independent")?)
        .map_err(|error| error.to_string())
}
