//! Long functions have blank lines between their paragraphs.

use crate::finding::Finding;
use crate::tree::Tree;

/// Functions with fewer lines need no blank line.
const MIN_LINES: usize = 25;

/// A body of fewer statements, such as a `match` alone, has no paragraphs.
const MIN_STATEMENTS: usize = 4;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let sources = tree.texts(".rs");
    sources.flat_map(|(path, text)| dense_functions(path, text)).collect()
}

fn dense_functions(path: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(body) = body(&lines, index) else { continue };
        let is_dense = body.iter().all(|line| !line.trim().is_empty());

        if body.len() >= MIN_LINES && is_dense && statements(line, body) >= MIN_STATEMENTS {
            let advice = format!(
                "a function of {} lines without a blank one: put one between its paragraphs",
                body.len()
            );
            findings.push(Finding::new(path, index + 1, advice));
        }
    }

    findings
}

/// The lines between the braces of the function whose header begins in this line. Formatted code
/// closes a function at the depth at which it begins.
fn body<'t>(lines: &'t [&'t str], header: usize) -> Option<&'t [&'t str]> {
    let line = lines[header];
    if !is_header(line) {
        return None;
    }

    let depth = &line[..depth(line)];
    let is_at_depth = |line: &&str, end: &str| line.strip_prefix(depth) == Some(end);
    let opens = |line: &&str| line.trim_end().ends_with('{');
    let first = (header..lines.len()).find(|&at| opens(&lines[at]) || lines[at].ends_with(';'))?;
    if !opens(&lines[first]) {
        return None;
    }

    let length = lines[first + 1..].iter().position(|line| is_at_depth(line, "}"))?;
    Some(&lines[first + 1..first + 1 + length])
}

fn is_header(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let is_qualifier = |word: &&str| {
        word.starts_with("pub")
            || matches!(*word, "const" | "unsafe" | "async" | "extern" | "\"C\"")
    };

    words.find(|word| !is_qualifier(word)) == Some("fn") && words.next().is_some()
}

fn depth(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Lines of the body at its own depth that begin a statement.
fn statements(header: &str, body: &[&str]) -> usize {
    let depth_of_body = depth(header) + 4;
    let begins = |line: &&&str| {
        let text = line.trim_start();
        depth(line) == depth_of_body
            && !text.starts_with("//")
            && !text.starts_with(['}', ')', ']', '.'])
    };

    body.iter().filter(begins).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Tree::of(&[("crates/a/src/lib.rs", text)])).len()
    }

    #[test]
    fn rejects_a_long_function_without_a_blank_line() {
        let body = "    let a = 1;\n".repeat(MIN_LINES);
        assert_eq!(findings(&format!("pub(crate) fn a(\n    b: u8,\n) -> u8 {{\n{body}}}\n")), 1);
        assert_eq!(findings(&format!("fn a() {{\n{body}\n    let b = 2;\n}}\n")), 0);
    }

    #[test]
    fn short_functions_and_single_expressions_need_none() {
        let body = "    let a = 1;\n".repeat(MIN_LINES - 1);
        assert_eq!(findings(&format!("fn a() {{\n{body}}}\n")), 0);
        let arms = "        1 => 2,\n".repeat(2 * MIN_LINES);
        assert_eq!(findings(&format!("fn a() {{\n    match b {{\n{arms}    }}\n}}\n")), 0);
    }

    #[test]
    fn methods_end_at_their_own_depth() {
        let dense = "        let a = 1;\n".repeat(MIN_LINES);
        let text = format!("impl A {{\n    fn a(&self) {{\n{dense}    }}\n\n    fn b();\n}}\n");
        assert_eq!(findings(&text), 1);
    }
}
