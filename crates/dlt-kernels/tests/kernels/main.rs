//! Every kernel against its composed reference in f64, and that reference against finite differences.

mod linear;
mod pointwise;
mod reference;
