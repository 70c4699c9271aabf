//! Tokens on disk, so that a text is tokenized once.
//!
//! One file per text and tokenizer, named by its key. All numbers are little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `dlt-tok` and a line end |
//! | 8..12 | version of this layout, u32 |
//! | 12..16 | size of the vocabulary, u32 |
//! | 16..24 | number of tokens, u64 |
//! | 24..32 | bytes of text that the tokens stand for, u64 |
//! | 32..36 | the token that ends a text, u32; all ones where there is none |
//! | 36..40 | zero |
//! | 40..72 | key: SHA-256 of what the tokens were made from |
//! | 72..104 | SHA-256 of bytes 0..72 and of all tokens |
//! | 104.. | the tokens, u32 each |
//!
//! A file that is not exactly this is made again, never trusted. A new one is written beside its place, synced and
//! renamed, so that processes that make the same file at the same moment do not disturb each other.

use crate::{mapping::MappedFile, stream::TokenStream};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

const MAGIC: &[u8; 8] = b"dlt-tok\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 104;
const CHECKED_HEADER_BYTES: usize = 72;
const NO_EOS: u32 = u32::MAX;

/// What tokens are made from.
pub(crate) struct CacheKey([u8; 32]);

impl CacheKey {
    /// The key of a text by its checksum, a tokenizer by its identity, and what else shapes the tokens.
    pub(crate) fn new(content: &[u8; 32], tokenizer: &str, pipeline: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(VERSION.to_le_bytes());
        hash.update(content);
        // Lengths keep "ab", "c" apart from "a", "bc".
        for part in [tokenizer, pipeline] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.tokens", hex(&self.0)))
    }
}

/// A token stream and what of its tokenizer has to be known beside it.
pub(crate) struct TokenizedText {
    pub(crate) stream: TokenStream,
    pub(crate) vocabulary: usize,
    pub(crate) eos: Option<u32>,
}

/// The tokens of a key, if the folder has them whole. What is there but cannot be used is reported as a warning.
pub(crate) fn read(folder: &Path, key: &CacheKey) -> Option<TokenizedText> {
    let path = key.path(folder);
    match read_file(&path, key) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cached tokens cannot be used and are made again");
            None
        }
    }
}

/// Writes the tokens of a key and gives them back mapped from the file. Where that fails they stay in memory, with a
/// warning: a cache saves time and decides nothing.
pub(crate) fn write(folder: &Path, key: &CacheKey, text: TokenizedText) -> TokenizedText {
    match write_file(folder, key, &text) {
        Ok(()) => read(folder, key).unwrap_or(text),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "tokens cannot be cached and stay in memory");
            text
        }
    }
}

/// Lower-case hexadecimal digits of a checksum.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_file(path: &Path, key: &CacheKey) -> io::Result<TokenizedText> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let file = File::open(path)?;
    if file.metadata()?.len() < HEADER_BYTES as u64 {
        return Err(damaged("shorter than its header"));
    }
    let mapped =
        MappedFile::open(&file, HEADER_BYTES)?.ok_or_else(|| damaged("not a whole number of tokens"))?;
    let (header, payload) = mapped.bytes().split_at(HEADER_BYTES);
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
    if header[..8] != *MAGIC || number(8) != VERSION {
        return Err(damaged("not a token cache of this version"));
    }
    if header[40..72] != key.0 {
        return Err(damaged("made from another text or tokenizer"));
    }
    if long(16) != (payload.len() / 4) as u64 {
        return Err(damaged("cut short or too long"));
    }
    if header[CHECKED_HEADER_BYTES..] != checksum(&header[..CHECKED_HEADER_BYTES], payload) {
        return Err(damaged("checksum differs"));
    }
    let (vocabulary, eos, bytes) = (number(12) as usize, number(32), long(24) as usize);
    let stream = TokenStream::mapped(mapped, bytes);
    Ok(TokenizedText { stream, vocabulary, eos: (eos != NO_EOS).then_some(eos) })
}

fn write_file(folder: &Path, key: &CacheKey, text: &TokenizedText) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let path = key.path(folder);
    // Unique among processes and threads, so that two writers never share a file.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let nonce = WRITES.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{nonce}.partial", process::id()));
    let written = write_whole(&temporary, key, text).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // What is left of a failed write is only in the way.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    // The rename itself is on disk once the folder is; not every system can sync one, and none needs it to go on.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn write_whole(path: &Path, key: &CacheKey, text: &TokenizedText) -> io::Result<()> {
    let payload: Vec<u8> = text.stream.tokens().iter().flat_map(|id| id.to_le_bytes()).collect();
    let vocabulary = u32::try_from(text.vocabulary).map_err(io::Error::other)?;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&vocabulary.to_le_bytes());
    header.extend_from_slice(&(text.stream.len() as u64).to_le_bytes());
    header.extend_from_slice(&(text.stream.bytes() as u64).to_le_bytes());
    header.extend_from_slice(&text.eos.unwrap_or(NO_EOS).to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&key.0);
    header.extend_from_slice(&checksum(&header, &payload));
    let mut file = File::create_new(path)?;
    file.write_all(&header)?;
    file.write_all(&payload)?;
    file.sync_all()
}

fn checksum(header: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(header);
    hash.update(payload);
    hash.finalize().into()
}
