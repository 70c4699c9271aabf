//! Writing tensors one by one, so that a file is never held in memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use candle_core::Tensor;
use safetensors::View;

use crate::{ModelError, Result};

/// A tensor of f32 that is fetched when it is written.
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

    fn bytes(&self) -> Result<Vec<u8>> {
        let tensor = self.tensor()?;
        debug_assert_eq!(tensor.dims(), self.shape);
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        Ok(values.into_iter().flat_map(f32::to_le_bytes).collect())
    }
}

/// One tensor on its way into a file. The library asks for bytes and takes no error, so that one is kept beside.
struct Entry<'a> {
    tensor: Deferred<'a>,
    failure: &'a RefCell<Option<ModelError>>,
}

impl View for Entry<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        safetensors::Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.tensor.bytes().unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            Vec::new()
        }))
    }

    fn data_len(&self) -> usize {
        self.tensor.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

/// Writes a safetensors file: to a temporary sibling, synced, then renamed into place.
///
/// # Errors
/// [`ModelError::Io`] where the folder cannot be written, and what fetching a tensor fails with; what stood under
/// `path` before is then untouched.
pub(crate) fn write(
    path: &Path,
    tensors: Vec<(String, Deferred<'_>)>,
    metadata: BTreeMap<String, String>,
) -> Result<()> {
    let partial = path.with_extension("partial");
    let io = |source| ModelError::Io { action: "write", path: path.to_owned(), source };
    let failure = RefCell::new(None);
    let entries = tensors.into_iter().map(|(name, tensor)| (name, Entry { tensor, failure: &failure }));
    let written = safetensors::serialize_to_file(entries, Some(metadata.into_iter().collect()), &partial);
    if let Some(error) = failure.take() {
        // The file has its full length, but not every tensor. It may be gone already, where writing failed too.
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    written.map_err(|source| match source {
        safetensors::SafeTensorError::IoError(source) => io(source),
        other => ModelError::Format { path: path.to_owned(), reason: other.to_string() },
    })?;
    sort_header(&partial).and_then(|()| std::fs::rename(&partial, path)).map_err(io)
}

/// Puts the header's keys in a fixed order, in which the library does not write them, so that equal models
/// are equal files; then syncs.
fn sort_header(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut header = vec![0; usize::try_from(u64::from_le_bytes(length)).map_err(std::io::Error::other)?];
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// The library gives a file its full length before it writes, so that a tensor left out does not show in it.
    #[test]
    fn regression_a_tensor_that_cannot_be_fetched_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let whole = || Ok(Tensor::new(&[1f32, 2.0], &Device::Cpu)?);
        let broken = || Err(ModelError::Depth { expected: 1, came: 2 });
        let tensors =
            |second| vec![("a".to_owned(), Deferred::new(vec![2], whole)), ("b".to_owned(), second)];
        let refused = write(&path, tensors(Deferred::new(vec![2], broken)), BTreeMap::new());
        assert!(matches!(refused, Err(ModelError::Depth { .. })), "{refused:?}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        write(&path, tensors(Deferred::new(vec![2], whole)), BTreeMap::new()).expect("written");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
