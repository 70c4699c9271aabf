//! The weights of a folder, by this program's names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dlt_spec::foreign::Foreign;

use super::names::{Piece, Twin, Use, all_pieces, spellings, twins, use_of};
use super::shards::{Numbers, Shards, listed};
use crate::architecture::Architecture;
use crate::error::Context;
use crate::{ModelError, Result};

/// For each layer of a folder's model, the lowest layer whose weights are the same tensors of its
/// files. Only headers and tied tables are read.
///
/// # Errors
/// As [`Weights::open`].
pub fn tied_layers(folder: &Path, architecture: &dyn Architecture) -> Result<Vec<usize>> {
    Ok(Weights::open(folder, architecture, &Device::Cpu)?.tied_layers(architecture))
}

/// The weights of a folder: `model.safetensors` or `pytorch_model.bin`, or several such files with
/// an index. They may be f32, f64, f16 or bf16, and have any of the names that transformers has
/// written.
pub struct Weights {
    folder: PathBuf,
    shards: Shards,
    /// The pieces of each of our tensors, by our names.
    pieces: BTreeMap<String, Vec<Piece>>,
    /// For every piece that these files have: its name in them, by the name that transformers
    /// writes.
    found: BTreeMap<String, String>,
    /// Tensors of other heads.
    unused: Vec<String>,
    device: Device,
}

impl Weights {
    /// Opens the weights of a folder for such a model and reads the headers. Tensors that are read
    /// later are put on `device`.
    ///
    /// # Errors
    /// - [`ModelError::Io`] if a file cannot be read;
    /// - [`ModelError::Format`] if there is no file, one is damaged or missing, the index names a
    ///   file outside of the folder, a second copy of a tied tensor differs from the first, or a
    ///   tensor has an unknown name.
    pub fn open(folder: &Path, architecture: &dyn Architecture, device: &Device) -> Result<Self> {
        let shards = Shards::open(folder).map_err(named)?;
        let pieces = all_pieces(architecture);
        let twins = twins(architecture);

        // Of several names in the files, the one that transformers writes is preferred.
        let find = |name: &str| {
            let mut all = spellings(architecture, name);
            all.extend(
                twins.iter().filter(|twin| twin.used == name).map(|twin| twin.other.to_owned()),
            );
            all.into_iter().find(|name| shards.holds(name))
        };

        let names = pieces.values().flatten().map(|piece| piece.name.as_str());
        let found: BTreeMap<_, _> =
            names.filter_map(|name| Some((name.to_owned(), find(name)?))).collect();
        let in_use: BTreeSet<&str> = found.values().map(String::as_str).collect();
        let is_twin = |name: &str| twins.iter().any(|twin| twin.other == name);
        let mut unused = Vec::new();
        let mut unknown = Vec::new();

        for name in shards.names().filter(|name| !in_use.contains(name) && !is_twin(name)) {
            match use_of(architecture, name) {
                Use::None => {}
                Use::Elsewhere => unused.push(name.to_owned()),
                Use::Unknown => unknown.push(name.to_owned()),
            }
        }

        let weights = Self {
            folder: folder.to_owned(),
            shards,
            pieces,
            found,
            unused,
            device: device.clone(),
        };

        weights.check_names(&unknown)?;
        weights.check_twins(&twins)?;
        Ok(weights)
    }

    /// One tensor by our name, for [`Model::from_weights`](crate::Model::from_weights); `None` for
    /// a name that such a model does not have.
    ///
    /// # Errors
    /// - [`ModelError::Weight`], with the name that transformers writes, for a tensor that is
    ///   missing or has another shape;
    /// - [`ModelError::Format`] for a tensor of another number format;
    /// - [`ModelError::NotFinite`] for a tensor with NaN or infinities;
    /// - [`ModelError::Io`] if it cannot be read.
    pub fn lookup(&self, ours: &str) -> Result<Option<Tensor>> {
        let Some(pieces) = self.pieces.get(ours) else { return Ok(None) };
        let parts = pieces
            .iter()
            .map(|piece| piece.packed(&self.read(piece)?))
            .collect::<Result<Vec<_>>>()?;

        // Rows of the pieces, one after the other.
        let packed = match parts.as_slice() {
            [only] => only.clone(),
            parts => Tensor::cat(parts, 0).context(|| format!("packing {ours}"))?,
        };

        let moved = packed.to_device(&self.device).context(|| format!("loading {ours}"))?;
        Ok(Some(moved))
    }

    /// Whether the files have all pieces of one of our tensors. If not, a head that is new to a
    /// model can be drawn.
    #[must_use]
    pub fn holds(&self, ours: &str) -> bool {
        let is_found = |piece: &Piece| self.found.contains_key(&piece.name);
        self.pieces.get(ours).is_some_and(|pieces| pieces.iter().all(is_found))
    }

    /// For each layer, the lowest layer whose weights are the same tensors of the files. A layer of
    /// which the files lack a tensor is its own.
    #[must_use]
    pub fn tied_layers(&self, architecture: &dyn Architecture) -> Vec<usize> {
        let layout = architecture.block_layout();
        let locations = |layer: usize| -> Vec<_> {
            let ours = layout
                .entries()
                .iter()
                .map(|entry| format!("{}{}", architecture.block_prefix(layer), entry.name));
            let pieces = ours.filter_map(|name| self.pieces.get(&name)).flatten();
            pieces
                .map(|piece| {
                    self.found.get(&piece.name).and_then(|name| self.shards.location(name))
                })
                .collect()
        };

        let mut first = BTreeMap::new();
        let owner = |layer| match locations(layer) {
            known if known.iter().all(Option::is_some) => *first.entry(known).or_insert(layer),
            _ => layer,
        };

        (0..architecture.n_layers()).map(owner).collect()
    }

    /// Names of the tensors of other heads, which such a model does not read, in order. Buffers
    /// that hold no weights are not among them.
    #[must_use]
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Notes for a person about how the files are read.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.shards.notes();
        let is_wide = |name: &&String| self.shards.numbers(name) == Some(Numbers::F64);
        let wide = self.found.values().filter(is_wide).count();

        if wide > 0 {
            notes.push(format!("{wide} of the weights are F64 and are rounded to F32"));
        }
        if !self.unused.is_empty() {
            notes.push(format!("weights that this model does not read: {}", listed(&self.unused)));
        }

        notes
    }

    /// One tensor of the files, checked and as f32.
    fn read(&self, piece: &Piece) -> Result<Tensor> {
        let refuse = |got| ModelError::Weight {
            name: piece.name.clone(),
            expected: piece.shape.clone(),
            got,
        };

        let missing = || refuse(format!("it is missing in {}", self.folder.display()));
        let name = self.found.get(&piece.name).ok_or_else(missing)?;
        let (shape, path) = self.shards.shape(name).ok_or_else(missing)?;

        if shape != piece.shape {
            return Err(refuse(format!("got {shape:?} in {}", path.display())));
        }

        let tensor = self.shards.read(name)?.ok_or_else(missing)?;
        refuse_not_finite(&tensor, name, path)?;
        Ok(tensor)
    }

    /// Refuses tensors of unknown names: with them the model may compute something else than its
    /// config says.
    fn check_names(&self, unknown: &[String]) -> Result<()> {
        if unknown.is_empty() {
            return Ok(());
        }

        let reason = format!(
            "expected the weights of the model that its config.json describes, \
             got {} that such a model does not have: {}",
            unknown.len(),
            listed(unknown)
        );

        Err(ModelError::Format { path: self.folder.clone(), reason })
    }

    /// Refuses a tied tensor whose second copy has other bits.
    fn check_twins(&self, twins: &[Twin]) -> Result<()> {
        for Twin { used, other, .. } in twins.iter().filter(|twin| !twin.is_written) {
            let Some(found) = self.found.get(*used).filter(|found| found != other) else {
                continue;
            };
            let (Some(first), Some(second)) = (self.shards.read(found)?, self.shards.read(other)?)
            else {
                continue;
            };
            // Compared as bits, so that a NaN in both is equal. It is refused when it is read.
            if first.dims() != second.dims() || bits(&first)? != bits(&second)? {
                let reason = format!(
                    "expected `{other}` to equal `{found}`, as the output is tied, got another"
                );
                return Err(ModelError::Format { path: self.folder.clone(), reason });
            }
        }

        Ok(())
    }
}

/// Says what a file is that holds no weights at all, for example what git or a failed download left
/// there.
fn named(error: ModelError) -> ModelError {
    let ModelError::Format { path, reason } = error else { return error };
    match Foreign::at(&path) {
        Some(foreign @ (Foreign::Empty | Foreign::LfsPointer | Foreign::Page)) => {
            ModelError::Format { path, reason: format!("expected weights, got {foreign}") }
        }
        _ => ModelError::Format { path, reason },
    }
}

/// Refuses NaN and infinities: everything that is computed from them is NaN or infinite too.
fn refuse_not_finite(tensor: &Tensor, name: &str, path: &Path) -> Result<()> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    match values.iter().filter(|value| !value.is_finite()).count() as u64 {
        0 => Ok(()),
        count => {
            let tensor = name.to_owned();
            let of = values.len() as u64;
            Err(ModelError::NotFinite { path: path.to_owned(), tensor, count, of })
        }
    }
}

fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}
