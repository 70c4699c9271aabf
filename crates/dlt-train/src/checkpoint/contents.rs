//! The contents of a new checkpoint, and how they are written.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use dlt_models::ModelError;
use dlt_models::parameters::Layout;
use dlt_spec::tensors::{Header, Number, TensorInfo, Writer};

use super::{CHUNK, VERSION};
use crate::disk::Disk;
use crate::exchange::Exchange;
use crate::optimizer::resting::Resting;
use crate::{Result, TrainError};

/// One tensor to be written.
pub(crate) enum Numbers {
    /// Numbers of f32 in memory.
    Tensor(Tensor),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Numbers of f32 that rest on disk: a tensor by its number.
    Resting(Arc<Resting>, usize),
    /// Numbers of f32 of which each process has its share: a parameter by its number in a layout.
    Shared(Box<Numbers>, Arc<Layout>, usize),
}

impl Numbers {
    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Tensor(tensor) => tensor.dims().to_vec(),
            Self::Bytes(bytes) => vec![bytes.len()],
            Self::Resting(resting, number) => resting.shape(*number).to_vec(),
            Self::Shared(_, layout, number) => layout.entries()[*number].shape.clone(),
        }
    }

    /// The numbers of a share.
    fn values(&self) -> Result<Vec<f32>> {
        match self {
            Self::Tensor(tensor) => {
                let flat = tensor.flatten_all().and_then(|flat| flat.to_vec1());
                Ok(flat.map_err(ModelError::from)?)
            }
            Self::Resting(resting, number) => {
                let bytes = resting.read(*number)?;
                Ok(bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect())
            }
            Self::Bytes(_) | Self::Shared(..) => Ok(Vec::new()),
        }
    }
}

/// Everything that a checkpoint holds.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) metadata: BTreeMap<String, String>,
    /// Tensors by name, in the order of the file.
    pub(crate) tensors: Vec<(String, Numbers)>,
}

impl Contents {
    /// The file's header, with a place for the checksum.
    fn header(&self) -> Header {
        let mut header = Header { metadata: self.metadata.clone(), tensors: BTreeMap::new() };
        header.metadata.insert("dlt-checkpoint".to_owned(), VERSION.to_owned());

        // Offsets follow from shapes alone, so the header is complete before any tensor is read.
        let mut end = 0;
        for (name, numbers) in &self.tensors {
            let (dtype, size) = match numbers {
                Numbers::Bytes(_) => (Number::U8, 1),
                _ => (Number::F32, size_of::<f32>()),
            };
            let shape = numbers.shape();
            let bytes = shape.iter().product::<usize>() * size;

            let data_offsets = (end, end + bytes as u64);
            end = data_offsets.1;
            header.tensors.insert(name.clone(), TensorInfo { dtype, shape, data_offsets });
        }

        header.with_checksum()
    }

    /// Sends this process's shares to process 0, which [writes](Self::write) at the same time.
    pub(crate) fn hand_over(&self, exchange: &mut Exchange) -> Result<()> {
        for (_, numbers) in &self.tensors {
            if let Numbers::Shared(own, layout, number) = numbers {
                exchange.whole(layout, *number, own.values()?)?;
            }
        }
        Ok(())
    }

    /// Writes and syncs the file. It is whole once this succeeds. Shares of other processes come
    /// through `exchange`, one tensor at a time.
    pub(crate) fn write(
        &self,
        disk: &dyn Disk,
        path: &Path,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let io = |source| TrainError::Io { action: "write", path: path.to_owned(), source };
        let out = BufWriter::with_capacity(CHUNK, disk.create(path).map_err(io)?);
        let mut writer = Writer::begin(out, &self.header()).map_err(io)?;

        for (_, numbers) in &self.tensors {
            match numbers {
                Numbers::Bytes(bytes) => writer.push(bytes).map_err(io)?,
                Numbers::Resting(resting, number) => {
                    writer.push(&resting.read(*number)?).map_err(io)?
                }
                Numbers::Shared(own, layout, number) => {
                    let whole = exchange.whole(layout, *number, own.values()?)?;
                    for values in whole.unwrap_or_default().chunks(CHUNK / size_of::<f32>()) {
                        let bytes: Vec<u8> =
                            values.iter().flat_map(|value| value.to_le_bytes()).collect();
                        writer.push(&bytes).map_err(io)?;
                    }
                }
                Numbers::Tensor(tensor) => {
                    let flat = tensor.flatten_all().map_err(ModelError::from)?;
                    let count = tensor.elem_count();
                    let piece = CHUNK / size_of::<f32>();

                    // In pieces: a copy of a whole tensor on the host would add to the peak of
                    // memory.
                    for start in (0..count).step_by(piece) {
                        let values = flat.narrow(0, start, piece.min(count - start));
                        let values = values.and_then(|values| values.to_vec1::<f32>());
                        let values = values.map_err(ModelError::from)?.into_iter();
                        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();

                        writer.push(&bytes).map_err(io)?;
                    }
                }
            }
        }

        let mut out = writer.finish().map_err(io)?;
        out.get_mut().sync().map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SystemDisk;
    use crate::optimizer::ParameterMoments;
    use crate::optimizer::resting::RestingPlace;
    use candle_core::Device;

    #[test]
    fn law_moments_at_rest_are_written_as_those_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let tensor = |seed: u32, shape: &[usize]| {
            let n: usize = shape.iter().product();
            // Bits of every kind, including subnormal numbers and values that are not finite.
            let values = (0..n as u32)
                .map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761).wrapping_add(seed)));
            Tensor::from_vec(values.collect(), shape, &Device::Cpu).expect("a tensor")
        };

        let shapes = [(vec![700, 900], 1), (vec![3], 2), (vec![0, 5], 3), (vec![1, 2, 3], 4)];
        let moments = shapes.map(|(shape, step)| ParameterMoments {
            first: tensor(2 * step, &shape),
            second: tensor(2 * step + 1, &shape),
            step: u64::from(step),
        });

        let place = RestingPlace::on(Arc::new(SystemDisk), folder.path(), 1);
        let resting = Arc::new(place.put(3, &moments).expect("it is written"));
        assert_eq!(resting.steps(), [1, 2, 3, 4]);

        let both = moments.iter().flat_map(|moments| [&moments.first, &moments.second]);
        let held: Vec<_> = both.map(|tensor| Numbers::Tensor(tensor.clone())).collect();
        let at_rest: Vec<_> =
            (0..held.len()).map(|i| Numbers::Resting(Arc::clone(&resting), i)).collect();

        let written = [held, at_rest].map(|numbers| {
            let tensors =
                numbers.into_iter().zip(0..).map(|(numbers, i)| (format!("tensor {i}"), numbers));
            let contents = Contents { tensors: tensors.collect(), ..Contents::default() };
            let path = folder.path().join("file");

            contents.write(&SystemDisk, &path, &mut Exchange::alone()).expect("it is written");
            std::fs::read(path).expect("it is read")
        });

        assert!(written[0] == written[1] && written[0].len() > resting.bytes());
    }
}
