//! A recording's text form: every accepted text is written and read back equal, and a refused
//! decision changes nothing.
#![no_main]

use dlt_state::Recording;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(recording) = Recording::parse(text) {
        let again = Recording::parse(&recording.to_text());
        assert_eq!(again.as_ref(), Ok(&recording));

        let steps = recording.rows().last().map_or(0, |row| row.step());
        assert_eq!(recording.steps_independent(steps).len(), recording.n_layers());

        for ((_, transition), row) in recording.transitions().zip(recording.rows()) {
            let is_refused = row.refused().is_some();
            assert!(!is_refused || (transition.is_empty() && recording.version() == Recording::GATED_VERSION));
        }
    }
});
