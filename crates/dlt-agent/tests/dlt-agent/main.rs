//! Tests of the agent, against an oracle and against its laws.

mod learning;
mod oracle;
mod policies;
mod rewards;
mod settings;
mod snapshots;
