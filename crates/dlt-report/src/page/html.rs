//! Markup in which everything from outside is text.

use serde_json::Value;

/// A piece of a page. Only literals of this crate enter it as markup; everything else is escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A piece that is a text.
    pub(super) fn of(text: &str) -> Self {
        let mut html = Self::new();
        html.text(text);
        html
    }

    /// Adds markup.
    pub(super) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text. It is also safe inside an attribute in quotes.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Characters that HTML does not allow, and those that would reverse the direction
                // of the text around them.
                '\0'..='\u{8}'
                | '\u{b}'..='\u{1f}'
                | '\u{7f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' => self.0.push('\u{fffd}'),
                letter => self.0.push(letter),
            }
        }

        self
    }

    /// Adds text between two pieces of markup.
    pub(super) fn tagged(
        &mut self,
        open: &'static str,
        text: &str,
        close: &'static str,
    ) -> &mut Self {
        self.markup(open).text(text).markup(close)
    }

    /// Adds another piece.
    pub(super) fn add(&mut self, piece: &Self) -> &mut Self {
        self.0.push_str(&piece.0);
        self
    }

    /// Adds a drawing of this crate, in which texts are already escaped.
    pub(super) fn drawing(&mut self, svg: &str) -> &mut Self {
        self.0.push_str(svg);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// JSON for the inside of a script element. It has no `<`, so no element begins or ends in it, and
/// neither of the two line ends that JSON allows in strings and scripts do not.
pub(super) fn embedded(value: &Value) -> String {
    let json = value.to_string();
    // These characters occur only in strings, where JSON allows any character as a number.
    let mut text = String::with_capacity(json.len());

    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text += &format!("\\u{:04x}", u32::from(letter))
            }
            letter => text.push(letter),
        }
    }

    text
}

/// Kind of a column, which decides its alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Words, from the left.
    Words,
    /// Numbers, from the right, digit below digit.
    Numbers,
}

/// A table of a page, with a head.
#[derive(Debug)]
pub(super) struct HtmlTable {
    columns: Vec<(String, Column)>,
    rows: Vec<Vec<Html>>,
}

impl HtmlTable {
    pub(super) fn new(columns: &[(&str, Column)]) -> Self {
        Self {
            columns: columns.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect(),
            rows: Vec::new(),
        }
    }

    /// A first column of words without a name, and columns of numbers.
    pub(super) fn of_numbers(columns: &[&str]) -> Self {
        let mut table = Self::new(&[("", Column::Words)]);
        table.columns.extend(columns.iter().map(|&name| (name.to_owned(), Column::Numbers)));
        table
    }

    pub(super) fn column(&mut self, name: &str, kind: Column) {
        self.columns.push((name.to_owned(), kind));
    }

    pub(super) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| Html::of(cell.as_ref())).collect());
    }

    pub(super) fn row_of(&mut self, cells: Vec<Html>) {
        self.rows.push(cells);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as HTML. Its caption is for screen readers.
    pub(super) fn html(&self, caption: &str) -> Html {
        let mut html = Html::new();
        html.markup("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"")
            .text(caption)
            .markup("\"><table>");
        html.tagged("<caption class=\"unseen\">", caption, "</caption><thead><tr>");

        for (name, kind) in &self.columns {
            let open = if *kind == Column::Numbers {
                "<th scope=\"col\" class=\"n\">"
            } else {
                "<th scope=\"col\">"
            };

            html.tagged(open, name, "</th>");
        }

        html.markup("</tr></thead><tbody>");
        for row in &self.rows {
            html.markup("<tr>");
            for (index, (cell, (_, kind))) in row.iter().zip(&self.columns).enumerate() {
                let (open, close) = match (index, kind) {
                    (0, Column::Words) => ("<th scope=\"row\">", "</th>"),
                    (0, Column::Numbers) => ("<th scope=\"row\" class=\"n\">", "</th>"),
                    (_, Column::Words) => ("<td>", "</td>"),
                    (_, Column::Numbers) => ("<td class=\"n\">", "</td>"),
                };

                html.markup(open).add(cell).markup(close);
            }

            html.markup("</tr>");
        }

        html.markup("</tbody></table></div>");
        html
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_never_becomes_markup() {
        let html =
            Html::of("</title><script>alert('x')</script>&\" onload=\u{202e}\u{1b}").into_string();
        assert_eq!(
            html,
            "&lt;/title&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot; \
             onload=\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn embedded_json_cannot_end_its_element_and_says_the_same() {
        let value = json!({ "</script>": "<!-- \u{2028}\u{2029} ]]> & \\", "n": [1, null] });
        let text = embedded(&value);
        assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
