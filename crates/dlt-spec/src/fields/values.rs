//! Which values a field takes.

use std::fmt;

use toml::Value;

/// The values that a field accepts by itself. Rules between fields are in [`crate::check`].
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// A whole number, both ends included.
    Whole(usize, usize),
    /// The same, or the word `auto`.
    WholeOrAuto(usize, usize),
    /// A number.
    Real(Interval),
    /// Exactly this many numbers.
    Reals(usize, Interval),
    /// Any number of numbers, also none. Rules between fields decide how many fit.
    RealList(Interval),
    /// One of these words.
    Word(fn() -> Vec<String>),
    /// Text that is not empty.
    Text,
    /// Text, which may be empty.
    MaybeText,
    /// Letters, digits and `._-`, at most 100, not starting with a dot: it becomes the name of a
    /// folder.
    Name,
    /// One of these words, or the owner of each layer as a list.
    Grouping(fn() -> Vec<String>),
    /// A list of layers, which may be empty.
    Layers,
    /// The same, or one of these words.
    LayersOrWord(fn() -> Vec<String>),
    /// A list of these words, each at most once. A word alone is a list of one.
    Words(fn() -> Vec<String>),
}

/// A range of real numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    low: f64,
    low_included: bool,
    high: f64,
    high_included: bool,
}

impl Interval {
    /// From 0 to 1, both included.
    pub const SHARE: Self = Self::new(0.0, true, 1.0, true);
    /// From 0 to 1, 1 excluded.
    pub const BELOW_ONE: Self = Self::new(0.0, true, 1.0, false);
    /// Above 0 and at most 1.
    pub const FACTOR: Self = Self::new(0.0, false, 1.0, true);
    /// Above 0 and below 1.
    pub const FRACTION: Self = Self::new(0.0, false, 1.0, false);
    /// Above 0 and finite.
    pub const POSITIVE: Self = Self::new(0.0, false, f64::INFINITY, false);
    /// Above 0, `inf` included.
    pub const POSITIVE_OR_INF: Self = Self::new(0.0, false, f64::INFINITY, true);
    /// At least 0 and finite.
    pub const NOT_NEGATIVE: Self = Self::new(0.0, true, f64::INFINITY, false);

    /// At least 0, `inf` included.
    pub const NOT_NEGATIVE_OR_INF: Self = Self::new(0.0, true, f64::INFINITY, true);

    const fn new(low: f64, low_included: bool, high: f64, high_included: bool) -> Self {
        Self { low, low_included, high, high_included }
    }

    /// Whether `number` is in the range; never for NaN.
    #[must_use]
    pub fn contains(&self, number: f64) -> bool {
        let above = if self.low_included { number >= self.low } else { number > self.low };
        let below = if self.high_included { number <= self.high } else { number < self.high };
        above && below
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = if self.low_included { "at least" } else { "above" };
        write!(f, "{low} {}", self.low)?;

        match (self.high.is_infinite(), self.high_included) {
            (true, true) => write!(f, ", inf allowed"),
            (true, false) => write!(f, ", finite"),
            (false, true) => write!(f, " and at most {}", self.high),
            (false, false) => write!(f, " and below {}", self.high),
        }
    }
}

impl Values {
    /// `value` in the form that this field keeps, or `None` if it has another type or is an unknown
    /// word. A whole number is accepted where a real one is expected. Ranges are not checked here:
    /// see [`allow`](Self::allow).
    #[must_use]
    pub fn typed(&self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::Whole(..) | Self::WholeOrAuto(..), Value::Integer(number)) if *number >= 0 => {
                Some(value.clone())
            }
            (Self::WholeOrAuto(..), Value::String(word)) if word == "auto" => Some(value.clone()),
            (Self::Real(_), _) => real(value).map(Value::Float),
            (Self::Reals(count, _), Value::Array(items)) if items.len() == *count => items
                .iter()
                .map(|item| real(item).map(Value::Float))
                .collect::<Option<Vec<_>>>()
                .map(Value::Array),
            (Self::RealList(_), Value::Array(items)) => items
                .iter()
                .map(|item| real(item).map(Value::Float))
                .collect::<Option<Vec<_>>>()
                .map(Value::Array),
            (
                Self::Word(words) | Self::Grouping(words) | Self::LayersOrWord(words),
                Value::String(word),
            ) if words().contains(word) => Some(value.clone()),
            (Self::Words(words), Value::String(word)) if words().contains(word) => {
                Some(Value::Array(vec![value.clone()]))
            }
            (Self::Words(words), Value::Array(items)) if are_words(items, &words()) => {
                Some(value.clone())
            }
            (Self::Grouping(_) | Self::Layers | Self::LayersOrWord(_), Value::Array(items))
                if items.iter().all(is_layer) =>
            {
                Some(value.clone())
            }
            (Self::Text | Self::MaybeText | Self::Name, Value::String(_)) => Some(value.clone()),
            _ => None,
        }
    }

    /// Whether the field accepts `value`: its type and its range.
    #[must_use]
    pub fn allow(&self, value: &Value) -> bool {
        let Some(value) = self.typed(value) else { return false };

        match (self, &value) {
            (Self::Whole(least, most) | Self::WholeOrAuto(least, most), Value::Integer(number)) => {
                usize::try_from(*number).is_ok_and(|number| (*least..=*most).contains(&number))
            }
            (Self::Real(interval), Value::Float(number)) => interval.contains(*number),
            (Self::Reals(_, interval) | Self::RealList(interval), Value::Array(items)) => items
                .iter()
                .all(|item| item.as_float().is_some_and(|number| interval.contains(number))),
            (Self::Words(_), Value::Array(items)) => {
                items.iter().enumerate().all(|(place, item)| !items[..place].contains(item))
            }
            (Self::Text, Value::String(text)) => !text.is_empty(),
            (Self::Name, Value::String(text)) => is_name(text),
            _ => true,
        }
    }

    /// The words that the field accepts; empty if it accepts none.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::WholeOrAuto(..) => vec!["auto".into()],
            Self::Word(words)
            | Self::Grouping(words)
            | Self::LayersOrWord(words)
            | Self::Words(words) => words(),
            _ => Vec::new(),
        }
    }
}

fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        // Whole numbers of a spec file are small: below 2^53 the conversion is exact.
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    }
}

fn are_words(items: &[Value], words: &[String]) -> bool {
    items.iter().all(|item| item.as_str().is_some_and(|word| words.iter().any(|one| one == word)))
}

fn is_layer(value: &Value) -> bool {
    value.as_integer().is_some_and(|layer| layer >= 0)
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=100).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed)
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(least, most) => write!(f, "a whole number{}", Range(*least, *most)),
            Self::WholeOrAuto(least, most) => {
                write!(f, "\"auto\" or a whole number{}", Range(*least, *most))
            }
            Self::Real(interval) => write!(f, "a number {interval}"),
            Self::Reals(count, interval) => write!(f, "{count} numbers, each {interval}"),
            Self::RealList(interval) => {
                write!(f, "a list of numbers, each {interval}, which may be empty")
            }
            Self::Word(words) => write!(f, "{}", quoted(&words())),
            Self::Text => write!(f, "text that is not empty"),
            Self::MaybeText => write!(f, "text, which may be empty"),
            Self::Name => {
                write!(
                    f,
                    "1 to 100 letters, digits, dots, underscores or hyphens, not starting with a \
                     dot"
                )
            }
            Self::Grouping(words) => {
                write!(f, "{}, or the owner of each layer as a list", quoted(&words()))
            }
            Self::Layers => write!(f, "a list of layers, which may be empty"),
            Self::LayersOrWord(words) => {
                write!(f, "{}, or a list of layers, which may be empty", quoted(&words()))
            }
            Self::Words(words) => {
                write!(f, "a list of {}, each at most once, which may be empty", quoted(&words()))
            }
        }
    }
}

/// The ends of a range of whole numbers, in words.
struct Range(usize, usize);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(least, most) = *self;
        match (least, most) {
            _ if least == most => write!(f, ", {least}"),
            (0, most) => write!(f, " of at most {most}"),
            (least, most) => write!(f, " from {least} to {most}"),
        }
    }
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
