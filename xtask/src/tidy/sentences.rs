//! Sentences of Markdown documents are short enough to read once.

use crate::finding::Finding;
use crate::markdown;
use crate::tree::Tree;

/// The longest sentence, in words. A code span is one word.
const MAX_WORDS: usize = 25;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let documents = tree.texts(".md");
    documents.flat_map(|(path, text)| long_sentences(path, text)).collect()
}

fn long_sentences(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for paragraph in markdown::paragraphs(text) {
        for sentence in sentences(&paragraph.text) {
            let n_words = words(sentence).count();
            if n_words <= MAX_WORDS {
                continue;
            }

            let start: Vec<&str> = words(sentence).take(6).collect();
            let start = start.join(" ");
            let advice = format!(
                "a sentence of {n_words} words, {MAX_WORDS} at most: split it, or make a table: {start} …"
            );
            findings.push(Finding::new(path, paragraph.line, advice));
        }
    }

    findings
}

fn words(sentence: &str) -> impl Iterator<Item = &str> {
    sentence.split_whitespace().filter(|word| word.contains(char::is_alphanumeric))
}

/// The sentences of a paragraph. One ends at a full stop, a question mark, an exclamation mark or a
/// colon, where something follows that can begin the next one. So "Eq. 1" and "i.e. this" are whole.
fn sentences(paragraph: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for (at, end) in paragraph.match_indices(['.', '?', '!', ':']) {
        let after = &paragraph[at + end.len()..];
        // Quotation marks, brackets and emphasis close with the sentence.
        let rest = after.trim_start_matches(['"', ')', '*', '”', ']']);
        let Some(next) = rest.trim_start().chars().next() else { break };
        let begins = next.is_uppercase() || "`\"“([*".contains(next);

        if rest.starts_with(char::is_whitespace) && (end == ":" || begins) {
            let next_start = paragraph.len() - rest.len();
            sentences.push(&paragraph[start..next_start]);
            start = next_start;
        }
    }

    sentences.push(&paragraph[start..]);
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        check(&Tree::of(&[("a.md", text)])).iter().map(ToString::to_string).collect()
    }

    /// A sentence of so many words.
    fn sentence(n_words: usize) -> String {
        format!("Word{} end.", " word".repeat(n_words - 2))
    }

    #[test]
    fn rejects_a_sentence_of_more_words_than_25() {
        assert!(findings(&sentence(25)).is_empty());
        let found = findings(&format!("A short one.\n\n{}\n", sentence(26)));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("a.md:3: a sentence of 26 words, 25 at most"), "{found:?}");
    }

    #[test]
    fn lines_of_a_paragraph_are_one_text() {
        let text = sentence(30).replacen("word word", "word\nword", 1);
        assert_eq!(findings(&text).len(), 1);
    }

    #[test]
    fn items_cells_headings_and_code_are_not_joined() {
        let half = sentence(20);
        let half = half.trim_end_matches('.');
        assert!(findings(&format!("- {half}\n- {half}\n")).is_empty());
        assert!(findings(&format!("# {half}\n{half}\n")).is_empty());
        assert!(findings(&format!("| {half} | {half} |\n")).is_empty());
        assert!(findings(&format!("```\n{}\n```\n", sentence(40))).is_empty());
        assert!(findings(&format!("Code: `{}`.\n", sentence(40))).is_empty());
    }

    #[test]
    fn sentences_end_where_the_next_can_begin() {
        assert_eq!(sentences("By Eq. 1 it is so. `f` is next. Why? (See below.) End.").len(), 5);
        assert_eq!(sentences("Two ways: one and the other").len(), 2);
        assert_eq!(sentences("At 1.5 times, i.e. more, v0.1.2 is x.y").len(), 1);
    }
}
