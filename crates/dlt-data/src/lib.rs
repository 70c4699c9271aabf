//! Text and tokens for training: shipped and local corpora, tokenizers, cached token streams,
//! batches.
//!
//! [`load`](fn@load) turns a [`DataRequest`] into [`TokenSplits`]: one [`TokenStream`] each for
//! training, validation and test. [`Windows`] cuts a stream into inputs and targets of `T` tokens,
//! and [`Batches`] gives the order in which they are visited. [`Material`] does the same for
//! everything that a spec can name: text, sentences with a class, or pictures. All data are plain
//! arrays in host memory. This crate knows no tensors and does not read the environment: the caller
//! chooses the folder of the token cache.
//!
//! ```
//! use dlt_data::{Tokenizer, TokenStream, Windows};
//!
//! let tokenizer = Tokenizer::gpt2()?;
//! let text = "To be, or not to be, that is the question";
//! let stream = TokenStream::new(tokenizer.encode(text)?, text.len());
//! let windows = Windows::stream(stream, 4)?;
//! let (mut inputs, mut targets) = ([0; 4], [0; 4]);
//! windows.fill(0, &mut inputs, &mut targets)?;
//! assert_eq!(inputs[1..], targets[..3]);
//! assert_eq!(tokenizer.decode(&inputs)?, "To be, or");
//! # Ok::<(), dlt_data::DataError>(())
//! ```

mod checksum;
mod durable;
mod error;
mod hub;
mod leftovers;
mod material;
mod pictures;
mod sentences;
mod split;
mod text;
mod tokenizer;

pub use error::DataError;
pub use hub::catalogue;
pub use hub::origin::{HUB_PREFIX, is_local, pinned};
pub use hub::pretrained::{FetchedModel, fetch_model};
pub use hub::retrieval::{Fetched, fetch};
pub use hub::{
    FetchEvent, HUB_ENDPOINT, Hub, HubConfig, Listing, OnFetch, Patience, RemoteFile, RepoKind,
    RepoName, Revision, Token,
};
pub use leftovers::{Leftovers, leftovers, remove_leftover};
pub use material::batches::{BatchPosition, Batches};
pub use material::plan::plan_folder;
pub use material::prefetch::{Prefetcher, Ready, prefetch};
pub use material::{Draw, ExampleBatch, Examples, Material, Places};
pub use pictures::{
    Augment, CIFAR10_MEAN, CIFAR10_SIDE, CIFAR10_STD, PictureBatch, PictureSettings, PictureSplits,
    Pictures, load_pictures, read_cifar10,
};
pub use sentences::{
    Example, Framing, SentenceBatch, SentenceIds, SentenceSplits, load_sentences, read_sentences,
    truncated_lengths,
};
pub use split::Split;
pub use text::blocks::{GROUP_ROWS, MAX_SHARDS};
pub use text::cleaning::{Cleaned, clean};
pub use text::corpus::{CORPORA, SHAKESPEARE};
pub use text::files::{BadRows, ColumnChoice, DATA_EXTENSIONS, TextColumn};
pub use text::load::{DataRequest, LoadedText, Progress, load, load_text};
pub use text::perplexity::{bits_per_byte, unigram_perplexity, unigram_perplexity_of};
pub use text::source::read_text;
pub use text::stream::{HubProvenance, Provenance, SplitProvenance, TokenSplits, TokenStream};
pub use text::whole::whole_tokens;
pub use text::windows::{InputsAndTargets, Windows};
pub use tokenizer::{
    BYTES, COMPANIONS_FOLDER, Companions, END_OF_TEXT, GPT2, KeptTokenizer, Marks, Pairs,
    SpecialTokens, TOKENIZER_FILE, Template, Tokenizer, TrainingRequest, train_tokenizer,
};
