use crate::write;
use dlt_data::{
    Augment, CIFAR10_SIDE, HubConfig, PictureSettings, Pictures, Split, load_pictures, read_cifar10,
};
use dlt_hub_stand_in::{Column, Repository, StandIn, catalogue, cifar_record, parquet, png};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const AREA: usize = CIFAR10_SIDE * CIFAR10_SIDE;

/// Pictures of noise by rule.
fn some_pictures(count: usize) -> Pictures {
    let pixels = (0..count * 3 * AREA).map(|at| ((at * 7 % 251) ^ (at / 97 % 256)) as u8).collect();
    Pictures { pixels, labels: (0..count).map(|row| (row % 10) as u8).collect() }
}

fn raw(side: usize) -> PictureSettings {
    PictureSettings { side, mean: [0.0; 3], std: [1.0; 3], crop: 0, flip: false }
}

#[test]
fn matches_reference_resizing_of_pillow() {
    let recorded: Value = serde_json::from_str(include_str!("../fixtures/pictures.json")).unwrap();
    let pixel = |at: usize| {
        let x = at % CIFAR10_SIDE;
        let y = at / CIFAR10_SIDE;
        ((x * x * 7 + y * 13 + x * y * 5) % 256) as u8
    };

    let channel: Vec<u8> = (0..AREA).map(pixel).collect();
    let pictures = Pictures { pixels: channel.repeat(3), labels: vec![0] };

    for case in recorded["cases"].as_array().unwrap() {
        let side = case["side"].as_u64().unwrap() as usize;
        let batch = pictures.batch(&[0], &raw(side), Augment::Never).unwrap();
        let bytes: Vec<u8> =
            batch.pixels.iter().map(|value| (value * 255.0).round() as u8).collect();

        assert_eq!(bytes.len(), 3 * side * side);
        let expected: Vec<u8> = serde_json::from_value(case["first_row"].clone()).unwrap();
        assert_eq!(bytes[..side], expected, "first row at {side}");

        for channel in bytes.chunks(side * side) {
            let digits: String =
                Sha256::digest(channel).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digits, case["sha256"], "at {side}");
        }
    }
}

#[test]
fn pixels_are_normalised_by_channel() {
    let pictures = some_pictures(2);
    let batch = pictures.batch(&[1], &PictureSettings::reference(), Augment::Never).unwrap();
    assert_eq!((batch.side, batch.pixels.len(), batch.labels), (224, 3 * 224 * 224, vec![1]));
    assert!(batch.pixels.iter().all(|value| (-1.0..=1.0).contains(value)));

    let own = pictures.batch(&[1], &PictureSettings::own(), Augment::Never).unwrap();

    for (channel, (mean, std)) in
        [(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)].iter().enumerate()
    {
        let byte = f32::from(pictures.pixels[3 * AREA + channel * AREA + 5]);
        let value = own.pixels[channel * AREA + 5];
        assert!((value - (byte / 255.0 - mean) / std).abs() < 1e-6);
    }
}

#[test]
fn crops_and_flips_are_drawn_by_seed_pass_and_picture_alone() {
    let pictures = some_pictures(40);
    let settings = PictureSettings { crop: 4, flip: true, ..raw(32) };
    let all: Vec<usize> = (0..40).collect();
    let drawn = |indices: &[usize], seed, pass| {
        pictures.batch(indices, &settings, Augment::Drawn { seed, pass }).unwrap().pixels
    };

    let first = drawn(&all, 7, 0);
    assert_eq!(drawn(&[11], 7, 0), first[11 * 3 * AREA..12 * 3 * AREA]);
    assert_ne!(drawn(&all, 8, 0), first);
    assert_ne!(drawn(&all, 7, 1), first);

    let plain = pictures.batch(&all, &settings, Augment::Never).unwrap().pixels;
    // Every changed picture is the plain one, mirrored or not, moved by at most four pixels, black
    // where nothing was.
    let mut flipped = 0;
    let mut moved = 0;

    for (changed, plain) in first.chunks(3 * AREA).zip(plain.chunks(3 * AREA)) {
        let shifted = |down: i64, across: i64, is_flipped: bool| {
            let at = |index: usize| {
                let channel = index / AREA;
                let row = (index % AREA / 32) as i64;
                let column = (index % 32) as i64;
                let column = if is_flipped { 31 - column } else { column };
                let row = row + down;
                let column = column + across;

                let is_inside = (0..32).contains(&row) && (0..32).contains(&column);
                if is_inside { plain[channel * AREA + (row * 32 + column) as usize] } else { 0.0 }
            };

            (0..3 * AREA).all(|index| at(index) == changed[index])
        };

        let found = (-4..=4)
            .flat_map(|down| (-4..=4).map(move |across| (down, across)))
            .flat_map(|(down, across)| [(down, across, false), (down, across, true)])
            .find(|&(down, across, is_flipped)| shifted(down, across, is_flipped));
        let (down, across, is_flipped) = found.expect("a picture was changed in another way");
        flipped += usize::from(is_flipped);
        moved += usize::from((down, across) != (0, 0));
    }

    assert!((8..=32).contains(&flipped) && moved > 30, "{flipped} flipped, {moved} moved");
}

#[test]
fn rejects_settings_that_cannot_be() {
    let pictures = some_pictures(1);
    for (settings, says) in [
        (raw(0), "side"),
        (raw(5_000), "1 to 1,024"),
        (PictureSettings { crop: 33, ..raw(32) }, "0 to 32"),
        (PictureSettings { std: [1.0, 0.0, 1.0], ..raw(32) }, "above 0"),
        (PictureSettings { mean: [f32::NAN; 3], ..raw(32) }, "finite"),
    ] {
        let error = pictures.batch(&[0], &settings, Augment::Never).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    assert!(pictures.batch(&[1], &raw(32), Augment::Never).is_err());
}

/// Fractions that only a single file is cut at.
const CUT: [f64; 3] = [0.8, 0.1, 0.1];

fn hub_config(hub: &StandIn, folder: &TempDir) -> HubConfig {
    HubConfig { endpoint: hub.endpoint(), ..HubConfig::new(folder.path().join("hub")) }
}

#[test]
fn cifar10_is_fetched_split_and_learned_from_in_a_few_steps() {
    let hub = StandIn::start();
    let folder = TempDir::new().unwrap();
    catalogue(100).into_iter().for_each(|repository| hub.serve(repository));

    let splits =
        load_pictures("cifar10", CUT, Some(&hub_config(&hub, &folder)), None, &mut |_| ()).unwrap();
    assert_eq!(Split::ALL.map(|split| splits.split(split).len()), [90, 10, 25]);
    assert_eq!((splits.train.labels[13], splits.train.pixels[13 * 3 * AREA]), (3, 75));
    assert_eq!(splits.validation.labels, (0..10).collect::<Vec<u8>>());

    let rows = |pictures: &Pictures| {
        pictures.pixels.chunks(3 * AREA).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert!(rows(&splits.validation).iter().all(|row| !rows(&splits.train).contains(row)));

    // The first channel tells the class: a linear model of its mean and square learns it.
    let all: Vec<usize> = (0..90).collect();
    let batch = splits.train.batch(&all, &PictureSettings::own(), Augment::Never).unwrap();
    let mean = |row: usize| {
        f64::from(batch.pixels[row * 3 * AREA..][..AREA].iter().sum::<f32>()) / AREA as f64
    };

    let mut weights = [0.0; 2];
    let mut losses = Vec::new();

    for _ in 0..20 {
        let mut loss = 0.0;
        let mut slope = [0.0; 2];

        for row in 0..90 {
            let error = weights[0] + weights[1] * mean(row) - f64::from(batch.labels[row]);
            loss += error * error / 90.0;
            slope[0] += error / 90.0;
            slope[1] += error * mean(row) / 90.0;
        }

        losses.push(loss);
        weights.iter_mut().zip(slope).for_each(|(weight, slope)| *weight -= 0.5 * slope);
    }

    assert!(losses[19] < 0.1 * losses[0], "{losses:?}");
}

#[test]
fn binary_files_hold_the_same_pictures_as_the_hub() {
    let rgb: Vec<u8> = (0..3 * AREA).map(|at| (at * 11 % 256) as u8).collect();
    let folder = TempDir::new().unwrap();
    let records: Vec<u8> = (0..20).flat_map(|row| cifar_record(row % 10, &rgb)).collect();

    write(&folder, "data_batch_1.bin", &records);
    write(&folder, "data_batch_2.bin", &records);
    write(&folder, "test_batch.bin", &records[..3073]);

    let local =
        load_pictures(&folder.path().to_string_lossy(), CUT, None, None, &mut |_| ()).unwrap();
    assert_eq!(Split::ALL.map(|split| local.split(split).len()), [36, 4, 1]);

    let hub = StandIn::start();
    let place = TempDir::new().unwrap();
    let table = |rows: usize| {
        let labels = (0..rows).map(|row| (row % 10) as i64).collect();
        parquet(
            &[
                Column::Picture("img", vec![png(32, 32, &rgb); rows]),
                Column::Whole("label", labels),
            ],
            7,
        )
    };

    hub.serve(
        Repository::dataset("uoft-cs/cifar10")
            .file("plain_text/train-00000-of-00001.parquet", table(40))
            .file("plain_text/test-00000-of-00001.parquet", table(1)),
    );
    let fetched =
        load_pictures("cifar10", CUT, Some(&hub_config(&hub, &place)), None, &mut |_| ()).unwrap();
    assert_eq!((fetched.train, fetched.validation), (local.train, local.validation));
    assert_eq!(fetched.test, local.test);
}

#[test]
fn a_single_binary_file_is_cut_by_fractions() {
    let folder = TempDir::new().unwrap();
    let records: Vec<u8> =
        (0..20).flat_map(|row| cifar_record(row % 10, &[row; 3 * AREA])).collect();
    let file = write(&folder, "some.bin", &records);
    let splits = load_pictures(&file.to_string_lossy(), CUT, None, None, &mut |_| ()).unwrap();

    assert_eq!(Split::ALL.map(|split| splits.split(split).len()), [16, 2, 2]);
    let first = Split::ALL.map(|split| splits.split(split).pixels[0]);
    assert_eq!(first, [0, 16, 18]);
}

#[test]
fn rejects_pictures_that_are_none() {
    let folder = TempDir::new().unwrap();
    let rgb = vec![0; 3 * AREA];

    for (name, content, says) in [
        ("short.bin", vec![1; 3_000], "records of 3073 bytes"),
        ("class.bin", cifar_record(10, &rgb), "row 1: expected a class from 0 to 9, got 10"),
        ("empty.bin", Vec::new(), "empty"),
    ] {
        let error = read_cifar10(&write(&folder, name, content)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(says), "{error}");
    }

    let hub = StandIn::start();
    for (picture, label, says) in [
        (b"no picture".to_vec(), 1, "row 1: not a PNG"),
        (png(8, 8, &[0; 192]), 1, "row 1: expected 32 x 32 pixels, got 8 x 8"),
        (png(32, 32, &rgb)[..60].to_vec(), 1, "row 1"),
        (png(32, 32, &rgb), 12, "row 1: expected a class"),
    ] {
        let place = TempDir::new().unwrap();
        let table = parquet(
            &[Column::Picture("img", vec![picture]), Column::Whole("label", vec![label])],
            1,
        );
        hub.serve(
            Repository::dataset("uoft-cs/cifar10")
                .file("plain_text/train-00000-of-00001.parquet", table.clone())
                .file("plain_text/test-00000-of-00001.parquet", table),
        );
        let error =
            load_pictures("cifar10", CUT, Some(&hub_config(&hub, &place)), None, &mut |_| ())
                .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }

    for source in ["wikitext-2", "shakespeare", "glue/rte"] {
        let place = TempDir::new().unwrap();
        let error = load_pictures(source, CUT, Some(&hub_config(&hub, &place)), None, &mut |_| ())
            .unwrap_err();
        assert!(error.to_string().contains("not for classification of pictures"), "{error}");
    }
}
