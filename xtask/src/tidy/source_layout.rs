//! Files stay short enough to read, and modules are named for what they hold.

use crate::finding::Finding;
use crate::rust_source;
use crate::tree::Tree;

const MAX_LINES: usize = 700;
const MAX_PRODUCT_LINES: usize = 600;

/// Names that say nothing about what is inside.
const NO_NAMES: [&str; 9] =
    ["base", "common", "helper", "helpers", "misc", "util", "utilities", "utils", "mod"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts(".rs")
        .flat_map(|(path, text)| length(path, text).into_iter().chain(names(path, text)))
        .collect()
}

fn length(path: &str, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    let product = rust_source::product_lines(path, text);

    if lines > MAX_LINES {
        let advice = format!("the file has {lines} lines, at most {MAX_LINES}: split it by idea");
        Some(Finding::new(path, lines, advice))
    } else if product > MAX_PRODUCT_LINES {
        let advice = format!(
            "{product} lines without tests, at most {MAX_PRODUCT_LINES}: split the file by idea"
        );
        Some(Finding::new(path, product, advice))
    } else {
        None
    }
}

/// Checks the names of the file, of its folders, and of the modules that it declares.
fn names(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let parts = path.trim_end_matches(".rs").split('/');
    for name in parts.filter(|part| NO_NAMES.contains(part)) {
        let advice = match name {
            "mod" => "modules are 'foo.rs' next to 'foo/': rename 'foo/mod.rs'".to_owned(),
            _ => format!(
                "'{name}' says nothing: name the module for the one idea it holds, with a noun"
            ),
        };

        findings.push(Finding::new(path, 1, advice));
    }

    for (line, number) in text.lines().zip(1..) {
        let Some(name) = inline_module(line).filter(|name| NO_NAMES.contains(name)) else {
            continue;
        };
        let advice = format!(
            "'{name}' says nothing: name the module for the one idea it holds, with a noun"
        );
        findings.push(Finding::new(path, number, advice));
    }

    findings
}

fn inline_module(line: &str) -> Option<&str> {
    let line = line.trim();
    let (before, name) = line.strip_suffix(['{', ';'])?.trim_end().rsplit_once(' ')?;
    let is_visibility = |word: &str| word.starts_with("pub");
    let mut words = before.split(' ').skip_while(|word| is_visibility(word));
    (words.next() == Some("mod") && words.next().is_none()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn short_files_with_nouns_have_no_findings() {
        let text = format!(
            "mod bank;\n{}#[cfg(test)]\nmod tests {{\n{}}}\n",
            "\n".repeat(MAX_PRODUCT_LINES - 1),
            "\n".repeat(97)
        );
        assert!(findings("crates/a/src/block_bank.rs", &text).is_empty());
    }

    #[test]
    fn rejects_long_files() {
        let product = findings("crates/a/src/bank.rs", &"\n".repeat(MAX_PRODUCT_LINES + 1));
        assert!(
            product.len() == 1 && product[0].contains("601 lines without tests"),
            "{product:?}"
        );
        assert!(findings("crates/a/tests/laws.rs", &"\n".repeat(MAX_LINES)).is_empty());

        let all = findings("crates/a/tests/laws.rs", &"\n".repeat(MAX_LINES + 1));
        assert!(
            all.len() == 1 && all[0].starts_with("crates/a/tests/laws.rs:701: the file has"),
            "{all:?}"
        );
    }

    #[test]
    fn rejects_modules_that_are_no_nouns() {
        for path in
            ["crates/a/src/utils.rs", "crates/a/src/helpers/x.rs", "crates/a/tests/laws/common.rs"]
        {
            assert_eq!(findings(path, "").len(), 1, "{path}");
        }

        for line in ["mod utils;", "pub mod common {", "    pub(crate) mod base;"] {
            assert_eq!(findings("crates/a/src/lib.rs", line).len(), 1, "{line}");
        }

        for line in ["mod common_owner;", "use base;", "pub(crate) mod bank {"] {
            assert!(findings("crates/a/src/lib.rs", line).is_empty(), "{line}");
        }
    }

    #[test]
    fn rejects_mod_rs() {
        let found = findings("crates/a/src/bank/mod.rs", "");
        assert!(found.len() == 1 && found[0].contains("'foo.rs' next to 'foo/'"), "{found:?}");
    }
}
