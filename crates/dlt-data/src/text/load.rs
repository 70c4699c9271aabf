//! From the name of a text to its tokens.

use crate::{
    checksum::hex,
    error::DataError,
    hub::origin::HubOrigin,
    hub::retrieval::{Retrieval, Retrieved},
    hub::{FetchEvent, HubConfig},
    split::Split,
    text::cache::{self, Begun, CacheKey, Facts, TokenizedText, Writer},
    text::files::{Reading, TextColumn},
    text::source::TextSource,
    text::stream::{Provenance, SplitProvenance, TokenSplits, TokenStream},
    text::tokenizing::Work,
    tokenizer::{END_OF_TEXT, Marks, Tokenizer, TokenizerSource},
};
use dlt_spec::{
    record::Boundary,
    spec::{DataSpec, Marks as MarksWord, Pipeline, Separator},
};
use std::{cell::Cell, io, num::NonZeroUsize, path::Path, sync::mpsc, thread};

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct DataRequest<'a> {
    /// Source, tokenizer, fractions and pipeline.
    pub data: &'a DataSpec,
    /// Tokens of one window, T.
    pub context: usize,
    /// Folder of cached tokens, made if it is missing; `None` keeps tokens in memory.
    pub cache: Option<&'a Path>,
    /// How to reach the hub; `None` refuses names that come from the hub.
    pub hub: Option<&'a HubConfig>,
    /// Threads that tokenize; `None` uses one for each core.
    pub threads: Option<NonZeroUsize>,
    /// Bytes of tokens that a split may become, on disk or in memory; `None` for 1 GiB and 64 times
    /// the size of its files.
    pub limit: Option<u64>,
}

/// Bytes of tokens that a split may have in any case, however small its files are. Few disks and
/// memories are too small for so many.
const FLOOR_BYTES: u64 = 1 << 30;

/// How many times the size of its files the tokens of a split may have. This allows one token (four
/// bytes) for each byte of text, and text that was packed to a sixteenth. A file that needs more
/// was made to fill a disk.
const MOST_GROWTH: u64 = 64;

impl<'a> DataRequest<'a> {
    /// Data for windows of `context` tokens, without cache and hub.
    #[must_use]
    pub fn new(data: &'a DataSpec, context: usize) -> Self {
        Self { data, context, cache: None, hub: None, threads: None, limit: None }
    }
}

/// Bytes of text for one byte of tokens, at most: sixteen letters a token.
const TEXT_PER_TOKENS: u64 = 4;

/// Bytes of tokens that may be made of files of `stored` bytes.
fn limit_of(request: &DataRequest<'_>, stored: u64) -> u64 {
    request.limit.unwrap_or_else(|| FLOOR_BYTES.saturating_add(stored.saturating_mul(MOST_GROWTH)))
}

/// What [`load`] is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Fetching from the hub.
    Fetching(FetchEvent),
    /// Finding and reading the text.
    Reading,
    /// The text is this column of its tables.
    Column(TextColumn),
    /// The tokens of this split were in the cache.
    Cached {
        /// Which split.
        split: Split,
    },
    /// Tokenizing a split.
    Tokenizing {
        /// Which split.
        split: Split,
        /// Bytes of its text that are done.
        bytes: usize,
        /// Bytes of its text. This is an estimate until the split is done.
        of: usize,
    },
}

/// The tokens of a text, read from the cache or else made and cached.
///
/// # Errors
/// If the source or the tokenizer cannot be used, a split is too short for one window or too long
/// for the limit, or the disk is full. A cache that cannot be read, or whose folder cannot be
/// written to, gives a warning and no error.
pub fn load(
    request: &DataRequest<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<TokenSplits, DataError> {
    let DataRequest { data, context, .. } = *request;
    let least = if data.pipeline == Pipeline::Blocks { 2 } else { 1 };
    if context < least {
        return Err(DataError::ContextTooShort { context, least });
    }

    progress(Progress::Reading);
    let mut text =
        find(&data.source, data.split, data.into(), request.hub, request.cache, progress)?;
    text.tell_of_name();

    let loaded = load_splits(request, &mut text, progress);
    // Also after a failure: the rows that were left out may be the reason.
    text.tell_bad_rows();

    loaded
}

fn load_splits(
    request: &DataRequest<'_>,
    text: &mut TextSource,
    progress: &mut dyn FnMut(Progress),
) -> Result<TokenSplits, DataError> {
    let DataRequest { data, context, .. } = *request;
    let mut loader = Loader::of(request, text, progress)?;
    let mut of = |split: Split| -> Result<LoadedSplit, DataError> {
        let loaded = loader.split(text, split, progress)?;
        loader.check_length(&loaded.text.stream, split)?;
        Ok(loaded)
    };

    let train = of(Split::Train)?;
    let validation = of(Split::Validation)?;
    let test = text.has(Split::Test).then(|| of(Split::Test)).transpose()?;
    let splits = [Some(&train), Some(&validation), test.as_ref()].into_iter().flatten();

    let provenance = Provenance {
        source: data.source.clone(),
        sha256: text.sha256.clone(),
        hub: text.hub.clone(),
        column: text.column().cloned(),
        bad_rows: text.bad_rows(),
        boundary: Some(text.boundary()),
        plan: text.plan.clone(),
        class_names: Vec::new(),
        tokenizer: loader.source.id(),
        splits: splits.map(|loaded| loaded.provenance.clone()).collect(),
    };

    let Facts { vocabulary, eos, .. } = train.text.facts;
    let [train, validation] = [train, validation].map(|loaded| loaded.text.stream);
    let test = test.map_or_else(|| TokenStream::new(Vec::new(), 0), |loaded| loaded.text.stream);

    Ok(TokenSplits {
        train,
        validation,
        test,
        provenance,
        vocabulary,
        eos,
        pipeline: data.pipeline,
        context,
    })
}

/// A text that is read as a whole, not as three splits.
#[derive(Clone, Debug)]
pub struct LoadedText {
    /// Its tokens.
    pub tokens: TokenStream,
    /// What was put between two documents.
    pub boundary: Boundary,
}

/// The tokens of a whole text, or of one split of it, read exactly as [`load`] reads it.
///
/// # Errors
/// As [`load`], and if it is divided into splits and the caller names none, or one that it lacks.
pub fn load_text(
    request: &DataRequest<'_>,
    split: Option<Split>,
    progress: &mut dyn FnMut(Progress),
) -> Result<LoadedText, DataError> {
    progress(Progress::Reading);
    let data = request.data;
    let mut text =
        find(&data.source, data.split, data.into(), request.hub, request.cache, progress)?;
    let split = text.take(&data.source, split)?;
    let mut loader = Loader::of(request, &mut text, progress)?;

    let tokens = loader.split(&text, split, progress);
    text.tell_bad_rows();
    Ok(LoadedText { tokens: tokens?.text.stream, boundary: text.boundary() })
}

/// Bytes with a unit, for messages.
fn amount(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{bytes} bytes"),
    }
}

/// The text of a name, fetched from the hub where needed.
pub(crate) fn find(
    name: &str,
    fractions: [f64; 3],
    reading: Reading,
    hub: Option<&HubConfig>,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<TextSource, DataError> {
    listening(progress, |on| {
        let retrieval = hub.map(|hub| Retrieval { hub, cache, on });
        TextSource::find(name, fractions, reading, retrieval.as_ref())
    })
}

/// The files of a data set of the hub.
pub(crate) fn retrieved(
    origin: &HubOrigin,
    hub: Option<&HubConfig>,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Retrieved, DataError> {
    let hub = hub.ok_or_else(|| DataError::NoHub { name: origin.name.clone() })?;
    listening(progress, |on| Retrieval { hub, cache, on }.retrieve(origin))
}

/// Does work on another thread. Events from it and from its own threads go to one listener on this
/// thread, which therefore need not be `Sync`.
fn listening<T: Send>(
    progress: &mut dyn FnMut(Progress),
    work: impl FnOnce(&(dyn Fn(FetchEvent) + Sync)) -> Result<T, DataError> + Send,
) -> Result<T, DataError> {
    thread::scope(|scope| {
        let (sender, events) = mpsc::channel();
        // The channel closes once `work` and its threads are done, which ends the loop below.
        let working = scope.spawn(move || work(&move |event| drop(sender.send(event))));
        events.into_iter().for_each(|event| progress(Progress::Fetching(event)));

        // A panic of the work continues here, as it would without a thread.
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct Loader<'a> {
    request: &'a DataRequest<'a>,
    source: TokenizerSource,
    /// Built for the first split that is not in the cache.
    tokenizer: Option<Tokenizer>,
}

struct LoadedSplit {
    text: TokenizedText,
    provenance: SplitProvenance,
}

/// Why a split has no tokens.
enum Failed {
    Data(DataError),
    /// The cache cannot be written.
    Cache(io::Error),
}

/// Whether nothing more can be written, because the disk is full or the process has reached a
/// limit. Then memory is no way out: it would fill up next.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | WriteZero)
}

impl From<DataError> for Failed {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl<'a> Loader<'a> {
    /// Prepares to load a text: sets what is put between its documents and how much of it may be
    /// read.
    fn of(
        request: &'a DataRequest<'a>,
        text: &mut TextSource,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, DataError> {
        if let Some(column) = text.column() {
            progress(Progress::Column(column.clone()));
        }

        let name = &request.data.tokenizer;
        let source = listening(progress, |on| TokenizerSource::resolve(name, request.hub, on))?;
        let mut loader = Self { request, source, tokenizer: None };

        text.separate_by(loader.boundary(text)?);
        text.limit_to(
            TEXT_PER_TOKENS.saturating_mul(limit_of(request, text.stored_bytes(Split::Train))),
        );

        Ok(loader)
    }

    fn split(
        &mut self,
        text: &TextSource,
        split: Split,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LoadedSplit, DataError> {
        let key = CacheKey::new(
            &text.identity(split),
            &self.source.id(),
            &self.pipeline(text.boundary()),
        );
        let cached = self.request.cache.and_then(|folder| cache::read(folder, &key));

        let tokenized = match (cached, self.request.cache) {
            (Some(tokenized), _) => {
                progress(Progress::Cached { split });
                tokenized
            }
            (None, Some(folder)) => match self.tokenize_to(folder, key, text, split, progress) {
                Ok(tokenized) => tokenized,
                Err(Failed::Data(error)) => return Err(error),
                Err(Failed::Cache(error)) if is_full(&error) => {
                    let reason =
                        format!("{error}; make room, or name another folder with DLT_CACHE");
                    return Err(DataError::Write { path: folder.to_owned(), reason });
                }
                Err(Failed::Cache(error)) => {
                    tracing::warn!(
                        folder = %folder.display(),
                        %error,
                        "tokens cannot be cached and are kept in memory"
                    );
                    self.tokenize(text, split, progress)?
                }
            },
            (None, None) => self.tokenize(text, split, progress)?,
        };

        // With cached tokens nothing was read: report the rows that were left out when they were
        // made.
        text.restore(split, &tokenized.facts.bad_rows);
        let Facts { text_bytes, text_sha256, .. } = tokenized.facts;
        let provenance = SplitProvenance {
            split,
            tokens: tokenized.stream.len(),
            bytes: text_bytes as usize,
            sha256: hex(&text_sha256),
        };

        Ok(LoadedSplit { text: tokenized, provenance })
    }

    /// What is put between two documents of a text.
    fn boundary(&mut self, text: &TextSource) -> Result<Boundary, DataError> {
        let data = self.request.data;
        let is_asked = data.separator == Separator::EndOfText;
        if is_asked && text.has_lines() {
            return Err(DataError::BadSetting {
                what: "data.separator",
                expected: format!(
                    "\"auto\" or \"line\" for {}, whose rows are lines of longer texts",
                    data.source
                ),
                got: "\"end-of-text\"".to_owned(),
            });
        }

        let is_usual = data.separator == Separator::Auto
            && data.pipeline == Pipeline::Stream
            && text.has_documents();
        if !is_asked && !is_usual {
            return Ok(Boundary::Line);
        }

        let tokenizer = self.take_tokenizer()?;
        let eos = tokenizer.eos();
        let id = tokenizer.id().to_owned();

        self.tokenizer = Some(tokenizer);

        match eos {
            Some(_) => Ok(Boundary::EndOfText),
            None if is_asked => Err(DataError::NoEndOfText {
                tokenizer: id,
                expected: END_OF_TEXT.to_owned(),
                wanted: "data.separator = \"end-of-text\" puts between two documents",
            }),
            None => {
                tracing::warn!(
                    tokenizer = %id,
                    "the tokenizer has no token that ends a text: using a line end between rows"
                );
                Ok(Boundary::Line)
            }
        }
    }

    fn take_tokenizer(&mut self) -> Result<Tokenizer, DataError> {
        self.tokenizer.take().map_or_else(|| self.source.open(), Ok)
    }

    /// What else shapes the tokens besides text and tokenizer, as part of the cache key: blocks are
    /// whole blocks of one context, and a token may end documents.
    fn pipeline(&self, boundary: Boundary) -> String {
        let eos = || {
            self.tokenizer
                .as_ref()
                .and_then(Tokenizer::eos)
                .map_or_else(String::new, |id| id.to_string())
        };

        match self.request.data.pipeline {
            Pipeline::Stream => {
                // Which tokens the marks are follows from the tokenizer's file, whose checksum is
                // in the key.
                let is_marked = self.request.data.marks == MarksWord::Template;
                let marks = if is_marked { " with the template's marks" } else { "" };
                let is_ended = boundary == Boundary::EndOfText;

                let ends = if is_ended {
                    format!(" of documents ended by {}", eos())
                } else {
                    String::new()
                };

                format!("stream{marks}{ends}")
            }
            Pipeline::Blocks => {
                // The tokenizer's file, or a file next to it, names the token that ends a text.
                // Files next to it are not in the tokenizer's checksum, so they are added here.
                let ends = self
                    .source
                    .ends_key()
                    .map_or_else(String::new, |ends| format!(" ended by {ends}"));
                format!("blocks of context {}{ends}", self.request.context)
            }
        }
    }

    /// Tokenizes into memory.
    fn tokenize(
        &mut self,
        source: &TextSource,
        split: Split,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<TokenizedText, DataError> {
        let mut tokens = Vec::new();
        let mut write = |ids: &[u32]| -> Result<(), DataError> {
            tokens.extend_from_slice(ids);
            Ok(())
        };

        let facts = self.work(source, split, &mut write, progress)?;
        Ok(TokenizedText { stream: TokenStream::new(tokens, facts.bytes as usize), facts })
    }

    /// Tokenizes into the cache. If another process does the same now, waits for it and uses its
    /// tokens.
    fn tokenize_to(
        &mut self,
        folder: &Path,
        key: CacheKey,
        source: &TextSource,
        split: Split,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<TokenizedText, Failed> {
        let mut writer = match Writer::begin(folder, key).map_err(Failed::Cache)? {
            Begun::Ready(tokenized) => {
                progress(Progress::Cached { split });
                return Ok(tokenized);
            }
            Begun::Write(writer) => writer,
        };

        let mut write = |ids: &[u32]| writer.push(ids).map_err(Failed::Cache);

        match self.work(source, split, &mut write, progress) {
            Ok(facts) => writer.finish(&facts).map_err(Failed::Cache),
            Err(error) => {
                writer.abandon();
                Err(error)
            }
        }
    }

    fn work<E: From<DataError>>(
        &mut self,
        source: &TextSource,
        split: Split,
        write: &mut dyn FnMut(&[u32]) -> Result<(), E>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Facts, E> {
        let tokenizer = self.take_tokenizer()?;
        let of = source.estimated_bytes(split)? as usize;
        progress(Progress::Tokenizing { split, bytes: 0, of });

        let marks = match (self.request.data.marks, self.request.data.pipeline) {
            (MarksWord::Template, Pipeline::Stream) => tokenizer.marks()?,
            _ => Marks::default(),
        };

        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let work = Work {
            source,
            split,
            tokenizer: &tokenizer,
            pipeline: self.request.data.pipeline,
            marks: &marks,
            context: self.request.context,
            threads: self.request.threads.unwrap_or_else(cores),
        };

        let read = Cell::new(0);
        let mut done = |bytes: u64| {
            read.set(bytes);
            let bytes = bytes as usize;
            progress(Progress::Tokenizing { split, bytes, of: of.max(bytes) });
        };

        let stored = source.stored_bytes(split);
        let limit = limit_of(self.request, stored);
        let mut written = 0;
        let mut write = |ids: &[u32]| {
            written += size_of_val(ids) as u64;
            if written > limit {
                let name = self.request.data.source.clone();
                let [limit, read, of] = [limit, read.get(), stored].map(amount);
                return Err(DataError::TooManyTokens { name, split, limit, read, of }.into());
            }

            write(ids)
        };

        let facts = work.run(&mut write, &mut done)?;
        let bytes = facts.text_bytes as usize;
        progress(Progress::Tokenizing { split, bytes, of: bytes });
        self.tokenizer = Some(tokenizer);

        Ok(facts)
    }

    fn check_length(&self, stream: &TokenStream, split: Split) -> Result<(), DataError> {
        let DataRequest { data, context, .. } = *self.request;
        let needed = match data.pipeline {
            Pipeline::Stream => context.saturating_add(1),
            Pipeline::Blocks => context - 1,
        };

        let tokens = stream.len();
        if tokens >= needed {
            return Ok(());
        }

        Err(DataError::SplitTooShort { name: data.source.clone(), split, tokens, needed, context })
    }
}
