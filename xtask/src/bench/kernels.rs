//! Each kernel compared with composed operations and with its floor, as the example `kernel_times` of
//! the crate `dlt-kernels` measures them.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use dlt_study::spread::Spread;
use dlt_study::table::Table;
use serde_json::{Value, json};

use super::page::Heading;
use super::products::{PeerRound, Products};

/// What one process measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Round {
    rates: Rates,
    rows: Vec<KernelPass>,
}

#[derive(Clone, Debug, PartialEq)]
struct Rates {
    threads: f64,
    matrix_gflop_per_s: f64,
    copy_gb_per_s: f64,
    one_thread_f32_gflop_per_s: f64,
    one_thread_bf16_gflop_per_s: f64,
    /// What multiplied bf16 matrices.
    product_engine: String,
}

/// A pass of a kernel. Its times are in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KernelPass {
    kernel: String,
    pub(super) pass: String,
    shape: String,
    pub(super) fused_ms: f64,
    pub(super) composed_ms: f64,
    pub(super) floor_ms: f64,
    /// Additions and multiplications of matrix products.
    pub(super) operations: f64,
    /// The linear map on one thread that the pass is of, if it is of one.
    pub(super) product: Option<Product>,
}

/// A linear map on one thread.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    /// Rows, inputs and outputs: `2048x384x1536`.
    pub(super) shape: String,
    /// Format of its activations: `f32` or `bf16`.
    pub(super) format: String,
}

impl Round {
    /// Parses the output of the example: the first line has the rates, and every other line has a pass
    /// of a kernel.
    pub(crate) fn parse(stdout: &str) -> Result<Self> {
        let mut lines = stdout.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            serde_json::from_str::<Value>(line)
                .with_context(|| format!("expected JSON, got {line}"))
        });

        let rates = lines.next().context("expected a line with the rates, got nothing")??;
        let rates = Rates {
            threads: number(&rates, "threads")?,
            matrix_gflop_per_s: number(&rates, "matrix_gflop_per_s")?,
            copy_gb_per_s: number(&rates, "copy_gb_per_s")?,
            one_thread_f32_gflop_per_s: number(&rates, "one_thread_f32_gflop_per_s")?,
            one_thread_bf16_gflop_per_s: number(&rates, "one_thread_bf16_gflop_per_s")?,
            product_engine: text(&rates, "product_engine")?,
        };

        let rows: Vec<KernelPass> =
            lines.map(|line| KernelPass::from_json(&line?)).collect::<Result<_>>()?;
        ensure!(!rows.is_empty(), "expected a line for each kernel, got only the rates");
        Ok(Self { rates, rows })
    }
}

impl KernelPass {
    pub(super) fn from_json(line: &Value) -> Result<Self> {
        let operations = line["operations"].as_f64().filter(|operations| *operations >= 0.0);
        let product = match line.get("product") {
            Some(_) => {
                Some(Product { shape: text(line, "product")?, format: text(line, "format")? })
            }
            None => None,
        };

        Ok(Self {
            kernel: text(line, "kernel")?,
            pass: text(line, "pass")?,
            shape: text(line, "shape")?,
            fused_ms: number(line, "fused_ms")?,
            composed_ms: number(line, "composed_ms")?,
            floor_ms: number(line, "floor_ms")?,
            operations: operations
                .with_context(|| format!("expected a number for 'operations' in {line}"))?,
            product,
        })
    }
}

pub(super) fn text(line: &Value, key: &str) -> Result<String> {
    let got = line[key].as_str().map(str::to_owned);
    got.with_context(|| format!("expected a text for '{key}' in {line}"))
}

pub(super) fn number(line: &Value, key: &str) -> Result<f64> {
    let got = line[key].as_f64().filter(|number| *number > 0.0);
    got.with_context(|| format!("expected a number above zero for '{key}' in {line}"))
}

/// The medians over one or more rounds of the same kernels.
#[derive(Clone, Debug)]
pub(crate) struct KernelTimes {
    rates: Rates,
    rows: Vec<KernelPass>,
    /// The rounds of the peer that gave figures.
    peer: Vec<PeerRound>,
}

impl KernelTimes {
    pub(crate) fn of(rounds: &[Round], peer: Vec<PeerRound>) -> Result<Self> {
        let first =
            rounds.first().context("expected at least one round of the kernels that succeeded")?;
        let names = |round: &Round| -> Vec<[String; 3]> {
            round
                .rows
                .iter()
                .map(|row| [row.kernel.clone(), row.pass.clone(), row.shape.clone()])
                .collect()
        };

        ensure!(
            rounds.iter().all(|round| names(round) == names(first)),
            "expected the same kernels in every round"
        );
        let median = |figure: &dyn Fn(&Round) -> f64| {
            Spread::of(rounds.iter().map(figure)).map_or(f64::NAN, |spread| spread.median)
        };

        let rates = Rates {
            matrix_gflop_per_s: median(&|round| round.rates.matrix_gflop_per_s),
            copy_gb_per_s: median(&|round| round.rates.copy_gb_per_s),
            one_thread_f32_gflop_per_s: median(&|round| round.rates.one_thread_f32_gflop_per_s),
            one_thread_bf16_gflop_per_s: median(&|round| round.rates.one_thread_bf16_gflop_per_s),
            ..first.rates.clone()
        };

        let rows = first.rows.iter().enumerate().map(|(index, row)| KernelPass {
            fused_ms: median(&|round| round.rows[index].fused_ms),
            composed_ms: median(&|round| round.rows[index].composed_ms),
            floor_ms: median(&|round| round.rows[index].floor_ms),
            ..row.clone()
        });

        Ok(Self { rates, rows: rows.collect(), peer })
    }

    pub(crate) fn table(&self) -> Table {
        let heads = [
            "kernel",
            "pass",
            "shape",
            "fused, ms",
            "composed, ms",
            "ratio",
            "floor, ms",
            "share of floor",
        ];

        let mut table = Table::new(&heads);
        for row in self.rows.iter().filter(|row| row.product.is_none()) {
            table.push([
                row.kernel.clone(),
                row.pass.clone(),
                row.shape.clone(),
                format!("{:.2}", row.fused_ms),
                format!("{:.2}", row.composed_ms),
                format!("{:.1}", row.composed_ms / row.fused_ms),
                format!("{:.2}", row.floor_ms),
                format!("{:.2}", row.floor_ms / row.fused_ms),
            ]);
        }

        table
    }

    pub(crate) fn markdown(&self, heading: &Heading) -> String {
        let Rates { threads, matrix_gflop_per_s, copy_gb_per_s, .. } = self.rates;
        let mut page = format!(
            "# The kernels, compared with composed operations and with their floor\n\n\
             Times are milliseconds of a pass: the least of several in a process, and the median over \
             rounds of processes.\n*Ratio* is composed over fused. *Floor* is the larger of two times \
             at the size of the kernel. One is the\noperations of the matrix products over the measured \
             matrix rate. The other is the bytes over the measured\ncopy rate. *Share* is floor over \
             fused, 1 at best. Functions such as exp and tanh are not in the floor.\nA composed backward \
             pass runs the operation again where candle's autograd computes the gradient.\n\n{}",
            heading.paragraphs()
        );

        write!(
            page,
            "\n{threads} threads; matrix products {matrix_gflop_per_s:.0} GFLOP/s; copies of 64 MiB {copy_gb_per_s:.1} GB/s.\n\n{}",
            self.table()
        )
        .expect("writing to a string cannot fail");

        page + &self.products()
    }

    /// The part of the page about linear maps on one thread.
    fn products(&self) -> String {
        let Rates { one_thread_f32_gflop_per_s: f32_rate, .. } = self.rates;
        let Rates { one_thread_bf16_gflop_per_s: bf16_rate, ref product_engine, .. } = self.rates;

        format!(
            "\n## Linear maps on one thread, compared with PyTorch\n\n\
             A product is rows x inputs x outputs. The format is that of the activations. Our weights \
             are f32, and those of\nPyTorch have the format of the activations. A backward pass is both \
             gradients. *Packed* is oneDNN's product with\na weight that was packed before the time \
             began. A ratio is PyTorch's time over ours. The floor is at the best rate\nof products \
             in that format on one thread, which for bf16 is our own.\n\n\
             Products of f32 {f32_rate:.0} GFLOP/s; of bf16 {bf16_rate:.0} GFLOP/s, by {product_engine}.\n\n{}",
            Products::new(&self.rows, &self.peer).table()
        )
    }

    pub(crate) fn json(&self, heading: &Heading) -> Value {
        let mut value = heading.json();
        let rates = &self.rates;
        value["rates"] = json!({
            "threads": rates.threads,
            "matrix_gflop_per_s": rates.matrix_gflop_per_s,
            "copy_gb_per_s": rates.copy_gb_per_s,
            "one_thread_f32_gflop_per_s": rates.one_thread_f32_gflop_per_s,
            "one_thread_bf16_gflop_per_s": rates.one_thread_bf16_gflop_per_s,
            "product_engine": rates.product_engine,
        });

        let row = |row: &KernelPass| {
            json!({ "kernel": row.kernel, "pass": row.pass, "shape": row.shape, "fused_ms": row.fused_ms,
                    "composed_ms": row.composed_ms, "floor_ms": row.floor_ms })
        };

        value["kernels"] = self.rows.iter().filter(|row| row.product.is_none()).map(row).collect();
        value["products"] = Products::new(&self.rows, &self.peer).json();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: &str = r#"{"threads": 2, "matrix_gflop_per_s": 400.0, "copy_gb_per_s": 10.0, "one_thread_f32_gflop_per_s": 200.0, "one_thread_bf16_gflop_per_s": 900.0, "product_engine": "AMX"}"#;

    fn round(fused_ms: f64) -> Round {
        let row = json!({ "kernel": "linear", "pass": "forward", "shape": "[2, 3]", "fused_ms": fused_ms,
                          "composed_ms": 8.0, "floor_ms": 1.0, "operations": 0, "bytes": 5 });
        Round::parse(&format!("{RATES}\n{row}\n")).unwrap()
    }

    #[test]
    fn the_table_shows_medians_ratio_and_share_of_the_floor() {
        let times = KernelTimes::of(&[round(2.0), round(9.0), round(4.0)], Vec::new()).unwrap();
        let table = times.table().to_string();
        assert!(
            table.ends_with("| linear | forward | [2, 3] | 4.00 | 8.00 | 2.0 | 1.00 | 0.25 |\n"),
            "{table}"
        );
    }

    #[test]
    fn rejects_rounds_of_different_kernels_and_no_round() {
        let mut other = round(1.0);
        other.rows[0].kernel = "norm".to_owned();
        assert!(KernelTimes::of(&[round(1.0), other], Vec::new()).is_err());
        assert!(KernelTimes::of(&[], Vec::new()).is_err());
    }

    #[test]
    fn rejects_what_is_no_answer() {
        let incomplete = format!("{RATES}\n{{\"kernel\": \"linear\"}}\n");
        for stdout in ["", RATES, "words\n", &incomplete, r#"{"threads": 2}"#] {
            assert!(Round::parse(stdout).is_err(), "{stdout}");
        }
    }
}
