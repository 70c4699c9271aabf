//! Correlations in a file of the run folder, for later use without the model.

use std::path::Path;

use dlt_spec::durable;
use serde::{Deserialize, Serialize};

use super::Correlations;
use crate::error::{ReportError, Result};

/// File of a run folder. JSON: `format`, `version`, `layers`, and `values` row after row.
pub const CORRELATIONS_FILE: &str = "correlations.json";

const FORMAT: &str = "dlt-correlations";
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    format: &'static str,
    version: u32,
    #[serde(flatten)]
    correlations: &'a Correlations,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    format: String,
    version: u32,
    layers: Vec<usize>,
    values: Vec<f64>,
}

impl Correlations {
    /// Writes them into a run folder.
    ///
    /// # Errors
    /// [`ReportError::Io`] if the file cannot be written.
    pub fn save(&self, run: &Path) -> Result<()> {
        let path = run.join(CORRELATIONS_FILE);
        let written = Written { format: FORMAT, version: VERSION, correlations: self };
        let text = serde_json::to_string(&written).expect("numbers and words only");
        durable::replace(&path, (text + "\n").as_bytes()).map_err(ReportError::io("write", &path))
    }

    /// Those of a run folder; `None` if it has none.
    ///
    /// # Errors
    /// [`ReportError::Io`] if the file cannot be read, [`ReportError::Format`] if it is damaged or
    /// has another version.
    pub fn saved(run: &Path) -> Result<Option<Self>> {
        let path = run.join(CORRELATIONS_FILE);
        let text = match dlt_spec::file::read_text(&path, dlt_spec::file::CONFIGURATION_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ReportError::io("read", &path)(error)),
        };

        let refuse = |reason: String| ReportError::format(&path, reason);
        let read: Read = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        if (read.format.as_str(), read.version) != (FORMAT, VERSION) {
            let got = format!("{} {}", read.format, read.version);
            return Err(refuse(format!("expected {FORMAT} {VERSION}, got {got}")));
        }

        Self::new(read.layers, read.values).map(Some).map_err(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_saved_is_read_and_another_version_is_refused() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(Correlations::saved(run.path()).unwrap(), None);

        let correlations = Correlations::new(vec![0, 3], vec![1.0, 0.25, 0.25, 1.0]).unwrap();
        correlations.save(run.path()).unwrap();
        assert_eq!(Correlations::saved(run.path()).unwrap(), Some(correlations));

        let path = run.path().join(CORRELATIONS_FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"version\":1", "\"version\":2")).unwrap();

        let error = Correlations::saved(run.path()).unwrap_err().to_string();
        assert!(error.contains("expected dlt-correlations 1, got dlt-correlations 2"), "{error}");
    }
}
