//! Checkpoints: all of a run that changes, so that it goes on bit for bit.
//!
//! # Format, version 2
//! One safetensors file, `RUN/checkpoint/step-000000000120.safetensors`, named by the training steps done. Every reader of
//! safetensors can open it. Tensors:
//!
//! | name | holds |
//! |---|---|
//! | `transformer.wte.weight`, ... | parameters outside of blocks, f32, as in the model file |
//! | `transformer.h.S.attn.c_attn.weight`, ... | the block of storage `S`, each storage once, however many layers use it |
//! | `moments/first/` and `moments/second/`, then a name | AdamW's moments of a parameter; for a block under the number of the layer whose optimizer state it is |
//! | `recording` | u8: the decisions so far, as `states.jsonl` holds them |
//! | `progress` | u8: everything else as JSON: step counts of the moments, the agent (Q-network, its optimizer, epsilon, random stream, pending decision), place and random stream of both orders of data, running means, peaks of memory, best model, length of `metrics.jsonl`, checksums of the data |
//!
//! Metadata, all text:
//!
//! | key | value |
//! |---|---|
//! | `dlt-checkpoint` | version of this layout, `2`; version 1, whose `progress` lacks the peaks of memory, is read too |
//! | `checksum` | SHA-256 of the whole file with 64 zeros in this place |
//! | `spec` | the run's specification as TOML |
//! | `step`, `vocabulary`, `classes` | training steps done, size of the vocabulary, number of classes (0: none) |
//! | `state` | the owner of each layer, `0,0,2` |
//! | `storage`, `frozen`, `independent`, `next-storage` | the binding: each layer's storage, layers that use untrained initial weights (drawn from the seed, not stored), layers that train by themselves, number of the next new storage |
//!
//! A file is written under another name, synced and renamed into place, then the folder is synced: so there is
//! the whole file or none. The best model so far stands beside it as `best-STEP.safetensors`, named with its
//! checksum in `progress`: the very file that `RUN/model.safetensors` was when the checkpoint was made.

mod contents;
pub mod header;
mod progress;
mod store;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Tensor};
use dlt_models::ModelError;
use dlt_models::binding::{Binding, SavedBinding};
use dlt_spec::{CheckedSpec, Origin, Overlay, Spec};
use dlt_state::Recording;
use sha2::{Digest, Sha256};

use crate::{Result, TrainError};
pub(crate) use contents::{Contents, Numbers};
use header::{Header, MOST_BYTES, NO_CHECKSUM, Number, checksum_place};
pub(crate) use progress::{Best, Progress, StepCounts};
pub(crate) use store::sha256;
pub use store::{CHECKPOINT_FOLDER, CheckpointFolder, Found};

/// Version of the layout that this program writes.
pub const VERSION: &str = "2";

/// Versions that it reads besides.
pub const OLDER_VERSIONS: &[&str] = &["1"];

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// A checkpoint whose every byte has been checked.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: Mutex<File>,
    header: Header,
    /// Where the data begins.
    data: u64,
    progress: Progress,
    recording: Recording,
}

impl Checkpoint {
    /// Opens a checkpoint and checks all of it. Tensors are read when they are asked for.
    ///
    /// # Errors
    /// [`TrainError::Io`] where it cannot be read, [`TrainError::Format`] where it is of another version,
    /// damaged, or contradicts itself.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_real(path, path)
    }

    /// The same, of a file that the system finds by another path than messages name.
    fn open_real(path: &Path, real: &Path) -> Result<Self> {
        let io = |source| TrainError::Io { action: "read", path: path.to_owned(), source };
        let refuse = |reason: String| TrainError::Format { path: path.to_owned(), reason };
        let mut file = dlt_spec::file::regular(real, u64::MAX).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let (raw, header) = read_header(&mut file, bytes).map_err(io)?.map_err(refuse)?;
        check(&mut file, &raw, &header).map_err(io)?.map_err(refuse)?;
        let data = raw.len() as u64;
        let text = |name: &str| -> Result<Vec<u8>> {
            let place = header.tensors.get(name).filter(|place| place.dtype == Number::U8);
            let place = place.ok_or_else(|| refuse(format!("it lacks `{name}`")))?;
            (&file).seek(SeekFrom::Start(data + place.data_offsets.0)).map_err(io)?;
            let length = place.data_offsets.1 - place.data_offsets.0;
            // The header was compared with the length of the file.
            let mut bytes = Vec::with_capacity(length as usize);
            (&file).take(length).read_to_end(&mut bytes).map_err(io)?;
            Ok(bytes)
        };
        let progress = serde_json::from_slice(&text("progress")?)
            .map_err(|error| refuse(format!("`progress`: {error}")))?;
        let recording = String::from_utf8(text("recording")?).map_err(|error| error.to_string());
        let recording = recording.and_then(|text| Recording::parse(&text).map_err(|error| error.to_string()));
        let recording = recording.map_err(|error| refuse(format!("`recording`: {error}")))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), header, data, progress, recording })
    }

    /// Where it stands.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Training steps done.
    #[must_use]
    pub fn step(&self) -> usize {
        self.progress.step
    }

    /// The decisions so far.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The spec that the run had.
    ///
    /// # Errors
    /// [`TrainError::Format`] or [`TrainError::Spec`] where it is no valid one.
    pub fn spec(&self) -> Result<CheckedSpec> {
        let origin = Origin::File(self.path.display().to_string());
        Ok(Spec::assemble(&[Overlay::from_toml(origin, self.text("spec")?)?])?.check()?)
    }

    /// The file of the best model so far, beside this one; `None` where no model had been evaluated.
    #[must_use]
    pub fn best_path(&self) -> Option<PathBuf> {
        let best = self.progress.best.as_ref()?;
        Some(self.path.with_file_name(store::best_name(best.step)))
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(crate) fn vocabulary(&self) -> Result<usize> {
        self.number("vocabulary")
    }

    pub(crate) fn classes(&self) -> Result<usize> {
        self.number("classes")
    }

    /// Who uses which storage.
    pub(crate) fn binding(&self) -> Result<Binding> {
        let saved = SavedBinding {
            storage: self.layers("storage")?,
            frozen: self.layers("frozen")?,
            independent: self.layers("independent")?,
            next: self.number("next-storage")?,
        };
        Binding::restore(&saved).map_err(|reason| self.refuse(reason))
    }

    /// A tensor by name, if it is there.
    pub(crate) fn tensor(&self, name: &str, device: &Device) -> dlt_models::Result<Option<Tensor>> {
        let Some(place) = self.header.tensors.get(name).filter(|place| place.dtype == Number::F32) else {
            return Ok(None);
        };
        let (from, to) = place.data_offsets;
        let read = || {
            // Nothing panics while it is held, and a place in a file is set anew each time.
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(self.data + from))?;
            let mut bytes = Vec::new();
            (&*file).take(to - from).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes =
            read().map_err(|source| ModelError::Io { action: "read", path: self.path.clone(), source })?;
        let (numbers, _) = bytes.as_chunks::<4>();
        let numbers = numbers.iter().copied().map(f32::from_le_bytes).collect();
        Ok(Some(Tensor::from_vec(numbers, place.shape.as_slice(), device)?))
    }

    pub(crate) fn refuse(&self, reason: impl Into<String>) -> TrainError {
        TrainError::Format { path: self.path.clone(), reason: reason.into() }
    }

    fn text(&self, key: &str) -> Result<&str> {
        let text = self.header.metadata.get(key).map(String::as_str);
        text.ok_or_else(|| self.refuse(format!("the metadata lacks `{key}`")))
    }

    fn number(&self, key: &str) -> Result<usize> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.refuse(format!("metadata `{key}`: expected a number, came `{text}`")))
    }

    fn layers(&self, key: &str) -> Result<Vec<usize>> {
        let text = self.text(key)?;
        let parts = text.split(',').filter(|part| !part.is_empty()).map(str::parse);
        parts.collect::<std::result::Result<_, _>>().map_err(|_| {
            self.refuse(format!("metadata `{key}`: expected numbers with commas between, came `{text}`"))
        })
    }
}

/// What is read of a file, or why it is refused.
type Judged<T> = std::result::Result<T, String>;

/// Length and header as they stand in the file, and the header read.
fn read_header(file: &mut File, bytes: u64) -> std::io::Result<Judged<(Vec<u8>, Header)>> {
    if bytes < 8 {
        return Ok(Err(format!("expected a checkpoint, came a file of {bytes} bytes")));
    }
    let mut raw = vec![0; 8];
    file.read_exact(&mut raw)?;
    let length = u64::from_le_bytes(raw[..8].try_into().expect("eight bytes are eight bytes"));
    if length > MOST_BYTES || length > bytes - 8 {
        return Ok(Err(format!(
            "its header claims {length} bytes, the file has {bytes}: it is cut short or none of ours"
        )));
    }
    (&*file).take(length).read_to_end(&mut raw)?;
    // A header of another version may look otherwise further on.
    Ok(version(&raw[8..])
        .and_then(|()| Header::parse(&raw[8..], bytes - 8 - length))
        .map(|header| (raw, header)))
}

fn version(json: &[u8]) -> Judged<()> {
    let value: serde_json::Value =
        serde_json::from_slice(json).map_err(|error| format!("not a safetensors header: {error}"))?;
    match value["__metadata__"]["dlt-checkpoint"].as_str() {
        Some(version) if version == VERSION || OLDER_VERSIONS.contains(&version) => Ok(()),
        Some(other) => {
            let older = OLDER_VERSIONS.join(", ");
            Err(format!("expected checkpoint layout version {VERSION} or {older}, got {other}"))
        }
        None => Err("a safetensors file, but not one of dlt's checkpoints".to_owned()),
    }
}

/// Compares the checksum of all bytes with the one in the metadata.
fn check(file: &mut File, raw: &[u8], header: &Header) -> std::io::Result<Judged<()>> {
    let Some(place) = checksum_place(raw) else {
        return Ok(Err("the metadata lacks the checksum".to_owned()));
    };
    let mut hash = Sha256::new();
    hash.update(&raw[..place.start]);
    hash.update(NO_CHECKSUM);
    hash.update(&raw[place.end..]);
    file.seek(SeekFrom::Start(raw.len() as u64))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hash.update(&chunk[..read]),
        }
    }
    Ok(match header.metadata.get(header::CHECKSUM) {
        Some(checksum) if *checksum == hex(&hash.finalize()) => Ok(()),
        _ => Err("it is damaged: its checksum differs".to_owned()),
    })
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
