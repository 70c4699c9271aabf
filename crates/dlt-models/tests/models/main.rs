//! Tests of the models against independent references, of the laws of bindings, and of files.

mod binding;
mod branches;
mod families;
mod fixtures;
mod foreseen;
mod generation;
mod gradients;
mod guards;
mod heads;
mod huggingface;
mod narrow;
mod parts;
mod refusals;
mod replication;
mod sampling;
mod sizes;
mod sketches;
mod weights;
