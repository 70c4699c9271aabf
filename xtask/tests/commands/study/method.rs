//! The study of our method: rows, rates and sizes, the rate that is chosen, what a perplexity is
//! worth, and the long scale.

use std::fs;

use super::{RUNS, Study, row};

/// A cell of the study with one seed and the middle rate.
fn cell(row: &str) -> String {
    format!("method/{row}-1e-3-1")
}

#[test]
fn every_row_runs_once_and_the_page_has_rates_sizes_and_what_a_perplexity_is_worth() {
    let study = Study::new();
    let page = study.succeed(&["method"]);
    let cells = study.cells();
    let mut sorted = cells.clone();

    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), cells.len(), "{cells:?}");

    for row in [
        "conventional",
        "one-block",
        "grow",
        "grow-random",
        "grow-anywhere",
        "even",
        "conflict",
        "single",
        "backtrack",
        "beam",
        "mcts",
        "random-search",
    ] {
        assert!(cells.contains(&cell(row)), "{row}: {cells:?}");
    }

    let at = |cell: &str| cells.iter().position(|other| other == cell).unwrap();
    assert!(
        at(&cell("grow")) < at(&cell("final-groups")) && at(&cell("paper")) < at(&cell("paper-i"))
    );

    let main_job = &study.runs_of("method/main-job-1")[0];
    assert!(
        main_job.starts_with("train --preset smoke --set ") && !main_job.contains("learning_rate"),
        "{main_job}"
    );

    let grow = &study.runs_of(&cell("grow"))[0];
    for setting in
        ["--method paper", "tying.decision=split", "tying.grow=[0.3, 0.5]", "agent.policy=grow"]
    {
        assert!(grow.contains(setting), "no {setting} in {grow}");
    }

    let twin = &study.runs_of(&cell("grow-random"))[0];
    let random = "agent.policy=random";
    let words = |command: &str| {
        command.split(" --out ").next().unwrap().replace(random, "agent.policy=grow")
    };

    assert_eq!(words(twin), words(grow), "a twin differs in who decides only");

    // The better of the two rates that scale smoke has of this row.
    let grow = row(&page, "Growth: splits where gradients disagree most");
    assert_eq!(grow[1..6], ["2e-3 (5e-4 without result)", "1", "140.5", "141.2", "4"], "{page}");
    assert_eq!(grow[10..], ["above 0.05", "above 1.00"], "{page}");

    let conventional = row(&page, "Conventional training");
    assert_eq!(
        conventional[1..5],
        ["1e-3 (5e-4, 2e-3 without result)", "1", "148.5", "150.2"],
        "{page}"
    );
    assert_eq!(conventional[8..11], ["80", "1.00", "0.05"], "{page}");

    let left_out = row(&page, "One block for all layers with growth's rate");
    assert!(left_out[3].starts_with("left out: no setting raises"), "{page}");
    assert!(page.contains("Its perplexity after the last step is 1.100 times the best."), "{page}");
    assert!(
        page.contains(
            "| Growth: splits where gradients disagree most | -5.4 %, -6.0 % | -5.4 %, -6.0 % | "
        ),
        "{page}"
    );

    assert!(
        page.contains(
            "| Growth: splits where gradients disagree most | not run yet | 148.5 | 140.5 |"
        ),
        "{page}"
    );
    assert_eq!(row(&page, "1")[1], "200.2, 0.03", "{page}");

    let before = study.commands();
    assert_eq!(study.succeed(&["method"]), page);
    assert_eq!(study.commands(), before);
}

#[test]
fn rows_and_rates_that_are_named_run_with_what_they_need_and_no_other() {
    let study = Study::new();
    study.succeed(&["method", "--only", "final-groups,sizes", "--rates", "1e-3"]);

    let expected = [
        cell("grow"),
        cell("final-groups"),
        "method/size-1x32-1".into(),
        "method/size-4x32-1".into(),
    ];

    let mut cells = study.cells();
    cells.sort();

    let mut sorted = expected.to_vec();
    sorted.sort();
    assert_eq!(cells, sorted);

    let command = &study.runs_of(&cell("final-groups"))[0];
    assert!(command.contains("--set tying.initial=[0, "), "{command}");

    // The other rate turns out to be better, so only that rate runs with more seeds. A row without
    // a run has no best rate.
    study.succeed(&["method", "--only", "grow"]);
    study.succeed(&["method", "--only", "grow,conventional", "--rates", "best", "--seeds", "2,3"]);

    let cells = study.cells();
    assert_eq!(cells[4..], ["method/grow-2e-3-1", "method/grow-2e-3-2", "method/grow-2e-3-3"]);
}

#[test]
fn rejects_unknown_rows_and_rates_and_lists_the_known_ones() {
    let study = Study::new();
    let (_, said) = study.fail(&["method", "--only", "grow,x"]);
    assert!(
        said.contains("--only: expected one of main-job, main-job-random, conventional, "),
        "{said}"
    );
    assert!(said.contains(", sizes, got x"), "{said}");

    let output = study.run(&["method", "--rates", "1e-4"]);
    assert_eq!(output.status.code(), Some(2));

    let said = crate::stderr(&output);
    assert!(said.contains("expected some of 5e-4, 1e-3, 2e-3, or best, got 1e-4"), "{said}");
    assert!(study.commands().is_empty());
}

#[test]
fn a_rate_that_fails_is_shown_among_the_rates_and_the_row_has_another() {
    let mut study = Study::new();
    study.with("FAKE_FAILS", "*/method/grow-1e-3-1 */method/conventional-1e-3-1");

    let (page, said) =
        study.fail(&["method", "--only", "grow,conventional,grow-random,final-groups"]);
    let failed = |row: &str| {
        format!("FAILED, seed 1: training diverged (exit code 6), {RUNS}/method/{row}-1e-3-1.log")
    };

    assert_eq!(
        row(&page, "Growth: splits where gradients disagree most")[1..4],
        ["2e-3 (5e-4, 1e-3 without result)", "1", "140.5"]
    );
    let conventional = row(&page, "Conventional training");
    assert!(conventional[3].contains(&failed("conventional")), "{page}");

    let at_rates =
        page.lines().rfind(|line| line.starts_with("| Growth: splits where gradients")).unwrap();
    assert!(at_rates.contains(&failed("grow")) && at_rates.ends_with("| 140.5 |"), "{page}");
    assert!(
        said.contains("left (needs method/grow-1e-3-1, which failed): method/final-groups-1e-3-1"),
        "{said}"
    );

    // A missing row is compared with nothing.
    assert!(
        page.contains("| Growth: splits where gradients disagree most |  | -5.4 %, -6.0 % |  |  |"),
        "{page}"
    );
}

#[test]
fn the_long_scale_makes_its_text_and_tokenizer_once_and_records_name_them() {
    let mut study = Study::new();
    study.scale = "long";

    let arguments = ["method", "--only", "paper-i", "--rates", "1e-3", "--seeds", "1"];
    let page = study.succeed(&arguments);
    let runs = "runs/study/long";
    let [trained, full, shallow] = &study.commands()[..] else { panic!("{:?}", study.commands()) };

    assert!(trained.starts_with(&format!(
        "data tokenizer train {runs}/data/hamlet-80k/train.txt --vocabulary 1000 "
    )));

    for command in [full, shallow] {
        let data = format!(" --data {runs}/data/hamlet-80k ");
        let tokenizer = format!(
            " --set data.tokenizer={runs}/data/hamlet-1000.json --set model.vocabulary=1000 "
        );
        assert!(command.contains(&data) && command.contains(&tokenizer), "{command}");
    }

    assert!(shallow.contains("--set model.layers=1 "), "{shallow}");
    let note = fs::read_to_string(study.path(runs).join("method/paper-1e-3-1.cell.json")).unwrap();
    assert!(
        note.contains("\"hamlet-80k\"") && note.contains("data.tokenizer=hamlet-1000"),
        "{note}"
    );

    let text = fs::read_to_string(study.path(runs).join("data/hamlet-80k/train.txt")).unwrap();
    assert!(text.len() > 79_000 && text.ends_with('\n'), "{} bytes", text.len());
    assert!(
        page.contains("Scale long: ")
            && page.contains("| The paper's method | 1e-3 (5e-4, 2e-3 without result) | 1 |")
    );

    let before = study.commands();
    study.succeed(&arguments);
    assert_eq!(study.commands(), before);

    // The scale has only this study.
    let tables = study.succeed(&["table", "1"]);
    let commands = study.commands();
    assert!(tables.contains("not at this scale") && commands == before, "{tables}");
    study.succeed(&["report", "--out", "kept"]);
    study.succeed(&["report", "--check", "--out", "kept"]);

    let kept = study.path("kept");
    assert!(kept.join("method.md").is_file() && !kept.join("table-1.md").exists());
}
