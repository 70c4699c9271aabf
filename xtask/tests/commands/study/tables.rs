//! Which cells run for a table or a figure, in which order, and what is printed.

use super::{RUNS, Study, row};
use crate::{stderr, stdout};

#[test]
fn every_ablation_runs_once_after_what_it_needs_and_a_second_time_nothing_does() {
    let study = Study::new();
    let table = study.succeed(&["ablation", "--all"]);

    let cells = study.cells();
    let rows = [
        "i",
        "ii",
        "iii",
        "iv",
        "v",
        "vi",
        "vii",
        "viii",
        "ix",
        "conventional",
        "full",
        "random",
        "static-random",
        "one-block",
        "reference",
        "owner-gradients",
        "per-layer",
        "reward-neg-ppl-clipped",
        "reward-neg-loss",
        "reward-loss-delta",
        "short",
        "short-random",
        "short-one-block",
    ];

    let mut expected: Vec<String> = rows.iter().map(|row| format!("shakespeare/{row}-1")).collect();
    let mut sorted = cells.clone();
    expected.sort();
    sorted.sort();
    assert_eq!(sorted, expected);

    // Settings that come from the full method's run.
    let at = |cell: &str| cells.iter().position(|other| other == cell).unwrap();
    let run_of_full = format!("{RUNS}/shakespeare/full-1");

    for (row, setting, seed) in [
        ("i", "--set model.layers=2", 1),
        ("ii", "--set tying.initial=[0, 1, 1, 1]", 1),
        (
            "iii",
            &*format!("--set agent.policy=permuted-replay --set agent.recording={run_of_full}"),
            1001,
        ),
        ("iv", &*format!("--set agent.policy=replay --set agent.recording={run_of_full}"), 1001),
    ] {
        let cell = format!("shakespeare/{row}-1");
        assert!(at("shakespeare/full-1") < at(&cell), "{cells:?}");

        let command = &study.runs_of(&cell)[0];
        assert!(
            command.contains(&format!("{setting} --seed {seed} --out {RUNS}/{cell} ")),
            "{command}"
        );
    }

    let labels = [
        "(i) ",
        "(ii) ",
        "(iii) ",
        "(iv) ",
        "(v) ",
        "(vi) ",
        "(vii) ",
        "(viii) ",
        "(ix) ",
        "Conventional training",
        "Full method",
        "Random policy",
        "Random sharing",
        "One block",
        "The authors' code",
    ];

    let lines: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
    for (label, line) in labels.iter().zip(&lines[1..]) {
        assert!(line.starts_with(&format!("| {label}")), "{label}: {line}");
        assert!(line.ends_with("| 150.2 |"), "{line}");
    }

    assert_eq!(row(&table, "(i) ")[3], "167.3");
    assert!(!table.contains("not run yet |\n| ("), "{table}");
    assert!(table.contains("\n## Shakespeare\n"), "{table}");
    assert!(table.ends_with("in `table-4.csv` and `table-4.json`.\n\n"), "{table}");

    // A finished run keeps its records and loses its checkpoints.
    assert!(study.path(&run_of_full).join("summary.json").is_file());
    assert!(!study.path(&run_of_full).join("checkpoint").exists());

    let before = study.commands();
    assert_eq!(study.succeed(&["ablation", "--all"]), table);
    assert_eq!(study.commands(), before);
}

#[test]
fn chosen_rows_run_with_what_they_need_and_no_other() {
    let study = Study::new();
    let table = study.succeed(&["ablation", "--only", "iii,vii"]);
    assert_eq!(study.cells(), ["shakespeare/full-1", "shakespeare/iii-1", "shakespeare/vii-1"]);
    assert_eq!(row(&table, "(vii)").last(), Some(&"150.2"));
    assert_eq!(row(&table, "(viii)").last(), Some(&"not run yet"));
}

#[test]
fn rejects_a_row_that_is_none_and_lists_those_that_are() {
    let study = Study::new();
    let (_, said) = study.fail(&["ablation", "--only", "iii,x"]);
    assert!(said.contains("--only: expected one of i, ii, iii, "), "{said}");
    assert!(said.contains(", conventional, full, random, ") && said.contains("got x"), "{said}");
    assert!(study.commands().is_empty());
}

#[test]
fn table_3_holds_a_measured_and_a_predicted_row() {
    let study = Study::new();
    let table = study.succeed(&["table", "3"]);
    let predictions: Vec<String> =
        study.commands().into_iter().filter(|command| command.starts_with("inspect ")).collect();

    assert_eq!(predictions, ["inspect --memory smoke --json"]);
    assert_eq!(study.read("memory-paper/conventional-1.memory.jsonl").lines().count(), 3);

    // Conventional training is measured for the first subject and predicted for the second.
    assert!(table.contains("| Conventional training | 80.0 | 1.000 | 70.0 |"), "{table}");
    assert_eq!(
        row(&table, "Conventional training (predicted)")[1..],
        ["58.0", "1", "", "", "24.0", "1"],
        "{table}"
    );

    let before = study.commands();
    assert_eq!(study.succeed(&["table", "3"]), table);
    assert_eq!(study.commands(), before);
}

#[test]
fn table_6_trains_the_models_that_it_fine_tunes() {
    let mut study = Study::new();
    study.with("FAKE_FAILS", "*/gpt2-wikitext-2/random-1");

    let (table, said) = study.fail(&["table", "6"]);
    let cells = study.cells();
    let at = |cell: &str| cells.iter().position(|other| other == cell).unwrap();

    for task in ["sst2", "cola", "rte"] {
        for row in ["conventional", "full"] {
            let start = format!("gpt2-wikitext-2/{row}-1");
            let tuned = format!("glue-{task}/{row}-1");
            assert!(at(&start) < at(&tuned), "{cells:?}");

            let command = &study.runs_of(&tuned)[0];
            let begins = format!("finetune {RUNS}/{start} --task glue/{task} --data {RUNS}/data/");
            assert!(command.starts_with(&begins), "{command}");
        }

        assert!(!cells.contains(&format!("glue-{task}/random-1")), "{cells:?}");
    }

    assert!(
        said.contains("left (needs gpt2-wikitext-2/random-1, which failed): glue-sst2/random-1, "),
        "{said}"
    );
    assert_eq!(row(&table, "SST-2")[3..6], ["0.500", "0.750", "0.750"], "{table}");

    let why = "seed 1 not run, as it needs gpt2-wikitext-2/random-1, which FAILED";
    assert_eq!(row(&table, "SST-2")[6], why, "{table}");

    study.with("FAKE_FAILS", "");

    let table = study.succeed(&["table", "6"]);
    assert_eq!(row(&table, "SST-2")[6], "0.750", "{table}");
    assert_eq!(study.runs_of("glue-sst2/full-1").len(), 1);
    assert_eq!(study.runs_of("glue-sst2/random-1").len(), 1);
}

#[test]
fn figure_1_runs_what_it_shows_and_draws_it() {
    let study = Study::new();
    let output = study.run(&["figure", "1"]);
    let said = stdout(&output);

    assert_eq!(study.cells(), ["gpt2-wikitext-2/full-1"]);
    for ending in ["svg", "png"] {
        let file = format!("{RUNS}/figures/figure-1-a-map-wikitext-2.{ending}");
        assert!(said.contains(&format!("wrote {file}\n")), "{said}");
        assert!(study.path(&file).is_file(), "{file}");
    }

    let left = "figure-1-b-map-wikitext-103: this scale does not have its data\n";
    assert!(output.status.success() && stderr(&output).contains(left), "{}", stderr(&output));

    let (_, said) = study.fail(&["figure", "1", "--seeds", "4"]);
    assert!(said.contains("--seeds: figures show runs with seed 1"), "{said}");
}
