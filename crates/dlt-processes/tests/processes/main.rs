//! Several processes, started by mpirun: what they exchange, and what happens if one is lost.
//!
//! They need Open MPI, as the feature `mpi` does. The limit on silence is 3 s in them.

mod job;

use std::time::{Duration, Instant};

use job::{Ended, Job};

/// The limit on silence of the example.
const LIMIT: Duration = Duration::from_secs(3);
/// What ends a job after a loss was noticed, on a machine with work for all of its cores.
const ENDING: Duration = Duration::from_secs(6);

fn exchanges_of(processes: usize) {
    let ended = Job::start(processes, &["exchanges"]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);

    let sums: Vec<Vec<u32>> = (7..7 + processes as u32).map(|sum| vec![sum]).collect();
    for rank in 0..processes {
        let line = format!("process {rank} of {processes}: {sums:?} {processes} Open MPI ");
        assert!(ended.output.contains(&line), "{line}: {}", ended.output);
    }
}

#[test]
fn two_processes_exchange_all_sizes_in_order() {
    exchanges_of(2);
}

#[test]
fn four_processes_exchange_all_sizes_in_order() {
    exchanges_of(4);
}

#[test]
fn one_process_exchanges_nothing_with_and_without_a_launcher() {
    exchanges_of(1);
    let ended = Job::start_alone(&["exchanges"], &[]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.output.starts_with("process 0 of 1: [[7]] 1 Open MPI "), "{}", ended.output);
}

#[test]
fn rejects_a_launcher_whose_processes_do_not_see_each_other() {
    let ended = Job::start_alone(&["exchanges"], &[("PMI_SIZE", "2"), ("PMI_RANK", "0")]).end();
    assert_eq!(ended.code, Some(1));
    let message = "mpiexec started 2 processes, but Open MPI ";
    assert!(ended.errors.contains("Apart"), "{message}: {}", ended.errors);
}

/// Checks that one message came, from the lowest process that is not lost, and that the others knew
/// the same and ended with the code for it. That none runs on is checked at the end of every job.
fn is_one_message(ended: &Ended, lost: usize, begins: &str, place: &str) {
    assert_ne!(ended.code, Some(0));
    let messages = ended.messages();
    let [message] = messages[..] else { panic!("one message: {messages:?}\n{}", ended.errors) };
    assert!(message.starts_with(&format!("process {lost} (host ")), "{message}");
    assert!(message.contains(begins) && message.contains(place), "{message}");

    let speaker = usize::from(lost == 0);
    for (rank, known) in ended.known.iter().enumerate().filter(|(rank, _)| *rank != lost) {
        match known.as_deref() {
            Some(known) => {
                let speaks = if rank == speaker { "speaks" } else { "silent" };
                let begins = format!("5 {speaks} process {lost} (host ");
                assert!(known.starts_with(&begins), "{rank}: {known}");
            }
            // Those that only wait for the report can be ended by mpirun first.
            None => assert_ne!(rank, speaker, "the speaker knew: {}", ended.errors),
        }
    }
}

fn killed(processes: usize, lost: usize) {
    let job = Job::start(processes, &["steps", "DIR"]);
    for rank in 0..processes {
        job.text_of(&format!("stepped-{rank}"));
    }
    job.signal(lost, "KILL");
    let ended = job.end_within(ENDING);
    is_one_message(&ended, lost, ") ended ", "after step ");
}

#[test]
fn a_killed_process_ends_the_run_with_one_message() {
    killed(2, 1);
    killed(4, 2);
}

#[test]
fn the_loss_of_process_0_is_reported_by_another() {
    killed(2, 0);
    killed(4, 0);
}

#[test]
fn a_loss_is_noticed_while_all_compute() {
    let job = Job::start(3, &["steps", "DIR", "60000"]);
    for rank in 0..3 {
        job.text_of(&format!("started-{rank}"));
    }
    std::thread::sleep(Duration::from_secs(1));
    job.signal(1, "KILL");
    let ended = job.end_within(ENDING);
    is_one_message(&ended, 1, ") ended ", "between two exchanges, after step 1: ");
}

fn stopped(processes: usize, lost: usize) {
    let job = Job::start(processes, &["steps", "DIR"]);
    for rank in 0..processes {
        job.text_of(&format!("stepped-{rank}"));
    }
    job.signal(lost, "STOP");

    let start = Instant::now();
    let ended = job.end_within(LIMIT + ENDING);
    assert!(start.elapsed() > LIMIT - Duration::from_secs(1), "not before the limit");
    is_one_message(&ended, lost, "gave no sign of life for 3 s, ", "while exchanging sums after");
}

#[test]
fn a_stopped_process_ends_the_run_at_the_limit_with_one_message() {
    stopped(2, 1);
    stopped(4, 0);
}

#[test]
fn a_process_that_computes_for_longer_than_the_limit_is_not_lost() {
    let ended = Job::start(2, &["busy", "DIR", "6"]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(ended.known, [Some("0".to_owned()), Some("0".to_owned())]);
}

#[test]
fn a_process_that_fails_speaks_for_itself() {
    let ended = Job::start(3, &["leave", "DIR"]).end_within(ENDING);
    assert_ne!(ended.code, Some(0));
    assert!(ended.errors.contains("the disk is full"), "{}", ended.errors);
    assert!(ended.messages().is_empty(), "{}", ended.errors);

    for rank in [0, 2] {
        let known = ended.known[rank].as_deref().unwrap_or_default();
        assert!(known.starts_with("5 silent process 1 (host "), "{rank}: {known}");
        assert!(known.contains(" stopped after an error "), "{rank}: {known}");
    }
}

#[test]
fn a_process_may_close_long_before_the_others() {
    let ended = Job::start(3, &["early", "DIR"]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.known.iter().all(|known| known.as_deref() == Some("0")), "{:?}", ended.known);
}

#[test]
fn rejects_another_number_of_words_than_expected() {
    let ended = Job::start(2, &["uneven", "DIR"]).end_within(ENDING);
    assert_ne!(ended.code, Some(0));
    let knows = |text: &str| ended.known.iter().flatten().any(|known| known.contains(text));
    assert!(knows("MPI failed between this process and process "), "{:?}", ended.known);
    assert!(knows("sums after step 1"), "{:?}", ended.known);
}
