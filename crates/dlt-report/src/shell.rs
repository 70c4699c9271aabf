//! Command lines that can be pasted into a shell.

/// A word with quotes, if a shell would not read it as one word without them.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }

    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_split_or_read_otherwise_is_quoted() {
        assert_eq!(
            ["a/b-1", "", "a b", "it's"].map(quoted),
            ["a/b-1", "''", "'a b'", r"'it'\''s'"]
        );
    }
}
