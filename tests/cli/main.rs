//! The program from outside: what a person types, reads and finds on disk.

mod evaluation;
mod generation;
mod inspection;
mod refusals;
mod specs;
mod training;
mod workplace;
