//! A figure that was measured several times.

use std::fmt;

/// Median, least and most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// The spread of figures; `None` without a figure.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);

        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => return None,
            count if count % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };

        Some(Self { median, least: sorted[0], most: sorted[sorted.len() - 1] })
    }
}

/// `12.5 (12.1 to 13.0)`, with the precision of the format, or one decimal.
impl fmt::Display for Spread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = out.precision().unwrap_or(1);
        let Self { median, least, most } = self;
        if least == most {
            return write!(out, "{median:.decimals$}");
        }

        write!(out, "{median:.decimals$} ({least:.decimals$} to {most:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_the_two() {
        let spread = Spread::of([3.0, 1.0, 10.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.0, least: 1.0, most: 10.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_spread_is_written_with_its_range() {
        let spread = Spread::of([1.04, 2.0, 3.06]).unwrap();
        assert_eq!(
            format!("{spread} {spread:.0} {spread:.2}"),
            "2.0 (1.0 to 3.1) 2 (1 to 3) 2.00 (1.04 to 3.06)"
        );
        assert_eq!(Spread::of([5.0]).unwrap().to_string(), "5.0");
    }
}
