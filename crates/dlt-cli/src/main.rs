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
mod ending;
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
mod loading;
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
mod pretrained;
mod progress;
mod provenance;
mod rehearsal;
mod run_options;
mod saved;
mod shown;
mod spec;
mod spec_layers;
mod table;
mod threads;
mod train;
mod watch;

use arguments::{Arguments, Command};
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
    check_addresses(&arguments.command)?;

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
    }
}

/// Whether the process may use as many addresses as a task of this kind takes at least.
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
