//! What is made of the metrics for other programs, read back.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test, which is its purpose")]

mod events;
mod fixture;
mod following;
mod reader;
mod rows;
mod tables;
