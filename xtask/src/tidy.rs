//! Checks that the compiler does not make. Every check reads a [`Tree`] and returns findings; no
//! finding is a pass.

use crate::finding::Finding;
use crate::tree::Tree;
use crate::workspace::Workspace;

mod architecture;
mod blank_lines;
mod commands;
mod crate_edges;
mod determinism;
mod deviations;
mod devices;
mod fuzz_targets;
mod links;
mod packages;
mod phrases;
mod presets;
mod sentences;
mod source_layout;
mod source_words;
mod unsafe_places;

/// Everything that has to be fixed, and what could not be checked.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    pub(crate) notes: Vec<String>,
}

/// Runs every check. `commands` are the names of the commands of `cargo xtask`.
pub(crate) fn check(tree: &Tree, workspace: &Workspace, commands: &[String]) -> Report {
    let mut report = Report::default();
    report.findings.extend(crate_edges::check(tree, workspace));
    report.findings.extend(architecture::check(tree, workspace));

    match tree.text(deviations::PATH) {
        Some(text) => report.findings.extend(deviations::check(tree, text)),
        None => report.notes.push(format!(
            "{} does not exist, so its tests and switches are unchecked",
            deviations::PATH
        )),
    }

    report.findings.extend(source_layout::check(tree));
    report.findings.extend(source_words::check(tree));
    report.findings.extend(determinism::check(tree));
    report.findings.extend(devices::check(tree));
    report.findings.extend(presets::check(tree));
    report.findings.extend(packages::check(tree));
    report.findings.extend(links::check(tree));
    report.findings.extend(sentences::check(tree));
    report.findings.extend(phrases::check(tree));
    report.findings.extend(blank_lines::check(tree));
    report.findings.extend(unsafe_places::check(tree));
    report.findings.extend(fuzz_targets::check(tree));
    report.findings.extend(commands::check(tree, commands));
    report.findings.sort();
    report.findings.dedup();

    report
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_documents_of_this_repository_name_what_exists() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let tree = Tree::read(root).unwrap();
        let mut findings = architecture::check(&tree, &Workspace::read(root).unwrap());

        findings.extend(
            tree.text(deviations::PATH).iter().flat_map(|text| deviations::check(&tree, text)),
        );
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }

    #[test]
    fn every_check_takes_part() {
        let long_sentence = format!("Word{}.\n", " word".repeat(25));
        let dense_function = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(25));
        let tree = Tree::of(&[
            ("ARCHITECTURE.md", "`crates/gone`\n[gone](gone.md)\n`cargo xtask gone`\n"),
            ("DEVIATIONS.md", "`switch: gone`\n"),
            ("crates/a/src/utils.rs", concat!("// FIXME\n// a decision hangs", " on it\n")),
            ("long.md", &long_sentence),
            ("crates/a/src/dense.rs", &dense_function),
            ("crates/a/src/raw.rs", "#![allow(unsafe_code)]\n"),
            ("crates/a/src/out.rs", "const A: &str = include_str!(\"../../b\");\n"),
            ("fuzz/fuzz_targets/bare.rs", ""),
            ("data/presets/a.toml", ""),
        ]);

        let report = check(&tree, &Workspace::of(&[("a", &[])]), &[]);
        let all = report.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let said = [
            "markers",
            "`crates/gone`",
            "gone.md",
            "switch",
            "noun",
            "FIXME",
            "# Source:",
            "unsafe code",
            "outside its crate",
            "bare.rs",
            "xtask gone",
            "depends on",
            "26 words",
            "blank one",
        ];

        for said in said {
            assert!(all.contains(said), "nothing says {said}:\n{all}");
        }

        assert!(report.notes.is_empty());
    }

    #[test]
    fn a_missing_list_of_deviations_is_noted() {
        assert_eq!(check(&Tree::of(&[]), &Workspace::of(&[]), &[]).notes.len(), 1);
    }
}
