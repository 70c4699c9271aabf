//! From the pieces of a text to its tokens on disk, on all cores, in memory that does not grow with
//! the text.
//!
//! One thread reads and cuts the text into chunks; the others encode them; the calling thread
//! writes the tokens down in the order of the text. What has been read and not yet written is
//! bounded: a new chunk waits until an old one is done.

use crate::{
    blocks::{Grouping, Shards},
    cache::Facts,
    error::DataError,
    files::{Flow, Piece, PieceKind},
    source::TextSource,
    split::Split,
    tokenizer::{Chunker, END_OF_TEXT, Encoder, Marks, Portion, Tokenizer},
    windows::AROUND_BLOCKS,
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

/// Chunks under way for each thread that encodes.
const CHUNKS_PER_THREAD: usize = 4;

/// What to tokenize, and how.
pub(crate) struct Work<'a> {
    pub(crate) source: &'a TextSource,
    pub(crate) split: Split,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) pipeline: Pipeline,
    /// What is put around a text; blocks have their own.
    pub(crate) marks: &'a Marks,
    /// Tokens of one window, T.
    pub(crate) context: usize,
    pub(crate) threads: NonZeroUsize,
}

/// A chunk that is encoded by itself, and where its ids go.
struct Chunk {
    portion: Portion,
    reply: SyncSender<Result<Vec<u32>, DataError>>,
}

/// The ids of a chunk, once they are there.
struct Pending {
    bytes: usize,
    ids: Receiver<Result<Vec<u32>, DataError>>,
}

/// What the reader knows of the text at its end.
struct Read {
    bytes: u64,
    sha256: [u8; 32],
}

impl Work<'_> {
    /// Tokenizes, handing the tokens to `write` in their order and the bytes that are done to
    /// `done`. An error of `write` ends the work and is given back as it is.
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

        // Not even an empty group of tokens where there are none: blocks count groups.
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

    /// What stands between two documents: the end of text, once, and the marks around each.
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

            let reader = scope.spawn(move || self.read(&to_encode, &to_write));
            let mut bytes = 0;
            let mut result = Ok(());

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

            // Whoever still waits to hand something over is told that nobody listens.
            drop(pending);
            let read = reader.join().unwrap_or_else(|_| Err(self.lost()));
            result.and_then(|()| Ok(read?))
        })
    }

    /// A thread ended without an answer, which only a panic of a tokenizer does.
    fn lost(&self) -> DataError {
        let reason = "it broke off".to_owned();
        DataError::Tokenize { tokenizer: self.tokenizer.id().to_owned(), reason }
    }

    /// Reads the split and hands its chunks over, until the end or until nobody listens.
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

    /// Rows that are more than white space.
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

/// The tokens of a portion, with what is between two documents after each that another one follows.
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

        // Nobody waits for it any more once something else has failed.
        drop(chunk.reply.send(result));
    }
}
