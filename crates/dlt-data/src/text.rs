//! Texts: how files become text, text becomes tokens, and tokens become windows.

pub(crate) mod blocks;
pub(crate) mod cache;
pub(crate) mod cleaning;
pub(crate) mod corpus;
pub(crate) mod files;
pub(crate) mod load;
pub(crate) mod perplexity;
pub(crate) mod selection;
pub(crate) mod source;
pub(crate) mod stream;
pub(crate) mod token_file;
pub(crate) mod tokenizing;
pub(crate) mod whole;
pub(crate) mod windows;
