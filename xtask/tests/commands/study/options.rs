//! Options of a study.

use std::fs;

use super::{RUNS, Study};
use crate::stderr;

#[test]
fn every_row_runs_with_each_seed_that_is_named() {
    let study = Study::new();
    study.succeed(&["ablation", "--only", "ii,vii", "--seeds", "1..3"]);

    let mut cells = study.cells();
    cells.sort();

    let of = |row: &str| [1, 2, 3].map(|seed| format!("shakespeare/{row}-{seed}"));
    assert_eq!(cells, [of("full"), of("ii"), of("vii")].concat());

    for seed in [1, 2, 3] {
        let command = &study.runs_of(&format!("shakespeare/vii-{seed}"))[0];
        assert!(command.contains(&format!(" --seed {seed} ")), "{command}");
    }
}

#[test]
fn law_never_more_than_jobs_run_at_once_and_they_share_the_threads() {
    let mut study = Study::new();
    study.with("FAKE_STEP_S", "0.06");

    let rows = "v,vi,vii,viii,ix,one-block,full,iii";
    study.succeed(&[
        "ablation",
        "--only",
        rows,
        "--jobs",
        "3",
        "--threads",
        "7",
        "--device",
        "cuda:1",
    ]);

    for command in study.commands() {
        assert!(command.ends_with(" --threads 2 --device cuda:1"), "{command}");
    }

    let mut now = 0;
    let mut most = 0;

    for line in fs::read_to_string(study.path("log")).unwrap().lines() {
        now = if line.starts_with("end ") { now - 1 } else { now + 1 };
        most = most.max(now);
    }

    assert_eq!((now, most), (0, 3));

    // More jobs than threads: one each.
    study.with("FAKE_STEP_S", "");
    study.succeed(&["ablation", "--only", "random", "--jobs", "3", "--threads", "2"]);
    assert!(study.runs_of("shakespeare/random-1")[0].ends_with(" --threads 1 --device auto"));
}

#[test]
fn no_cell_is_started_when_the_time_is_over() {
    let mut study = Study::new();
    study.with("FAKE_STEP_S", "0.15");

    let (table, said) = study.fail(&["ablation", "--all", "--budget", "1s"]);
    let begun = study.cells().len();
    assert!((1..5).contains(&begun), "{begun}");
    assert!(said.contains("left (the time was over): shakespeare/"), "{said}");
    assert!(table.contains("| not run yet |") && !table.contains("FAILED"), "{table}");

    // Every cell that was started ran to its end.
    let log = fs::read_to_string(study.path("log")).unwrap();
    assert_eq!(log.lines().filter(|line| line.starts_with("end ")).count(), begun);
}

#[test]
fn data_on_this_machine_are_passed_on() {
    let study = Study::new();
    fs::write(study.path("pictures"), "").unwrap();

    let (_, said) = study.fail(&["table", "5", "--data", "cifar10=nowhere"]);
    assert!(said.contains("--data cifar10=nowhere: no such file or folder"), "{said}");

    let (_, said) = study.fail(&["table", "5", "--data", "cifar100=pictures"]);
    assert!(
        said.contains("--data: at scale smoke, expected one of cifar10, glue/cola, "),
        "{said}"
    );
    assert_eq!(study.run(&["table", "5", "--data", "cifar10"]).status.code(), Some(2));
    assert!(study.commands().is_empty());
    assert!(!study.path(RUNS).exists(), "something was written before anything was run");

    let page = study.succeed(&["table", "5", "--data", "cifar10=pictures"]);
    assert!(page.contains("Trained on 100 pictures."), "{page}");

    for command in study.commands() {
        assert!(
            command.starts_with("train --preset vit-cifar --method ")
                && command.contains(" --data pictures ")
        );
    }

    // Notes have the name of a data set, so its path does not matter.
    assert!(!study.read("vit-cifar10/full-1.cell.json").contains("pictures"));
    let before = study.commands();
    study.succeed(&["table", "5"]);
    assert_eq!(study.commands(), before);
}

#[test]
fn a_dry_run_prints_cells_cost_memory_and_a_total_and_trains_nothing() {
    let study = Study::new();
    study.succeed(&["ablation", "--only", "full"]);

    let runs = study.cells();
    let table = study.succeed(&["ablation", "--only", "i,ii,vii", "--dry-run"]);
    assert!(
        table.starts_with("| cell | status | steps | PFLOP | time | memory, MB |\n"),
        "{table}"
    );
    assert!(table.contains("| shakespeare/full-1 | done | 12 |"), "{table}");

    for row in ["i", "ii", "vii"] {
        let begins = format!("| shakespeare/{row}-1 | to do | 12 |");
        let line = table
            .lines()
            .find(|line| line.starts_with(&begins))
            .unwrap_or_else(|| panic!("{table}"));
        assert!(line.ends_with(" | 58 |"), "{line}");
    }

    assert!(table.contains("\n4 cells; those not done yet take about "), "{table}");
    assert!(table.contains("GFLOP/s; memory besides the program"), "{table}");
    assert!(!table.contains("not known") && !table.contains("-0"), "{table}");
    assert_eq!(study.cells(), runs);

    let all = study.succeed(&["all", "--dry-run"]);
    assert_eq!(study.cells(), runs);
    assert!(all.contains("| glue-sst2/full-1 | waits for another |"), "{all}");
    study.succeed(&["ablation", "--only", "i,ii,vii"]);

    let done = study.succeed(&["ablation", "--only", "i,ii,vii", "--dry-run"]);
    assert!(done.contains("\n4 cells; those not done yet take about 0 s\n"), "{done}");
}

#[test]
fn rejects_a_dlt_that_is_not_there() {
    let study = Study::new();
    let mut command = study.command(&["ablation", "--all"]);
    let output = command.args(["--dlt", "nowhere"]).output().unwrap();

    // The option is given twice.
    assert_eq!(output.status.code(), Some(2));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    let command = command.args(["table", "4", "--scale", "smoke", "--dlt", "nowhere"]);
    let output = command.current_dir(study.folder.path()).output().unwrap();

    assert_eq!(output.status.code(), Some(1));

    assert!(stderr(&output).contains("--dlt nowhere: no such file"), "{}", stderr(&output));
}
