//! `pytorch_model.bin`: a dictionary of tensors that `torch.save` wrote. One tensor at a time is
//! read.
//!
//! Since torch 1.6 the file is a zip archive with a pickle and, uncompressed, the bytes of each
//! storage. Before, it was five pickles followed by the storages. A tensor is a view of a storage:
//! offset, sizes and strides.

mod found;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use zip::{CompressionMethod, ZipArchive};

use super::numbers::{Numbers, tensor};
use super::pickle::{MOST_BYTES, Pickle, Value};
use crate::ModelError;
use found::{Found, Storage, View};

/// The first bytes of a zip archive.
const ARCHIVE: &[u8] = b"PK\x03\x04";

/// Most entries of an archive that is read; each storage has one.
const MOST_ENTRIES: usize = 1 << 18;

/// A file whose pickle has been read and checked against the storages in the file.
pub(super) struct TorchFile {
    path: PathBuf,
    tensors: BTreeMap<String, View>,
    storages: BTreeMap<String, Storage>,
    file: Mutex<File>,
    archive: Option<Mutex<Archive>>,
}

/// An archive. Each storage is compared with its checksum when it is first read.
struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// Numbers of the entries that have been compared.
    checked: BTreeSet<usize>,
}

impl TorchFile {
    pub(super) fn open(path: &Path) -> crate::Result<Self> {
        let io = |source| ModelError::Io { action: "read", path: path.to_owned(), source };
        let refuse = |why: String| ModelError::Format {
            path: path.to_owned(),
            reason: format!("not a file of tensors that torch.save wrote: {why}"),
        };

        let mut file = dlt_spec::file::regular(path, u64::MAX).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut head = Vec::new();

        file.by_ref().take(ARCHIVE.len() as u64).read_to_end(&mut head).map_err(io)?;
        file.rewind().map_err(io)?;

        if head == ARCHIVE {
            return Self::open_archive(path, file, length).map_err(refuse);
        }

        Self::open_old(path, file, length).map_err(refuse)
    }

    fn open_archive(path: &Path, file: File, length: u64) -> Result<Self, String> {
        let second = file.try_clone().map_err(|error| error.to_string())?;
        let mut archive =
            ZipArchive::new(BufReader::new(second)).map_err(|error| error.to_string())?;
        let entries = Entries::read(&mut archive)?;
        let mut pickle = Vec::new();
        let entry = archive.by_index(entries.pickle).map_err(|error| error.to_string())?;

        // One byte more than allowed shows that the pickle is longer.
        entry
            .take(MOST_BYTES as u64 + 1)
            .read_to_end(&mut pickle)
            .map_err(|error| error.to_string())?;

        if pickle.len() > MOST_BYTES {
            return Err(format!("expected a pickle of at most {MOST_BYTES} bytes, got more"));
        }

        let pickle = Pickle::read(&mut pickle.as_slice())?;
        let mut found = Found::of(&pickle)?;
        for (key, storage) in &mut found.storages {
            let (entry, start, bytes) = entries
                .storages
                .get(key)
                .ok_or_else(|| format!("expected a storage `{key}`, got none"))?;

            // The sizes of entries are claims of the archive, so they are checked against the
            // length of the file.
            let is_there = start.checked_add(*bytes).is_some_and(|end| end <= length);
            let width = storage.numbers.width();
            let expected =
                width.map(|width| width.checked_mul(storage.count).map(|bytes| bytes as u64));

            if !is_there || expected.is_some_and(|expected| expected != Some(*bytes)) {
                return Err(format!(
                    "storage `{key}`: expected {} numbers of {}, got {bytes} bytes",
                    storage.count, storage.numbers
                ));
            }

            storage.entry = *entry;
            storage.start = *start;
        }

        Ok(Self::new(path, file, found, Some(archive)))
    }

    /// The layout before torch 1.6: magic number, version, properties of the system, the tensors,
    /// the keys of the storages, and then each storage after its count.
    fn open_old(path: &Path, mut file: File, length: u64) -> Result<Self, String> {
        let mut head = Vec::new();
        let read = file.by_ref().take(MOST_BYTES as u64).read_to_end(&mut head);
        read.map_err(|error| error.to_string())?;

        let mut rest = head.as_slice();
        if !rest.starts_with(b"\x80") {
            return Err("expected a zip archive or a pickle, got something else".to_owned());
        }

        // Magic number, version and properties say nothing about the tensors.
        for _ in 0..3 {
            Pickle::read(&mut rest)?;
        }

        let mut found = Found::of(&Pickle::read(&mut rest)?)?;
        let keys = Pickle::read(&mut rest)?;
        let Value::List(keys_there) = keys.root() else {
            return Err(format!("expected the list of storages, got {}", keys.root().kind()));
        };

        // The storages follow the last pickle, in the order of the keys.
        let mut at = (head.len() - rest.len()) as u64;

        for key in keys_there {
            let Value::Text(key) = keys.get(*key) else {
                return Err("expected the key of a storage".to_owned());
            };
            let storage = found
                .storages
                .get_mut(key)
                .ok_or_else(|| format!("storage `{key}`: no tensor uses it"))?;

            let mut count = [0; 8];
            let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut count));
            read.map_err(|error| format!("storage `{key}`: {error}"))?;

            let width = storage.numbers.width().or_else(|| old_width(&storage.numbers));
            let width =
                width.ok_or_else(|| format!("storage `{key}`: {} is not read", storage.numbers))?;
            let bytes = storage.count.checked_mul(width).map(|bytes| bytes as u64);
            let end =
                bytes.and_then(|bytes| (at + 8).checked_add(bytes)).filter(|end| *end <= length);

            let Some(end) = end.filter(|_| u64::from_le_bytes(count) == storage.count as u64)
            else {
                let count = storage.count;
                return Err(format!(
                    "storage `{key}`: expected {count} numbers, got a shorter or another one"
                ));
            };

            storage.start = at + 8;
            at = end;
        }

        // No storage can be at the start of the file, so 0 marks those without a key in the list.
        match found.storages.iter().find(|(_, storage)| storage.start == 0) {
            Some((key, _)) => Err(format!("expected a storage `{key}`, got none")),
            None => Ok(Self::new(path, file, found, None)),
        }
    }

    fn new(
        path: &Path,
        file: File,
        found: Found,
        archive: Option<ZipArchive<BufReader<File>>>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            tensors: found.tensors,
            storages: found.storages,
            file: Mutex::new(file),
            archive: archive.map(|zip| Mutex::new(Archive { zip, checked: BTreeSet::new() })),
        }
    }

    /// Compares a storage with its checksum, once. Only archives have checksums.
    fn check(&self, storage: &Storage) -> Result<(), String> {
        let Some(archive) = &self.archive else { return Ok(()) };
        let Archive { zip, checked } = &mut *archive.lock().unwrap_or_else(PoisonError::into_inner);
        if !checked.contains(&storage.entry) {
            // The zip reader compares the checksum when it reaches the end of an entry.
            let mut entry = zip.by_index(storage.entry).map_err(|error| error.to_string())?;
            std::io::copy(&mut entry, &mut std::io::sink())
                .map_err(|error| format!("its storage is damaged: {error}"))?;
            checked.insert(storage.entry);
        }

        Ok(())
    }
}

impl super::TensorFile for TorchFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }

    fn numbers(&self, name: &str) -> Option<Numbers> {
        Some(self.storages.get(&self.tensors.get(name)?.storage)?.numbers.clone())
    }

    /// Second names: tensors that are the same view of the same storage as an earlier one, with the
    /// name of that one.
    fn aliases(&self) -> BTreeMap<String, String> {
        let mut first = BTreeMap::new();
        let mut aliases = BTreeMap::new();

        for (name, view) in &self.tensors {
            let first = first.entry(view).or_insert(name);
            if *first != name {
                aliases.insert(name.clone(), (*first).clone());
            }
        }

        aliases
    }

    fn read(&self, name: &str) -> crate::Result<Tensor> {
        let refuse = |why: String| ModelError::Format {
            path: self.path.clone(),
            reason: format!("tensor `{name}`: {why}"),
        };

        let view =
            self.tensors.get(name).ok_or_else(|| refuse("expected one, got none".to_owned()))?;
        let storage = self.storages.get(&view.storage);
        let storage = storage.ok_or_else(|| refuse("its storage is missing".to_owned()))?;
        let Some(width) = storage.numbers.width() else {
            return tensor(&storage.numbers, &[], &view.shape).map_err(refuse);
        };

        self.check(storage).map_err(refuse)?;
        let io = |source| ModelError::Io { action: "read", path: self.path.clone(), source };
        let count: usize = view.shape.iter().product();
        let mut bytes = vec![0; view.span() * width];

        // The lock is held for this read only.
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(storage.start + (view.offset * width) as u64)).map_err(io)?;
            file.read_exact(&mut bytes).map_err(io)?;
        }

        // The span of the view, read in one piece, in the order of the tensor.
        if !view.is_contiguous() {
            let mut gathered = Vec::with_capacity(count * width);
            view.each(|index| {
                gathered.extend_from_slice(&bytes[index * width..(index + 1) * width])
            });
            bytes = gathered;
        }

        tensor(&storage.numbers, &bytes, &view.shape).map_err(refuse)
    }
}

/// Bytes of a number, also of whole numbers. Storages of the latter are skipped in old files.
fn old_width(numbers: &Numbers) -> Option<usize> {
    match numbers {
        Numbers::Other(name) => match name.as_str() {
            "Long" => Some(8),
            "Int" => Some(4),
            "Short" => Some(2),
            "Byte" | "Char" | "Bool" => Some(1),
            _ => None,
        },
        _ => numbers.width(),
    }
}

/// The entries of an archive.
struct Entries {
    /// Number of the pickle's entry.
    pickle: usize,
    /// Number, start and length in bytes of each storage's entry, by its key.
    storages: BTreeMap<String, (usize, u64, u64)>,
}

impl Entries {
    fn read(archive: &mut ZipArchive<BufReader<File>>) -> Result<Self, String> {
        let count = archive.len();
        if count > MOST_ENTRIES {
            return Err(format!("expected at most {MOST_ENTRIES} entries, got {count}"));
        }

        let mut pickles = Vec::new();
        let mut storages = BTreeMap::new();

        for number in 0..count {
            let entry = archive.by_index_raw(number).map_err(|error| error.to_string())?;
            let name = entry.name().map_err(|error| error.to_string())?.into_owned();

            // torch writes entries uncompressed. A compressed one could unpack to any size.
            if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
                return Err(format!(
                    "entry `{name}`: expected one that is neither packed nor encrypted"
                ));
            }

            if name.ends_with("byteorder") {
                let mut order = String::new();
                entry.take(16).read_to_string(&mut order).map_err(|error| error.to_string())?;

                if order.trim() != "little" {
                    return Err(format!("expected the byte order little, got {order:?}"));
                }
                continue;
            }

            let start =
                entry.data_start().ok_or_else(|| format!("entry `{name}`: expected data"))?;

            match (name.strip_suffix("data.pkl"), name.rsplit_once("data/")) {
                (Some(folder), _) => pickles.push((number, folder.to_owned())),
                (None, Some((folder, key))) => {
                    storages
                        .insert((folder.to_owned(), key.to_owned()), (number, start, entry.size()));
                }
                (None, None) => {}
            }
        }

        let [(pickle, folder)] = pickles.as_slice() else {
            return Err(format!("expected one data.pkl, got {}", pickles.len()));
        };
        let of_folder = storages.into_iter().filter(|((other, _), _)| other == folder);
        let storages = of_folder.map(|((_, key), entry)| (key, entry)).collect();

        Ok(Self { pickle: *pickle, storages })
    }
}
