//! Checks a `tokenizer.json` before the `tokenizers` crate reads it.
//!
//! The crate trusts its files. Some files make it panic, some end the process because memory or
//! stack runs out, some never end, and some silently change a text. This module finds what can be
//! seen in the file alone.

use dlt_spec::foreign::not_json;
use fancy_regex::Regex;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Largest file, in bytes. The largest published files have 35 MB. Reading needs some ten times as
/// much memory.
pub(crate) const MOST_BYTES: u64 = 128 << 20;

/// Ids have to be below this: four times the largest published vocabulary. The limit is needed
/// because tables get a row for each id.
pub(crate) const MOST_IDS: u64 = 1 << 22;

/// How many more ids may be unused than are used.
const UNUSED_IDS: usize = 4096;

/// Longest added token, in bytes. Each is searched for at every place of a text.
const LONGEST_ADDED: usize = 1 << 12;

/// Most bytes of all added tokens.
const MOST_ADDED_BYTES: usize = 8 << 20;

/// How deep normalizers and other parts may be nested, and how many parts of each kind are allowed.
const DEEPEST: usize = 8;
const MOST_PARTS: usize = 64;

/// How many times longer a text may become. Published normalizers make a blank three times as long.
const MOST_GROWTH: f64 = 64.0;

/// Characters on whose long runs the patterns are tried.
const RUNS: [&str; 8] = ["a", "A", "0", " ", "\n", "!", "é", "中"];
const RUN: usize = 2000;

/// The parts of a tokenizer that may hold others of their kind, with the key of those.
const PARTS: [(&str, &str); 4] = [
    ("normalizer", "normalizers"),
    ("pre_tokenizer", "pretokenizers"),
    ("post_processor", "processors"),
    ("decoder", "decoders"),
];

/// Facts from a file that the crate's tokenizer does not give.
#[derive(Debug, Default)]
pub(super) struct Vetted {
    /// The added tokens with the ids that the file gives them.
    pub(super) added: Vec<(String, u32)>,
    /// What a user should know about it.
    pub(super) notes: Vec<String>,
}

/// Checks a file. The error says what is wrong with it.
pub(super) fn vet(content: &[u8]) -> Result<Vetted, String> {
    let json: Value = serde_json::from_slice(content).map_err(|error| not_json(content, &error))?;
    let whole = json.as_object().ok_or("expected a JSON object")?;
    let model = whole.get("model").and_then(Value::as_object).ok_or("it has no `model`")?;
    let mut vetted = Vetted::default();
    let mut ids = Ids::of(model)?;

    vetted.added = added_tokens(whole, &mut ids)?;
    ids.check_dense()?;

    for (key, children) in PARTS {
        let mut parts = Vec::new();
        gather(key, whole.get(key).unwrap_or(&Value::Null), children, 0, &mut parts)?;

        let growth: f64 = parts.iter().map(|part| growth(part)).product();
        if growth > MOST_GROWTH {
            return Err(format!(
                "its `{key}` can make a text {growth:.0} times as long; at most {MOST_GROWTH} \
                 times is allowed"
            ));
        }

        for part in parts {
            check_part(key, part)?;
        }
    }

    vetted.notes = notes(whole, model, &ids);
    Ok(vetted)
}

/// Which token has each id.
struct Ids<'a> {
    tokens: BTreeMap<u64, &'a str>,
    vocabulary: BTreeMap<&'a str, u64>,
}

impl<'a> Ids<'a> {
    fn of(model: &'a Map<String, Value>) -> Result<Self, String> {
        let mut ids = Self { tokens: BTreeMap::new(), vocabulary: BTreeMap::new() };
        match model.get("vocab") {
            Some(Value::Object(vocabulary)) => {
                for (token, id) in vocabulary {
                    ids.take(token, id.as_u64().ok_or_else(|| not_an_id(token, id))?)?;
                }
            }
            Some(Value::Array(pieces)) => {
                for (piece, id) in pieces.iter().zip(0..) {
                    ids.take(unigram_piece(piece, id)?, id)?;
                }

                if pieces.is_empty() {
                    return Err("its `vocab` is empty".to_owned());
                }

                if let Some(unknown) = model.get("unk_id").filter(|id| !id.is_null())
                    && unknown.as_u64().is_none_or(|id| id >= pieces.len() as u64)
                {
                    return Err(format!(
                        "`unk_id` is {unknown}, but it has {} tokens",
                        pieces.len()
                    ));
                }
            }
            _ => return Err("its `model` has no `vocab`".to_owned()),
        }

        if ids.tokens.is_empty() {
            return Err("its `vocab` is empty".to_owned());
        }

        Ok(ids)
    }

    fn take(&mut self, token: &'a str, id: u64) -> Result<(), String> {
        if id >= MOST_IDS {
            return Err(format!(
                "the token {token:?} has id {id}; ids have to be below {MOST_IDS}"
            ));
        }
        if let Some(other) = self.tokens.insert(id, token).filter(|other| *other != token) {
            return Err(format!("the tokens {other:?} and {token:?} have the same id, {id}"));
        }

        // Unigram vocabularies may list a piece twice; the last one counts.
        self.vocabulary.insert(token, id);
        Ok(())
    }

    fn check_dense(&self) -> Result<(), String> {
        let count = self.tokens.len();
        let largest = self.tokens.keys().next_back().copied().unwrap_or(0);
        if largest as usize > 2 * count + UNUSED_IDS {
            return Err(format!(
                "its largest id is {largest}, but it has only {count} tokens: a table of all ids \
                 would be all but empty"
            ));
        }

        Ok(())
    }
}

fn not_an_id(token: &str, id: &Value) -> String {
    format!("the token {token:?}: expected an id, a whole number from 0, got {id}")
}

fn unigram_piece(piece: &Value, id: u64) -> Result<&str, String> {
    let pair = piece.as_array().map(Vec::as_slice);
    let Some([Value::String(token), score]) = pair else {
        return Err(format!("`vocab`, entry {id}: expected a token and its score, got {piece}"));
    };

    match score.as_f64() {
        Some(score) if score.is_finite() => Ok(token),
        _ => Err(format!("the token {token:?}: expected a number as its score, got {score}")),
    }
}

/// Added tokens with their ids. A token that is also in the vocabulary must have the same id there.
fn added_tokens<'a>(
    whole: &'a Map<String, Value>,
    ids: &mut Ids<'a>,
) -> Result<Vec<(String, u32)>, String> {
    let Some(list) = whole.get("added_tokens").filter(|list| !list.is_null()) else {
        return Ok(Vec::new());
    };
    let list = list.as_array().ok_or("`added_tokens`: expected a list")?;
    let mut bytes = 0;
    let mut added = Vec::with_capacity(list.len());

    for (entry, number) in list.iter().zip(0..) {
        let content = entry.get("content").and_then(Value::as_str);
        let content = content
            .ok_or_else(|| format!("`added_tokens`, entry {number}: it has no `content`"))?;
        let given = entry.get("id").unwrap_or(&Value::Null);
        let id = given.as_u64().ok_or_else(|| not_an_id(content, given))?;

        bytes += content.len();
        if content.is_empty() {
            return Err(format!("`added_tokens`, entry {number}: its `content` is empty"));
        }

        if content.len() > LONGEST_ADDED || bytes > MOST_ADDED_BYTES {
            return Err(format!(
                "`added_tokens`, entry {number}: it has {} bytes, {bytes} with those before it; at \
                 most {LONGEST_ADDED} each and {MOST_ADDED_BYTES} together are allowed",
                content.len()
            ));
        }

        if let Some(&other) = ids.vocabulary.get(content)
            && other != id
        {
            return Err(format!("the token {content:?} has two ids, {other} and {id}"));
        }

        ids.take(content, id)?;
        added.push((content.to_owned(), id as u32));
    }

    Ok(added)
}

/// All parts of a kind, including nested ones.
fn gather<'a>(
    key: &str,
    part: &'a Value,
    children: &str,
    depth: usize,
    parts: &mut Vec<&'a Map<String, Value>>,
) -> Result<(), String> {
    let Some(fields) = part.as_object() else { return Ok(()) };
    if depth >= DEEPEST || parts.len() >= MOST_PARTS {
        return Err(format!(
            "its `{key}` is nested or long: at most {MOST_PARTS} parts are allowed, {DEEPEST} deep"
        ));
    }

    parts.push(fields);
    let inner = fields.get(children).and_then(Value::as_array);
    inner.into_iter().flatten().try_for_each(|child| gather(key, child, children, depth + 1, parts))
}

/// How many times longer a part can make a text, at most.
fn growth(part: &Map<String, Value>) -> f64 {
    match part.get("type").and_then(Value::as_str) {
        // A byte that is not printable is written as a letter of two bytes.
        Some("ByteLevel") => 2.0,
        Some("Replace") => {
            let content =
                part.get("content").and_then(Value::as_str).unwrap_or_default().len() as f64;
            match pattern(part) {
                Some(Pattern::Text("")) => 1.0 + content,
                Some(Pattern::Text(text)) => (content / text.len() as f64).max(1.0),
                Some(Pattern::Regex(regex))
                    if Regex::new(regex).is_ok_and(|it| it.is_match("").unwrap_or(true)) =>
                {
                    1.0 + content
                }
                _ => content.max(1.0),
            }
        }
        _ => 1.0,
    }
}

/// What a part searches for.
enum Pattern<'a> {
    Text(&'a str),
    Regex(&'a str),
}

fn pattern(part: &Map<String, Value>) -> Option<Pattern<'_>> {
    match part.get("pattern")? {
        Value::String(text) => Some(Pattern::Text(text)),
        Value::Object(one) => match (one.get("String"), one.get("Regex")) {
            (Some(text), _) => text.as_str().map(Pattern::Text),
            (None, Some(regex)) => regex.as_str().map(Pattern::Regex),
            (None, None) => None,
        },
        _ => None,
    }
}

fn check_part(key: &str, part: &Map<String, Value>) -> Result<(), String> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind == "FixedLength" && part.get("length").is_some_and(|length| length.as_u64() == Some(0))
    {
        return Err(format!("its `{key}` cuts a text into pieces of no length"));
    }

    match pattern(part) {
        Some(Pattern::Regex(regex)) => check_regex(key, regex),
        _ => Ok(()),
    }
}

/// Refuses a pattern that gives up on a long run of one character: the crate would then silently
/// leave the rest of the text unsplit.
fn check_regex(key: &str, text: &str) -> Result<(), String> {
    let regex = Regex::new(text)
        .map_err(|error| format!("its `{key}` has a pattern that cannot be read: {error}"))?;

    for run in RUNS {
        let probe = format!("{0}\u{1}x {0}", run.repeat(RUN));
        if let Some(error) = regex.find_iter(&probe).find_map(Result::err) {
            return Err(format!(
                "its `{key}` has the pattern {text:?}, which gives up on a run of {RUN} {run:?} \
                 ({error}): a text would be split only up to there"
            ));
        }
    }

    Ok(())
}

/// Notes about settings that are not used, and about text that gets lost.
fn notes(whole: &Map<String, Value>, model: &Map<String, Value>, ids: &Ids<'_>) -> Vec<String> {
    let is_set = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    let mut notes = Vec::new();

    for (key, what) in [("truncation", "cut texts short"), ("padding", "fill texts up")] {
        if is_set(whole.get(key)) {
            notes.push(format!("its `{key}`, which would {what}, is not used"));
        }
    }

    if ["dropout", "alpha"]
        .iter()
        .any(|key| model.get(*key).and_then(Value::as_f64).is_some_and(|p| p > 0.0))
    {
        notes.push(
            "it would encode at random: this is disabled, so that equal texts get equal tokens"
                .to_owned(),
        );
    }

    let is_pairs = model.get("vocab").is_some_and(Value::is_object)
        && (model.get("type").and_then(Value::as_str) == Some("BPE")
            || model.contains_key("merges"));
    let falls_back = model.get("byte_fallback").and_then(Value::as_bool) == Some(true);

    if is_pairs && !is_set(model.get("unk_token")) && !falls_back {
        let letters = super::gpt2::byte_letters();
        let missing = letters
            .iter()
            .filter(|letter| !ids.vocabulary.contains_key(letter.to_string().as_str()))
            .count();

        if missing > 0 {
            notes.push(format!(
                "it has no unknown token, and no token for {missing} of the 256 bytes: text that \
                 it cannot encode is left out"
            ));
        }
    }

    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(change: impl FnOnce(&mut Value)) -> Result<Vetted, String> {
        let mut file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
            "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"?": 0, "to": 1, "be": 2}, "unk_token": "?"},
        });

        change(&mut file);
        vet(file.to_string().as_bytes())
    }

    fn refused(expected: &str, change: impl FnOnce(&mut Value)) {
        let reason = with(change).expect_err(expected);
        assert!(reason.contains(expected), "{reason}");
    }

    fn nested(depth: usize) -> Value {
        let inner = json!({"type": "Whitespace"});
        (0..depth).fold(inner, |inner, _| json!({"type": "Sequence", "pretokenizers": [inner]}))
    }

    #[test]
    fn a_usual_file_passes_without_a_note() {
        let vetted = with(|_| ()).expect("it is good");
        assert!(vetted.notes.is_empty() && vetted.added.is_empty(), "{vetted:?}");
        with(|file| file["pre_tokenizer"] = nested(3)).expect("published files nest twice");
    }

    #[test]
    fn rejects_ids_that_no_table_could_have() {
        refused("id 4194304", |file| file["model"]["vocab"]["to"] = json!(1 << 22));
        refused("id 4294967297", |file| file["model"]["vocab"]["to"] = json!((1_u64 << 32) + 1));
        refused("largest id is 100000", |file| file["model"]["vocab"]["to"] = json!(100_000));
        refused("expected an id", |file| file["model"]["vocab"]["to"] = json!(-1));
        refused("have the same id, 1", |file| file["model"]["vocab"]["be"] = json!(1));
        refused("`vocab` is empty", |file| file["model"]["vocab"] = json!({}));
        refused("no `vocab`", |file| file["model"] = json!({"type": "WordLevel"}));
        refused("no `model`", |file| file["model"] = json!(null));
    }

    #[test]
    fn rejects_added_tokens_that_are_empty_huge_or_named_twice() {
        let added =
            |content: &str, id: u64| json!([{"id": id, "content": content, "special": true}]);
        refused("`content` is empty", |file| file["added_tokens"] = added("", 3));
        refused("has 5000 bytes", |file| file["added_tokens"] = added(&"x".repeat(5000), 3));
        refused("two ids, 1 and 3", |file| file["added_tokens"] = added("to", 3));
        refused("have the same id, 1", |file| file["added_tokens"] = added("<s>", 1));
        refused("largest id is 4194303", |file| file["added_tokens"] = added("<s>", (1 << 22) - 1));

        let vetted = with(|file| file["added_tokens"] = added("<s>", 3)).expect("it is good");
        assert_eq!(vetted.added, [("<s>".to_owned(), 3)]);
    }

    #[test]
    fn rejects_unigrams_without_scores_or_with_an_unknown_unknown() {
        let unigram = |vocabulary: Value, unknown: u64| json!({"type": "Unigram", "vocab": vocabulary, "unk_id": unknown});
        refused("`unk_id` is 2", |file| {
            file["model"] = unigram(json!([["a", -1.0], ["b", -2.0]]), 2)
        });
        refused("entry 1", |file| file["model"] = unigram(json!([["a", -1.0], ["b"]]), 0));
        refused("as its score", |file| file["model"] = unigram(json!([["a", null]]), 0));
        refused("`vocab` is empty", |file| file["model"] = unigram(json!([]), 0));
    }

    #[test]
    fn rejects_what_is_nested_deep_or_long() {
        refused("nested or long", |file| file["pre_tokenizer"] = nested(60));
        let wide = vec![json!({"type": "Whitespace"}); 100];
        refused("nested or long", |file| {
            file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": wide});
        });
    }

    #[test]
    fn rejects_normalizers_that_lengthen_without_bound() {
        let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let many = |count| json!({"type": "Sequence", "normalizers": vec![double.clone(); count]});
        with(|file| file["normalizer"] = many(6)).expect("64 times as long");
        refused("128 times as long", |file| file["normalizer"] = many(7));

        let anywhere =
            json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x".repeat(100)});
        refused("101 times as long", |file| file["normalizer"] = anywhere);
    }

    #[test]
    fn rejects_patterns_that_give_up_and_pieces_of_no_length() {
        let split = |regex: &str| {
            let pattern = json!({"Regex": regex});
            json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
        };
        refused("gives up", |file| file["pre_tokenizer"] = split(r"(?=(a+)+$)(?:a|aa)+\1z"));
        refused("cannot be read", |file| file["pre_tokenizer"] = split("("));
        refused("no length", |file| {
            file["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0})
        });

        let published = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        with(|file| file["pre_tokenizer"] = split(published)).expect("as in published files");
    }

    #[test]
    fn what_would_change_texts_silently_is_noted() {
        let notes = |change: fn(&mut Value)| with(change).expect("it is good").notes.join("; ");
        let truncated = notes(|file| file["truncation"] = json!({"max_length": 2}));
        assert!(truncated.contains("`truncation`"), "{truncated}");

        let pairs = |more: Value| {
            let mut model =
                json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]});
            model
                .as_object_mut()
                .expect("it is one")
                .extend(more.as_object().expect("it is one").clone());
            with(|file| file["model"] = model).expect("it is good").notes.join("; ")
        };

        assert!(pairs(json!({})).contains("254 of the 256 bytes"));
        assert!(pairs(json!({"dropout": 0.1})).contains("at random"));
        assert_eq!(pairs(json!({"unk_token": "a"})), "");
    }
}
