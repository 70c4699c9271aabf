//! The same seed gives the same bits; other threads, nearly the same numbers.

use dlt_spec::record::{MetricRow, without_times};

use crate::workplace::Workplace;

/// Largest difference of a loss of about 10 between numbers of threads after twelve steps. Other
/// threads add f32 numbers in another order, which changes the last digits, 6e-7 of 10, and AdamW
/// carries them along. A real difference, such as another batch, shows in the first digits.
const TOLERANCE: f64 = 1e-3;

fn rows(place: &Workplace, run: &str) -> Vec<MetricRow> {
    place
        .read(&format!("{run}/metrics.jsonl"))
        .lines()
        .map(|line| MetricRow::from_line(line).unwrap())
        .collect()
}

fn losses(place: &Workplace, run: &str) -> Vec<f64> {
    let loss = |row| match row {
        MetricRow::Step(row) => Some(row.loss),
        MetricRow::Evaluation(row) => Some(row.loss),
        _ => None,
    };

    rows(place, run).into_iter().filter_map(loss).collect()
}

#[test]
fn law_threads_change_no_more_than_the_last_digits() {
    let place = Workplace::new();
    let wide = ["--set", "model.width=64", "--set", "model.dropout=0.1"];
    for threads in ["1", "2", "3"] {
        place.train(threads, &[&wide[..], &["--threads", threads]].concat());
    }

    let one = losses(&place, "1");
    assert_eq!(one.len(), 12 + 3 + 2);

    for threads in ["2", "3"] {
        let other = losses(&place, threads);
        assert_eq!(one.len(), other.len());

        let apart = one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart <= TOLERANCE, "{threads} threads: {apart}");

        // Decisions are drawn from the seed.
        assert_eq!(place.read("1/states.jsonl"), place.read(&format!("{threads}/states.jsonl")));
    }
}

#[test]
fn law_bits_hang_on_seed_and_threads_alone_not_on_place_time_or_cache() {
    let place = Workplace::new();
    let train = |out: &str, cache: &str| {
        let mut arguments =
            vec!["train", "--preset", "smoke", "--data", "text.txt", "--steps", "9", "--out", out];
        arguments.extend([
            "--threads",
            "2",
            "--set",
            "tying.decide_every=2",
            "--set",
            "evaluation.every_steps=4",
        ]);

        let mut command = place.command(&arguments);
        command.arg("--quiet").stdout(std::process::Stdio::null());

        let status =
            command.env("DLT_CACHE", place.path(cache)).env("HOME", "/nonexistent").status();
        assert!(status.unwrap().success());

        let lines: Vec<String> =
            place.read(&format!("{out}/metrics.jsonl")).lines().map(without_times).collect();
        (lines, std::fs::read(place.path(&format!("{out}/model.safetensors"))).unwrap())
    };

    let first = train("a", "cold");
    assert!(first == train("b", "cold"), "a warm cache");
    assert!(first == train("c", "other"), "another cache");
}
