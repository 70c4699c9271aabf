//! The laws of the algebra: exhaustively at small depths against brute force, and as properties at
//! any depth.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails where it unwraps; helpers are not `#[test]` functions"
)]

mod api;
mod bindings;
mod brute_force;
mod counting;
mod exempt;
mod groups;
mod growth;
mod patterns;
mod randomness;
mod recordings;
mod rejections;
mod relabelling;
mod resolution;
mod serialised;
mod strategies;
mod text;
mod transitions;
mod values;
