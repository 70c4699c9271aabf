//! Tokenizers of folders that have older files instead of `tokenizer.json`: GPT-2's `vocab.json`
//! and `merges.txt`, or BERT's `vocab.txt`.

use super::{
    companions::{SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG},
    special::END_OF_TEXT,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Classes of transformers that read `vocab.json` and `merges.txt` as GPT-2 does.
const AS_GPT2: [&str; 2] = ["GPT2Tokenizer", "GPT2TokenizerFast"];

/// Classes of transformers that read `vocab.txt` as BERT does.
const AS_BERT: [&str; 2] = ["BertTokenizer", "BertTokenizerFast"];

/// Files of the sentencepiece library.
const SENTENCE_PIECES: [&str; 3] = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"];

/// Keys under which special tokens are named.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Advice on how to make a file that can be read.
const ADVICE: &str = "make a tokenizer.json from it, as in: python -c 'from transformers import \
                      AutoTokenizer; AutoTokenizer.from_pretrained(\"FOLDER\").save_pretrained\
                      (\"FOLDER\")'";

/// The `tokenizer.json` that is made from such files; `None` if there are none. `read` returns a
/// file by its name.
pub(super) fn tokenizer_json(
    read: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, String> {
    let said = said(read)?;
    let class =
        said.config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_of = |classes: &[&str]| class.is_empty() || classes.contains(&class.as_str());

    let made = match (read("vocab.json"), read("merges.txt"), read("vocab.txt")) {
        (Some(vocabulary), Some(merges), _) if is_of(&AS_GPT2) => {
            said.pairs(&vocabulary, &merges)?
        }
        (None, None, Some(vocabulary)) if is_of(&AS_BERT) => said.words(&vocabulary)?,
        (None, None, None) => match SENTENCE_PIECES.iter().find(|name| read(name).is_some()) {
            Some(name) => return Err(format!("it has {name} but no tokenizer.json; {ADVICE}")),
            None => return Ok(None),
        },
        (Some(_), None, _) => return Err("it has vocab.json, but no merges.txt".to_owned()),
        (None, Some(_), _) => return Err("it has merges.txt, but no vocab.json".to_owned()),
        _ => {
            return Err(format!(
                "it has no tokenizer.json, and its `tokenizer_class` {class:?} is not supported; \
                 {ADVICE}"
            ));
        }
    };

    serde_json::to_vec(&made).map(Some).map_err(|error| error.to_string())
}

/// The settings in the files next to the vocabulary.
struct Said {
    config: Map<String, Value>,
    special: Map<String, Value>,
    added: Map<String, Value>,
}

fn said(read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Said, String> {
    let object = |name: &str| -> Result<Map<String, Value>, String> {
        let Some(content) = read(name) else { return Ok(Map::new()) };
        serde_json::from_slice(&content).map_err(|error| format!("{name}: {error}"))
    };

    Ok(Said {
        config: object(TOKENIZER_CONFIG)?,
        special: object(SPECIAL_TOKENS_MAP)?,
        added: object("added_tokens.json")?,
    })
}

impl Said {
    /// A byte-level byte-pair encoding like GPT-2's.
    fn pairs(&self, vocabulary: &[u8], merges: &[u8]) -> Result<Value, String> {
        let vocabulary: BTreeMap<String, u64> =
            serde_json::from_slice(vocabulary).map_err(|error| format!("vocab.json: {error}"))?;
        let merges = std::str::from_utf8(merges).map_err(|error| format!("merges.txt: {error}"))?;

        // The first line may hold the version of the layout.
        let merges = merges.lines().enumerate().filter(|(number, line)| {
            !(line.trim().is_empty() || *number == 0 && line.starts_with("#version"))
        });

        let pair = |(number, line): (usize, &str)| {
            let parts: Vec<_> = line.split(' ').collect();
            match parts.as_slice() {
                [left, right] => Ok(json!([left, right])),
                _ => Err(format!(
                    "merges.txt, line {}: expected two tokens, got {line:?}",
                    number + 1
                )),
            }
        };

        let merges = merges.map(pair).collect::<Result<Vec<_>, _>>()?;
        let prefixed =
            self.config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
        let byte_level = |add_prefix_space: bool, trim_offsets: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": add_prefix_space,
                "trim_offsets": trim_offsets, "use_regex": true,
            })
        };

        let added = self.added_tokens(&vocabulary, &[END_OF_TEXT])?;

        Ok(json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": byte_level(prefixed, true), "post_processor": byte_level(true, false),
            "decoder": byte_level(true, true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
                "vocab": vocabulary, "merges": merges,
            },
        }))
    }

    /// A WordPiece tokenizer like BERT's.
    fn words(&self, vocabulary: &[u8]) -> Result<Value, String> {
        let text =
            std::str::from_utf8(vocabulary).map_err(|error| format!("vocab.txt: {error}"))?;
        let vocabulary: BTreeMap<String, u64> = text
            .lines()
            .zip(0..)
            .map(|(token, id)| (token.trim_end_matches('\r').to_owned(), id))
            .collect();

        let usual = ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"];
        let token = |key: &str, usual: &str| self.token(key).unwrap_or_else(|| usual.to_owned());
        let mark = |key: &str, usual: &str| {
            let token = token(key, usual);
            let id =
                vocabulary.get(&token).ok_or_else(|| format!("vocab.txt has no token {token}"))?;
            Ok::<_, String>(json!([token, id]))
        };

        let flag =
            |key: &str, usual: bool| self.config.get(key).and_then(Value::as_bool).unwrap_or(usual);
        let unknown = token("unk_token", "[UNK]");
        if !vocabulary.contains_key(&unknown) {
            return Err(format!("vocab.txt has no token {unknown}"));
        }

        let added = self.added_tokens(&vocabulary, &usual)?;

        Ok(json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true,
                "handle_chinese_chars": flag("tokenize_chinese_chars", true),
                "strip_accents": self.config.get("strip_accents").cloned().unwrap_or(Value::Null),
                "lowercase": flag("do_lower_case", true),
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "BertProcessing", "sep": mark("sep_token", "[SEP]")?,
                "cls": mark("cls_token", "[CLS]")?,
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {
                "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary,
            },
        }))
    }

    /// A special token by its use.
    fn token(&self, key: &str) -> Option<String> {
        let of = |values: &Map<String, Value>| match values.get(key)? {
            Value::String(token) => Some(token.clone()),
            Value::Object(token) => token.get("content")?.as_str().map(str::to_owned),
            _ => None,
        };

        of(&self.config).or_else(|| of(&self.special))
    }

    /// The tokens that are searched for in a text before it is split, in the order of their ids:
    /// special tokens of the vocabulary, and tokens that were added to it.
    fn added_tokens(
        &self,
        vocabulary: &BTreeMap<String, u64>,
        usual: &[&str],
    ) -> Result<Vec<Value>, String> {
        let mut added: BTreeMap<u64, Value> = BTreeMap::new();
        let plain = |id: u64, content: &str, special: bool| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": !special, "special": special,
            })
        };

        let named = SPECIAL.iter().filter_map(|key| self.token(key));
        for token in usual.iter().map(|token| (*token).to_owned()).chain(named) {
            if let Some(&id) = vocabulary.get(&token) {
                added.insert(id, plain(id, &token, true));
            }
        }

        for (token, id) in &self.added {
            let id =
                id.as_u64().ok_or_else(|| format!("added_tokens.json: {token:?} has no id"))?;
            added.entry(id).or_insert_with(|| {
                plain(
                    id,
                    token,
                    SPECIAL.iter().any(|key| self.token(key).as_deref() == Some(token)),
                )
            });
        }

        let decoder = self.config.get("added_tokens_decoder").and_then(Value::as_object);
        for (id, token) in decoder.into_iter().flatten() {
            let wrong = || {
                format!("{TOKENIZER_CONFIG}: `added_tokens_decoder`: {id:?} is no id with a token")
            };
            let number: u64 = id.parse().map_err(|_| wrong())?;
            let mut token = token.as_object().cloned().ok_or_else(wrong)?;

            token.insert("id".to_owned(), json!(number));
            for key in ["single_word", "lstrip", "rstrip", "normalized", "special"] {
                token.entry(key).or_insert(json!(false));
            }

            added.insert(number, Value::Object(token));
        }

        Ok(added.into_values().collect())
    }
}
