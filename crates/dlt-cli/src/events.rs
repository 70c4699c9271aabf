//! The event file that follows a run. It is a copy of what the metrics say, so nothing that befalls it ends the run.

use std::path::Path;

use dlt_report::tensorboard::{EventFile, FOLDER};

/// The event file of a run under way, as long as it can be written.
pub(crate) struct Events(Option<EventFile>);

impl Events {
    /// Opens the event file of a run that asks for one, or that has one already.
    pub(crate) fn open(run: &Path, is_asked: bool) -> Self {
        let folder = run.join(FOLDER);
        if !is_asked && !folder.is_dir() {
            return Self(None);
        }
        Self(EventFile::open(run, &folder).inspect_err(warn).ok())
    }

    /// Writes what the metrics have had since. After a failure no more is written, and nothing more is said.
    pub(crate) fn follow(&mut self) {
        if let Some(file) = &mut self.0
            && let Err(error) = file.follow()
        {
            warn(&error);
            self.0 = None;
        }
    }
}

fn warn(error: &dlt_report::ReportError) {
    tracing::warn!(
        "the run goes on without its event file: {error}; `dlt convert RUN --to tensorboard` writes it from the metrics"
    );
}
