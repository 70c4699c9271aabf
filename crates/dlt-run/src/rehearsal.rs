//! Rehearsals: every run and every measurement takes seconds, so that commands can be tried before
//! they are started in earnest. The program turns them on with `DLT_REHEARSAL=1`.

use dlt_spec::spec::{Exempt, Initial, Size};
use dlt_spec::{Origin, Overlay, Spec};

use crate::Result;

/// The variable that turns rehearsals on, which messages name.
pub const VARIABLE: &str = "DLT_REHEARSAL";

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

/// Overlays that make a new run tiny, over everything that the user sets.
pub(crate) fn overlays(spec: &Spec, is_from_weights: bool) -> Result<Vec<Overlay>> {
    tracing::warn!("{VARIABLE} is set: this run is tiny, and its result means nothing");
    let lay = |text: &str| Overlay::from_toml(Origin::Option(VARIABLE.to_owned()), text);
    let mut overlays = vec![lay(TRAINING)?];

    if !is_from_weights {
        overlays.push(lay(MODEL)?);
        // A grouping that is written out fixes the number of layers, and so does a list of exempt ones.
        let layers = match (&spec.tying.initial, &spec.tying.exempt) {
            (Initial::Owners(owners), _) => owners.len(),
            (_, Exempt::Layers(exempt)) if !exempt.is_empty() => spec.model.layers,
            _ => LAYERS,
        };

        overlays.push(lay(&format!("[model]\nlayers = {layers}\n"))?);
    }

    Ok(overlays)
}

/// Makes a model tiny whose step is measured.
pub fn shrink(spec: &mut Spec) {
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
}

/// An overlay for a run that is resumed in a rehearsal: if the user asks for more steps than `run`
/// has, it gets only [`STEPS_MORE`] more.
pub(crate) fn over(run: &Spec, wanted: &Spec) -> Result<Option<Overlay>> {
    let (Size::Fixed(has), Size::Fixed(wants)) = (run.training.steps, wanted.training.steps) else {
        return Ok(None);
    };

    if wants <= has {
        return Ok(None);
    }

    Ok(Some(Overlay::from_option(VARIABLE, "training.steps", &(has + STEPS_MORE).to_string())?))
}
