//! One table of every field of a [`Spec`]: its meaning, its unit, the values that it accepts, what
//! the paper says and where, and what the authors' code does.
//!
//! Specs are printed, read, checked and compared through this table, so a field that is missing
//! here cannot be set.

mod table;
mod values;

use std::fmt::Write;

use serde::Serialize;
use toml::Value;

use crate::spec::Spec;

pub use table::FIELDS;
pub use values::{Interval, Values};

/// One field of a spec.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    key: &'static str,
    read: fn(&Spec) -> Value,
    values: Values,
    meaning: &'static str,
    unit: &'static str,
    paper: Option<Quote>,
    code: &'static str,
}

/// A value that the paper gives, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The value, in words.
    pub value: &'static str,
    /// Table, section, equation or line of Algorithm 1.
    pub place: &'static str,
}

impl Field {
    /// Its key in a spec file: `section.name`, or `name` outside the sections.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The section that it is in; empty outside the sections.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// Its name inside its section.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// What it decides, as a sentence.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        self.meaning
    }

    /// Unit of its number; empty if it has none.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// The values that it accepts.
    #[must_use]
    pub fn values(&self) -> Values {
        self.values
    }

    /// The paper's value, if the paper gives one.
    #[must_use]
    pub fn paper(&self) -> Option<Quote> {
        self.paper
    }

    /// What the authors' code does, if that differs from the paper or the paper is silent;
    /// otherwise empty.
    #[must_use]
    pub fn authors_code(&self) -> &'static str {
        self.code
    }

    /// Its value in `spec`. A whole number that is too large for TOML is returned as text, which no
    /// field of numbers accepts.
    #[must_use]
    pub fn value(&self, spec: &Spec) -> Value {
        (self.read)(spec)
    }

    const fn new(
        key: &'static str,
        read: fn(&Spec) -> Value,
        values: Values,
        meaning: &'static str,
    ) -> Self {
        Self { key, read, values, meaning, unit: "", paper: None, code: "" }
    }

    const fn unit_of(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    const fn paper_says(mut self, value: &'static str, place: &'static str) -> Self {
        self.paper = Some(Quote { value, place });
        self
    }

    const fn code_does(mut self, value: &'static str) -> Self {
        self.code = value;
        self
    }
}

/// The field with this key.
#[must_use]
pub fn find(key: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.key == key)
}

/// Every key with its value, in the order of the file.
#[must_use]
pub fn flatten(spec: &Spec) -> Vec<(&'static str, Value)> {
    FIELDS.iter().map(|field| (field.key, field.value(spec))).collect()
}

/// The whole spec as a TOML file. A comment above each field says its meaning, its values, its
/// unit, and what the paper and the authors' code use. Reading the file back gives an equal spec.
///
/// ```
/// use dlt_spec::{Spec, fields};
/// let text = fields::render(&Spec::default());
/// assert!(text.contains("# Paper: 15 (section 4, Alg. 1 line 7)."));
/// assert_eq!(toml::from_str::<Spec>(&text)?, Spec::default());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[must_use]
pub fn render(spec: &Spec) -> String {
    let mut text = String::new();
    let mut section = "";

    for field in FIELDS {
        if !text.is_empty() {
            text.push('\n');
        }

        if field.section() != section {
            section = field.section();
            push(&mut text, format_args!("[{section}]\n"));
        }

        describe(&mut text, field);
        push(&mut text, format_args!("{} = {}\n", field.name(), field.value(spec)));
    }

    text
}

fn describe(text: &mut String, field: &Field) {
    comment(text, field.meaning);

    let unit =
        if field.unit.is_empty() { String::new() } else { format!("; unit: {}", field.unit) };
    comment(text, &format!("Values: {}{unit}.", field.values));

    if let Some(Quote { value, place }) = field.paper {
        comment(text, &format!("Paper: {value} ({place})."));
    }

    if !field.code.is_empty() {
        comment(text, &format!("Authors' code: {}.", field.code));
    }
}

/// Columns of a printed comment.
const COLUMNS: usize = 100;

/// Adds a sentence as comment lines; lines after the first are indented.
fn comment(text: &mut String, sentence: &str) {
    let mut line = "#".to_owned();
    for word in sentence.split(' ') {
        if line.len() + 1 + word.len() > COLUMNS {
            push(text, format_args!("{line}\n"));
            line = "#  ".to_owned();
        }

        line.push(' ');
        line.push_str(word);
    }

    push(text, format_args!("{line}\n"));
}

fn push(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece).expect("writing to a string cannot fail");
}

/// A value as a spec file has it, without quotes.
#[must_use]
pub fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A field's value as TOML. TOML's whole numbers end at 2^63 - 1. A greater one becomes text, so
/// that a message can show it and the check refuses it.
fn toml_value<T: Serialize + std::fmt::Debug>(value: &T) -> Value {
    Value::try_from(value).unwrap_or_else(|_| Value::String(format!("{value:?}")))
}
