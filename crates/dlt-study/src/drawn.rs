//! What the figures of the results were drawn from, so that a check does not have to draw them
//! again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::program::replace;
use crate::store::read_json;

/// The file of these notes, next to the figures.
const FILE: &str = "drawn.json";
const SCHEMA: u32 = 1;

/// Fingerprints of figures and of the files that they were drawn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drawn {
    schema: u32,
    /// By the name of the figure's file.
    figures: BTreeMap<String, Origin>,
}

/// The origin of one figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    /// Fingerprint of the figure itself.
    fingerprint: String,
    /// Fingerprints of the files of its runs, by their paths below the results.
    files: BTreeMap<String, String>,
}

impl Default for Drawn {
    fn default() -> Self {
        Self { schema: SCHEMA, figures: BTreeMap::new() }
    }
}

impl Drawn {
    /// Reads the notes of a folder of figures; empty if there are none.
    pub(crate) fn read(figures: &Path) -> Result<Self> {
        let path = figures.join(FILE);
        let Some(drawn) = read_json::<Self>(&path)? else { return Ok(Self::default()) };
        let got = drawn.schema;
        ensure!(got == SCHEMA, "{}: expected layout {SCHEMA}, got {got}", path.display());

        Ok(drawn)
    }

    pub(crate) fn write(&self, figures: &Path) -> Result<()> {
        replace(&figures.join(FILE), serde_json::to_string_pretty(self)? + "\n")
    }

    /// Notes that a figure was just drawn from these files below `results`.
    pub(crate) fn note(&mut self, figure: &Path, results: &Path, files: &[String]) -> Result<()> {
        let of = |file: &String| Ok((file.clone(), fingerprint(&results.join(file))?));
        let files = files.iter().map(of).collect::<Result<_>>()?;
        self.figures.insert(name(figure), Origin { fingerprint: fingerprint(figure)?, files });
        Ok(())
    }

    /// Why a figure is stale, in words that follow its path: it or one of its files has changed since
    /// it was drawn. Empty if it is up to date.
    pub(crate) fn stale(&self, figure: &Path, results: &Path, files: &[String]) -> Vec<String> {
        let Some(origin) = self.figures.get(&name(figure)) else {
            return vec!["not drawn yet".to_owned()];
        };
        let mut stale = Vec::new();

        match fingerprint(figure) {
            Ok(now) if now == origin.fingerprint => {}
            Ok(_) => stale.push("changed since it was drawn".to_owned()),
            Err(error) => stale.push(format!("{error:#}")),
        }

        let gone = origin.files.keys().filter(|file| !files.contains(file));
        stale.extend(gone.map(|file| format!("drawn from {file}, which is gone")));

        for file in files {
            if fingerprint(&results.join(file)).ok().as_ref() != origin.files.get(file) {
                stale.push(format!("drawn from another version of {file}"));
            }
        }

        stale
    }
}

fn name(figure: &Path) -> String {
    figure.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// FNV-1a of a file, in hexadecimal. It detects changes; it is not secure against forgery.
fn fingerprint(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    Ok(format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_stale_once_it_or_one_of_its_files_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path();
        let figure = folder.path().join("loss.svg");
        let files = ["a".to_owned(), "b".to_owned()];

        for name in ["a", "b", "loss.svg"] {
            fs::write(results.join(name), name).unwrap();
        }

        let mut drawn = Drawn::read(results).unwrap();
        assert_eq!(drawn.stale(&figure, results, &files), ["not drawn yet"]);
        drawn.note(&figure, results, &files).unwrap();
        drawn.write(results).unwrap();

        let drawn = Drawn::read(results).unwrap();
        assert!(drawn.stale(&figure, results, &files).is_empty());
        fs::write(results.join("b"), "c").unwrap();
        fs::write(&figure, "c").unwrap();

        let stale = drawn.stale(&figure, results, &files);
        assert_eq!(stale, ["changed since it was drawn", "drawn from another version of b"]);

        let stale = drawn.stale(&figure, results, &files[..1]);
        assert_eq!(stale, ["changed since it was drawn", "drawn from b, which is gone"]);
    }
}
