//! `DLT_REHEARSAL=1`: every run and every measurement takes seconds, so that commands can be tried
//! before they are started in earnest.

use dlt_spec::spec::{Initial, Size};
use dlt_spec::{ExitCode, Origin, Overlay, Spec};

use crate::failure::{Failure, Result};

/// The variable that turns rehearsals on.
pub(crate) const VARIABLE: &str = "DLT_REHEARSAL";

/// Layers of a model that is made tiny: an even number, so that every grouping is possible.
const LAYERS: usize = 4;

/// Settings of a tiny model. A model that starts from weights keeps their sizes.
const MODEL: &str = "[model]\nwidth = 16\nheads = 2\nkey_heads = \"auto\"\nfeed_forward = \"auto\"\ncontext = 16\n\
                     positions = \"auto\"\n[data]\ntokenizer = \"bytes\"\n";

/// Settings of a short training and evaluation: six steps with two decisions.
const TRAINING: &str = "[training]\nsteps = 6\nbatch = 2\nmicro_batch = \"auto\"\n\
                        [evaluation]\nevery_steps = 3\nwindows = 4\nbatch = 16\nfinal_windows = 8\n\
                        [optimizer]\nwarmup_steps = 0\n[tying]\ndecide_every = 2\n";

/// Additional steps of a run that is made longer.
const STEPS_MORE: usize = 2;

/// Whether rehearsals are on.
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

/// Overlays for a new run, over everything that the user sets; none if rehearsals are off.
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

/// Makes a model tiny whose step is measured, if rehearsals are on.
pub(crate) fn shrink(spec: &mut Spec) -> Result {
    if !is_on()? {
        return Ok(());
    }

    tracing::warn!("{VARIABLE} is set: this model is tiny, and its figures mean nothing");
    let model = &mut spec.model;
    model.width = 16;
    model.heads = 2;
    model.context = 16;

    model.key_heads = Size::AUTO;
    model.feed_forward = Size::AUTO;
    model.positions = Size::AUTO;
    model.vocabulary = Size::Fixed(256);
    spec.training.batch = 2;

    Ok(())
}

/// An overlay for a run that is resumed: if the user asks for more steps than `run` has, it gets
/// only [`STEPS_MORE`] more. `None` if rehearsals are off.
pub(crate) fn over(run: &Spec, wanted: &Spec) -> Result<Option<Overlay>> {
    let (Size::Fixed(has), Size::Fixed(wants)) = (run.training.steps, wanted.training.steps) else {
        return Ok(None);
    };

    if !is_on()? || wants <= has {
        return Ok(None);
    }

    Ok(Some(Overlay::from_option(VARIABLE, "training.steps", &(has + STEPS_MORE).to_string())?))
}
