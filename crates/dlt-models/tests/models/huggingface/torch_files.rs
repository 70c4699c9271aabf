//! `pytorch_model.bin`: what `torch.save` writes, and files that only look like it.

use std::io::Write;
use std::path::Path;

use dlt_kernels::Kernels;
use serde_json::json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::bits;
use super::cases::{Case, load};
use crate::fixtures::path;

const SINGLE: &str = "pytorch_model.bin";
const INDEX: &str = "pytorch_model.bin.index.json";

/// The model whose weights the fixtures hold.
const MODEL: &str = "llama-linear";

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(path("huggingface").join("torch").join(name)).expect("the fixture is there")
}

fn refusal(folder: &Path) -> String {
    let message = load(&Case::new(MODEL).spec, folder, Kernels::Fused)
        .map(|_| ())
        .expect_err("refused")
        .to_string();
    message.replace(&format!("{}", folder.display()), "FOLDER")
}

/// The refusal of a file of these bytes.
fn refusal_of(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(SINGLE), bytes).expect("written");
    refusal(folder.path())
}

#[test]
fn matches_reference_weights_of_torch() {
    let case = Case::new(MODEL);
    let expected = bits(&case.model(Kernels::Fused));

    for name in ["archive.bin", "old.bin", "views.bin"] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(SINGLE), fixture(name)).expect("written");

        let model = load(&case.spec, folder.path(), Kernels::Fused).expect("every weight");
        assert_eq!(bits(&model), expected, "{name}");
    }
}

#[test]
fn several_files_are_read_by_their_index() {
    let case = Case::new(MODEL);
    let folder = tempfile::tempdir().expect("a folder");
    let first = "pytorch_model-00001-of-00002.bin";
    let second = "pytorch_model-00002-of-00002.bin";

    std::fs::write(folder.path().join(first), fixture("archive.bin")).expect("written");
    std::fs::write(folder.path().join(second), fixture("old.bin")).expect("written");

    let names = case.file().into_iter().enumerate();
    let map: serde_json::Map<_, _> = names
        .map(|(number, (name, _))| (name, json!(if number % 2 == 0 { first } else { second })))
        .collect();
    let index = json!({"metadata": {}, "weight_map": map});

    std::fs::write(folder.path().join(INDEX), index.to_string()).expect("written");
    let model = load(&case.spec, folder.path(), Kernels::Fused).expect("every weight");
    assert_eq!(bits(&model), bits(&case.model(Kernels::Fused)));
    std::fs::remove_file(folder.path().join(second)).expect("there");

    let expected = format!(
        "FOLDER/{INDEX}: expected the files that it names in its folder, got none called `{second}`: fetch the model \
         again"
    );
    assert_eq!(refusal(folder.path()), expected);
}

/// A file that is cut or changed anywhere gives an error and no panic. What the checksums cover is
/// never read wrongly.
#[test]
fn law_damaged_files_are_refused_or_the_same() {
    let case = Case::new(MODEL);
    let expected = bits(&case.model(Kernels::Fused));
    let folder = tempfile::tempdir().expect("a folder");

    for name in ["archive.bin", "old.bin"] {
        let whole = fixture(name);
        for part in 0..60 {
            std::fs::write(folder.path().join(SINGLE), &whole[..whole.len() * part / 60])
                .expect("written");
            assert!(
                load(&case.spec, folder.path(), Kernels::Fused).is_err(),
                "{name} cut at {part}/60"
            );
        }

        for at in (0..whole.len()).step_by(97) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x21;
            std::fs::write(folder.path().join(SINGLE), &damaged).expect("written");

            let read = load(&case.spec, folder.path(), Kernels::Fused);

            // In the old layout no checksum covers the numbers themselves.
            if let (Ok(model), "archive.bin") = (read, name) {
                assert_eq!(bits(&model), expected, "{name} changed at {at}");
            }
        }
    }
}

/// An archive of some entries.
fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer
            .start_file(*name, SimpleFileOptions::default().compression_method(method))
            .expect("an entry");
        writer.write_all(bytes).expect("memory");
    }

    writer.finish().expect("an archive").into_inner()
}

/// The pickle of a dictionary with one tensor.
fn pickle(name: &str, storage: &str, offset: u8, size: u8, stride: u8, count: u32) -> Vec<u8> {
    let text =
        |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();

    [
        &b"\x80\x02}"[..],
        &text(name),
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage"),
        format!("ctorch\n{storage}\n").as_bytes(),
        &text("0"),
        &text("cpu"),
        b"J",
        &count.to_le_bytes(),
        b"tQ",
        &[b'K', offset, b'K', size, 0x85, b'K', stride, 0x85],
        b"\x89}tRs.",
    ]
    .concat()
}

fn refusal_of_tensor(pickle: &[u8], storage: &[u8]) -> String {
    let entries = [("x/data.pkl", pickle), ("x/byteorder", &b"little"[..]), ("x/data/0", storage)];
    refusal_of(&archive(&entries, CompressionMethod::Stored))
}

#[test]
fn rejects_tensors_that_leave_their_storage() {
    let floats = [0; 72];
    let none = "FOLDER/pytorch_model.bin: not a file of tensors that torch.save wrote: ";

    // An intact file is read, and lacks the rest of the model.
    let right =
        refusal_of_tensor(&pickle("model.norm.weight", "FloatStorage", 0, 18, 1, 18), &floats);
    assert!(right.ends_with("it is missing in FOLDER"), "{right}");

    for (offset, size, stride, count, message) in [
        (
            1,
            18,
            1,
            18,
            "expected a view of the 18 numbers of its storage, got offset 1, sizes [18]",
        ),
        (0, 18, 2, 18, "expected a view of the 18 numbers of its storage"),
        (0, 255, 0, 18, "expected a view of the 18 numbers of its storage"),
        (18, 1, 1, 18, "expected a view of the 18 numbers of its storage"),
        (0, 18, 1, 19, "storage `0`: expected 19 numbers of F32, got 72 bytes"),
        (0, 18, 1, 1 << 30, "storage `0`: expected 1073741824 numbers of F32, got 72 bytes"),
    ] {
        let pickle = pickle("model.norm.weight", "FloatStorage", offset, size, stride, count);
        let refused = refusal_of_tensor(&pickle, &floats);
        assert!(refused.starts_with(none) && refused.contains(message), "{message} in {refused}");
    }

    let entries = [("x/data.pkl", &*pickle("model.norm.weight", "FloatStorage", 0, 18, 1, 18))];
    let refused = refusal_of(&archive(&entries, CompressionMethod::Stored));
    assert_eq!(refused, format!("{none}expected a storage `0`, got none"));
}

#[test]
fn rejects_files_of_torch_that_hold_something_else() {
    let none = "FOLDER/pytorch_model.bin: not a file of tensors that torch.save wrote: ";
    let tensor = pickle("model.norm.weight", "FloatStorage", 0, 18, 1, 18);
    let archived =
        |entries: &[(&str, &[u8])]| refusal_of(&archive(entries, CompressionMethod::Stored));

    for (refused, message) in [
        (refusal_of(b"weights"), "expected a zip archive or a pickle, got something else"),
        (refusal_of(b"\x80\x02}."), "expected 1 more bytes, got 0"),
        (archived(&[("x/other", b"")]), "expected one data.pkl, got 0"),
        (
            archived(&[("x/data.pkl", &tensor), ("y/data.pkl", &tensor)]),
            "expected one data.pkl, got 2",
        ),
        (
            archived(&[("x/data.pkl", &tensor), ("x/byteorder", b"big")]),
            "expected the byte order little",
        ),
        (
            archived(&[("x/data.pkl", b")."), ("x/data/0", &[])]),
            "expected a dictionary of tensors, got a tuple",
        ),
        (
            archived(&[("x/data.pkl", b"}X\x01\x00\x00\x00aK\x01s."), ("x/data/0", &[])]),
            "`a`: expected a tensor, got a whole number",
        ),
        (
            archived(&[("x/data.pkl", b"}X\x01\x00\x00\x00acos\nsystem\n)Rs."), ("x/data/0", &[])]),
            "`a`: expected a tensor, got a call of os.system",
        ),
    ] {
        assert!(refused.starts_with(none) && refused.contains(message), "{message} in {refused}");
    }

    let whole =
        refusal_of_tensor(&pickle("model.norm.weight", "LongStorage", 0, 18, 1, 18), &[0; 144]);

    assert!(
        whole.contains("is missing") || whole.contains("expected F32, F64, F16 or BF16, got Long"),
        "{whole}"
    );
}

/// Numbers outside of the range of f32 would become infinite.
#[test]
fn rejects_numbers_beyond_the_range_of_f32() {
    let case = Case::new(MODEL);
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = fixture("views.bin");

    // The storage is found by its first number: no other part of the file has these bytes.
    let (_, table) =
        case.file().into_iter().find(|(name, _)| name == "model.norm.weight").expect("there");
    let first = f64::from(table.to_vec1::<f32>().expect("f32")[0]).to_le_bytes();
    let at = bytes.windows(8).position(|window| window == first).expect("there");
    bytes[at..at + 8].copy_from_slice(&1e300_f64.to_le_bytes());

    // The checksum of the archive shows the change first.
    std::fs::write(folder.path().join(SINGLE), &bytes).expect("written");

    assert!(
        refusal(folder.path()).contains("its storage is damaged"),
        "{}",
        refusal(folder.path())
    );
}
