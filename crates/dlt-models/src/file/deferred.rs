//! Writes tensors one by one, so that memory never holds a whole file.

use std::collections::BTreeMap;
use std::io::{self, BufWriter};
use std::path::Path;

use candle_core::Tensor;
use dlt_spec::durable;
use dlt_spec::tensors::{Header, Number, TensorInfo, Writer};

use crate::{ModelError, Result};

/// How many numbers are copied at a time.
const PIECE: usize = 1 << 18;

/// An f32 tensor that is fetched when it is written.
pub(crate) struct Deferred<'a> {
    shape: Vec<usize>,
    fetch: Box<dyn Fn() -> Result<Tensor> + 'a>,
}

impl<'a> Deferred<'a> {
    /// A tensor of this shape.
    pub(crate) fn new(shape: Vec<usize>, fetch: impl Fn() -> Result<Tensor> + 'a) -> Self {
        Self { shape, fetch: Box::new(fetch) }
    }

    /// The tensor.
    pub(crate) fn tensor(&self) -> Result<Tensor> {
        (self.fetch)()
    }

    /// Hands the numbers to `take` as bytes, a piece at a time. A copy of the largest tensor would
    /// be the memory peak of a run.
    fn pieces(
        &self,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> std::result::Result<(), Failure> {
        let tensor = self.tensor().map_err(Failure::Tensor)?;
        debug_assert_eq!(tensor.dims(), self.shape);

        let flat = tensor.flatten_all()?;
        let count = tensor.elem_count();
        for start in (0..count).step_by(PIECE) {
            let values: Vec<f32> = flat.narrow(0, start, PIECE.min(count - start))?.to_vec1()?;
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            take(&bytes)?;
        }

        Ok(())
    }

    /// Length in bytes.
    fn len(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * Number::F32.size()
    }
}

/// What ends a write early.
enum Failure {
    /// The file could not be written.
    System(io::Error),
    /// A tensor could not be fetched or holds numbers that are not finite.
    Tensor(ModelError),
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Writes a safetensors file with a checksum: to a temporary file in the same folder, synced, then
/// renamed into place. Keys and tensors are in the order of their names, so that equal models are
/// equal files.
///
/// # Errors
/// [`ModelError::Io`] if the folder cannot be written; [`ModelError::NotFinite`] for weights that
/// are NaN or infinite, because readers refuse them; and the errors of fetching a tensor. An
/// earlier file at `path` is then untouched.
pub(crate) fn write(
    path: &Path,
    mut tensors: Vec<(String, Deferred<'_>)>,
    metadata: BTreeMap<String, String>,
) -> Result<()> {
    tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut header = Header { metadata, tensors: BTreeMap::new() }.with_checksum();
    let mut end = 0;

    for (name, tensor) in &tensors {
        let data_offsets = (end, end + tensor.len());
        end = data_offsets.1;

        let place = TensorInfo { dtype: Number::F32, shape: tensor.shape.clone(), data_offsets };
        header.tensors.insert(name.clone(), place);
    }

    // The header has been made from shapes alone; tensors are fetched only as they are written.
    let written = durable::replace_with(path, |file| {
        let mut writer = Writer::begin(BufWriter::new(file), &header)?;
        for (name, tensor) in &tensors {
            let mut count = 0;
            tensor.pieces(&mut |bytes| {
                count += Number::F32.count_not_finite(bytes);
                writer.push(bytes)
            })?;

            if count > 0 {
                let of = tensor.len() / Number::F32.size();
                let tensor = name.clone();
                let path = path.to_owned();

                return Err(Failure::Tensor(ModelError::NotFinite { path, tensor, count, of }));
            }
        }

        writer.finish()?;
        Ok(())
    });

    written.map_err(|failure| match failure {
        Failure::System(source) => {
            ModelError::Io { action: "write", path: path.to_owned(), source }
        }
        Failure::Tensor(error) => error,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn regression_a_tensor_that_cannot_be_written_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let of = |values: [f32; 2]| move || Ok(Tensor::new(&values, &Device::Cpu)?);
        let broken = || Err(ModelError::Depth { expected: 1, got: 2 });

        let tensors = |second| {
            let first = Deferred::new(vec![2], of([1.0, 2.0]));
            vec![("b".to_owned(), second), ("a".to_owned(), first)]
        };

        let n_files = || std::fs::read_dir(folder.path()).expect("a folder").count();
        let refused = write(&path, tensors(Deferred::new(vec![2], broken)), BTreeMap::new());
        assert!(matches!(refused, Err(ModelError::Depth { .. })), "{refused:?}");

        let nan = Deferred::new(vec![2], of([1.0, f32::NAN]));
        let refused = write(&path, tensors(nan), BTreeMap::new());
        assert!(
            matches!(refused, Err(ModelError::NotFinite { count: 1, of: 2, .. })),
            "{refused:?}"
        );
        assert_eq!(n_files(), 0);
        write(&path, tensors(Deferred::new(vec![2], of([3.0, 4.0]))), BTreeMap::new())
            .expect("written");
        assert_eq!(n_files(), 1);
    }
}
