//! Ratios of two sides, and whether they reach their targets.

use std::fmt;

use dlt_study::spread::Spread;
use serde_json::{Value, json};

use super::grid::{Bound, Comparison, Measure, Models, Target};
use super::measurement::Measurement;
use super::rounds::Measured;

/// A ratio and its verdict.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// The ratio of the medians over rounds. Least and most are of the ratios within a round.
    pub(crate) spread: Spread,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    /// What must be is met, and the aim too.
    AimMet,
    NotMet,
    /// There is no target.
    Shown,
    /// A run of either side failed, so the medians are not of all rounds.
    Incomplete,
    /// The models differ in size, so the ratio compares nothing.
    Different,
}

/// The ratio of a comparison; `None` if a side has no figures at all.
pub(crate) fn ratio(measured: &Measured, comparison: &Comparison) -> Option<Ratio> {
    let side = measured.side(comparison.side)?;
    let against = measured.side(comparison.against)?;
    let figure = |measurement: &Measurement| comparison.measure.figure(measurement);
    let median = |side| {
        Spread::of(measured.measurements(side).filter_map(figure)).map(|spread| spread.median)
    };

    let rounds = measured.outcomes[side].iter().zip(&measured.outcomes[against]);
    let in_rounds = rounds.filter_map(|pair| match pair {
        (Ok(a), Ok(b)) => Some(figure(a)? / figure(b)?),
        _ => None,
    });

    let median = median(side)? / median(against)?;
    let range = Spread::of(in_rounds).unwrap_or(Spread { median, least: median, most: median });
    let spread = Spread { median, ..range };
    let is_comparable =
        comparison.models == Models::TiedToUntied || same_size(measured, side, against);
    let verdict = if !is_comparable {
        Verdict::Different
    } else if [side, against].iter().any(|&side| measured.outcomes[side].iter().any(Result::is_err))
    {
        Verdict::Incomplete
    } else {
        comparison.target.verdict(median)
    };

    Some(Ratio { spread, verdict })
}

/// Whether the two sides can be compared. Two programs have to train the same number of parameters.
/// Two sides of ours may differ, because tying reduces that number.
fn same_size(measured: &Measured, side: usize, against: usize) -> bool {
    let params = |side| measured.measurements(side).next().map(|measurement| measurement.params);
    let sides = &measured.workload.sides;
    sides[side].program == sides[against].program || params(side) == params(against)
}

impl Measure {
    fn figure(self, measurement: &Measurement) -> Option<f64> {
        match self {
            Self::TokensPerS => Some(measurement.tokens_per_s),
            Self::StepTime => Some(measurement.step_ms_median),
            Self::PeakMemory => measurement.peak_rss_mb,
            Self::MemoryOfProcess => measurement.memory_of_process(),
        }
    }
}

impl Target {
    pub(super) fn verdict(self, ratio: f64) -> Verdict {
        let (Bound { must, aim }, reaches): (Bound, fn(f64, f64) -> bool) = match self {
            Self::AtLeast(bound) => (bound, |ratio, bound| ratio >= bound),
            Self::AtMost(bound) => (bound, |ratio, bound| ratio <= bound),
            Self::Shown => return Verdict::Shown,
        };

        match (reaches(ratio, must), aim) {
            (true, Some(aim)) if reaches(ratio, aim) => Verdict::AimMet,
            (true, _) => Verdict::Met,
            (false, _) => Verdict::NotMet,
        }
    }

    /// For a file of JSON: `at_least` or `at_most`, and `aim`; `null` where there is none.
    pub(super) fn json(self) -> Value {
        let (at_least, at_most) = match self {
            Self::AtLeast(bound) => (Some(bound), None),
            Self::AtMost(bound) => (None, Some(bound)),
            Self::Shown => (None, None),
        };
        let must = |bound: Option<Bound>| bound.map(|bound| bound.must);
        let aim = at_least.or(at_most).and_then(|bound| bound.aim);

        json!({ "at_least": must(at_least), "at_most": must(at_most), "aim": aim })
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TokensPerS => "tokens/s",
            Self::StepTime => "time a step",
            Self::PeakMemory => "peak memory",
            Self::MemoryOfProcess => "memory of a process",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, Bound { must, aim }) = match self {
            Self::AtLeast(bound) => ("at least", bound),
            Self::AtMost(bound) => ("at most", bound),
            Self::Shown => return Ok(()),
        };

        write!(out, "{words} {must:.2}")?;
        aim.map_or(Ok(()), |aim| write!(out, ", aim {aim:.2}"))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Met => "met",
            Self::AimMet => "met, and the aim",
            Self::NotMet => "**not met**",
            Self::Shown => "",
            Self::Incomplete => "not judged: a run failed",
            Self::Different => "not judged: the models differ in size",
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::grid::workloads;
    use crate::bench::rounds::Outcome;
    use dlt_study::child::Failure;

    pub(in crate::bench) fn run(params: u64, tokens_per_s: f64, peak_rss_mb: f64) -> Outcome {
        let line = json!({ "peer": "x", "params": params, "step_ms_median": 1e3 / tokens_per_s,
            "tokens_per_s": tokens_per_s, "peak_rss_mb": peak_rss_mb, "loss": 10.0, "mean_rss_mb": 1.0 });
        Ok(Measurement::parse(&line.to_string()).unwrap())
    }

    /// Runs of the first two sides of the second workload.
    pub(in crate::bench) fn measured(ours: Vec<Outcome>, peer: Vec<Outcome>) -> Measured {
        let mut workload = workloads().remove(1);
        workload.sides.truncate(2);
        workload.comparisons.truncate(2);
        let command_lines = vec!["dlt bench step".to_owned(), "python step.py".to_owned()];
        Measured { workload, command_lines, outcomes: vec![ours, peer] }
    }

    fn ratios(measured: &Measured) -> Vec<Option<Ratio>> {
        measured.workload.comparisons.iter().map(|comparison| ratio(measured, comparison)).collect()
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_range_of_rounds() {
        let ours = vec![run(5, 30.0, 10.0), run(5, 40.0, 10.0), run(5, 32.0, 10.0)];
        let peer = vec![run(5, 20.0, 40.0), run(5, 16.0, 40.0), run(5, 10.0, 40.0)];
        let ratios = ratios(&measured(ours, peer));
        let speed = Spread { median: 2.0, least: 1.5, most: 3.2 };

        assert_eq!(ratios[0], Some(Ratio { spread: speed, verdict: Verdict::Met }));
        let memory = Spread { median: 0.25, least: 0.25, most: 0.25 };
        assert_eq!(ratios[1], Some(Ratio { spread: memory, verdict: Verdict::Shown }));
    }

    #[test]
    fn a_target_is_met_at_its_own_value() {
        assert_eq!(Target::at_least(1.5).verdict(1.5), Verdict::Met);
        assert_eq!(Target::at_least(1.5).verdict(1.499), Verdict::NotMet);
        assert_eq!(Target::at_most(0.4).verdict(0.4), Verdict::Met);
        assert_eq!(Target::at_most(0.4).verdict(0.401), Verdict::NotMet);
    }

    #[test]
    fn an_aim_is_met_beyond_what_must_be() {
        let faster = Target::at_least(1.0).aiming(1.3);
        assert_eq!(faster.to_string(), "at least 1.00, aim 1.30");
        let verdicts = [0.99, 1.29, 1.3].map(|ratio| faster.verdict(ratio));
        assert_eq!(verdicts, [Verdict::NotMet, Verdict::Met, Verdict::AimMet]);

        let smaller = Target::at_most(0.45).aiming(0.35);
        let verdicts = [0.46, 0.36, 0.35].map(|ratio| smaller.verdict(ratio));
        assert_eq!(verdicts, [Verdict::NotMet, Verdict::Met, Verdict::AimMet]);
    }

    #[test]
    fn models_of_different_size_are_not_judged() {
        let mut measured = measured(vec![run(5, 40.0, 1.0)], vec![run(6, 10.0, 1.0)]);
        assert_eq!(ratios(&measured)[0].as_ref().unwrap().verdict, Verdict::Different);

        measured.workload.comparisons[0].models = Models::TiedToUntied;
        assert_eq!(ratios(&measured)[0].as_ref().unwrap().verdict, Verdict::Met);
    }

    #[test]
    fn a_failed_round_leaves_a_ratio_that_is_not_judged() {
        let failed = || Err(Failure::new("exit code 1"));
        let partly =
            ratios(&measured(vec![run(5, 40.0, 1.0), failed()], vec![failed(), run(5, 10.0, 1.0)]));
        let ratio = partly[0].as_ref().unwrap();

        assert_eq!((ratio.spread.median, ratio.verdict), (4.0, Verdict::Incomplete));
        assert_eq!(ratios(&measured(vec![run(5, 40.0, 1.0)], vec![failed()])), [None, None]);
    }
}
