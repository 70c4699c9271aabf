//! The model file of a run: opened with every check that is possible, and written again from the
//! run's checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use dlt_kernels::Kernels;
use dlt_models::architecture::{Architecture, of_spec};
use dlt_models::binding::Rules;
use dlt_models::file::ModelFile;
use dlt_models::{Model, ModelError};
use dlt_spec::size::Extents;
use dlt_spec::{CheckedSpec, Origin, Overlay, Spec, durable, fields};
use dlt_state::State;

use crate::assembly::kernels;
use crate::checkpoint::{CHECKPOINT_FOLDER, Checkpoint, CheckpointFolder};
use crate::folder::{Held, remove_leftovers};
use crate::lock::Lock;
use crate::plan::restored;
use crate::{MODEL_FILE, Result, TrainError};

/// Opens a model file and checks all of it. Files of the first layout hold no checksum; in a run
/// folder they must have the one that the run's checkpoints record. If a file is refused, the
/// message says where the right bytes are.
///
/// # Errors
/// [`TrainError::Model`] if it cannot be read or is not a model file, [`TrainError::Damaged`] if
/// the run can write it again, [`TrainError::Format`] if its checksum differs from that in the
/// run's checkpoint.
pub fn open_model(path: &Path) -> Result<ModelFile> {
    let run = run_of(path);
    let refused = match (ModelFile::open(path), &run) {
        (Ok(file), None) => return Ok(file),
        (Ok(file), Some(run)) => match differs(&file, run) {
            None => return Ok(file),
            Some(reason) => TrainError::Format { path: path.to_owned(), reason },
        },
        (Err(error), _) => error.into(),
    };

    Err(with_repair(refused, path))
}

/// The metadata of a model file: the spec, the state, the training steps done, and the sizes of
/// vocabulary and classes.
#[must_use]
pub fn model_notes(
    spec: &CheckedSpec,
    state: &State,
    step: usize,
    extents: Extents,
) -> BTreeMap<String, String> {
    let owners: Vec<_> = state.owners().iter().map(ToString::to_string).collect();
    let notes = [
        ("spec", fields::render(spec)),
        ("state", owners.join(",")),
        ("step", step.to_string()),
        ("vocabulary", extents.vocabulary.to_string()),
        ("classes", extents.classes.to_string()),
    ];

    notes.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The model of an architecture in a file that a run with this spec wrote. It computes in the run's
/// format of activations.
///
/// # Errors
/// Fails if the file holds a model of another architecture.
pub fn saved_model(
    file: &ModelFile,
    architecture: Arc<dyn Architecture>,
    spec: &CheckedSpec,
    device: &Device,
) -> Result<Model> {
    let rules = Rules::from(&spec.tying);
    // On a device without the products that the run trained with, its weights mean the same.
    let kernels = kernels(spec, device).unwrap_or(Kernels::Fused);
    let model = file.model(architecture, rules, kernels, device)?;
    Ok(model.computing_in(spec.training.activations))
}

/// Adds to an error of a run's model file how the file can be repaired, if it can.
#[must_use]
pub fn with_repair(refused: TrainError, path: &Path) -> TrainError {
    let reason = match &refused {
        TrainError::Format { reason, .. }
        | TrainError::Model(ModelError::Format { reason, .. }) => reason.clone(),
        TrainError::Model(ModelError::NotFinite { tensor, count, of, .. }) => {
            dlt_spec::tensors::not_finite(tensor, *count, *of)
        }
        TrainError::Model(error @ (ModelError::Weight { .. } | ModelError::Depth { .. })) => {
            error.to_string()
        }
        _ => return refused,
    };

    match run_of(path).and_then(|run| Some((WholeCopy::find(&run)?, run))) {
        Some((copy, run)) => TrainError::Damaged {
            path: path.to_owned(),
            reason,
            whole: copy.path().to_owned(),
            run,
        },
        None => refused,
    }
}

/// What [`repair_model`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The file that the right bytes were read from.
    pub source: PathBuf,
    /// Training steps done when that model was saved.
    pub step: usize,
    /// The new name of the damaged file; `None` if there was none.
    pub aside: Option<PathBuf>,
}

/// Writes a run's model file again from the newest checkpoint that holds the model, and keeps the
/// damaged file under another name. `None` if the file is whole.
///
/// # Errors
/// [`TrainError::Held`] if another process writes into the run folder; [`TrainError::Format`] if no
/// checkpoint holds the model; [`TrainError::Io`], after which the file is either the damaged one
/// or the right one.
pub fn repair_model(run: &Path) -> Result<Option<Repaired>> {
    let path = run.join(MODEL_FILE);
    let held = Held::open(run).map_err(|source| TrainError::Io {
        action: "read",
        path: run.to_owned(),
        source,
    })?;

    let _lock = Lock::take(&held)?;
    let is_there = fs::symlink_metadata(&path).is_ok();
    if is_there && open_model(&path).is_ok_and(|file| fits(&file)) {
        return Ok(None);
    }

    let Some(copy) = WholeCopy::find(run) else {
        let reason = format!(
            "no checkpoint in {} holds this model whole; `dlt train {}/spec.toml --out OTHER` trains it again",
            run.join(CHECKPOINT_FOLDER).display(),
            run.display()
        );
        return Err(TrainError::Format { path, reason });
    };

    let io = |source| TrainError::Io { action: "write", path: path.clone(), source };
    // First, so that no failure of the writing can lose the damaged bytes.
    let aside = if is_there { Some(keep(&path).map_err(io)?) } else { None };
    let step = copy.write(&path)?;

    // The repair is only done if the new file passes the same checks.
    open_model(&path)?;
    Ok(Some(Repaired { source: copy.path().to_owned(), step, aside }))
}

/// Whether a file holds the model that its own metadata describe.
fn fits(file: &ModelFile) -> bool {
    let number = |key: &str| file.metadata().get(key)?.parse().ok();
    let described = || {
        let origin = Origin::File(file.path().display().to_string());
        let overlay = Overlay::from_toml(origin, file.metadata().get("spec")?).ok()?;
        let spec = Spec::assemble(&[overlay]).ok()?.check().ok()?;

        // Files of models that predict tokens can lack the number of classes.
        let extents =
            Extents { vocabulary: number("vocabulary")?, classes: number("classes").unwrap_or(0) };
        Some(of_spec(&spec, extents))
    };

    described().is_some_and(|architecture| file.check(&*architecture).is_ok())
}

/// Removes files that killed processes left in a run folder. Returns the removed files.
///
/// # Errors
/// [`TrainError::Held`] if another process writes into the run folder; [`TrainError::Io`] if it
/// cannot be opened.
pub fn sweep(run: &Path) -> Result<Vec<PathBuf>> {
    let held = Held::open(run).map_err(|source| TrainError::Io {
        action: "read",
        path: run.to_owned(),
        source,
    })?;

    let _lock = Lock::take(&held)?;
    let mut removed = remove_leftovers(run);
    removed.extend(durable::remove_dead(&run.join(CHECKPOINT_FOLDER)));

    Ok(removed)
}

/// Gives a file a second name that is free: `model.damaged`, or the same with a number.
fn keep(path: &Path) -> io::Result<PathBuf> {
    let mut number = 1;

    loop {
        let ending = if number == 1 { "damaged".to_owned() } else { format!("{number}.damaged") };
        let aside = path.with_extension(ending);
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            // A file system without hard links.
            Err(_) if fs::symlink_metadata(&aside).is_err() => {
                durable::copy(path, &aside)?;
                return Ok(aside);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A whole copy of a run's best model, to repair its model file from.
enum WholeCopy {
    /// The file of the best model that the checkpoints keep, and its step.
    Kept(PathBuf, usize),
    /// The weights of a checkpoint that was made at the best step.
    Weights(Box<Checkpoint>),
}

impl WholeCopy {
    /// The newest copy in a run folder.
    fn find(run: &Path) -> Option<Self> {
        let folder = CheckpointFolder::of(run);
        for (_, path) in folder.list().ok()? {
            let Ok(checkpoint) = Checkpoint::open(&path) else { continue };
            let Some(best) = &checkpoint.run().best else { continue };
            let kept = checkpoint.best_path().unwrap_or_default();

            if best.is_in(&kept) {
                return Some(Self::Kept(kept, best.step));
            }

            if best.step == checkpoint.step() {
                return Some(Self::Weights(Box::new(checkpoint)));
            }
        }

        // No checkpoint has the model. A kept model that holds its own checksum can be checked
        // without one.
        let whole = |(step, path): (usize, PathBuf)| {
            ModelFile::open(&path)
                .is_ok_and(|file| file.has_checksum())
                .then_some(Self::Kept(path, step))
        };

        folder.best_models().ok()?.into_iter().find_map(whole)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path, _) => path,
            Self::Weights(checkpoint) => checkpoint.path(),
        }
    }

    /// Writes the model to `path`, and returns its step.
    fn write(&self, path: &Path) -> Result<usize> {
        match self {
            Self::Kept(kept, step) => {
                let io = |source| TrainError::Io { action: "write", path: path.to_owned(), source };
                durable::copy(kept, path).map_err(io)?;
                Ok(*step)
            }
            Self::Weights(checkpoint) => {
                let spec = checkpoint.spec()?;
                let extents = Extents {
                    vocabulary: checkpoint.vocabulary()?,
                    classes: checkpoint.classes()?,
                };

                let model = restored::model(
                    checkpoint,
                    of_spec(&spec, extents),
                    &spec,
                    extents,
                    &Device::Cpu,
                )?;
                let step = checkpoint.step();
                let notes =
                    model_notes(&spec, checkpoint.recording().state_at(step), step, extents);

                model.save(path, &notes)?;
                Ok(step)
            }
        }
    }
}

/// How a file differs from what the run's checkpoints record about it. `None` if it does not
/// differ, if it holds its own checksum, or if no checkpoint knows it.
fn differs(file: &ModelFile, run: &Path) -> Option<String> {
    if file.has_checksum() {
        return None;
    }

    let step: usize = file.metadata().get("step")?.parse().ok()?;
    for (_, path) in CheckpointFolder::of(run).list().ok()? {
        let Ok(checkpoint) = Checkpoint::open(&path) else { continue };
        if let Some(best) = checkpoint.run().best.as_ref().filter(|best| best.step == step) {
            let path = path.display();
            return (best.sha256.as_deref() != Some(file.sha256())).then(|| {
                format!("it is damaged: its checksum differs from the one recorded in {path}")
            });
        }
    }

    None
}

/// The run folder that a model file is in, known by the folder of checkpoints next to the file.
fn run_of(path: &Path) -> Option<PathBuf> {
    if path.file_name()? != MODEL_FILE {
        return None;
    }

    let run = path.parent()?;
    let run = if run.as_os_str().is_empty() { Path::new(".") } else { run };
    run.join(CHECKPOINT_FOLDER).is_dir().then(|| run.to_owned())
}
