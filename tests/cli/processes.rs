//! One run in several processes, and programs that cannot do that.
//!
//! A program with the feature `mpi` needs Open MPI for these tests. Every program that they start has
//! a deadline. Several processes use all cores, so one run at a time is trained.

#[cfg(not(feature = "mpi"))]
mod absent;
#[cfg(feature = "mpi")]
mod bits;
#[cfg(feature = "mpi")]
mod job;
#[cfg(feature = "mpi")]
mod losses;
#[cfg(feature = "mpi")]
mod rejected;
#[cfg(feature = "mpi")]
mod tasks;
