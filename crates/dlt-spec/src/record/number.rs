//! Reads `null` as NaN: JSON writes NaN and the infinities as `null`.

use serde::{Deserialize, Deserializer};

/// A number, or NaN for `null`.
pub(super) fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The same under a key that may be absent. It is written as it is.
pub(super) mod optional {
    use serde::{Deserializer, Serialize, Serializer};

    pub(in crate::record) fn serialize<S: Serializer>(
        number: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        number.serialize(serializer)
    }

    pub(in crate::record) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        super::or_nan(deserializer).map(Some)
    }
}
