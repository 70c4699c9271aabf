//! Reads one member of an object and skips the others.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// The value of a member.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// It is null or missing.
    Nothing,
    /// Something else, in words.
    Other(&'static str),
}

/// The member of an object of JSON, by its name. Dots lead to a member of a member. A member whose
/// own name has dots is found too.
pub(super) fn member<'a>(row: &'a [u8], path: &str) -> Result<Found<'a>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(row);
    let found = json.deserialize_map(RowVisitor(path))?;
    json.end().map(|()| found)
}

/// Visits the whole row.
struct RowVisitor<'p>(&'p str);

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = Found<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Found<'de>, A::Error> {
        find(members, self.0)
    }
}

/// Visits a value, with the rest of the path that leads to the member; `None` at its end.
struct PathVisitor<'p>(Option<&'p str>);

impl PathVisitor<'_> {
    /// The result for a value that is no object. It is the member itself, or the path leads to
    /// nothing.
    fn end<'de>(&self, value: Found<'de>) -> Found<'de> {
        if self.0.is_none() { value } else { Found::Nothing }
    }
}

impl<'de> DeserializeSeed<'de> for PathVisitor<'_> {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Found<'de>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PathVisitor<'_> {
    type Value = Found<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Found<'de>, E> {
        Ok(self.end(Found::Text(Cow::Borrowed(text))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Found<'de>, E> {
        Ok(self.end(Found::Text(Cow::Owned(text.to_owned()))))
    }

    fn visit_unit<E: Error>(self) -> Result<Found<'de>, E> {
        Ok(Found::Nothing)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Found<'de>, E> {
        Ok(self.end(Found::Other("true or false")))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Found<'de>, E> {
        Ok(self.end(Found::Other("a number")))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Found<'de>, E> {
        Ok(self.end(Found::Other("a number")))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Found<'de>, E> {
        Ok(self.end(Found::Other("a number")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Found<'de>, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.end(Found::Other("a list")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found<'de>, A::Error> {
        match self.0 {
            Some(path) => find(members, path),
            None => {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Found::Other("an object"))
            }
        }
    }
}

/// The member of an object. Among equal names the last one counts, and a whole name comes before a
/// path.
fn find<'de, A: MapAccess<'de>>(mut members: A, path: &str) -> Result<Found<'de>, A::Error> {
    let mut whole = None;
    let mut below = None;

    while let Some(name) = members.next_key::<Cow<'de, str>>()? {
        if name == path {
            whole = Some(members.next_value_seed(PathVisitor(None))?);
        } else if let Some(rest) = path.strip_prefix(&*name).and_then(|rest| rest.strip_prefix('.'))
        {
            below = Some(members.next_value_seed(PathVisitor(Some(rest)))?);
        } else {
            members.next_value::<IgnoredAny>()?;
        }
    }

    Ok(whole.or(below).unwrap_or(Found::Nothing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(row: &str, path: &str) -> Option<String> {
        match member(row.as_bytes(), path).unwrap() {
            Found::Text(text) => Some(text.into_owned()),
            other => {
                assert_eq!(other, Found::Nothing, "{row}");
                None
            }
        }
    }

    #[test]
    fn members_are_found_at_every_depth() {
        let row = r#"{"a": {"b": {"c": "deep"}, "d": "\n"}, "a.d": "whole", "x": [1, {"y": 2}],
            "e": "text"}"#;
        assert_eq!(text(row, "e").as_deref(), Some("text"));
        assert_eq!(text(row, "a.b.c").as_deref(), Some("deep"));
        assert_eq!(text(row, "a.d").as_deref(), Some("whole"));

        for missing in ["a.b.c.d", "e.f", "f", "a.", ".a", "x.y"] {
            assert_eq!(text(row, missing), None, "{missing}");
        }

        assert_eq!(text(r#"{"a": null, "b": 1}"#, "a"), None);
        assert_eq!(text(r#"{"a": "one", "a": "two"}"#, "a").as_deref(), Some("two"));
    }

    #[test]
    fn other_members_may_hold_halves_of_characters() {
        assert_eq!(text(r#"{"x": "\ud83d", "t": "words"}"#, "t").as_deref(), Some("words"));
        let error = member(br#"{"t": "\ud83d", "x": "words"}"#, "t").unwrap_err();
        assert!(error.to_string().contains("hex escape"), "{error}");
    }

    #[test]
    fn rejects_what_is_no_object() {
        for row in ["[]", "1", "\"a\"", "{", "{} {}", "{\"a\" 1}", "", "\u{feff}{}"] {
            assert!(member(row.as_bytes(), "a").is_err(), "{row}");
        }
        assert_eq!(member(br#"{"a": [1]}"#, "a").unwrap(), Found::Other("a list"));
        assert_eq!(member(br#"{"a": {}}"#, "a").unwrap(), Found::Other("an object"));
    }
}
