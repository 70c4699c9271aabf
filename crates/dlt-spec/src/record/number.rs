//! Reads `null` as NaN: JSON writes NaN and the infinities as `null`.

use serde::{Deserialize, Deserializer};

/// A number, or NaN for `null`.
pub(super) fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The same under a key that may be absent.
pub(super) fn present_or_nan<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    or_nan(deserializer).map(Some)
}
