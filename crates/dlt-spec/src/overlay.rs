//! A spec from layers: the default, a preset, a method, the user's file and `--set` assignments,
//! each over the previous one. Keys are checked where they are read, so that a message can name the
//! origin of a wrong one.

use std::fmt;

use toml::{Table, Value};

use crate::error::{Likeness, SpecError, nearest};
use crate::fields::{self, FIELDS, Field, Values};
use crate::spec::{SPEC_SCHEMA, Size, Spec};
use crate::synonyms;

/// Some values of a spec and their origin. All keys are known and all values have the right type.
#[derive(Clone, Debug)]
pub struct Overlay {
    origin: Origin,
    values: Vec<(&'static Field, Value)>,
}

/// Origin of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A preset that is built into the program.
    Preset(String),
    /// A method preset that is built into the program.
    Method(String),
    /// A file.
    File(String),
    /// An assignment on the command line, as it was typed.
    Set(String),
    /// An option of the command line other than `--set`.
    Option(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::Method(name) => write!(f, "method {name}"),
            Self::File(path) => write!(f, "{path}"),
            Self::Set(assignment) => write!(f, "--set {assignment}"),
            Self::Option(name) => write!(f, "{name}"),
        }
    }
}

impl Overlay {
    /// The values in a TOML text.
    ///
    /// # Errors
    /// If the text is not TOML, has another layout, or has an unknown key or a value of the wrong
    /// type.
    pub fn from_toml(origin: Origin, text: &str) -> Result<Self, SpecError> {
        let table: Table = toml::from_str(text).map_err(|error| {
            let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
            SpecError::Syntax {
                origin: origin.clone(),
                line: before.matches('\n').count() + 1,
                column: before.chars().rev().take_while(|&letter| letter != '\n').count() + 1,
                message: error.message().lines().collect::<Vec<_>>().join("; "),
            }
        })?;

        // Checked before the keys, because another layout may have other keys.
        if let Some(&Value::Integer(got)) = table.get("schema")
            && got != i64::from(SPEC_SCHEMA)
        {
            return Err(SpecError::UnknownSchema { origin, got, expected: SPEC_SCHEMA });
        }

        let mut overlay = Self { origin, values: Vec::new() };
        for (key, value) in &table {
            match value {
                Value::Table(section) if is_section(key) => {
                    for (name, value) in section {
                        overlay.push(Some(key), name, value)?;
                    }
                }
                value => overlay.push(None, key, value)?,
            }
        }

        Ok(overlay)
    }

    /// One `key=value` of the command line. The value is read as TOML, or as a word if it is not
    /// TOML.
    ///
    /// ```
    /// use dlt_spec::{Overlay, Spec};
    /// let spec = Spec::assemble(&[
    ///     Overlay::from_assignment("tying.decide_every=4")?,
    ///     Overlay::from_assignment("tying.decision=per-layer")?,
    /// ])?;
    /// assert_eq!(spec.tying.decide_every, 4);
    /// let error = Overlay::from_assignment("tying.decide_evry=4").unwrap_err();
    /// assert!(error.to_string().contains("the nearest is `tying.decide_every`"));
    /// # Ok::<(), dlt_spec::SpecError>(())
    /// ```
    ///
    /// # Errors
    /// If there is no equals sign, the key is unknown, or the value has the wrong type.
    pub fn from_assignment(assignment: &str) -> Result<Self, SpecError> {
        let origin = Origin::Set(assignment.to_owned());
        let (key, text) = match assignment.split_once('=') {
            Some((key, text)) if !key.trim().is_empty() => (key.trim(), text.trim()),
            _ => return Err(SpecError::Assignment { origin }),
        };

        Self::from_text(origin, key, text)
    }

    /// One value from the text of a command-line option, such as `--steps`. For a field of text,
    /// such as a path, the text is used unchanged, with its quotes.
    ///
    /// # Errors
    /// If the key is unknown or the value has the wrong type.
    pub fn from_option(option: &str, key: &str, text: &str) -> Result<Self, SpecError> {
        let origin = Origin::Option(option.to_owned());

        if is_text(key) {
            Self::from_values(origin, [(key, Value::String(text.to_owned()))])
        } else {
            Self::from_text(origin, key, text)
        }
    }

    /// Values under their keys.
    ///
    /// # Errors
    /// If a key is unknown or a value has the wrong type.
    pub fn from_values<'a>(
        origin: Origin,
        values: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Result<Self, SpecError> {
        let mut overlay = Self { origin, values: Vec::new() };
        for (key, value) in values {
            match key.split_once('.') {
                Some((section, name)) => overlay.push(Some(section), name, &value)?,
                None => overlay.push(None, key, &value)?,
            }
        }

        Ok(overlay)
    }

    /// The same with the defaults of whole sections below it.
    pub(crate) fn over_defaults(self, sections: &[&str]) -> Self {
        let default = Spec::default();
        let is_missing = |field: &&Field| {
            sections.contains(&field.section()) && !self.keys().any(|key| key == field.key())
        };

        let missing = FIELDS.iter().filter(is_missing);
        let mut values: Vec<_> = missing.map(|field| (field, field.value(&default))).collect();
        values.extend(self.values);
        Self { origin: self.origin, values }
    }

    /// Its keys with their values, in the form in which a spec prints them.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.values.iter().map(|(field, value)| (field.key(), value))
    }

    /// The origin of its values.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The keys that it sets.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.values.iter().map(|(field, _)| field.key())
    }

    fn from_text(origin: Origin, key: &str, text: &str) -> Result<Self, SpecError> {
        let word = Value::String(text.to_owned());
        let value = if is_text(key) {
            // A path or a name may look like a number or a date. Only quotes are removed.
            text.parse().ok().filter(Value::is_str).unwrap_or(word)
        } else {
            text.parse().unwrap_or(word)
        };

        Self::from_values(origin, [(key, value)])
    }

    fn push(&mut self, section: Option<&str>, name: &str, value: &Value) -> Result<(), SpecError> {
        let key = section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}"));
        let known =
            |field: &&Field| field.section() == section.unwrap_or_default() && field.name() == name;
        let Some(field) = FIELDS.iter().find(known) else {
            return Err(self.unknown(section, key, value));
        };

        let Some(value) = field.values().typed(value) else {
            return Err(self.wrong(
                key,
                field.values().to_string(),
                value,
                &field.values().words(),
            ));
        };

        self.values.push((field, value));
        Ok(())
    }

    fn unknown(&self, section: Option<&str>, key: String, value: &Value) -> SpecError {
        if section.is_none() && is_section(&key) {
            return self.wrong(key, "a section".into(), value, &[]);
        }

        let is_table = section.is_none() && matches!(value, Value::Table(_));
        let (likeness, nearest) = match synonyms::meant(&key) {
            Some(meant) if !is_table => (Likeness::Meaning, meant.to_owned()),
            _ if is_table => (Likeness::Spelling, nearest(&key, sections())),
            _ => (Likeness::Spelling, nearest(&key, FIELDS.iter().map(Field::key))),
        };

        SpecError::UnknownKey { origin: self.origin.clone(), key, nearest, likeness }
    }

    fn wrong(&self, key: String, expected: String, value: &Value, words: &[String]) -> SpecError {
        let nearest = value
            .as_str()
            .filter(|_| !words.is_empty())
            .map(|word| nearest(word, words.iter().map(String::as_str)).into());

        let got = match value {
            Value::Table(_) => "a table".into(),
            value => format!("the {} {value}", value.type_str()),
        };

        SpecError::WrongValue { origin: self.origin.clone(), key, expected, got, nearest }
    }
}

impl Spec {
    /// The default with `overlays` over it, the last one on top.
    ///
    /// # Errors
    /// [`SpecError::NoEffect`] for a value that would be ignored: `training.epochs` over a number
    /// of steps.
    pub fn assemble(overlays: &[Overlay]) -> Result<Self, SpecError> {
        let mut table = Table::new();
        for (key, value) in fields::flatten(&Self::default()) {
            insert(&mut table, key, value);
        }

        for (field, value) in overlays.iter().flat_map(|overlay| &overlay.values) {
            insert(&mut table, field.key(), value.clone());
        }

        let spec: Self = table
            .try_into()
            .expect("every key of the table is known and its value has the right type");
        epochs_count(&spec, overlays)?;

        Ok(spec)
    }
}

/// Refuses epochs that are set over a fixed number of steps: they would be ignored silently.
fn epochs_count(spec: &Spec, overlays: &[Overlay]) -> Result<(), SpecError> {
    let last = |key| overlays.iter().rposition(|overlay| overlay.keys().any(|set| set == key));

    match (spec.training.steps, last("training.epochs")) {
        (Size::Fixed(steps), Some(epochs)) if last("training.steps") < Some(epochs) => {
            Err(SpecError::NoEffect {
                origin: overlays[epochs].origin.clone(),
                key: "training.epochs".into(),
                because: format!(
                    "while training.steps = {steps}; also set training.steps to \"auto\""
                ),
            })
        }
        _ => Ok(()),
    }
}

/// Whether a field holds text of any kind.
fn is_text(key: &str) -> bool {
    let values = fields::find(key).map(|field| field.values());
    matches!(values, Some(Values::Text | Values::MaybeText | Values::Name))
}

fn insert(table: &mut Table, key: &str, value: Value) {
    let (section, name) = match key.split_once('.') {
        None => return drop(table.insert(key.to_owned(), value)),
        Some(parts) => parts,
    };

    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        section.insert(name.to_owned(), value);
    }
}

fn sections() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(Field::section).filter(|section| !section.is_empty())
}

fn is_section(key: &str) -> bool {
    sections().any(|section| section == key)
}

/// A key whose values differ in two specs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, with its section.
    pub key: &'static str,
    /// The first spec's value, as TOML.
    pub from: String,
    /// The second spec's value, as TOML.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {} became {}", self.key, self.from, self.to)
    }
}

/// Every value in which `b` differs from `a`, in the order of the file.
///
/// ```
/// use dlt_spec::{Spec, diff};
/// let a = Spec::default();
/// let mut b = a.clone();
/// b.seed = 7;
/// let changes = diff(&a, &b);
/// assert_eq!((changes[0].key, &*changes[0].from, &*changes[0].to), ("seed", "1", "7"));
/// ```
#[must_use]
pub fn diff(a: &Spec, b: &Spec) -> Vec<Change> {
    FIELDS
        .iter()
        .map(|field| Change {
            key: field.key(),
            from: field.value(a).to_string(),
            to: field.value(b).to_string(),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

/// Sixteen hexadecimal digits. Two specs with different values have different digits, except by
/// chance (1 in 2^64).
#[must_use]
pub fn fingerprint(spec: &Spec) -> String {
    let text: String =
        fields::flatten(spec).iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    format!("{:016x}", crate::seeds::fnv1a(text.as_bytes()))
}
