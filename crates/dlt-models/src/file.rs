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
//! | `independent` | layers that the state calls independent, `0,2` |
//!
//! and whatever the writer adds, among it `spec`, the run's specification as TOML.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{Device, Tensor};
use dlt_kernels::Kernels;
use safetensors::{SafeTensors, View};

use crate::architecture::Architecture;
use crate::binding::{Binding, Rules, StorageId};
use crate::parameters::Entry;
use crate::{Model, ModelError, Result};

/// Version of the layout that this program writes and reads.
pub const VERSION: &str = "1";

impl Model {
    /// Tensors by name as a model file holds them: shared ones, and each distinct block once.
    ///
    /// # Errors
    /// Fails where the device has no memory left for the weights of frozen layers.
    pub fn named_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.written().into_iter().map(|(name, written)| Ok((name, written.tensor()?))).collect()
    }

    fn written(&self) -> Vec<(String, Written<'_>)> {
        let mut named = Vec::new();
        for (index, entry) in self.shared.layout().entries().iter().enumerate() {
            let name = format!("{}{}", self.architecture.shared_prefix(), entry.name);
            named.push((name, Written { model: self, entry, place: Place::Shared, index }));
        }
        for (layer, &lowest) in self.binding.partition().iter().enumerate() {
            if layer == lowest {
                let place = Place::Block(self.binding.storage(layer));
                for (index, entry) in self.bank.layout().entries().iter().enumerate() {
                    let name = format!("{}{}", self.architecture.block_prefix(layer), entry.name);
                    named.push((name, Written { model: self, entry, place, index }));
                }
            }
        }
        named
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
        let mut metadata: HashMap<String, String> = extra.clone().into_iter().collect();
        metadata.insert("format".to_owned(), "pt".to_owned());
        metadata.insert("dlt-model".to_owned(), VERSION.to_owned());
        metadata.insert("storage".to_owned(), list(self.binding.partition()));
        metadata.insert("frozen".to_owned(), layers(&|layer| self.binding.is_frozen(layer)));
        metadata.insert("independent".to_owned(), layers(&|layer| self.binding.is_independent(layer)));

        let partial = path.with_extension("partial");
        let io = |source| ModelError::Io { action: "write", path: path.to_owned(), source };
        if let Some(seed) = self.bank.seed() {
            metadata.insert("frozen-seed".to_owned(), seed.to_string());
        }
        let written = self.written();
        let bytes: usize = written.iter().map(|(_, tensor)| tensor.data_len()).sum();
        safetensors::serialize_to_file(written, Some(metadata), &partial).map_err(|source| match source {
            safetensors::SafeTensorError::IoError(source) => io(source),
            other => ModelError::Format { path: path.to_owned(), reason: other.to_string() },
        })?;
        sort_header(&partial, bytes).and_then(|()| std::fs::rename(&partial, path)).map_err(io)
    }
}

/// One tensor of a model file, fetched when it is written: so the weights of frozen layers are drawn one by
/// one and never held together.
struct Written<'a> {
    model: &'a Model,
    entry: &'a Entry,
    place: Place,
    index: usize,
}

#[derive(Clone, Copy)]
enum Place {
    Shared,
    Block(StorageId),
}

impl Written<'_> {
    fn tensor(&self) -> Result<Tensor> {
        match self.place {
            Place::Shared => Ok(self.model.shared.variables()[self.index].as_detached_tensor()),
            Place::Block(id) => self.model.bank.parameter(id, self.index),
        }
    }

    fn values(&self) -> Result<Vec<f32>> {
        Ok(self.tensor()?.flatten_all()?.to_vec1()?)
    }
}

impl View for Written<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        safetensors::Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // The library asks for bytes and takes no error: a tensor that cannot be fetched is left out, and the
        // file is then refused for its length.
        let values = self.values().unwrap_or_default();
        Cow::Owned(values.into_iter().flat_map(f32::to_le_bytes).collect())
    }

    fn data_len(&self) -> usize {
        self.entry.shape.iter().product::<usize>() * size_of::<f32>()
    }
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
        let lookup = |name: &str| match self.tensors.get(name) {
            Ok(_) => self.tensors.load(name, device).map(Some).map_err(|error| ModelError::Format {
                path: self.path.clone(),
                reason: format!("tensor `{name}`: {error}"),
            }),
            Err(_) => Ok(None),
        };
        let seed = self.metadata.get("frozen-seed").and_then(|seed| seed.parse().ok());
        Model::from_weights(architecture, self.binding.clone(), rules, kernels, &lookup, seed, device)
    }
}

/// Puts the header's keys in a fixed order, in which the library does not write them, so that equal models
/// are equal files; then syncs.
fn sort_header(path: &Path, data: usize) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if file.metadata()?.len() != 8 + length + data as u64 {
        return Err(std::io::Error::other("a tensor could not be fetched from the device"));
    }
    let mut header = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    file.read_exact(&mut header)?;
    let mut value: serde_json::Value = serde_json::from_slice(&header)?;
    value.sort_all_objects();
    let mut sorted = serde_json::to_vec(&value)?;
    // The same keys and values, so at most as long; the rest is filled with blanks, as the format has it.
    if sorted.len() > header.len() {
        return Err(std::io::Error::other("the sorted header is longer than the one written"));
    }
    sorted.resize(header.len(), b' ');
    file.seek(SeekFrom::Start(8))?;
    file.write_all(&sorted)?;
    file.sync_all()
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
