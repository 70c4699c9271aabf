//! A `tokenizer.json`: whatever it holds, it is read or refused. A tokenizer that is read encodes and
//! decodes.
#![no_main]

use dlt_data::Tokenizer;
use libfuzzer_sys::fuzz_target;

/// Characters that tokenizers treat in different ways.
const TEXT: &str = "To be, or  not\n\nto be: <s> </s> 12 é 中 😀 \u{0}";

fuzz_target!(|bytes: &[u8]| {
    let Ok(tokenizer) = Tokenizer::from_bytes("fuzzed", bytes.to_vec()) else { return };
    let vocabulary = tokenizer.vocabulary();
    assert!(tokenizer.special().ends.iter().all(|&id| (id as usize) < vocabulary));

    if let Ok(ids) = tokenizer.encode(TEXT) {
        assert!(ids.iter().all(|&id| (id as usize) < vocabulary), "{ids:?} of {vocabulary}");
        assert_eq!(tokenizer.encode(TEXT).expect("as before"), ids, "equal texts get equal tokens");
        let _ = tokenizer.decode(&ids);
    }

    if let Ok(marks) = tokenizer.marks() {
        assert!(marks.before.iter().chain(&marks.after).all(|&id| (id as usize) < vocabulary));
    }

    assert_eq!(tokenizer.json().expect("it is kept"), bytes);
});
