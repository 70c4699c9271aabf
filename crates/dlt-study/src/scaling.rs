//! `cargo xtask scale`: what a training step would cost in several processes. It is arithmetic with
//! published figures of networks and one recorded time of a step; nothing is run.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{program, store};
use setting::{Network, Setting};

mod page;
mod setting;
mod step;

/// Options of `cargo xtask scale`.
#[derive(Args, Debug)]
pub struct ScaleArguments {
    /// Numbers of processes, one on each GPU
    #[arg(long, value_name = "R,...", value_delimiter = ',', value_parser = parse_ranks,
        default_values_t = setting::RANKS)]
    ranks: Vec<usize>,
    /// Gigabytes per second that a process sends to any other one. Replaces both networks
    #[arg(long, value_name = "GB/S", value_parser = parse_positive)]
    bandwidth: Option<f64>,
    /// Microseconds of a message. Replaces both networks
    #[arg(long, value_name = "US", value_parser = parse_not_negative)]
    latency: Option<f64>,
    /// Microseconds of a process's processor to begin an exchange
    #[arg(long, value_name = "US", value_parser = parse_not_negative,
        default_value_t = setting::BEGINNING_US)]
    overhead: f64,
    /// Milliseconds of a step of 12 x 768 with 8 windows of 1,024 tokens, in one process
    #[arg(long, value_name = "MS", value_parser = parse_positive,
        default_value_t = setting::STEP_MS)]
    step_ms: f64,
    /// Windows of the batch that is divided among the processes in strong scaling
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..),
        default_value_t = setting::BATCH)]
    batch: u32,
    /// Exchange each tensor of a block by itself, instead of all of them together
    #[arg(long)]
    by_tensor: bool,
    /// Write the page to a file too
    #[arg(long, value_name = "FILE.md")]
    out: Option<PathBuf>,
}

/// Prints the page, and writes it where that is requested.
pub(crate) fn run(arguments: &ScaleArguments) -> Result<ExitCode> {
    let page = page::markdown(&arguments.setting(), &arguments.command())?;
    write!(io::stdout().lock(), "{page}")?;

    if let Some(path) = &arguments.out {
        store::make_parent(path)?;
        program::replace(path, page)?;
    }

    Ok(ExitCode::SUCCESS)
}

impl ScaleArguments {
    fn setting(&self) -> Setting {
        let networks = match (self.bandwidth, self.latency) {
            (None, None) => vec![Network::nvlink(), Network::ethernet()],
            (bandwidth, latency) => vec![Network::given(bandwidth, latency)],
        };

        Setting {
            networks: networks.into_iter().map(|one| one.with_overhead(self.overhead)).collect(),
            ranks: self.ranks.clone(),
            step_ms: self.step_ms,
            batch: self.batch as usize,
            by_tensor: self.by_tensor,
        }
    }

    /// The command that makes the same page, with the options that differ from their defaults.
    fn command(&self) -> String {
        let mut command = "cargo xtask scale".to_owned();
        let mut option = |name: &str, value: String| command += &format!(" --{name} {value}");

        if self.ranks != setting::RANKS {
            let ranks: Vec<String> = self.ranks.iter().map(ToString::to_string).collect();
            option("ranks", ranks.join(","));
        }

        for (name, value) in [("bandwidth", self.bandwidth), ("latency", self.latency)] {
            if let Some(value) = value {
                option(name, value.to_string());
            }
        }

        for (name, value, default) in [
            ("overhead", self.overhead, setting::BEGINNING_US),
            ("step-ms", self.step_ms, setting::STEP_MS),
            ("batch", f64::from(self.batch), f64::from(setting::BATCH)),
        ] {
            if value != default {
                option(name, value.to_string());
            }
        }

        if self.by_tensor {
            command += " --by-tensor";
        }

        command
    }
}

/// The most processes of a prediction.
const MOST_RANKS: usize = 1 << 20;

fn parse_ranks(text: &str) -> Result<usize, String> {
    let ranks = text.trim().parse::<usize>().ok();
    ranks.filter(|ranks| ranks.is_power_of_two() && *ranks <= MOST_RANKS).ok_or_else(|| {
        format!("expected a power of two from 1 to {MOST_RANKS}, as in 8,64,512, got {text}")
    })
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let number = parse_not_negative(text)?;
    if number == 0.0 { Err("expected a number above 0, got 0".to_owned()) } else { Ok(number) }
}

fn parse_not_negative(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok();
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("expected a number that is not below 0, got {text}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        arguments: ScaleArguments,
    }

    fn parse(line: &str) -> Result<ScaleArguments, clap::Error> {
        let words = ["scale"].into_iter().chain(line.split_whitespace());
        Command::try_parse_from(words).map(|command| command.arguments)
    }

    #[test]
    fn the_page_in_the_repository_is_what_the_command_prints() {
        let arguments = parse("").unwrap();
        let page = page::markdown(&arguments.setting(), &arguments.command()).unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/results/scaling/README.md");
        let kept = std::fs::read_to_string(path).unwrap();
        assert!(kept == page, "run cargo xtask scale --out data/results/scaling/README.md");
    }

    #[test]
    fn a_page_names_the_options_that_made_it() {
        let line = "--ranks 2,4 --bandwidth 1.5 --step-ms 100 --batch 64 --by-tensor";
        let arguments = parse(line).unwrap();
        assert_eq!(arguments.command(), format!("cargo xtask scale {line}"));

        let setting = arguments.setting();
        assert_eq!(setting.networks.len(), 1, "a network that is given replaces both");
        let page = page::markdown(&setting, &arguments.command()).unwrap();
        assert!(page.contains(&format!("`cargo xtask scale {line}`")), "{page}");
    }

    #[test]
    fn rejects_options_that_mean_nothing() {
        for line in [
            "--ranks 3",
            "--ranks 0",
            "--ranks 2097152",
            "--bandwidth 0",
            "--bandwidth inf",
            "--latency -1",
            "--overhead NaN",
            "--step-ms 0",
            "--batch 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
