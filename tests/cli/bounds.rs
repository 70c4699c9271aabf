//! Files that would fill all memory or never end, read under a limit on the process.
#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::workplace::{Said, Workplace};

/// Address space of the process, in KiB: a multiple of what tokenizing needs, and a fraction of
/// what these files would need if they were held in memory.
const LIMIT_KIB: u64 = 2_500_000;

/// An endless file is refused at once; far more than this is a hang.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Runs the program with bounded memory.
fn bounded(place: &Workplace, arguments: &[&str]) -> Said {
    let program = place.command(arguments);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -v {LIMIT_KIB}; exec \"$0\" \"$@\""));
    shell.arg(program.get_program()).args(arguments);

    shell
        .current_dir(place.path("."))
        .env("DLT_CACHE", place.path("cache"))
        .env("HF_HUB_OFFLINE", "1");

    Said::by(&mut shell)
}

/// Runs the program with so many KiB of addresses.
fn with_addresses(place: &Workplace, limit_kib: u64, arguments: &[&str]) -> Said {
    let program = place.command(arguments);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -v {limit_kib}; exec \"$0\" \"$@\""));
    shell.arg(program.get_program()).args(arguments);
    shell.current_dir(place.path(".")).env("DLT_CACHE", place.path("cache"));
    shell.env_remove("GLIBC_TUNABLES");

    Said::by(&mut shell)
}

fn tokenized(place: &Workplace, name: &str) -> Said {
    bounded(place, &["data", "tokenize", name, "--tokenizer", "bytes", "--threads", "1"])
}

/// zstd frames of so many MiB of one letter: a few KiB.
fn repeated(letter: u8, mebibytes: usize) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let piece = vec![letter; 1 << 20];
    (0..mebibytes).for_each(|_| encoder.write_all(&piece).unwrap());
    encoder.finish().unwrap()
}

#[test]
fn memory_is_bounded_for_text_without_blanks() {
    let place = Workplace::new();
    place.write("letters.txt.zst", repeated(b'a', 48));
    place.write("blanks.txt.zst", repeated(b' ', 48));

    for name in ["letters.txt.zst", "blanks.txt.zst"] {
        let out = tokenized(&place, name).ok().out;
        assert!(out.contains("50,331,648"), "{name}: {out}");
    }
}

#[test]
fn memory_is_bounded_for_a_row_of_many_mebibytes() {
    let place = Workplace::new();
    let text = "word and ".repeat((48 << 20) / 9);
    place.write("long.jsonl", format!("{{\"text\": \"{text}\"}}\n"));
    let out = tokenized(&place, "long.jsonl").ok().out;
    assert!(out.contains(" 50,331,6"), "{out}");
}

#[test]
fn rejects_rows_that_are_longer_than_the_bound_before_they_fill_the_memory() {
    let place = Workplace::new();
    let endless = |begin: &str| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(begin.as_bytes()).unwrap();

        let piece = vec![b'a'; 1 << 20];
        (0..400).for_each(|_| encoder.write_all(&piece).unwrap());
        encoder.finish().unwrap()
    };

    for (name, begin) in [
        ("a.jsonl.zst", "{\"text\": \""),
        ("b.json.zst", "[{\"text\": \""),
        ("c.csv.zst", "text\n\""),
        ("d.tsv.zst", "text\n"),
    ] {
        place.write(name, endless(begin));
        let said = tokenized(&place, name);
        assert_eq!(said.code, Some(4), "{name}: {}", said.err);
        assert!(
            said.err.contains(name) && said.err.contains("longer than 268435456 bytes"),
            "{}",
            said.err
        );
    }
}

/// Every kind of file that is read: as a pipe that nobody writes into, and as a device without end.
#[test]
fn rejects_pipes_and_devices_wherever_a_file_is_read() {
    let place = Workplace::new();
    place
        .dlt(&["train", "--preset", "smoke", "--data", "text.txt", "--steps", "2", "--out", "run"])
        .ok();
    place.dlt(&["export", "run", "--format", "hf", "--out", "exported"]).ok();

    let pipe = |name: &str| {
        drop(fs::remove_file(place.path(name)));
        assert!(Command::new("mkfifo").arg(place.path(name)).status().unwrap().success());
    };

    pipe("pipe");
    let folder = |name: &str, of: &str, file: &str| {
        assert!(
            Command::new("cp")
                .arg("-r")
                .args([place.path(of), place.path(name)])
                .status()
                .unwrap()
                .success()
        );
        pipe(&format!("{name}/{file}"));
    };

    for file in ["config.json", "model.safetensors", "spec.toml"] {
        folder(&format!("import-{file}"), "exported", file);
    }

    for file in
        ["spec.toml", "model.safetensors", "provenance.json", "metrics.jsonl", "states.jsonl"]
    {
        folder(&format!("run-{file}"), "run", file);
    }

    fs::create_dir(place.path("table")).unwrap();
    pipe("table/rows.parquet");

    let lines = [
        "train pipe",
        "data tokenize pipe",
        "data tokenize /dev/zero",
        "data tokenize table/rows.parquet",
        "data tokenize text.txt --tokenizer pipe",
        "data tokenizer train pipe --vocabulary 300 --out t.json",
        "inspect --memory smoke --set data.tokenizer=pipe",
        "inspect --memory smoke --set data.tokenizer=/dev/zero",
        "train --preset smoke --set agent.policy=replay --set agent.recording=pipe",
        "train --preset vit-cifar --data pipe",
        "import import-config.json --out a",
        "import import-model.safetensors --out b",
        "import import-spec.toml --out c",
        "eval run --text pipe",
        "eval run-model.safetensors",
        "eval pipe",
        "generate run --prompt-file pipe",
        "generate run --prompt-file /dev/zero",
        "inspect pipe",
        "inspect run-spec.toml",
        "doctor run-spec.toml",
        "doctor run-metrics.jsonl",
        "doctor run-states.jsonl",
        "doctor run-provenance.json",
        "report run-metrics.jsonl --out page.html",
        "convert run-metrics.jsonl --to csv",
    ];

    for line in lines {
        let began = Instant::now();
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let mut shell = Command::new("timeout");
        let program = place.command(&arguments);

        shell.arg(AT_ONCE.as_secs().to_string()).arg(program.get_program()).args(&arguments);
        shell
            .current_dir(place.path("."))
            .env("DLT_CACHE", place.path("cache"))
            .env("HF_HUB_OFFLINE", "1");

        let said = Said::by(&mut shell);
        assert!(said.code.is_some_and(|code| code != 0 && code < 124), "{line}: {said:?}");
        assert!(!said.err.contains("panicked"), "{line}: {}", said.err);
        assert!(began.elapsed() < AT_ONCE, "{line}");
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_small_limit_on_addresses_is_an_error_and_no_abort() {
    let place = Workplace::new();
    let train = [
        "train",
        "--preset",
        "smoke",
        "--data",
        "text.txt",
        "--tokenizer",
        "bytes",
        "--steps",
        "1",
        "--threads",
        "1",
    ];

    for limit_kib in [60_000, 90_000, 120_000, 160_000, 200_000, 240_000, 280_000, 400_000] {
        for arguments in [
            &train[..],
            &["data", "tokenize", "text.txt", "--tokenizer", "bytes", "--threads", "1"],
        ] {
            let said = with_addresses(&place, limit_kib, arguments);
            assert!(matches!(said.code, Some(0 | 5)), "{limit_kib} KiB: {said:?}");

            let is_refused = said.code == Some(5);
            assert!(
                !is_refused || said.err.contains("error: memory: "),
                "{limit_kib} KiB: {said:?}"
            );
            assert!(limit_kib > 60_000 || said.err.contains("(ulimit -v) leaves"), "{said:?}");
            assert!(limit_kib < 400_000 || !is_refused, "{said:?}");
        }
    }

    // A command that computes nothing works with so few addresses.
    assert_eq!(with_addresses(&place, 60_000, &["spec", "smoke"]).code, Some(0));
}
