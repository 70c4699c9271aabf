//! Code spans and links of a Markdown text, outside code blocks.

/// The lines of a text that are not inside a fenced code block, counted from 1.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_fence = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            in_fence = !in_fence;
            return None;
        }

        (!in_fence).then_some((index + 1, line))
    })
}

/// Text that is read as one: a paragraph or an item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paragraph {
    /// Where it starts, counted from 1.
    pub(crate) line: usize,
    /// Its lines in one, each code span as the word `Code`, each link as its text.
    pub(crate) text: String,
}

/// Paragraphs and items of lists, without headings, tables, comments and code blocks.
pub(crate) fn paragraphs(text: &str) -> Vec<Paragraph> {
    let mut paragraphs: Vec<Paragraph> = Vec::new();
    // The number of the line that would continue the last paragraph.
    let mut continues_at = None;

    for (number, line) in prose(text) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', '|', '<']) {
            continues_at = None;
            continue;
        }

        let item = item_text(trimmed);
        match paragraphs.last_mut() {
            Some(paragraph) if continues_at == Some(number) && item.is_none() => {
                paragraph.text.push(' ');
                paragraph.text.push_str(trimmed);
            }
            _ => {
                let text = item.unwrap_or(trimmed).to_owned();
                paragraphs.push(Paragraph { line: number, text });
            }
        }

        continues_at = Some(number + 1);
    }

    for paragraph in &mut paragraphs {
        paragraph.text = spoken(&paragraph.text);
    }

    paragraphs
}

/// What follows the mark of a list's item.
fn item_text(line: &str) -> Option<&str> {
    if let Some(text) = line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")) {
        return Some(text);
    }

    let (number, text) = line.split_once(". ")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(text)
}

/// The text as it is read aloud: a span of code is one word, which may begin a sentence, and a link or
/// an image is its text.
fn spoken(text: &str) -> String {
    let mut spoken: String =
        pieces(text).map(|(is_code, piece)| if is_code { "Code" } else { piece }).collect();

    // The address of a link has no blanks, so it is gone as part of the word before it.
    while let Some(at) = spoken.find("](") {
        let Some(length) = spoken[at..].find(')') else { break };
        spoken.replace_range(at..=at + length, "");
    }

    spoken.replace(['[', ']'], "")
}

/// The texts between single backticks in a line.
pub(crate) fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    let spans = pieces(line).filter(|(is_code, _)| *is_code).map(|(_, span)| span.trim());
    spans.filter(|span| !span.is_empty())
}

/// Targets of links and images in a line: `[text](target)`, `[name]: target`, `src="target"`,
/// `href="target"`.
pub(crate) fn links(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let visible = without_code_spans(line);
    for (start, end) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
        for (at, _) in visible.match_indices(start) {
            let from = at + start.len();
            let Some(length) = visible[from..].find(end) else { continue };
            targets.push(&line[from..from + length]);
        }
    }

    if let Some((name, target)) = line.split_once("]: ")
        && name.starts_with('[')
        && !name.starts_with("[^")
    {
        targets.push(target);
    }

    // A title may follow the target.
    targets.iter().filter_map(|target| target.split_whitespace().next()).collect()
}

/// The pieces of a text between its backticks, and whether each is a code span. A last backtick
/// without a second one begins none.
fn pieces(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let last = text.matches('`').count();
    text.split('`').enumerate().map(move |(index, piece)| (index % 2 == 1 && index < last, piece))
}

/// The line with spaces in place of code spans. It keeps its length in bytes, so that positions in it
/// are valid in the line too.
fn without_code_spans(line: &str) -> String {
    let blanked = pieces(line)
        .map(|(is_code, piece)| if is_code { " ".repeat(piece.len()) } else { piece.to_owned() });
    blanked.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_leaves_out_fenced_blocks() {
        let lines: Vec<_> = prose("one\n```rust\ntwo\n```\nthree").collect();
        assert_eq!(lines, [(1, "one"), (5, "three")]);
    }

    #[test]
    fn paragraphs_are_joined_and_read_aloud() {
        let text = "# Title\n\nOne `a b`\n[two](x.md).\n- three\n  four\n1. five\n\n| six |\n<!-- seven -->\n";
        let found: Vec<_> = paragraphs(text)
            .into_iter()
            .map(|paragraph| (paragraph.line, paragraph.text))
            .collect();
        let expected = [(3, "One Code two."), (5, "three four"), (7, "five")];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn code_spans_come_in_pairs_of_backticks() {
        assert_eq!(code_spans("a `b c` d `e` f ` g").collect::<Vec<_>>(), ["b c", "e"]);
        assert_eq!(code_spans("`a`").collect::<Vec<_>>(), ["a"]);
        assert_eq!(code_spans("none").count(), 0);
    }

    #[test]
    fn links_of_every_form_are_found_and_code_is_not() {
        let line = "[a](b.md#c) ![d](e.svg \"title\") `[x](y)` <img src=\"f.png\"> <a href=\"g\">";
        assert_eq!(links(line), ["b.md#c", "e.svg", "f.png", "g"]);
        assert_eq!(links("[name]: target.md \"title\""), ["target.md"]);
        assert_eq!(links("[`code`](h.rs) plain"), ["h.rs"]);
    }
}
