//! Where text comes from: a shipped corpus, a file, a folder of files, or the hub.

use crate::{
    checksum::{self, hex},
    error::DataError,
    hub::catalogue::{Columns, Joining, LearningTask, Part, RowShare},
    hub::origin::{HubOrigin, Origin, known_names},
    hub::retrieval::{Retrieval, Retrieved},
    material::plan::{plan_folder, split_said_by},
    split::{Split, cut_by_fractions},
    text::corpus::CORPORA,
    text::files::{
        BadRows, DataFile, Flow, Format, Found, Piece, PieceKind, Reading, Rows, Sink, TextColumn,
        by_file,
    },
    text::selection::usual_parts,
    text::stream::HubProvenance,
};
use dlt_spec::{
    file,
    record::{Boundary, FolderPlan},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// Bytes of a text that is held in memory, at most: more than a CPU evaluates in a day.
const LONGEST_TEXT: u64 = 1 << 30;

/// A text in three splits, none of which has been read yet.
#[derive(Debug)]
pub(crate) struct TextSource {
    /// The rows of train, validation and test. They are the same ones where one text is cut. A
    /// split without files is one that the data do not have.
    rows: [Rows; 3],
    cut: Cut,
    /// SHA-256 of each file, in hexadecimal digits.
    digests: [Vec<String>; 3],
    /// SHA-256 of the whole.
    pub(crate) sha256: String,
    /// The repository and commit, where it comes from the hub.
    pub(crate) hub: Option<HubProvenance>,
    /// Which file belongs to which split, for a folder and for a data set of the hub.
    pub(crate) plan: Option<FolderPlan>,
    /// Whether it is a data set of the catalogue.
    is_catalogue: bool,
    /// The most bytes of text that are read to find where it is cut.
    most_bytes: u64,
    /// The size of a text that is cut by fractions; set once it was counted.
    extent: OnceLock<Extent>,
}

/// The size of a text.
#[derive(Clone, Copy, Debug)]
struct Extent {
    characters: u64,
    bytes: u64,
}

/// Which part of its rows a split uses.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// All of them.
    Nothing,
    /// Shares of the rows.
    Rows([RowShare; 3]),
    /// Shares of the characters of one text.
    Fractions([f64; 3]),
}

impl Cut {
    /// The cut for parts of files, or for fractions of one text, and the split whose files each
    /// split reads.
    fn of(parts: Option<[Part; 3]>, fractions: [f64; 3]) -> (Self, [Split; 3]) {
        match parts {
            Some(parts) => (Self::Rows(parts.map(|part| part.rows)), parts.map(|part| part.of)),
            None => (Self::Fractions(fractions), [Split::Train; 3]),
        }
    }
}

impl TextSource {
    /// Finds what a name means. Fetches it from the hub where it comes from there and is not on
    /// this machine. A single text is cut by `fractions`.
    pub(crate) fn find(
        name: &str,
        fractions: [f64; 3],
        reading: Reading,
        retrieval: Option<&Retrieval<'_>>,
    ) -> Result<Self, DataError> {
        let mut source = match Origin::parse(name)? {
            Origin::Shipped(texts) => Self::shipped(name, texts),
            Origin::Local { path, column } => Self::local(name, &path, column, fractions),
            Origin::Hub(origin) => {
                let retrieval =
                    retrieval.ok_or_else(|| DataError::NoHub { name: name.to_owned() })?;
                Self::hub(&origin, fractions, retrieval)
            }
        }?;
        source.examine(reading)?;
        Ok(source)
    }

    /// Looks at the content of every file, once.
    fn examine(&mut self, reading: Reading) -> Result<(), DataError> {
        let mut examined: BTreeMap<PathBuf, DataFile> = BTreeMap::new();
        for rows in &mut self.rows {
            for file in &mut rows.files {
                // A shipped corpus has one path for three texts, so it must not be looked up by
                // path.
                if let (None, Some(known)) = (file.shipped, examined.get(&file.path)) {
                    *file = known.clone();
                    // From Parquet a split reads only its own rows, so its findings must be its
                    // own. From other formats it reads the whole file to count rows, so splits
                    // share the findings.
                    if matches!((self.cut, file.format), (Cut::Rows(_), Format::Parquet)) {
                        file.findings = Arc::default();
                    }
                    continue;
                }

                file.examine(reading, rows.column.as_deref())?;
                examined.insert(file.path.clone(), file.clone());
            }
        }

        let mut columns =
            self.files().filter_map(|file| Some((&file.path, &file.column.as_ref()?.name)));
        if let Some((path, first)) = columns.next()
            && let Some((other, second)) = columns.find(|(_, name)| *name != first)
        {
            let path = path.clone();
            let other = other.clone();
            let first = first.clone();
            let second = second.clone();

            return Err(DataError::ColumnsDiffer { path, first, other, second });
        }

        Ok(())
    }

    /// Every file of every split. A file that is in several splits occurs several times.
    fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.rows.iter().flat_map(|rows| &rows.files)
    }

    /// The column of its text, where its files are tables.
    pub(crate) fn column(&self) -> Option<&TextColumn> {
        self.files().find_map(|file| file.column.as_ref())
    }

    /// Warns of the rows without text that were found so far, once for each file.
    pub(crate) fn tell_bad_rows(&self) {
        by_file(self.files()).iter().for_each(|(path, rows)| rows.tell(path));
    }

    /// Rows without text that were found so far.
    pub(crate) fn bad_rows(&self) -> BadRows {
        let mut all = BadRows::default();
        by_file(self.files()).into_values().for_each(|rows| all.add(rows));
        all
    }

    /// Rows without text of each file of a split, after it was read. Empty where no file has any.
    pub(crate) fn found(&self, split: Split) -> Vec<Found> {
        let found: Vec<Found> =
            self.rows[split as usize].files.iter().map(|file| file.findings.found()).collect();
        if found.iter().all(Found::is_nothing) { Vec::new() } else { found }
    }

    /// Uses the findings of an earlier process that made the tokens of a split, instead of reading
    /// the split again.
    pub(crate) fn restore(&self, split: Split, found: &[Found]) {
        let files = &self.rows[split as usize].files;
        files.iter().zip(found).for_each(|(file, found)| file.findings.restore(found));
    }

    /// Whether there is such a split: data may come without a test split.
    pub(crate) fn has(&self, split: Split) -> bool {
        !self.rows[split as usize].files.is_empty()
    }

    /// Warns where the name of a single file says a split: such a file is cut into three all the
    /// same.
    pub(crate) fn tell_of_name(&self) {
        let (None, Cut::Fractions(_), [file]) = (&self.plan, self.cut, &self.rows[0].files[..])
        else {
            return;
        };

        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(split) = split_said_by(&name).filter(|&split| split != Split::Train) {
            tracing::warn!(
                file = %name,
                "the name says {split}, but the file is cut into train, validation and test"
            );
        }
    }

    /// The most bytes of text that are read to find where it is cut.
    pub(crate) fn limit_to(&mut self, most_bytes: u64) {
        self.most_bytes = most_bytes;
    }

    /// Whether its rows are documents. Rows of tables are, except in the catalogue's data sets,
    /// whose rows are lines or sentences.
    pub(crate) fn has_documents(&self) -> bool {
        !self.is_catalogue && self.rows[0].files.iter().any(|file| file.format != Format::Text)
    }

    /// Whether its rows are the lines of longer texts.
    pub(crate) fn has_lines(&self) -> bool {
        self.rows[0].joining == Joining::WikiText
    }

    /// Sets what is put between two documents. The default is a line end.
    pub(crate) fn separate_by(&mut self, boundary: Boundary) {
        self.rows.iter_mut().for_each(|rows| rows.boundary = boundary);
        // The extent counts the separators too, so it has to be counted again.
        self.extent = OnceLock::new();
    }

    /// Selects a text as it is, uncut, or one split of it, and returns the split to read. Where
    /// file names say the splits, the caller has to name one: together they are no text.
    pub(crate) fn take(&mut self, name: &str, split: Option<Split>) -> Result<Split, DataError> {
        match (self.cut, split) {
            (Cut::Fractions(_), None) => {
                self.cut = Cut::Nothing;
                Ok(Split::Train)
            }
            (_, Some(split)) if self.has(split) => Ok(split),
            (_, Some(split)) => {
                let advice = "name a split that it has";
                Err(DataError::NoSplit { name: name.to_owned(), split, advice })
            }
            (_, None) => {
                let splits =
                    Split::ALL.into_iter().filter(|&split| self.has(split)).map(Split::name);
                let found = format!("it is divided into {}", splits.collect::<Vec<_>>().join(", "));
                let advice = "name one of them with --split, or a single file";

                Err(DataError::AmbiguousFolder { place: name.to_owned(), found, advice })
            }
        }
    }

    /// What is put between two documents.
    pub(crate) fn boundary(&self) -> Boundary {
        self.rows[0].boundary
    }

    /// Bytes of the files of a split, as they are stored (packed).
    pub(crate) fn stored_bytes(&self, split: Split) -> u64 {
        let size = |file: &DataFile| match file.shipped {
            Some(text) => text.len() as u64,
            None => fs::metadata(&file.path).map_or(0, |metadata| metadata.len()),
        };
        self.rows[split as usize].files.iter().map(size).sum()
    }

    /// Hands the text of a split to `sink`, piece by piece.
    pub(crate) fn read(&self, split: Split, sink: Sink<'_>) -> Result<(), DataError> {
        let rows = &self.rows[split as usize];

        match self.cut {
            Cut::Nothing => rows.read(None, sink),
            Cut::Rows(shares) => {
                let share = shares[split as usize];
                if share == RowShare::All {
                    return rows.read(None, sink);
                }
                rows.read(Some(&share.range(rows.count()?)), sink)
            }
            Cut::Fractions(fractions) => {
                between(rows, &self.ranges(fractions)?[split as usize], sink)
            }
        }
    }

    /// An estimate of the bytes of text in a split.
    pub(crate) fn estimated_bytes(&self, split: Split) -> Result<u64, DataError> {
        let rows = &self.rows[split as usize];

        Ok(match self.cut {
            Cut::Nothing => rows.estimated_bytes(),
            Cut::Rows(shares) => {
                let all = rows.count()?;
                let range = shares[split as usize].range(all);
                let share = (range.end - range.start) as f64 / all.max(1) as f64;

                (rows.estimated_bytes() as f64 * share) as u64
            }
            Cut::Fractions(fractions) => {
                let Extent { characters, bytes } = self.extent()?;
                let range = &self.ranges(fractions)?[split as usize];
                let share =
                    (range.end.min(characters) - range.start) as f64 / characters.max(1) as f64;

                (bytes as f64 * share) as u64
            }
        })
    }

    /// A checksum that distinguishes the text of a split from every other. It covers the content of
    /// its files and how the text is read from them. The keys of the token cache contain it.
    pub(crate) fn identity(&self, split: Split) -> [u8; 32] {
        let rows = &self.rows[split as usize];
        let taken = match self.cut {
            Cut::Nothing => "all".to_owned(),
            Cut::Rows(shares) => format!("{:?}", shares[split as usize]),
            Cut::Fractions(fractions) => format!("{fractions:?} {split}"),
        };

        let mut hash = Sha256::new();
        let column = self.column().map(|column| &column.name);
        let reading = rows.files.first().map(|file| file.reading);
        for part in [taken, format!("{column:?} {:?} {reading:?}", rows.joining)] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }

        for (file, digest) in rows.files.iter().zip(&self.digests[split as usize]) {
            hash.update(format!("{:?} {:?} {digest}\n", file.format, file.packing));
        }

        hash.finalize().into()
    }

    fn shipped(name: &str, texts: [&'static str; 3]) -> Result<Self, DataError> {
        let rows = texts.map(|text| Rows {
            files: vec![DataFile::shipped(name, text)],
            column: None,
            joining: Joining::Lines,
            boundary: Boundary::Line,
        });

        let mut whole = Sha256::new();
        texts.iter().for_each(|text| whole.update(text));
        let whole = hex(&whole.finalize().into());
        Self::new(rows, Cut::Nothing, Digests { whole, each: BTreeMap::new() }, None)
    }

    fn local(
        name: &str,
        path: &Path,
        column: Option<String>,
        fractions: [f64; 3],
    ) -> Result<Self, DataError> {
        let kind = fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let known = format!("{}, {}", CORPORA.join(", "), known_names());
                DataError::NoSuchSource { name: name.to_owned(), known }
            }
            _ => DataError::Read { path: path.to_owned(), source: error },
        })?;

        let plan = plan_folder(path)?;
        let is_folder = kind.is_dir();
        let files = [&plan.train, &plan.validation, &plan.test].map(|names| -> Vec<PathBuf> {
            let at = |name: &String| if is_folder { path.join(name) } else { path.to_owned() };
            names.iter().map(at).collect()
        });

        let digests = Digests::of(files.iter().flatten())?;
        let rows = files.map(|files| Rows {
            files: files.iter().map(|path| DataFile::at(path)).collect(),
            column: column.clone(),
            joining: Joining::Lines,
            boundary: Boundary::Line,
        });

        let (cut, from) = Cut::of(usual_parts(plan.division), fractions);

        let rows = from.map(|split| rows[split as usize].clone());
        Self::new(rows, cut, digests, is_folder.then_some(plan))
    }

    fn hub(
        origin: &HubOrigin,
        fractions: [f64; 3],
        retrieval: &Retrieval<'_>,
    ) -> Result<Self, DataError> {
        if let Some(entry) = origin.entry
            && !matches!(entry.columns, Columns::Text { .. })
        {
            return Err(LearningTask::LanguageModel.not_of(&origin.name, Some(entry.task)));
        }

        let Retrieved { files, parts, plan, provenance } = retrieval.retrieve(origin)?;
        let mut whole = Sha256::new();
        for (file, digest) in files.iter().flatten() {
            whole.update(format!(
                "{} {digest}\n",
                file.path.file_name().unwrap_or_default().display()
            ));
        }

        let whole = hex(&whole.finalize().into());
        let known = files.iter().flatten();
        let each = known.map(|(file, digest)| (file.path.clone(), digest.clone())).collect();

        let (cut, from) = Cut::of(parts, fractions);
        let rows = from.map(|split| Rows {
            files: files[split as usize].iter().map(|(file, _)| file.clone()).collect(),
            column: origin.column.clone(),
            joining: origin.joining(),
            boundary: Boundary::Line,
        });

        let source = Self::new(rows, cut, Digests { whole, each }, Some(plan))?;
        Ok(Self { hub: Some(provenance), is_catalogue: origin.entry.is_some(), ..source })
    }

    fn new(
        rows: [Rows; 3],
        cut: Cut,
        known: Digests,
        plan: Option<FolderPlan>,
    ) -> Result<Self, DataError> {
        if let Cut::Fractions(fractions) = cut {
            // Only checked here: a text is cut once its characters were counted.
            cut_by_fractions(0, fractions)?;
        }

        let digest = |file: &DataFile| match known.each.get(&file.path) {
            Some(digest) => Ok(digest.clone()),
            None => file.sha256().map(|digest| hex(&digest)),
        };

        let mut digests = [const { Vec::new() }; 3];
        for (digests, rows) in digests.iter_mut().zip(&rows) {
            *digests = rows.files.iter().map(digest).collect::<Result<_, _>>()?;
        }

        Ok(Self {
            rows,
            cut,
            digests,
            sha256: known.whole,
            hub: None,
            plan,
            is_catalogue: false,
            most_bytes: u64::MAX,
            extent: OnceLock::new(),
        })
    }

    /// The range of characters of each split, where a text is cut by fractions. The text is read
    /// once to count its characters.
    fn ranges(&self, fractions: [f64; 3]) -> Result<[Range<u64>; 3], DataError> {
        let Extent { characters, .. } = self.extent()?;
        let [validation, test] = cut_by_fractions(characters, fractions)?;
        // The test split has no fixed end, so that it reaches the end of the text in any case.
        Ok([0..validation, validation..test, test..u64::MAX])
    }

    fn extent(&self) -> Result<Extent, DataError> {
        if let Some(extent) = self.extent.get() {
            return Ok(*extent);
        }

        let mut extent = Extent { characters: 0, bytes: 0 };
        self.rows[0].read(None, &mut |piece| {
            extent.characters += piece.text.chars().count() as u64;
            extent.bytes += piece.text.len() as u64;

            if extent.bytes > self.most_bytes {
                return Err(DataError::TooMuchText {
                    path: self.rows[0].files[0].path.clone(),
                    most: self.most_bytes,
                });
            }

            Ok(Flow::On)
        })?;

        Ok(*self.extent.get_or_init(|| extent))
    }
}

/// Hands the characters of a range of a text to `sink`. Positions are counted in characters.
fn between(rows: &Rows, range: &Range<u64>, sink: Sink<'_>) -> Result<(), DataError> {
    let mut start = 0;

    rows.read(None, &mut |piece| {
        let length = piece.text.chars().count() as u64;
        let end = start + length;
        let from = range.start.clamp(start, end) - start;
        let to = range.end.clamp(start, end) - start;
        let is_past = start >= range.end;

        start = end;
        if is_past {
            return Ok(Flow::Stop);
        }

        // A piece without text only marks the end of a row or a document. One that falls on a cut
        // belongs to neither split.
        let is_wanted = from < to || (length == 0 && end > range.start);
        if !is_wanted {
            return Ok(Flow::On);
        }

        let kind = match piece.kind {
            PieceKind::Ends if to < length => PieceKind::Begins,
            kind => kind,
        };

        let offset = |at: u64| match at {
            0 => 0,
            at if at == length => piece.text.len(),
            at => piece
                .text
                .char_indices()
                .nth(at as usize)
                .map_or(piece.text.len(), |(offset, _)| offset),
        };

        sink(Piece { text: &piece.text[offset(from)..offset(to)], kind })
    })
}

/// SHA-256 of files, in hexadecimal digits.
struct Digests {
    /// Of all files, one after the other.
    whole: String,
    /// Of each file.
    each: BTreeMap<PathBuf, String>,
}

impl Digests {
    /// Reads each file once.
    fn of<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<Self, DataError> {
        let mut whole = Sha256::new();
        let mut each = BTreeMap::new();

        for path in files {
            let unreadable = |source| DataError::Read { path: path.clone(), source };
            let mut one = Sha256::new();
            let bytes = file::regular(path, u64::MAX)
                .and_then(|mut file| checksum::feed(&mut [&mut whole, &mut one], &mut file))
                .map_err(unreadable)?;

            if bytes == 0 {
                return Err(DataError::Empty { path: path.clone() });
            }

            each.insert(path.clone(), hex(&one.finalize().into()));
        }

        Ok(Self { whole: hex(&whole.finalize().into()), each })
    }
}

/// The text of one UTF-8 file.
///
/// # Errors
/// If the file cannot be read, is empty, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let bytes = file::read(path, LONGEST_TEXT).map_err(unreadable)?;
    if bytes.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }

    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        DataError::NotUtf8 { path: path.to_owned(), offset, byte: error.as_bytes()[offset] }
    })
}
