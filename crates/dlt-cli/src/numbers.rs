//! Numbers as a person reads them.

use dlt_spec::CheckedSpec;
use dlt_spec::spec::{Architecture, Objective};

/// A whole number with commas: `1,234,567`.
pub(crate) fn whole(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with so many decimals and commas before them; `-` where it is not finite.
pub(crate) fn decimal(number: f64, decimals: usize) -> String {
    if !number.is_finite() {
        return "-".to_owned();
    }
    let text = format!("{:.decimals$}", number.abs());
    let (before, after) = text.split_at(text.find('.').unwrap_or(text.len()));
    let sign =
        if number < 0.0 && text.contains(|digit: char| ('1'..='9').contains(&digit)) { "-" } else { "" };
    match before.parse() {
        Ok(before) => format!("{sign}{}{after}", whole(before)),
        Err(_) => format!("{number:.3e}"),
    }
}

/// A perplexity: two decimals while they say something.
pub(crate) fn perplexity(number: f64) -> String {
    decimal(number, if number < 10_000.0 { 2 } else { 0 })
}

/// A time: `0.8 s`, `12 s`, `4 min 12 s`, `3 h 07 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, min, s) => format!("{min} min {s:02} s"),
        (h, min, _) => format!("{h} h {min:02} min"),
    }
}

/// What the speed of a run and its data are counted in.
pub(crate) fn units(spec: &CheckedSpec) -> &'static str {
    match (spec.model.objective, spec.model.architecture) {
        (Objective::Classes, Architecture::Vit) => "pictures",
        (Objective::Classes, _) => "examples",
        (Objective::NextToken | Objective::MaskedToken, _) => "tokens",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 50_257, 1_556_382_400].map(whole);
        assert_eq!(texts, ["0", "999", "1,000", "50,257", "1,556,382,400"]);
        assert_eq!(decimal(-1234.5, 1), "-1,234.5");
        assert_eq!(decimal(-0.01, 1), "0.0");
        assert_eq!(decimal(f64::NAN, 1), "-");
        assert_eq!(decimal(1e30, 0), "1.000e30");
        assert_eq!([perplexity(231.456), perplexity(50_257.3)], ["231.46", "50,257"]);
    }

    #[test]
    fn times_have_two_parts_at_most() {
        let texts = [0.84, 12.2, 252.0, 11_220.0, f64::INFINITY].map(duration);
        assert_eq!(texts, ["0.8 s", "12 s", "4 min 12 s", "3 h 07 min", "-"]);
    }
}
