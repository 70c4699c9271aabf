//! `DLT_REHEARSAL=1`: every run and every measurement at a size of seconds, so that a line of
//! commands can be tried before it is started in earnest.

use dlt_spec::spec::{Initial, Size};
use dlt_spec::{ExitCode, Origin, Overlay, Spec};

use crate::failure::{Failure, Result};

/// The variable.
pub(crate) const VARIABLE: &str = "DLT_REHEARSAL";

/// Layers of a model that is made tiny: an even number, which every grouping can take.
const LAYERS: usize = 4;

/// What makes a model tiny. A model that starts from weights stays as those are.
const MODEL: &str = "[model]\nwidth = 16\nheads = 2\nkey_heads = \"auto\"\nfeed_forward = \"auto\"\ncontext = 16\n\
                     positions = \"auto\"\n[data]\ntokenizer = \"bytes\"\n";

/// What makes training short, and evaluation: some steps with two decisions.
const TRAINING: &str = "[training]\nsteps = 6\nbatch = 2\nmicro_batch = \"auto\"\n\
                        [evaluation]\nevery_steps = 3\nwindows = 4\nbatch = 16\nfinal_windows = 8\n\
                        [optimizer]\nwarmup_steps = 0\n[tying]\ndecide_every = 2\n";

/// Steps of a run that is made longer, beyond those it has.
const STEPS_MORE: usize = 2;

/// Whether it is on.
///
/// # Errors
/// If the variable is neither 0 nor 1.
pub(crate) fn is_on() -> Result<bool> {
    match std::env::var(VARIABLE).as_deref() {
        Ok("1") => Ok(true),
        Ok("" | "0") | Err(_) => Ok(false),
        Ok(value) => {
            let message = format!("{VARIABLE}: expected 1 for a rehearsal, or 0; got {value}");
            Err(Failure::refused(ExitCode::Usage, message))
        }
    }
}

/// What lies over everything that the person says about a new run.
pub(crate) fn overlays(spec: &Spec, is_from_weights: bool) -> Result<Vec<Overlay>> {
    if !is_on()? {
        return Ok(Vec::new());
    }

    tracing::warn!("{VARIABLE} is set: this run is tiny, and its result means nothing");
    let lay = |text: &str| Overlay::from_toml(Origin::Option(VARIABLE.to_owned()), text);
    let mut overlays = vec![lay(TRAINING)?];

    if !is_from_weights {
        overlays.push(lay(MODEL)?);
        // A grouping that is written out fixes the number of layers.
        let layers = match &spec.tying.initial {
            Initial::Owners(owners) => owners.len(),
            Initial::Named(_) => LAYERS,
        };

        overlays.push(lay(&format!("[model]\nlayers = {layers}\n"))?);
    }

    Ok(overlays)
}

/// The same for a model whose step is measured.
pub(crate) fn shrink(spec: &mut Spec) -> Result {
    if !is_on()? {
        return Ok(());
    }

    tracing::warn!("{VARIABLE} is set: this model is tiny, and its figures mean nothing");
    let model = &mut spec.model;
    (model.width, model.heads, model.context) = (16, 2, 16);
    (model.key_heads, model.feed_forward, model.positions) = (Size::AUTO, Size::AUTO, Size::AUTO);
    model.vocabulary = Size::Fixed(256);
    spec.training.batch = 2;

    Ok(())
}

/// The same over a run that is resumed: some steps more than it has, where more are asked for.
pub(crate) fn over(run: &Spec, wanted: &Spec) -> Result<Option<Overlay>> {
    let (Size::Fixed(has), Size::Fixed(wants)) = (run.training.steps, wanted.training.steps) else {
        return Ok(None);
    };

    if !is_on()? || wants <= has {
        return Ok(None);
    }

    Ok(Some(Overlay::from_option(VARIABLE, "training.steps", &(has + STEPS_MORE).to_string())?))
}
