//! Tables of text: the first column is aligned to the left, the others to the right.

/// Space between two columns.
const GAP: usize = 3;
/// Space before the first column.
const INDENT: &str = "  ";

/// Rows of cells; the titles, if any, are the first row.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these titles; an empty slice for none.
    pub(crate) fn new(titles: &[&str]) -> Self {
        let mut table = Self { rows: Vec::new() };
        if !titles.is_empty() {
            table.rows.push(titles.iter().map(ToString::to_string).collect());
        }
        table
    }

    /// Adds a row; it may be shorter than the others.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table as lines, each with a line feed at its end.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let length = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(length).max().unwrap_or(0)
            })
            .collect();

        let mut text = String::new();
        for row in &self.rows {
            let mut line = INDENT.to_owned();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => line.push_str(&format!("{cell:<width$}")),
                    _ => line.push_str(&format!("{:GAP$}{cell:>width$}", "")),
                }
            }

            text.push_str(line.trim_end());
            text.push('\n');
        }

        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["", "mean", "end"]);
        table.row(["layers", "3.10", "4"]);
        table.row(["é", "1"]);
        let lines = ["           mean   end", "  layers   3.10     4", "  é           1"];
        assert_eq!(table.render().lines().collect::<Vec<_>>(), lines);
    }
}
