//! Tokens on disk, so that a text is tokenized once.
//!
//! One file per text and tokenizer, named by its key. All numbers are little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `dlt-tok` and a line end |
//! | 8..12 | version of this layout, 3, u32 |
//! | 12..16 | size of the vocabulary, u32 |
//! | 16..24 | number of tokens, u64 |
//! | 24..32 | bytes of text that the tokens stand for, u64 |
//! | 32..36 | the token that ends a text, u32; all ones if there is none |
//! | 36..40 | bytes of the rows without text after the tokens, u32; 0 if there are none |
//! | 40..48 | bytes of the text that was read, u64 |
//! | 48..80 | key: SHA-256 of what the tokens were made from |
//! | 80..112 | SHA-256 of the text that was read |
//! | 112..144 | SHA-256 of all that follows the header |
//! | 144..176 | SHA-256 of bytes 0..144 |
//! | 176.. | the tokens, u32 each |
//! | after them | rows without text that were found, of each file in order: JSON |
//!
//! A file that deviates from this is made again, never trusted. A new one is written as
//! `KEY.partial`, under a lock on it, synced and renamed. Another process that wants the same file
//! at the same moment waits for it. If a process was killed, the next one starts its file again.

use crate::{
    checksum::{feed, hex},
    durable,
    text::files::Found,
    text::stream::TokenStream,
    text::token_file::TokenFile,
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"dlt-tok\n";
const VERSION: u32 = 3;
const HEADER_BYTES: usize = 176;
const CHECKED_HEADER_BYTES: usize = 144;
const NO_EOS: u32 = u32::MAX;

/// Ending of a finished file.
pub(crate) const EXTENSION: &str = "tokens";

/// Bytes of the write buffer.
const BUFFER: usize = 1 << 20;

/// A checksum of everything that tokens are made from. It names their file.
#[derive(Clone, Copy)]
pub(crate) struct CacheKey([u8; 32]);

impl CacheKey {
    /// The key of a text and a tokenizer, each by its identity, and of what else shapes the tokens.
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
        folder.join(format!("{}.{EXTENSION}", hex(&self.0)))
    }
}

/// A token stream, and facts about it that the stream does not hold.
pub(crate) struct TokenizedText {
    pub(crate) stream: TokenStream,
    pub(crate) facts: Facts,
}

/// What a cache file stores besides tokens.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) vocabulary: usize,
    pub(crate) eos: Option<u32>,
    /// Bytes of text that the tokens stand for.
    pub(crate) bytes: u64,
    /// Bytes of the text that was read; of these, blocks drop some.
    pub(crate) text_bytes: u64,
    /// SHA-256 of the text that was read.
    pub(crate) text_sha256: [u8; 32],
    /// Rows without text of each file that was read; empty if there are none.
    pub(crate) bad_rows: Vec<Found>,
}

/// The tokens of a key, if the folder has them whole. A file that exists but cannot be used gives a
/// warning.
pub(crate) fn read(folder: &Path, key: &CacheKey) -> Option<TokenizedText> {
    let path = key.path(folder);
    match read_file(&path, key) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(
                path = %path.display(),
                %error,
                "cached tokens cannot be used and are made again"
            );
            None
        }
    }
}

fn read_file(path: &Path, key: &CacheKey) -> io::Result<TokenizedText> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut file = dlt_spec::file::regular(path, u64::MAX)?;
    let length = file.metadata()?.len();

    if length < HEADER_BYTES as u64 {
        return Err(damaged("the file is shorter than its header"));
    }

    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;

    let number = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;

    // The header is checked before any of its numbers is used.
    if header[..8] != *MAGIC || number(8) != VERSION {
        return Err(damaged("not a token cache of this version"));
    }
    if header[CHECKED_HEADER_BYTES..] != *Sha256::digest(&header[..CHECKED_HEADER_BYTES]) {
        return Err(damaged("the header's checksum differs"));
    }

    if header[48..80] != key.0 {
        return Err(damaged("the tokens were made from another text or tokenizer"));
    }

    let n_found = u64::from(number(36));
    let end = long(16).checked_mul(4).and_then(|tokens| tokens.checked_add(HEADER_BYTES as u64));
    let Some(end) = end.filter(|end| end.checked_add(n_found) == Some(length)) else {
        return Err(damaged("the file is cut short or too long"));
    };
    let mut hash = Sha256::new();

    feed(&mut [&mut hash], &mut file)?;
    if header[112..144] != *hash.finalize() {
        return Err(damaged("the checksum of the tokens differs"));
    }

    let bad_rows = read_found(&mut file, end, n_found)?;
    let mut text_sha256 = [0; 32];
    text_sha256.copy_from_slice(&header[80..112]);

    let vocabulary = number(12) as usize;
    let eos = number(32);
    let bytes = long(24);
    let eos = (eos != NO_EOS).then_some(eos);
    let facts = Facts { vocabulary, eos, bytes, text_bytes: long(40), text_sha256, bad_rows };
    let tokens = TokenFile::new(file, path, HEADER_BYTES as u64, long(16) as usize);

    Ok(TokenizedText { stream: TokenStream::in_file(tokens, bytes as usize), facts })
}

/// The rows without text, from this position in a file whose checksum was compared.
fn read_found(file: &mut File, at: u64, length: u64) -> io::Result<Vec<Found>> {
    if length == 0 {
        return Ok(Vec::new());
    }

    file.seek(SeekFrom::Start(at))?;
    let mut json = Vec::new();
    file.take(length).read_to_end(&mut json)?;

    serde_json::from_slice(&json).map_err(io::Error::from)
}

/// The result of [`Writer::begin`].
pub(crate) enum Begun {
    /// Another process wrote it in the meantime.
    Ready(TokenizedText),
    /// The caller has to write it.
    Write(Writer),
}

/// Tokens on their way to disk.
pub(crate) struct Writer {
    key: CacheKey,
    folder: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    tokens: u64,
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins to write a key, after waiting for any other process that writes it.
    pub(crate) fn begin(folder: &Path, key: CacheKey) -> io::Result<Begun> {
        fs::create_dir_all(folder)?;
        let partial = key.path(folder).with_extension(durable::PARTIAL);
        let file = durable::claim(&partial)?;

        // Removes files of processes that were killed while they tokenized another text.
        durable::remove_dead(folder);

        if let Ok(text) = read_file(&key.path(folder), &key) {
            // The claimed file is empty. Processes that wait for it look for the finished file
            // first, as this one does.
            let _ = fs::remove_file(&partial);
            return Ok(Begun::Ready(text));
        }

        let mut file = BufWriter::with_capacity(BUFFER, file);
        file.write_all(&[0; HEADER_BYTES])?;

        let folder = folder.to_owned();
        let hash = Sha256::new();
        let bytes = Vec::new();

        Ok(Begun::Write(Self { key, folder, partial, file, hash, tokens: 0, bytes }))
    }

    /// Appends tokens.
    pub(crate) fn push(&mut self, ids: &[u32]) -> io::Result<()> {
        self.bytes.clear();
        self.bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        self.hash.update(&self.bytes);
        self.tokens += ids.len() as u64;
        self.file.write_all(&self.bytes)
    }

    /// Renames the file to its final name and returns the tokens, read from it.
    pub(crate) fn finish(self, facts: &Facts) -> io::Result<TokenizedText> {
        let partial = self.partial.clone();
        // Removes what a failed write left. After the rename there is nothing to remove.
        self.place(facts).inspect_err(|_| drop(fs::remove_file(&partial)))
    }

    fn place(mut self, facts: &Facts) -> io::Result<TokenizedText> {
        let found = if facts.bad_rows.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(&facts.bad_rows)?
        };

        self.hash.update(&found);
        self.file.write_all(&found)?;

        let n_found = u32::try_from(found.len()).map_err(io::Error::other)?;
        let vocabulary = u32::try_from(facts.vocabulary).map_err(io::Error::other)?;
        let mut header = Vec::with_capacity(HEADER_BYTES);

        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&vocabulary.to_le_bytes());
        header.extend_from_slice(&self.tokens.to_le_bytes());
        header.extend_from_slice(&facts.bytes.to_le_bytes());
        header.extend_from_slice(&facts.eos.unwrap_or(NO_EOS).to_le_bytes());
        header.extend_from_slice(&n_found.to_le_bytes());
        header.extend_from_slice(&facts.text_bytes.to_le_bytes());
        header.extend_from_slice(&self.key.0);
        header.extend_from_slice(&facts.text_sha256);
        header.extend_from_slice(&self.hash.finalize());
        header.extend_from_slice(&Sha256::digest(&header));

        // The header holds counts and checksums of the whole file, so it is written last, over the
        // zeros that `begin` wrote.
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header)?;
        file.sync_all()?;

        let path = self.key.path(&self.folder);
        fs::rename(&self.partial, &path)?;
        durable::sync_folder(&self.folder);

        read_file(&path, &self.key)
    }

    /// Removes what was written.
    pub(crate) fn abandon(self) {
        // If that fails, the next process that wants this file starts it again.
        let _ = fs::remove_file(&self.partial);
    }
}
