//! SHA-256 as hexadecimal digits.

use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// Lower-case hexadecimal digits of a checksum.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Feeds the rest of a file into checksums, a piece at a time. Returns the number of bytes.
pub(crate) fn feed(hashes: &mut [&mut Sha256], file: &mut File) -> io::Result<u64> {
    let mut piece = vec![0; PIECE];
    let mut bytes = 0;

    loop {
        match file.read(&mut piece)? {
            0 => return Ok(bytes),
            read => {
                hashes.iter_mut().for_each(|hash| hash.update(&piece[..read]));
                bytes += read as u64;
            }
        }
    }
}

/// SHA-256 of a file.
pub(crate) fn of_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    feed(&mut [&mut hash], &mut dlt_spec::file::regular(path, u64::MAX)?)?;
    Ok(hash.finalize().into())
}
