//! Numbers as text for people.

/// A whole number with commas: `1,234,567`.
#[must_use]
pub fn whole(number: usize) -> String {
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

/// A number with this many decimals, and commas between thousands; a dash if it is not finite. The
/// sign of a negative number is U+2212, the minus sign.
#[must_use]
pub fn decimal(number: f64, decimals: usize) -> String {
    if !number.is_finite() {
        return "–".to_owned();
    }

    let text = format!("{:.decimals$}", number.abs());
    let (before, after) = text.split_at(text.find('.').unwrap_or(text.len()));
    let is_zero = !text.contains(|digit: char| ('1'..='9').contains(&digit));
    let sign = if number < 0.0 && !is_zero { "−" } else { "" };

    match before.parse() {
        Ok(before) => format!("{sign}{}{after}", whole(before)),
        Err(_) => format!("{number:.3e}"),
    }
}

/// A number of any size, with four significant digits.
#[must_use]
pub fn significant(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-4..1e7).contains(&size) => format!("{number:.3e}").replace('-', "−"),
        size if size >= 1000.0 => decimal(number, 0),
        size if size >= 100.0 => decimal(number, 1),
        size if size >= 10.0 => decimal(number, 2),
        size if size >= 1.0 => decimal(number, 3),
        _ => decimal(number, 4),
    }
}

/// The value as `show` writes it; a dash for `None`.
pub fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

/// A perplexity: two decimals below 10,000, none above.
#[must_use]
pub fn perplexity(number: f64) -> String {
    decimal(number, if number < 10_000.0 { 2 } else { 0 })
}

/// A difference, with its sign.
#[must_use]
pub fn signed(number: f64, decimals: usize) -> String {
    let text = decimal(number, decimals);
    if number > 0.0 && text.contains(|digit: char| ('1'..='9').contains(&digit)) {
        format!("+{text}")
    } else {
        text
    }
}

/// A time: `0.8 s`, `12 s`, `4 min 12 s`, `3 h 07 min`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
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

/// A moment in seconds since 1970-01-01, as `2026-11-25 22:46 UTC`.
#[must_use]
pub fn moment(seconds: u64) -> String {
    let days = seconds / 86_400;
    let minutes = seconds % 86_400 / 60;

    // The years counted here begin in March: the leap day is their last day, so each month begins
    // at a fixed day. 400 such years have 146,097 days.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;

    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);

    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Replaces the typographic minus and dash of a page by those of a keyboard, for terminals and
/// scripts.
#[must_use]
pub fn typed(text: &str) -> String {
    text.replace(['−', '–'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 50_257, 1_556_382_400].map(whole);
        assert_eq!(texts, ["0", "999", "1,000", "50,257", "1,556,382,400"]);
        assert_eq!(decimal(-1234.5, 1), "−1,234.5");
        assert_eq!(
            [decimal(-0.01, 1), decimal(f64::NAN, 1), decimal(1e30, 0)],
            ["0.0", "–", "1.000e30"]
        );
        assert_eq!([perplexity(231.456), perplexity(50_257.3)], ["231.46", "50,257"]);
        let signs = [signed(0.251, 2), signed(-3.0, 1), signed(0.001, 1)];
        assert_eq!(signs, ["+0.25", "−3.0", "0.0"]);

        assert_eq!(
            [1e-5, 0.25, 1.5, 12.345, 1234.5, -2e8].map(significant),
            ["1.000e−5", "0.2500", "1.500", "12.35", "1,234", "−2.000e8"]
        );
    }

    #[test]
    fn times_have_two_parts_at_most() {
        let texts = [0.84, 12.2, 252.0, 11_220.0, f64::INFINITY].map(duration);
        assert_eq!(texts, ["0.8 s", "12 s", "4 min 12 s", "3 h 07 min", "–"]);
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        // Each as `date -u -d @SECONDS` prints it.
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_340, "2000-02-28 23:59 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_709_208_000, "2024-02-29 12:00 UTC"),
            (1_795_646_713, "2026-11-25 22:45 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(moment(seconds), text);
        }
    }
}
