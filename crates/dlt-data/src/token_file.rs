//! Token ids that stay in a file, and are read where they are needed.
//!
//! The file is read and not mapped: one that is cut while a run reads it is then an error with a
//! message, and not the end of the process by a signal.

use crate::error::DataError;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Tokens that are read at a time where all of them are gone through: 1 MiB.
pub(crate) const BLOCK: usize = 1 << 18;

/// A file whose content from some offset on is little-endian u32.
#[derive(Debug)]
pub(crate) struct TokenFile {
    file: File,
    path: PathBuf,
    offset: u64,
    tokens: usize,
}

impl TokenFile {
    /// The file of this many tokens from `offset` on.
    pub(crate) fn new(file: File, path: &Path, offset: u64, tokens: usize) -> Self {
        Self { file, path: path.to_owned(), offset, tokens }
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens
    }

    /// Reads the tokens from `start` on. What is asked for has to be within the file's number of
    /// tokens.
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

/// Several threads may read at once, so the position of the file itself is of no use.
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
