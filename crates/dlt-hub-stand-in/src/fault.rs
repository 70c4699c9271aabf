//! The ways in which the stand-in can misbehave.

use std::time::Duration;

/// The kind of request that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// The list of a repository's files.
    Listing,
    /// The request to the hub itself for a file.
    Resolve,
    /// The bytes of a file, after the redirect where there is one.
    Content,
}

/// What the stand-in does instead of the right thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another status, with an HTML page that explains nothing.
    Status {
        /// The status.
        code: u16,
        /// Seconds of `Retry-After`.
        retry_after: Option<u64>,
    },
    /// The connection is cut after `after` bytes of the body.
    Cut {
        /// Bytes that are sent.
        after: usize,
    },
    /// The stated size is wrong, in the listing and in the headers. The body is unchanged.
    Size {
        /// The size that is stated.
        stated: u64,
    },
    /// The bytes differ from those of which the checksum was made.
    OtherBytes,
    /// A few bytes are sent at a time.
    Drip {
        /// Bytes between two pauses.
        bytes: usize,
        /// The pause.
        pause: Duration,
    },
    /// A page of HTML, with status 200.
    HtmlPage,
    /// The listing has this name for its first file.
    FileName {
        /// The name.
        name: String,
    },
    /// The whole file is sent, although a range was requested.
    NoRanges,
    /// The hub's headers are missing: no commit, no entity tag.
    NoHeaders,
    /// The answer has this entity tag.
    Etag {
        /// The tag.
        tag: String,
    },
    /// The answer has this commit.
    Commit {
        /// The commit.
        commit: String,
    },
    /// A redirect to nowhere.
    NoLocation,
    /// The listing has no sizes and checksums, as on mirrors.
    BareListing,
    /// The listing is followed by blanks.
    Padded {
        /// Number of blanks.
        bytes: usize,
    },
    /// A redirect to another server, for the listing or a large file.
    Elsewhere {
        /// Its address.
        server: String,
    },
}
