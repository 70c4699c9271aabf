//! Files of text and of rows: the first byte selects how the others are read.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use dlt_data::{BYTES, DataError, DataRequest, Split, load};
use dlt_spec::Spec;
use dlt_spec::spec::{CsvSeparator, DataSpec, Newlines, OnBadRow};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("dlt-fuzz-rows-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
});

const FORMATS: [&str; 8] = ["txt", "jsonl", "csv", "tsv", "json", "parquet", "txt.gz", "jsonl.zst"];

fuzz_target!(|bytes: &[u8]| {
    let [first, bytes @ ..] = bytes else { return };
    let format = FORMATS[usize::from(first % 8)];
    let column = if first & 8 == 0 { "" } else { "::a.text" };
    let path = FOLDER.join(format!("rows.{format}"));

    fs::write(&path, bytes).expect("a temporary file");
    let data = DataSpec {
        source: format!("{}{column}", path.display()),
        tokenizer: BYTES.to_owned(),
        split: [0.5, 0.25, 0.25],
        newlines: if first & 16 == 0 { Newlines::Lf } else { Newlines::Keep },
        on_bad_row: if first & 32 == 0 { OnBadRow::Stop } else { OnBadRow::Skip },
        csv_separator: if first & 64 == 0 { CsvSeparator::Auto } else { CsvSeparator::Semicolon },
        ..Spec::default().data
    };

    let splits = match load(&DataRequest::new(&data, 1), &mut |_| {}) {
        Ok(splits) => splits,
        Err(DataError::NoSuchSource { .. }) => panic!("the file exists"),
        Err(_) => return,
    };

    let tokens: usize = Split::ALL.iter().map(|&split| splits.split(split).len()).sum();
    // A packed file holds more than its bytes.
    if !["parquet", "txt.gz", "jsonl.zst"].contains(&format) {
        assert!(tokens <= bytes.len() + 1, "{tokens} tokens of {} bytes", bytes.len());
    }
});
