//! The event file that follows a run. It is a copy of what the metrics say, so nothing that befalls
//! it ends the run.

use dlt_report::tensorboard::{EventFile, FOLDER};
use dlt_train::{HeldFolder, RunFolder};

/// The event file of a run under way, as long as it can be written.
pub(crate) struct Events {
    file: Option<EventFile>,
    /// What it follows.
    run: HeldFolder,
}

impl Events {
    /// Opens the event file of a run that asks for one, or that has one already.
    pub(crate) fn open(run: &RunFolder, is_asked: bool) -> Self {
        let run = run.held().clone();
        let lasting = run.lasting_path();
        let folder = lasting.join(FOLDER);
        let mut events = Self { file: None, run };

        if is_asked || folder.is_dir() {
            let opened = EventFile::open(&lasting, &folder);
            events.file = opened.inspect_err(|error| events.warn(error)).ok();
        }

        events
    }

    /// Writes what the metrics have had since. After a failure no more is written, and nothing more
    /// is said.
    pub(crate) fn follow(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.follow()
        {
            self.warn(&error);
            self.file = None;
        }
    }

    fn warn(&self, error: &dlt_report::ReportError) {
        let [lasting, path] =
            [&*self.run.lasting_path(), self.run.path()].map(|path| path.display().to_string());
        let error = error.to_string().replace(&lasting, &path);

        tracing::warn!(
            "the run continues without its event file: {error}; \
             `dlt convert RUN --to tensorboard` writes it from the metrics"
        );
    }
}
