//! Files of text and of rows: the first byte says as what the others are read.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use dlt_data::{BYTES, DataError, DataRequest, END_OF_TEXT, Split, load};
use dlt_spec::Spec;
use dlt_spec::spec::DataSpec;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("dlt-fuzz-rows-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
});

const FORMATS: [&str; 4] = ["txt", "jsonl", "csv", "tsv"];

fuzz_target!(|bytes: &[u8]| {
    let [first, bytes @ ..] = bytes else { return };
    let format = FORMATS[usize::from(first % 4)];
    let column = if first & 4 == 0 { "" } else { "::text" };
    let path = FOLDER.join(format!("rows.{format}"));
    fs::write(&path, bytes).expect("a temporary file");
    let data = DataSpec {
        source: format!("{}{column}", path.display()),
        tokenizer: BYTES.to_owned(),
        split: [0.5, 0.25, 0.25],
        ..Spec::default().data
    };
    let splits = match load(&DataRequest::new(&data, 1), &mut |_| {}) {
        Ok(splits) => splits,
        Err(DataError::NoSuchSource { .. } | DataError::Read { .. }) => panic!("the file is there"),
        Err(_) => return,
    };
    let tokens: usize = Split::ALL.iter().map(|&split| splits.split(split).len()).sum();
    let text = std::str::from_utf8(bytes).expect("only text is accepted");
    match format {
        // A token for every byte, but where a text says its end.
        "txt" if !text.contains(END_OF_TEXT) => assert_eq!(tokens, bytes.len()),
        _ => assert!(tokens <= bytes.len() + 1, "{tokens} tokens of {} bytes", bytes.len()),
    }
});
