//! A stand-in for the Hugging Face hub in tests: it listens on 127.0.0.1, answers in the hub's real
//! layout and can misbehave on request.
//!
//! It implements these parts of the hub: `GET /api/{datasets,models}/NAME/revision/REVISION` lists
//! a repository; `/datasets/NAME/resolve/REVISION/FILE` (without `datasets` for a model) gives a
//! file, directly if it is small text, else by a redirect to another host; the headers are
//! `X-Repo-Commit`, `ETag`, `X-Linked-Etag` and `X-Linked-Size`; ranges are honoured. It also
//! accepts requests as a proxy, so that a client's proxy settings can be tested.
//!
//! ```
//! use dlt_hub_stand_in::{Repository, StandIn};
//!
//! let hub = StandIn::start();
//! let repository = Repository::dataset("someone/words").file("data/train.txt", "a b c");
//! hub.serve(repository);
//! assert!(hub.endpoint().starts_with("http://127.0.0.1:"));
//! assert!(hub.requests().is_empty());
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot set up its server has failed"
)]

mod answer;
mod catalogue;
mod fault;
mod pictures;
mod repository;
mod request;
mod server;
mod table;

pub use catalogue::catalogue;
pub use fault::{Fault, RequestKind};
pub use parquet::basic::Compression;
pub use pictures::{cifar_record, png};
pub use repository::Repository;
pub use request::Request;
pub use server::StandIn;
pub use table::{Column, parquet, parquet_with};
