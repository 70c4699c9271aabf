//! `dlt`: trains, evaluates and inspects transformers with dynamic layer tying.
//!
//! Results go to standard output, everything else to standard error. This crate has the arguments,
//! the progress, the messages and the exit codes, but no logic of training. No library below it
//! prints or reads the environment.

mod arguments;
mod baselines;
mod bench;
mod convert;
mod data;
mod doctor;
mod ending;
mod engine;
mod environment;
mod eval;
mod events;
mod export;
mod failure;
mod figure;
mod finetune;
mod generate;
mod guide;
mod hub;
mod import;
mod inspect;
mod interrupt;
mod introduction;
mod launcher;
mod loading;
mod log;
mod machine;
mod memory;
mod numbers;
mod output;
mod page;
mod plan;
mod processes;
mod program;
mod progress;
mod rehearsal;
mod run_options;
mod shell;
mod shown;
mod spec;
mod table;
mod threads;
mod train;
mod watch;

use arguments::{Arguments, BenchTask, Command};
use clap::Parser;
use clap::error::ErrorKind;
use dlt_spec::ExitCode;

fn main() -> std::process::ExitCode {
    // `--version` shows the engine, and a wrong name does not hide the help.
    let chosen = engine::choose();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Ok };
            match error.kind() {
                // If even this cannot be written, there is nobody to tell.
                ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => drop(error.print()),
                // It repeats what the user typed, which may have control characters, so `note`
                // escapes it.
                _ => output::note(error.render().to_string().trim_end()),
            }

            return code.into();
        }
    };

    match chosen.and_then(|()| run(&arguments)) {
        Ok(()) => ExitCode::Ok.into(),
        Err(failure) => failure.report().into(),
    }
}

fn run(arguments: &Arguments) -> failure::Result {
    processes::silence_others();
    log::start(arguments.verbose)?;
    // May start the program again, so it comes before anything is read or written.
    threads::bound_environment();
    interrupt::outlive_file_limits();
    check_addresses(&arguments.command)?;
    start_processes(&arguments.command)?;

    match &arguments.command {
        Command::Train(task) => threads::compute(&task.options.machine, || train::run(task)),
        Command::Finetune(task) => threads::compute(&task.options.machine, || finetune::run(task)),
        Command::Eval(task) => threads::compute(&task.machine, || eval::run(task)),
        Command::Generate(task) => threads::compute(&task.machine, || generate::run(task)),
        Command::Inspect(task) => inspect::run(task),
        Command::Report(task) => page::run(task),
        Command::Figure(task) => figure::run(task),
        Command::Watch(task) => watch::run(task),
        Command::Export(task) => export::run(task),
        Command::Import(task) => import::run(task),
        Command::Convert(task) => convert::run(task),
        Command::Data(task) => data::run(task),
        Command::Spec(task) => spec::run(task),
        Command::Doctor(task) => doctor::run(task),
        Command::Bench(task) => threads::compute(task.machine(), || bench::run(task)),
        Command::Completions(task) => shell::completions(task),
        Command::Man(task) => shell::man(task),
    }
}

/// Starts the processes that a task asks for; see [`processes::start`].
fn start_processes(command: &Command) -> failure::Result {
    let (several, machine) = match command {
        Command::Train(task) => (&task.options.several, &task.options.machine),
        Command::Finetune(task) => (&task.options.several, &task.options.machine),
        Command::Eval(task) => (&task.several, &task.machine),
        Command::Bench(BenchTask::Step(task)) => (&task.several, &task.machine),
        _ => return Ok(()),
    };

    processes::start(several, machine.threads)
}

/// Refuses a task if the process may not use the addresses that it needs at least. Tasks that
/// compute nothing are not checked.
fn check_addresses(command: &Command) -> failure::Result {
    let machine = match command {
        Command::Train(task) => Some(&task.options.machine),
        Command::Finetune(task) => Some(&task.options.machine),
        Command::Eval(task) => Some(&task.machine),
        Command::Generate(task) => Some(&task.machine),
        Command::Bench(task) => Some(task.machine()),
        Command::Data(_) | Command::Import(_) | Command::Export(_) => None,
        _ => return Ok(()),
    };

    threads::check_addresses(machine.and_then(|machine| machine.threads))
}
