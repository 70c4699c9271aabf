//! A page of results, as Markdown for people, and as CSV and JSON for programs.

use serde::Serialize;

use crate::table::Table;

/// One page.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sheet {
    /// Name of its files, without an ending.
    pub(crate) name: String,
    pub(crate) title: String,
    /// Paragraphs before the tables.
    pub(crate) introduction: Vec<String>,
    pub(crate) grids: Vec<Grid>,
    /// Paragraphs after the tables.
    pub(crate) notes: Vec<String>,
    /// Every figure, for CSV and JSON.
    pub(crate) figures: Vec<Figure>,
}

/// One table of a page.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Grid {
    pub(crate) caption: String,
    pub(crate) heads: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// One figure of ours, with the paper's.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// The model with its data.
    pub(crate) subject: String,
    /// The row of the table.
    pub(crate) row: String,
    /// What is measured, with its unit.
    pub(crate) quantity: String,
    /// The paper's figure, if it has one.
    pub(crate) paper: Option<f64>,
    /// Ours: mean, least and most over seeds; absent if nothing was run.
    pub(crate) mean: Option<f64>,
    pub(crate) least: Option<f64>,
    pub(crate) most: Option<f64>,
    pub(crate) seeds: usize,
    /// Why runs are missing; absent if none is.
    pub(crate) missing: Option<String>,
}

/// A mean over seeds, with its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mean {
    pub(crate) mean: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) seeds: usize,
}

impl Mean {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() {
            return None;
        }

        Some(Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            seeds: values.len(),
        })
    }

    /// `221.2 (204.0 to 249.3)`; without the range for a single seed.
    pub(crate) fn text(&self, decimals: usize) -> String {
        let Self { mean, least, most, seeds } = *self;
        match seeds {
            1 => format!("{mean:.decimals$}"),
            _ => format!("{mean:.decimals$} ({least:.decimals$} to {most:.decimals$})"),
        }
    }
}

impl Grid {
    pub(crate) fn new(
        caption: impl Into<String>,
        heads: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            caption: caption.into(),
            heads: heads.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    fn markdown(&self) -> String {
        let mut table = Table::new(&self.heads.iter().map(String::as_str).collect::<Vec<_>>());
        self.rows.iter().for_each(|row| table.push(row));

        let caption = if self.caption.is_empty() {
            String::new()
        } else {
            format!("## {}\n\n", self.caption)
        };

        format!("{caption}{table}")
    }
}

impl Sheet {
    pub(crate) fn markdown(&self, command: &str) -> String {
        let mut parts = vec![format!("# {}", self.title)];
        parts.extend(self.introduction.iter().cloned());
        parts.extend(self.grids.iter().map(|grid| grid.markdown().trim_end().to_owned()));
        parts.extend(self.notes.iter().cloned());

        parts.push(format!(
            "Made by `{command}`. Every figure is also in `{0}.csv` and `{0}.json`.",
            self.name
        ));

        parts.join("\n\n") + "\n"
    }

    pub(crate) fn csv(&self) -> String {
        let mut text = "subject,row,quantity,paper,mean,least,most,seeds,missing\n".to_owned();
        let number =
            |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value}"));

        for figure in &self.figures {
            let cells = [
                quoted(&figure.subject),
                quoted(&figure.row),
                quoted(&figure.quantity),
                number(figure.paper),
                number(figure.mean),
                number(figure.least),
                number(figure.most),
                figure.seeds.to_string(),
                quoted(figure.missing.as_deref().unwrap_or_default()),
            ];
            text += &cells.join(",");
            text.push('\n');
        }

        text
    }

    pub(crate) fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        text + "\n"
    }
}

/// A field of CSV (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_says_its_spread_where_there_is_one() {
        assert_eq!(Mean::of([204.0, 249.0, 210.0]).unwrap().text(1), "221.0 (204.0 to 249.0)");
        assert_eq!(Mean::of([2.25]).unwrap().text(2), "2.25");
        assert_eq!(Mean::of([]), None);
    }

    #[test]
    fn fields_of_csv_hold_any_label() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
    }
}
