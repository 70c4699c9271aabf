//! Tests of training: against the PyTorch oracle, against recordings of the authors' code, and of the loop.

mod bench;
mod failures;
mod fixtures;
mod guards;
mod reference;
mod replays;
mod rewards;
mod summaries;
mod transitions;
mod whole_runs;
