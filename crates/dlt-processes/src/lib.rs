//! The processes of one training run: whether this process is one of several, how a program starts
//! itself as several, and, with the feature `mpi`, how they exchange words.
//!
//! A launcher such as `mpirun` or `srun` starts the processes. [`Launch::found`] reads what it left
//! in the environment. [`Relaunch`] is for a user who starts the program without a launcher: it is
//! the command of `mpirun` that starts the same program as several processes on this machine.
//!
//! With the feature `mpi`, `Mpi` carries the words. It implements `dlt_train::Transport`, and
//! notices within seconds if a process has ended, is stopped, or cannot be reached.

mod error;
mod launch;
mod relaunch;
#[cfg(feature = "mpi")]
mod transport;

pub use error::{ProcessesError, Result};
pub use launch::Launch;
pub use relaunch::{Relaunch, mpirun};
#[cfg(feature = "mpi")]
pub use transport::{Lost, Mpi, Options};
