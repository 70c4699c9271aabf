//! Text and tokens for training: shipped and local corpora, tokenizers, cached token streams, batches.
//!
//! [`load`](fn@load) turns a [`DataRequest`] into [`TokenSplits`]: one [`TokenStream`] each for training, validation and
//! test. [`Windows`] cuts a stream into inputs and targets of `T` tokens, and [`Batches`] says in which order they
//! are visited. Everything is a plain array in host memory; nothing here knows of tensors, and nothing reads the
//! environment: the folder of the token cache is the caller's choice.
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

mod batches;
mod blocks;
mod cache;
mod corpus;
mod error;
mod load;
mod mapping;
mod perplexity;
mod source;
mod split;
mod stream;
mod tokenizer;
mod windows;

pub use batches::{BatchPosition, Batches};
pub use blocks::{GROUP_ROWS, MAX_SHARDS};
pub use corpus::{CORPORA, SHAKESPEARE};
pub use error::DataError;
pub use load::{DataRequest, Progress, load};
pub use perplexity::{bits_per_byte, unigram_perplexity};
pub use source::{TEXT_EXTENSIONS, read_text};
pub use split::Split;
pub use stream::{Provenance, SplitProvenance, TokenSplits, TokenStream};
pub use tokenizer::{END_OF_TEXT, GPT2, Tokenizer};
pub use windows::Windows;
