//! Labelled texts of a user: the first byte selects the format, and the others are the file.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use dlt_data::{DataError, Split, load_sentences, plan_folder};
use dlt_spec::spec::DataSpec;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("dlt-fuzz-labelled-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
});

const FORMATS: [&str; 4] = ["csv", "tsv", "json", "parquet"];

fuzz_target!(|bytes: &[u8]| {
    let [first, bytes @ ..] = bytes else { return };
    let columns = ["", "::text,label", "::first,second,label"][usize::from(first / 4 % 3)];
    let path = FOLDER.join(format!("rows.{}", FORMATS[usize::from(first % 4)]));

    fs::write(&path, bytes).expect("a temporary file");
    let plan = plan_folder(&path).expect("the file exists");
    assert_eq!(plan.train.len(), 1);

    let source = format!("{}{columns}", path.display());
    let data = DataSpec { source, split: [0.5, 0.25, 0.25], ..DataSpec::default() };
    let splits = match load_sentences(&data, None, None, &mut |_| {}) {
        Ok(splits) => splits,
        Err(DataError::NoSuchSource { .. }) => panic!("the file exists"),
        Err(_) => return,
    };

    assert_eq!(splits.classes, splits.class_names.len());
    for split in Split::ALL {
        for example in splits.split(split) {
            assert!(example.label.is_none_or(|label| (label as usize) < splits.classes));
            // Equal texts must be in the same split, or a model would be tested on what it has seen.
            for other in Split::ALL.into_iter().filter(|other| *other != split) {
                let is_same =
                    |one: &dlt_data::Example| one.first == example.first && one.second == example.second;
                assert!(splits.split(other).len() > 50 || !splits.split(other).iter().any(is_same));
            }
        }
    }
});
