//! The tokenizer in which every byte is a token.

use super::{END_OF_TEXT, gpt2::byte_letters};
use tokenizers::{
    AddedToken, Tokenizer,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::byte_level::ByteLevel,
};

pub(super) fn tokenizer() -> Result<Tokenizer, String> {
    let vocabulary: Vocab = byte_letters().iter().map(char::to_string).zip(0..).collect();
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, Vec::new())
        .build()
        .map_err(|error| error.to_string())?;

    with_bytes(Tokenizer::new(model))
}

/// Adds to a model whose letters are bytes what GPT-2's tokenizer has: splitting into words,
/// decoding to bytes, and an end of text.
pub(super) fn with_bytes(mut tokenizer: Tokenizer) -> Result<Tokenizer, String> {
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_post_processor(Some(ByteLevel::new(true, false, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(true, true, true)));
    tokenizer
        .add_special_tokens([AddedToken::from(END_OF_TEXT, true).normalized(true)])
        .map_err(|error| error.to_string())?;

    Ok(tokenizer)
}
