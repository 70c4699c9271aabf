//! Model files: what is written comes back, what is damaged is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use dlt_kernels::Kernels;
use dlt_models::architecture::Form;
use dlt_models::binding::{Binding, Change};
use dlt_models::file::ModelFile;
use dlt_state::{Action, State};

use crate::fixtures::{PAPER, drawn, small};

#[test]
fn law_a_saved_model_computes_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let mut model = drawn(Binding::frozen(4), PAPER, Kernels::Fused);
    let ids: Vec<u32> = (0..9).collect();

    let check = |model: &dlt_models::Model| {
        model
            .save(&path, &BTreeMap::from([("note".to_owned(), "kept".to_owned())]))
            .expect("saved");
        let file = ModelFile::open(&path).expect("opened");
        assert_eq!(file.metadata()["note"], "kept");
        assert_eq!(file.binding().partition(), model.binding().partition());

        let read =
            file.model(Arc::new(small()), PAPER, Kernels::Fused, &Device::Cpu).expect("read");
        let logits = |model: &dlt_models::Model| model.next_logits(&ids).expect("logits");
        assert_eq!(logits(model), logits(&read));

        for layer in 0..4 {
            assert_eq!(read.binding().is_frozen(layer), model.binding().is_frozen(layer));
            assert_eq!(read.binding().trains_alone(layer), model.binding().trains_alone(layer));
        }
    };

    check(&model);
    let action = Action::new(vec![0, 1, 0, 1]).expect("an action");
    let from = State::all_tied(4);
    let to = State::from_action(&action);

    model.apply(&Change { from: &from, to: &to, action: &action, visited: None }).expect("applied");
    check(&model);

    let tied = std::fs::metadata(&path).expect("there").len();
    assert!(tied < 2 * 4 * (2 * model.n_block_parameters() + model.n_shared_parameters()) as u64);

    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        1,
        "nothing else is left"
    );
}

#[test]
fn rejects_damaged_and_foreign_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    drawn(Binding::frozen(4), PAPER, Kernels::Fused).save(&path, &BTreeMap::new()).expect("saved");

    let bytes = std::fs::read(&path).expect("there");
    let refusal = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        match ModelFile::open(&path) {
            Ok(_) => panic!("a damaged file was accepted"),
            Err(error) => error.to_string(),
        }
    };

    assert!(refusal(&[]).contains("not a safetensors file but an empty file"));
    assert!(refusal(&bytes[..bytes.len() / 2]).contains("model.safetensors"));

    let mut newer = bytes.clone();
    let at = bytes.windows(13).position(|part| part == b"\"dlt-model\":\"").expect("the version");
    newer[at + 13] = b'9';
    assert!(refusal(&newer).contains("expected model layout version 1, 2 or 3, got 9"));

    let mut other = bytes.clone();
    other[at + 1] = b'x';
    assert!(refusal(&other).contains("not one of dlt's model files"));

    // A bit anywhere: in a weight, in the binding, in a note.
    let [storage, weight] = [b"\"storage\":\"".as_slice(), &bytes[bytes.len() - 40..]];
    for part in [storage, weight] {
        let at = bytes.windows(part.len()).rposition(|found| found == part).expect("there")
            + part.len()
            - 1;
        let mut flipped = bytes.clone();
        flipped[at + usize::from(part == storage)] ^= 1;

        let says = refusal(&flipped);
        assert!(says.contains("it is damaged: its checksum differs"), "{says}");
    }

    let text = |from: &str, to: &str| {
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
        let text =
            String::from_utf8(bytes[8..header].to_vec()).expect("text").replacen(from, to, 1);
        [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[header..]].concat()
    };

    let says = refusal(&text(r#""dtype":"F32""#, r#""dtype":"I32""#));
    assert!(says.contains("expected numbers in F32, got I32"), "{says}");

    let says = refusal(&text(r#""dlt-model":"2""#, r#""dlt-model":"2","dlt-model":"2""#));
    assert!(says.contains("`dlt-model` is in the metadata twice"), "{says}");

    let says = refusal(&text(r#""checksum""#, r#""checksun""#));
    assert!(says.contains("the metadata lacks its checksum"), "{says}");
    assert!(ModelFile::open(&folder.path().join("absent")).is_err());
}

/// As they were before files had a checksum.
#[test]
fn a_file_of_the_first_layout_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let model = drawn(Binding::frozen(4), PAPER, Kernels::Fused);

    model.save(&path, &BTreeMap::new()).expect("saved");
    let bytes = std::fs::read(&path).expect("there");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let text = String::from_utf8(bytes[8..header].to_vec()).expect("text");
    let at = text.find(r#""checksum":""#).expect("there");
    let text = format!("{}{}", &text[..at], &text[at + r#""checksum":"","#.len() + 64..]);

    let text = text.replace(r#""dlt-model":"2""#, r#""dlt-model":"1""#);
    let first = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[header..]].concat();
    std::fs::write(&path, first).expect("written");

    let file = ModelFile::open(&path).expect("opened");
    assert!(!file.has_checksum());

    let read = file.model(Arc::new(small()), PAPER, Kernels::Fused, &Device::Cpu).expect("read");
    let logits = |model: &dlt_models::Model| model.next_logits(&[1, 2, 3]).expect("logits");
    assert_eq!(logits(&model), logits(&read));
}

#[test]
fn law_equal_models_are_equal_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| {
        let path = folder.path().join(name);
        let notes =
            BTreeMap::from([("b".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]);
        drawn(Binding::frozen(4), PAPER, Kernels::Fused).save(&path, &notes).expect("saved");
        std::fs::read(path).expect("there")
    };

    assert!(file("one") == file("other"));
}

#[test]
fn rejects_a_file_of_another_shape() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    drawn(Binding::frozen(4), PAPER, Kernels::Fused).save(&path, &BTreeMap::new()).expect("saved");

    let file = ModelFile::open(&path).expect("opened");
    let refusal = |architecture| {
        let refused = file.model(Arc::new(architecture), PAPER, Kernels::Fused, &Device::Cpu);
        refused.map(|_| ()).expect_err("another shape").to_string()
    };

    let with = |form| dlt_models::families::gpt2::Gpt2 { form, ..small() };
    let wider = with(Form { width: 24, ..small().form });
    assert_eq!(
        refusal(wider),
        "tensor `transformer.wte.weight`: expected shape [31, 24], got [31, 12]"
    );

    let deeper = with(Form { layers: 5, ..small().form });
    assert_eq!(refusal(deeper), "expected a state of 5 layers, got one of 4");
}
