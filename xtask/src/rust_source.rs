//! Distinguishes product code from tests in Rust files.

/// Whether the whole file is test or benchmark code.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.contains("/benches/")
        || path.ends_with("/tests.rs")
}

/// Number of lines before the file's test module, which is at the end by convention.
pub(crate) fn product_lines(path: &str, text: &str) -> usize {
    if is_test_file(path) {
        return 0;
    }

    let lines: Vec<&str> = text.lines().collect();
    let opens_tests =
        |line: &&str| line.trim_start().starts_with("mod ") && line.trim_end().ends_with('{');

    (0..lines.len())
        .filter(|&index| lines[index].starts_with("#[cfg(test)]"))
        .find(|&index| {
            lines[index + 1..].iter().find(|line| !line.starts_with("#[")).is_some_and(opens_tests)
        })
        .unwrap_or(lines.len())
}

/// Whether `text` declares a function of this name.
pub(crate) fn declares_function(text: &str, name: &str) -> bool {
    let declaration = format!("fn {name}");
    text.match_indices(&declaration).any(|(at, _)| {
        matches!(text[at + declaration.len()..].chars().next(), Some('(' | '<'))
            && !text[..at].ends_with(is_word)
    })
}

/// Numbers of the lines that contain `word` as a separate word, counted from 1. An end of `word` that
/// is no letter matches anywhere.
pub(crate) fn lines_with_word(text: &str, word: &str) -> Vec<usize> {
    text.lines()
        .zip(1..)
        .filter(|(line, _)| has_word(line, word))
        .map(|(_, number)| number)
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let continues_before = word.starts_with(is_word) && line[..at].ends_with(is_word);
        let continues_after =
            word.ends_with(is_word) && line[at + word.len()..].starts_with(is_word);
        !continues_before && !continues_after
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_lines_end_where_the_test_module_starts() {
        let text =
            "fn a() {}\n#[cfg(test)]\nimpl B {}\n\n#[cfg(test)]\n#[path = \"x\"]\nmod tests {\n}\n";
        assert_eq!(product_lines("crates/a/src/lib.rs", text), 4);
        assert_eq!(product_lines("crates/a/src/lib.rs", "fn a() {}\nfn b() {}\n"), 2);
        assert_eq!(product_lines("crates/a/tests/laws.rs", text), 0);
    }

    #[test]
    fn a_function_is_declared_by_its_whole_name() {
        let text = "#[test]\nfn law_one() {}\n    pub fn generic<T>() {}\n";
        assert!(declares_function(text, "law_one"));
        assert!(declares_function(text, "generic"));
        assert!(!declares_function(text, "law"));
        assert!(!declares_function(text, "one"));
    }

    #[test]
    fn only_separate_words_match() {
        assert_eq!(lines_with_word("MASTODON\nTOD_S TODS\n// TOD: x", "TOD"), [3]);
        assert_eq!(lines_with_word("my_stop!()\nstop!()", "stop!("), [2]);
        assert_eq!(lines_with_word("#[skip]\n#[skip = \"x\"]", "#[skip"), [1, 2]);
    }
}
