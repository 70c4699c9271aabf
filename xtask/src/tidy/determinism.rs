//! The same seed gives the same bits. All randomness comes from the seed, no order depends on a hash,
//! and the clock is read only in places that decide nothing.

use crate::finding::Finding;
use crate::rust_source::{lines_with_word, product_lines};
use crate::tree::Tree;

/// Randomness that does not come from a seed.
const CHANCE: [&str; 9] = [
    "thread_rng",
    "rand::rng",
    "rand::random",
    "from_os_rng",
    "from_entropy",
    "OsRng",
    "ThreadRng",
    "RandomState",
    "DefaultHasher",
];

/// Containers with a random order, and the files that may use them. Those files only look things up
/// and never iterate, or pass the container to a library that needs it.
const HASHED: [&str; 4] = ["HashMap", "HashSet", "FxHashMap", "AHashMap"];
const HASHED_ALLOWED: [&str; 2] =
    ["crates/dlt-data/src/tokenizer/gpt2.rs", "crates/dlt-data/src/tokenizer/encoder.rs"];

/// Readings of the clock, and the files that may read it.
const CLOCK: [&str; 2] = ["Instant::now", "SystemTime::now"];
const CLOCK_ALLOWED: [&str; 12] = [
    "crates/dlt-train/src/clock.rs",
    "crates/dlt-cli/src/",
    // When a run began, for its provenance.
    "crates/dlt-run/src/provenance.rs",
    "crates/dlt-kernels/examples/",
    "crates/dlt-data/examples/",
    // Time-outs of the hub, and dates in its answers.
    "crates/dlt-data/src/hub/",
    // How long other processes of the run are silent, and how fast exchanges are.
    "crates/dlt-processes/src/transport/",
    "crates/dlt-processes/examples/",
    // How long another process holds a lock.
    "crates/dlt-spec/src/waiting.rs",
    // How long a program runs, when the budget of a study is used up, and what its board shows. No
    // figure of a record depends on it.
    "crates/dlt-study/src/child.rs",
    "crates/dlt-study/src/launch.rs",
    "crates/dlt-study/src/board.rs",
];

/// Candle's own random draws. They come from one generator of the whole process, which no stream of
/// ours controls.
const CANDLE: [&str; 4] = ["Tensor::rand", "Tensor::randn", "Var::rand", "Var::randn"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".rs").filter(|(path, _)| path.starts_with("crates/")) {
        let lines = product_lines(path, text);
        let mut refuse = |words: &[&str], allowed: &[&str], advice: &str| {
            if allowed.iter().any(|allowed| path.starts_with(allowed)) {
                return;
            }

            for word in words {
                let found =
                    lines_with_word(text, word).into_iter().filter(|&number| number <= lines);
                findings.extend(
                    found.map(|number| Finding::new(path, number, format!("'{word}' {advice}"))),
                );
            }
        };

        refuse(&CHANCE, &[], "is random without a seed: draw from dlt_spec::seeds::stream");
        refuse(
            &CANDLE,
            &[],
            "draws from candle's own generator: draw from dlt_spec::seeds::stream",
        );

        refuse(&HASHED, &HASHED_ALLOWED, "has a random order: use BTreeMap or BTreeSet");
        refuse(&CLOCK, &CLOCK_ALLOWED, "reads the clock: use crates/dlt-train/src/clock.rs");
    }

    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn rejects_chance_hashes_and_clocks_outside_of_tests() {
        for word in CHANCE.iter().chain(&CANDLE).chain(&HASHED).chain(&CLOCK) {
            let text = format!("fn a() {{\n    {word}();\n}}\n");
            assert_eq!(count("crates/dlt-a/src/lib.rs", &text), 1, "{word}");
            assert_eq!(count("crates/dlt-a/tests/a/main.rs", &text), 0, "{word}");

            let tested = format!("#[cfg(test)]\nmod tests {{\n{text}}}\n");
            assert_eq!(count("crates/dlt-a/src/lib.rs", &tested), 0, "{word}");
        }
    }

    #[test]
    fn the_allowed_places_are_allowed_only_what_they_need() {
        assert_eq!(count(HASHED_ALLOWED[0], "HashMap\n"), 0);
        assert_eq!(count(HASHED_ALLOWED[0], "thread_rng\n"), 1);
        assert_eq!(count(CLOCK_ALLOWED[0], "Instant::now()\n"), 0);
        assert_eq!(count(CLOCK_ALLOWED[0], "HashMap\n"), 1);
    }
}
