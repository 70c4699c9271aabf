//! The safetensors of a folder, one file or several, of which one tensor at a time is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::settings::{Settings, read_json};
use crate::{ModelError, Result};

pub(crate) const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const WEIGHT_MAP: &str = "weight_map";

/// What the format allows for a header, in bytes.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// The files of a folder, and the file of each tensor.
pub(crate) struct Shards {
    files: Vec<TensorFile>,
    places: BTreeMap<String, usize>,
}

impl Shards {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` names.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let single = folder.join(SINGLE);
        if single.exists() {
            let file = TensorFile::open(&single)?;
            let places = file.header.tensors().into_keys().map(|name| (name, 0)).collect();
            return Ok(Self { files: vec![file], places });
        }
        let index = folder.join(INDEX);
        if index.exists() {
            return Self::open_index(folder, &index);
        }
        let came = if folder.join("pytorch_model.bin").exists() { "pytorch_model.bin" } else { "neither" };
        let reason = format!("expected {SINGLE} or {INDEX}, came {came}");
        Err(ModelError::Format { path: folder.to_owned(), reason })
    }

    fn open_index(folder: &Path, index: &Path) -> Result<Self> {
        let values = read_json(index)?;
        let settings = Settings::new(index, &values);
        let map = settings.object(WEIGHT_MAP)?;
        let map = map.ok_or_else(|| settings.refuse(WEIGHT_MAP, "an object", "nothing"))?;
        let mut named = BTreeMap::new();
        for (tensor, _) in map.iter() {
            let file = map.word(tensor)?.unwrap_or_default();
            let mut parts = Path::new(file).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(map.refuse(
                    tensor,
                    "the name of a file in the same folder",
                    &format!("\"{file}\""),
                ));
            }
            named.insert(tensor.clone(), file);
        }
        let names: Vec<_> = named.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let files = names.iter().map(|name| TensorFile::open(&folder.join(name)));
        let files = files.collect::<Result<Vec<_>>>()?;
        let mut places = BTreeMap::new();
        for (tensor, file) in named {
            let number = names.binary_search(&file).unwrap_or_default();
            if files[number].header.info(&tensor).is_none() {
                let reason = format!("expected tensor `{tensor}`, as {INDEX} says, came none of that name");
                return Err(ModelError::Format { path: files[number].path.clone(), reason });
            }
            places.insert(tensor, number);
        }
        Ok(Self { files, places })
    }

    /// Names of all tensors, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub(crate) fn holds(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The shape of a tensor, and the file it is in, if there is one of this name.
    pub(crate) fn shape(&self, name: &str) -> Option<(&[usize], &Path)> {
        let file = &self.files[*self.places.get(name)?];
        Some((&file.header.info(name)?.shape, &file.path))
    }

    /// A tensor as f32, if there is one of this name.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Tensor>> {
        self.places.get(name).map(|&file| self.files[file].read(name)).transpose()
    }
}

/// A safetensors file whose header has been read and checked against its length.
struct TensorFile {
    path: PathBuf,
    header: Metadata,
    /// Where the data begin.
    start: u64,
    /// Reading moves the file's position.
    file: Mutex<File>,
}

impl TensorFile {
    fn open(path: &Path) -> Result<Self> {
        let io = |source| ModelError::Io { action: "read", path: path.to_owned(), source };
        let refuse = |why: String| ModelError::Format {
            path: path.to_owned(),
            reason: format!("not a safetensors file: {why}"),
        };
        let mut file = dlt_spec::file::regular(path, u64::MAX).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut header_length = [0; 8];
        if length < 8 {
            return Err(refuse(format!("expected at least 8 bytes, came {length}")));
        }
        file.read_exact(&mut header_length).map_err(io)?;
        let header_length = u64::from_le_bytes(header_length);
        let most = MOST_HEADER_BYTES.min(length - 8);
        if header_length > most {
            return Err(refuse(format!("expected a header of at most {most} bytes, came {header_length}")));
        }
        let mut header = vec![0; usize::try_from(header_length).map_err(|error| refuse(error.to_string()))?];
        file.read_exact(&mut header).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&header).map_err(|error| refuse(error.to_string()))?;
        let start = 8 + header_length;
        let (expected, came) = (header.data_len() as u64, length - start);
        if expected != came {
            return Err(refuse(format!("expected {expected} bytes of tensors, came {came}")));
        }
        Ok(Self { path: path.to_owned(), header, start, file: Mutex::new(file) })
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let refuse = |why: &str| ModelError::Format {
            path: self.path.clone(),
            reason: format!("tensor `{name}`: {why}"),
        };
        let info = self.header.info(name).ok_or_else(|| refuse("expected one, came none"))?;
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(refuse(&format!("expected F32, F16 or BF16, came {other}"))),
        };
        let bytes = self.bytes(info).map_err(|source| ModelError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)?.to_dtype(DType::F32)?)
    }

    fn bytes(&self, info: &TensorInfo) -> std::io::Result<Vec<u8>> {
        let (first, end) = info.data_offsets;
        let mut bytes = vec![0; end - first];
        // A reader that failed has left nothing half done but the position, which is set anew.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + first as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
