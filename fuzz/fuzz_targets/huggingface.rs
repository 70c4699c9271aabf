//! A folder in Hugging Face's layout: no config and no tensors make the reader panic.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use candle_core::Device;
use dlt_models::architecture::of_spec;
use dlt_models::huggingface::{Weights, read_config};
use dlt_spec::Spec;
use dlt_spec::size::Extents;
use libfuzzer_sys::fuzz_target;

/// Largest model that is looked up, because a config may ask for any size.
const MOST_PARAMETERS: usize = 1 << 16;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("dlt-fuzz-huggingface-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
});

// The first line is the config. The rest is used as every kind of file: tensors of safetensors after
// a header of one line, an index, and the bytes of a pytorch_model.bin.
fuzz_target!(|bytes: &[u8]| {
    let line = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let config = &bytes[..line];
    let rest = bytes.get(line + 1..).unwrap_or_default();
    let header = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    let tensors = [&(header as u64).to_le_bytes(), rest].concat();
    let path = |name: &str| FOLDER.join(name);

    fs::write(path("config.json"), config).expect("a temporary file");
    let Ok(config) = read_config(&path("config.json")) else { return };
    let mut spec = Spec::default();

    spec.model = config.model;
    spec.model.context = spec.model.context.min(8);

    let data = Extents { vocabulary: 8, classes: 2 };
    let Ok(spec) = spec.check() else { return };
    let architecture = of_spec(&spec, data);
    let block = architecture.block_layout().n_parameters();
    let shared = architecture.shared_layout().n_parameters();

    if shared + architecture.n_layers() * block > MOST_PARAMETERS {
        return;
    }

    for (name, content) in [
        ("model.safetensors", &tensors[..]),
        ("model.safetensors.index.json", rest),
        ("pytorch_model.bin", rest),
        ("pytorch_model.bin.index.json", rest),
    ] {
        fs::write(path(name), content).expect("a temporary file");
        let opened = Weights::open(&FOLDER, architecture.as_ref(), &Device::Cpu);
        if let Ok(weights) = opened {
            let _ = weights.notes();
            assert_eq!(weights.tied_layers(architecture.as_ref()).len(), architecture.n_layers());

            for entry in architecture.shared_layout().entries() {
                let found = weights.lookup(&format!("{}{}", architecture.shared_prefix(), entry.name));
                assert!(
                    found.is_err()
                        || found.is_ok_and(|tensor| tensor.is_none_or(|tensor| tensor.dims() == entry.shape))
                );
            }
        }

        fs::remove_file(path(name)).expect("a temporary file");
    }
});
