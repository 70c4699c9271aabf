//! Numbers as people read them.

use dlt_report::numbers::{self, typed};
use dlt_spec::CheckedSpec;
use dlt_spec::spec::{Architecture, Objective};

pub(crate) use dlt_report::numbers::whole;

/// A number with so many decimals, and commas between thousands; `-` if it is not finite.
pub(crate) fn decimal(number: f64, decimals: usize) -> String {
    typed(&numbers::decimal(number, decimals))
}

/// A perplexity, with two decimals as long as they are significant.
pub(crate) fn perplexity(number: f64) -> String {
    typed(&numbers::perplexity(number))
}

/// A time: `0.8 s`, `12 s`, `4 min 12 s`, `3 h 07 min`.
pub(crate) fn duration(seconds: f64) -> String {
    typed(&numbers::duration(seconds))
}

/// The unit in which a run's speed and its data are counted.
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
    fn numbers_are_written_as_they_are_typed() {
        assert_eq!(decimal(-1234.5, 1), "-1,234.5");
        assert_eq!([decimal(f64::NAN, 1), duration(f64::INFINITY)], ["-", "-"]);
        assert_eq!([perplexity(231.456), perplexity(50_257.3)], ["231.46", "50,257"]);
    }
}
