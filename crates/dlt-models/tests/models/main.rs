//! Tests of the models against independent oracles, of the binding's laws, and of files.

mod binding;
mod files;
mod fixtures;
mod gradients;
mod sampling;
mod weights;
