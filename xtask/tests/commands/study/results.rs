//! The results of a study that are kept, and whether they are up to date.

use std::fs;
use std::path::Path;

use super::{Study, files, row, wait_for};

/// The runs that most figures need.
const SOME: [&str; 5] =
    ["ablation", "--only", "full,conventional,random,short,reference", "--jobs", "2"];
const REPORT: [&str; 3] = ["report", "--out", "kept"];
const CHECK: [&str; 4] = ["report", "--check", "--out", "kept"];

#[test]
fn a_report_of_everything_is_whole_green_and_names_no_folder_of_this_machine() {
    let mut study = Study::new();
    study.with("FAKE_FAILS", "*/shakespeare/vii-1 */bert-wikitext-2/full-1");

    // Absolute paths are in the commands, and so in records and logs.
    let runs = study.path("somewhere/study/smoke").display().to_string();
    let at_runs = |arguments: &[&str]| -> Vec<String> {
        arguments.iter().copied().chain(["--runs", &runs]).map(str::to_owned).collect()
    };
    let all = at_runs(&["all", "--jobs", "2"]);

    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (pages, _) = study.fail(&all);

    for title in
        ["# Table 1: ", "# Table 2: ", "# Table 3: ", "# Table 4: ", "# Table 5: ", "# Table 6: "]
    {
        assert!(pages.contains(title), "no {title} in\n{pages}");
    }

    assert!(Path::new(&runs).join("figures/loss.svg").is_file());
    let damaged = Path::new(&runs).join("shakespeare/viii-1/summary.json");
    fs::write(damaged, "garbage").unwrap();

    let report = at_runs(&REPORT);
    let said = study.succeed(&report.iter().map(String::as_str).collect::<Vec<_>>());
    let kept = study.path("kept");
    let mut expected = vec!["cells.jsonl".to_owned()];

    for page in
        ["table-1", "table-2", "table-3", "table-4", "table-5", "table-6", "regime", "method"]
    {
        expected.extend(["md", "csv", "json"].map(|ending| format!("{page}.{ending}")));
    }

    for file in ["spec.toml", "provenance.json", "metrics.jsonl", "states.jsonl", "summary.json"] {
        expected.extend(
            ["full", "conventional", "random"]
                .map(|row| format!("runs/shakespeare/{row}-1/{file}")),
        );
    }

    expected.push("runs/gpt2-wikitext-2/full-1/correlations.json".to_owned());
    expected.push("figures/method-tradeoff.json".to_owned());

    let pictures =
        ["figure-1-a-map-wikitext-2", "figure-2-events", "figure-4-correlations", "loss", "memory"];
    for figure in
        pictures.into_iter().chain(["method-walk", "method-walk-swaps", "method-tradeoff"])
    {
        expected.extend(["svg", "png"].map(|ending| format!("figures/{figure}.{ending}")));
    }

    for file in &expected {
        assert!(kept.join(file).is_file(), "no {file}");
        assert!(
            file.starts_with("runs/") || file == "cells.jsonl" || said.contains(file.as_str()),
            "{said}"
        );
    }

    let cells = fs::read_to_string(kept.join("cells.jsonl")).unwrap();
    assert_eq!(cells.lines().filter(|line| line.contains(r#""outcome":{"failed""#)).count(), 3);

    for file in files(&kept) {
        let text = String::from_utf8(fs::read(&file).unwrap()).unwrap();
        for folder in
            [study.folder.path(), Path::new(env!("CARGO_MANIFEST_DIR")), &std::env::temp_dir()]
        {
            let folder = folder.display().to_string();
            assert!(
                !text.contains(folder.trim_end_matches('/')),
                "{} names {folder}",
                file.display()
            );
        }
    }

    let table = fs::read_to_string(kept.join("table-4.md")).unwrap();
    assert!(
        row(&table, "(vii)")[4].ends_with("training diverged (exit code 6), vii-1.log"),
        "{table}"
    );
    assert!(row(&table, "(viii)")[4].contains("damaged: summary.json: "), "{table}");

    let green = study.succeed(&CHECK);
    assert_eq!(green, "kept: everything is up to date\n");
}

#[test]
fn a_check_names_what_is_not_up_to_date_and_changes_nothing() {
    let study = Study::new();
    study.succeed(&SOME);
    study.succeed(&REPORT);
    study.succeed(&CHECK);

    let kept = study.path("kept");
    let page = kept.join("table-4.md");
    let cells = kept.join("cells.jsonl");
    let states = kept.join("runs/shakespeare/full-1/states.jsonl");
    let figure = kept.join("figures/loss.png");

    type Change<'c> = &'c dyn Fn(&str) -> String;
    let changes: [(&Path, Change<'_>, &str); 6] = [
        (
            &cells,
            &|text| {
                text.replacen(
                    "\"decisions\":",
                    "\"settings\":{\"tying.decide_every\":\"15\"},\"decisions\":",
                    1,
                )
            },
            "kept: shakespeare/conventional-1 was run with tying.decide_every = 15, now 2",
        ),
        (
            &cells,
            &|text| text.replacen("\"sha256\":\"0\"", "\"sha256\":\"1\"", 1),
            "kept: shakespeare/full-1 has other data than shakespeare/conventional-1",
        ),
        (
            &page,
            &|text| text.replace("150.2", "100.2"),
            "kept/table-4.md: differs from what cells.jsonl gives",
        ),
        (
            &cells,
            &|text| text.replacen("agent.policy=random", "agent.policy=q", 1),
            "kept: shakespeare/random-1 was run with other settings than the grid has",
        ),
        (
            &states,
            &|text| text.to_owned() + "\n",
            "kept/figures/loss.svg: drawn from another version of runs/shakespeare/full-1/states.jsonl",
        ),
        (&figure, &|_| String::new(), "kept/figures/loss.png: changed since it was drawn"),
    ];

    for (path, change, expected) in changes {
        let before = fs::read_to_string(path).unwrap();
        fs::write(path, change(&before)).unwrap();

        let (said, _) = study.fail(&CHECK);
        assert!(said.contains(&format!("{expected}\n")), "no {expected} in\n{said}");
        assert_ne!(fs::read_to_string(path).unwrap(), before);
        fs::write(path, before).unwrap();
        study.succeed(&CHECK);
    }

    for gone in ["table-1.csv", "figures/states.svg", "runs/shakespeare/full-1/spec.toml"] {
        let path = kept.join(gone);
        let aside = kept.join("aside");
        fs::rename(&path, &aside).unwrap();

        let (said, _) = study.fail(&CHECK);
        assert!(said.contains(gone), "no {gone} in\n{said}");
        fs::rename(&aside, &path).unwrap();
    }

    fs::write(&cells, "garbage\n").unwrap();
    let (_, said) = study.fail(&CHECK);
    assert!(said.contains("kept/cells.jsonl: line 1\n\nCaused by:\n    expected value"), "{said}");
}

#[test]
fn a_report_that_is_killed_is_whole_after_the_next_one() {
    let study = Study::new();
    study.succeed(&SOME);
    study.succeed(&REPORT);

    let whole: Vec<_> = files(&study.path("kept"));

    for moment in
        ["cells.jsonl", "runs/shakespeare/random-1/summary.json", "table-1.csv", "figures/loss.svg"]
    {
        fs::remove_dir_all(study.path("kept")).unwrap();
        let mut xtask = study.start(&REPORT);
        wait_for(moment, || study.path("kept").join(moment).exists());
        xtask.kill().unwrap();
        xtask.wait().unwrap();
        study.succeed(&REPORT);
        study.succeed(&CHECK);
        assert_eq!(files(&study.path("kept")), whole, "{moment}");
    }
}

#[test]
fn a_report_keeps_what_another_machine_has_run() {
    let study = Study::new();
    study.succeed(&["ablation", "--only", "full,vii"]);
    study.succeed(&REPORT);

    // Another folder of runs, as on another machine.
    study.succeed(&["ablation", "--only", "viii", "--runs", "other/study/smoke"]);
    study.succeed(&["report", "--out", "kept", "--runs", "other/study/smoke"]);

    let table = fs::read_to_string(study.path("kept/table-4.md")).unwrap();
    for label in ["(vii)", "(viii)", "Full method"] {
        assert_eq!(row(&table, label).last(), Some(&"150.2"), "{table}");
    }

    study.succeed(&CHECK);
}
