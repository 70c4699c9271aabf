//! A program without MPI: it refuses to be one of several processes, and says what to build.

use crate::workplace::{Said, Workplace};

const BUILD: &str = "cargo install --locked --path crates/dlt-cli --features mpi";

/// Trains in an environment with these variables.
fn train(place: &Workplace, variables: &[(&str, &str)], more: &[&str]) -> Said {
    let mut arguments =
        vec!["train", "--preset", "smoke", "--data", "text.txt", "--steps", "2", "--out", "run"];
    arguments.extend(more);
    Said::by(place.command(&arguments).envs(variables.iter().copied()))
}

#[test]
fn rejects_several_processes_and_says_what_to_build() {
    let place = Workplace::new();
    let mpirun = [("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "0")];
    let mpiexec = [("PMI_SIZE", "2"), ("PMI_RANK", "0")];
    let srun = [("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "0")];

    for (variables, more, says) in [
        (&[][..], &["--processes", "2"][..], "--processes 2: "),
        (&mpirun, &[], "mpirun has started 2 processes"),
        (&mpirun, &["--processes", "2"], "mpirun has started 2 processes"),
        (&mpiexec, &[], "mpiexec has started 2 processes"),
        (&srun, &[], "srun has started 2 processes"),
    ] {
        let said = train(&place, variables, more);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(says) && said.err.contains(BUILD), "{says} in {said:?}");
        assert!(!place.path("run").exists(), "{said:?}");
    }

    for task in
        [&["finetune", "run", "--task", "glue/sst2"][..], &["eval", "run"], &["bench", "step"]]
    {
        let said = place.dlt(&[task, &["--processes", "2"]].concat());
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(BUILD), "{said:?}");
    }
}

/// The others refuse silently: one message for all.
#[test]
fn rejects_the_other_processes_without_a_message() {
    let place = Workplace::new();
    let second = [("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")];
    let said = train(&place, &second, &[]);
    assert_eq!((said.code, said.err.as_str()), (Some(2), ""));
}

#[test]
fn tasks_of_one_process_work_under_a_launcher() {
    let place = Workplace::new();
    place.train("run", &["--quiet"]);

    let started = [("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "0")];
    let generate = ["generate", "run", "--prompt", "To be", "--tokens", "2"];
    for line in [&["spec", "smoke"][..], &generate] {
        let said = Said::by(place.command(line).envs(started)).ok();
        assert!(!said.out.is_empty(), "{said:?}");
    }
}

/// A batch script of Slurm has the number of tasks of its job, but is one process.
#[test]
fn a_batch_script_trains_as_one_process() {
    let place = Workplace::new();
    let batch = [("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0")];
    train(&place, &batch, &[]).ok();
    assert_eq!(place.json("run/summary.json")["steps"], 2);
    assert!(place.json("run/provenance.json")["processes"].is_null());
}
