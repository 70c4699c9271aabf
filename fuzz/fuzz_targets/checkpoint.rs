//! A checkpoint: its header alone, and the whole file. A correct length in front lets the reader get
//! further.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use dlt_spec::tensors::Header;
use dlt_train::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("dlt-fuzz-checkpoint-{}", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    let json = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes, |end| &bytes[..end]);
    if let Ok(header) = Header::parse(json, (bytes.len() - json.len()) as u64) {
        for place in header.tensors.values() {
            assert!(place.data_offsets.0 <= place.data_offsets.1);
        }
    }

    let file = [&(json.len() as u64).to_le_bytes(), bytes].concat();
    std::fs::write(&*FILE, file).expect("a temporary file");

    if let Ok(checkpoint) = Checkpoint::open(&FILE) {
        let _ = (checkpoint.step(), checkpoint.spec().is_ok(), checkpoint.best_path());
    }

    std::fs::write(&*FILE, bytes).expect("a temporary file");
    let _ = Checkpoint::open(&FILE);
});
