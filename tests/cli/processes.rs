//! One run in several processes, and programs that cannot do that.
//!
//! A program with the feature `mpi` needs Open MPI for these tests. Every program that they start has
//! a deadline. Several processes use all cores, so one test at a time has a job; the kills, which wait
//! for most of their time, go along.

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
