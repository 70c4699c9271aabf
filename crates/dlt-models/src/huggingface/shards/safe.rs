//! A safetensors file, of which one tensor at a time is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::numbers::{Numbers, tensor};
use crate::{ModelError, Result};

/// What the format allows for a header, in bytes.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// A safetensors file whose header has been read and checked against its length.
pub(super) struct SafeFile {
    path: PathBuf,
    header: Metadata,
    /// Where the data begin.
    start: u64,
    /// Reading moves the file's position.
    file: Mutex<File>,
}

impl SafeFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let io = |source| ModelError::Io { action: "read", path: path.to_owned(), source };
        let refuse = |why: String| ModelError::Format {
            path: path.to_owned(),
            reason: format!("not a safetensors file: {why}"),
        };
        let mut file = dlt_spec::file::regular(path, u64::MAX).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut header_length = [0; 8];
        if length < 8 {
            return Err(refuse(format!("expected at least 8 bytes, got {length}")));
        }
        file.read_exact(&mut header_length).map_err(io)?;
        let header_length = u64::from_le_bytes(header_length);
        let most = MOST_HEADER_BYTES.min(length - 8);
        if header_length > most {
            return Err(refuse(format!("expected a header of at most {most} bytes, got {header_length}")));
        }
        let mut header = vec![0; usize::try_from(header_length).map_err(|error| refuse(error.to_string()))?];
        file.read_exact(&mut header).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&header).map_err(|error| refuse(error.to_string()))?;
        let start = 8 + header_length;
        let (expected, got) = (header.data_len() as u64, length - start);
        if expected != got {
            return Err(refuse(format!("expected {expected} bytes of tensors, got {got}")));
        }
        Ok(Self { path: path.to_owned(), header, start, file: Mutex::new(file) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.header.tensors().into_keys().collect()
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.header.info(name)?.shape)
    }

    pub(super) fn numbers(&self, name: &str) -> Option<Numbers> {
        let info = self.header.info(name)?;
        Some(match info.dtype {
            Dtype::F32 => Numbers::F32,
            Dtype::F64 => Numbers::F64,
            Dtype::F16 => Numbers::F16,
            Dtype::BF16 => Numbers::Bf16,
            other => Numbers::Other(other.to_string()),
        })
    }

    /// Names that the metadata list as those of other tensors, with the name of that tensor: `save_model` of
    /// safetensors writes a shared tensor once, and notes its other names so.
    pub(super) fn aliases(&self) -> BTreeMap<String, String> {
        let notes = self.header.metadata().iter().flatten();
        let is_alias =
            |(alias, name): &(&String, &String)| self.shape(alias).is_none() && self.shape(name).is_some();
        notes.filter(is_alias).map(|(alias, name)| (alias.clone(), name.clone())).collect()
    }

    pub(super) fn read(&self, name: &str) -> Result<Tensor> {
        let refuse = |why: String| ModelError::Format {
            path: self.path.clone(),
            reason: format!("tensor `{name}`: {why}"),
        };
        let (Some(info), Some(numbers)) = (self.header.info(name), self.numbers(name)) else {
            return Err(refuse("expected one, got none".to_owned()));
        };
        let bytes = self.bytes(info).map_err(|source| ModelError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        tensor(&numbers, &bytes, &info.shape).map_err(refuse)
    }

    fn bytes(&self, info: &TensorInfo) -> std::io::Result<Vec<u8>> {
        let (first, end) = info.data_offsets;
        let mut bytes = vec![0; end - first];
        // A reader that failed has left nothing half done but the position, which is set again.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + first as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
