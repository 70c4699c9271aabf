//! Tests of the agent, against an oracle and against its laws.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but not in what they share"
)]

mod chances;
mod credit;
mod exempt;
mod growth;
mod growth_oracle;
mod learning;
mod oracle;
mod policies;
mod rewards;
mod searches;
mod settings;
mod snapshots;
