//! Everything that opens a connection. Without the feature `hub`, `absent` is used instead.

mod answer;
mod listing;
mod transfer;

pub(super) use listing::ask as listing;
pub(super) use transfer::file;
