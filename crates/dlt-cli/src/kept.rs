//! The tokenizer of a run: its own copy, or the very one that it was trained with.

use std::path::{Path, PathBuf};

use dlt_data::{BYTES, Companions, GPT2, Kept};
use dlt_spec::record::PROVENANCE_FILE;
use dlt_spec::{CheckedSpec, ExitCode, Spec};
use dlt_train::RunFolder;

use crate::failure::{Failure, Result};
use crate::hub;

/// How many digits of a checksum tell one from another for a person.
const DIGITS: usize = 12;

/// The tokenizer of a run.
#[derive(Debug)]
pub(crate) struct OfRun {
    /// What opens it, as `data.tokenizer` names it.
    name: String,
    origin: TokenizerOrigin,
    /// What its provenance says that it was trained with.
    trained_with: Option<String>,
    run: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenizerOrigin {
    /// The run has a copy of it.
    Copy,
    /// It is in this program.
    BuiltIn,
    /// The run names it, and has no copy.
    Named,
}

impl OfRun {
    /// Finds the tokenizer of a run folder or of a model file in one, whose spec is `noted`.
    pub(crate) fn find(path: &Path, noted: &Spec) -> Result<Self> {
        let run = folder(path);
        let trained_with =
            RunFolder::read_provenance(&run).ok().map(|provenance| provenance.data.tokenizer);
        let (name, origin) = match Kept::of_run(&run)? {
            Kept::Copy(copy) => (copy.to_string_lossy().into_owned(), TokenizerOrigin::Copy),
            Kept::BuiltIn(name) => (name.to_owned(), TokenizerOrigin::BuiltIn),
            Kept::Nothing => {
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

    /// Whether the run has neither a copy of it nor a note.
    pub(crate) fn is_unkept(&self) -> bool {
        matches!(Kept::of_run(&self.run), Ok(Kept::Nothing))
    }

    /// The same spec with this tokenizer in the place of the one that it names.
    pub(crate) fn in_place(&self, spec: &CheckedSpec) -> Result<CheckedSpec> {
        let mut read = Spec::clone(spec);
        read.data.tokenizer = self.name.clone();
        Ok(read.check()?)
    }

    /// Refuses another tokenizer than the one that the run was trained with; says which one it is.
    pub(crate) fn verify(&self) -> Result<String> {
        let name = &self.name;
        let run = self.run.display();
        let id = match self.origin {
            TokenizerOrigin::BuiltIn => name.clone(),
            TokenizerOrigin::Copy | TokenizerOrigin::Named => {
                let companions = Companions::named(name, hub::config()?.as_ref(), &|_| ())?;
                companions.tokenizer_id().unwrap_or_default()
            }
        };

        match &self.trained_with {
            Some(trained_with) if *trained_with != id => {
                let advice = match self.origin {
                    TokenizerOrigin::Copy => "put the file back that the run was trained with",
                    TokenizerOrigin::BuiltIn | TokenizerOrigin::Named => {
                        "put the file back as it was, or a copy of it into the run as companions/tokenizer.json"
                    }
                };

                let message = format!(
                    "{name} is not the tokenizer that {run} was trained with: expected {trained_with} \
                     ({PROVENANCE_FILE}), got {id}; {advice}"
                );
                Err(Failure::refused(ExitCode::BadData, message))
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
                        "tokenizer: {name} ({}); nothing says whether the model was trained with it",
                        short(&id)
                    )
                }
            }),
        }
    }
}

/// The folder of a run, of which a model file may be named.
pub(crate) fn folder(path: &Path) -> PathBuf {
    match path.is_file() {
        true => path.parent().unwrap_or(Path::new("")).to_owned(),
        false => path.to_owned(),
    }
}

/// Whether a text tells a tokenizer from others; of imports by earlier versions the provenance has
/// a path.
fn is_id(text: &str) -> bool {
    text.starts_with("sha256:") || text == GPT2 || text == BYTES
}

fn short(id: &str) -> String {
    id.chars().take("sha256:".len() + DIGITS).collect()
}
