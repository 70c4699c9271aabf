//! Makes a byte-pair encoding from a text.

use super::{Chunker, END_OF_TEXT, Portion, Tokenizer, bytes::with_bytes};
use crate::{
    error::DataError,
    hub::HubConfig,
    split::Split,
    text::files::{Flow, Reading},
    text::load::{self, Progress},
    text::source::TextSource,
};
use std::{
    path::Path,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};
use tokenizers::{
    Tokenizer as Inner,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainer},
    },
    pre_tokenizers::byte_level::ByteLevel,
};

/// Least size of a vocabulary: the bytes and the end of text.
const LEAST_VOCABULARY: usize = 257;

/// Most chunks of text that wait to be counted.
const CHUNKS: usize = 8;

/// From what to make a tokenizer, and how.
#[derive(Clone, Copy, Debug)]
pub struct TrainingRequest<'a> {
    /// A data set's name or a path, as in a spec. Only its train split is read.
    pub source: &'a str,
    /// Fractions by which a single text is cut into train, validation and test.
    pub split: [f64; 3],
    /// Size of the vocabulary, V; at least 257.
    pub vocabulary: usize,
    /// How often a pair has to occur to become a token.
    pub min_frequency: u64,
    /// How to reach the hub; `None` refuses names that come from the hub.
    pub hub: Option<&'a HubConfig>,
    /// Folder of lock files.
    pub cache: Option<&'a Path>,
}

/// Makes a byte-level BPE like GPT-2's, which can encode every text without loss. Equal texts give
/// equal tokenizers. Memory grows with the number of different words, not with the text.
///
/// # Errors
/// If the vocabulary is too small or the text cannot be read.
pub fn train_tokenizer(
    request: &TrainingRequest<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tokenizer, DataError> {
    if request.vocabulary < LEAST_VOCABULARY {
        return Err(DataError::BadSetting {
            what: "size of the vocabulary",
            expected: format!("at least {LEAST_VOCABULARY}, the bytes and {END_OF_TEXT}"),
            got: request.vocabulary.to_string(),
        });
    }

    progress(Progress::Reading);
    let reading = Reading::default();
    let source =
        load::find(request.source, request.split, reading, request.hub, request.cache, progress)?;
    let failed =
        |reason: String| DataError::BadTokenizer { name: request.source.to_owned(), reason };

    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(request.vocabulary)
        .min_frequency(request.min_frequency)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(Vec::new())
        .build()
        .into();

    let mut inner = with_bytes(Inner::new(BPE::default())).map_err(failed)?;
    // The end of text is added after the others, as in GPT-2's vocabulary, so it is left out of
    // this count.
    if let TrainerWrapper::BpeTrainer(bpe) = &mut trainer {
        bpe.vocab_size = request.vocabulary - 1;
    }

    let (sender, receiver) = sync_channel::<String>(CHUNKS);
    let chunker = Chunker::new(&Tokenizer::bytes()?);
    thread::scope(|scope| {
        let training = scope.spawn(|| inner.train(&mut trainer, receiver.into_iter()).map(drop));
        let read = read_train(&source, chunker, sender, progress);
        let trained = training.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));

        source.tell_bad_rows();
        read.and_then(|()| trained.map_err(|error| failed(error.to_string())))
    })?;

    let finished = with_bytes(Inner::new(inner.get_model().clone())).map_err(failed)?;
    let json = finished.to_string(false).map_err(|error| failed(error.to_string()))?;
    Tokenizer::from_bytes(request.source, json.into_bytes())
}

/// Sends the train split, chunk by chunk, until its end or until nobody receives it.
fn read_train(
    source: &TextSource,
    mut chunker: Chunker,
    sender: SyncSender<String>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    let of = source.estimated_bytes(Split::Train)? as usize;
    let mut bytes = 0;
    let mut send = |chunk: Portion| {
        bytes += chunk.text.len();
        progress(Progress::Tokenizing { split: Split::Train, bytes, of: of.max(bytes) });
        if sender.send(chunk.text).is_ok() { Flow::On } else { Flow::Stop }
    };

    source.read(Split::Train, &mut |piece| Ok(chunker.push(piece.text, &mut send)))?;
    chunker.finish(&mut send);
    Ok(())
}
