//! A table in Markdown.

use std::fmt;

/// Heads, and rows with as many cells.
#[derive(Clone, Debug)]
pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(heads: &[&str]) -> Self {
        Self { heads: heads.iter().map(|&head| head.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells stay empty.
    pub fn push(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.heads.len(), String::new());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_row(out, &self.heads)?;
        writeln!(out, "|{}", "---|".repeat(self.heads.len()))?;
        self.rows.iter().try_for_each(|row| write_row(out, row))
    }
}

fn write_row(out: &mut fmt::Formatter<'_>, cells: &[String]) -> fmt::Result {
    for cell in cells {
        // A bar or an end of line would break the row.
        write!(out, "| {} ", cell.replace('|', "\\|").replace('\n', " "))?;
    }
    writeln!(out, "|")
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();

    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }

    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_columns_whatever_a_cell_holds() {
        let mut table = Table::new(&["a", "b"]);
        table.push(["1|2", "x\ny"]);
        table.push(["3"]);
        assert_eq!(table.to_string(), "| a | b |\n|---|---|\n| 1\\|2 | x y |\n| 3 |  |\n");
    }

    #[test]
    fn thousands_are_grouped() {
        let texts = [0, 999, 1000, 50_257, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "50,257", "1,234,567"]);
    }
}
