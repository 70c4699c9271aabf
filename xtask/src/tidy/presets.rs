//! Every preset starts with a header that gives the source of its values, its cost, what to expect
//! and the command that runs it.

use crate::finding::Finding;
use crate::tree::Tree;

const FOLDER: &str = "data/presets/";

const HEADER: [&str; 4] = ["# Source:", "# Cost:", "# Expect:", "# Command:"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".toml").filter(|(path, _)| path.starts_with(FOLDER)) {
        for entry in HEADER.iter().filter(|entry| !has_entry(text, entry)) {
            let advice = format!("the comment at the top has no '{entry} ...' with a text: add it");
            findings.push(Finding::new(path, 1, advice));
        }
    }

    findings
}

/// Whether the comment at the top has this entry with a text, there or on the next line.
fn has_entry(text: &str, entry: &str) -> bool {
    let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
    header.iter().enumerate().any(|(index, line)| {
        let Some(said) = line.strip_prefix(entry) else { return false };
        let follows = header.get(index + 1).is_some_and(|next| next.starts_with("#  "));
        !said.trim().is_empty() || follows
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "# A preset.\n# Source: Table 1\n# Cost: seconds\n# Expect:\n#   little\n# Command: dlt train\n\
                         schema = 1\n";

    fn findings(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("data/presets/a.toml", text), ("data/other.toml", "")]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_whole_header_has_no_findings() {
        assert!(findings(WHOLE).is_empty(), "{:?}", findings(WHOLE));
    }

    #[test]
    fn rejects_a_header_that_lacks_an_entry() {
        for entry in HEADER {
            let found = findings(&WHOLE.replace(entry, "# Other:"));
            assert_eq!(found.len(), 1, "{entry}: {found:?}");
            assert!(found[0].contains(entry), "{found:?}");
        }
    }

    #[test]
    fn rejects_entries_that_say_nothing_or_come_late() {
        assert_eq!(findings(&WHOLE.replace(" Table 1", " ")).len(), 1);
        assert_eq!(findings(&format!("schema = 1\n{WHOLE}")).len(), HEADER.len());
    }
}
