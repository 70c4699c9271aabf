use crate::{TOKENIZER, bytes_of, from_path, loaded, some_text, write};
use dlt_data::{DataRequest, Progress, Split, TokenSplits, load, load_text};
use dlt_hub_stand_in::{Column, parquet};
use dlt_spec::spec::{DataSpec, OnBadRow, Pipeline};
use sha2::{Digest, Sha256};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};
use tempfile::TempDir;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const CONTEXT: usize = 8;

/// Loads with a cache. Returns the splits and how many of them were read from the cache.
fn cached(data: &DataSpec, cache: &Path) -> (TokenSplits, usize) {
    let mut hits = 0;
    let mut count = |progress| hits += usize::from(matches!(progress, Progress::Cached { .. }));
    let splits =
        load(&DataRequest { cache: Some(cache), ..DataRequest::new(data, CONTEXT) }, &mut count)
            .unwrap();

    (splits, hits)
}

/// A file of [`some_text`] and a tokenizer of its words, which is faster to build than GPT-2's.
fn words(folder: &TempDir) -> DataSpec {
    let vocabulary: String = (0..400).map(|word| format!(r#""word{word}": {word}, "#)).collect();
    let model = format!(
        r#"{{"type": "WordLevel", "vocab": {{{vocabulary} ".": 400, "?": 401}}, "unk_token": "?"}}"#
    );
    let pre_tokenizer = r#"{"type": "Whitespace"}"#;
    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [], "pre_tokenizer": {pre_tokenizer}, "model": {model}}}"#
    );

    let tokenizer = write(folder, "words.json", json).to_string_lossy().into_owned();
    DataSpec { tokenizer, ..from_path(&write(folder, "text.txt", some_text())) }
}

/// Records only warnings.
struct Warnings(Arc<Mutex<Vec<String>>>);

/// All fields of a warning, in one line.
#[derive(Default)]
struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        self.0.lock().unwrap().push(said.0);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The result of some work, and the warnings that it gave.
pub(crate) fn with_warnings<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let subscriber = Warnings(Arc::clone(&warnings));
    let result = tracing::subscriber::with_default(subscriber, work);
    let warnings = warnings.lock().unwrap().clone();
    (result, warnings)
}

/// As [`cached`], and the number of warnings.
fn cached_with_warnings(data: &DataSpec, cache: &Path) -> (TokenSplits, usize, usize) {
    let ((splits, hits), warnings) = with_warnings(|| cached(data, cache));
    (splits, hits, warnings.len())
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn tokens(splits: &TokenSplits) -> [Vec<u32>; 3] {
    Split::ALL.map(|split| splits.split(split).tokens().unwrap().into_owned())
}

#[test]
fn cached_tokens_stay_in_their_file_and_are_the_same() {
    let folder = TempDir::new().unwrap();
    let data = from_path(&write(&folder, "text.txt", some_text()));
    let cache = folder.path().join("a/cache");
    let plain = loaded(&data, CONTEXT).unwrap();
    let (first, hits) = cached(&data, &cache);

    assert_eq!(hits, 0);
    let (second, hits) = cached(&data, &cache);
    assert_eq!(hits, 3);

    for splits in [&first, &second] {
        assert_eq!(tokens(splits), tokens(&plain));
        assert_eq!(splits.provenance, plain.provenance);
        assert_eq!((splits.vocabulary, splits.eos), (50_257, Some(50_256)));

        for split in Split::ALL {
            assert!(splits.split(split).is_in_file());
            assert_eq!(splits.split(split).bytes(), plain.split(split).bytes());
        }
    }

    assert!(!plain.train.is_in_file());

    assert!(
        files_of(&cache).iter().all(|file| file.extension().unwrap() == "tokens"),
        "temporary files are left"
    );
}

#[test]
fn another_text_tokenizer_or_pipeline_has_other_files() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let data = from_path(&write(&folder, "text.txt", some_text()));

    cached(&data, &cache);
    assert_eq!(files_of(&cache).len(), 3);

    let other_text = from_path(&write(&folder, "other.txt", some_text().replace("word", "Word")));
    assert_eq!(cached(&other_text, &cache).1, 0);

    let blocks = DataSpec { pipeline: Pipeline::Blocks, ..data.clone() };
    assert_eq!(cached(&blocks, &cache).1, 0);

    let json = folder.path().join("tokenizer.json");
    TOKENIZER.save(&json).unwrap();

    let other_tokenizer =
        DataSpec { tokenizer: json.to_string_lossy().into_owned(), ..data.clone() };
    assert_eq!(cached(&other_tokenizer, &cache).1, 0);
    assert_eq!(files_of(&cache).len(), 12);

    // The same content under another name is the same text.
    let copy = from_path(&write(&folder, "copy.txt", some_text()));
    assert_eq!(cached(&copy, &cache).1, 3);
}

#[test]
fn rejects_every_damaged_cache_and_makes_it_again() {
    let folder = TempDir::new().unwrap();
    let data = words(&folder);
    let cache = folder.path().join("cache");
    let (whole, _) = cached(&data, &cache);
    let whole = tokens(&whole);
    let originals: Vec<(PathBuf, Vec<u8>)> =
        files_of(&cache).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();

    let (path, original) = &originals[0];
    let end = original.len();
    let flipped = |at: usize| {
        let mut bytes = original.clone();
        bytes[at] ^= 1;
        bytes
    };

    let mut damages: Vec<Vec<u8>> =
        vec![Vec::new(), original[..50].to_vec(), original[..end - 4].to_vec()];
    damages.push(original[..end - 1].to_vec());
    damages.push([original.as_slice(), &[0; 4]].concat());

    // The file of another text with this name.
    damages.push(originals[1].1.clone());

    // Every field of the header, and the tokens.
    damages.extend(
        [0, 8, 12, 16, 24, 32, 36, 40, 48, 80, 112, 143, 144, 175, 176, end - 1].map(flipped),
    );

    for damaged in damages {
        fs::remove_file(path).unwrap();
        fs::write(path, &damaged).unwrap();

        let (splits, hits, warnings) = cached_with_warnings(&data, &cache);
        assert_eq!(warnings, 1);
        assert_eq!(hits, 2, "a damaged file of {} bytes was trusted", damaged.len());
        assert_eq!(tokens(&splits), whole);
        assert!(splits.train.is_in_file());
        assert_eq!(&fs::read(path).unwrap(), original);
    }
}

#[test]
fn the_layout_on_disk_is_the_documented_one() {
    let folder = TempDir::new().unwrap();
    let data = from_path(&write(&folder, "text.txt", some_text()));
    let cache = folder.path().join("cache");
    let (splits, _) = cached(&data, &cache);
    let train = splits.train.tokens().unwrap();

    let file = files_of(&cache)
        .into_iter()
        .map(|path| fs::read(path).unwrap())
        .max_by_key(Vec::len)
        .unwrap();
    assert_eq!(file.len(), 176 + 4 * train.len());
    assert_eq!(&file[..16], b"dlt-tok\n\x03\0\0\0\x51\xC4\0\0");
    assert_eq!(file[16..24], (train.len() as u64).to_le_bytes());
    assert_eq!(file[24..32], (splits.train.bytes() as u64).to_le_bytes());
    assert_eq!(file[32..40], [0x50, 0xC4, 0, 0, 0, 0, 0, 0]);
    assert_eq!(file[40..48], file[24..32]);

    let digits: String = file[80..112].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digits, splits.provenance.splits[0].sha256);

    let payload: Vec<u8> = train.iter().flat_map(|id| id.to_le_bytes()).collect();
    assert_eq!(file[176..], payload);
}

/// Rows with a number. Every sixth row has no text; the first of these is the second row.
fn texts_with_holes(name: &str) -> Vec<Option<String>> {
    (0..60).map(|row| (row % 6 != 1).then(|| format!("row {row} of {name}"))).collect()
}

fn lines_with_holes(name: &str) -> String {
    let line = |text: Option<String>| format!("{}\n", serde_json::json!({ "text": text }));
    texts_with_holes(name).into_iter().map(line).collect()
}

/// A file that is cut, a folder with a file for each split, and Parquet that train and validation
/// share.
fn sources_with_holes(folder: &TempDir) -> Vec<PathBuf> {
    ["named", "shared", "mixed"]
        .iter()
        .for_each(|name| fs::create_dir(folder.path().join(name)).unwrap());
    write(folder, "rows.jsonl", lines_with_holes("one file"));

    for split in ["train", "validation", "test"] {
        write(folder, &format!("named/{split}.jsonl"), lines_with_holes(split));
    }

    for split in ["train", "test"] {
        let table = parquet(&[Column::MaybeText("text", texts_with_holes(split))], 7);
        write(folder, &format!("shared/{split}.parquet"), table);
        write(folder, &format!("mixed/{split}.jsonl"), lines_with_holes(split));
    }

    ["rows.jsonl", "named", "shared", "mixed"].map(|name| folder.path().join(name)).to_vec()
}

#[test]
fn rows_without_text_are_reported_alike_from_the_cache_and_from_the_files() {
    for on_bad_row in [OnBadRow::Skip, OnBadRow::Stop] {
        let folder = TempDir::new().unwrap();
        for source in sources_with_holes(&folder) {
            let data = DataSpec { on_bad_row, ..bytes_of(&source) };
            let cache = folder.path().join("cache").join(source.file_name().unwrap());
            let (fresh, said) = with_warnings(|| loaded(&data, CONTEXT).unwrap());
            let rows = &fresh.provenance.bad_rows;
            let files = said.len() as u64;

            assert!(files > 0, "{}", source.display());
            assert_eq!(
                (rows.skipped + rows.empty, rows.first.len()),
                (10 * files, 3),
                "{}",
                source.display()
            );

            let same =
                |(splits, hits): (TokenSplits, usize), warnings: Vec<String>, expected: usize| {
                    assert_eq!(hits, expected, "{}", source.display());
                    assert_eq!(splits.provenance, fresh.provenance, "{}", source.display());
                    assert_eq!(warnings, said);
                };

            for hits in [0, 3] {
                let (splits, warnings) = with_warnings(|| cached(&data, &cache));
                same(splits, warnings, hits);
            }

            // Some splits have cached tokens, others do not.
            let files = files_of(&cache);
            for gone in &files {
                fs::remove_file(gone).unwrap();
                let (splits, warnings) = with_warnings(|| cached(&data, &cache));
                same(splits, warnings, files.len() - 1);
            }
        }
    }
}

#[test]
fn one_split_of_a_cached_text_is_reported_as_it_is_from_the_files() {
    let folder = TempDir::new().unwrap();

    for source in sources_with_holes(&folder) {
        let data = DataSpec { on_bad_row: OnBadRow::Skip, ..bytes_of(&source) };
        let cache = folder.path().join("cache").join(source.file_name().unwrap());
        cached(&data, &cache);

        for split in Split::ALL {
            let read = |cache: Option<&Path>| {
                let request = DataRequest { cache, ..DataRequest::new(&data, CONTEXT) };
                with_warnings(|| load_text(&request, Some(split), &mut |_| ()).unwrap()).1
            };

            assert_eq!(read(Some(&cache)), read(None), "{split} of {}", source.display());
        }
    }
}

#[test]
fn the_rows_of_cached_tokens_are_named_in_the_requested_file() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let of = |name: &str| DataSpec {
        on_bad_row: OnBadRow::Skip,
        ..bytes_of(write(&folder, name, lines_with_holes("one file")))
    };

    cached(&of("rows.jsonl"), &cache);
    let ((splits, hits), warnings) = with_warnings(|| cached(&of("copy.jsonl"), &cache));
    let rows = splits.provenance.bad_rows;

    assert_eq!((hits, rows.skipped), (3, 10));
    assert!(rows.first[0].ends_with("copy.jsonl, row 2: no text"), "{rows:?}");

    assert!(
        warnings[0].contains("rows=10") && warnings[0].contains("copy.jsonl, row 14"),
        "{warnings:?}"
    );
}

#[test]
fn a_cache_of_the_layout_before_is_made_again() {
    let folder = TempDir::new().unwrap();
    let data = words(&folder);
    let cache = folder.path().join("cache");

    cached(&data, &cache);
    for path in files_of(&cache) {
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 2;

        let checksum = Sha256::digest(&bytes[..144]);
        bytes[144..176].copy_from_slice(&checksum);
        fs::write(&path, bytes).unwrap();
    }

    let ((_, hits), warnings) = with_warnings(|| cached(&data, &cache));
    assert_eq!((hits, warnings.len()), (0, 3));
    assert!(warnings[0].contains("not a token cache of this version"), "{warnings:?}");
    assert_eq!(cached(&data, &cache).1, 3);
}

#[test]
fn a_cache_that_cannot_be_written_leaves_tokens_in_memory() {
    let folder = TempDir::new().unwrap();
    let data = from_path(&write(&folder, "text.txt", some_text()));

    // A file where the folder should be: nothing can be made in it, even by a privileged user.
    let cache = write(&folder, "cache", "");
    let (splits, hits, warnings) = cached_with_warnings(&data, &cache);
    assert_eq!(hits, 0);
    assert!(warnings >= 3, "{warnings}");
    assert!(!splits.train.is_in_file());
    assert_eq!(tokens(&splits), tokens(&loaded(&data, CONTEXT).unwrap()));
}

#[test]
fn a_cached_file_that_cannot_be_read_or_replaced_leaves_tokens_in_memory() {
    let folder = TempDir::new().unwrap();
    let data = words(&folder);
    let cache = folder.path().join("cache");
    let expected = loaded(&data, CONTEXT).unwrap();

    cached(&data, &cache);
    for file in files_of(&cache) {
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
    }

    let (splits, hits, warnings) = cached_with_warnings(&data, &cache);
    assert_eq!((hits, warnings), (0, 6));
    assert!(!splits.train.is_in_file());
    assert_eq!(tokens(&splits), tokens(&expected));
    assert_eq!(files_of(&cache).len(), 3, "temporary files are left");
}

#[test]
fn progress_reports_reading_and_every_byte() {
    let folder = TempDir::new().unwrap();
    let data = from_path(&write(&folder, "text.txt", some_text().repeat(400)));
    let mut seen = Vec::new();
    let splits =
        load(&DataRequest::new(&data, CONTEXT), &mut |progress| seen.push(progress)).unwrap();

    assert_eq!(seen[0], Progress::Reading);
    let of = splits.train.bytes();
    let train: Vec<usize> = seen
        .iter()
        .filter_map(|progress| match progress {
            Progress::Tokenizing { split: Split::Train, bytes, of: total } => {
                assert_eq!(*total, of);
                Some(*bytes)
            }
            _ => None,
        })
        .collect();

    assert!(train.is_sorted() && train.len() > 2, "{train:?}");
    assert_eq!((train.first(), train.last()), (Some(&0), Some(&of)));
}

#[test]
fn caches_made_at_the_same_moment_do_not_disturb_each_other() {
    let folder = TempDir::new().unwrap();
    let data = from_path(&write(&folder, "text.txt", some_text()));
    let cache = folder.path().join("cache");
    let expected = loaded(&data, CONTEXT).unwrap();

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(tokens(&cached(&data, &cache).0), tokens(&expected)));
        }
    });

    assert_eq!(files_of(&cache).len(), 3);
    assert_eq!(cached(&data, &cache).1, 3);
}

#[test]
fn regression_a_cache_that_is_cut_while_it_is_used_is_an_error() {
    let folder = TempDir::new().unwrap();
    let data = words(&folder);
    let cache = folder.path().join("cache");
    let (splits, _) = cached(&data, &cache);
    let windows = splits.windows(Split::Train).unwrap();

    for file in files_of(&cache) {
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(176 + 40).unwrap();
    }

    let mut inputs = [0; CONTEXT];
    let mut targets = [0; CONTEXT];
    windows.fill(0, &mut inputs, &mut targets).unwrap();

    let error =
        windows.fill(windows.count() - 1, &mut inputs, &mut targets).unwrap_err().to_string();
    assert!(
        error.contains("were changed while they were used") && error.contains("--resume"),
        "{error}"
    );

    let error = splits.train.tokens().unwrap_err().to_string();
    assert!(error.contains("cannot read token 0"), "{error}");

    // The next load makes them again.
    let (again, hits) = cached(&data, &cache);
    assert_eq!((hits, tokens(&again)), (0, tokens(&loaded(&data, CONTEXT).unwrap())));
}

#[test]
fn rejects_more_tokens_than_the_limit_wherever_they_are_kept() {
    let folder = TempDir::new().unwrap();
    let data = words(&folder);
    let cache = folder.path().join("cache");

    for cache in [None, Some(cache.as_path())] {
        let request = |limit| DataRequest { cache, limit, ..DataRequest::new(&data, CONTEXT) };
        let error = load(&request(Some(1_000)), &mut |_| ()).unwrap_err();
        assert!(
            matches!(error, dlt_data::DataError::TooManyTokens { split: Split::Train, .. }),
            "{error}"
        );

        let error = error.to_string();
        assert!(error.contains("DLT_CACHE_LIMIT") && error.contains("1000 bytes"), "{error}");
        assert!(load(&request(Some(1 << 20)), &mut |_| ()).is_ok());
    }

    assert!(
        files_of(&cache).iter().all(|file| file.extension().unwrap() == "tokens"),
        "something is left"
    );
}
