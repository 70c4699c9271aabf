//! A training step in several processes: ours, ours in one process, and PyTorch's
//! DistributedDataParallel, in three states.

use dlt_study::spread::Spread;
use dlt_study::table::Table;

use super::grid::AMONG;
use super::measurement::Measurement;
use super::page::{self, Heading};
use super::rounds::Measured;

/// The page: speed and exchange by state, then all sides and their ratios.
pub(super) fn markdown(heading: &Heading, measured: &Measured, processes: u32) -> String {
    format!(
        "# A training step in {processes} processes, compared with PyTorch\n\n\
         A step is forward, loss, backward, exchange, clipping and AdamW, on random tokens. \
         {processes} processes divide\nthe batch and the threads. *In one* is a single process with \
         as many threads. *ddp* is PyTorch's\nDistributedDataParallel over gloo. Figures are medians \
         over rounds, with their range. The sides ran in turn,\nround by round.\n\n{}\n{}\n\
         Each process sends so many bytes in a step. The share is that of a step's time that the \
         exchange takes. Memory\nis the most that the largest process had resident, in units of 1024 \
         KiB.\n\n{}{}",
        heading.paragraphs(),
        speeds(measured),
        exchanges(measured),
        page::section(measured)
    )
}

fn speeds(measured: &Measured) -> Table {
    let mut table = Table::new(&[
        "state",
        "dlt, tokens/s",
        "dlt in one, tokens/s",
        "ddp, tokens/s",
        "dlt to ddp",
        "dlt to in one",
    ]);

    for [ours, in_one, ddp] in AMONG {
        let speed = |name| spread(measured, name, |one| Some(one.tokens_per_s));
        let text = |name| shown(speed(name), 0);
        let ratio = |against| match (speed(ours), speed(against)) {
            (Some(ours), Some(against)) => format!("{:.2}", ours.median / against.median),
            _ => "-".to_owned(),
        };

        table.push([state(ours), text(ours), text(in_one), text(ddp), ratio(ddp), ratio(in_one)]);
    }

    table
}

fn exchanges(measured: &Measured) -> Table {
    let mut table = Table::new(&[
        "state",
        "dlt, share",
        "ddp, share",
        "dlt, MB sent",
        "ddp, MB sent",
        "dlt, memory, MB",
        "dlt in one, memory, MB",
        "ddp, memory, MB",
    ]);

    for [ours, in_one, ddp] in AMONG {
        let share = |name| shown(spread(measured, name, |one| one.among.exchange_share), 2);
        let bytes = |name| {
            let megabytes = |one: &Measurement| one.among.bytes_per_step.map(|bytes| bytes / 1e6);
            shown(spread(measured, name, megabytes), 1)
        };
        let memory = |name| shown(spread(measured, name, Measurement::memory_of_process), 0);

        table.push([
            state(ours),
            share(ours),
            share(ddp),
            bytes(ours),
            bytes(ddp),
            memory(ours),
            memory(in_one),
            memory(ddp),
        ]);
    }

    table
}

/// The first word of a side's name.
fn state(side: &str) -> String {
    side.split(' ').next().unwrap_or(side).to_owned()
}

fn spread(
    measured: &Measured,
    name: &str,
    figure: impl Fn(&Measurement) -> Option<f64>,
) -> Option<Spread> {
    Spread::of(measured.measurements(measured.side(name)?).filter_map(figure))
}

fn shown(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or("-".to_owned(), |spread| format!("{spread:.decimals$}"))
}
