//! Compares every kernel with its composed reference in f64, and that reference with finite
//! differences.
#![allow(clippy::unwrap_used, reason = "a test fails where its helper cannot continue")]

mod attention;
mod cached_attention;
mod cuda_host;
mod dropout;
mod embedding;
mod gated;
mod gradients;
mod linear;
mod loss;
mod narrow;
mod operations;
mod optimizer;
mod pointwise;
mod portable;
mod reference;
mod rms_norm;
mod rotary;
mod sketch;
