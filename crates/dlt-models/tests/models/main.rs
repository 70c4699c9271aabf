//! Tests of the models against independent oracles, of the binding's laws, and of files.

mod binding;
mod files;
mod fixtures;
mod generation;
mod gradients;
mod huggingface;
mod sampling;
mod weights;
