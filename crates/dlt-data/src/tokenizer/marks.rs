//! The tokens that a tokenizer's template puts around a text, such as BOS and EOS, or CLS and SEP.

use super::{Tokenizer, guard};
use crate::error::DataError;
use serde_json::{Value, json};
use std::fmt;

/// Texts on which a template is tried, until one has tokens.
const SAMPLES: [&str; 5] = ["a", "A", "0", ".", "the"];

/// The tokens around a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Before it.
    pub before: Vec<u32>,
    /// After it.
    pub after: Vec<u32>,
}

impl Marks {
    /// Whether nothing is put around a text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// What an exported tokenizer has to put around and between texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Around a text.
    pub single: Marks,
    /// Between the two texts of a pair. The ends of a pair are as in `single`.
    pub between: Vec<u32>,
}

impl Tokenizer {
    /// What the tokenizer's own template puts around a text.
    ///
    /// # Errors
    /// If the template changes the text itself, or has tokens that the vocabulary lacks.
    pub fn marks(&self) -> Result<Marks, DataError> {
        let refuse = |reason: &str| DataError::Tokenize {
            tokenizer: self.id.clone(),
            reason: format!("its template {reason}; set data.marks=none to leave it out"),
        };

        let encode = |text: &str, with: bool| {
            guard::caught(|| {
                self.inner.encode_fast(text, with).map(|encoding| encoding.get_ids().to_vec())
            })
            .and_then(|encoded| encoded.map_err(|error| error.to_string()))
            .map_err(|reason| refuse(&format!("fails: {reason}")))
        };

        for sample in SAMPLES {
            let bare = encode(sample, false)?;
            if bare.is_empty() {
                continue;
            }

            let dressed = encode(sample, true)?;
            let start = dressed.windows(bare.len()).position(|window| *window == *bare);
            let start = start.ok_or_else(|| refuse("does not leave a text whole"))?;
            let marks = Marks {
                before: dressed[..start].to_vec(),
                after: dressed[start + bare.len()..].to_vec(),
            };

            let all = marks.before.iter().chain(&marks.after);
            if all.clone().any(|&id| id as usize >= self.vocabulary) {
                return Err(refuse("has tokens that its vocabulary lacks"));
            }

            return Ok(marks);
        }

        Ok(Marks::default())
    }

    /// The tokens around a text and between the texts of a pair, by the tokenizer's own template.
    /// `None` if it has no such form.
    pub(crate) fn template(&self) -> Option<Template> {
        let single = self.marks().ok()?;
        let sample =
            SAMPLES.iter().find(|sample| self.encode(sample).is_ok_and(|ids| !ids.is_empty()))?;
        let bare = self.encode(sample).ok()?;
        let both = guard::caught(|| self.inner.encode((*sample, *sample), true)).ok()?.ok()?;
        let inner =
            both.get_ids().strip_prefix(&single.before[..])?.strip_suffix(&single.after[..])?;

        let between = inner.strip_prefix(&bare[..])?.strip_suffix(&bare[..])?.to_vec();
        Some(Template { single, between })
    }

    /// The `tokenizer.json` with the template `wanted`. It is byte for byte as it was read if its
    /// own template is the same.
    ///
    /// # Errors
    /// If a token of the template has no name.
    pub fn json_with(&self, wanted: &Template, pairs: Pairs) -> Result<Vec<u8>, DataError> {
        let is_same_between = || {
            pairs == Pairs::Unused
                || self.template().is_some_and(|own| own.between == wanted.between)
        };

        if self.marks().is_ok_and(|own| own == wanted.single) && is_same_between() {
            return self.json();
        }

        let failed = |reason: String| DataError::Tokenize { tokenizer: self.id.clone(), reason };
        let json = self.inner.to_string(false).map_err(|error| failed(error.to_string()))?;
        let mut whole: Value =
            serde_json::from_str(&json).map_err(|error| failed(error.to_string()))?;
        let mut processors = offsets(&whole["post_processor"]);

        if !wanted.single.is_empty() || !wanted.between.is_empty() {
            processors.push(self.processor(wanted).map_err(failed)?);
        }

        let processor = match processors.len() {
            0 => Value::Null,
            1 => processors.remove(0),
            _ => json!({"type": "Sequence", "processors": processors}),
        };

        whole["post_processor"] = processor.clone();
        // The crate writes the whole file, so that keys and numbers are in its form.
        let mut inner = (*self.inner).clone();
        let parsed: Option<tokenizers::PostProcessorWrapper> =
            serde_json::from_value(processor).map_err(|error| failed(error.to_string()))?;

        inner.with_post_processor(parsed);
        inner.to_string(false).map(String::into_bytes).map_err(|error| failed(error.to_string()))
    }

    fn processor(&self, wanted: &Template) -> Result<Value, String> {
        let mut special = serde_json::Map::new();
        let mut mark = |id: &u32, type_id: u8| {
            let token =
                self.inner.id_to_token(*id).ok_or_else(|| format!("no token of id {id}"))?;
            let entry = json!({"id": token, "ids": [id], "tokens": [token]});
            special.insert(token.clone(), entry);
            Ok::<_, String>(json!({"SpecialToken": {"id": token, "type_id": type_id}}))
        };

        let text = |name: &str, type_id: u8| json!({"Sequence": {"id": name, "type_id": type_id}});
        let Template { single: Marks { before, after }, between } = wanted;
        let mut all = |ids: &[u32], type_id| {
            ids.iter().map(|id| mark(id, type_id)).collect::<Result<Vec<_>, _>>()
        };

        let begin = all(before, 0)?;
        let middle = all(between, 0)?;
        let end = all(after, 0)?;
        let end_of_pair = all(after, 1)?;
        let single = [begin.clone(), vec![text("A", 0)], end].concat();
        let pair = [begin, vec![text("A", 0)], middle, vec![text("B", 1)], end_of_pair].concat();

        Ok(json!({
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair,
            "special_tokens": special,
        }))
    }
}

/// Whether texts are read in pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Only single texts are read, so the tokens between two do not matter.
    Unused,
    /// Pairs are read, so the tokens between two matter.
    Used,
}

/// The parts of a post-processor that put nothing around a text, which are kept.
fn offsets(processor: &Value) -> Vec<Value> {
    match processor["type"].as_str() {
        Some("ByteLevel") => vec![processor.clone()],
        Some("Sequence") => {
            processor["processors"].as_array().into_iter().flatten().flat_map(offsets).collect()
        }
        _ => Vec::new(),
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} before and {:?} after a text", self.before, self.after)
    }
}
