//! The linear maps on one thread that the example `kernel_times` measures, compared with PyTorch's.

use anyhow::{Context, Result, ensure};
use dlt_study::spread::Spread;
use dlt_study::table::Table;
use serde_json::{Value, json};

use super::kernels::{KernelPass, Product, number, text};

/// The peer's script, from the root of the repository.
pub(super) const SCRIPT: &str = "data/peers/pytorch_product.py";

/// The passes of the peer that a pass of ours is compared with: the plain one, and the one with a
/// weight that was packed before.
const PEERS: [(&str, [&str; 2]); 2] =
    [("forward", ["forward", "packed"]), ("backward", ["backward", ""])];

/// The peer's options: the shapes of all products. It uses one thread, as ours does.
pub(super) fn options() -> [&'static str; 4] {
    ["2048x384x1536", "2048x768x3072", "--threads", "1"]
}

/// What one process of the peer measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PeerRound(Vec<PeerPass>);

#[derive(Clone, Debug, PartialEq)]
struct PeerPass {
    product: Product,
    pass: String,
    ms: f64,
}

impl PeerRound {
    /// Parses the one line of JSON in the output of the peer.
    pub(super) fn parse(stdout: &str) -> Result<Self> {
        let line = stdout.lines().find(|line| line.starts_with('{')).context("expected JSON")?;
        let line: Value = serde_json::from_str(line).context("expected JSON")?;
        let passes = line["products"].as_array().context("expected a list for 'products'")?;
        ensure!(!passes.is_empty(), "expected a product in 'products', got none");
        passes.iter().map(PeerPass::from_json).collect::<Result<_>>().map(Self)
    }
}

impl PeerPass {
    fn from_json(line: &Value) -> Result<Self> {
        Ok(Self {
            product: Product { shape: text(line, "shape")?, format: text(line, "format")? },
            pass: text(line, "pass")?,
            ms: number(line, "ms")?,
        })
    }
}

/// Our passes with the medians of the peer's times.
pub(super) struct Products<'a> {
    ours: &'a [KernelPass],
    peer: &'a [PeerRound],
}

impl<'a> Products<'a> {
    pub(super) fn new(ours: &'a [KernelPass], peer: &'a [PeerRound]) -> Self {
        Self { ours, peer }
    }

    /// Each pass of a product, with the product.
    fn passes(&self) -> impl Iterator<Item = (&'a KernelPass, &'a Product)> {
        self.ours.iter().filter_map(|pass| Some((pass, pass.product.as_ref()?)))
    }

    /// The peer's times for a pass of ours, in milliseconds: plain, and with a packed weight.
    fn peer_ms(&self, product: &Product, pass: &str) -> [Option<f64>; 2] {
        let names =
            PEERS.iter().find(|(ours, _)| *ours == pass).map_or([""; 2], |(_, names)| *names);
        names.map(|name| {
            let passes = self.peer.iter().flat_map(|round| &round.0);
            let same = passes.filter(|pass| pass.product == *product && pass.pass == name);
            Spread::of(same.map(|pass| pass.ms)).map(|spread| spread.median)
        })
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(&[
            "product",
            "format",
            "pass",
            "ours, ms",
            "composed, ms",
            "ours, GFLOP/s",
            "share of floor",
            "PyTorch, GFLOP/s",
            "ratio",
            "packed, GFLOP/s",
            "ratio",
        ]);

        for (pass, product) in self.passes() {
            let rate = |ms: f64| format!("{:.0}", pass.operations / ms / 1e6);
            let mut row = vec![
                product.shape.replace('x', " x "),
                product.format.clone(),
                pass.pass.clone(),
                format!("{:.2}", pass.fused_ms),
                format!("{:.2}", pass.composed_ms),
                rate(pass.fused_ms),
                format!("{:.2}", pass.floor_ms / pass.fused_ms),
            ];

            for ms in self.peer_ms(product, &pass.pass) {
                let ratio = ms.map(|ms| format!("{:.2}", ms / pass.fused_ms));
                row.extend([ms.map(rate), ratio].map(|cell| cell.unwrap_or("-".to_owned())));
            }

            table.push(row);
        }

        table
    }

    pub(super) fn json(&self) -> Value {
        self.passes()
            .map(|(pass, product)| {
                let [plain, packed] = self.peer_ms(product, &pass.pass);
                json!({ "product": product.shape, "format": product.format, "pass": pass.pass,
                        "fused_ms": pass.fused_ms, "operations": pass.operations,
                        "floor_ms": pass.floor_ms, "peer_ms": plain, "peer_packed_ms": packed })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ms: f64) -> PeerRound {
        let product = |pass: &str, ms: f64| json!({ "shape": "4x2x3", "format": "bf16", "pass": pass, "ms": ms, "gflop_per_s": 1.0 });
        let line = json!({ "peer": "pytorch", "products": [product("forward", ms), product("packed", 1.0)] });
        PeerRound::parse(&format!("a warning\n{line}\n")).unwrap()
    }

    fn ours(pass: &str) -> KernelPass {
        let line = json!({ "kernel": "linear bf16", "pass": pass, "shape": "", "fused_ms": 2.0, "composed_ms": 8.0,
                           "floor_ms": 1.0, "operations": 8e6, "product": "4x2x3", "format": "bf16" });
        KernelPass::from_json(&line).unwrap()
    }

    #[test]
    fn a_ratio_is_the_peers_median_time_over_ours() {
        let passes = [ours("forward"), ours("backward")];
        let peers = [peer(2.0), peer(9.0), peer(4.0)];
        let table = Products::new(&passes, &peers).table().to_string();
        for row in [
            "| 4 x 2 x 3 | bf16 | forward | 2.00 | 8.00 | 4 | 0.50 | 2 | 2.00 | 8 | 0.50 |\n",
            "| 4 x 2 x 3 | bf16 | backward | 2.00 | 8.00 | 4 | 0.50 | - | - | - | - |\n",
        ] {
            assert!(table.contains(row), "no {row} in\n{table}");
        }
    }

    #[test]
    fn rejects_what_is_no_answer() {
        let incomplete =
            r#"{"products": [{"shape": "4x2x3", "format": "bf16", "pass": "forward"}]}"#;
        for stdout in ["", "words\n", "{}", r#"{"products": []}"#, incomplete] {
            assert!(PeerRound::parse(stdout).is_err(), "{stdout}");
        }
    }

    #[test]
    fn the_peer_measures_the_shapes_of_our_example() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/dlt-kernels/examples/kernel_times.rs");
        let example = std::fs::read_to_string(path).unwrap();
        let options = options();
        let ours = options[..2].iter().map(|shape| format!("[{}]", shape.replace('x', ", ")));
        let ours = ours.collect::<Vec<_>>().join(", ");
        assert!(example.contains(&format!("PRODUCTS: [[usize; 3]; 2] = [{ours}];")), "{ours}");
    }
}
