use crate::{TOKENIZER, from_path, loaded, some_text, write};
use dlt_data::{DataRequest, Progress, Split, TokenSplits, load};
use dlt_spec::spec::{DataSpec, Pipeline};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tempfile::TempDir;
use tracing::{Event, Level, Metadata, Subscriber, span};

const CONTEXT: usize = 8;

/// Loads with a cache; gives the splits and how many of them came out of it.
fn cached(data: &DataSpec, cache: &Path) -> (TokenSplits, usize) {
    let mut hits = 0;
    let mut count = |progress| hits += usize::from(matches!(progress, Progress::Cached { .. }));
    let splits =
        load(&DataRequest { cache: Some(cache), ..DataRequest::new(data, CONTEXT) }, &mut count).unwrap();
    (splits, hits)
}

/// A file of [`some_text`] and a tokenizer of its words, which takes less time to build than GPT-2's.
fn words(folder: &TempDir) -> DataSpec {
    let vocabulary: String = (0..400).map(|word| format!(r#""word{word}": {word}, "#)).collect();
    let model =
        format!(r#"{{"type": "WordLevel", "vocab": {{{vocabulary} ".": 400, "?": 401}}, "unk_token": "?"}}"#);
    let pre_tokenizer = r#"{"type": "Whitespace"}"#;
    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [], "pre_tokenizer": {pre_tokenizer}, "model": {model}}}"#
    );
    let tokenizer = write(folder, "words.json", json).to_string_lossy().into_owned();
    DataSpec { tokenizer, ..from_path(&write(folder, "text.txt", some_text())) }
}

/// Counts warnings and nothing else.
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// As [`cached`], and the number of warnings.
fn cached_with_warnings(data: &DataSpec, cache: &Path) -> (TokenSplits, usize, usize) {
    let warnings = Arc::new(AtomicUsize::new(0));
    let subscriber = Warnings(Arc::clone(&warnings));
    let (splits, hits) = tracing::subscriber::with_default(subscriber, || cached(data, cache));
    (splits, hits, warnings.load(Ordering::Relaxed))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn tokens(splits: &TokenSplits) -> [Vec<u32>; 3] {
    Split::ALL.map(|split| splits.split(split).tokens().unwrap().into_owned())
}

#[test]
fn cached_tokens_stay_in_their_file_and_are_the_same() {
    let folder = TempDir::new().unwrap();
    let (data, cache) = (from_path(&write(&folder, "text.txt", some_text())), folder.path().join("a/cache"));
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
        files(&cache).iter().all(|file| file.extension().unwrap() == "tokens"),
        "temporary files are left"
    );
}

#[test]
fn another_text_tokenizer_or_pipeline_has_other_files() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let data = from_path(&write(&folder, "text.txt", some_text()));
    cached(&data, &cache);
    assert_eq!(files(&cache).len(), 3);
    let other_text = from_path(&write(&folder, "other.txt", some_text().replace("word", "Word")));
    assert_eq!(cached(&other_text, &cache).1, 0);
    let blocks = DataSpec { pipeline: Pipeline::Blocks, ..data.clone() };
    assert_eq!(cached(&blocks, &cache).1, 0);
    let json = folder.path().join("tokenizer.json");
    TOKENIZER.save(&json).unwrap();
    let other_tokenizer = DataSpec { tokenizer: json.to_string_lossy().into_owned(), ..data.clone() };
    assert_eq!(cached(&other_tokenizer, &cache).1, 0);
    assert_eq!(files(&cache).len(), 12);
    // The same content under another name is the same text.
    let copy = from_path(&write(&folder, "copy.txt", some_text()));
    assert_eq!(cached(&copy, &cache).1, 3);
}

#[test]
fn rejects_every_damaged_cache_and_makes_it_again() {
    let folder = TempDir::new().unwrap();
    let (data, cache) = (words(&folder), folder.path().join("cache"));
    let (whole, _) = cached(&data, &cache);
    let whole = tokens(&whole);
    let originals: Vec<(PathBuf, Vec<u8>)> =
        files(&cache).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let (path, original) = &originals[0];
    let end = original.len();
    let flipped = |at: usize| {
        let mut bytes = original.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut damages: Vec<Vec<u8>> = vec![Vec::new(), original[..50].to_vec(), original[..end - 4].to_vec()];
    damages.push(original[..end - 1].to_vec());
    damages.push([original.as_slice(), &[0; 4]].concat());
    // The file of another text under this name.
    damages.push(originals[1].1.clone());
    // Every field of the header, and the tokens.
    damages.extend([0, 8, 12, 16, 24, 32, 36, 40, 48, 80, 112, 143, 144, 175, 176, end - 1].map(flipped));
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
    let (data, cache) = (from_path(&write(&folder, "text.txt", some_text())), folder.path().join("cache"));
    let (splits, _) = cached(&data, &cache);
    let train = splits.train.tokens().unwrap();
    let file = files(&cache).into_iter().map(|path| fs::read(path).unwrap()).max_by_key(Vec::len).unwrap();
    assert_eq!(file.len(), 176 + 4 * train.len());
    assert_eq!(&file[..16], b"dlt-tok\n\x02\0\0\0\x51\xC4\0\0");
    assert_eq!(file[16..24], (train.len() as u64).to_le_bytes());
    assert_eq!(file[24..32], (splits.train.bytes() as u64).to_le_bytes());
    assert_eq!(file[32..40], [0x50, 0xC4, 0, 0, 0, 0, 0, 0]);
    assert_eq!(file[40..48], file[24..32]);
    let digits: String = file[80..112].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digits, splits.provenance.splits[0].sha256);
    let payload: Vec<u8> = train.iter().flat_map(|id| id.to_le_bytes()).collect();
    assert_eq!(file[176..], payload);
}

#[test]
fn a_cache_that_cannot_be_written_leaves_tokens_in_memory() {
    let folder = TempDir::new().unwrap();
    let data = from_path(&write(&folder, "text.txt", some_text()));
    // A file where the folder should be: nothing can be made in it, whoever asks.
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
    let (data, cache) = (words(&folder), folder.path().join("cache"));
    let expected = loaded(&data, CONTEXT).unwrap();
    cached(&data, &cache);
    for file in files(&cache) {
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
    }
    let (splits, hits, warnings) = cached_with_warnings(&data, &cache);
    assert_eq!((hits, warnings), (0, 6));
    assert!(!splits.train.is_in_file());
    assert_eq!(tokens(&splits), tokens(&expected));
    assert_eq!(files(&cache).len(), 3, "temporary files are left");
}

#[test]
fn progress_tells_of_reading_and_of_every_byte() {
    let folder = TempDir::new().unwrap();
    let data = from_path(&write(&folder, "text.txt", some_text().repeat(400)));
    let mut seen = Vec::new();
    let splits = load(&DataRequest::new(&data, CONTEXT), &mut |progress| seen.push(progress)).unwrap();
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
    let (data, cache) = (from_path(&write(&folder, "text.txt", some_text())), folder.path().join("cache"));
    let expected = loaded(&data, CONTEXT).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(tokens(&cached(&data, &cache).0), tokens(&expected)));
        }
    });
    assert_eq!(files(&cache).len(), 3);
    assert_eq!(cached(&data, &cache).1, 3);
}

#[test]
fn regression_a_cache_that_is_cut_while_it_is_used_is_an_error() {
    let folder = TempDir::new().unwrap();
    let (data, cache) = (words(&folder), folder.path().join("cache"));
    let (splits, _) = cached(&data, &cache);
    let windows = splits.windows(Split::Train).unwrap();
    for file in files(&cache) {
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(176 + 40).unwrap();
    }
    let (mut inputs, mut targets) = ([0; CONTEXT], [0; CONTEXT]);
    windows.fill(0, &mut inputs, &mut targets).unwrap();
    let error = windows.fill(windows.count() - 1, &mut inputs, &mut targets).unwrap_err().to_string();
    assert!(error.contains("were changed while they were used") && error.contains("--resume"), "{error}");
    let error = splits.train.tokens().unwrap_err().to_string();
    assert!(error.contains("cannot read token 0"), "{error}");
    // The next one makes them again.
    let (again, hits) = cached(&data, &cache);
    assert_eq!((hits, tokens(&again)), (0, tokens(&loaded(&data, CONTEXT).unwrap())));
}

#[test]
fn rejects_more_tokens_than_the_limit_wherever_they_are_kept() {
    let folder = TempDir::new().unwrap();
    let (data, cache) = (words(&folder), folder.path().join("cache"));
    for cache in [None, Some(cache.as_path())] {
        let request = |limit| DataRequest { cache, limit, ..DataRequest::new(&data, CONTEXT) };
        let error = load(&request(Some(1_000)), &mut |_| ()).unwrap_err();
        assert!(matches!(error, dlt_data::DataError::TooManyTokens { split: Split::Train, .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("DLT_CACHE_LIMIT") && error.contains("1000 bytes"), "{error}");
        assert!(load(&request(Some(1 << 20)), &mut |_| ()).is_ok());
    }
    assert!(files(&cache).iter().all(|file| file.extension().unwrap() == "tokens"), "something is left");
}
