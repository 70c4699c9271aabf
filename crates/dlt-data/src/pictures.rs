//! Pictures with their class: CIFAR-10, from the hub or from its binary files.

mod batch;
mod resizing;

pub use batch::{Augment, CIFAR10_MEAN, CIFAR10_STD, PictureBatch, PictureSettings};

use crate::{
    error::DataError,
    hub::HubConfig,
    hub::catalogue::{Columns, LearningTask, RowShare, Tail},
    hub::origin::{Origin, known_names},
    sentences::labels,
    split::{Split, cut_by_fractions},
    text::files::{
        DataFile, Flow,
        table::{Cell, Table},
    },
    text::load::{Progress, retrieved},
    text::stream::HubProvenance,
};
use dlt_spec::file;
use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

/// Width and height of CIFAR-10's pictures.
pub const CIFAR10_SIDE: usize = 32;

/// Bytes of a picture: three channels, each row by row.
const PICTURE: usize = 3 * CIFAR10_SIDE * CIFAR10_SIDE;

/// Bytes of a record of the binary files: the class and the picture.
const RECORD: usize = 1 + PICTURE;

/// Most bytes of a binary file, which is held in memory: a million pictures.
const LARGEST_FILE: u64 = 4 << 30;

/// Classes of CIFAR-10.
const CLASSES: u8 = 10;

/// Pictures of 32 x 32 pixels and their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pictures {
    /// Of each picture all red, all green and all blue bytes, N x 3 x 32 x 32.
    pub pixels: Vec<u8>,
    /// Classes, N.
    pub labels: Vec<u8>,
}

impl Pictures {
    /// Number of pictures, N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    fn rows(&self, share: RowShare) -> Self {
        let range = share.range(self.len() as u64);
        self.between(range.start as usize, range.end as usize)
    }

    fn between(&self, start: usize, end: usize) -> Self {
        Self {
            pixels: self.pixels[start * PICTURE..end * PICTURE].to_vec(),
            labels: self.labels[start..end].to_vec(),
        }
    }
}

/// The pictures of the three splits.
#[derive(Clone, Debug)]
pub struct PictureSplits {
    /// Trains the model.
    pub train: Pictures,
    /// Chooses the model.
    pub validation: Pictures,
    /// Read once, at the end.
    pub test: Pictures,
    /// The commit that was read, if the pictures come from the hub.
    pub hub: Option<HubProvenance>,
}

impl PictureSplits {
    /// The pictures of a split.
    #[must_use]
    pub fn split(&self, split: Split) -> &Pictures {
        split.of([&self.train, &self.validation, &self.test])
    }
}

/// Loads `cifar10`, or a folder with CIFAR-10's binary files: `data_batch_*.bin` and
/// `test_batch.bin`. Validation is the last 5,000 pictures of train, or the last tenth if there are
/// fewer than 50,000. A single binary file is cut by `fractions` into train, validation and test,
/// in this order.
///
/// # Errors
/// If the name is not valid, the hub or the disk fails, or a picture is not valid.
pub fn load_pictures(
    source: &str,
    fractions: [f64; 3],
    hub: Option<&HubConfig>,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PictureSplits, DataError> {
    match Origin::parse(source)? {
        Origin::Hub(origin) => {
            let Some(entry) = origin.entry.filter(|entry| entry.columns == Columns::Picture) else {
                return Err(
                    LearningTask::Images.not_of(source, origin.entry.map(|entry| entry.task))
                );
            };

            let found = retrieved(&origin, hub, cache, progress)?;
            let read = |split: Split| read_tables(&found.files[split as usize]);
            let train = read(Split::Train)?;
            let test = read(Split::Test)?;

            let [training, validation, _] =
                entry.parts.map(|part| usual_tail(part.rows, train.len()));
            Ok(PictureSplits {
                validation: train.rows(validation),
                train: train.rows(training),
                test,
                hub: Some(found.provenance),
            })
        }
        Origin::Shipped(_) => {
            Err(LearningTask::Images.not_of(source, Some(LearningTask::LanguageModel)))
        }
        Origin::Local { path, .. } if path.is_file() => {
            let all = read_cifar10(&path)?;
            let [validation, test] =
                cut_by_fractions(all.len() as u64, fractions)?.map(|begin| begin as usize);
            Ok(PictureSplits {
                train: all.between(0, validation),
                validation: all.between(validation, test),
                test: all.between(test, all.len()),
                hub: None,
            })
        }
        Origin::Local { path, .. } => {
            let (batches, test) = binary_files(source, &path)?;
            let mut all = Pictures::default();

            for batch in batches {
                let read = read_cifar10(&batch)?;
                all.pixels.extend(read.pixels);
                all.labels.extend(read.labels);
            }

            let cut = |share: fn(Tail) -> RowShare| {
                all.rows(usual_tail(share(Tail::Rows(5_000)), all.len()))
            };
            Ok(PictureSplits {
                train: cut(RowShare::Before),
                validation: cut(RowShare::Last),
                test: read_cifar10(&test)?,
                hub: None,
            })
        }
    }
}

/// The share of a train split. If the split is smaller than CIFAR-10's, its tail is a tenth instead
/// of a fixed number of rows.
fn usual_tail(share: RowShare, rows: usize) -> RowShare {
    let tail = if rows < 50_000 { Tail::Percent(10) } else { return share };
    match share {
        RowShare::All => RowShare::All,
        RowShare::Before(_) => RowShare::Before(tail),
        RowShare::Last(_) => RowShare::Last(tail),
    }
}

/// The pictures of one of CIFAR-10's binary files.
///
/// # Errors
/// If the file cannot be read, does not hold a whole number of records, or has a class above 9.
pub fn read_cifar10(path: &Path) -> Result<Pictures, DataError> {
    let bytes = dlt_spec::file::read(path, LARGEST_FILE)
        .map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    if bytes.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }

    let (records, rest) = bytes.as_chunks::<RECORD>();
    if !rest.is_empty() {
        let reason = format!("expected records of {RECORD} bytes, got {} bytes", bytes.len());
        return Err(DataError::BadFile { path: path.to_owned(), format: "CIFAR-10", reason });
    }

    let mut pictures = Pictures::default();
    for (record, row) in records.iter().zip(1..) {
        if record[0] >= CLASSES {
            let reason = format!("expected a class from 0 to 9, got {}", record[0]);
            return Err(DataError::BadRow { path: path.to_owned(), row, reason });
        }

        pictures.labels.push(record[0]);
        pictures.pixels.extend_from_slice(&record[1..]);
    }

    Ok(pictures)
}

/// The train files in the order of their names, and the test file.
fn binary_files(source: &str, folder: &Path) -> Result<(Vec<PathBuf>, PathBuf), DataError> {
    let entries =
        file::regular_or_folder(folder).and_then(|_| file::folder(folder)).map_err(|error| {
            match error.kind() {
                std::io::ErrorKind::NotFound => {
                    DataError::NoSuchSource { name: source.to_owned(), known: known_names() }
                }
                _ => DataError::Read { path: folder.to_owned(), source: error },
            }
        })?;

    let mut batches: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    batches.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("data_batch") && name.ends_with(".bin")
    });

    batches.sort();
    let found =
        || batches.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let missing = |missing| DataError::MissingSplit {
        place: folder.display().to_string(),
        missing,
        found: found(),
    };

    if batches.is_empty() {
        return Err(missing(Split::Train));
    }

    let test = folder.join("test_batch.bin");
    if file::is_there(&test) { Ok((batches, test)) } else { Err(missing(Split::Test)) }
}

fn read_tables(files: &[(DataFile, String)]) -> Result<Pictures, DataError> {
    let mut pictures = Pictures::default();
    for (file, _) in files {
        let table = Table::open(file)?;
        let bad = |row: u64, reason: String| DataError::BadRow {
            path: file.path.clone(),
            row: row + 1,
            reason,
        };

        table.cells(table.column("img.bytes")?, &(0..u64::MAX), &mut |row, cell| {
            let Cell::Bytes(bytes) = cell else {
                return Err(bad(row, "expected a picture".to_owned()));
            };
            decode(bytes, &mut pictures.pixels).map_err(|reason| bad(row, reason))?;
            Ok(Flow::On)
        })?;

        for (label, row) in labels(&table, file)?.into_iter().zip(0..) {
            match label {
                Some(label) if label < u32::from(CLASSES) => pictures.labels.push(label as u8),
                other => {
                    return Err(bad(row, format!("expected a class from 0 to 9, got {other:?}")));
                }
            }
        }

        if pictures.pixels.len() != pictures.labels.len() * PICTURE {
            let reason = "it does not have as many pictures as labels".to_owned();
            return Err(DataError::BadFile { path: file.path.clone(), format: "Parquet", reason });
        }
    }

    Ok(pictures)
}

/// Appends the channels of a PNG of 32 x 32 pixels.
fn decode(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<(), String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);

    let mut reader = decoder.read_info().map_err(|error| format!("not a PNG: {error}"))?;
    let info = reader.info();
    let side = CIFAR10_SIDE as u32;

    if (info.width, info.height) != (side, side) {
        let width = info.width;
        let height = info.height;
        return Err(format!("expected {side} x {side} pixels, got {width} x {height}"));
    }

    let mut image = vec![0; reader.output_buffer_size().ok_or("a picture too large for memory")?];
    let frame = reader.next_frame(&mut image).map_err(|error| format!("a damaged PNG: {error}"))?;
    let samples = frame.color_type.samples();

    // Grey pictures have one channel, which is used for all three. A fourth channel, transparency,
    // is ignored.
    for channel in 0..3 {
        let at = if samples < 3 { 0 } else { channel };
        pixels.extend(image[..frame.buffer_size()].chunks_exact(samples).map(|pixel| pixel[at]));
    }

    Ok(())
}
