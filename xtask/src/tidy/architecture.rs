//! `ARCHITECTURE.md` names every crate and no missing path, and stays short.

use crate::finding::Finding;
use crate::markdown;
use crate::tree::Tree;
use crate::workspace::Workspace;

pub(crate) const PATH: &str = "ARCHITECTURE.md";

/// The limit keeps the document short enough to read at once.
const MAX_LINES: usize = 199;

/// A bare name with one of these endings is a source file. Other names may be files that a run
/// writes.
const SOURCE_ENDINGS: [&str; 5] = [".md", ".py", ".rs", ".sh", ".yml"];

pub(crate) fn check(tree: &Tree, workspace: &Workspace) -> Vec<Finding> {
    // The check of the crate edges reports a missing document.
    let Some(text) = tree.text(PATH) else { return Vec::new() };
    let mut findings = Vec::new();

    let lines = text.lines().count();
    if lines > MAX_LINES {
        let advice = format!(
            "has {lines} lines, at most {MAX_LINES}: move detail into the documentation of the crates"
        );
        findings.push(Finding::new(PATH, lines, advice));
    }

    for name in workspace.edges.keys().filter(|name| !mentions(text, name)) {
        findings.push(Finding::new(
            PATH,
            1,
            format!("does not mention `{name}`: say what the crate is for"),
        ));
    }

    for (number, line) in markdown::prose(text) {
        for span in markdown::code_spans(line)
            .filter(|span| names_a_path(tree, span) && !exists(tree, span))
        {
            let advice = format!("names `{span}`, which does not exist: name what exists now");
            findings.push(Finding::new(PATH, number, advice));
        }
    }

    findings
}

/// Whether a text has a name in backticks, in prose. The list of crate edges alone explains nothing.
fn mentions(text: &str, name: &str) -> bool {
    markdown::prose(text)
        .any(|(_, line)| markdown::code_spans(line).any(|span| span.trim_end_matches('/') == name))
}

fn names_a_path(tree: &Tree, span: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-/*".contains(character);
    if !span.chars().all(plain) || span.starts_with(['-', '/', '*']) {
        return false;
    }

    let first = span.split('/').next().unwrap_or(span);
    SOURCE_ENDINGS.iter().any(|ending| span.ends_with(ending))
        || (span.contains('/') && (tree.holds(first) || tree.holds(&format!("crates/{first}"))))
}

/// Whether a path exists from the root, from `crates/`, or as the end of a path. A `*` matches
/// anything, so only the folders before it are checked.
fn exists(tree: &Tree, span: &str) -> bool {
    let fixed = match span.find('*') {
        Some(star) => span[..star].rfind('/').map_or("", |slash| &span[..slash]),
        None => span,
    };

    tree.holds(fixed)
        || tree.holds(&format!("crates/{fixed}"))
        || tree
            .paths()
            .any(|path| path.strip_suffix(fixed).is_some_and(|folder| folder.ends_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let tree =
            Tree::of(&[(PATH, text), ("crates/a/src/bank.rs", ""), ("data/presets/x.toml", "")]);
        check(&tree, &Workspace::of(&[("a", &[])])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn paths_that_exist_have_no_findings() {
        let text = "`a` `crates/a` `a/src/` `crates/a/src/bank.rs` `src/bank.rs` `bank.rs` `data/presets/*.toml`\n\
                    `summary.json` `runs/NAME-SEED` `a / b` `--out/x` `C/H` `T[i]/2`\n```\n`gone.rs`\n```\n";
        assert!(findings(text).is_empty(), "{:?}", findings(text));
    }

    #[test]
    fn rejects_paths_that_are_gone() {
        for gone in
            ["crates/b", "crates/a/src/gone.rs", "a/gone", "gone.rs", "data/gone/*.toml", "ank.rs"]
        {
            let found = findings(&format!("`a`\n`{gone}`\n"));
            assert_eq!(found.len(), 1, "{gone}: {found:?}");
            assert!(
                found[0].starts_with(&format!("ARCHITECTURE.md:2: names `{gone}`")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn rejects_a_crate_that_is_not_mentioned() {
        assert_eq!(findings("- a: none\n").len(), 1);
    }

    #[test]
    fn rejects_two_hundred_lines() {
        assert!(findings(&"`a`\n".repeat(199)).is_empty());
        assert_eq!(findings(&"`a`\n".repeat(200)).len(), 1);
    }
}
