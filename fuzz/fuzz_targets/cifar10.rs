//! CIFAR-10's binary files, unchanged, and filled up to whole records, so that the reader gets
//! further.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use dlt_data::{Augment, CIFAR10_SIDE, PictureSettings, Pictures, load_pictures, read_cifar10};
use libfuzzer_sys::fuzz_target;

const PICTURE: usize = 3 * CIFAR10_SIDE * CIFAR10_SIDE;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("dlt-fuzz-cifar10-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    fs::write(folder.join("test_batch.bin"), [7; 1 + PICTURE]).expect("a temporary file");
    folder
});

/// Pictures as bytes of the file.
fn written(pictures: &Pictures) -> Vec<u8> {
    assert_eq!(pictures.pixels.len(), pictures.len() * PICTURE);
    let records = pictures.labels.iter().zip(pictures.pixels.chunks(PICTURE));
    records.flat_map(|(label, pixels)| std::iter::once(label).chain(pixels)).copied().collect()
}

fuzz_target!(|bytes: &[u8]| {
    let mut whole = bytes.to_vec();
    whole.resize(bytes.len().next_multiple_of(1 + PICTURE), 0);

    let batch = FOLDER.join("data_batch_1.bin");
    for bytes in [bytes, &whole] {
        fs::write(&batch, bytes).expect("a temporary file");
        let Ok(pictures) = read_cifar10(&batch) else { continue };
        assert!(written(&pictures) == bytes && pictures.labels.iter().all(|&label| label < 10));
    }

    let source = FOLDER.display().to_string();
    let Ok(splits) = load_pictures(&source, [0.8, 0.1, 0.1], None, None, &mut |_| {}) else { return };
    assert_eq!(splits.test.labels, [7]);
    assert!([written(&splits.train), written(&splits.validation)].concat() == whole);

    // Random crops and resized pictures must stay within the range of pixels.
    let [side, crop, flip, seed] = [1, 2, 3, 4].map(|at| whole[at]);
    let settings = PictureSettings {
        side: usize::from(side) % 80,
        crop: usize::from(crop) % 40,
        flip: flip % 2 == 0,
        ..PictureSettings::reference()
    };

    let indices: Vec<usize> = (0..splits.train.len()).collect();
    let augment = Augment::Drawn { seed: seed.into(), pass: 1 };
    if let Ok(numbers) = splits.train.batch(&indices, &settings, augment) {
        assert_eq!(numbers.pixels.len(), indices.len() * 3 * settings.side * settings.side);
        assert!(numbers.pixels.iter().all(|pixel| (-1.0..=1.0).contains(pixel)));
    }
});
