//! Token ids that stay in a file and are read when they are needed.
//!
//! The file is read, not mapped. If it is cut while a run reads it, this gives an error with a
//! message; with a mapping, a signal would end the process.

use crate::error::DataError;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Tokens that are read at a time when all tokens are scanned: 1 MiB.
pub(crate) const BLOCK: usize = 1 << 18;

/// A file that holds little-endian u32 token ids from some offset on.
#[derive(Debug)]
pub(crate) struct TokenFile {
    file: File,
    path: PathBuf,
    offset: u64,
    tokens: usize,
}

impl TokenFile {
    /// A file with `tokens` token ids from byte `offset` on.
    pub(crate) fn new(file: File, path: &Path, offset: u64, tokens: usize) -> Self {
        Self { file, path: path.to_owned(), offset, tokens }
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens
    }

    /// Fills `ids` with the tokens from `start` on. The range has to be within the file's tokens.
    pub(crate) fn read(&self, start: usize, ids: &mut [u32]) -> Result<(), DataError> {
        let mut bytes = vec![0; size_of_val(ids)];
        let offset = self.offset + (start * size_of::<u32>()) as u64;
        read_at(&self.file, offset, &mut bytes).map_err(|source| DataError::ChangedCache {
            path: self.path.clone(),
            token: start,
            of: self.tokens,
            source,
        })?;

        for (id, bytes) in ids.iter_mut().zip(bytes.chunks_exact(size_of::<u32>())) {
            *id = u32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"));
        }

        Ok(())
    }
}

#[cfg(unix)]
fn read_at(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Several threads may read at once, so the shared position of the file cannot be used.
#[cfg(windows)]
fn read_at(file: &File, mut offset: u64, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                offset += read as u64;
                bytes = &mut bytes[read..];
            }
        }
    }

    Ok(())
}
