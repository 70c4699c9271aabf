//! The tokens that begin, end and fill up a text, as the files next to a tokenizer name them.

use super::companions::{CONFIG, GENERATION_CONFIG, SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG};
use serde_json::{Map, Value};

/// The token that ends a text, BOS and EOS at once in GPT-2's vocabulary.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Tokens with which vocabularies end a text. They are searched for in this order if no file names
/// one.
const ENDS_OF_TEXT: [&str; 4] = [END_OF_TEXT, "</s>", "<eos>", "[SEP]"];

/// The same for the tokens that begin a text and that fill up windows.
const BEGINNINGS: [&str; 4] = [END_OF_TEXT, "<s>", "<bos>", "[CLS]"];
const PADDINGS: [&str; 2] = ["[PAD]", "<pad>"];

/// Files that name token ids, and files that name tokens. The first file that names one counts, ids
/// before tokens.
const OF_IDS: [&str; 2] = [GENERATION_CONFIG, CONFIG];
const OF_TOKENS: [&str; 2] = [TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP];

/// The tokens that begin, end and fill up a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The one that begins a text.
    pub begin: Option<u32>,
    /// Those that end a text. The first one is written; the others also end a generated text.
    pub ends: Vec<u32>,
    /// The one that fills windows up.
    pub padding: Option<u32>,
}

/// The tokens that files name, before they are resolved in a vocabulary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    begin: Vec<Vec<Name>>,
    ends: Vec<Vec<Name>>,
    padding: Vec<Vec<Name>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Id(u64),
    Token(String),
}

impl Declared {
    /// The files that are read.
    pub(super) const FILES: [&str; 4] =
        [GENERATION_CONFIG, CONFIG, TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP];

    /// Reads the files that `read` returns by their names.
    pub(crate) fn of(read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Self {
        let mut declared = Self::default();
        let object = |file: &str| -> Option<Map<String, Value>> {
            let parsed = serde_json::from_slice(&read(file)?);
            parsed
                .inspect_err(
                    |error| tracing::warn!(file, %error, "its special tokens cannot be read"),
                )
                .ok()
        };

        for (files, suffix) in [(OF_IDS, "_id"), (OF_TOKENS, "")] {
            for values in files.iter().filter_map(|file| object(file)) {
                for (key, names) in [
                    ("bos_token", &mut declared.begin),
                    ("eos_token", &mut declared.ends),
                    ("pad_token", &mut declared.padding),
                ] {
                    let found =
                        values.get(&format!("{key}{suffix}")).map(names_in).unwrap_or_default();
                    names.extend((!found.is_empty()).then_some(found));
                }
            }
        }

        declared
    }

    /// These ends of a text as a part of a cache key; `None` if no file names one.
    pub(super) fn ends_key(&self) -> Option<String> {
        (!self.ends.is_empty()).then(|| format!("{:?}", self.ends))
    }

    /// The same tokens as ids of a vocabulary. Names that the vocabulary lacks are skipped: configs
    /// of small models often name GPT-2's 50256.
    pub(super) fn resolve(
        &self,
        id_of: &dyn Fn(&str) -> Option<u32>,
        vocabulary: usize,
    ) -> SpecialTokens {
        let id = |name: &Name| match name {
            Name::Id(id) => u32::try_from(*id).ok().filter(|&id| (id as usize) < vocabulary),
            Name::Token(token) => id_of(token),
        };

        let first = |names: &[Vec<Name>]| -> Vec<u32> {
            let mut known =
                names.iter().map(|names| names.iter().filter_map(id).collect::<Vec<_>>());
            known.find(|ids| !ids.is_empty()).unwrap_or_default()
        };

        let spelled = |tokens: &[&str]| tokens.iter().find_map(|token| id_of(token));
        let only = |names, usual: &[&str]| first(names).first().copied().or_else(|| spelled(usual));
        let mut ends = first(&self.ends);

        if ends.is_empty() {
            ends.extend(spelled(&ENDS_OF_TEXT));
        }

        SpecialTokens {
            begin: only(&self.begin, &BEGINNINGS),
            ends,
            padding: only(&self.padding, &PADDINGS),
        }
    }
}

/// An id, several ids, a token, or an added token with its settings.
fn names_in(value: &Value) -> Vec<Name> {
    match value {
        Value::Number(id) => id.as_u64().map(Name::Id).into_iter().collect(),
        Value::String(token) => vec![Name::Token(token.clone())],
        Value::Array(several) => several.iter().flat_map(names_in).collect(),
        Value::Object(token) => token.get("content").map(names_in).unwrap_or_default(),
        Value::Null | Value::Bool(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCABULARY: [&str; 5] = ["a", "<s>", "</s>", "<pad>", "<|eot|>"];

    fn resolved(files: &[(&str, &str)]) -> SpecialTokens {
        let read = |name: &str| {
            let (_, content) = files.iter().find(|(file, _)| *file == name)?;
            Some(content.as_bytes().to_vec())
        };

        let id_of =
            |token: &str| VOCABULARY.iter().position(|known| *known == token).map(|id| id as u32);
        Declared::of(&read).resolve(&id_of, VOCABULARY.len())
    }

    #[test]
    fn the_first_file_that_names_an_end_counts() {
        let all = [
            (GENERATION_CONFIG, r#"{"eos_token_id": [4, 2]}"#),
            (CONFIG, r#"{"eos_token_id": 3, "bos_token_id": 1}"#),
            (
                TOKENIZER_CONFIG,
                r#"{"eos_token": "a", "bos_token": "a", "pad_token": {"content": "<pad>"}}"#,
            ),
            (SPECIAL_TOKENS_MAP, r#"{"eos_token": {"content": "</s>", "lstrip": false}}"#),
        ];

        let special = resolved(&all);
        assert_eq!(special, SpecialTokens { begin: Some(1), ends: vec![4, 2], padding: Some(3) });
        assert_eq!(resolved(&all[1..]).ends, [3]);
        assert_eq!(resolved(&all[2..]).ends, [0]);
        assert_eq!(resolved(&all[3..]).ends, [2]);
    }

    #[test]
    fn what_a_vocabulary_does_not_have_is_passed_over() {
        let of_gpt2 = r#"{"eos_token_id": 50256, "bos_token_id": 50256}"#;
        assert_eq!(
            resolved(&[(CONFIG, of_gpt2), (TOKENIZER_CONFIG, r#"{"eos_token": "<|eot|>"}"#)]).ends,
            [4]
        );

        // If no file names a known token, the usual spellings are searched for.
        let spelled = SpecialTokens { begin: Some(1), ends: vec![2], padding: Some(3) };
        assert_eq!(resolved(&[(CONFIG, of_gpt2)]), spelled);
        assert_eq!(resolved(&[(CONFIG, r#"{"eos_token_id": null}"#)]).ends, [2]);
        assert_eq!(resolved(&[(CONFIG, "no json"), (TOKENIZER_CONFIG, "[]")]).ends, [2]);
    }
}
