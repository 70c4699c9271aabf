//! Tests of training: against the PyTorch oracle, against recordings of the authors' code, and of
//! the loop.

mod accuracies;
mod bench;
mod damage;
mod exchanges;
mod failures;
mod faults;
mod figures;
mod fixtures;
mod growth;
mod growth_reference;
mod guards;
mod kinds;
mod materials;
mod own_parts;
mod parts;
mod reference;
mod replays;
mod replication;
mod resting;
mod resuming;
mod rewards;
mod searches;
mod summaries;
mod transitions;
mod whole_runs;
