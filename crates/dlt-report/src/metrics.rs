//! The metrics of a run, as far as they are written.

use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use dlt_spec::record::{DecisionRow, EvaluationRow, Lines, MetricRow, RECORD_SCHEMA, StepRow};

use crate::error::{ReportError, Result};

/// Follows the metrics file of a run that may be under way. Each call reads what was written since
/// the previous one. A last line without a line end is not read yet.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    offset: u64,
    lines: usize,
}

impl Follower {
    /// Begins at the first line.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), offset: 0, lines: 0 }
    }

    /// The new rows. `None` if the file has become shorter, because a resumed run cuts it back: the
    /// caller then has to drop its rows and call again, which reads from the first line.
    ///
    /// # Errors
    /// [`ReportError::Io`] if the file cannot be read, [`ReportError::Format`] if a whole line is
    /// not a row.
    pub fn rows(&mut self) -> Result<Option<Vec<MetricRow>>> {
        let mut file = dlt_spec::file::regular(&self.path, u64::MAX)
            .map_err(ReportError::io("read", &self.path))?;
        let length = file.metadata().map_err(ReportError::io("read", &self.path))?.len();
        if length < self.offset {
            self.offset = 0;
            self.lines = 0;
            return Ok(None);
        }

        file.seek(SeekFrom::Start(self.offset)).map_err(ReportError::io("read", &self.path))?;
        let mut rows = Vec::new();

        for line in Lines::new(BufReader::new(file)) {
            let line = line.map_err(|error| self.unreadable(error))?;
            if !line.is_whole {
                break;
            }

            // Counted before the row is read, so that an error names this line.
            self.offset += line.bytes as u64;
            self.lines += 1;
            rows.push(self.row(line.text.trim_end())?);
        }

        Ok(Some(rows))
    }

    fn unreadable(&self, error: io::Error) -> ReportError {
        match error.kind() {
            io::ErrorKind::InvalidData => ReportError::format(&self.path, error),
            _ => ReportError::io("read", &self.path)(error),
        }
    }

    fn row(&self, line: &str) -> Result<MetricRow> {
        let refuse = |reason: String| {
            ReportError::format(&self.path, format!("line {}: {reason}", self.lines))
        };

        match MetricRow::from_line(line) {
            Ok(MetricRow::Header(header)) if header.schema != RECORD_SCHEMA => {
                Err(refuse(format!("expected layout {RECORD_SCHEMA}, got {}", header.schema)))
            }
            Ok(row) => Ok(row),
            Err(error) => Err(refuse(error.to_string())),
        }
    }
}

/// All rows of a run so far, by kind and in order.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Training steps.
    pub steps: Vec<StepRow>,
    /// Evaluations.
    pub evaluations: Vec<EvaluationRow>,
    /// Decisions with their rewards.
    pub decisions: Vec<DecisionRow>,
}

impl Metrics {
    /// Reads a metrics file.
    ///
    /// # Errors
    /// Those of [`Follower::rows`].
    pub fn read(path: &Path) -> Result<Self> {
        let mut metrics = Self::default();
        metrics.extend(Follower::new(path).rows()?.unwrap_or_default());
        Ok(metrics)
    }

    /// Adds further rows.
    pub fn extend(&mut self, rows: impl IntoIterator<Item = MetricRow>) {
        for row in rows {
            match row {
                MetricRow::Header(_) => {}
                MetricRow::Step(row) => self.steps.push(row),
                MetricRow::Evaluation(row) => self.evaluations.push(row),
                MetricRow::Decision(row) => self.decisions.push(row),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    const HEADER: &str = r#"{"kind":"header","schema":1}"#;
    const EVALUATION: &str = concat!(
        r#"{"kind":"evaluation","step":3,"split":"validation","#,
        r#""loss":2.0,"perplexity":7.5,"tokens":9,"elapsed_ms":1.0}"#
    );

    #[test]
    fn what_is_written_between_two_looks_comes_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut file = File::create(&path).unwrap();
        let mut follower = Follower::new(&path);

        writeln!(file, "{HEADER}").unwrap();
        write!(file, "{}", &EVALUATION[..20]).unwrap();
        assert_eq!(follower.rows().unwrap().unwrap().len(), 1, "a part of a line is no row yet");
        writeln!(file, "{}", &EVALUATION[20..]).unwrap();

        let rows = follower.rows().unwrap().unwrap();
        assert!(matches!(&rows[..], [MetricRow::Evaluation(row)] if row.step == 3));
        assert!(follower.rows().unwrap().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_was_cut_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, format!("{HEADER}\n{EVALUATION}\n")).unwrap();

        let mut follower = Follower::new(&path);
        assert_eq!(follower.rows().unwrap().unwrap().len(), 2);
        std::fs::write(&path, format!("{HEADER}\n")).unwrap();
        assert!(follower.rows().unwrap().is_none());
        assert_eq!(follower.rows().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn rejects_a_line_that_is_no_row_and_another_layout() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, " ".repeat(2 << 20)).unwrap();

        let error = Metrics::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 1: expected a line of at most"), "{error}");
        std::fs::write(&path, format!("{HEADER}\nnonsense\n")).unwrap();

        let error = Metrics::read(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl: line 2: "), "{error}");
        std::fs::write(&path, "{\"kind\":\"header\",\"schema\":9}\n").unwrap();

        let error = Metrics::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 1: expected layout 1, got 9"), "{error}");
    }
}
