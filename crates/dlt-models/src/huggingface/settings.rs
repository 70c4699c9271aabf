//! Reads the values of a `config.json`, each with its type and its default.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use dlt_spec::foreign::not_json;
use serde_json::{Map, Value};

use crate::{ModelError, Result};

/// The largest `config.json` that is read. Most have a few KiB, with labels a few hundred.
const MOST_BYTES: u64 = 16 << 20;

/// The JSON of a file, which must be an object.
pub(crate) fn read_json(path: &Path) -> Result<Map<String, Value>> {
    let io = |source| ModelError::Io { action: "read", path: path.to_owned(), source };
    let refuse = |reason| ModelError::Format { path: path.to_owned(), reason };
    let text = dlt_spec::file::read(path, MOST_BYTES).map_err(io)?;

    match serde_json::from_slice(&text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(refuse("expected a JSON object".to_owned())),
        Err(error) => Err(refuse(not_json(&text, &error))),
    }
}

/// How many letters of a value a message shows at most.
const MOST_SHOWN: usize = 80;

/// The settings of a config.
pub(crate) struct Settings<'a> {
    path: &'a Path,
    /// For an object within the config, its key. Messages show it before the keys of the object.
    within: &'a str,
    values: &'a Map<String, Value>,
    /// The keys that have been read.
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Settings<'a> {
    /// The settings of the file `path`.
    pub(crate) fn new(path: &'a Path, values: &'a Map<String, Value>) -> Self {
        Self { path, within: "", values, asked: RefCell::default() }
    }

    /// The object under a key, if there is one.
    pub(crate) fn object(&self, key: &'a str) -> Result<Option<Self>> {
        match self.given(key) {
            None => Ok(None),
            Some(Value::Object(values)) => {
                Ok(Some(Self { path: self.path, within: key, values, asked: RefCell::default() }))
            }
            Some(other) => Err(self.refuse(key, "an object", &other.to_string())),
        }
    }

    /// The value of a key; null counts as none. Marks the key as read.
    pub(crate) fn given(&self, key: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether the file has a key, even with null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The keys that have not been read and whose values say something: they are not null, false or
    /// empty.
    pub(crate) fn unread(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let says_something = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(values) => !values.is_empty(),
            _ => true,
        };

        let asked = self.asked.borrow().clone();
        let is_unread = move |key: &String, value| !asked.contains(key) && says_something(value);
        self.values.iter().filter(move |(key, value)| is_unread(key, value))
    }

    /// Keys and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.values.iter()
    }

    /// The error for a value; a long one is cut.
    pub(crate) fn refuse(&self, key: &str, expected: &str, got: &str) -> ModelError {
        // By characters: a cut inside of one would panic.
        let got = match got.char_indices().nth(MOST_SHOWN) {
            Some((end, _)) => format!("{}…", &got[..end]),
            None => got.to_owned(),
        };

        let point = if self.within.is_empty() { "" } else { "." };
        let reason = format!("`{}{point}{key}`: expected {expected}, got {got}", self.within);
        ModelError::Format { path: self.path.to_owned(), reason }
    }

    fn refuse_value(&self, key: &str, expected: &str) -> ModelError {
        let got = self.values.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
        self.refuse(key, expected, &got)
    }

    /// A whole number, or `default` where the key is absent.
    pub(crate) fn whole(&self, key: &str, default: usize) -> Result<usize> {
        if !self.values.contains_key(key) {
            return Ok(default);
        }
        self.whole_if_given(key)?.ok_or_else(|| self.refuse_value(key, "a whole number"))
    }

    /// A whole number, if there is one.
    pub(crate) fn whole_if_given(&self, key: &str) -> Result<Option<usize>> {
        let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        self.given(key)
            .map(|value| number(value).ok_or_else(|| self.refuse_value(key, "a whole number")))
            .transpose()
    }

    /// A number, or `default` where the key is absent.
    pub(crate) fn real(&self, key: &str, default: f64) -> Result<f64> {
        if !self.values.contains_key(key) {
            return Ok(default);
        }
        self.real_if_given(key)?.ok_or_else(|| self.refuse_value(key, "a number"))
    }

    /// A number, if there is one.
    pub(crate) fn real_if_given(&self, key: &str) -> Result<Option<f64>> {
        let number =
            |value: &Value| value.as_f64().ok_or_else(|| self.refuse_value(key, "a number"));
        self.given(key).map(number).transpose()
    }

    /// Numbers, if there are some.
    pub(crate) fn reals_if_given(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let refuse = || self.refuse_value(key, "a list of numbers");
        let numbers = |value: &Value| {
            let items = value.as_array().ok_or_else(refuse)?;
            items.iter().map(|item| item.as_f64().ok_or_else(refuse)).collect()
        };

        self.given(key).map(numbers).transpose()
    }

    /// True or false, or `default` where the key is absent or null.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let flag =
            |value: &Value| value.as_bool().ok_or_else(|| self.refuse_value(key, "true or false"));
        self.given(key).map_or(Ok(default), flag)
    }

    /// A word, if there is one.
    pub(crate) fn word(&self, key: &str) -> Result<Option<&'a str>> {
        let word =
            |value: &'a Value| value.as_str().ok_or_else(|| self.refuse_value(key, "a word"));
        self.given(key).map(word).transpose()
    }

    /// Refuses any value of a setting except the one that this program has. If the key is absent,
    /// transformers uses that value.
    pub(crate) fn must_be(&self, key: &str, only: &Value) -> Result<()> {
        match self.given(key) {
            Some(value) if !is_equal(value, only) => Err(self.refuse_value(key, &only.to_string())),
            _ => Ok(()),
        }
    }

    /// Refuses a setting that this program does not have.
    pub(crate) fn must_be_absent(&self, key: &str) -> Result<()> {
        match self.given(key) {
            Some(Value::Object(values)) if values.is_empty() => Ok(()),
            Some(_) => Err(self.refuse_value(key, "nothing")),
            None => Ok(()),
        }
    }
}

/// Equality of values, for which 1 and 1.0 are the same.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
