//! Tests of training: against the PyTorch oracle, against recordings of the authors' code, and of the loop.

mod bench;
mod fixtures;
mod reference;
mod transitions;
mod whole_runs;
