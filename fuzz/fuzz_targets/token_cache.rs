//! The token cache: whatever a cached file holds, the tokens are those of the text.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use dlt_data::{DataRequest, Split, load};
use dlt_spec::Spec;
use dlt_spec::spec::DataSpec;
use libfuzzer_sys::fuzz_target;

const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
    "pre_tokenizer":{"type":"WhitespaceSplit"},"post_processor":null,"decoder":null,
    "model":{"type":"WordLevel","vocab":{"a":0,"b":1,"c":2},"unk_token":"c"}}"#;

struct Place {
    data: DataSpec,
    cache: PathBuf,
    /// The cached file of the training split, and its undamaged contents.
    file: PathBuf,
    whole: Vec<u8>,
    tokens: Vec<u32>,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("dlt-fuzz-cache-{}", std::process::id()));
    let cache = folder.join("cache");
    fs::create_dir_all(&folder).expect("a temporary folder");

    let text = folder.join("text.txt");
    let tokenizer = folder.join("tokenizer.json");
    fs::write(&text, "a b c c b a b a c ".repeat(20)).expect("written");
    fs::write(&tokenizer, TOKENIZER).expect("written");

    let path = |path: &PathBuf| path.display().to_string();
    let data = DataSpec { source: path(&text), tokenizer: path(&tokenizer), ..Spec::default().data };
    let request = DataRequest { cache: Some(&cache), ..DataRequest::new(&data, 4) };
    let splits = load(&request, &mut |_| {}).expect("the text is good");
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len());
    let files = fs::read_dir(&cache).expect("the cache").map(|entry| entry.expect("an entry").path());

    let file = files.max_by_key(size).expect("a cached file");
    let tokens = splits.split(Split::Train).tokens().expect("readable").into_owned();
    Place { whole: fs::read(&file).expect("readable"), data, cache, file, tokens }
});

fuzz_target!(|bytes: &[u8]| {
    let place = &*PLACE;
    // The first byte is the number of undamaged bytes in front.
    let kept = bytes.first().map_or(0, |&byte| (byte as usize).min(place.whole.len()));
    let damaged = [&place.whole[..kept], bytes.get(1..).unwrap_or_default()].concat();

    fs::write(&place.file, damaged).expect("a temporary file");
    let request = DataRequest { cache: Some(&place.cache), ..DataRequest::new(&place.data, 4) };
    let splits = load(&request, &mut |_| {}).expect("a damaged cache is no error");

    assert_eq!(splits.split(Split::Train).tokens().expect("readable"), place.tokens);
});
