//! A spec file and assignments: a spec that passes its check is printed and read back equal.
#![no_main]

use dlt_spec::size::block_parameters;
use dlt_spec::{Origin, Overlay, Spec, fields};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = Origin::File("spec.toml".into());
    let overlays = [Overlay::from_toml(file, text), Overlay::from_assignment(text)];
    for overlay in overlays.into_iter().flatten() {
        let Ok(spec) = Spec::assemble(&[overlay]) else { continue };
        let Ok(checked) = spec.check() else { continue };
        let printed = fields::render(&checked);
        let again = Overlay::from_toml(Origin::File("printed".into()), &printed)
            .expect("a printed spec is read");

        assert_eq!(Spec::assemble(&[again]).expect("and is whole"), spec);
        // Nothing that is derived from a checked spec may panic.
        let _ = (
            checked.feed_forward(),
            checked.positions(),
            checked.initial_state(),
            checked.agent_setup().pattern(),
        );
        let _ =
            (block_parameters(&checked.model), checked.steps(1_000), checked.micro_batches());
    }
});
