//! A run that is watched while it goes on, is resumed, is damaged or goes away.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dlt_spec::record::{METRICS_FILE, PROVENANCE_FILE, SPEC_FILE, STATES_FILE, SUMMARY_FILE};
use serde_json::{Map, Value, json};

use super::{Page, PageKind, Part, policy};
use crate::error::Result;
use crate::metrics::{Follower, Metrics};
use crate::run::Run;

/// Files whose change means that a page is to be made anew; the first two change only when a run
/// begins anew or goes on.
const FILES: [&str; 5] = [SPEC_FILE, PROVENANCE_FILE, METRICS_FILE, STATES_FILE, SUMMARY_FILE];

/// Length and time of each file, as far as it is there.
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
    /// What a page that is there already needs to look the same, as JSON.
    pub news: String,
    /// Equal for equal news.
    pub version: String,
}

impl Live {
    /// Reads a run for the first time.
    ///
    /// # Errors
    /// As [`Run::read`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let marks = marks(&path);
        let (run, follower) = begin(&path)?;
        let snapshot = Snapshot::of(&run, None);
        Ok(Self { path, run: Some(run), follower, marks, trouble: None, snapshot })
    }

    /// The page as it is now. Where the run cannot be read, the page shows it as it was last, and
    /// says what is wrong.
    pub fn look(&mut self) -> &Snapshot {
        let now = marks(&self.path);
        if now == self.marks && self.trouble.is_none() {
            return &self.snapshot;
        }

        let is_same_run = now[..2] == self.marks[..2] && self.trouble.is_none();
        self.trouble = match if is_same_run { self.follow() } else { self.begin_anew() } {
            Ok(()) => None,
            // Cut back and written on between two looks, what is new begins inside of a line.
            Err(_) => self.begin_anew().err().map(|error| error.to_string()),
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

    /// Takes up what was written since the last look.
    fn follow(&mut self) -> Result<()> {
        let Some(run) = &mut self.run else { return self.begin_anew() };
        let Some(rows) = self.follower.rows()? else { return self.begin_anew() };
        let before = run.metrics.steps.len();

        run.metrics.extend(rows);
        // Steps that fall: the file was cut back and has grown beyond where it was.
        let mut steps = run.metrics.steps[before.saturating_sub(1)..].windows(2);
        if !steps.all(|pair| pair[0].step < pair[1].step) {
            return self.begin_anew();
        }

        run.update()
    }

    fn begin_anew(&mut self) -> Result<()> {
        let (run, follower) = begin(&self.path)?;
        (self.run, self.follower) = (Some(run), follower);
        Ok(())
    }
}

/// Reads a run whole, with whom to ask for what comes after.
fn begin(path: &Path) -> Result<(Run, Follower)> {
    let mut run = Run::read(path)?;
    let mut follower = Follower::new(path.join(METRICS_FILE));
    let mut metrics = Metrics::default();

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
            format!("The run cannot be read now, this is its last known state: {trouble}")
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
