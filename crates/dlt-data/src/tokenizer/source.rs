//! Where a tokenizer comes from, before it is built.

use super::{
    BYTES, GPT2, TOKENIZER_FILE, Tokenizer,
    companions::{Companions, check, id, is_companion, read},
    guard,
    special::Declared,
    vetting::{MOST_BYTES, vet},
};
use crate::{
    error::DataError,
    hub::origin::HUB_PREFIX,
    hub::{Hub, HubConfig, OnFetch, RepoName},
};
use dlt_spec::file;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokenizers::ModelWrapper;

/// Longest time for reading a tokenizer and encoding a few lines with it. Published ones take a
/// second, and ten times as long on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);

/// Most bytes of a file next to a tokenizer.
const MOST_BESIDE: u64 = 32 << 20;

/// A text on which a tokenizer is tried, so that a broken one fails before a real text is begun.
const TRIAL: &str = "To be, or not to be: that is the question!\n\n  1234567890 aaaa \
                     \u{e9}\u{4e2d}\u{1f600}\t\u{0}";

/// How often each character of the trial is repeated.
const TRIAL_RUN: usize = 200;

/// A tokenizer whose identity is known. It is built only when it is needed: with cached tokens it
/// is not.
pub(crate) enum TokenizerSource {
    /// GPT-2's, built in.
    Gpt2,
    /// Single bytes, built in.
    Bytes,
    /// The content of a file.
    File {
        /// Its path.
        name: String,
        /// Its content.
        content: Arc<[u8]>,
        /// The special tokens that the files next to it name.
        declared: Declared,
    },
}

impl TokenizerSource {
    pub(crate) fn resolve(
        name: &str,
        hub: Option<&HubConfig>,
        on: OnFetch<'_>,
    ) -> Result<Self, DataError> {
        if let Some(model) = name.strip_prefix(HUB_PREFIX) {
            let hub = hub.ok_or_else(|| DataError::NoHub { name: name.to_owned() })?;
            return Self::read(&of_model(model, hub, on)?);
        }

        match name {
            GPT2 => Ok(Self::Gpt2),
            BYTES => Ok(Self::Bytes),
            path => Self::read(Path::new(path)),
        }
    }

    /// The content of a file, without other files next to it.
    pub(crate) fn of_content(name: &str, content: Vec<u8>) -> Self {
        Self::File { name: name.to_owned(), content: content.into(), declared: Declared::default() }
    }

    /// A `tokenizer.json`, or a folder that has one or its older equivalents.
    pub(crate) fn read(path: &Path) -> Result<Self, DataError> {
        let name = path.to_string_lossy().into_owned();
        let is_folder = path.is_dir();
        let folder = if is_folder {
            Some(path)
        } else {
            path.parent().filter(|_| path.file_name().is_some_and(|name| name == TOKENIZER_FILE))
        };

        for path in folder.iter().flat_map(|folder| Declared::FILES.map(|name| folder.join(name))) {
            if file::is_there(&path) {
                check(&path)?;
            }
        }

        let declared = folder.map_or_else(Declared::default, |folder| {
            Declared::of(&|file| read(&folder.join(file), MOST_BESIDE).ok())
        });

        let content = if is_folder {
            let companions = Companions::of_tokenizer(path)?;
            let content = companions.get(TOKENIZER_FILE).map(<[u8]>::to_vec);
            content.ok_or_else(|| DataError::BadTokenizer {
                name: name.clone(),
                reason: format!("the folder has no {TOKENIZER_FILE}"),
            })?
        } else {
            read(path, MOST_BYTES)?
        };

        Ok(Self::File { name, content: content.into(), declared })
    }

    pub(crate) fn id(&self) -> String {
        match self {
            Self::Gpt2 => GPT2.to_owned(),
            Self::Bytes => BYTES.to_owned(),
            Self::File { content, .. } => id(content),
        }
    }

    /// The ends of a text that files next to the tokenizer name, as a part of a cache key. `None`
    /// if they name none.
    pub(crate) fn ends_key(&self) -> Option<String> {
        match self {
            Self::Gpt2 | Self::Bytes => None,
            Self::File { declared, .. } => declared.ends_key(),
        }
    }

    pub(crate) fn open(&self) -> Result<Tokenizer, DataError> {
        let (name, content, declared) = match self {
            Self::Gpt2 => return Tokenizer::gpt2(),
            Self::Bytes => return Tokenizer::bytes(),
            Self::File { name, content, declared } => (name, content, declared),
        };

        let shared = Arc::clone(content);
        let (inner, notes) = guard::within(LONGEST, move || build(&shared))
            .and_then(|built| built)
            .map_err(|reason| DataError::BadTokenizer { name: name.clone(), reason })?;
        warn_once(name, &notes);

        Ok(Tokenizer {
            content: Some(Arc::clone(content)),
            notes: notes.into(),
            ..Tokenizer::new(inner, self.id(), declared)
        })
    }
}

/// Vets a file, builds its tokenizer and tries it.
fn build(content: &[u8]) -> Result<(tokenizers::Tokenizer, Vec<String>), String> {
    let vetted = vet(content)?;
    let mut inner =
        tokenizers::Tokenizer::from_bytes(content).map_err(|error| error.to_string())?;

    // The library gives an added token the next free id, whatever the file says, so a gap would
    // shift ids.
    let moved = vetted.added.iter().find(|(token, id)| inner.token_to_id(token) != Some(*id));
    if let Some((token, id)) = moved {
        let got = inner.token_to_id(token).map_or_else(|| "none".to_owned(), |id| id.to_string());
        return Err(format!(
            "the added token {token:?} has id {id} in the file, but would get {got}: ids must have \
             no gaps"
        ));
    }

    make_certain(&mut inner);
    for letter in TRIAL.chars() {
        // A character without a token is reported only for a text that has it. Here only panics and
        // endless work matter.
        let _ = inner.encode_fast(letter.to_string().repeat(TRIAL_RUN), false);
    }

    if let Ok(encoding) = inner.encode_fast(TRIAL, false) {
        let _ = inner.decode(encoding.get_ids(), false);
    }

    Ok((inner, vetted.notes))
}

/// Disables random encoding, so that equal texts get equal tokens.
fn make_certain(inner: &mut tokenizers::Tokenizer) {
    let mut model = match inner.get_model() {
        ModelWrapper::BPE(pairs) if pairs.dropout.is_some() => inner.get_model().clone(),
        ModelWrapper::Unigram(pieces) if pieces.alpha.is_some() || pieces.nbest_size.is_some() => {
            inner.get_model().clone()
        }
        _ => return,
    };

    match &mut model {
        ModelWrapper::BPE(pairs) => pairs.dropout = None,
        ModelWrapper::Unigram(pieces) => {
            pieces.alpha = None;
            pieces.nbest_size = None;
        }
        _ => {}
    }

    inner.with_model(model);
}

/// Prints the notes about a tokenizer as warnings, once in a process.
fn warn_once(name: &str, notes: &[String]) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !notes.is_empty() && said.insert(name.to_owned()) {
        notes.iter().for_each(|note| tracing::warn!("the tokenizer {name:?}: {note}"));
    }
}

/// The tokenizer of a model, `OWNER/NAME[@REVISION]`, with the files about it next to it. Returns
/// the path of its `tokenizer.json`, or of the folder that has its older equivalents.
pub(super) fn of_model(
    model: &str,
    hub: &HubConfig,
    on: OnFetch<'_>,
) -> Result<PathBuf, DataError> {
    let (name, revision) = RepoName::model_at(model)?;
    let offline = hub.offline();
    let find = |config: &HubConfig| -> Result<PathBuf, DataError> {
        let hub = Hub::new(config, &name, &revision);
        let listing = hub.listing(on)?;
        let files: Vec<_> = listing.files.iter().filter(|file| is_companion(&file.name)).collect();
        let first = files
            .iter()
            .position(|file| [TOKENIZER_FILE, "vocab.json", "vocab.txt"].contains(&&*file.name));

        let Some(first) = first else {
            return Err(hub.missing(&listing, TOKENIZER_FILE));
        };
        let mut path = hub.fetch(&listing, &files, on)?.swap_remove(first);
        let tokenizer = path.with_file_name(TOKENIZER_FILE);

        if tokenizer.is_file() {
            return Ok(tokenizer);
        }

        path.pop();
        Ok(path)
    };

    match find(&offline) {
        Ok(path) => Ok(path),
        Err(error) if hub.is_offline => Err(error),
        Err(_) => find(hub),
    }
}
