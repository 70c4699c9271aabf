//! A run that is watched while it trains, is resumed, is damaged or disappears.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dlt_spec::record::{METRICS_FILE, PROVENANCE_FILE, SPEC_FILE, STATES_FILE, SUMMARY_FILE};
use serde_json::{Map, Value, json};

use super::{Page, PageKind, Part, policy};
use crate::error::Result;
use crate::metrics::{Follower, Metrics};
use crate::run::Run;

/// Files whose change requires a new page. The first two change only when a run starts again or is
/// resumed.
const FILES: [&str; 5] = [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE, STATES_FILE, SUMMARY_FILE];

/// Length and time of each file; `None` if it does not exist.
type Marks = [Option<(u64, Option<SystemTime>)>; FILES.len()];

/// The run that a page shows, kept up to date.
#[derive(Debug)]
pub struct Live {
    path: PathBuf,
    run: Option<Run>,
    follower: Follower,
    marks: Marks,
    trouble: Option<String>,
    snapshot: Snapshot,
}

/// A page at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The whole document.
    pub page: String,
    /// What an open page needs to become the same, as JSON.
    pub news: String,
    /// A checksum of the news.
    pub version: String,
}

impl Live {
    /// Reads a run for the first time.
    ///
    /// # Errors
    /// Those of [`Run::read`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let marks = marks(&path);
        let (run, follower) = begin(&path)?;
        let snapshot = Snapshot::of(&run, None);
        Ok(Self { path, run: Some(run), follower, marks, trouble: None, snapshot })
    }

    /// The page as it is now. If the run cannot be read, the page shows its last known state and
    /// says what is wrong.
    pub fn look(&mut self) -> &Snapshot {
        let now = marks(&self.path);
        if now == self.marks && self.trouble.is_none() {
            return &self.snapshot;
        }

        let is_same_run = now[..2] == self.marks[..2] && self.trouble.is_none();
        self.trouble = match if is_same_run { self.follow() } else { self.read_again() } {
            Ok(()) => None,
            // If the file was cut back and extended between two looks, the new part may begin
            // inside a line.
            Err(_) => self.read_again().err().map(|error| error.to_string()),
        };

        self.marks = now;
        if let Some(run) = &self.run {
            self.snapshot = Snapshot::of(run, self.trouble.as_deref());
        }

        &self.snapshot
    }

    /// The page as it was at the last look.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Adds what was written since the last look.
    fn follow(&mut self) -> Result<()> {
        let Some(run) = &mut self.run else { return self.read_again() };
        let Some(rows) = self.follower.rows()? else { return self.read_again() };
        let before = run.metrics.steps.len();

        run.metrics.extend(rows);
        // If steps do not rise, the file was cut back and has grown beyond its former length.
        let mut steps = run.metrics.steps[before.saturating_sub(1)..].windows(2);
        if !steps.all(|pair| pair[0].step < pair[1].step) {
            return self.read_again();
        }

        run.update()
    }

    fn read_again(&mut self) -> Result<()> {
        let (run, follower) = begin(&self.path)?;
        self.run = Some(run);
        self.follower = follower;
        Ok(())
    }
}

/// Reads a whole run, and the follower that continues after its last row.
fn begin(path: &Path) -> Result<(Run, Follower)> {
    let mut run = Run::read(path)?;
    let mut follower = Follower::new(path.join(METRICS_FILE));
    let mut metrics = Metrics::default();

    // The rows are those of the follower, so that it continues exactly where they end.
    metrics.extend(follower.rows()?.unwrap_or_default());
    run.metrics = metrics;
    Ok((run, follower))
}

fn marks(path: &Path) -> Marks {
    FILES.map(|file| {
        let metadata = fs::metadata(path.join(file)).ok()?;
        Some((metadata.len(), metadata.modified().ok()))
    })
}

impl Snapshot {
    fn of(run: &Run, trouble: Option<&str>) -> Self {
        let notice = trouble.map(|trouble| {
            format!("The run cannot be read now. This is its last known state. Reason: {trouble}")
        });
        let runs = std::slice::from_ref(run);
        let page = Page::new(runs, PageKind::Live).with_notice(notice.as_deref());
        let parts = page.parts();

        let data = page.data();
        let html = |part: &Part| (part.id.clone(), Value::String(part.html.clone().into_string()));
        let news = json!({
            "steps": run.steps_done(), "finished": run.summary.is_some(), "trouble": trouble,
            "parts": parts.iter().map(html).collect::<Map<_, _>>(), "runs": data["runs"],
        })
        .to_string();

        let version = policy::checksum(&news);
        Self { page: page.document_of(parts, &data), news, version }
    }
}
