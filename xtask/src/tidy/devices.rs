//! Every device computes everything. Code that works only in main memory, or that waits for a device,
//! is allowed only in the files below. Each entry gives the number of lines and the reason.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::rust_source::{lines_with_word, product_lines};
use crate::tree::Tree;

/// Words that name the CPU or access its memory.
const MAIN_MEMORY: [&str; 6] =
    ["Device::Cpu", "CpuStorage", "Storage::Cpu", "storage_and_layout", "cpu_storage", "is_cpu()"];
/// Words that copy a tensor to main memory, which makes the device finish all of its work first.
const READ_BACK: [&str; 7] =
    ["to_vec0", "to_vec1", "to_vec2", "to_vec3", "to_scalar", "to_device", "to_cpu"];

/// The kernels for main memory, which access it in every file, and the crates that only they use.
const KERNELS: &str = "crates/dlt-kernels";

/// A file, how many such lines it may have, and why they slow no device down.
type AllowedFile = (&'static str, usize, &'static str);

const IN_MAIN_MEMORY: &[AllowedFile] = &[
    ("crates/dlt-run/src/export.rs", 1, "a file is written and nothing is computed"),
    ("crates/dlt-run/src/import.rs", 2, "files are converted and nothing is computed"),
    (
        "crates/dlt-cli/src/machine.rs",
        2,
        "shows which GPU is used, or what multiplies bf16 matrices without one",
    ),
    (
        "crates/dlt-models/src/huggingface/shards/numbers.rs",
        2,
        "files are read into main memory, then moved",
    ),
    (
        "crates/dlt-models/src/huggingface/weights.rs",
        1,
        "headers are read, and which layers are tied",
    ),
    ("crates/dlt-train/src/assembly.rs", 1, "refuses products that only a CPU has"),
    ("crates/dlt-train/src/device.rs", 1, "chooses the device"),
    ("crates/dlt-train/src/doctor.rs", 1, "checks whether a file can be read, on any machine"),
    (
        "crates/dlt-train/src/model_file.rs",
        1,
        "a model file is written from a checkpoint, on any machine",
    ),
    ("crates/dlt-train/src/memory.rs", 1, "main memory is counted differently from a GPU's"),
    ("crates/dlt-train/src/optimizer/resting.rs", 1, "without moments there is no device"),
];

const READS_BACK: &[AllowedFile] = &[
    ("crates/dlt-run/src/import.rs", 1, "the checksum of weights from another program"),
    (
        "crates/dlt-models/src/backward/sketches.rs",
        1,
        "sketches of gradients, once in a pass that requests them",
    ),
    ("crates/dlt-models/src/file/deferred.rs", 1, "weights that are written to a file"),
    (
        "crates/dlt-models/src/generation/decoder.rs",
        1,
        "scores of the next token, which the host chooses",
    ),
    (
        "crates/dlt-models/src/huggingface/weights.rs",
        3,
        "weights from files: moved to the device, compared, checked for NaN",
    ),
    ("crates/dlt-models/src/model.rs", 1, "scores of the next token, for callers that want them"),
    ("crates/dlt-train/src/checkpoint/contents.rs", 2, "tensors that are written to a checkpoint"),
    ("crates/dlt-train/src/device.rs", 1, "the computation that shows that a GPU works"),
    ("crates/dlt-train/src/evaluation.rs", 1, "scores of classes, once per batch of an evaluation"),
    ("crates/dlt-train/src/exchange/flight.rs", 1, "numbers that go to another process"),
    ("crates/dlt-train/src/optimizer/resting.rs", 1, "moments that are stored on disk"),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();

    let main_memory = found(tree, &MAIN_MEMORY);
    let advice = "works in main memory only: compute on the device of the tensors";
    compare(&main_memory, IN_MAIN_MEMORY, advice, &mut findings);

    let read_back = found(tree, &READ_BACK);
    let advice =
        "copies between a device and main memory, and waits for it: keep the tensor where it is";
    compare(&read_back, READS_BACK, advice, &mut findings);

    findings
}

/// Lines with one of the words, by file.
fn found<'t>(tree: &'t Tree, words: &[&str]) -> BTreeMap<&'t str, Vec<usize>> {
    let mut found = BTreeMap::new();
    let is_checked = |path: &str| path.starts_with("crates/") && !path.starts_with(KERNELS);
    for (path, text) in tree.texts(".rs").filter(|(path, _)| is_checked(path)) {
        let product = product_lines(path, text);
        let mut lines: Vec<usize> =
            words.iter().flat_map(|word| lines_with_word(text, word)).collect();
        lines.retain(|&line| line <= product);
        lines.sort_unstable();
        lines.dedup();

        if !lines.is_empty() {
            found.insert(path, lines);
        }
    }

    found
}

fn compare(
    found: &BTreeMap<&str, Vec<usize>>,
    places: &[AllowedFile],
    advice: &str,
    findings: &mut Vec<Finding>,
) {
    let listed = "xtask/src/tidy/devices.rs";
    for (path, lines) in found {
        let (allowed, why) = match places.iter().find(|(place, ..)| place == path) {
            Some((_, lines, why)) => (*lines, format!(", which allows {lines} here: {why}")),
            None => (0, String::new()),
        };
        let advice = format!("{advice}, or give the reason in {listed}{why}");

        findings.extend(
            lines.iter().skip(allowed).map(|&line| Finding::new(path, line, advice.clone())),
        );
    }

    for &(path, allowed, _) in places {
        let lines = found.get(path).map_or(0, Vec::len);
        if lines < allowed {
            let message = format!(
                "{path} has {lines} such lines, but {allowed} are allowed: lower the number"
            );
            findings.push(Finding::new(listed, 1, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Findings about one file, without those about the list.
    fn count(path: &str, text: &str) -> usize {
        let findings = check(&Tree::of(&[(path, text)]));
        findings.iter().filter(|finding| finding.to_string().starts_with(path)).count()
    }

    #[test]
    fn rejects_what_works_in_main_memory_only_outside_of_tests() {
        for word in MAIN_MEMORY.iter().chain(&READ_BACK) {
            let text = format!("fn a() {{\n    x.{word};\n}}\n");
            assert_eq!(count("crates/dlt-a/src/lib.rs", &text), 1, "{word}");
            assert_eq!(count("crates/dlt-a/tests/a/main.rs", &text), 0, "{word}");
            assert_eq!(count("crates/dlt-kernels/src/host.rs", &text), 0, "{word}");
        }
    }

    #[test]
    fn a_place_is_allowed_as_many_lines_as_it_says() {
        for (places, word) in [(IN_MAIN_MEMORY, "Device::Cpu"), (READS_BACK, "to_vec1")] {
            for &(path, lines, _) in places {
                let line = format!("x.{word};\n");
                assert_eq!(count(path, &line.repeat(lines)), 0, "{path}");
                assert_eq!(count(path, &line.repeat(lines + 2)), 2, "{path}");
            }
        }
    }

    #[test]
    fn rejects_a_list_that_allows_too_much() {
        let findings = check(&Tree::of(&[]));
        assert_eq!(findings.len(), IN_MAIN_MEMORY.len() + READS_BACK.len());
    }
}
