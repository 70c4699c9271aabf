//! Every `cargo xtask NAME` in a document or a workflow is a command that exists.

use crate::finding::Finding;
use crate::tree::Tree;

/// Files that hold commands for people or for machines.
const ENDINGS: [&str; 4] = [".md", ".yml", ".sh", "/run"];
const PROGRAM: &str = "cargo xtask ";

/// `known` are the names of the existing commands.
pub(super) fn check(tree: &Tree, known: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in ENDINGS.iter().flat_map(|ending| tree.texts(ending)) {
        for (line, number) in text.lines().zip(1..) {
            for name in names(line).filter(|name| !known.iter().any(|one| one == name)) {
                let advice = format!(
                    "names `{PROGRAM}{name}`, which does not exist, expected one of {}",
                    known.join(", ")
                );
                findings.push(Finding::new(path, number, advice));
            }
        }
    }

    findings
}

/// The names of commands in a line. A word in capitals is a placeholder.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let is_of_name = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    line.match_indices(PROGRAM).filter_map(move |(at, _)| {
        let rest = &line[at + PROGRAM.len()..];
        let name = &rest[..rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len())];
        name.starts_with(|letter: char| letter.is_ascii_lowercase()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("CONTRIBUTING.md", text), (".ci/run", text)]);
        check(&tree, &["tidy".to_owned(), "cuda-check".to_owned()])
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn commands_that_exist_have_no_findings() {
        let text = "`cargo xtask tidy`, cargo xtask cuda-check --toolkit; `cargo xtask NAME`, `cargo xtask --help`\n";
        assert!(findings(text).is_empty(), "{:?}", findings(text));
    }

    #[test]
    fn rejects_a_command_that_does_not_exist_in_every_kind_of_file() {
        let found = findings("`cargo xtask tidier`\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains(
            "names `cargo xtask tidier`, which does not exist, expected one of tidy, cuda-check"
        ));
    }
}
