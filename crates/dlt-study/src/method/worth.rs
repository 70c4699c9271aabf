//! What a perplexity is worth: the parameters of a conventional model with that perplexity.

use std::fmt;

/// Conventional models by their parameters. Each larger model has a lower perplexity: a larger model
/// that is no better is left out, so that the curve has one answer for a perplexity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Curve(Vec<(f64, f64)>);

/// Parameters of the conventional model with a given perplexity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Worth {
    /// Fewer than the smallest that was trained.
    Below(f64),
    Equal(f64),
    /// More than the best that was trained.
    Above(f64),
}

impl Curve {
    /// The curve through pairs of parameters and perplexity. `None` without two models that differ in
    /// both.
    pub(crate) fn of(points: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let is_sound = |&(parameters, perplexity): &(f64, f64)| {
            parameters > 0.0 && parameters.is_finite() && perplexity > 0.0 && perplexity.is_finite()
        };
        let mut points: Vec<(f64, f64)> = points.into_iter().filter(is_sound).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));

        let mut curve: Vec<(f64, f64)> = Vec::new();
        for (parameters, perplexity) in points {
            if curve.last().is_none_or(|last| perplexity < last.1 && parameters > last.0) {
                curve.push((parameters, perplexity));
            }
        }

        (curve.len() > 1).then_some(Self(curve))
    }

    /// Interpolates between neighbours, in the logarithms of both, and never extrapolates.
    pub(crate) fn worth(&self, perplexity: f64) -> Option<Worth> {
        let first = self.0.first()?;
        let last = self.0.last()?;

        if !perplexity.is_finite() {
            return None;
        }
        if perplexity > first.1 {
            return Some(Worth::Below(first.0));
        }

        if perplexity < last.1 {
            return Some(Worth::Above(last.0));
        }

        let between = self.0.windows(2).find(|pair| perplexity >= pair[1].1)?;
        let [(fewer, worse), (more, better)] = [between[0], between[1]];
        let share = (worse.ln() - perplexity.ln()) / (worse.ln() - better.ln());

        Some(Worth::Equal((fewer.ln() + share * (more.ln() - fewer.ln())).exp()))
    }
}

/// In millions.
impl fmt::Display for Worth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(parameters) => write!(out, "below {:.2}", parameters / 1e6),
            Self::Equal(parameters) => write!(out, "{:.2}", parameters / 1e6),
            Self::Above(parameters) => write!(out, "above {:.2}", parameters / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_a_model_of_the_line_is_worth_its_own_parameters_and_a_lower_perplexity_never_less() {
        let points = [(1e6, 200.0), (2e6, 150.0), (4e6, 140.0), (8e6, 100.0)];
        let curve = Curve::of(points).unwrap();
        for (parameters, perplexity) in points {
            let Some(Worth::Equal(worth)) = curve.worth(perplexity) else { panic!("{perplexity}") };
            assert!((worth / parameters - 1.0).abs() < 1e-9, "{perplexity}: {worth}");
        }

        let mut before = 0.0;

        for perplexity in (100..=200).rev() {
            let Some(Worth::Equal(worth)) = curve.worth(f64::from(perplexity)) else {
                panic!("{perplexity}")
            };
            assert!(worth >= before, "{perplexity}: {worth} < {before}");
            before = worth;
        }
    }

    #[test]
    fn halfway_between_two_models_is_halfway_in_logarithms() {
        let curve = Curve::of([(1e6, 400.0), (4e6, 100.0)]).unwrap();
        assert_eq!(curve.worth(200.0).unwrap().to_string(), "2.00");
    }

    #[test]
    fn nothing_is_said_beyond_the_ends() {
        let curve = Curve::of([(1e6, 200.0), (2e6, 150.0)]).unwrap();
        assert_eq!(curve.worth(149.0).unwrap().to_string(), "above 2.00");
        assert_eq!(curve.worth(201.0).unwrap().to_string(), "below 1.00");
        assert_eq!(curve.worth(f64::NAN), None);
    }

    #[test]
    fn a_larger_model_that_is_no_better_is_left_out() {
        let curve = Curve::of([(4e6, 160.0), (1e6, 200.0), (2e6, 150.0), (8e6, 150.0)]).unwrap();
        assert_eq!(curve, Curve::of([(1e6, 200.0), (2e6, 150.0)]).unwrap());
        assert_eq!(Curve::of([(1e6, 150.0), (2e6, 150.0), (3e6, f64::NAN)]), None);
        assert_eq!(Curve::of([]), None);
    }
}
