//! A crate includes files of its own folder only. A package holds nothing else, so a file outside
//! would be missing from it. A link in the folder serves: Cargo packs what it points to.

use crate::finding::Finding;
use crate::rust_source::product_lines;
use crate::tree::Tree;

const INCLUDES: [&str; 2] = ["include_str!(", "include_bytes!("];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".rs") {
        let Some((_, inside)) = path.strip_prefix("crates/").and_then(|path| path.split_once('/'))
        else {
            continue;
        };

        if !inside.starts_with("src/") {
            continue;
        }

        // How many folders the file is below that of its crate.
        let depth = inside.matches('/').count();
        for (number, line) in text.lines().take(product_lines(path, text)).enumerate() {
            if steps_up(line) > depth {
                let advice = "includes a file outside its crate, which a package would lack: \
                              link the folder into the crate";
                findings.push(Finding::new(path, number + 1, advice));
            }
        }
    }

    findings
}

/// How many folders up the path of an include begins; 0 for any other line.
fn steps_up(line: &str) -> usize {
    let path = INCLUDES.iter().find_map(|include| line.split_once(include)).map(|(_, rest)| rest);
    let mut path = path.and_then(|rest| rest.split_once('"')).map_or("", |(_, path)| path);
    let mut steps = 0;

    while let Some(rest) = path.strip_prefix("../") {
        path = rest;
        steps += 1;
    }

    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn files_of_the_crate_may_be_included() {
        let text = "a(include_str!(\"../README.md\"));\nlet b = include_bytes!(\"b.bin\");\n";
        assert!(lines("crates/a/src/lib.rs", text).is_empty());
        let text = "text: include_str!(concat!(\"../../presets/\", $name)),\n";
        assert!(lines("crates/a/src/below/c.rs", text).is_empty());
        let text = "include_str!(\"../../../Cargo.toml\")\n";
        assert!(lines("crates/a/tests/all.rs", text).is_empty(), "tests need no package");
    }

    #[test]
    fn rejects_includes_from_outside_the_crate() {
        let text = "\nlet a = include_str!(\"../../b.txt\");\n";
        assert_eq!(lines("crates/a/src/lib.rs", text), [2]);
        let text = "text: include_str!(concat!(\"../../../data/\", $name)),\n";
        assert_eq!(lines("crates/a/src/below/c.rs", text), [1]);
    }
}
