//! What the tests of several processes start: `mpirun -n 2 trial exchanges`.
//!
//! ```text
//! trial exchanges          several at once, of many sizes; every process compares what it gets
//! trial steps DIR [MS]     exchanges until it is killed, computing MS milliseconds in between
//! trial busy DIR SECONDS   process 1 computes for long, then all exchange once more
//! trial leave DIR          process 1 fails in the middle
//! trial early DIR          process 1 closes first, and the others compute on
//! trial uneven DIR         process 0 expects another number of words than come
//! trial measure            time of a short exchange, and words a second of a long one
//! ```
//!
//! With a folder, each process writes `started-RANK` with its process id, and `ended-RANK` with
//! what it knew at its end.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dlt_processes::{Launch, Lost, Mpi, Options};
use dlt_train::{Subject, Transport, Words};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The limit on silence in tests.
const LIMIT: Duration = Duration::from_secs(3);
/// What a process that has lost others exits with.
const LOST: i32 = 5;

fn main() -> Outcome {
    // mpirun sends SIGTERM before SIGKILL. The program does not end by it at once either.
    ctrlc::set_handler(|| {})?;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["exchanges"] => exchanges(start(None)?),
        ["steps", folder] => steps(folder, 0),
        ["steps", folder, pause_ms] => steps(folder, pause_ms.parse()?),
        ["busy", folder, seconds] => busy(folder, seconds.parse()?),
        ["leave", folder] => leave(folder),
        ["early", folder] => early(folder),
        ["uneven", folder] => uneven(folder),
        ["measure"] => measure(start(None)?),
        _ => Err("expected one of the ways to start it that its source lists".into()),
    }
}

fn start(folder: Option<&str>) -> Result<Mpi, Box<dyn std::error::Error>> {
    let launch = Launch::found(|name| std::env::var(name).ok());
    let rank = launch.as_ref().map_or(0, |launch| launch.rank);
    let folder = folder.map(PathBuf::from);
    let ending = folder.clone();

    let on_lost = Box::new(move |lost: &Lost| {
        if lost.speaks {
            eprintln!("lost: {}", lost.error);
        }
        if let Some(folder) = &ending {
            let speaks = if lost.speaks { "speaks" } else { "silent" };
            let _ = note(folder, "ended", rank, &format!("{LOST} {speaks} {}", lost.error));
        }
        std::process::exit(LOST);
    });

    let mpi = Mpi::start(Options { limit: LIMIT, launch, on_lost })?;
    if let Some(folder) = &folder {
        note(folder, "started", rank, &std::process::id().to_string())?;
    }
    Ok(mpi)
}

/// Writes a file whole: the tests wait for it.
fn note(folder: &Path, what: &str, rank: usize, text: &str) -> std::io::Result<()> {
    let partial = folder.join(format!("{what}-{rank}.partial"));
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, folder.join(format!("{what}-{rank}")))
}

/// Word `at` of what process `from` sends to process `to` in an exchange.
fn word(exchange: usize, from: usize, to: usize, at: usize) -> u32 {
    let mixed = (exchange * 31 + from) * 31 + to;
    (mixed as u32).wrapping_mul(2_654_435_761).wrapping_add((at as u32).wrapping_mul(40_503))
}

fn words(exchange: usize, from: usize, to: usize, length: usize) -> Words {
    (0..length).map(|at| word(exchange, from, to, at)).collect()
}

/// Lengths of what process `from` sends to `to`: they differ by exchange and by both. Only two
/// processes send each other the longest, which would not fit into memory for many.
fn length(exchange: usize, from: usize, to: usize) -> usize {
    const PIECE: usize = 1 << 23;
    let long = |length| if from < 2 && to < 2 { length } else { from };
    match exchange {
        0 => 0,
        1..6 => exchange - 1 + 3 * from + to,
        6 => long(PIECE - 1),
        7 => long(PIECE),
        8 => long(PIECE + 1),
        9 => long(20_000_000),
        10 => 0,
        _ => (exchange * 7919 + from * 13 + to) % 70_000,
    }
}

/// Begins exchanges some ahead of those it finishes, and compares every word.
fn exchanges(mut mpi: Mpi) -> Outcome {
    const ALL: usize = 200;
    let (own, size) = (mpi.world().rank, mpi.world().size());
    let others = |rank: &usize| *rank != own;

    for turn in 0..ALL + 5 {
        if turn < ALL {
            let mut outgoing = vec![Words::new(); size];
            let mut expected = vec![0; size];
            for rank in (0..size).filter(others) {
                outgoing[rank] = words(turn, own, rank, length(turn, own, rank));
                expected[rank] = length(turn, rank, own);
            }
            mpi.begin(Subject { what: "numbers", step: turn }, outgoing, expected)?;
        }

        // Up to five are under way at once.
        let Some(oldest) = turn.checked_sub(5) else { continue };
        let got = mpi.finish()?;
        for rank in (0..size).filter(others) {
            let sent = words(oldest, rank, own, length(oldest, rank, own));
            if got[rank] != sent {
                return Err(format!("exchange {oldest} from process {rank} differs").into());
            }
        }
        if !got[own].is_empty() {
            return Err("a process got words from itself".into());
        }
    }

    let sums = everyone(&mut mpi, ALL, vec![u32::try_from(own)? + 7])?;
    let hosts = mpi.world().hosts.len();
    let engine = mpi.world().engine.clone();
    mpi.close()?;
    println!("process {own} of {size}: {sums:?} {hosts} {engine}");
    Ok(())
}

/// What every process has for all, by rank.
fn everyone(
    mpi: &mut Mpi,
    step: usize,
    own: Words,
) -> Result<Vec<Words>, Box<dyn std::error::Error>> {
    let (rank, size) = (mpi.world().rank, mpi.world().size());
    let mut outgoing = vec![own.clone(); size];
    outgoing[rank] = Words::new();
    let mut expected = vec![own.len(); size];
    expected[rank] = 0;

    mpi.begin(Subject { what: "sums", step }, outgoing, expected)?;
    let mut got = mpi.finish()?;
    got[rank] = own;
    Ok(got)
}

fn steps(folder: &str, pause_ms: u64) -> Outcome {
    let mut mpi = start(Some(folder))?;
    let rank = mpi.world().rank;

    for step in 1.. {
        everyone(&mut mpi, step, vec![7; 100_000])?;
        std::thread::sleep(Duration::from_millis(pause_ms));
        if step == 3 {
            note(Path::new(folder), "stepped", rank, "3")?;
        }
    }
    Ok(())
}

fn busy(folder: &str, seconds: u64) -> Outcome {
    let mut mpi = start(Some(folder))?;
    everyone(&mut mpi, 1, vec![7; 10])?;
    if mpi.world().rank == 1 {
        std::thread::sleep(Duration::from_secs(seconds));
    }

    everyone(&mut mpi, 2, vec![7; 10])?;
    let rank = mpi.world().rank;
    mpi.close()?;
    note(Path::new(folder), "ended", rank, "0")?;
    Ok(())
}

fn leave(folder: &str) -> Outcome {
    let mut mpi = start(Some(folder))?;
    for step in 1.. {
        everyone(&mut mpi, step, vec![7; 10])?;
        if step == 3 && mpi.world().rank == 1 {
            note(Path::new(folder), "ended", 1, "1")?;
            return Err("the disk is full".into());
        }
    }
    Ok(())
}

fn early(folder: &str) -> Outcome {
    let mut mpi = start(Some(folder))?;
    let rank = mpi.world().rank;
    everyone(&mut mpi, 1, vec![7; 10])?;
    if rank != 1 {
        std::thread::sleep(LIMIT + Duration::from_secs(2));
    }

    mpi.close()?;
    note(Path::new(folder), "ended", rank, "0")?;
    Ok(())
}

fn uneven(folder: &str) -> Outcome {
    let mut mpi = start(Some(folder))?;
    let rank = mpi.world().rank;
    let length = if rank == 0 { 9 } else { 10 };
    everyone(&mut mpi, 1, vec![7; length])?;
    everyone(&mut mpi, 2, vec![7; 10])?;
    Ok(())
}

/// Milliseconds of processor time that the thread of MPI has used.
fn thread_ms() -> Result<f64, Box<dyn std::error::Error>> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.trim() == "mpi" {
            let text = std::fs::read_to_string(task.join("schedstat"))?;
            let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
            return Ok(nanoseconds * 1e-6);
        }
    }
    Err("no thread of MPI".into())
}

/// Seconds of one exchange of equal lengths between all: from its beginning to its end, and waiting
/// for the end after some seconds of computing. The words are made before that.
fn timed(
    mpi: &mut Mpi,
    length: usize,
    compute: Duration,
) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let (rank, size) = (mpi.world().rank, mpi.world().size());
    let to = |other: usize| if other == rank { 0 } else { length };
    let outgoing = (0..size).map(|other| vec![7; to(other)]).collect();
    let expected = (0..size).map(to).collect();
    everyone(mpi, 0, vec![7])?;

    let start = Instant::now();
    mpi.begin(Subject { what: "numbers", step: 1 }, outgoing, expected)?;
    while start.elapsed() < compute {
        std::hint::spin_loop();
    }
    let computed = Instant::now();
    let got = mpi.finish()?;
    let seconds = (start.elapsed().as_secs_f64(), computed.elapsed().as_secs_f64());
    drop(got);
    Ok(seconds)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn measure(mut mpi: Mpi) -> Outcome {
    const REPETITIONS: usize = 31;
    let (rank, size) = (mpi.world().rank, mpi.world().size());

    for length in [1, 100_000, 1_000_000, 20_000_000] {
        let mut seconds = Vec::new();
        for _ in 0..REPETITIONS {
            seconds.push(timed(&mut mpi, length, Duration::ZERO)?.0);
        }
        let alone = median(seconds);

        let mut seconds = Vec::new();
        for _ in 0..REPETITIONS {
            seconds.push(timed(&mut mpi, length, Duration::from_millis(200))?.1);
        }
        let behind = median(seconds);

        if rank == 0 {
            let speed = 4e-6 * length as f64 / alone;
            println!(
                "{size} processes, {length} words from each to each: {:.3} ms, {speed:.0} MB/s; \
                 after computing for 200 ms, waiting {:.3} ms",
                1e3 * alone,
                1e3 * behind
            );
        }
    }

    // The other process sends late, so the words are pending while this one computes.
    const SECONDS: u64 = 5;
    for (what, exchanges) in [("nothing", 0), ("an exchange", 1), ("ten exchanges", 10)] {
        everyone(&mut mpi, 0, vec![7])?;
        let start = thread_ms()?;
        let wait = Duration::from_secs(if rank == 0 { SECONDS } else { SECONDS - 1 });
        if rank != 0 {
            std::thread::sleep(wait);
        }
        for _ in 0..exchanges {
            let to = |other: usize| if other == rank { 0 } else { 1000 };
            let outgoing = (0..size).map(|other| vec![7; to(other)]).collect();
            mpi.begin(Subject { what: "numbers", step: 1 }, outgoing, (0..size).map(to).collect())?;
        }
        if rank == 0 {
            std::thread::sleep(wait);
            let share = (thread_ms()? - start) / (10.0 * SECONDS as f64);
            println!("with {what} pending, the thread of MPI uses {share:.1} % of a core");
        }
        for _ in 0..exchanges {
            mpi.finish()?;
        }
    }

    mpi.close()?;
    Ok(())
}
