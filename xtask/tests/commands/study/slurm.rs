//! Cells as tasks of array jobs: what would be submitted, and what its tasks do. A script replaces
//! `sbatch`; `tests/slurm/one-machine.sh` submits to a real Slurm.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use super::{RUNS, Study, row};
use crate::{stderr, stdout};

/// The conventional row, the full method, and two rows that need it.
const COMMAND: [&str; 5] = ["ablation", "--only", "conventional,i,iii", "--threads", "3"];

/// Stores each script that is submitted as `script-N`, and answers with the number `4N`.
const SBATCH: &str = r#"#!/bin/sh
[ "$*" = --parsable ] || exit 1
number=$(ls script-* 2>/dev/null | wc -l)
if [ "$number" = "$FAKE_MOST" ]; then
    echo "sbatch: error: Invalid partition specified: gpu" >&2
    exit 1
fi
cat >"script-$((number + 1))"
echo "4$((number + 1));a-cluster"
"#;

fn with_slurm(arguments: &[&'static str]) -> Vec<&'static str> {
    [&COMMAND[..], &["--slurm"], arguments].concat()
}

/// A study where `sbatch` is [`SBATCH`].
fn with_sbatch() -> Study {
    let mut study = Study::new();
    let path = study.path("programs/sbatch");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, SBATCH).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();

    let programs = path.parent().unwrap().display().to_string();
    study.with("PATH", &format!("{programs}:{}", std::env::var("PATH").unwrap()));
    study
}

/// Runs a task as Slurm would.
fn task(study: &Study, script: &str, number: usize) -> Output {
    let mut command = std::process::Command::new("sh");
    command.arg(study.path(script)).env("SLURM_ARRAY_TASK_ID", number.to_string());
    command.envs(&study.environment).env("FAKE_LOG", study.path("log"));
    command.current_dir(study.folder.path()).output().unwrap()
}

#[test]
fn a_dry_run_prints_an_array_of_the_cells_and_one_of_those_that_follow_them() {
    let study = Study::new();
    let options = ["--dry-run", "--slurm-option", "--mem=9G", "--slurm-option=--comment='a b'"];
    let printed = study.succeed(&with_slurm(&options));
    let scripts: Vec<&str> = printed.split("#!/bin/sh\n").skip(1).collect();
    let [first, second] = scripts[..] else { panic!("{printed}") };
    let folder = fs::canonicalize(study.folder.path()).unwrap();
    let folder = folder.display();

    for script in [first, second] {
        let options: Vec<_> =
            script.lines().filter_map(|line| line.strip_prefix("#SBATCH ")).collect();
        // 58 MB are predicted, and nothing is recorded. The options of the user are the last.
        for expected in [
            "--job-name=dlt-smoke-shakespeare",
            "--array=1-2",
            "--cpus-per-task=3",
            "--mem=1573M",
            "--time=1440",
            "--requeue",
            &format!("--chdir={folder}"),
            &format!("--output={folder}/{RUNS}/slurm/%A_%a.log"),
        ] {
            assert!(options.contains(&expected), "no {expected} in\n{script}");
        }
        assert_eq!(options[options.len() - 2..], ["--mem=9G", "--comment='a b'"]);

        let end = "study_dlt.sh --threads 3 --device auto \"$cell\"\n\n";
        assert!(script.contains("\nexec /") && script.ends_with(end), "{script}");
    }

    assert!(!first.contains("--dependency"), "{first}");
    assert!(second.contains("\n#SBATCH --dependency=afterany:JOB1_2\n"), "{second}");
    assert!(first.contains("\n# dlt train --preset smoke --method paper "), "{first}");
    for (script, cells) in [(first, ["conventional", "full"]), (second, ["i", "iii"])] {
        for (index, cell) in cells.iter().enumerate() {
            let case = format!("\n{}) cell=shakespeare/{cell}-1 ;;\n", index + 1);
            assert!(script.contains(&case), "no {case} in\n{script}");
        }
    }

    assert!(study.cells().is_empty() && !study.path(RUNS).exists());
}

#[test]
fn every_model_with_its_data_has_its_array_and_a_recorded_cell_its_limit() {
    let mut study = Study::new();
    let all = study.succeed(&["all", "--slurm", "--dry-run"]);
    let count = |text: &str| all.matches(text).count();
    assert_eq!(count(") cell="), row_count(&study), "{all}");
    assert_eq!(count("#SBATCH --job-name=dlt-smoke-vit-cifar10\n"), 1);
    assert_eq!(count("#SBATCH --job-name=dlt-smoke-shakespeare\n"), 2);

    study.scale = "laptop";
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../results/laptop/cells.jsonl");
    let records = fs::read_to_string(root).unwrap();
    let record = records.lines().find(|line| line.contains(r#""cell":"shakespeare/full-1""#));
    let record: serde_json::Value = serde_json::from_str(record.unwrap()).unwrap();
    let done = &record["outcome"]["done"];
    let seconds = done["summary"]["elapsed_s"].as_f64().unwrap()
        * done["provenance"]["threads"].as_f64().unwrap();

    let script = study.succeed(&["ablation", "--only=full", "--seeds=1", "--slurm", "--dry-run"]);
    let limit = format!("#SBATCH --time={}\n", 10 + (seconds / 30.0).ceil() as u64);
    assert!(script.contains(&limit), "no {limit} in\n{script}");
}

/// The number of cells that `status` lists.
fn row_count(study: &Study) -> usize {
    study.succeed(&["status"]).lines().skip(2).count()
}

#[test]
fn tasks_leave_the_folders_of_a_study_without_slurm_and_resume_where_they_were_stopped() {
    let mut study = with_sbatch();
    let said = study.succeed(&with_slurm(&[]));
    assert!(
        said.contains("job 41: 2 of shakespeare, each with 3 cores, 1573 MB, at most 1440 min")
    );
    assert!(said.contains("\n4 cells submitted, 0 are done; "), "{said}");
    let second = fs::read_to_string(study.path("script-2")).unwrap();
    assert!(second.contains("--dependency=afterany:41_2\n"), "{second}");

    // A task whose predecessor is not done ends at once, and is no failure of its cell.
    let early = task(&study, "script-2", 1);
    assert_eq!(early.status.code(), Some(1));
    assert!(stderr(&early).contains("needs shakespeare/full-1, which is not done"));

    study.with("FAKE_FAILS", "*/full-1").with("FAKE_CODE", "130");
    assert_eq!(task(&study, "script-1", 2).status.code(), Some(1));
    assert_eq!(row(&study.succeed(&["status"]), "shakespeare/full-1")[1], "stopped");
    study.with("FAKE_FAILS", "");

    for (script, number) in [("script-1", 1), ("script-1", 2), ("script-2", 1), ("script-2", 2)] {
        let ended = task(&study, script, number);
        assert!(ended.status.success(), "{}{}", stdout(&ended), stderr(&ended));
    }
    assert!(study.runs_of("shakespeare/full-1")[1].starts_with("train --resume "));

    let plain = Study::new();
    plain.succeed(&COMMAND);
    for cell in ["conventional-1", "full-1", "i-1", "iii-1"] {
        for file in [".cell.json", "/metrics.jsonl", "/states.jsonl", "/summary.json"] {
            let path = format!("shakespeare/{cell}{file}");
            assert_eq!(study.read(&path), plain.read(&path), "{path}");
        }
    }
    assert_eq!(study.succeed(&["status"]), plain.succeed(&["status"]));

    let said = study.succeed(&with_slurm(&[]));
    assert_eq!(said, "every cell is done, so nothing was submitted\n");
    assert!(!study.path("script-3").exists());
}

#[test]
fn rejects_what_sbatch_refuses_and_a_machine_without_it() {
    let mut study = with_sbatch();
    study.with("FAKE_MOST", "1");
    let (_, said) = study.fail(&with_slurm(&["--slurm-option=-pgpu"]));
    let words = "refused the job: sbatch: error: Invalid partition specified: gpu";
    assert!(said.contains(words), "{said}");
    assert!(said.contains("only these jobs were submitted: 41"), "{said}");

    study.with("PATH", "/nowhere");
    let (_, said) = study.fail(&with_slurm(&[]));
    assert!(said.contains("--slurm: found no program sbatch: submit on a machine"), "{said}");
}

#[test]
fn rejects_options_that_contradict_each_other() {
    let study = Study::new();
    let needed = "<OPTION>' but none was supplied";
    let own = "--slurm sets --array, --chdir, --dependency itself";

    for (arguments, code, words) in [
        (&["all", "--slurm", "--jobs", "2"][..], 2, "'--slurm' cannot be used with '--jobs <N>'"),
        (&["table", "4", "--slurm", "--budget=1h"], 2, "cannot be used with '--budget <TIME>'"),
        (&["all", "--slurm-option=-pgpu"], 2, "were not provided:\n  --slurm"),
        (&["ablation", "--all", "--slurm", "--slurm-option="], 2, "an option of sbatch"),
        (&["all", "--slurm", "--slurm-option", "gpu"], 2, "as in --partition=gpu"),
        (&["all", "--slurm", "--slurm-option=--mem=1\n"], 2, "an option of sbatch"),
        (&["all", "--slurm", "--slurm-option=--array=3"], 2, own),
        (&["all", "--slurm", "--slurm-option=--dep=afterok:1"], 2, own),
        (&["all", "--slurm", "--slurm-option=-a3"], 2, own),
        (&["status", "--slurm"], 1, "--slurm: expected a command that runs a study's cells"),
        (&["cell", "full-1"], 1, "as `cargo xtask status --scale smoke` lists them, got full-1"),
    ] {
        let output = study.run(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }

    // Without a value at the end of the command line, where the helper would add its own.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command.args(["all", "--slurm", "--slurm-option"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(needed), "{}", stderr(&output));
}
