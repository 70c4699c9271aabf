//! `dlt`: trains, evaluates and inspects transformers with dynamic layer tying.
//!
//! Results go to standard output and everything else to standard error. Nothing below this crate
//! prints or reads the environment: here are the arguments, the progress, the messages and the exit
//! codes, and no logic of training.

mod arguments;
mod baselines;
mod bench;
mod card;
mod convert;
mod data;
mod doctor;
mod environment;
mod eval;
mod events;
mod export;
mod failure;
mod figure;
mod finetune;
mod generate;
mod growth;
mod guide;
mod hub;
mod import;
mod inspect;
mod interrupt;
mod kept;
mod layers;
mod log;
mod machine;
mod map;
mod memory;
mod naming;
mod numbers;
mod output;
mod page;
mod paths;
mod plan;
mod progress;
mod provenance;
mod rehearsal;
mod report;
mod run_options;
mod saved;
mod shown;
mod spec;
mod start;
mod table;
mod threads;
mod tokens;
mod train;
mod watch;

use arguments::{Arguments, Task};
use clap::Parser;
use clap::error::ErrorKind;
use dlt_spec::ExitCode;

fn main() -> std::process::ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Ok };
            match error.kind() {
                // Where even this cannot be written, nobody is left to tell.
                ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => drop(error.print()),
                // What was typed may hold what moves a cursor.
                _ => output::note(error.render().to_string().trim_end()),
            }

            return code.into();
        }
    };

    match run(&arguments) {
        Ok(()) => ExitCode::Ok.into(),
        Err(failure) => failure.report().into(),
    }
}

fn run(arguments: &Arguments) -> failure::Result {
    log::start(arguments.verbose)?;
    threads::bound_environment();
    interrupt::outlive_file_limits();
    check_addresses(&arguments.task)?;

    match &arguments.task {
        Task::Train(task) => threads::compute(&task.options.machine, || train::run(task)),
        Task::Finetune(task) => threads::compute(&task.options.machine, || finetune::run(task)),
        Task::Eval(task) => threads::compute(&task.machine, || eval::run(task)),
        Task::Generate(task) => threads::compute(&task.machine, || generate::run(task)),
        Task::Inspect(task) => inspect::run(task),
        Task::Report(task) => page::run(task),
        Task::Figure(task) => figure::run(task),
        Task::Watch(task) => watch::run(task),
        Task::Export(task) => export::run(task),
        Task::Import(task) => import::run(task),
        Task::Convert(task) => convert::run(task),
        Task::Data(task) => data::run(task),
        Task::Spec(task) => spec::run(task),
        Task::Doctor(task) => doctor::run(task),
        Task::Bench(task) => threads::compute(task.machine(), || bench::run(task)),
    }
}

/// Whether the process may use as many addresses as a task of this kind takes at least.
fn check_addresses(task: &Task) -> failure::Result {
    let machine = match task {
        Task::Train(task) => Some(&task.options.machine),
        Task::Finetune(task) => Some(&task.options.machine),
        Task::Eval(task) => Some(&task.machine),
        Task::Generate(task) => Some(&task.machine),
        Task::Bench(task) => Some(task.machine()),
        Task::Data(_) | Task::Import(_) | Task::Export(_) => None,
        _ => return Ok(()),
    };

    threads::check_addresses(machine.and_then(|machine| machine.threads))
}
