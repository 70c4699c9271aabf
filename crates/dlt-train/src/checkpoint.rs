//! Checkpoints: everything in a run that changes, so that a resumed run continues bit for bit.
//!
//! # Format, version 3
//! One safetensors file, `RUN/checkpoint/step-000000000120.safetensors`, named after the training
//! steps done. Every reader of safetensors can open it. Tensors:
//!
//! | name | holds |
//! |---|---|
//! | `transformer.wte.weight`, ... | parameters outside of blocks, f32, as in the model file |
//! | `transformer.h.S.attn.c_attn.weight`, ... | the tied parameters of storage `S`, each storage once, however many layers use it |
//! | `transformer.h.L.ln_1.weight`, ... | parameters that layer `L` keeps for itself, if `tying.unit` or `tying.own` say so |
//! | `moments/first/` and `moments/second/`, then a name | AdamW's moments of a parameter; for a block under the number of the layer whose optimizer state it is |
//! | `recording` | u8: the decisions so far, as `states.jsonl` holds them |
//! | `progress` | u8: the state of the run (`run_state.rs`) as JSON: step counts of the moments, the agent (Q-network, its optimizer, epsilon, random stream, pending decision), position and random stream of both orders of data, running means, statistics of gradients since the last decision, the loss before it, peaks of memory, best model, length of `metrics.jsonl`, checksums of the data |
//!
//! Metadata, all text:
//!
//! | key | value |
//! |---|---|
//! | `dlt-checkpoint` | version of this layout, `3`. Versions 2 and 1 can be read too. The `progress` of version 2 lacks the statistics of gradients and the loss before a decision; that of version 1 also lacks the peaks of memory |
//! | `checksum` | SHA-256 of the whole file with 64 zeros in this place |
//! | `spec` | the run's specification as TOML |
//! | `step`, `vocabulary`, `classes` | training steps done, size of the vocabulary, number of classes (0: none) |
//! | `state` | the owner of each layer, `0,0,2` |
//! | `storage`, `frozen`, `independent`, `next-storage` | the binding: each layer's storage, layers that use untrained initial weights (drawn from the seed, not stored), layers that train by themselves, number of the next new storage |
//!
//! A file is written under another name, synced and renamed into place, then the folder is synced.
//! So the whole file exists, or none. The best model so far is next to it as
//! `best-STEP.safetensors`; `progress` holds its step and checksum. It is the same file that
//! `RUN/model.safetensors` was when the checkpoint was made.

mod contents;
mod store;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dlt_agent::AgentSnapshot;
use dlt_models::binding::{Binding, SavedBinding};
use dlt_spec::tensors::{CHECKSUM, Number, TensorError, TensorFile};
use dlt_spec::{CheckedSpec, Origin, Overlay, Spec};
use dlt_state::Recording;

use crate::run_state::RunState;
use crate::{Result, TrainError};
pub(crate) use contents::{Contents, Numbers};
pub(crate) use store::sha256;
pub use store::{CHECKPOINT_FOLDER, CheckpointFolder, Found};

/// Version of the layout that this program writes.
pub const VERSION: &str = "3";

/// Older versions that it reads too.
pub const OLDER_VERSIONS: &[&str] = &["1", "2"];

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// A checkpoint whose every byte has been checked.
#[derive(Debug)]
pub struct Checkpoint {
    tensors: TensorFile,
    run: RunState,
    recording: Recording,
}

impl Checkpoint {
    /// Opens a checkpoint and checks all of it. Tensors are read on request.
    ///
    /// # Errors
    /// [`TrainError::Io`] if it cannot be read, [`TrainError::Format`] if it has another version,
    /// is damaged, or contradicts itself.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_real(path, path)
    }

    /// [`open`](Self::open) for a file that the system finds by the path `real`, while messages
    /// name `path`.
    fn open_real(path: &Path, real: &Path) -> Result<Self> {
        let tensors = TensorFile::open(real).map_err(|error| error.of(path))?.named(path);
        // Before anything else is read: only bytes whose checksum agrees are worth parsing.
        check(&tensors)?;

        let refuse = |reason: String| TrainError::Format { path: path.to_owned(), reason };
        let text = |name: &str| -> Result<Vec<u8>> {
            // A tensor of another type under this name is treated as missing, so that its bytes are
            // never read as text.
            let place =
                tensors.header().tensors.get(name).filter(|place| place.dtype == Number::U8);
            let bytes = place.map(|_| tensors.bytes(name)).transpose()?.flatten();
            bytes.ok_or_else(|| refuse(format!("it lacks `{name}`")))
        };

        let run = serde_json::from_slice(&text("progress")?)
            .map_err(|error| refuse(format!("`progress`: {error}")))?;
        let recording = String::from_utf8(text("recording")?).map_err(|error| error.to_string());
        let recording =
            recording.and_then(|text| Recording::parse(&text).map_err(|error| error.to_string()));
        let recording = recording.map_err(|error| refuse(format!("`recording`: {error}")))?;

        Ok(Self { tensors, run, recording })
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.tensors.path()
    }

    /// Training steps done.
    #[must_use]
    pub fn step(&self) -> usize {
        self.run.step
    }

    /// The decisions so far.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The spec that the run had when the checkpoint was made.
    ///
    /// # Errors
    /// [`TrainError::Format`] or [`TrainError::Spec`] if it is not valid.
    pub fn spec(&self) -> Result<CheckedSpec> {
        let origin = Origin::File(self.path().display().to_string());
        Ok(Spec::assemble(&[Overlay::from_toml(origin, self.text("spec")?)?])?.check()?)
    }

    /// The file of the best model so far, next to this one; `None` if no model had been evaluated.
    #[must_use]
    pub fn best_path(&self) -> Option<PathBuf> {
        let best = self.run.best.as_ref()?;
        Some(self.path().with_file_name(store::best_name(best.step)))
    }

    /// The state of the run at this checkpoint.
    pub(crate) fn run(&self) -> &RunState {
        &self.run
    }

    /// Takes the agent's part out of the state.
    pub(crate) fn take_agent(&mut self) -> Option<AgentSnapshot> {
        self.run.agent.take()
    }

    pub(crate) fn vocabulary(&self) -> Result<usize> {
        self.number("vocabulary")
    }

    pub(crate) fn classes(&self) -> Result<usize> {
        self.number("classes")
    }

    /// Which layer uses which storage.
    pub(crate) fn binding(&self) -> Result<Binding> {
        let saved = SavedBinding {
            storage: self.layers("storage")?,
            frozen: self.layers("frozen")?,
            independent: self.layers("independent")?,
            next: self.number("next-storage")?,
        };

        Binding::restore(&saved).map_err(|error| self.refuse(error.to_string()))
    }

    /// A tensor of f32 by its name; `None` if the checkpoint has none of that name.
    pub(crate) fn tensor(&self, name: &str, device: &Device) -> dlt_models::Result<Option<Tensor>> {
        let place =
            self.tensors.header().tensors.get(name).filter(|place| place.dtype == Number::F32);
        let Some(place) = place else { return Ok(None) };
        let bytes = self.tensors.bytes(name)?.unwrap_or_default();
        Ok(Some(Tensor::from_raw_buffer(&bytes, DType::F32, &place.shape, device)?))
    }

    pub(crate) fn refuse(&self, reason: impl Into<String>) -> TrainError {
        self.tensors.refuse(reason).into()
    }

    fn text(&self, key: &str) -> Result<&str> {
        let text = self.tensors.header().metadata.get(key).map(String::as_str);
        text.ok_or_else(|| self.refuse(format!("the metadata lacks `{key}`")))
    }

    fn number(&self, key: &str) -> Result<usize> {
        let text = self.text(key)?;
        text.parse()
            .map_err(|_| self.refuse(format!("metadata `{key}`: expected a number, got `{text}`")))
    }

    fn layers(&self, key: &str) -> Result<Vec<usize>> {
        let text = self.text(key)?;
        let parts = text.split(',').filter(|part| !part.is_empty()).map(str::parse);
        parts.collect::<std::result::Result<_, _>>().map_err(|_| {
            self.refuse(format!(
                "metadata `{key}`: expected numbers separated by commas, got `{text}`"
            ))
        })
    }
}

/// Checks the version, and the checksum of all bytes.
fn check(tensors: &TensorFile) -> std::result::Result<(), TensorError> {
    let metadata = &tensors.header().metadata;
    match metadata.get("dlt-checkpoint").map(String::as_str) {
        Some(version) if version == VERSION || OLDER_VERSIONS.contains(&version) => {}
        Some(other) => {
            let older = OLDER_VERSIONS.join(", ");
            let reason =
                format!("expected checkpoint layout version {VERSION} or {older}, got {other}");
            return Err(tensors.refuse(reason));
        }
        None => return Err(tensors.refuse("a safetensors file, but not one of dlt's checkpoints")),
    }

    match metadata.get(CHECKSUM) {
        Some(checksum) if *checksum == tensors.examine()?.checksum => Ok(()),
        Some(_) => Err(tensors.damaged()),
        None => Err(tensors.refuse("it is damaged: the metadata lacks the checksum")),
    }
}
