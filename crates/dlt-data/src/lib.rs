//! Text and tokens for training: shipped and local corpora, tokenizers, cached token streams, batches.
