//! What a checkpoint is to hold, and the writing of it.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use candle_core::Tensor;
use dlt_models::ModelError;
use sha2::{Digest, Sha256};

use super::header::{CHECKSUM, Header, NO_CHECKSUM, Number, Place, checksum_place};
use super::{CHUNK, VERSION, hex};
use crate::disk::Disk;
use crate::{Result, TrainError};

/// One tensor to be written.
pub(crate) enum Numbers {
    /// Floats of 32 bits.
    Tensor(Tensor),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// Everything that goes into a checkpoint.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) metadata: BTreeMap<String, String>,
    /// Tensors by name, in the order of the file.
    pub(crate) tensors: Vec<(String, Numbers)>,
}

impl Contents {
    fn header(&self) -> Header {
        let mut header = Header { metadata: self.metadata.clone(), tensors: BTreeMap::new() };
        header.metadata.insert("dlt-checkpoint".to_owned(), VERSION.to_owned());
        header.metadata.insert(CHECKSUM.to_owned(), NO_CHECKSUM.to_owned());
        let mut end = 0;
        for (name, numbers) in &self.tensors {
            let (dtype, shape, bytes) = match numbers {
                Numbers::Tensor(tensor) => {
                    (Number::F32, tensor.dims().to_vec(), tensor.elem_count() * size_of::<f32>())
                }
                Numbers::Bytes(bytes) => (Number::U8, vec![bytes.len()], bytes.len()),
            };
            let data_offsets = (end, end + bytes as u64);
            end = data_offsets.1;
            header.tensors.insert(name.clone(), Place { dtype, shape, data_offsets });
        }
        header
    }

    /// Writes a synced file, which is whole once this succeeds.
    pub(crate) fn write(&self, disk: &dyn Disk, path: &Path) -> Result<()> {
        let io = |source| TrainError::Io { action: "write", path: path.to_owned(), source };
        let header = self.header().to_bytes();
        let mut out = BufWriter::with_capacity(CHUNK, disk.create(path).map_err(io)?);
        let mut hash = Sha256::new();
        let mut write = |out: &mut dyn Write, bytes: &[u8]| -> io::Result<()> {
            hash.update(bytes);
            out.write_all(bytes)
        };
        write(&mut out, &header).map_err(io)?;
        for (_, numbers) in &self.tensors {
            match numbers {
                Numbers::Bytes(bytes) => write(&mut out, bytes).map_err(io)?,
                Numbers::Tensor(tensor) => {
                    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
                    for values in values.map_err(ModelError::from)?.chunks(CHUNK / size_of::<f32>()) {
                        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                        write(&mut out, &bytes).map_err(io)?;
                    }
                }
            }
        }
        let place = checksum_place(&header).expect("the header has just been given its checksum's place");
        let checksum = hex(&hash.finalize());
        let mut finish = || {
            out.seek(SeekFrom::Start(place.start as u64))?;
            out.write_all(checksum.as_bytes())?;
            out.flush()?;
            out.get_mut().sync()
        };
        finish().map_err(io)
    }
}
