//! The files of a folder's weights, one or several. One tensor at a time is read.

mod numbers;
mod pickle;
mod safe;
mod torch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use candle_core::Tensor;
use dlt_spec::foreign::Foreign;

use super::settings::{Settings, read_json};
use crate::{ModelError, Result};
pub(crate) use numbers::Numbers;
use safe::SafeFile;
use torch::TorchFile;

pub(crate) const SINGLE: &str = "model.safetensors";
const TORCH_SINGLE: &str = "pytorch_model.bin";
const WEIGHT_MAP: &str = "weight_map";

/// Single file and index of several, in the order in which transformers looks for them.
const LAYOUTS: [(&str, &str); 2] =
    [(SINGLE, "model.safetensors.index.json"), (TORCH_SINGLE, "pytorch_model.bin.index.json")];

/// The file that marks a folder as a PEFT adapter: changes to a model, not a model.
const ADAPTER: &str = "adapter_config.json";

/// Prefixes that wrappers add to all names: `torch.compile`, data parallelism, PEFT.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "module.", "base_model.model."];

/// The files of a folder, and the location of each tensor.
pub(crate) struct Shards {
    files: Vec<Box<dyn TensorFile>>,
    /// By the name without the prefixes of wrappers.
    locations: BTreeMap<String, TensorLocation>,
    /// The prefixes that all names had.
    wrapper: String,
    /// How many names are second names of a tensor.
    aliases: usize,
}

/// Where a tensor is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TensorLocation {
    file: usize,
    /// The name in the file by which it is read, if it has several.
    name: String,
}

/// A file of either format.
trait TensorFile: Send + Sync {
    fn path(&self) -> &Path;
    fn names(&self) -> Vec<String>;
    fn shape(&self, name: &str) -> Option<&[usize]>;
    fn numbers(&self, name: &str) -> Option<Numbers>;
    /// Second names of tensors, with the name by which each is read.
    fn aliases(&self) -> BTreeMap<String, String>;
    fn read(&self, name: &str) -> Result<Tensor>;
}

impl Shards {
    /// Opens `model.safetensors` or the files that `model.safetensors.index.json` names. If there
    /// is neither, opens `pytorch_model.bin` or the files of its index.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let refuse = |reason: String| ModelError::Format { path: folder.to_owned(), reason };
        if folder.join(ADAPTER).exists() {
            return Err(refuse(format!(
                "expected the weights of a model, got {ADAPTER}: merge the adapter into its model \
                 with PEFT's merge_and_unload and save that"
            )));
        }

        for (single, index) in LAYOUTS {
            let path = folder.join(single);
            if path.exists() {
                let file = open(&path)?;
                let names = file.names().into_iter().map(|name| (name, 0)).collect();
                return Self::new(vec![file], names);
            }

            let path = folder.join(index);
            if path.exists() {
                return Self::open_index(folder, &path);
            }
        }

        let [(safe, safe_index), (torch, torch_index)] = LAYOUTS;

        Err(refuse(format!(
            "expected {safe}, {safe_index}, {torch} or {torch_index}, got none of them"
        )))
    }

    fn open_index(folder: &Path, index: &Path) -> Result<Self> {
        let values = read_json(index)?;
        let settings = Settings::new(index, &values);
        let map = settings.object(WEIGHT_MAP)?;
        let map = map.ok_or_else(|| settings.refuse(WEIGHT_MAP, "an object", "nothing"))?;
        let mut named = BTreeMap::new();

        for (tensor, _) in map.iter() {
            let file = map.word(tensor)?.unwrap_or_default();
            let mut parts = Path::new(file).components();

            // A single plain name: an index must not lead out of its folder.
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                let expected = "the name of a file in the same folder";
                return Err(map.refuse(tensor, expected, &format!("\"{file}\"")));
            }

            named.insert(tensor.clone(), file);
        }

        let names: Vec<_> = named.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let missing: Vec<_> =
            names.iter().filter(|name| !folder.join(name).exists()).copied().collect();
        if !missing.is_empty() {
            let reason = format!(
                "expected the files that it names in its folder, got none called {}: \
                 fetch the model again",
                listed(&missing)
            );
            return Err(ModelError::Format { path: index.to_owned(), reason });
        }

        let files = names.iter().map(|name| open(&folder.join(name)));
        let files = files.collect::<Result<Vec<_>>>()?;
        let mut file_numbers = BTreeMap::new();

        for (tensor, file) in named {
            let number = names.binary_search(&file).unwrap_or_default();
            if files[number].shape(&tensor).is_none() {
                let index = index.file_name().unwrap_or_default().to_string_lossy();
                let reason =
                    format!("expected tensor `{tensor}`, as {index} says, got none of that name");
                return Err(ModelError::Format { path: files[number].path().to_owned(), reason });
            }

            file_numbers.insert(tensor, number);
        }

        Self::new(files, file_numbers)
    }

    /// These files; `named` has the number of the file of each tensor.
    fn new(files: Vec<Box<dyn TensorFile>>, named: BTreeMap<String, usize>) -> Result<Self> {
        let mut locations: BTreeMap<_, _> = named
            .into_iter()
            .map(|(name, file)| (name.clone(), TensorLocation { file, name }))
            .collect();
        let mut aliases = 0;
        for (number, file) in files.iter().enumerate() {
            for (alias, name) in file.aliases() {
                // A tensor of this name in another file is a tensor in its own right.
                if locations.get(&alias).is_none_or(|location| location.file == number) {
                    locations.insert(alias, TensorLocation { file: number, name });
                    aliases += 1;
                }
            }
        }

        let wrapper = wrapper(locations.keys());
        let locations = locations
            .into_iter()
            .map(|(name, location)| (name[wrapper.len()..].to_owned(), location))
            .collect();

        Ok(Self { files, locations, wrapper, aliases })
    }

    /// Names of all tensors, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.locations.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.locations.contains_key(name)
    }

    /// Where a tensor is, if there is one of this name. All names of a tensor have the same
    /// location.
    pub(crate) fn location(&self, name: &str) -> Option<&TensorLocation> {
        self.locations.get(name)
    }

    /// The shape of a tensor and its file, if there is one of this name.
    pub(crate) fn shape(&self, name: &str) -> Option<(&[usize], &Path)> {
        let TensorLocation { file, name } = self.locations.get(name)?;
        let file = &self.files[*file];
        Some((file.shape(name)?, file.path()))
    }

    /// The number format of a tensor, if there is one of this name.
    pub(crate) fn numbers(&self, name: &str) -> Option<Numbers> {
        let TensorLocation { file, name } = self.locations.get(name)?;
        self.files[*file].numbers(name)
    }

    /// A tensor as f32, if there is one of this name.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Tensor>> {
        self.locations
            .get(name)
            .map(|TensorLocation { file, name }| self.files[*file].read(name))
            .transpose()
    }

    /// Notes for a person: which prefix was removed from the names, and how many names are second
    /// names.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.wrapper.is_empty() {
            notes.push(format!(
                "the names of the weights are read without the `{}` that all of them have",
                self.wrapper
            ));
        }

        if self.aliases > 0 {
            notes.push(format!(
                "{} of the weights are listed as other names of shared ones",
                self.aliases
            ));
        }

        notes
    }
}

/// The prefixes of wrappers that all names have, from the outermost to the innermost.
fn wrapper<'a>(names: impl Iterator<Item = &'a String> + Clone) -> String {
    let mut whole = String::new();

    loop {
        let is_on_all = |wrapper: &&&str| {
            let mut names = names.clone().peekable();

            // A name that is only a prefix is left as it is.
            names.peek().is_some()
                && names.all(|name| {
                    name[whole.len()..].strip_prefix(**wrapper).is_some_and(|rest| !rest.is_empty())
                })
        };

        let Some(wrapper) = WRAPPERS.iter().find(is_on_all) else { return whole };
        whole += wrapper;
    }
}

/// The first names of a list, and how many more there are.
pub(crate) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> =
        names.iter().take(SHOWN).map(|name| format!("`{}`", name.as_ref())).collect();

    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Opens a file by the ending of its name. The error for a file that cannot be read says what the
/// file is, if that is known.
fn open(path: &Path) -> Result<Box<dyn TensorFile>> {
    if path.extension().is_none_or(|end| end != "bin" && end != "pt" && end != "pth") {
        return Ok(Box::new(SafeFile::open(path)?));
    }

    let opened = TorchFile::open(path).map_err(|error| match (Foreign::at(path), error) {
        // torch writes both, so they are not foreign.
        (None | Some(Foreign::Zip | Foreign::Pickle), error) => error,
        (Some(foreign), ModelError::Format { path, .. }) => {
            ModelError::Format { path, reason: format!("expected weights, got {foreign}") }
        }
        (_, error) => error,
    });

    Ok(Box::new(opened?))
}
