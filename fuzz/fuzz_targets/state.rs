//! States, actions and recordings as JSON: the reader accepts only what the constructors allow.
#![no_main]

use dlt_state::{Action, Recording, State};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(state) = serde_json::from_slice::<State>(bytes) {
        assert_eq!(State::new(state.owners().to_vec()).as_ref(), Ok(&state));
        let text = serde_json::to_vec(&state).expect("a list of numbers");
        assert_eq!(serde_json::from_slice::<State>(&text).ok(), Some(state));
    }

    if let Ok(action) = serde_json::from_slice::<Action>(bytes) {
        let state = State::from_action(&action);
        assert_eq!(state.n_layers(), action.n_layers());
    }

    if let Ok(recording) = serde_json::from_slice::<Recording>(bytes) {
        assert_eq!(Recording::parse(&recording.to_text()).as_ref(), Ok(&recording));
    }
});
