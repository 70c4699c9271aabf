//! What can go wrong with data.

use crate::split::Split;
use std::path::PathBuf;

/// What can go wrong with data. Each message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A name that is neither a shipped corpus nor a path that exists.
    #[error(
        "found no text at {name:?}: expected a name of the catalogue ({known}), hf:OWNER/NAME, or \
         the path of a file or folder with text or rows"
    )]
    NoSuchSource {
        /// The name that was requested.
        name: String,
        /// The shipped corpora and the names of the catalogue.
        known: String,
    },
    /// A file or folder that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder with no text in it.
    #[error(
        "{} holds no text: the file is empty, expected at least one window of tokens",
        path.display()
    )]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file that is not UTF-8.
    #[error(
        "{} is not UTF-8: invalid byte {byte:#04x} at byte offset {offset}; convert the file to \
         UTF-8 first",
        path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is not part of valid UTF-8.
        offset: usize,
        /// That byte.
        byte: u8,
    },
    /// A folder without text files.
    #[error(
        "no text files in {}: expected at least one file that ends in one of {extensions}",
        path.display()
    )]
    NoTextFiles {
        /// The folder.
        path: PathBuf,
        /// The endings that are read.
        extensions: String,
    },
    /// A folder or repository in which it is unclear which file is for which split.
    #[error("it is unclear which files of {place} to read: {found}; {advice}")]
    AmbiguousFolder {
        /// The folder or repository.
        place: String,
        /// What was found.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// A folder or repository without a file for a split that is needed.
    #[error(
        "{place} has no file for the {missing} split, only {found}: add one, such as \
         {missing}.txt, or name a single file"
    )]
    MissingSplit {
        /// The folder or repository.
        place: String,
        /// The split that has no file.
        missing: Split,
        /// The files that there are.
        found: String,
    },
    /// Files whose names count parts, some of which are missing.
    #[error(
        "{place} lacks parts of a split: expected {expected} files by their names, got {found}"
    )]
    MissingParts {
        /// The folder or repository.
        place: String,
        /// Parts that the names count.
        expected: u64,
        /// The files that there are.
        found: String,
    },
    /// A folder with more files than a data set has.
    #[error(
        "{} has more than {most} files: expected a folder of data; name a folder below it",
        path.display()
    )]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
        /// The largest number that is read.
        most: usize,
    },
    /// A split that the data do not have.
    #[error("{name} has no {split} split: {advice}")]
    NoSplit {
        /// Where the text comes from.
        name: String,
        /// The split.
        split: Split,
        /// What to do.
        advice: &'static str,
    },
    /// Fractions that do not divide a text.
    #[error(
        "cannot split a text by {fractions:?}: expected three fractions from 0 to 1 that sum to 1"
    )]
    BadFractions {
        /// The fractions.
        fractions: [f64; 3],
    },
    /// A split that is too short for a single window.
    #[error(
        "the {split} split of {name} has {tokens} tokens, but one window of context {context} \
         takes {needed}: use a longer text, a smaller `model.context` or other fractions in \
         `data.split`"
    )]
    SplitTooShort {
        /// Where the text comes from.
        name: String,
        /// The split.
        split: Split,
        /// Tokens that it has.
        tokens: usize,
        /// Tokens that one window takes.
        needed: usize,
        /// Context, T.
        context: usize,
    },
    /// A split without a single example.
    #[error(
        "the {split} split of {name} has no examples with a class: use more examples, or other \
         fractions in `data.split`"
    )]
    NoExamples {
        /// Where they come from.
        name: String,
        /// The split.
        split: Split,
    },
    /// A context that leaves nothing to predict.
    #[error("context {context} is too short: expected at least {least} tokens for this pipeline")]
    ContextTooShort {
        /// Context, T.
        context: usize,
        /// The least that the pipeline takes.
        least: usize,
    },
    /// More windows were requested than the stream has.
    #[error(
        "{asked} windows of {context} tokens were requested, but the text has {count}: use a \
         longer text, or request fewer"
    )]
    TooFewWindows {
        /// Windows requested, or one more than the requested index.
        asked: usize,
        /// Windows that there are.
        count: usize,
        /// Context, T.
        context: usize,
    },
    /// A batch that is larger than a whole pass, or empty.
    #[error("a batch of {batch} windows cannot be drawn from {count}: expected 1 to {count}")]
    BadBatch {
        /// Windows in a batch, B.
        batch: usize,
        /// Windows that there are.
        count: usize,
    },
    /// A saved position that belongs to other data.
    #[error(
        "the saved position is window {index} of a pass, but a pass over these data has {count}: \
         resume with the same data"
    )]
    BadPosition {
        /// Windows of the pass that are already used.
        index: usize,
        /// Windows that there are.
        count: usize,
    },
    /// Buffers whose length is not the context.
    #[error(
        "a window of {context} tokens does not fit buffers of {inputs} inputs and {targets} targets"
    )]
    BadBuffer {
        /// Context, T.
        context: usize,
        /// Length of the buffer for inputs.
        inputs: usize,
        /// Length of the buffer for targets.
        targets: usize,
    },
    /// A tokenizer that cannot be used.
    #[error(
        "cannot use the tokenizer {name:?}: {reason}; expected `gpt2`, `bytes`, hf:OWNER/NAME or \
         the path of a tokenizer.json"
    )]
    BadTokenizer {
        /// Name or path.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tokenizer that lacks a token that ends a text, where one is needed.
    #[error("the tokenizer {tokenizer:?} has no token {expected:?}, which {wanted}")]
    NoEndOfText {
        /// Identity of the tokenizer.
        tokenizer: String,
        /// The token that was looked for.
        expected: String,
        /// What it is for.
        wanted: &'static str,
    },
    /// Text that the tokenizer refuses, or ids that it does not know.
    #[error("the tokenizer {tokenizer:?} failed: {reason}")]
    Tokenize {
        /// Identity of the tokenizer.
        tokenizer: String,
        /// What it said.
        reason: String,
    },
    /// A name that no repository and no revision can have.
    #[error("{name:?} is not a name on the hub: expected {expected}")]
    BadHubName {
        /// The name.
        name: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The hub cannot be reached.
    #[error(
        "cannot reach the hub at {endpoint} for {what}: {reason}; check the network, HF_ENDPOINT \
         and proxies (with HF_HUB_OFFLINE=1 the files in the cache are used without asking)"
    )]
    HubUnreachable {
        /// Its address.
        endpoint: String,
        /// What was requested.
        what: String,
        /// What the system said.
        reason: String,
    },
    /// The hub refuses or fails.
    #[error("the hub answered {status} for {what}: {advice}")]
    HubStatus {
        /// What was requested.
        what: String,
        /// The status.
        status: u16,
        /// What to do.
        advice: &'static str,
    },
    /// An answer that the real hub does not give.
    #[error("cannot trust the hub's answer for {what}: {reason}; nothing of it was kept")]
    HubAnswer {
        /// What was requested.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A download that broke off in every try.
    #[error(
        "the download of {file} broke off at byte {bytes} of {of}: {reason}; these bytes are kept, \
         and the same command resumes there"
    )]
    HubBroken {
        /// Name in the repository.
        file: String,
        /// Bytes that are on this machine.
        bytes: u64,
        /// Bytes of the file.
        of: u64,
        /// What happened.
        reason: String,
    },
    /// A file whose length differs from what the hub states.
    #[error(
        "{file} does not have the size that the hub states: expected {expected} bytes, got {got}; \
         try again later"
    )]
    HubSize {
        /// Name in the repository.
        file: String,
        /// Bytes that were expected.
        expected: u64,
        /// Bytes that arrived, or that another answer states.
        got: u64,
    },
    /// A file whose content differs from what the hub states.
    #[error(
        "{file} does not have the content that the hub states: expected SHA-256 {expected}, got \
         {got}; it was removed, try again later"
    )]
    HubChecksum {
        /// Name in the repository.
        file: String,
        /// What was expected.
        expected: String,
        /// What was found instead.
        got: String,
    },
    /// Something is not on this machine, and the hub may not be asked.
    #[error(
        "{what} is not in the hub's cache, {}, and HF_HUB_OFFLINE forbids asking the hub: unset \
         it, or fetch this on a machine with a network",
        cache.display()
    )]
    Offline {
        /// What was looked for.
        what: String,
        /// The hub's cache.
        cache: PathBuf,
    },
    /// A file of the cache that differs from what the hub gave.
    #[error(
        "{file} in the hub's cache is damaged: {} has SHA-256 {got}, expected {expected}; fetch it \
         again online",
        path.display()
    )]
    CacheDamaged {
        /// Name in the repository.
        file: String,
        /// Its content.
        path: PathBuf,
        /// The SHA-256 that the hub states.
        expected: String,
        /// The SHA-256 of the file.
        got: String,
    },
    /// More bytes than may be fetched.
    #[error(
        "{what} would fetch {} GB, more than the {} GB that are allowed: to allow more, set \
         DLT_MOST_FETCHED_GB",
        bytes.div_ceil(1_000_000_000), most / 1_000_000_000
    )]
    HubTooMuch {
        /// The data set or model.
        what: String,
        /// Its bytes that are not on this machine.
        bytes: u64,
        /// The most that is fetched.
        most: u64,
    },
    /// A name of the catalogue or the hub, but the caller gave no settings for the hub.
    #[error("{name} comes from the hub, but this program has no settings to reach it")]
    NoHub {
        /// What was requested.
        name: String,
    },
    /// A repository without files that fit.
    #[error("{what} of {repository} has no {wanted}; it has: {known}")]
    NotInRepository {
        /// Name of the repository.
        repository: String,
        /// The configuration or the whole.
        what: String,
        /// What was looked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// A data set for another task.
    #[error("{name} is for {task}, not for {wanted}")]
    OtherTask {
        /// Name in the catalogue.
        name: String,
        /// What it is for.
        task: &'static str,
        /// What was requested.
        wanted: &'static str,
    },
    /// A table in which it is unclear which column is the text.
    #[error(
        "{}: {reason}; name the column of the text, as in PATH::COLUMN \
         (hf:OWNER/NAME:CONFIG:COLUMN); its columns are: {known}",
        path.display()
    )]
    NoTextColumn {
        /// The file.
        path: PathBuf,
        /// Why none was chosen.
        reason: String,
        /// The columns, with what they hold and an example value of each.
        known: String,
    },
    /// Two files of one text for which different columns were found.
    #[error(
        "the text of {} is in its column {first:?}, but that of {} is in {second:?}: name the \
         column, as in PATH::COLUMN",
        path.display(),
        other.display()
    )]
    ColumnsDiffer {
        /// The first file.
        path: PathBuf,
        /// Its column.
        first: String,
        /// Another file.
        other: PathBuf,
        /// Its column.
        second: String,
    },
    /// A file whose content is neither text nor rows, whatever its name is.
    #[error("{} is {what}, expected {format}: {todo}", path.display())]
    ForeignContent {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What was expected.
        format: &'static str,
        /// What to do.
        todo: &'static str,
    },
    /// A table without the column.
    #[error("{} has no column {wanted}; it has: {known}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column that was looked for.
        wanted: String,
        /// The columns that there are.
        known: String,
    },
    /// A row that cannot be used.
    #[error("{}, row {row}: {reason}", path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        row: u64,
        /// What was expected, and what was found.
        reason: String,
    },
    /// A file that is not what its name says.
    #[error("{} cannot be read as {format}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What it was read as.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Cached tokens that are no longer in their file.
    #[error(
        "the cached tokens of {} were changed while they were used: cannot read token {token} of \
         {of}: {source}; run the same command again, or `dlt train --resume`, to make them again",
        path.display()
    )]
    ChangedCache {
        /// The file.
        path: PathBuf,
        /// The first token that was requested.
        token: usize,
        /// Tokens that the file had when it was opened.
        of: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// More tokens than the cache may hold.
    #[error(
        "the {split} split of {name} is more than {limit} of tokens after {read} of its text, the \
         limit for {of} of files; to allow more, set DLT_CACHE_LIMIT, as in DLT_CACHE_LIMIT=100GB"
    )]
    TooManyTokens {
        /// Where the text comes from.
        name: String,
        /// The split.
        split: Split,
        /// The limit, in words.
        limit: String,
        /// Bytes of text that were read, in words.
        read: String,
        /// Bytes of the files, in words.
        of: String,
    },
    /// More text than is read to find where to cut it.
    #[error(
        "{} and the files after it hold more than {most} bytes of text, more than expected of such \
         files; to allow more, set DLT_CACHE_LIMIT, as in DLT_CACHE_LIMIT=100GB",
        path.display()
    )]
    TooMuchText {
        /// The first file.
        path: PathBuf,
        /// The most bytes.
        most: u64,
    },
    /// Something that this program was built without.
    #[error(transparent)]
    NotBuilt(dlt_spec::NotBuilt),
    /// A setting whose value is not possible.
    #[error("{what}: expected {expected}, got {got}")]
    BadSetting {
        /// The setting.
        what: &'static str,
        /// What was expected.
        expected: String,
        /// What was found instead.
        got: String,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}
