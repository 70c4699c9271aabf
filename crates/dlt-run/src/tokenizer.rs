//! The tokenizer of a run: its own copy, or else the one that it names, which must still be the one
//! that it was trained with.

use std::path::{Path, PathBuf};

use dlt_data::{BYTES, Companions, GPT2, HubConfig, KeptTokenizer, Tokenizer};
use dlt_spec::{CheckedSpec, Spec};
use dlt_train::RunFolder;

use crate::Result;
use crate::error::RunError;

/// Digits of a checksum that are shown: enough to distinguish tokenizers by eye.
const DIGITS: usize = 12;

/// Opens a tokenizer by the name that a spec has for it.
///
/// # Errors
/// If there is none, or it cannot be read or fetched.
pub fn open(name: &str, hub: Option<&HubConfig>) -> Result<Tokenizer> {
    Ok(match hub {
        Some(hub) => Tokenizer::open_from(name, hub, &|_| ())?,
        None => Tokenizer::open(name)?,
    })
}

/// The tokenizer of a run.
#[derive(Debug)]
pub(crate) struct OfRun {
    /// What opens it, as `data.tokenizer` names it.
    name: String,
    origin: TokenizerOrigin,
    /// Checksum or built-in name of the tokenizer that the run was trained with, by its provenance.
    trained_with: Option<String>,
    run: PathBuf,
}

/// Where the tokenizer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenizerOrigin {
    /// The run has its own copy.
    Copy,
    /// It is built into this program.
    BuiltIn,
    /// The run only names it, and has no copy.
    Named,
}

impl OfRun {
    /// Finds the tokenizer of a run folder, or of a model file in one, whose spec is `noted`.
    pub(crate) fn find(path: &Path, noted: &Spec) -> Result<Self> {
        let run = folder(path);
        let trained_with =
            RunFolder::read_provenance(&run).ok().map(|provenance| provenance.data.tokenizer);
        let (name, origin) = match KeptTokenizer::of_run(&run)? {
            KeptTokenizer::Copy(copy) => {
                (copy.to_string_lossy().into_owned(), TokenizerOrigin::Copy)
            }
            KeptTokenizer::BuiltIn(name) => (name.to_owned(), TokenizerOrigin::BuiltIn),
            KeptTokenizer::Nothing => {
                let name = noted.data.tokenizer.clone();
                let is_built_in = name == GPT2 || name == BYTES;
                (name, if is_built_in { TokenizerOrigin::BuiltIn } else { TokenizerOrigin::Named })
            }
        };

        Ok(Self { name, origin, trained_with: trained_with.filter(|id| is_id(id)), run })
    }

    /// What opens it, as `data.tokenizer` names it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the run has neither a copy of it nor a note of a built-in one.
    pub(crate) fn is_unkept(&self) -> bool {
        matches!(KeptTokenizer::of_run(&self.run), Ok(KeptTokenizer::Nothing))
    }

    /// The same spec with this tokenizer instead of the one that it names.
    pub(crate) fn in_place(&self, spec: &CheckedSpec) -> Result<CheckedSpec> {
        let mut read = Spec::clone(spec);
        read.data.tokenizer = self.name.clone();
        Ok(read.check()?)
    }

    /// Checks that this is the tokenizer that the run was trained with. Returns a line that says
    /// which one it is.
    ///
    /// # Errors
    /// If it is another one, or cannot be read.
    pub(crate) fn verify(&self, hub: Option<&HubConfig>) -> Result<String> {
        let name = &self.name;
        let id = match self.origin {
            // A built-in tokenizer cannot change, so its name identifies it.
            TokenizerOrigin::BuiltIn => name.clone(),
            TokenizerOrigin::Copy | TokenizerOrigin::Named => {
                let companions = Companions::named(name, hub, &|_| ())?;
                companions.tokenizer_id().unwrap_or_default()
            }
        };

        match &self.trained_with {
            Some(trained_with) if *trained_with != id => {
                let advice = match self.origin {
                    TokenizerOrigin::Copy => "restore the file that the run was trained with",
                    TokenizerOrigin::BuiltIn | TokenizerOrigin::Named => {
                        "restore the file, or put a copy of the original into the run as companions/tokenizer.json"
                    }
                };

                Err(RunError::OtherTokenizer {
                    name: name.clone(),
                    run: self.run.clone(),
                    expected: trained_with.clone(),
                    got: id,
                    advice,
                })
            }
            trained_with => Ok(match (self.origin, trained_with) {
                (TokenizerOrigin::Copy, _) => {
                    format!("tokenizer: the run's own copy, {name} ({})", short(&id))
                }
                (TokenizerOrigin::BuiltIn, _) => format!("tokenizer: {name}, built in"),
                (TokenizerOrigin::Named, Some(_)) => {
                    format!("tokenizer: {name}, as in training ({})", short(&id))
                }
                (TokenizerOrigin::Named, None) => {
                    format!(
                        "tokenizer: {name} ({}); it is not known whether the model was trained with it",
                        short(&id)
                    )
                }
            }),
        }
    }
}

/// The run folder of a path that is a run folder, or a model file in one.
pub(crate) fn folder(path: &Path) -> PathBuf {
    if path.is_file() { path.parent().unwrap_or(Path::new("")).to_owned() } else { path.to_owned() }
}

/// Whether a text identifies a tokenizer. For imports, earlier versions wrote a path into the
/// provenance, which identifies nothing.
fn is_id(text: &str) -> bool {
    text.starts_with("sha256:") || text == GPT2 || text == BYTES
}

fn short(id: &str) -> String {
    id.chars().take("sha256:".len() + DIGITS).collect()
}
