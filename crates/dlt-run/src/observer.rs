//! What a caller sees of a run before its first step.

use dlt_data::{Material, Progress};
use dlt_models::binding::Binding;
use dlt_spec::CheckedSpec;
use dlt_state::{Recording, State, pattern};
use dlt_train::{Plan, grown_groups, memory};

use crate::error::RunError;

/// Receives what a user may want to know while a run is prepared. Every method does nothing by
/// default, so a caller writes only those it needs. It is [`Sync`] because files are fetched on
/// several threads.
pub trait Observer: Sync {
    /// A line about what was found or is done.
    fn note(&self, _line: &str) {}

    /// A line that may surprise: a caller that shows no notes should still show it.
    fn remark(&self, _line: &str) {}

    /// How far the loading of data, or the fetching of a model, is.
    fn loading(&self, _progress: Progress) {}

    /// Everything about the run is checked, and its folder is not made yet.
    fn introduce(&self, _introduction: &Introduction<'_>) {}
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// What is about to be trained, on which data and device, and how much memory it will need.
#[derive(Debug)]
pub struct Introduction<'a> {
    /// Its spec.
    pub spec: &'a CheckedSpec,
    /// Its data.
    pub material: &'a Material,
    /// The decisions that it replays, if it does.
    pub recording: Option<&'a Recording>,
    /// The name of the device.
    pub device: &'a str,
    /// Predicted peak of the memory at the start, in bytes, without the program and its data.
    pub start_bytes: usize,
    /// The same for the state with the most groups that the run can reach: after its last split if
    /// it makes splits, else with no layer tied.
    pub most_bytes: usize,
}

impl<'a> Introduction<'a> {
    pub(crate) fn of(
        spec: &'a CheckedSpec,
        plan: &'a Plan,
        recording: Option<&'a Recording>,
        device: &'a str,
    ) -> Result<Self, RunError> {
        let layers = spec.model.layers;
        // More groups need more memory, so the state with the most groups is the largest.
        let most = match grown_groups(spec) {
            Some(groups) => pattern::leading(layers, groups),
            None => State::independent(layers),
        };

        let material = plan.material();
        let start_bytes = plan.start_bytes();
        let most_bytes = memory::predict(
            plan.architecture(),
            spec,
            material.widest(),
            &Binding::of_state(&most),
            plan.processes(),
        )?
        .peak;
        Ok(Self { spec, material, recording, device, start_bytes, most_bytes })
    }
}
