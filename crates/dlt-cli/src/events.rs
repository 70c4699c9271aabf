//! The event file of a run for TensorBoard. It only repeats the metrics, so an error in it never
//! ends the run.

use dlt_report::tensorboard::{EventFile, FOLDER};
use dlt_train::{HeldFolder, RunFolder};

/// The event file of a run that trains, as long as it can be written.
pub(crate) struct Events {
    /// `None` if none was asked for, or after the first failure.
    file: Option<EventFile>,
    /// The folder of the run, which may be renamed while it trains.
    run: HeldFolder,
}

impl Events {
    /// Opens the event file of a run if it is asked for, or if the run already has one.
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

    /// No event file, in a process that does not write the run.
    pub(crate) fn none(run: &RunFolder) -> Self {
        Self { file: None, run: run.held().clone() }
    }

    /// Writes the metrics that are new since the last call. After the first failure, which gives
    /// one warning, nothing more is written.
    pub(crate) fn follow(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.follow()
        {
            self.warn(&error);
            self.file = None;
        }
    }

    /// Warns once. The error has the lasting path, which means nothing to a user, so it is replaced
    /// by the path that the user named.
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
