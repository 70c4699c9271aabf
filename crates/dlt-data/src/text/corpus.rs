//! The corpora that are shipped inside the library. Their sources, licences and checksums are in
//! the data card next to each of them, `data/NAME/README.md`.

/// Name of the shipped Shakespeare: plays, sonnets and narrative poems, 248,125 GPT-2 tokens.
pub const SHAKESPEARE: &str = "shakespeare";

/// Names of all shipped corpora.
pub const CORPORA: [&str; 1] = [SHAKESPEARE];

/// Text of the train, validation and test splits of a shipped corpus.
pub(crate) fn shipped(name: &str) -> Option<[&'static str; 3]> {
    (name == SHAKESPEARE).then_some([
        include_str!("../../shakespeare/train.txt"),
        include_str!("../../shakespeare/validation.txt"),
        include_str!("../../shakespeare/test.txt"),
    ])
}
