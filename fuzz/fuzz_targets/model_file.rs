//! A model file. A correct length in front lets the reader get further.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use dlt_models::file::ModelFile;
use dlt_spec::tensors::FIRST_LAYOUT;
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("dlt-fuzz-model-{}", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    let json = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes, |end| &bytes[..end]);
    let file = [&(json.len() as u64).to_le_bytes(), bytes].concat();
    for bytes in [&file[..], bytes] {
        std::fs::write(&*FILE, bytes).expect("a temporary file");
        if let Ok(model) = ModelFile::open(&FILE) {
            let binding = model.binding();
            assert_eq!(binding.partition().len(), binding.n_layers());
            assert!(binding.n_distinct() <= binding.n_layers());

            // An accepted file is whole: every layout but the first has the checksum of its bytes.
            let version = model.metadata()["dlt-model"].as_str();
            assert_eq!(model.has_checksum(), version != FIRST_LAYOUT);
        }
    }
});
