//! Phrases that read as a translation, and what to write instead.

use crate::finding::Finding;
use crate::rust_source::lines_with_word;
use crate::tree::Tree;

/// A phrase that is not to come back, and plain English for it.
const PHRASES: [(&str, &str); 12] = [
    (", came", ", got"),
    ("is taken", "is used"),
    ("are taken", "are used"),
    ("hangs on", "depends on"),
    ("hang on", "depend on"),
    ("goes on", "continues"),
    ("stands in", "is in"),
    ("lies in", "is in"),
    ("beside", "next to, compared with, besides"),
    ("whoever", "if you"),
    ("anew", "again"),
    ("until then", "up to that point"),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let texts = tree.texts("").filter(|(path, _)| is_checked(path));
    texts.flat_map(|(path, text)| translated(path, text)).collect()
}

/// This file spells the phrases in order to look for them. The corpus is not ours. Recorded runs
/// have the words of the program that made them.
fn is_checked(path: &str) -> bool {
    let is_record = path.starts_with("results/") && path.contains("/runs/");
    !path.ends_with("tidy/phrases.rs") && !path.starts_with("data/shakespeare/") && !is_record
}

fn translated(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (phrase, plain) in PHRASES {
        for number in lines_with_word(&without_names(text, phrase), phrase) {
            let advice = format!("'{phrase}' reads as a translation: write '{plain}'");
            findings.push(Finding::new(path, number, advice));
        }
    }

    findings
}

/// The text without names such as `loss-beside-each-other`, in which a phrase is between hyphens.
fn without_names(text: &str, phrase: &str) -> String {
    text.replace(&format!("-{phrase}-"), "--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_every_phrase_with_what_to_write() {
        for (phrase, plain) in PHRASES {
            for path in ["README.md", "crates/a/src/lib.rs", "data/presets/a.toml"] {
                let found = check(&Tree::of(&[(path, &format!("\nit {phrase} x\n"))]));
                assert_eq!(found.len(), 1, "{phrase}: {found:?}");
                assert_eq!(found[0].line, 2);
                assert!(found[0].advice.contains(plain), "{found:?}");
            }
        }
    }

    #[test]
    fn other_words_with_these_letters_are_fine() {
        let text = "besides, an outlier's ongoing stand-in is mistaken\n";
        assert!(check(&Tree::of(&[("README.md", text)])).is_empty());
        assert!(check(&Tree::of(&[("a.rs", "\"loss-beside-each-other\"\n")])).is_empty());
    }

    #[test]
    fn recorded_runs_keep_their_words() {
        let path = "results/laptop/runs/a/full-1/spec.toml";
        assert!(check(&Tree::of(&[(path, "# it stands beside\n")])).is_empty());
    }
}
