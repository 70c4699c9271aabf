//! The page of a prediction.

use anyhow::Result;

use super::setting::{
    self, LARGE, MEMORY_BYTES, Model, NODE, Network, SMALL, Setting, TOKENS, WINDOWS,
};
use super::step::{Cause, Link, sent, step};
use crate::table::{Table, grouped};

/// From this efficiency on nothing counts as broken by the network.
const GOOD: f64 = 0.9;
/// Groups of the tied rows.
const GROUPS: usize = 4;

/// The page, made by `command`.
pub(super) fn markdown(setting: &Setting, command: &str) -> Result<String> {
    let mut page = introduction(setting, command);
    for size in [SMALL, LARGE] {
        let [layers, width, heads] = size;
        let untied = Model::new(size, layers)?;
        let step_s = untied.compute(setting.step_ms, WINDOWS as f64)?.step_s;

        page += &format!(
            "\n## {layers} layers of width {}\n\n{heads} heads, {} parameters. A step of {WINDOWS} \
             windows takes {:.1} ms in one process.\n\n{}",
            grouped(width as u64),
            grouped(untied.parameters() as u64),
            1e3 * step_s,
            table(setting, size)?
        );
    }

    Ok(page)
}

fn introduction(setting: &Setting, command: &str) -> String {
    let usual = grouped(u64::from(setting::BATCH));
    let batch = grouped(setting.batch as u64);
    let exchange = if setting.by_tensor {
        "Each tensor is exchanged by itself: 12 exchanges for each owner's block."
    } else {
        "There is one exchange for each owner's block, and one for all shared parameters."
    };

    let recorded = if setting.step_ms == setting::STEP_MS {
        ", as\n  [recorded](../gpu/README.md) in bf16 on one H200. Other"
    } else {
        ".\n  Other"
    };

    format!(
        "# A training step in several processes, predicted\n\n\
         **Nothing on this page was measured with several processes.** It is arithmetic: published\n\
         figures of networks, one time of a step, and the bytes that a step exchanges.\n\n\
         Made by `{command}`. The options `--bandwidth`, `--latency`, `--overhead` and\n\
         `--step-ms` replace what is assumed here.\n\n\
         - **Exchange.** R processes have one GPU each. Each gradient is cut into R pieces. All versions\n  \
         of a piece go to one process, which updates its weights and sends them to all.\n  {exchange}\n\
         - **Time.** A message takes its latency, and its bytes divided by the bandwidth. A process sends\n  \
         to one other process after the other; sent at once, messages would cost less latency.\n  \
         Gradients travel during the backward pass once they are whole. The global norm needs all of\n  \
         them, so nothing hides the weights.\n\
         - **Computation.** A step of 12 x 768 with {WINDOWS} windows of {} tokens takes {} ms\
         {recorded} sizes follow by their operations. Two\n  \
         thirds of a step are backward. A tied step takes the same time. Sums, and copies between GPU and\n  \
         network, take none.\n\
         - **Efficiency.** Tokens per second of each process, compared with one process. *Weak*: each\n  \
         process has {WINDOWS} windows. *Strong*: a batch of {batch} windows is divided. More than {WINDOWS}\n  \
         windows of a process are several passes, and only the last one hides exchanges.\n\
         - **Not hidden.** Milliseconds of a weak step in which a process waits for the network.\n\
         - **Memory.** Of each process: weights, gradients, its part of the moments, activations as in\n  \
         the recorded step, and two buffers of the largest exchange.\n\
         - **Breaks first.** What costs most of the time that is lost, where the weak efficiency is\n  \
         below {GOOD}. Otherwise memory above {:.0} GB, or a batch of more than {usual} windows, which\n  \
         is that of GPT-2.\n\n{}",
        grouped(TOKENS as u64),
        setting.step_ms,
        MEMORY_BYTES / 1e9,
        networks(setting)
    )
}

fn networks(setting: &Setting) -> String {
    let mut table = Table::new(&[
        "network",
        "to",
        "GB/s each way",
        "latency of a message, us",
        "to begin an exchange, us",
    ]);

    for Network { name, links } in &setting.networks {
        let mut row = |to: String, link: Link| {
            table.push([
                (*name).to_owned(),
                to,
                format!("{}", link.bandwidth / 1e9),
                format!("{:.1}", link.latency_s * 1e6),
                format!("{:.1}", links.overhead_s * 1e6),
            ]);
        };

        if links.within == links.between {
            row("all".to_owned(), links.within);
        } else {
            row(format!("the {NODE} GPUs of a node"), links.within);
            row("other nodes".to_owned(), links.between);
        }
    }

    let assumed = if setting.networks.iter().any(|network| network.name == Network::GIVEN) {
        "What is not given is that of 100 Gb/s Ethernet.\n"
    } else {
        "NVLink is that of an H200: 900 GB/s, both ways together, by its data sheet. Between nodes of \
         8,\neach GPU is assumed to have a 400 Gb/s InfiniBand adapter, as in a DGX H200. Ethernet is \
         100 Gb/s\nfor each process. Latencies are those of NCCL's tuning table for large messages\n\
         (`src/graph/tuning.cc`, ring, Simple).\n"
    };

    format!("{table}\n{assumed}")
}

fn table(setting: &Setting, size: [usize; 3]) -> Result<Table> {
    let mut table = Table::new(&[
        "network",
        "groups",
        "R",
        "windows",
        "GB sent",
        "messages",
        "not hidden, ms",
        "weak",
        "strong",
        "memory, GB",
        "breaks first",
    ]);

    for network in &setting.networks {
        for groups in [size[0], GROUPS] {
            let model = Model::new(size, groups)?;
            for &ranks in &setting.ranks {
                table.push(row(setting, network, &model, groups, ranks)?);
            }
        }
    }

    Ok(table)
}

fn row(
    setting: &Setting,
    network: &Network,
    model: &Model,
    groups: usize,
    ranks: usize,
) -> Result<[String; 11]> {
    let exchanges = model.exchanges(setting.by_tensor);
    let compute = model.compute(setting.step_ms, WINDOWS as f64)?;
    let weak = step(&network.links, ranks, compute, &exchanges);
    let efficiency = weak.compute_s / weak.total_s();

    // Every process has at least one window.
    let strong = (setting.batch >= ranks).then(|| {
        let windows = setting.batch as f64 / ranks as f64;
        let compute = model.compute(setting.step_ms, windows)?;
        let step = step(&network.links, ranks, compute, &exchanges);
        anyhow::Ok(format!("{:.2}", step.compute_s / step.total_s()))
    });

    let (bytes, messages) = sent(ranks, &exchanges);
    let memory = model.memory_bytes(ranks)?;
    let windows = ranks * WINDOWS;

    let breaks = if efficiency < GOOD {
        match Cause::first(&network.links, ranks, compute, &exchanges) {
            Cause::Messages => "latency: number of messages",
            Cause::Table => "bytes of the token table",
            Cause::Gradients => "last gradients of blocks",
            Cause::Weights => "weights of blocks",
        }
    } else if memory > MEMORY_BYTES {
        "memory"
    } else if windows > setting::BATCH as usize {
        "the batch"
    } else {
        "nothing"
    };

    Ok([
        network.name.to_owned(),
        if groups == GROUPS { GROUPS.to_string() } else { "untied".to_owned() },
        ranks.to_string(),
        grouped(windows as u64),
        format!("{:.2}", bytes / 1e9),
        grouped(messages as u64),
        format!("{:.1}", 1e3 * weak.exchange_s()),
        format!("{efficiency:.2}"),
        strong.transpose()?.unwrap_or_else(|| "-".to_owned()),
        format!("{:.1}", memory / 1e9),
        breaks.to_owned(),
    ])
}
