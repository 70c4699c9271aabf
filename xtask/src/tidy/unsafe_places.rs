//! `ARCHITECTURE.md` names exactly the files that hold unsafe code.
//!
//! The workspace denies unsafe code, so a file that holds some allows it with an attribute.

use crate::finding::Finding;
use crate::markdown;
use crate::rust_source::{is_test_file, lines_with_word};
use crate::tree::Tree;

use super::architecture::PATH;

/// Start of the line that lists the files.
const LIST: &str = "- **Invariant:** unsafe code is in";
/// The lint that such a file allows. A file that forbids it does not count.
const LINT: &str = "unsafe_code";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(PATH) else { return Vec::new() };
    let places: Vec<(&str, usize)> = tree.texts(".rs").filter_map(place).collect();
    let Some((number, _)) = markdown::prose(text).find(|(_, line)| line.starts_with(LIST)) else {
        let none = places.is_empty();
        let advice = format!(
            "has no line that starts with \"{LIST}\": list the files that hold unsafe code"
        );
        return if none { Vec::new() } else { vec![Finding::new(PATH, 1, advice)] };
    };

    let named: Vec<&str> = item(text, number)
        .flat_map(markdown::code_spans)
        .filter(|span| span.ends_with(".rs"))
        .collect();
    let unnamed = places.iter().filter(|(path, _)| !named.contains(path)).map(|&(path, line)| {
        Finding::new(
            path,
            line,
            format!("allows unsafe code: name the file in {PATH}, line {number}, with the reason"),
        )
    });

    let is_place = |path: &str| places.iter().any(|(place, _)| *place == path);
    let gone = named.iter().filter(|path| !is_place(path)).map(|path| {
        Finding::new(
            PATH,
            number,
            format!("names `{path}`, which holds no unsafe code: remove it from the list"),
        )
    });

    unnamed.chain(gone).collect()
}

/// The lines of the list item that starts at line `number`: the first, and those indented below it.
fn item(text: &str, number: usize) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().skip(number - 1);
    lines.next().into_iter().chain(lines.take_while(|line| line.starts_with("  ")))
}

/// The file and the first line in it that allows unsafe code, if one does.
fn place<'t>((path, text): (&'t str, &'t str)) -> Option<(&'t str, usize)> {
    if is_test_file(path) || path.starts_with("fuzz/") {
        return None;
    }
    let allows = |number: &usize| text.lines().nth(number - 1).is_some_and(is_allowance);
    lines_with_word(text, LINT).into_iter().find(allows).map(|line| (path, line))
}

/// Whether a line with the lint's name is part of an attribute that allows it. The attribute may have
/// several lines.
fn is_allowance(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(LINT) || (line.starts_with('#') && line.contains("allow("))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &str = "#![allow(unsafe_code, reason = \"x\")]\n";

    fn findings(list: &str, sources: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(&[&[(PATH, list)], sources].concat());
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn places_that_are_named_have_no_findings() {
        let list = "- **Invariant:** unsafe code is in this file only.\n  `crates/a/src/b.rs` calls C.\n- `c.rs`\n";
        let sources = [
            ("crates/a/src/b.rs", "//! x\n#[allow(\n    unsafe_code,\n    reason = \"x\"\n)]\n"),
            ("crates/a/src/lib.rs", "#![forbid(unsafe_code)]\n// unsafe_code\n"),
            ("crates/a/tests/c.rs", ALLOWED),
        ];
        assert!(findings(list, &sources).is_empty(), "{:?}", findings(list, &sources));
        assert!(findings("nothing\n", &[]).is_empty());
    }

    #[test]
    fn rejects_a_place_that_is_not_named_and_one_that_is_gone() {
        let list = "- **Invariant:** unsafe code is in `crates/a/src/gone.rs`.\n";
        let found = findings(list, &[("crates/a/src/b.rs", ALLOWED)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("crates/a/src/b.rs:1: allows unsafe code"), "{found:?}");

        assert!(
            found[1].starts_with("ARCHITECTURE.md:1: names `crates/a/src/gone.rs`"),
            "{found:?}"
        );
    }

    #[test]
    fn rejects_a_document_without_the_list() {
        assert_eq!(findings("nothing\n", &[("crates/a/src/b.rs", ALLOWED)]).len(), 1);
    }
}
