//! Ways to misbehave.

use std::time::Duration;

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// The list of a repository's files.
    Listing,
    /// The hub's own answer for a file.
    Resolve,
    /// The bytes of a file, after the redirect where there is one.
    Content,
}

/// What is done instead of the right thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another status, with an HTML page that explains nothing.
    Status {
        /// The status.
        code: u16,
        /// Seconds of `Retry-After`.
        retry_after: Option<u64>,
    },
    /// The connection is cut after so many bytes of the body.
    Cut {
        /// Bytes that are sent.
        after: usize,
    },
    /// The stated size is wrong, in the listing and in the headers; the body is as it is.
    Size {
        /// The size that is stated.
        stated: u64,
    },
    /// The bytes are others than those that the checksum was made of.
    OtherBytes,
    /// A few bytes at a time.
    Drip {
        /// Bytes between two pauses.
        bytes: usize,
        /// The pause.
        pause: Duration,
    },
    /// A page of HTML, with status 200.
    HtmlPage,
    /// The listing names a file so.
    FileName {
        /// The name.
        name: String,
    },
    /// The whole file, though a range was asked for.
    NoRanges,
    /// Headers that are none of the hub's: no commit, no entity tag.
    NoHeaders,
    /// This entity tag.
    Etag {
        /// The tag.
        tag: String,
    },
    /// This commit.
    Commit {
        /// The commit.
        commit: String,
    },
    /// A redirect to nowhere.
    NoLocation,
    /// The listing without sizes and checksums, as mirrors give it.
    BareListing,
    /// A listing with so many blanks behind it.
    Padded {
        /// Bytes of blanks.
        bytes: usize,
    },
    /// A redirect to another server, for the listing or a large file.
    Elsewhere {
        /// Its address.
        server: String,
    },
}
