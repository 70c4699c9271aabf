//! What is measured on a GPU: memory by the number of groups, as in Table 3 of the paper, and speed
//! compared with PyTorch.

use std::io::Write;

use anyhow::Result;
use serde_json::Value;

/// A run of `dlt bench step`, or of the peer's script, which has the same arguments.
pub(super) struct Measurement {
    pub(super) name: String,
    pub(super) is_peer: bool,
    pub(super) arguments: Vec<String>,
}

/// A size with all that is measured of it.
struct Size {
    name: &'static str,
    shape: &'static str,
    /// Our sides, as pairs of a name and arguments.
    ours: &'static [(&'static str, &'static str)],
    /// The peer's sides, in the same form.
    peers: &'static [(&'static str, &'static str)],
}

const SIZES: [Size; 3] = [
    Size {
        name: "24x1024, memory by groups",
        shape: "--layers 24 --width 1024 --heads 16 --seq 256 --batch 4 --steps 6",
        ours: &[
            ("untied", "--tying none"),
            ("every layer tied", "--tying sum"),
            (
                "4 groups",
                "--tying sum --owners 0,0,0,0,0,0,6,0,6,0,6,0,12,6,12,0,6,12,18,12,18,0,6,12",
            ),
            ("untied, blocks again", "--tying none --checkpointing block"),
        ],
        peers: &[("untied, eager", "--tying none --mode eager")],
    },
    Size {
        name: "12x384",
        shape: "--layers 12 --width 384 --heads 6 --seq 256 --batch 8 --steps 30",
        ours: &[
            ("f32", ""),
            ("TF32", "--tf32"),
            ("bf16", "--dtype bf16"),
            ("candle's operations", "--kernels composed"),
            ("tied, owner", "--tying owner"),
        ],
        peers: &[
            ("eager, f32", "--mode eager"),
            ("eager, TF32", "--mode eager --tf32"),
            ("eager, bf16", "--mode eager --dtype bf16"),
            ("compile, TF32", "--mode compile --tf32"),
            ("compile, bf16", "--mode compile --dtype bf16"),
        ],
    },
    Size {
        name: "12x768",
        shape: "--layers 12 --width 768 --heads 12 --seq 1024 --batch 8 --steps 20",
        ours: &[("f32", ""), ("TF32", "--tf32"), ("bf16", "--dtype bf16")],
        peers: &[
            ("eager, f32", "--mode eager"),
            ("eager, TF32", "--mode eager --tf32"),
            ("eager, bf16", "--mode eager --dtype bf16"),
            ("compile, bf16", "--mode compile --dtype bf16"),
        ],
    },
];

/// All measurements in the order in which they run, size by size.
pub(super) fn measurements(with_peer: bool) -> Vec<Measurement> {
    let mut all = Vec::new();
    for size in &SIZES {
        let sides = size
            .ours
            .iter()
            .map(|side| (false, side))
            .chain(size.peers.iter().map(|side| (true, side)));

        for (is_peer, (side, arguments)) in sides.filter(|(is_peer, _)| with_peer || !is_peer) {
            let who = if is_peer { "PyTorch" } else { "dlt" };
            let words = size.shape.split_whitespace().chain(arguments.split_whitespace());
            all.push(Measurement {
                name: format!("{}: {who} {side}", size.name),
                is_peer,
                arguments: words.map(str::to_owned).collect(),
            });
        }
    }

    all
}

/// Prints a table of all measurements of a report.
pub(super) fn print(report: &Value, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{:<52} {:>12} {:>12} {:>12}", "", "tokens/s", "GPU MiB", "in tensors")?;
    for measured in report["measurements"].as_array().into_iter().flatten() {
        let figure = |key: &str| match measured["figures"][key].as_f64() {
            Some(figure) => format!("{figure:.0}"),
            None => "-".to_owned(),
        };

        let name = measured["name"].as_str().unwrap_or_default();
        let speed = figure("tokens_per_s");
        let held = figure("peak_device_mb");

        writeln!(out, "{name:<52} {speed:>12} {held:>12} {:>12}", figure("peak_device_used_mb"))?;
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_can_be_left_out() {
        let all = measurements(true);
        let ours = measurements(false);
        assert!(all.len() > ours.len() && ours.iter().all(|measurement| !measurement.is_peer));
        assert_eq!(all.iter().filter(|measurement| !measurement.is_peer).count(), ours.len());
    }

    #[test]
    fn states_fit_their_layers() {
        for measurement in measurements(true) {
            let after = |flag: &str| {
                let at = measurement.arguments.iter().position(|argument| argument == flag)?;
                measurement.arguments.get(at + 1)
            };

            if let Some(owners) = after("--owners") {
                let owners: Vec<usize> =
                    owners.split(',').map(|owner| owner.parse().unwrap()).collect();
                assert_eq!(after("--layers"), Some(&owners.len().to_string()));
                assert!(dlt_state::State::new(owners).is_ok(), "{}", measurement.name);
            }
        }
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let report = serde_json::json!({ "measurements": [
            { "name": "a", "figures": { "tokens_per_s": 1234.4, "peak_device_mb": 56.0, "peak_device_used_mb": 8.0 } },
            { "name": "b", "figures": null },
        ] });
        let mut out = Vec::new();
        print(&report, &mut out).unwrap();

        let lines: Vec<String> =
            String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
        assert!(lines[1].starts_with("a ") && lines[1].contains("1234"));
        assert!(lines[1].contains("56") && lines[1].ends_with('8'));
        assert!(lines[2].ends_with('-'));
    }
}
