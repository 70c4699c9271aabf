//! The program from outside: what a person types, reads and finds on disk.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test, which is its purpose")]

// Linked for a side effect: the tests read files with candle, and with this crate a candle that has
// CUDA starts without NVIDIA's libraries.
use dlt_models as _;

mod bad_inputs;
mod bounds;
mod citation;
mod damage;
mod data;
mod determinism;
mod doctor;
mod elsewhere;
mod evaluation;
mod exchange;
mod finetuning;
mod generation;
mod inspection;
mod kills;
mod measuring;
mod models;
mod own_data;
mod parts;
mod processes;
mod reaching;
mod readme;
mod refusals;
mod reports;
mod resuming;
mod specs;
mod starting;
mod tensorboard;
mod tokenizers;
mod training;
mod troubleshooting;
mod watching;
mod workplace;
