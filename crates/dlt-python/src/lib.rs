//! The Python module `dlt_state`: the algebra of dynamic layer tying, and the agent with its policies
//! and rewards, for training loops in any framework. No tensors.
//!
//! Each class here wraps the type of the same name in `dlt-state` or `dlt-agent`. The doc comments of
//! classes and methods are Python's docstrings. `dlt_state.pyi` has their types.

mod action;
mod agent;
mod binding;
mod error;
mod event;
mod pattern;
mod randomness;
mod record;
mod recording;
mod sequence;
mod settings;
mod space;
mod state;

use pyo3::prelude::*;

/// The algebra of dynamic layer tying: which layers of a deep network share their weights, and how
/// that changes while the network trains. Also the agent that decides it. No tensors.
///
/// An `Action` is a wish: entry `i` names the layer that layer `i` should copy. Equation 1 turns it
/// into a `State`: entry `i` is the owner of layer `i`, whose weights it uses. A `Transition` lists
/// what changes between two states. A `Binding` plans which weights a framework has to copy or to
/// release for it. An `Agent` decides and learns from rewards. A `Recording` keeps the decisions of
/// a run, in the text form that `dlt inspect` and `dlt train` read.
///
/// Each refused value is a `DltError`, which is a `ValueError`, with the message of the program
/// `dlt`.
#[pymodule(name = "dlt_state")]
fn dlt_state_module(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DltError", module.py().get_type::<error::DltError>())?;

    module.add_class::<action::PyAction>()?;
    module.add_class::<state::PyState>()?;
    module.add_class::<state::Group>()?;
    module.add_class::<event::PyTransition>()?;
    module.add_class::<event::PyEvent>()?;
    module.add_class::<event::EventCounts>()?;
    module.add_class::<space::PyActionSpace>()?;
    module.add_class::<recording::PyRecording>()?;
    module.add_class::<recording::PyRow>()?;

    module.add_class::<binding::PyBinding>()?;
    module.add_class::<binding::Settlement>()?;
    module.add_class::<binding::Move>()?;
    module.add_class::<binding::Merged>()?;

    module.add_class::<agent::PyAgent>()?;
    module.add_class::<agent::Decision>()?;
    module.add_class::<agent::Searched>()?;
    module.add_class::<agent::Exploration>()?;
    module.add_class::<agent::Update>()?;
    module.add_class::<agent::Wants>()?;

    pattern::add_to(module)
}
