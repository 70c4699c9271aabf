//! Token ids that stay in a file: the only module with unsafe code.
#![allow(
    unsafe_code,
    reason = "mapping a file and viewing its bytes as integers have no safe form in our dependencies"
)]

use memmap2::Mmap;
use std::{fs::File, io};

/// A file mapped into memory whose content from some offset on is little-endian u32.
#[derive(Debug)]
pub(crate) struct MappedFile {
    bytes: Mmap,
    offset: usize,
}

impl MappedFile {
    /// Maps a file whose ids start at `offset`; `None` if they cannot be read in place: the offset or the length
    /// does not fit whole ids, or this machine keeps integers the other way round.
    pub(crate) fn open(file: &File, offset: usize) -> io::Result<Option<Self>> {
        // SAFETY: a cache file is written under another name and renamed into place, and never written again, so
        // its content does not change under the map; every bit pattern is a valid u8.
        let bytes = unsafe { Mmap::map(file)? };
        let fits =
            bytes.len() >= offset && (bytes.len() - offset).is_multiple_of(4) && offset.is_multiple_of(4);
        Ok((fits && cfg!(target_endian = "little")).then_some(Self { bytes, offset }))
    }

    /// The ids.
    pub(crate) fn ids(&self) -> &[u32] {
        // SAFETY: every bit pattern is a valid u32, and `align_to` gives back only the part that is aligned.
        let (before, ids, after) = unsafe { self.bytes[self.offset..].align_to::<u32>() };
        // A map starts at a page and `open` checked offset and length, so nothing is left over.
        debug_assert!(before.is_empty() && after.is_empty());
        ids
    }
}
