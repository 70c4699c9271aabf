//! Tests of everything that the crate promises, by subject.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod batches;
mod blocks;
mod cache;
mod catalogue;
mod corpus;
mod files;
mod hub;
mod hub_faults;
mod labelled;
mod material;
mod perplexity;
mod pictures;
mod plans;
mod prefetch;
mod pretrained;
mod python_cache;
mod rows;
mod sentences;
mod separators;
#[cfg(feature = "shared-data")]
mod shared_data;
mod sources;
mod tokenizer;
mod windows;

use dlt_data::{DataError, DataRequest, GPT2, SHAKESPEARE, Split, TokenSplits, Tokenizer, load};
use dlt_spec::spec::{DataSpec, Order, Pipeline, Separator};
use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::LazyLock,
};
use tempfile::TempDir;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::gpt2().unwrap());

fn shakespeare() -> DataSpec {
    DataSpec {
        source: SHAKESPEARE.to_owned(),
        tokenizer: GPT2.to_owned(),
        split: [0.9, 0.05, 0.05],
        pipeline: Pipeline::Stream,
        order: Order::Pass,
        ..dlt_spec::Spec::default().data
    }
}

fn from_path(path: &Path) -> DataSpec {
    DataSpec { source: path.to_string_lossy().into_owned(), ..shakespeare() }
}

/// Settings that read files as single bytes, so that a test sees every byte that is read.
fn bytes_of(path: impl AsRef<Path>) -> DataSpec {
    DataSpec {
        tokenizer: "bytes".to_owned(),
        split: [0.4, 0.3, 0.3],
        separator: Separator::Line,
        ..from_path(path.as_ref())
    }
}

/// The text of all splits together.
fn text_of(splits: &TokenSplits) -> String {
    let bytes = Tokenizer::bytes().unwrap();
    Split::ALL.map(|split| bytes.decode(&splits.split(split).tokens().unwrap()).unwrap()).concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Loads without a cache.
fn loaded(data: &DataSpec, context: usize) -> Result<TokenSplits, DataError> {
    load(&DataRequest::new(data, context), &mut |_| ())
}

fn write(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// A text of a few hundred distinct words.
fn some_text() -> String {
    (0..400).map(|word| format!("word{word}{}", if word % 7 == 6 { ".\n" } else { " " })).collect()
}

/// Panics unless loading fails, and returns the message.
fn rejection(data: &DataSpec, context: usize) -> String {
    loaded(data, context).unwrap_err().to_string()
}
