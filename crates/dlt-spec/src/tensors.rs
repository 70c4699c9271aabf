//! Files of tensors in the safetensors format, read without trust and written in a fixed order.
//!
//! Only [`TensorFile`] reads model files, checkpoints, exports and the files of Hugging Face. So
//! one check of header, names, types, shapes, offsets, checksum and numbers covers all of them.

mod header;
mod model;
mod number;
mod writing;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::checksum::hex;
use crate::foreign::{self, Foreign};

pub use header::{CHECKSUM, Header, MOST_HEADER_BYTES, TensorInfo};
pub use model::{FIRST_LAYOUT, KEPT_KEY, LAYOUT, LAYOUT_KEY, WHOLE_BLOCKS, open_model};
pub use number::Number;
pub use writing::Writer;

/// Beginning of the metadata keys in files that this program wrote. In files of other programs a
/// checksum may mean something else.
const OURS: &str = "dlt-";

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Why a file of tensors is refused.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Its content is not what it should be.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found, and what to do.
        reason: String,
    },
    /// It has NaN or infinities.
    #[error("{}: {}", path.display(), not_finite(tensor, *count, *of))]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first tensor with such numbers.
        tensor: String,
        /// How many of its numbers are NaN or infinite.
        count: u64,
        /// How many numbers it has.
        of: u64,
    },
}

impl TensorError {
    /// The same error with another path of the file.
    #[must_use]
    pub fn of(self, path: &Path) -> Self {
        let path = path.to_owned();
        match self {
            Self::Io { source, .. } => Self::Io { path, source },
            Self::Format { reason, .. } => Self::Format { path, reason },
            Self::NotFinite { tensor, count, of, .. } => {
                Self::NotFinite { path, tensor, count, of }
            }
        }
    }
}

/// The message about a tensor with NaN or infinities.
#[must_use]
pub fn not_finite(tensor: &str, count: u64, of: u64) -> String {
    format!(
        "tensor `{tensor}`: expected finite numbers, got {count} of {of} that are NaN or infinite; \
         get the weights again, or train them again"
    )
}

/// A safetensors file whose header has been checked against its length. Tensors are read on
/// request.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    /// Behind a lock, because reading moves the file's position.
    file: Mutex<File>,
    header: Header,
    /// The length of the header and the header, byte for byte.
    head: Vec<u8>,
}

/// What a pass over all bytes of a file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// SHA-256 of the file with zeros in place of its checksum.
    pub checksum: String,
    /// SHA-256 of the file as it is.
    pub sha256: String,
    /// Tensors with numbers that are not finite, by name, and the count of these numbers.
    pub not_finite: BTreeMap<String, u64>,
}

impl TensorFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// [`TensorError::Io`] if it cannot be read, [`TensorError::Format`] if it is not a safetensors
    /// file. The latter says what the file is instead if its first bytes show that.
    pub fn open(path: &Path) -> Result<Self, TensorError> {
        let io = |source| TensorError::Io { path: path.to_owned(), source };
        let refuse = |reason: String| TensorError::Format { path: path.to_owned(), reason };

        // Opening a pipe would wait for its other end.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(refuse("expected a file, got a folder, a pipe or a device".to_owned()));
        }

        let mut file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let (head, header) = match header::read(&mut file, bytes).map_err(io)? {
            Ok(read) => read,
            Err(reason) => return Err(refuse(described(&mut file, reason).map_err(io)?)),
        };

        Ok(Self { path: path.to_owned(), file: Mutex::new(file), header, head })
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header: metadata and tensors.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The same file with another path in messages.
    #[must_use]
    pub fn named(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// The bytes of a tensor; `None` if there is none of this name.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, TensorError> {
        let Some(info) = self.header.tensors.get(name) else { return Ok(None) };
        let (from, to) = info.data_offsets;
        self.read(from, to - from).map(Some)
    }

    /// A piece of the data: `length` bytes from `from` on, counted from the end of the header.
    ///
    /// # Errors
    /// [`TensorError::Io`], also if the file ends before.
    pub fn read(&self, from: u64, length: u64) -> Result<Vec<u8>, TensorError> {
        let read = || {
            // A poisoned lock does no harm: each read sets the position first.
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(self.head.len() as u64 + from))?;

            let mut bytes = Vec::new();
            (&*file).take(length).read_to_end(&mut bytes)?;

            if bytes.len() as u64 == length {
                Ok(bytes)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };

        read().map_err(|source| TensorError::Io { path: self.path.clone(), source })
    }

    /// Reads the whole file once, a piece at a time.
    ///
    /// # Errors
    /// [`TensorError::Io`].
    pub fn examine(&self) -> Result<Examined, TensorError> {
        let mut blank = Sha256::new();
        let mut whole = Sha256::new();
        let mut head = self.head.clone();

        whole.update(&head);

        // The checksum is that of the file before the checksum was filled in.
        if let Some(digits) = header::checksum_place(&head) {
            head[digits].fill(b'0');
        }

        blank.update(&head);
        let mut not_finite = BTreeMap::new();

        for (name, info) in self.header.in_order() {
            let (from, to) = info.data_offsets;
            let mut at = from;
            while at < to {
                let bytes = self.read(at, (to - at).min(CHUNK as u64))?;
                at += bytes.len() as u64;
                blank.update(&bytes);
                whole.update(&bytes);

                // Pieces are of 1 MiB, so no number is cut in two.
                let count = info.dtype.count_not_finite(&bytes);
                if count > 0 {
                    *not_finite.entry(name.clone()).or_insert(0) += count;
                }
            }
        }

        let checksum = hex(&blank.finalize());
        let sha256 = hex(&whole.finalize());
        Ok(Examined { checksum, sha256, not_finite })
    }

    /// The checksum in the file's metadata; `None` if it has none, or if another program wrote the
    /// file.
    #[must_use]
    pub fn checksum(&self) -> Option<&str> {
        let metadata = &self.header.metadata;
        let is_ours = metadata.keys().any(|key| key.starts_with(OURS));
        metadata.get(CHECKSUM).filter(|_| is_ours).map(String::as_str)
    }

    /// Refuses a file whose bytes do not have the checksum in its metadata, and a file with numbers
    /// that are not finite. A file without a checksum is checked only for its numbers.
    ///
    /// # Errors
    /// [`TensorError`].
    pub fn check(&self) -> Result<Examined, TensorError> {
        let examined = self.examine()?;
        match self.checksum() {
            Some(checksum) if checksum != examined.checksum => Err(self.damaged()),
            _ => match examined.not_finite.iter().next() {
                Some((name, &count)) => Err(self.not_finite(name, count)),
                None => Ok(examined),
            },
        }
    }

    /// The error about a file whose checksum differs.
    #[must_use]
    pub fn damaged(&self) -> TensorError {
        self.refuse("it is damaged: its checksum differs from that of its bytes")
    }

    /// The error about a tensor with numbers that are not finite.
    #[must_use]
    pub fn not_finite(&self, tensor: &str, count: u64) -> TensorError {
        let of = self.header.tensors.get(tensor).map_or(0, TensorInfo::count);
        TensorError::NotFinite { path: self.path.clone(), tensor: tensor.to_owned(), count, of }
    }

    /// An error about the content of the file.
    #[must_use]
    pub fn refuse(&self, reason: impl Into<String>) -> TensorError {
        TensorError::Format { path: self.path.clone(), reason: reason.into() }
    }
}

/// What a file is that is not a safetensors file: what its first bytes show, otherwise `reason`.
fn described(file: &mut File, reason: String) -> io::Result<String> {
    let mut head = Vec::new();
    file.rewind()?;
    (&*file).take(foreign::HEAD).read_to_end(&mut head)?;

    Ok(match Foreign::of(&head) {
        Some(foreign) => format!("not a safetensors file but {foreign}"),
        None => reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one tensor of two numbers, and its bytes.
    fn written(numbers: [f32; 2]) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let info = TensorInfo { dtype: Number::F32, shape: vec![2], data_offsets: (0, 8) };
        let metadata = BTreeMap::from([(LAYOUT_KEY.to_owned(), LAYOUT.to_owned())]);
        let header =
            Header { metadata, tensors: BTreeMap::from([("a".to_owned(), info)]) }.with_checksum();

        let mut writer = Writer::begin(File::create(&path).expect("made"), &header).expect("begun");
        writer.push(&numbers.map(f32::to_le_bytes).concat()).expect("written");
        writer.finish().expect("finished");

        let bytes = fs::read(&path).expect("there");
        (folder, path, bytes)
    }

    #[test]
    fn law_every_flipped_bit_is_found() {
        let (_folder, path, bytes) = written([1.5, -2.0]);
        open_model(&path).expect("it is whole");

        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).expect("written");
            assert!(open_model(&path).is_err(), "bit {bit} of {}", 8 * bytes.len());
        }
    }

    #[test]
    fn rejects_numbers_that_are_not_finite() {
        let (_folder, path, _) = written([1.5, f32::NEG_INFINITY]);
        let error = open_model(&path).expect_err("not finite").to_string();
        assert!(error.contains("tensor `a`: expected finite numbers, got 1 of 2"), "{error}");
    }

    #[test]
    fn rejects_what_is_no_file_of_tensors_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let refusal = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            TensorFile::open(&path).expect_err("refused").to_string()
        };

        assert!(refusal(b"").contains("an empty file"));
        assert!(
            refusal(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
                .contains("Git LFS pointer")
        );
        assert!(refusal(b"<!doctype html><title>Log in</title>").contains("a web page"));
        assert!(refusal(b"\x10\0\0\0\0\0\0\0{}").contains("cut short"));

        let error = TensorFile::open(folder.path()).expect_err("a folder").to_string();
        assert!(error.contains("expected a file"), "{error}");
    }
}
