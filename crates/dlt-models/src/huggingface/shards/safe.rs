//! A safetensors file. One tensor at a time is read.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use dlt_spec::tensors::{Number, TensorFile};

use super::numbers::{Numbers, tensor};
use crate::{ModelError, Result};

/// A safetensors file whose header has been checked against the length of the file. If this program
/// exported it, all bytes have been checked against its checksum too.
pub(super) struct SafeFile(TensorFile);

impl SafeFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = TensorFile::open(path)?;
        if file.checksum().is_some() {
            file.check()?;
        }
        Ok(Self(file))
    }
}

impl super::TensorFile for SafeFile {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn names(&self) -> Vec<String> {
        self.0.header().tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.0.header().tensors.get(name)?.shape)
    }

    fn numbers(&self, name: &str) -> Option<Numbers> {
        Some(match self.0.header().tensors.get(name)?.dtype {
            Number::F32 => Numbers::F32,
            Number::F64 => Numbers::F64,
            Number::F16 => Numbers::F16,
            Number::BF16 => Numbers::Bf16,
            other => Numbers::Other(format!("{other:?}")),
        })
    }

    /// Second names of tensors that the metadata list, with the name in the file. `save_model` of
    /// safetensors writes a shared tensor once and notes its other names in this way.
    fn aliases(&self) -> BTreeMap<String, String> {
        // Other metadata are no pairs of a free name and a tensor of the file.
        let is_alias = |(alias, name): &(&String, &String)| {
            self.shape(alias).is_none() && self.shape(name).is_some()
        };
        let notes = self.0.header().metadata.iter().filter(is_alias);
        notes.map(|(alias, name)| (alias.clone(), name.clone())).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let refuse =
            |why: String| ModelError::from(self.0.refuse(format!("tensor `{name}`: {why}")));

        match (self.0.bytes(name)?, self.shape(name), self.numbers(name)) {
            (Some(bytes), Some(shape), Some(numbers)) => {
                tensor(&numbers, &bytes, shape).map_err(refuse)
            }
            _ => Err(refuse("expected one, got none".to_owned())),
        }
    }
}
