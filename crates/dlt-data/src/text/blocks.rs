//! The text pipeline of the authors' code.
//!
//! A row is a line with its line end, as in the published WikiText files, or a row of a table as it
//! is. Rows of only white space are left out. The others are joined without a separator, 1,000 at a
//! time, and each such group is tokenized by itself. Up to 8 workers each get a contiguous share of
//! the groups; if the shares are uneven, the first workers have one group more. A worker
//! concatenates its tokens and cuts them into blocks of T - 1 tokens. It drops its remainder.

use crate::{
    error::DataError,
    text::files::{Flow, Piece, PieceKind},
};
use std::mem;

/// Rows that are joined before they are tokenized.
pub const GROUP_ROWS: usize = 1_000;

/// Most workers that share a split.
pub const MAX_SHARDS: usize = 8;

/// Most bytes of one group: 1,000 novels. A group is tokenized at once, so it is held in memory.
const LARGEST_GROUP: usize = 512 << 20;

/// Joins rows into groups.
#[derive(Debug, Default)]
pub(crate) struct Grouping {
    /// Rows of this group, and the pieces so far of a row that is not over.
    group: String,
    /// Offset in `group` at which the current row begins.
    row_start: usize,
    in_group: usize,
    rows: usize,
}

impl Grouping {
    /// Adds a piece of a row; hands a group over when it is full.
    pub(crate) fn push(&mut self, piece: Piece<'_>, send: &mut dyn FnMut(String) -> Flow) -> Flow {
        self.group.push_str(piece.text);
        if piece.kind == PieceKind::Ends { self.end_row(send) } else { Flow::On }
    }

    /// Hands over the last group, which may be short.
    pub(crate) fn finish(&mut self, send: &mut dyn FnMut(String) -> Flow) {
        if self.end_row(send) == Flow::On && self.in_group > 0 {
            self.in_group = 0;
            send(mem::take(&mut self.group));
        }
    }

    /// Refuses a group whose rows are too long together.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        if self.group.len() <= LARGEST_GROUP {
            return Ok(());
        }

        Err(DataError::BadSetting {
            what: "the rows that data.pipeline = \"blocks\" joins, 1,000 at a time",
            expected: format!(
                "at most {LARGEST_GROUP} bytes together; \"stream\" has no such limit"
            ),
            got: format!("{} bytes", self.group.len()),
        })
    }

    /// Rows so far, without those of only white space.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn end_row(&mut self, send: &mut dyn FnMut(String) -> Flow) -> Flow {
        if self.group[self.row_start..].trim().is_empty() {
            self.group.truncate(self.row_start);
            return Flow::On;
        }

        self.rows += 1;
        self.in_group += 1;
        self.row_start = self.group.len();

        if self.in_group < GROUP_ROWS {
            return Flow::On;
        }

        self.in_group = 0;
        self.row_start = 0;
        send(mem::take(&mut self.group))
    }
}

/// Cuts the tokens of groups into whole blocks, worker by worker.
#[derive(Debug)]
pub(crate) struct Shards {
    /// Groups that each worker still has to process.
    groups: Vec<usize>,
    worker: usize,
    block: usize,
    /// Tokens of this worker that do not fill a block yet.
    rest: Vec<u32>,
    /// Bytes that each token stands for, by id.
    lengths: Vec<u32>,
    bytes: u64,
}

impl Shards {
    /// Workers for `rows` rows, which cut blocks of `block` tokens.
    pub(crate) fn new(rows: usize, block: usize, lengths: Vec<u32>) -> Self {
        let groups = rows.div_ceil(GROUP_ROWS);
        let count = groups.clamp(1, MAX_SHARDS);
        let least = groups / count;
        let longer = groups % count;
        let groups = (0..count).map(|shard| least + usize::from(shard < longer)).collect();

        Self { groups, worker: 0, block, rest: Vec::new(), lengths, bytes: 0 }
    }

    /// Adds the tokens of the next group and hands whole blocks to `write`.
    pub(crate) fn push_group<E>(
        &mut self,
        ids: &[u32],
        write: &mut dyn FnMut(&[u32]) -> Result<(), E>,
    ) -> Result<(), E> {
        // The remainder of a worker is dropped, as in the authors' code: clear it at each change.
        while self.groups.get(self.worker) == Some(&0) {
            self.worker += 1;
            self.rest.clear();
        }

        if let Some(left) = self.groups.get_mut(self.worker) {
            *left -= 1;
        }

        self.rest.extend_from_slice(ids);
        let whole = self.rest.len() / self.block * self.block;
        let length = |&id: &u32| u64::from(self.lengths.get(id as usize).copied().unwrap_or(0));

        self.bytes += self.rest[..whole].iter().map(length).sum::<u64>();
        write(&self.rest[..whole])?;
        self.rest.drain(..whole);

        Ok(())
    }

    /// Bytes of text that the blocks stand for.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.bytes
    }
}
