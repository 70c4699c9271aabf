//! Writing a file of tensors, a piece at a time.

use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::header::{Header, checksum_place};
use crate::checksum::hex;

/// A file of tensors that is being written: first the header, then the data, then the checksum if
/// the header has room for one.
pub struct Writer<W> {
    out: W,
    hash: Sha256,
    checksum: Option<Range<usize>>,
}

impl<W: Write + Seek> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Those of the system.
    pub fn begin(out: W, header: &Header) -> io::Result<Self> {
        let bytes = header.to_bytes();
        let checksum = checksum_place(&bytes);
        let mut writer = Self { out, hash: Sha256::new(), checksum };
        writer.push(&bytes)?;
        Ok(writer)
    }

    /// Writes the next bytes of the data.
    ///
    /// # Errors
    /// Those of the system.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }

    /// Fills in the checksum. The caller has to sync the file.
    ///
    /// # Errors
    /// Those of the system.
    pub fn finish(mut self) -> io::Result<W> {
        if let Some(place) = self.checksum {
            self.out.seek(SeekFrom::Start(place.start as u64))?;
            self.out.write_all(hex(&self.hash.finalize()).as_bytes())?;
        }

        self.out.flush()?;
        Ok(self.out)
    }
}
