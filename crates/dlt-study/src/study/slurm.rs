//! Cells as tasks of array jobs of Slurm: the scripts, and how `sbatch` gets them.
//!
//! A task runs `xtask cell`, so it does what a study does for a cell: it claims it, notes its
//! arguments, resumes it from its checkpoint and reports its failure. A task that was requeued is no
//! special case.
//!
//! All tasks of an array job get the same memory and time. So each subject has an array: its cells
//! have the same data and similar models. They get what the greatest of them needs. Cells that need
//! others are in a further array of their subject, after those that they need.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::Study;
use crate::cell::{Cell, CellId, Job};
use crate::child::quoted;
use crate::cost::{Costs, Memories};
use crate::subject::Subject;

/// Memory of the program and its data in 10^6 bytes. The program itself takes up to 200 MB; up to
/// 1 GiB of text can be in memory.
const BESIDES_MB: f64 = 1500.0;
/// How much more than predicted a cell may need: the allocator does not reuse every byte.
const MEMORY_MARGIN: f64 = 1.25;
/// A limit is so many times the recorded seconds of one thread. Other processors are slower, and not
/// every run becomes faster with more threads.
const TIME_MARGIN: f64 = 2.0;
/// Minutes of a limit to start, to read data and to evaluate.
const BESIDES_MINUTES: u64 = 10;
/// The limit of a cell without a record: a day.
const UNKNOWN_MINUTES: u64 = 24 * 60;
/// Folder of what tasks print, below the folder of the runs.
const LOGS: &str = "slurm";
/// Options of `sbatch` that decide which cell a task runs, and when and where.
const OURS: [&str; 3] = ["--array", "--chdir", "--dependency"];
const OURS_SHORT: [&str; 3] = ["-a", "-D", "-d"];

#[derive(Args, Debug)]
pub(super) struct SlurmArguments {
    /// Submit the cells that are not done to Slurm and end: an array job for each model with its
    /// data, a task for each cell. Each task has --threads cores
    #[arg(long = "slurm", conflicts_with_all = ["jobs", "budget"])]
    is_on: bool,
    /// An option for sbatch, as in --partition=gpu. It replaces ours. Can be given several times
    #[arg(
        long = "slurm-option",
        value_name = "OPTION",
        requires = "is_on",
        allow_hyphen_values = true,
        value_parser = parse_option
    )]
    options: Vec<String>,
}

impl SlurmArguments {
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }
}

fn parse_option(text: &str) -> Result<String, String> {
    let name = text.split(['=', ' ']).next().unwrap_or_default();
    if name.len() < 2 || !name.starts_with('-') || text.contains(char::is_control) {
        return Err("expected an option of sbatch, as in --partition=gpu".to_owned());
    }

    // `sbatch` takes the beginning of a long option for the whole, and `-a1-4` for `-a 1-4`.
    let is_ours = OURS.iter().any(|own| name.len() > 2 && own.starts_with(name))
        || OURS_SHORT.iter().any(|own| name.starts_with(own));
    if is_ours {
        return Err(format!("--slurm sets {} itself", OURS.join(", ")));
    }

    Ok(text.to_owned())
}

/// Cells of one subject, each a task of an array job. Tasks count from 1.
struct ArrayJob<'c> {
    subject: Subject,
    /// 0, or one more than the depth of the arrays that its cells need.
    depth: usize,
    cells: Vec<&'c Cell>,
}

/// What each task of an array asks for.
struct Limits {
    cores: usize,
    memory_mb: u64,
    minutes: u64,
}

impl ArrayJob<'_> {
    fn task(&self, id: &CellId) -> Option<usize> {
        self.cells.iter().position(|cell| cell.id == *id).map(|index| index + 1)
    }
}

/// The arrays of these cells, each after those that it needs. Cells follow those that they need.
fn arrays<'c>(open: &[&'c Cell]) -> Vec<ArrayJob<'c>> {
    let mut arrays: Vec<ArrayJob<'_>> = Vec::new();
    for &cell in open {
        let subject = cell.subject;
        let needs = cell.needs();
        let depths = arrays.iter().filter(|array| needs.iter().any(|id| array.task(id).is_some()));
        let depth = depths.map(|array| array.depth + 1).max().unwrap_or(0);

        match arrays.iter_mut().find(|array| array.subject == subject && array.depth == depth) {
            Some(array) => array.cells.push(cell),
            None => arrays.push(ArrayJob { subject, depth, cells: vec![cell] }),
        }
    }

    arrays.sort_by_key(|array| array.depth);
    arrays
}

/// The tasks that an array waits for, as Slurm names them.
fn tasks_before(array: &ArrayJob<'_>, submitted: &[(String, &ArrayJob<'_>)]) -> Vec<String> {
    let needs: Vec<CellId> = array.cells.iter().flat_map(|cell| cell.needs()).collect();
    let of = |(job, other): &(String, &ArrayJob<'_>)| {
        let tasks = needs.iter().filter_map(|id| other.task(id));
        tasks.map(|task| format!("{job}_{task}")).collect::<Vec<_>>()
    };

    let mut tasks: Vec<String> = submitted.iter().flat_map(of).collect();
    tasks.sort();
    tasks.dedup();
    tasks
}

impl Study<'_> {
    /// Submits the cells that are not done, or prints the scripts that would be submitted.
    pub(super) fn submit(&self, dlt: &Path, cells: &[Cell]) -> Result<ExitCode> {
        // The costs for one thread: a limit must not rely on more threads being faster.
        let costs = Costs::new(cells, &self.records(cells)?, self.arguments.scale, 1);
        let mut memories = Memories::new(dlt, self.arguments.scale);
        let open = self.store.open(cells);
        let arrays = arrays(&open);
        let mut submitted: Vec<(String, &ArrayJob<'_>)> = Vec::new();
        let out = &mut io::stdout().lock();

        if !self.arguments.dry_run {
            self.write_data(dlt)?;
            let logs = self.store.root().join(LOGS);
            fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        }

        for array in &arrays {
            let limits = self.limits(array, &costs, &mut memories)?;
            let script = self.script(array, &limits, &tasks_before(array, &submitted), dlt)?;
            if self.arguments.dry_run {
                writeln!(out, "{script}")?;
                submitted.push((format!("JOB{}", submitted.len() + 1), array));
                continue;
            }

            let job = sbatch(&script).with_context(|| {
                let jobs: Vec<&str> = submitted.iter().map(|(job, _)| job.as_str()).collect();
                match jobs[..] {
                    [] => "nothing was submitted".to_owned(),
                    _ => format!("only these jobs were submitted: {}", jobs.join(" ")),
                }
            })?;

            let Limits { cores, memory_mb, minutes } = limits;
            let (tasks, subject) = (array.cells.len(), array.subject.name());
            writeln!(
                out,
                "job {job}: {tasks} of {subject}, each with {cores} cores, {memory_mb} MB, at most \
                 {minutes} min"
            )?;
            submitted.push((job, array));
        }

        let done = cells.len() - open.len();
        let message = match (self.arguments.dry_run, open.len()) {
            (true, _) => return Ok(ExitCode::SUCCESS),
            (false, 0) => "every cell is done, so nothing was submitted".to_owned(),
            (false, open) => format!(
                "{open} cells submitted, {done} are done; `cargo xtask status` shows them. When all \
                 are done, the same command without --slurm prints the tables"
            ),
        };
        writeln!(out, "{message}")?;
        Ok(ExitCode::SUCCESS)
    }

    /// The greatest limits of an array's cells.
    fn limits(
        &self,
        array: &ArrayJob<'_>,
        costs: &Costs,
        memories: &mut Memories<'_>,
    ) -> Result<Limits> {
        let mut limits = Limits { cores: self.threads(), memory_mb: 0, minutes: 0 };
        for cell in &array.cells {
            // A prediction allocates nothing and takes seconds.
            let (memory_mb, seconds) = match cell.job {
                Job::Predict { .. } => (0.0, Some(0.0)),
                _ => (memories.mb(cell)?, costs.recorded_s(cell)),
            };

            // A process needs less than a whole run: each has its share of the moments.
            let processes = self.arguments.processes.get() as f64;
            let memory_mb = processes * (MEMORY_MARGIN * memory_mb + BESIDES_MB);
            let minutes = seconds.map_or(UNKNOWN_MINUTES, |seconds| {
                BESIDES_MINUTES + (TIME_MARGIN * seconds / 60.0).ceil() as u64
            });
            limits.memory_mb = limits.memory_mb.max(memory_mb.ceil() as u64);
            limits.minutes = limits.minutes.max(minutes);
        }

        Ok(limits)
    }

    /// The script of an array that starts after these tasks.
    fn script(
        &self,
        array: &ArrayJob<'_>,
        limits: &Limits,
        before: &[String],
        dlt: &Path,
    ) -> Result<String> {
        let folder = std::env::current_dir().context("cannot find the present folder")?;
        let logs = folder.join(self.store.root()).join(LOGS).join("%A_%a.log");
        let name = format!("dlt-{}-{}", self.arguments.scale.name(), array.subject.name());

        let mut options = vec![
            format!("--job-name={name}"),
            format!("--array=1-{}", array.cells.len()),
            format!("--cpus-per-task={}", limits.cores),
            format!("--mem={}M", limits.memory_mb),
            format!("--time={}", limits.minutes),
            "--requeue".to_owned(),
            "--open-mode=append".to_owned(),
            format!("--chdir={}", quoted(&folder.display().to_string())),
            format!("--output={}", quoted(&logs.display().to_string())),
        ];
        if !before.is_empty() {
            // Not `afterok`: one cell that failed would keep back the followers of all others. A
            // task whose own predecessor has failed says so and ends.
            options.push(format!("--dependency=afterany:{}", before.join(":")));
        }

        // Of two equal options the last counts.
        options.extend(self.arguments.slurm.options.iter().cloned());
        let mut script = "#!/bin/sh\n".to_owned();
        for option in options {
            writeln!(script, "#SBATCH {option}")?;
        }

        script += "case $SLURM_ARRAY_TASK_ID in\n";
        for (index, cell) in array.cells.iter().enumerate() {
            match cell.arguments(&self.store) {
                Some(words) => {
                    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                    writeln!(script, "# dlt {}", words.join(" "))?;
                }
                None => writeln!(script, "# dlt, with what a cell before it ends with")?,
            }
            writeln!(script, "{}) cell={} ;;", index + 1, cell.id)?;
        }

        let words: Vec<String> = self.task(dlt)?.iter().map(|word| quoted(word)).collect();
        writeln!(script, "esac\nexec {} \"$cell\"", words.join(" "))?;
        Ok(script)
    }

    /// The command of a task, without the name of its cell.
    fn task(&self, dlt: &Path) -> Result<Vec<String>> {
        let own = &self.arguments;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut words = vec![program.display().to_string(), "cell".to_owned()];
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);

        add("--scale", own.scale.name().to_owned());
        add("--runs", self.store.root().display().to_string());
        add("--dlt", dlt.display().to_string());
        add("--threads", self.threads().to_string());
        add("--device", own.device.clone());
        if own.processes.get() > 1 {
            add("--processes", own.processes.to_string());
        }

        if let Some(seeds) = &own.seeds {
            add("--seeds", seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
        }
        for (name, path) in &own.data {
            add("--data", format!("{name}={path}"));
        }
        if own.keep_checkpoints {
            words.push("--keep-checkpoints".to_owned());
        }

        Ok(words)
    }
}

/// Submits a script, and returns the number of its job.
fn sbatch(script: &str) -> Result<String> {
    let started = Command::new("sbatch")
        .arg("--parsable")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "--slurm: found no program sbatch: submit on a machine of the cluster, or run the cells \
             here without --slurm"
        ),
        started => started.context("cannot start sbatch")?,
    };

    if let Some(mut input) = child.stdin.take()
        && let Err(error) = input.write_all(script.as_bytes())
    {
        // A script that is not read to its end is refused, and `sbatch` says why.
        ensure!(error.kind() == io::ErrorKind::BrokenPipe, "cannot write to sbatch: {error}");
    }

    let output = child.wait_with_output().context("cannot wait for sbatch")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "sbatch refused the job: {}", said.trim());

    // With several clusters, the name of one follows.
    let answer = String::from_utf8_lossy(&output.stdout);
    let job = answer.trim().split(';').next().unwrap_or_default();
    let is_number = !job.is_empty() && job.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(is_number, "expected the number of a job from sbatch, got {}", answer.trim());

    Ok(job.to_owned())
}
