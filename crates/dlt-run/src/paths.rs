//! Absolute paths in the spec of a run, so that the run works from any folder.

use std::path::Path;

use dlt_data::{BYTES, GPT2, HUB_PREFIX, is_local};
use dlt_spec::{CheckedSpec, Spec};

use crate::Result;

/// The same spec with absolute paths of data, tokenizer, model and recording. A value that is not
/// the path of an existing file stays as it is.
pub(crate) fn absolute(spec: &CheckedSpec) -> Result<CheckedSpec> {
    let mut absolute = Spec::clone(spec);
    make_source_absolute(&mut absolute);

    let Spec { data, model, agent, .. } = &mut absolute;
    if data.tokenizer != GPT2 && data.tokenizer != BYTES {
        make_absolute(&mut data.tokenizer);
    }

    make_absolute(&mut model.start);
    make_absolute(&mut agent.recording);
    Ok(absolute.check()?)
}

/// The same spec with absolute paths of data and recording, if a resume has changed them. The other
/// paths cannot change in a resumed run.
pub(crate) fn absolute_where_changed(spec: &CheckedSpec, before: &Spec) -> Result<CheckedSpec> {
    let mut absolute = Spec::clone(spec);
    if absolute.data.source != before.data.source {
        make_source_absolute(&mut absolute);
    }
    if absolute.agent.recording != before.agent.recording {
        make_absolute(&mut absolute.agent.recording);
    }

    Ok(absolute.check()?)
}

fn make_source_absolute(spec: &mut Spec) {
    // `PATH::COLUMN` becomes absolute as a whole: the part before the column is the path.
    if is_local(&spec.data.source)
        && let Some(path) = std::path::absolute(&spec.data.source)
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned))
    {
        spec.data.source = path;
    }
}

fn make_absolute(path: &mut String) {
    if path.is_empty() || path.starts_with(HUB_PREFIX) || !Path::new(path.as_str()).exists() {
        return;
    }

    // A path that is not UTF-8 cannot be written into a spec; it stays relative.
    if let Some(absolute) =
        std::path::absolute(&*path).ok().and_then(|path| path.to_str().map(str::to_owned))
    {
        *path = absolute;
    }
}
