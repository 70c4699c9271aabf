//! From the pieces of a text to its tokens, on all cores, in memory that does not grow with the
//! text.
//!
//! One thread reads the text and cuts it into chunks, other threads encode them, and the calling
//! thread writes the tokens in the order of the text. The amount that is read but not yet written
//! is bounded: a new chunk waits until an old one is done.

use crate::{
    error::DataError,
    split::Split,
    text::blocks::{Grouping, Shards},
    text::cache::Facts,
    text::files::{Flow, Piece, PieceKind},
    text::source::TextSource,
    text::windows::AROUND_BLOCKS,
    tokenizer::{Chunker, END_OF_TEXT, Encoder, Marks, Portion, Tokenizer},
};
use dlt_spec::spec::Pipeline;
use sha2::{Digest, Sha256};
use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

/// Chunks in progress for each encoding thread.
const CHUNKS_PER_THREAD: usize = 4;

/// What to tokenize, and how.
pub(crate) struct Work<'a> {
    pub(crate) source: &'a TextSource,
    pub(crate) split: Split,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) pipeline: Pipeline,
    /// What is put around a text. Blocks have their own marks.
    pub(crate) marks: &'a Marks,
    /// Tokens of one window, T.
    pub(crate) context: usize,
    pub(crate) threads: NonZeroUsize,
}

/// A chunk that is encoded by itself, and the channel for its ids.
struct Chunk {
    portion: Portion,
    reply: SyncSender<Result<Vec<u32>, DataError>>,
}

/// The channel on which the ids of a chunk will arrive.
struct Pending {
    bytes: usize,
    ids: Receiver<Result<Vec<u32>, DataError>>,
}

/// Size and checksum of the text that was read.
struct Read {
    bytes: u64,
    sha256: [u8; 32],
}

impl Work<'_> {
    /// Tokenizes. Hands the tokens to `write` in order, and the number of bytes that are done to
    /// `done`. An error of `write` ends the work and is returned as it is.
    pub(crate) fn run<E: From<DataError>>(
        &self,
        write: &mut dyn FnMut(&[u32]) -> Result<(), E>,
        done: &mut dyn FnMut(u64),
    ) -> Result<Facts, E> {
        if self.pipeline == Pipeline::Blocks && self.tokenizer.eos().is_none() {
            let tokenizer = self.tokenizer.id().to_owned();
            let expected = END_OF_TEXT.to_owned();
            return Err(
                DataError::NoEndOfText { tokenizer, expected, wanted: AROUND_BLOCKS }.into()
            );
        }

        let mut shards = match self.pipeline {
            Pipeline::Stream => None,
            Pipeline::Blocks => {
                let rows = self.count_rows()?;
                Some(Shards::new(rows, self.context - 1, self.tokenizer.lengths()))
            }
        };

        let mut put = |ids: &[u32]| match &mut shards {
            None => write(ids),
            Some(shards) => shards.push_group(ids, write),
        };

        // Without marks nothing may be put, not even an empty slice: blocks count each call as a
        // group.
        let around = |ids: &[u32], put: &mut dyn FnMut(&[u32]) -> Result<(), E>| {
            if ids.is_empty() { Ok(()) } else { put(ids) }
        };
        around(&self.marks.before, &mut put)?;

        let read = self.encode_all(&mut put, done)?;
        around(&self.marks.after, &mut put)?;

        let bytes = match &shards {
            None => read.bytes,
            Some(shards) => shards.kept_bytes(),
        };

        Ok(Facts {
            vocabulary: self.tokenizer.vocabulary(),
            eos: self.tokenizer.eos(),
            bytes,
            text_bytes: read.bytes,
            text_sha256: read.sha256,
            bad_rows: self.source.found(self.split),
        })
    }

    /// The tokens between two documents: the marks around each, and the end of text once.
    fn between(&self) -> Vec<u32> {
        let Marks { before, after } = self.marks;
        let eos = self.tokenizer.eos().filter(|eos| after.last() != Some(eos));
        after.iter().copied().chain(eos).chain(before.iter().copied()).collect()
    }

    fn encode_all<E: From<DataError>>(
        &self,
        put: &mut dyn FnMut(&[u32]) -> Result<(), E>,
        done: &mut dyn FnMut(u64),
    ) -> Result<Read, E> {
        let under_way = self.threads.get() * CHUNKS_PER_THREAD;
        let (to_encode, chunks) = sync_channel::<Chunk>(under_way);
        let (to_write, pending) = sync_channel::<Pending>(under_way);
        let chunks = Mutex::new(chunks);
        let between = self.between();

        thread::scope(|scope| {
            for _ in 0..self.threads.get() {
                scope.spawn(|| encode(self.tokenizer, &between, &chunks));
            }

            // The reader owns both senders: when it ends, the encoders and the loop below end too.
            let reader = scope.spawn(move || self.read(&to_encode, &to_write));
            let mut bytes = 0;
            let mut result = Ok(());

            // Each chunk has its own channel, so tokens are written in the order of the text,
            // whichever thread is done first.
            for chunk in &pending {
                result = match chunk.ids.recv() {
                    Ok(Ok(ids)) => put(&ids),
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(self.lost().into()),
                };

                if result.is_err() {
                    break;
                }

                bytes += chunk.bytes as u64;
                done(bytes);
            }

            // After an error the reader may still wait to send. Without a receiver its send fails
            // and it ends.
            drop(pending);
            let read = reader.join().unwrap_or_else(|_| Err(self.lost()));
            result.and_then(|()| Ok(read?))
        })
    }

    /// The error for a thread that ended without an answer, which happens only if a tokenizer
    /// panics.
    fn lost(&self) -> DataError {
        let reason = "a thread that used it ended early".to_owned();
        DataError::Tokenize { tokenizer: self.tokenizer.id().to_owned(), reason }
    }

    /// Reads the split and sends its chunks, until its end or until nobody receives them.
    fn read(
        &self,
        to_encode: &SyncSender<Chunk>,
        to_write: &SyncSender<Pending>,
    ) -> Result<Read, DataError> {
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let mut send = |portion: Portion| {
            let (reply, ids) = sync_channel(1);
            let pending = Pending { bytes: portion.text.len(), ids };
            let is_heard =
                to_write.send(pending).is_ok() && to_encode.send(Chunk { portion, reply }).is_ok();

            if is_heard { Flow::On } else { Flow::Stop }
        };

        let mut count = |piece: Piece<'_>| {
            hash.update(piece.text);
            bytes += piece.text.len() as u64;
        };

        match self.pipeline {
            Pipeline::Stream => {
                let mut chunker = Chunker::new(self.tokenizer);
                self.source.read(self.split, &mut |piece| {
                    count(piece);
                    Ok(match piece.kind {
                        PieceKind::EndOfDocument => chunker.end_document(&mut send),
                        _ => chunker.push(piece.text, &mut send),
                    })
                })?;

                chunker.finish(&mut send);
            }
            Pipeline::Blocks => {
                let mut grouping = Grouping::default();
                let mut send = |text: String| send(Portion { text, ends: Vec::new() });
                self.source.read(self.split, &mut |piece| {
                    if piece.kind == PieceKind::Between {
                        return Ok(Flow::On);
                    }

                    count(piece);
                    let flow = grouping.push(piece, &mut send);
                    grouping.check().map(|()| flow)
                })?;

                grouping.finish(&mut send);
            }
        }

        Ok(Read { bytes, sha256: hash.finalize().into() })
    }

    /// Rows that hold more than white space. Blocks need their number before they can be cut.
    fn count_rows(&self) -> Result<usize, DataError> {
        let mut grouping = Grouping::default();
        self.source.read(self.split, &mut |piece| {
            if piece.kind == PieceKind::Between {
                return Ok(Flow::On);
            }

            let flow = grouping.push(piece, &mut |_| Flow::On);
            grouping.check().map(|()| flow)
        })?;

        grouping.finish(&mut |_| Flow::On);
        Ok(grouping.rows())
    }
}

/// The tokens of a portion. `between` is put after each document that another one follows.
fn encode_portion(
    encoder: &mut Encoder<'_>,
    portion: &Portion,
    between: &[u32],
) -> Result<Vec<u32>, DataError> {
    let mut ids = Vec::with_capacity(portion.text.len() / 3 + portion.ends.len());
    for (document, is_ended) in portion.documents() {
        if !document.is_empty() {
            encoder.encode(document, &mut ids)?;
        }

        if is_ended {
            ids.extend_from_slice(between);
        }
    }

    Ok(ids)
}

/// Encodes chunks until there are none.
fn encode(tokenizer: &Tokenizer, between: &[u32], chunks: &Mutex<Receiver<Chunk>>) {
    let mut encoder = Encoder::new(tokenizer);
    loop {
        let next = chunks.lock().map(|chunks| chunks.recv());
        let Ok(Ok(chunk)) = next else { return };
        let result = encode_portion(&mut encoder, &chunk.portion, between);

        // The send fails if the work has failed elsewhere and nobody waits for this chunk any more.
        drop(chunk.reply.send(result));
    }
}
