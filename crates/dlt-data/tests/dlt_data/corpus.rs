use crate::{TOKENIZER, loaded, shakespeare};
use dlt_data::{Split, unigram_perplexity};

/// Tokens, bytes and SHA-256 of the three files, as the data card states them.
const CARD: [(usize, usize, &str); 3] = [
    (222_975, 743_177, "4758e377ced47a945defc3df51a22174daae9a7ee82a4b9712c27b29f578b6f1"),
    (12_391, 40_871, "3aca599f9cf3507cae21a16a95072bc5146340a4ffadecfb5d809dfdf9baf9c4"),
    (12_759, 41_941, "e226d54c9506561967af569df686b419e26fbd011a8175ca14ebcb179f31b7e3"),
];

const DATA_CARD: &str = include_str!("../../../../data/shakespeare/README.md");

#[test]
fn shipped_shakespeare_is_what_its_data_card_says() {
    let splits = loaded(&shakespeare(), 128).unwrap();
    assert_eq!(splits.vocabulary, 50_257);
    assert_eq!(splits.eos, Some(50_256));

    for (provenance, (tokens, bytes, sha256)) in splits.provenance.splits.iter().zip(CARD) {
        assert_eq!(
            (provenance.tokens, provenance.bytes, provenance.sha256.as_str()),
            (tokens, bytes, sha256)
        );
        assert_eq!(splits.split(provenance.split).len(), tokens);

        assert!(
            DATA_CARD.contains(sha256),
            "the data card lacks the checksum of {}",
            provenance.split
        );
        let stated = format!("{},{:03}", tokens / 1000, tokens % 1000);

        assert!(
            DATA_CARD.contains(&stated),
            "the data card lacks the {stated} tokens of {}",
            provenance.split
        );
    }
}

#[test]
fn shipped_shakespeare_decodes_to_its_text_and_its_splits_share_no_passage() {
    let splits = loaded(&shakespeare(), 128).unwrap();
    let texts =
        Split::ALL.map(|split| TOKENIZER.decode(&splits.split(split).tokens().unwrap()).unwrap());
    for (text, split) in texts.iter().zip(Split::ALL) {
        assert_eq!(text.len(), splits.split(split).bytes());
    }

    // Songs and formulas repeat a line or two; six lines in a row would be a passage in both.
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let [train, validation, test] = texts.map(|text| lines(&text));

    for (held_out, other) in [(&validation, &train), (&test, &train), (&test, &validation)] {
        for passage in held_out.windows(6) {
            assert!(
                !other.windows(6).any(|window| window == passage),
                "{passage:?} is in two splits"
            );
        }
    }
}

#[test]
fn the_unigram_floor_of_shakespeare_is_in_the_hundreds() {
    let splits = loaded(&shakespeare(), 128).unwrap();
    let windows = splits.windows(Split::Validation).unwrap();
    let floor = unigram_perplexity(&windows.predicted(0..windows.count()).unwrap());
    // From a separate computation in Python, on the same windows.
    assert!((floor - 426.22).abs() < 0.01, "{floor}");
}
