//! Finds words of unfinished work, and paths of one machine.

use crate::finding::Finding;
use crate::rust_source::{self, lines_with_word};
use crate::tree::Tree;

/// Words of unfinished work, and what to do about each.
const UNFINISHED: [(&str, &str); 6] = [
    ("todo!(", "finish it, or leave it out"),
    ("unimplemented!(", "finish it, or leave it out"),
    ("dbg!(", "remove it"),
    ("#[ignore", "let the test run, or put it behind a cargo feature, where it is visibly absent"),
    ("TODO", "do it, or remove the comment"),
    ("FIXME", "fix it, or remove the comment"),
];

/// First folders of absolute paths that exist on one machine only.
const MACHINE_FOLDERS: [&str; 5] = ["home", "root", "tmp", "Users", "work"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("") {
        if is_source(path) {
            findings.extend(unfinished(path, text));
        }
        findings.extend(machine_paths(path, text));
    }

    findings
}

/// Whether a file is checked. This crate is not, because it contains the words that it looks for.
fn is_source(path: &str) -> bool {
    (path.starts_with("crates/") || path.starts_with("tests/") || path.starts_with("data/"))
        && [".rs", ".py", ".sh"].iter().any(|ending| path.ends_with(ending))
}

fn unfinished(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (word, advice) in UNFINISHED {
        for number in lines_with_word(text, word) {
            findings.push(Finding::new(
                path,
                number,
                format!("'{word}' is unfinished work: {advice}"),
            ));
        }
    }

    findings
}

/// Finds paths of one machine everywhere except in Rust tests, which may need one as bad input.
fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    let checked_lines = if path.ends_with(".rs") {
        rust_source::product_lines(path, text)
    } else {
        text.lines().count()
    };

    let mut findings = Vec::new();
    for (line, number) in text.lines().zip(1..).take(checked_lines) {
        for folder in MACHINE_FOLDERS.iter().filter(|folder| starts_a_path(line, folder)) {
            let advice = format!(
                "'/{folder}/' is a path of one machine: write a relative path or an option"
            );
            findings.push(Finding::new(path, number, advice));
        }
    }

    findings
}

fn starts_a_path(line: &str, folder: &str) -> bool {
    let continues = |character: char| character.is_alphanumeric() || "._-~}$/*".contains(character);
    line.match_indices(&format!("/{folder}/")).any(|(at, _)| !line[..at].ends_with(continues))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finished_work_has_no_findings() {
        let text =
            "// a method; see https://example.org/work/tmp/\nlet a = root.join(\"src/home/x\");\n";
        assert!(findings("crates/a/src/lib.rs", text).is_empty());
        assert!(findings("README.md", "TODO lists are a topic of data/work/x.txt\n").is_empty());
    }

    #[test]
    fn rejects_every_word_of_unfinished_work() {
        for (word, _) in UNFINISHED {
            let found = findings("crates/a/tests/laws.rs", &format!("\n{word}\n"));
            assert_eq!(found.len(), 1, "{word}: {found:?}");
            assert!(found[0].starts_with("crates/a/tests/laws.rs:2: "), "{found:?}");
        }
    }

    #[test]
    fn rejects_paths_of_one_machine_outside_tests() {
        for folder in MACHINE_FOLDERS {
            for path in ["README.md", "crates/a/src/lib.rs", "crates/a/tests/oracle.py", ".ci/run"]
            {
                let found = findings(path, &format!("open('/{folder}/x')\n"));
                assert_eq!(found.len(), 1, "{path} {folder}: {found:?}");
            }
        }

        assert!(
            findings("crates/a/src/lib.rs", "#[cfg(test)]\nmod tests {\n\"/tmp/x\"\n}\n")
                .is_empty()
        );
    }
}
