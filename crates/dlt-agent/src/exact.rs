//! Floats as text that loses no bit, in any format that a snapshot is written in. Most text formats
//! refuse or alter NaN, infinities or last digits.

/// A list of f32 as one string, eight hexadecimal digits each.
pub(crate) mod f32_list {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Write;

    /// Hexadecimal digits of one number.
    pub(crate) const DIGITS: usize = 8;

    pub(crate) fn serialize<S: Serializer>(
        values: &[f32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(values.len() * DIGITS);
        for value in values {
            write!(text, "{:08x}", value.to_bits()).expect("a String takes any text");
        }
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<f32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom("expected eight hexadecimal digits for each number");
        if !text.len().is_multiple_of(DIGITS) {
            return Err(wrong());
        }

        let number = |start: usize| {
            // `get` and not an index: text that is not ASCII can have no character boundary here.
            let digits = text.get(start..start + DIGITS).ok_or_else(wrong)?;
            u32::from_str_radix(digits, 16).map(f32::from_bits).map_err(|_| wrong())
        };

        (0..text.len()).step_by(DIGITS).map(number).collect()
    }
}

/// One f64 as its bits.
pub(crate) mod f64_bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// An f64 that may be absent, as its bits.
pub mod f64_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the bits as a whole number, or nothing.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(f64::to_bits).serialize(serializer)
    }

    /// Reads what [`serialize`] writes.
    ///
    /// # Errors
    /// Fails for anything but a whole number of 64 bits or nothing.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(f64::from_bits))
    }
}
