//! Moments of layers that are not independent now. They rest on disk, so that memory only grows
//! with the number of groups.
//!
//! Under `tying.moments = "resume"` a layer's moments are kept from its last independent time. They
//! are read again when the layer is independent again, many decisions later or never. Up to that
//! point they are in a file without a name in the run's folder, bit for bit. The file is gone when
//! the process ends, however it ends. A checkpoint reads them from there.

use std::fmt;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use dlt_models::ModelError;
use sha2::{Digest, Sha256};

use super::ParameterMoments;
use crate::disk::{Disk, SystemDisk, UnnamedFile};
use crate::folder::Held;
use crate::{Result, TrainError};

/// Bytes of a layer's moments from which on they rest on disk. Smaller moments stay in memory:
/// those of a hundred layers take a tenth of a gigabyte at most, and a decision should not wait for
/// a disk because of them.
pub const REST_FROM: usize = 1 << 20;

/// Bytes that are written at a time.
const CHUNK: usize = 1 << 20;

/// Where moments rest.
#[derive(Clone)]
pub struct RestingPlace {
    disk: Arc<dyn Disk + Send + Sync>,
    folder: PathBuf,
    /// The folder, if this process holds it open.
    held: Option<Held>,
    from_bytes: usize,
}

impl RestingPlace {
    /// The folder of a run, for moments of at least [`REST_FROM`] bytes. The system's folder for
    /// temporary files does not serve, because it is often in memory itself.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self::on(Arc::new(SystemDisk), folder, REST_FROM)
    }

    /// The folder of a run that this process holds open, whatever its path names later.
    pub(crate) fn in_run(run: &Held) -> Self {
        Self { held: Some(run.clone()), ..Self::in_folder(run.path()) }
    }

    /// A folder of a given file system, for moments of at least `from_bytes` bytes.
    #[must_use]
    pub fn on(disk: Arc<dyn Disk + Send + Sync>, folder: &Path, from_bytes: usize) -> Self {
        Self { disk, folder: folder.to_owned(), held: None, from_bytes }
    }

    /// Whether moments are large enough to rest here.
    #[must_use]
    pub fn takes(&self, moments: &[ParameterMoments]) -> bool {
        moments.iter().map(ParameterMoments::bytes).sum::<usize>() >= self.from_bytes
    }

    /// Writes the moments of a layer to disk.
    ///
    /// # Errors
    /// [`TrainError::Resting`] if the disk fails; the file is then gone with its content.
    pub fn put(&self, layer: usize, moments: &[ParameterMoments]) -> Result<Resting> {
        let failed = |source| failure("write", layer, &self.folder, source);
        let folder = match &self.held {
            Some(held) => {
                held.check()?;
                held.real(&self.folder)
            }
            None => self.folder.clone(),
        };

        let mut file = self.disk.unnamed(&folder).map_err(failed)?;
        let mut tensors = Vec::new();
        let mut start = 0;

        for tensor in moments.iter().flat_map(|moments| [&moments.first, &moments.second]) {
            let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
            let mut hash = Sha256::new();

            // In chunks: the bytes of a whole tensor would double its memory just when memory is to
            // be freed.
            for values in values.map_err(ModelError::from)?.chunks(CHUNK / size_of::<f32>()) {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                hash.update(&bytes);
                file.write_all(&bytes).map_err(failed)?;
            }

            let bytes = tensor.elem_count() * size_of::<f32>();
            let sha256 = hash.finalize().into();
            tensors.push(RestingTensor { shape: tensor.dims().to_vec(), start, bytes, sha256 });
            start += bytes as u64;
        }

        file.flush().map_err(failed)?;

        Ok(Resting {
            layer,
            folder: self.folder.clone(),
            file: Mutex::new(file),
            tensors,
            steps: moments.iter().map(|moments| moments.step).collect(),
            device: moments.first().map_or(Device::Cpu, |moments| moments.first.device().clone()),
        })
    }
}

impl fmt::Debug for RestingPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestingPlace")
            .field("folder", &self.folder)
            .field("from_bytes", &self.from_bytes)
            .finish_non_exhaustive()
    }
}

/// The moments of one layer, at rest.
pub struct Resting {
    layer: usize,
    folder: PathBuf,
    file: Mutex<Box<dyn UnnamedFile>>,
    /// The first and the second moment of each parameter in turn.
    tensors: Vec<RestingTensor>,
    steps: Vec<u64>,
    device: Device,
}

/// Where one tensor is in the file, and what it must read as.
struct RestingTensor {
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
    sha256: [u8; 32],
}

impl Resting {
    /// Steps that each parameter has made, in the order of the layout.
    #[must_use]
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }

    /// Shape of a tensor: the first moment of parameter `i` has number `2 i`, the second `2 i + 1`.
    pub(crate) fn shape(&self, number: usize) -> &[usize] {
        &self.tensors[number].shape
    }

    /// A tensor's numbers as they were written: f32, little-endian.
    ///
    /// # Errors
    /// [`TrainError::Resting`] if the disk fails, or returns other bytes than were written.
    pub(crate) fn read(&self, number: usize) -> Result<Vec<u8>> {
        let tensor = &self.tensors[number];
        let read = || {
            // A poisoned lock does no harm: nothing panics while it is held, and the position in
            // the file is set again at each read.
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(tensor.start))?;

            let mut bytes = vec![0; tensor.bytes];
            file.read_exact(&mut bytes)?;

            let sha256: [u8; 32] = Sha256::digest(&bytes).into();
            if sha256 == tensor.sha256 {
                Ok(bytes)
            } else {
                let reason = "the bytes read back differ from those written";
                Err(io::Error::new(io::ErrorKind::InvalidData, reason))
            }
        };

        read().map_err(|source| failure("read", self.layer, &self.folder, source))
    }

    /// The moments, in memory again.
    ///
    /// # Errors
    /// [`TrainError::Resting`] if the disk fails, or returns other bytes than were written.
    pub fn wake(&self) -> Result<Vec<ParameterMoments>> {
        let tensor = |number: usize| -> Result<Tensor> {
            let bytes = self.read(number)?;
            let numbers =
                bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect();
            Ok(Tensor::from_vec(numbers, self.shape(number), &self.device)
                .map_err(ModelError::from)?)
        };

        let parameters = self.steps.iter().enumerate();

        parameters
            .map(|(i, &step)| {
                Ok(ParameterMoments { first: tensor(2 * i)?, second: tensor(2 * i + 1)?, step })
            })
            .collect()
    }
}

impl fmt::Debug for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resting")
            .field("layer", &self.layer)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

fn failure(action: &'static str, layer: usize, folder: &Path, source: io::Error) -> TrainError {
    TrainError::Resting { action, layer, folder: folder.to_owned(), source }
}
