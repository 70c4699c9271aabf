//! Generation: our model with separate weights per layer, the same with one owner, and transformers,
//! in f32 and in bf16.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use dlt_study::spread::Spread;
use dlt_study::table::{Table, grouped};
use serde_json::{Value, json};

use super::comparison::Verdict;
use super::grid::{Program, Target};
use super::page::Heading;

/// The peer's script, from the root of the repository.
pub(super) const SCRIPT: &str = "data/peers/transformers_decode.py";

/// Name, program, and its options besides those that all sides have. Those of the peer are last.
pub(super) const SIDES: [(&str, Program, &[&str]); 5] = [
    ("dlt none", Program::Dlt, &["--dtype", "f32", "--tying", "none"]),
    ("dlt one owner", Program::Dlt, &["--dtype", "f32", "--tying", "sum"]),
    ("dlt one owner bf16", Program::Dlt, &["--dtype", "bf16", "--tying", "sum"]),
    ("transformers", Program::PyTorch, &["--dtype", "f32"]),
    ("transformers bf16", Program::PyTorch, &["--dtype", "bf16"]),
];

/// Pairs of indices into [`SIDES`]: the tokens per second of the first are divided by those of the
/// second.
const RATIOS: [(usize, usize, Target); 6] = [
    (0, 3, Target::Shown),
    (1, 3, Target::Shown),
    (1, 4, Target::at_least(2.0).aiming(3.0)),
    (2, 4, Target::Shown),
    (1, 0, Target::Shown),
    (2, 1, Target::Shown),
];

/// The figures that a program prints about its run.
pub(super) struct Figures {
    pub(super) tokens_per_s: f64,
    prefill_ms: f64,
    params: u64,
    line: Value,
}

impl Figures {
    /// Parses the one line of JSON in the output of a program.
    pub(super) fn parse(stdout: &str) -> Result<Self> {
        let lines: Vec<&str> = stdout.lines().filter(|line| line.starts_with('{')).collect();
        ensure!(lines.len() == 1, "expected one line of JSON, got {}", lines.len());

        let line: Value = serde_json::from_str(lines[0]).context("expected JSON")?;
        let number = |key: &str| {
            let number = line[key].as_f64().filter(|&number| number > 0.0);
            number.with_context(|| {
                format!("expected a number above zero for '{key}', got {}", line[key])
            })
        };

        Ok(Self {
            tokens_per_s: number("decode_tokens_per_s")?,
            prefill_ms: number("prefill_ms")?,
            params: line["params"].as_u64().context("expected a whole number for 'params'")?,
            line: line.clone(),
        })
    }

    fn product_engine(&self) -> Option<&str> {
        self.line["product_engine"].as_str()
    }
}

/// The runs of every side that took part, in the order of [`SIDES`]. A failed round has its reason.
pub(super) type Runs = Vec<Vec<Result<Figures, String>>>;

fn good(runs: &[Result<Figures, String>]) -> impl Iterator<Item = &Figures> {
    runs.iter().filter_map(|run| run.as_ref().ok())
}

/// The page: a table of sides, one of ratios, and what failed.
pub(super) fn markdown(heading: &Heading, runs: &Runs) -> String {
    let mut text = format!(
        "# Generation, compared with transformers\n\n\
         A GPT-2 with random weights continues prompts greedily, with cached keys and values. Figures \
         are medians\nover rounds, with their range. The sides ran in turn, each in its own process.\n\n{}\n",
        heading.paragraphs()
    );

    let mut table = Table::new(&["side", "decode, tokens/s", "prefill, ms", "parameters", "runs"]);
    for ((name, ..), runs) in SIDES.iter().zip(runs) {
        let spread = |figure: fn(&Figures) -> f64| {
            Spread::of(good(runs).map(figure))
                .map_or("-".to_owned(), |spread| format!("{spread:.1}"))
        };

        let passed = good(runs).count();
        let all = runs.len();
        table.push([
            (*name).to_owned(),
            spread(|figures| figures.tokens_per_s),
            spread(|figures| figures.prefill_ms),
            good(runs).next().map_or("-".to_owned(), |figures| grouped(figures.params)),
            if passed < all {
                format!("**FAILED** {} of {all}", all - passed)
            } else {
                all.to_string()
            },
        ]);
    }

    text += &table.to_string();
    let engine = runs.iter().flat_map(|runs| good(runs)).find_map(Figures::product_engine);
    if let Some(engine) = engine {
        text += &format!("\nOurs multiplied bf16 matrices by {engine}.\n");
    }

    write!(text, "\n{}", ratios(runs)).expect("writing to a string cannot fail");
    for ((name, ..), runs) in SIDES.iter().zip(runs) {
        for why in runs.iter().filter_map(|run| run.as_ref().err()) {
            write!(text, "\nFAILED: {name}:\n\n```text\n{why}\n```\n")
                .expect("writing to a string cannot fail");
        }
    }

    text
}

fn ratios(runs: &Runs) -> Table {
    let mut table = Table::new(&["ratio of decode tokens/s", "is", "must be", ""]);
    for (side, against, target) in RATIOS.into_iter().filter(|&(_, other, _)| other < runs.len()) {
        let has_failed = [side, against].iter().any(|&side| runs[side].iter().any(Result::is_err));
        let (is, verdict) = match ratio(runs, side, against) {
            None => ("-".to_owned(), Verdict::Incomplete),
            Some(ratio) if has_failed => (format!("{ratio:.2}"), Verdict::Incomplete),
            Some(ratio) => (format!("{ratio:.2}"), target.verdict(ratio.median)),
        };

        let names = format!("{} to {}", SIDES[side].0, SIDES[against].0);
        table.push([names, is, target.to_string(), verdict.to_string()]);
    }

    table
}

/// The ratio of the medians. The range is that of the ratios within a round.
fn ratio(runs: &Runs, side: usize, against: usize) -> Option<Spread> {
    let median = |side: usize| Spread::of(good(&runs[side]).map(|figures| figures.tokens_per_s));
    let median = median(side)?.median / median(against)?.median;
    let rounds = runs[side].iter().zip(&runs[against]);
    let in_rounds = rounds.filter_map(|pair| match pair {
        (Ok(a), Ok(b)) => Some(a.tokens_per_s / b.tokens_per_s),
        _ => None,
    });

    let range = Spread::of(in_rounds).unwrap_or(Spread { median, least: median, most: median });
    Some(Spread { median, ..range })
}

/// Each run as its program printed it.
pub(super) fn json(heading: &Heading, runs: &Runs) -> Value {
    let mut value = heading.json();
    let sides = SIDES.iter().zip(runs).map(|((name, ..), runs)| {
        let printed = runs.iter().map(|run| match run {
            Ok(figures) => figures.line.clone(),
            Err(why) => json!({ "failed": why }),
        });

        json!({ "name": name, "runs": printed.collect::<Value>() })
    });

    value["sides"] = sides.collect();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tokens_per_s: f64) -> Result<Figures, String> {
        let line = json!({ "decode_tokens_per_s": tokens_per_s, "prefill_ms": 2.0, "params": 7, "peer": "x" });
        Ok(Figures::parse(&line.to_string()).expect("it holds every key"))
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_range_of_rounds() {
        let runs = vec![vec![run(10.0), run(20.0)], vec![run(30.0), run(30.0)]];
        let ratio = ratio(&runs, 1, 0).expect("both sides have figures");
        assert_eq!((ratio.median, ratio.least, ratio.most), (2.0, 1.5, 3.0));
        let failed = vec![vec![Err("gone".to_owned())], vec![run(30.0)]];
        assert!(super::ratio(&failed, 1, 0).is_none());
    }

    #[test]
    fn the_table_of_ratios_judges_those_with_a_target() {
        let rates = [100.0, 240.0, 250.0, 60.0, 90.0];
        let mut runs: Runs = rates.map(|rate| vec![run(rate)]).into();
        let row = "| dlt one owner to transformers bf16 | 2.67 | at least 2.00, aim 3.00 | met |";
        assert!(ratios(&runs).to_string().contains(row), "{}", ratios(&runs));

        runs[4] = vec![Err("gone".to_owned())];
        let row = "aim 3.00 | not judged: a run failed |";
        assert!(ratios(&runs).to_string().contains(row), "{}", ratios(&runs));

        runs.truncate(3);
        assert!(!ratios(&runs).to_string().contains("transformers"));
    }

    #[test]
    fn rejects_an_answer_without_any_of_the_keys() {
        let whole = json!({ "decode_tokens_per_s": 3.0, "prefill_ms": 2.0, "params": 7 });
        for key in ["decode_tokens_per_s", "prefill_ms", "params"] {
            let mut line = whole.clone();
            line[key] = Value::Null;

            let refused =
                Figures::parse(&line.to_string()).err().expect("a key is missing").to_string();
            assert!(refused.contains(key), "{refused}");
        }

        assert!(Figures::parse("nothing\n").is_err());
    }
}
