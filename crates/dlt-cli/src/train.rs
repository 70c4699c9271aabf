//! `dlt train`: one run, from its spec to its result. `dlt finetune` uses the same path.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use candle_core::Device;
use dlt_report::shell::quoted;
use dlt_run::{Beginning, Program, Resuming, Site, SpecLayers};
use dlt_spec::ExitCode;
use dlt_spec::record::SPEC_FILE;
use dlt_spec::spec::Size;
use dlt_train::{Exchange, TrainError, Trainer};

use crate::arguments::TrainTask;
use crate::ending::Ending;
use crate::events::Events;
use crate::failure::{Failure, Result};
use crate::loading::Environment;
use crate::numbers::whole;
use crate::progress::Progress;
use crate::run_options::RunOptions;
use crate::{interrupt, machine, output, processes, program, rehearsal};

pub(crate) fn run(task: &TrainTask) -> Result {
    let options = &task.options;
    let progress = Progress::new(options.quiet);
    if let Some(run) = &task.resume {
        return resume(task, run, progress);
    }

    begin(options, progress, |processes, environment, progress| {
        let mut layers = spec_layers(task)?;
        layers.processes = processes;
        let (from, out) = (task.from.as_deref(), options.out.as_deref());
        Ok(Beginning::of_layers(layers, from, out, environment.places().hub, progress)?)
    })
}

/// Begins the run that `plan` makes for so many processes, trains to the end and prints the result.
pub(crate) fn begin(
    options: &RunOptions,
    progress: Progress,
    plan: impl FnOnce(usize, &Environment, &Progress) -> Result<Beginning>,
) -> Result {
    let mut exchange = processes::exchange(&options.several)?;
    let processes = exchange.world().size();
    let open = || {
        let environment = Environment::read()?;
        let beginning = plan(processes, &environment, &progress)?;
        // Before the device: opening a GPU takes seconds.
        beginning.destination().check()?;
        Ok((beginning, Opened::by(options, environment)?))
    };

    let begun = processes::together(&mut exchange, "the spec", open())
        .and_then(|(run, opened)| Ok(run.begin_among(&opened.site(&progress), &mut exchange)?));
    let trainer = processes::settle(exchange, begun)?;
    carry_out(trainer, options, progress)
}

/// Continues a run from its last checkpoint, or begins it again if there is none yet.
fn resume(task: &TrainTask, run: &Path, progress: Progress) -> Result {
    let options = &task.options;
    let mut exchange = processes::exchange(&options.several)?;
    let resumed = resumed(task, run, &progress, &mut exchange);
    let trainer = processes::settle(exchange, resumed)?;
    carry_out(trainer, options, progress)
}

fn resumed(
    task: &TrainTask,
    run: &Path,
    progress: &Progress,
    exchange: &mut Exchange,
) -> Result<Trainer> {
    let layers = processes::together(exchange, "the spec", spec_layers(task))?;
    let resuming = Resuming::open_among(run, &layers, progress, exchange)?;
    let open = || Opened::by(&task.options, Environment::read()?);
    let opened = processes::together(exchange, "the device", open())?;
    Ok(resuming.resume_among(&opened.site(progress), exchange)?)
}

/// What a run computes on, and what it can reach.
struct Opened {
    device: Device,
    device_name: String,
    environment: Environment,
    program: Program,
}

impl Opened {
    fn by(options: &RunOptions, environment: Environment) -> Result<Self> {
        let (device, device_name) = machine::open(&options.machine)?;
        Ok(Self { device, device_name, environment, program: program::this() })
    }

    fn site<'a>(&'a self, progress: &'a Progress) -> Site<'a> {
        Site {
            device: self.device.clone(),
            device_name: &self.device_name,
            places: self.environment.places(),
            program: &self.program,
            observer: progress,
        }
    }
}

/// Trains to the end, evaluates the best model and prints the result.
fn carry_out(mut trainer: Trainer, options: &RunOptions, mut progress: Progress) -> Result {
    let mut events = if trainer.exchange().writes() {
        Events::open(trainer.folder(), options.tensorboard)
    } else {
        Events::none(trainer.folder())
    };
    let spec = trainer.spec().clone();
    let out = trainer.folder().path().to_owned();
    progress.begin(trainer.step(), trainer.steps(), &spec);

    // Shared: the trainer shows evaluations through it, and `advance` shows steps.
    let progress = Rc::new(RefCell::new(progress));
    let watched = Rc::clone(&progress);
    trainer
        .watch_evaluations(Box::new(move |evaluating| watched.borrow_mut().evaluating(evaluating)));

    if let Err(failure) = advance(&mut trainer, &progress, &mut events) {
        return processes::settle(trainer.leave(), Err(failure));
    }
    let done = trainer.steps();
    let bounded = match spec.evaluation.final_windows {
        Size::Fixed(windows) => format!(", at most {} windows of each split", whole(windows)),
        Size::Auto(_) => String::new(),
    };

    progress
        .borrow()
        .note(&format!("{} steps done; evaluating the best model{bounded}", whole(done)));

    // `finish` consumes the trainer, so what the ending shows of it is copied first.
    let state = trainer.recording().state_at(done).clone();
    let binding = trainer.model().binding().clone();
    let summary = trainer.finish();

    // Before a failure is returned, so that the event file has the last rows of the metrics too.
    events.follow();
    let summary = processes::settle(Exchange::alone(), summary.map_err(Failure::from))?;
    progress.borrow().end();

    let ending =
        Ending { spec: &spec, summary: &summary, state: &state, binding: &binding, run: &out };
    output::print(&ending.text())
}

/// The layers of the spec, as the command line gives them.
fn spec_layers(task: &TrainTask) -> Result<SpecLayers<'_>> {
    let Named { spec, data } = Named::of(&task.named)?;
    if let (Some(first), Some(second)) = (data, &task.options.data) {
        return Err(twice("data", first, second));
    }

    let mut spec_layers = SpecLayers {
        preset: task.preset.as_deref(),
        method: task.options.method.as_deref(),
        file: spec,
        options: task.options.assignments(data.or(task.options.data.as_deref())),
        set: &task.options.set,
        rehearses: rehearsal::is_on()?,
        ..SpecLayers::default()
    };

    if task.resize_vocabulary {
        spec_layers.options.push((
            "--resize-vocabulary",
            "model.start_vocabulary",
            "grow".to_owned(),
        ));
    }

    Ok(spec_layers)
}

/// The arguments of the command line that belong to no option.
#[derive(Default)]
struct Named<'a> {
    /// A spec: an argument that ends in `.toml`.
    spec: Option<&'a Path>,
    /// What to train on: any other argument.
    data: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// # Errors
    /// If there are two specs or two data, or an argument is a run folder.
    fn of(arguments: &'a [String]) -> Result<Self> {
        let mut named = Self::default();
        for argument in arguments {
            let path = Path::new(argument);
            if path.extension().is_some_and(|ending| ending == "toml") {
                if let Some(first) = named.spec.replace(path) {
                    return Err(twice("a spec", &first.to_string_lossy(), argument));
                }
            } else if path.join(SPEC_FILE).is_file() {
                let run = quoted(argument);
                let message = format!(
                    "{argument}: expected data or a SPEC.toml, got a run folder; use --resume {run} to continue it; \
                     use --from {run} to start with its weights; use {} to train the same run again",
                    quoted(&path.join(SPEC_FILE).to_string_lossy())
                );
                return Err(Failure::refused(ExitCode::Usage, message));
            } else if let Some(first) = named.data.replace(argument) {
                return Err(twice("data", first, argument));
            }
        }

        Ok(named)
    }
}

/// The error for something that is named twice.
fn twice(what: &str, first: &str, second: &str) -> Failure {
    Failure::refused(ExitCode::Usage, format!("{what} may be named once, got {first} and {second}"))
}

/// Makes steps until all are done or the user interrupts the run.
fn advance(trainer: &mut Trainer, progress: &RefCell<Progress>, events: &mut Events) -> Result {
    interrupt::watch();
    let again =
        format!("dlt train --resume {}", quoted(&trainer.folder().path().to_string_lossy()));
    processes::resumed_by(&again);

    loop {
        let advanced = trainer.advance();
        events.follow();

        let report = match advanced {
            Ok(Some(report)) => report,
            Ok(None) => return Ok(()),
            Err(error) => {
                progress.borrow().end();
                let good = trainer.last_good_checkpoint(&error)?;
                let advice = advice(&error, good, &again);

                return Err(Failure::Stopped { error: Box::new(error), advice });
            }
        };

        progress.borrow().step(&report);

        // Between two steps, so that the checkpoint is one from which the run continues bit for
        // bit.
        if trainer.is_asked_to_stop(interrupt::is_asked())? {
            progress.borrow().end();
            trainer.save_checkpoint()?;

            let step = report.step;
            let steps = report.steps;
            let message =
                format!("after step {step} of {steps}; everything is saved; resume with: {again}");

            return Err(Failure::Interrupted { message });
        }
    }
}

/// What a run that stopped by itself has left, and what to do. `last` is the step of its last good
/// checkpoint, `again` the command that resumes it.
fn advice(error: &TrainError, last: Option<usize>, again: &str) -> String {
    match (last, error) {
        (None, _) => "there is no checkpoint yet".to_owned(),
        // The run's folder is at another path now, so `again` would name the wrong one.
        (Some(step), TrainError::Moved { .. }) => format!("its checkpoint of step {step} is whole"),
        (Some(step), TrainError::Diverged { .. }) => format!(
            "the last good checkpoint is of step {step}; to resume from it and skip steps that are not finite: \
             {again} --set training.non_finite=skip"
        ),
        (Some(step), _) => {
            format!("the checkpoint of step {step} is whole; resume from it with: {again}")
        }
    }
}
