//! The experiments: tables, ablations and figures as a grid of runs, each a child process.
//!
//! [`run`] carries out a [`StudyCommand`] of `cargo xtask`. The way from a grid to a page:
//!
//! 1. `grid` lists the cells of each part of the study. A cell (`cell`) is a `subject`, a model with
//!    its data, under a `row`, settings of its spec, at a `scale`, with a seed. The rows of our own
//!    method are in `method`.
//! 2. `store` reads the status of each cell from its folder, and `cost` predicts its time.
//! 3. `launch` starts `dlt` for each cell that is not done, and `board` shows how far it is.
//! 4. `record` reads the outcome of each cell, as one line of JSON. `basis` says whether a record
//!    still holds, and `view` groups the records by subject and row.
//! 5. `tables` makes a `sheet` of them for each part, next to the numbers of the `paper`. `figures`
//!    lets `dlt` draw runs.
//! 6. `results` keeps all that in `results/`, and `baselines` makes what `dlt train` prints of it.
//!
//! `scaling` runs nothing: it predicts a training step in several processes by arithmetic.
//!
//! Every command is idempotent: finished cells are skipped, and stopped cells resume from their last
//! checkpoint. Failed cells are tried again, and the table shows FAILED until they succeed.
//!
//! The public modules are what `xtask` needs as well, to start programs and to write pages.

mod baselines;
mod basis;
mod board;
mod cell;
pub mod child;
mod cost;
mod drawn;
mod excerpt;
mod figures;
mod grid;
mod launch;
pub mod metadata;
mod method;
mod paper;
pub mod program;
mod record;
mod results;
mod row;
mod scale;
mod scaling;
mod sheet;
pub mod spread;
mod stand_in;
mod store;
mod study;
mod subject;
pub mod table;
mod tables;
mod view;

pub use study::{StudyCommand, run};
