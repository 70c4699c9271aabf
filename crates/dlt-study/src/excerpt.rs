//! The small text of scale long: the beginning of Hamlet from the shipped corpus, with a tokenizer
//! that is trained on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::child::Child;
use crate::program::{make_folder, read, replace};

/// The text's name in records.
pub(crate) const NAME: &str = "hamlet-80k";
/// The tokenizer's name in records.
pub(crate) const TOKENIZER: &str = "hamlet-1000";
/// Number of tokens in the tokenizer's vocabulary.
pub(crate) const VOCABULARY: usize = 1000;
/// Training tokens of the text, as its tokenizer counts them.
pub(crate) const TRAIN_TOKENS: f64 = 31_797.0;

/// Files of the corpus, with the most bytes that are used from the beginning of each. All three
/// begin with Hamlet.
const FILES: [(&str, usize); 3] =
    [("train.txt", 80_000), ("validation.txt", 8_000), ("test.txt", 8_000)];
const LIMIT: Duration = Duration::from_secs(120);

/// Paths of the text and the tokenizer below `folder`, by their names.
pub(crate) fn sources(folder: &Path) -> BTreeMap<String, String> {
    let named = |(name, path): (&str, PathBuf)| (name.to_owned(), path.display().to_string());
    [(NAME, folder.join(NAME)), (TOKENIZER, tokenizer(folder))].map(named).into()
}

fn tokenizer(folder: &Path) -> PathBuf {
    // Not in the folder of the text, where `dlt` would read it as a file of rows.
    folder.join(TOKENIZER).with_extension("json")
}

/// Writes the text below `folder` and lets `dlt` train the tokenizer, unless both already exist.
pub(crate) fn write(root: &Path, dlt: &Path, folder: &Path) -> Result<()> {
    let corpus = root.join("data").join("shakespeare");
    let text = folder.join(NAME);
    make_folder(&text)?;

    let mut is_new = !tokenizer(folder).is_file();
    for (file, most) in FILES {
        let whole = read(&corpus.join(file))?;
        let part = beginning(&whole, most);

        if fs::read_to_string(text.join(file)).is_ok_and(|found| found == part) {
            continue;
        }

        is_new = true;
        replace(&text.join(file), part)?;
    }

    if is_new {
        train(dlt, &text.join(FILES[0].0), &tokenizer(folder))?;
    }

    Ok(())
}

fn train(dlt: &Path, text: &Path, tokenizer: &Path) -> Result<()> {
    let made = tempfile::tempdir().context("cannot make a temporary folder")?;
    let made = made.path().join("tokenizer.json");
    let from = text.display().to_string();
    let to = made.display().to_string();
    let vocabulary = VOCABULARY.to_string();
    let words = ["data", "tokenizer", "train", &from, "--vocabulary", &vocabulary, "--out", &to];

    let finished = Child::new(dlt).arguments(words).run(LIMIT);
    finished.map_err(|failure| anyhow::anyhow!("dlt data tokenizer train: {failure}"))?;

    let bytes = fs::read(&made).with_context(|| format!("cannot read {}", made.display()))?;
    replace(tokenizer, bytes)
}

/// Whole lines from the beginning of a text, at most `most` bytes.
fn beginning(text: &str, most: usize) -> &str {
    let until = text.len().min(most);
    let end =
        text.as_bytes()[..until].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_whole_lines() {
        assert_eq!(beginning("one\ntwo\nthree", 9), "one\ntwo\n");
        assert_eq!(beginning("one\ntwo\n", 8), "one\ntwo\n");
        assert_eq!(beginning("one\ntwo\n", 100), "one\ntwo\n");
        assert_eq!(beginning("one", 2), "");
    }

    #[test]
    fn the_corpus_has_as_much_as_is_used() {
        let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/shakespeare"));
        for (file, most) in FILES {
            let text = fs::read_to_string(corpus.join(file)).unwrap();
            let part = beginning(&text, most);
            assert!(part.len() > most - 100, "{file}: {} bytes", part.len());
        }
    }
}
