//! Files for other programs that are made of the metrics, read back.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test, which is its purpose")]

mod events;
mod fixture;
mod following;
mod reader;
mod rows;
mod tables;
