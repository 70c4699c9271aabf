//! GLUE's original files, and the examples that are read from them.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use dlt_data::load_sentences;
use dlt_spec::spec::DataSpec;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("dlt-fuzz-glue-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    fs::write(folder.join("dev.tsv"), "sentence\tlabel\nfine\t1\n").expect("a temporary file");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    fs::write(FOLDER.join("train.tsv"), bytes).expect("a temporary file");
    let data = DataSpec { source: FOLDER.display().to_string(), ..DataSpec::default() };
    let Ok(splits) = load_sentences(&data, None, None, &mut |_| {}) else { return };

    // Other column names make it a table of the user, which the target `labelled` covers.
    if splits.plan.is_some() {
        return;
    }

    let text = std::str::from_utf8(bytes).expect("only text is accepted");
    assert!(splits.train.len() <= text.lines().count());
    assert!((2..=1_000_000).contains(&splits.classes), "{} classes", splits.classes);

    for example in &splits.train {
        assert!(example.label.is_none_or(|label| (label as usize) < splits.classes));
        let sentences = [Some(&example.first), example.second.as_ref()];
        for sentence in sentences.into_iter().flatten() {
            assert!(text.contains(sentence.as_str()) && !sentence.contains(['\t', '\n']));
        }
    }
});
