//! Compares the closed list of crate edges in `ARCHITECTURE.md` with the manifests. An edge says that
//! one crate may depend on another.
//!
//! The list is between two markers, with one line per crate, and `none` for a crate without edges:
//!
//! ```text
//! <!-- crate-edges -->
//! - dlt-state: none
//! - dlt-agent: dlt-spec, dlt-state
//! <!-- /crate-edges -->
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::architecture::PATH;
use crate::finding::Finding;
use crate::tree::Tree;
use crate::workspace::Workspace;

const OPENING: &str = "<!-- crate-edges -->";
const CLOSING: &str = "<!-- /crate-edges -->";

/// The edges of one crate in the list, and the line number.
struct Declared {
    line: usize,
    edges: BTreeSet<String>,
}

/// Finds both differences: edges that only the manifests have, and edges that only the list has.
pub(crate) fn check(tree: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let Some(text) = tree.text(PATH) else {
        return vec![Finding::new(
            PATH,
            1,
            "does not exist: write it, with the list of crate edges",
        )];
    };

    let (list, mut findings) = match declared(text) {
        Ok(found) => found,
        Err(finding) => return vec![finding],
    };

    for (name, edges) in &workspace.edges {
        let Some(declared) = list.get(name) else {
            let advice =
                format!("{name} is not in the list of crate edges: add '- {name}: ...' to {PATH}");
            findings.push(in_manifest(tree, name, "name", advice));
            continue;
        };

        for edge in edges.difference(&declared.edges) {
            let advice = format!(
                "{name} depends on {edge}, but the closed list of crate edges in {PATH} has no such edge: \
                 remove the dependency, or explain the edge there and add it"
            );
            findings.push(in_manifest(tree, name, edge, advice));
        }

        for edge in declared.edges.difference(edges) {
            let advice = format!("{name} does not depend on {edge}: remove the edge from the list");
            findings.push(Finding::new(PATH, declared.line, advice));
        }
    }

    for (name, declared) in list.iter().filter(|(name, _)| !workspace.edges.contains_key(*name)) {
        let advice = format!(
            "{name} is no crate of the workspace: remove its line from the list of crate edges"
        );
        findings.push(Finding::new(PATH, declared.line, advice));
    }

    findings
}

/// The list by crate, and findings for the lines that cannot be parsed.
fn declared(text: &str) -> Result<(BTreeMap<String, Declared>, Vec<Finding>), Finding> {
    let at = |marker| text.lines().position(|line| line.trim() == marker);
    let (Some(opening), Some(closing)) = (at(OPENING), at(CLOSING)) else {
        return Err(Finding::new(
            PATH,
            1,
            format!("lacks the markers {OPENING} and {CLOSING}, each on its own line"),
        ));
    };

    let mut list = BTreeMap::new();
    let mut findings = Vec::new();

    for (line, number) in text.lines().zip(1..).take(closing).skip(opening + 1) {
        if line.trim().is_empty() {
            continue;
        }

        let Some((name, edges)) = entry(line) else {
            findings.push(Finding::new(
                PATH,
                number,
                "is not '- crate: crate, crate' or '- crate: none'",
            ));
            continue;
        };

        if list.insert(name.clone(), Declared { line: number, edges }).is_some() {
            findings.push(Finding::new(PATH, number, format!("{name} has two lines: merge them")));
        }
    }

    Ok((list, findings))
}

fn entry(line: &str) -> Option<(String, BTreeSet<String>)> {
    let line = line.replace('`', "");
    let (name, edges) = line.strip_prefix("- ")?.split_once(':')?;
    let edges = edges.trim();
    let edges: BTreeSet<String> = match edges {
        "none" => BTreeSet::new(),
        _ => edges.split(',').map(|edge| edge.trim().to_owned()).collect(),
    };

    let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
    (is_name(name) && edges.iter().all(|edge| is_name(edge))).then(|| (name.to_owned(), edges))
}

/// A finding at the line of a crate's manifest that starts with `key`.
fn in_manifest(tree: &Tree, name: &str, key: &str, advice: String) -> Finding {
    let in_folder = format!("crates/{name}/Cargo.toml");
    let path = if tree.holds(&in_folder) { in_folder } else { format!("{name}/Cargo.toml") };
    let line =
        tree.text(&path).and_then(|text| text.lines().position(|line| line.starts_with(key)));
    Finding::new(&path, line.map_or(1, |index| index + 1), advice)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn findings(list: &str, edges: &[(&str, &[&str])]) -> Vec<String> {
        let text = format!("# Architecture\n{OPENING}\n{list}\n{CLOSING}\n");
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\n";
        let tree = Tree::of(&[(PATH, &text), ("crates/a/Cargo.toml", manifest)]);
        check(&tree, &Workspace::of(edges)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_crates_depend_on_each_other_as_the_closed_list_says() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let workspace = Workspace::read(root).unwrap();
        assert!(workspace.edges.len() > 1, "cargo metadata found no crates");
        let found = check(&Tree::read(root).unwrap(), &workspace);
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn a_list_that_agrees_has_no_findings() {
        let edges: [(&str, &[&str]); 3] = [("a", &["b", "c"]), ("b", &[]), ("c", &["b"])];
        assert!(findings("- `a`: b, c\n\n- b: none\n- c: `b`", &edges).is_empty());
    }

    #[test]
    fn rejects_an_edge_that_is_not_in_the_list() {
        let found = findings("- a: none\n- b: none", &[("a", &["b"]), ("b", &[])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/a/Cargo.toml:4: a depends on b,"), "{found:?}");
    }

    #[test]
    fn rejects_an_edge_that_no_longer_exists() {
        let found = findings("- a: b\n- b: none", &[("a", &[]), ("b", &[])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("ARCHITECTURE.md:3: a does not depend on b"), "{found:?}");
    }

    #[test]
    fn rejects_a_crate_without_a_line_and_a_line_without_a_crate() {
        let found = findings("- c: none", &[("a", &[])]);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("crates/a/Cargo.toml:2: a is not in the list"), "{found:?}");
        assert!(found[1].starts_with("ARCHITECTURE.md:3: c is no crate"), "{found:?}");
    }

    #[test]
    fn rejects_lines_of_another_form() {
        for line in ["a: none", "- a none", "- a:", "- a: b c", "- a: b,,c", "- : b"] {
            let found = findings(line, &[]);
            assert!(found.len() == 1 && found[0].contains("is not '- crate:"), "{line}: {found:?}");
        }
        assert!(findings("- a: none\n- a: none", &[("a", &[])])[0].contains("two lines"));
    }

    #[test]
    fn rejects_a_document_without_the_list() {
        for tree in
            [Tree::of(&[]), Tree::of(&[(PATH, OPENING)]), Tree::of(&[(PATH, "- a: none\n")])]
        {
            assert_eq!(check(&tree, &Workspace::of(&[("a", &[])])).len(), 1, "{tree:?}");
        }
    }
}
