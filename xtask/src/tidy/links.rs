//! Relative links in Markdown files lead to files of the repository.

use crate::finding::Finding;
use crate::markdown;
use crate::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".md") {
        for (number, line) in markdown::prose(text) {
            for target in markdown::links(line).into_iter().filter(|target| is_relative(target)) {
                if !leads_somewhere(tree, path, target) {
                    let advice = format!(
                        "links to {target}, which is not in the repository: fix or remove the link"
                    );
                    findings.push(Finding::new(path, number, advice));
                }
            }
        }
    }

    findings
}

fn is_relative(target: &str) -> bool {
    !target.starts_with('#') && !target.contains("://") && !target.starts_with("mailto:")
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let target = target.split('#').next().unwrap_or(target).trim_matches(['<', '>']);
    if target.starts_with('/') {
        return false;
    }

    let mut folders: Vec<&str> = from.split('/').collect();
    folders.pop();

    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if folders.pop().is_none() {
                    return false;
                }
            }
            _ => folders.push(part),
        }
    }

    tree.holds(&folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", ""), ("src/lib.rs", "")]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_have_no_findings() {
        let text = "[a](b.md) [b](./b.md#part) [c](../src/lib.rs) [d](..) [e](#here) [f](https://example.org/x)\n\
                    ```\n[g](gone.md)\n```\n";
        assert!(findings(text).is_empty(), "{:?}", findings(text));
    }

    #[test]
    fn rejects_links_that_lead_nowhere() {
        for target in ["gone.md", "../b.md", "../../docs/b.md", "/docs/b.md", "b.md/c"] {
            let found = findings(&format!("\n[x]({target})\n"));
            assert_eq!(found.len(), 1, "{target}: {found:?}");
            assert!(found[0].starts_with(&format!("docs/a.md:2: links to {target},")), "{found:?}");
        }
    }
}
