//! What can go wrong with data.

use crate::split::Split;
use std::path::PathBuf;

/// What can go wrong with data, each naming the file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Neither a corpus that is shipped nor a path that exists.
    #[error(
        "no text at {name:?}: expected a name of the catalogue ({known}), hf:OWNER/NAME, or the path of a file of \
         text or rows or of a folder of them"
    )]
    NoSuchSource {
        /// What was asked for.
        name: String,
        /// The corpora that are shipped.
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
    #[error("{} holds no text: expected at least one window of tokens, the file is empty", path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file that is not UTF-8.
    #[error(
        "{} is not UTF-8: invalid byte {byte:#04x} at byte offset {offset}; convert the file to UTF-8 first",
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
    #[error("no text files in {}: expected at least one file ending in {extensions}", path.display())]
    NoTextFiles {
        /// The folder.
        path: PathBuf,
        /// The endings that are read.
        extensions: String,
    },
    /// A folder or repository whose files do not say clearly which split each is for.
    #[error("cannot tell which text of {place} to read as what: {found}; {advice}")]
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
        "{place} has no file for the {missing} split, only {found}: add one, as in {missing}.txt, or name a single file"
    )]
    MissingSplit {
        /// The folder or repository.
        place: String,
        /// The split that has no file.
        missing: Split,
        /// The files that there are.
        found: String,
    },
    /// Files whose names count parts, not all of which are there.
    #[error(
        "{place} has not all parts of a split: expected {expected} files, as their names say, got {found}"
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
    #[error("{} has more than {most} files: expected a folder of data, name one below it", path.display())]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
        /// The most that are looked at.
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
    /// A split that has not a single window.
    #[error(
        "the {split} split of {name} has {tokens} tokens, too few for one window of context {context}, which takes \
         {needed}: use a longer text, a smaller `model.context` or other fractions in `data.split`"
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
        "the {split} split of {name} has no examples with a class: use more of them, or other fractions in `data.split`"
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
    /// More windows asked for than the stream has.
    #[error(
        "{asked} windows of {context} tokens asked for, the text has {count}: use a longer text, or ask for less"
    )]
    TooFewWindows {
        /// Windows asked for, or one more than the index asked for.
        asked: usize,
        /// Windows that there are.
        count: usize,
        /// Context, T.
        context: usize,
    },
    /// A batch larger than a whole pass, or of nothing.
    #[error("a batch of {batch} windows cannot be drawn from {count}: expected 1 to {count}")]
    BadBatch {
        /// Windows in a batch, B.
        batch: usize,
        /// Windows that there are.
        count: usize,
    },
    /// A saved position that belongs to other data.
    #[error(
        "the saved position is at window {index} of a pass, which has {count} here: resume with the same data"
    )]
    BadPosition {
        /// Windows of the pass that were used already.
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
        "cannot use the tokenizer {name:?}: {reason}; expected `gpt2`, `bytes`, hf:OWNER/NAME or the path of a \
         tokenizer.json"
    )]
    BadTokenizer {
        /// Name or path.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tokenizer without a token that ends a text, where one is needed.
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
    /// A name that cannot be a repository's or a revision's.
    #[error("{name:?} is no name on the hub: expected {expected}")]
    BadHubName {
        /// The name.
        name: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The hub cannot be reached.
    #[error(
        "cannot reach the hub at {endpoint} for {what}: {reason}; check the network, HF_ENDPOINT and proxies (what is \
         in the cache already is used without asking under HF_HUB_OFFLINE=1)"
    )]
    HubUnreachable {
        /// Its address.
        endpoint: String,
        /// What was asked for.
        what: String,
        /// What the system said.
        reason: String,
    },
    /// The hub refuses or fails.
    #[error("the hub answered {status} for {what}: {advice}")]
    HubStatus {
        /// What was asked for.
        what: String,
        /// The status.
        status: u16,
        /// What to do.
        advice: &'static str,
    },
    /// An answer that cannot be the hub's.
    #[error("the hub's answer for {what} is not to be trusted: {reason}; nothing of it was kept")]
    HubAnswer {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A download that broke off again and again.
    #[error(
        "the download of {file} broke off at byte {bytes} of {of}: {reason}; what got is kept, and the same \
         command goes on there"
    )]
    HubBroken {
        /// Name in the repository.
        file: String,
        /// Bytes that are here.
        bytes: u64,
        /// Bytes of the file.
        of: u64,
        /// What happened.
        reason: String,
    },
    /// A file of another length than the hub says.
    #[error(
        "{file} has not the size that the hub states: expected {expected} bytes, got {got}; try again later"
    )]
    HubSize {
        /// Name in the repository.
        file: String,
        /// Bytes that were expected.
        expected: u64,
        /// Bytes that arrived, or that another answer states.
        got: u64,
    },
    /// A file of another content than the hub says.
    #[error(
        "{file} has not the content that the hub states: expected SHA-256 {expected}, got {got}; it was removed, \
         try again later"
    )]
    HubChecksum {
        /// Name in the repository.
        file: String,
        /// What was expected.
        expected: String,
        /// What was found instead.
        got: String,
    },
    /// Something that is not on this machine, offline.
    #[error(
        "{what} is not in the hub's cache, {}, and HF_HUB_OFFLINE forbids asking the hub: unset it, or fetch this where \
         there is a network",
        cache.display()
    )]
    Offline {
        /// What was looked for.
        what: String,
        /// The hub's cache.
        cache: PathBuf,
    },
    /// A file of the cache that is not what the hub gave.
    #[error(
        "{file} in the hub's cache is damaged: {} has SHA-256 {got}, expected {expected}; fetch it again online",
        path.display()
    )]
    CacheDamaged {
        /// Name in the repository.
        file: String,
        /// Its content.
        path: PathBuf,
        /// What the hub says.
        expected: String,
        /// What it is.
        got: String,
    },
    /// More than may be fetched.
    #[error(
        "{what} would fetch {} GB, more than the {} GB that are allowed: set DLT_MOST_FETCHED_GB where it is to be so",
        bytes.div_ceil(1_000_000_000), most / 1_000_000_000
    )]
    HubTooMuch {
        /// The data set or model.
        what: String,
        /// Its bytes that are not here.
        bytes: u64,
        /// The most that is fetched.
        most: u64,
    },
    /// A name of the catalogue or the hub, where nobody said how the hub is reached.
    #[error("{name} comes from the hub, which this program was not told how to reach")]
    NoHub {
        /// What was asked for.
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
    /// A data set that is not for this task.
    #[error("{name} is for {task}, not for {wanted}")]
    OtherTask {
        /// Name in the catalogue.
        name: String,
        /// What it is for.
        task: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// A table of whose columns none is surely its text.
    #[error(
        "{}: {reason}; name the column of the text, as in PATH::COLUMN (hf:OWNER/NAME:CONFIG:COLUMN); its columns \
         are: {known}",
        path.display()
    )]
    NoTextColumn {
        /// The file.
        path: PathBuf,
        /// Why none was chosen.
        reason: String,
        /// The columns with what they hold and a value of each.
        known: String,
    },
    /// Two files of one text whose columns were found, and differ.
    #[error(
        "the text of {} is in its column {first:?} and that of {} in {second:?}: name the column, as in PATH::COLUMN",
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
    /// A file whose content is neither text nor rows.
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
    /// Cached tokens that are not in their file any more.
    #[error(
        "the cached tokens of {} were changed while they were used: cannot read token {token} of {of}: {source}; run the \
         same command again, or `dlt train --resume`, and they are made again",
        path.display()
    )]
    ChangedCache {
        /// The file.
        path: PathBuf,
        /// The first token that was asked for.
        token: usize,
        /// Tokens that the file had when it was opened.
        of: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// More tokens than the cache may hold.
    #[error(
        "the {split} split of {name} is more than {limit} of tokens, after {read} of its text: this is the limit for {of} \
         of files; if that is meant, set DLT_CACHE_LIMIT to more, as in DLT_CACHE_LIMIT=100GB"
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
    /// More text than is read to find where it is cut.
    #[error(
        "{} and the files after it are more than {most} bytes of text, which is more than such files are expected to \
         hold; if that is meant, set DLT_CACHE_LIMIT to more, as in DLT_CACHE_LIMIT=100GB",
        path.display()
    )]
    TooMuchText {
        /// The first file.
        path: PathBuf,
        /// The most bytes.
        most: u64,
    },
    /// Settings of batches that cannot be.
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
