//! SHA-256 of files, and the hexadecimal digits of checksums in records.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file.
///
/// # Errors
/// Those of [`regular`](crate::file::regular), and those of the system.
pub fn of_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = crate::file::regular(path, u64::MAX)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];

    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&piece[..read]),
        }
    }
}
