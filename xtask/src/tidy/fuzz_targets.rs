//! Every fuzz target has a file, a program in `fuzz/Cargo.toml`, a row in `fuzz/README.md`, and a
//! folder of first inputs.

use crate::finding::Finding;
use crate::tree::Tree;

const TARGETS: &str = "fuzz/fuzz_targets/";
const README: &str = "fuzz/README.md";
const MANIFEST: &str = "fuzz/Cargo.toml";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let targets: Vec<&str> = tree.paths().filter_map(target).collect();
    let mut findings = Vec::new();

    for target in &targets {
        let path = format!("{TARGETS}{target}.rs");
        if !tree.holds(&format!("fuzz/corpus/{target}")) {
            findings.push(Finding::new(
                &path,
                1,
                format!("has no first input: add some to fuzz/corpus/{target}"),
            ));
        }

        for (list, names) in [(README, rows(tree)), (MANIFEST, programs(tree))] {
            if !names.iter().any(|(_, name)| name == target) {
                findings.push(Finding::new(&path, 1, format!("is not in {list}: add it there")));
            }
        }
    }

    for (list, names) in [(README, rows(tree)), (MANIFEST, programs(tree))] {
        let gone = names.iter().filter(|(_, name)| !targets.contains(&name.as_str()));
        findings.extend(gone.map(|(line, name)| {
            Finding::new(
                list,
                *line,
                format!("names the target `{name}`, which has no file in {TARGETS}"),
            )
        }));
    }

    findings
}

fn target(path: &str) -> Option<&str> {
    path.strip_prefix(TARGETS)?.strip_suffix(".rs")
}

/// Targets in the table of the README, with their lines.
fn rows(tree: &Tree) -> Vec<(usize, String)> {
    names(tree, README, |line| line.strip_prefix("| `")?.split('`').next())
}

/// Programs of the manifest, with their lines. They are found by their paths, because the package has
/// a `name` too.
fn programs(tree: &Tree) -> Vec<(usize, String)> {
    names(tree, MANIFEST, |line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
}

fn names(tree: &Tree, path: &str, name: impl Fn(&str) -> Option<&str>) -> Vec<(usize, String)> {
    let lines = tree.text(path).unwrap_or_default().lines().zip(1..);
    lines.filter_map(|(line, number)| Some((number, name(line)?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(readme: &str, manifest: &str, more: &[&str]) -> Vec<String> {
        let mut files = vec![(README, readme), (MANIFEST, manifest)];
        files.extend(more.iter().map(|&path| (path, "")));
        check(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    const ROW: &str = "| target | what |\n|---|---|\n| `one` | a file |\n";
    const PROGRAM: &str = "[[bin]]\nname = \"one\"\npath = \"fuzz_targets/one.rs\"\n";

    #[test]
    fn a_target_that_is_everywhere_has_no_findings() {
        let found = findings(ROW, PROGRAM, &["fuzz/fuzz_targets/one.rs", "fuzz/corpus/one/a"]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn rejects_a_target_that_a_list_lacks() {
        let found = findings("", "", &["fuzz/fuzz_targets/one.rs"]);
        assert_eq!(found.len(), 3, "{found:?}");

        for missing in ["fuzz/README.md", "fuzz/Cargo.toml", "fuzz/corpus/one"] {
            assert!(
                found.iter().any(|one| one.contains(missing)),
                "nothing says {missing}: {found:?}"
            );
        }
    }

    #[test]
    fn rejects_a_name_without_a_target() {
        let found = findings(ROW, PROGRAM, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|one| one.contains("names the target `one`")), "{found:?}");
    }
}
