//! `dlt train`: one run, from its spec to its result. `dlt finetune` uses the same path.

mod introduction;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use candle_core::Device;
use dlt_data::{Companions, Material, Split, TOKENIZER_FILE};
use dlt_report::shell::quoted;
use dlt_spec::record::{Provenance, SPEC_FILE, STATES_FILE};
use dlt_spec::spec::{Schedule, Size};
use dlt_spec::{CheckedSpec, ExitCode, Origin};
use dlt_state::Recording;
use dlt_train::{Resumption, RunFolder, TrainError, Trainer};

use crate::arguments::TrainTask;
use crate::ending::Ending;
use crate::events::Events;
use crate::failure::{Failure, Result};
use crate::kept::OfRun;
use crate::numbers::whole;
use crate::pretrained::{Pretrained, Weights, has_tokens};
use crate::progress::Progress;
use crate::run_options::RunOptions;
use crate::spec_layers::SpecLayers;
use crate::{
    finetune, hub, interrupt, loading, machine, naming, output, paths, provenance, rehearsal,
};

pub(crate) fn run(task: &TrainTask) -> Result {
    let options = &task.options;
    let progress = Progress::new(options.quiet);
    if let Some(run) = &task.resume {
        return resume(task, run, progress);
    }

    let mut spec_layers = spec_layers(task)?;
    // Without options and --set: the name of the run folder says what differs from this spec.
    let usual = spec_layers.usual()?;
    let wanted = spec_layers.assembled()?;
    let is_from_weights = task.from.is_some() || !wanted.model.start.is_empty();

    spec_layers.over_all = rehearsal::overlays(&wanted, is_from_weights)?;
    let (spec, pretrained) = match &task.from {
        Some(name) => {
            let pretrained = Pretrained::open(name, &progress)?;
            (pretrained.lay(spec_layers, "--from")?, Some(pretrained))
        }
        None => {
            let spec = spec_layers.spec()?;
            let pretrained = Pretrained::of_spec(&spec, &progress)?;
            (spec, pretrained)
        }
    };

    let from = task.from.as_deref().map(finetune::name);
    let folder = naming::folder(&spec, &usual, task.options.method.as_deref(), from.as_deref());
    Beginning { spec, pretrained, options, folder }.carry_out(progress)
}

/// A run that is about to begin, with everything that the command line decides.
pub(crate) struct Beginning<'a> {
    /// Its checked spec.
    pub(crate) spec: CheckedSpec,
    /// The model whose weights it starts with; `None` if it starts from scratch.
    pub(crate) pretrained: Option<Pretrained>,
    /// Machine, output folder and other options that are not in the spec.
    pub(crate) options: &'a RunOptions,
    /// Its folder if `--out` names none; [`naming::free`] adds a number if it is in use.
    pub(crate) folder: PathBuf,
}

impl Beginning<'_> {
    /// Trains to the end and prints the result.
    pub(crate) fn carry_out(self, progress: Progress) -> Result {
        let Self { spec, pretrained, options, folder } = self;
        if let Some(path) = options.out.clone().filter(|out| out.exists()) {
            return Err(TrainError::RunExists { path }.into());
        }

        let (device, device_name) = machine::open(&options.machine)?;
        let recording = recording(&spec)?;
        let material = loading::load(&spec, &mut |loading| progress.loading(loading))?;

        // Everything that can be refused is checked before the folder is made, so that a refused
        // start leaves nothing behind.
        Trainer::check(&spec, &material, recording.as_ref(), &device)?;
        let weights = weights(pretrained.as_ref(), &spec, &material, &device, &progress)?;
        let lookup = |name: &str| weights.as_ref().map_or(Ok(None), |weights| weights.lookup(name));
        let from: Option<dlt_train::Weights<'_>> =
            if weights.is_some() { Some(&lookup) } else { None };

        introduction::introduce(&progress, &spec, &material, recording.as_ref(), &device_name)?;
        let companions = companions(&spec, pretrained.as_ref(), &material)?;
        let spec = paths::absolute(&spec)?;
        let provenance = provenance::of(&spec, &material, &device_name);
        let folder = create(options.out.as_deref(), &folder, &spec, &provenance, &companions)?;
        let held = folder.held().clone();

        progress.note(&format!("run folder: {}", quoted(&folder.path().to_string_lossy())));
        let trainer =
            Trainer::new(spec.clone(), material, recording.as_ref(), from, folder, device)
                // Memory or weights that do not fit are found only here, after the folder was made.
                // A run that never began must leave nothing behind.
                .inspect_err(|_| held.remove())?;

        // The model holds its weights now; the source would only take memory during training.
        drop(weights);
        drop(pretrained);

        let events = Events::open(trainer.folder(), options.tensorboard);
        carry_out(trainer, &spec, progress, events)
    }
}

/// Makes the folder `out`, or else the first free one of the names that begin with `folder`.
fn create(
    out: Option<&Path>,
    folder: &Path,
    spec: &CheckedSpec,
    provenance: &Provenance,
    companions: &Companions,
) -> Result<RunFolder> {
    let create = |path: &Path| {
        RunFolder::create_with(path, spec, provenance, |folder| folder.keep(companions))
    };
    if let Some(out) = out {
        return Ok(create(out)?);
    }

    loop {
        match create(&naming::free(folder)) {
            // Another run has made this folder since it was seen to be free: try the next name.
            Err(TrainError::RunExists { .. }) => {}
            made => return Ok(made?),
        }
    }
}

/// The files that a run keeps next to its weights: the tokenizer that it is trained with, and the
/// files that belong to the model that it starts from.
///
/// # Errors
/// If the tokenizer's file has changed since the text was tokenized.
fn companions(
    spec: &CheckedSpec,
    pretrained: Option<&Pretrained>,
    material: &Material,
) -> Result<Companions> {
    if !has_tokens(spec) {
        return Ok(pretrained.map(|pretrained| pretrained.companions.clone()).unwrap_or_default());
    }

    let with_own_tokenizer =
        pretrained.filter(|pretrained| pretrained.tokenizer.as_ref() == Some(&spec.data.tokenizer));
    let mut companions = match with_own_tokenizer
        .filter(|pretrained| pretrained.companions.get(TOKENIZER_FILE).is_some())
    {
        Some(pretrained) => pretrained.companions.clone(),
        None => Companions::named(&spec.data.tokenizer, hub::config()?.as_ref(), &|_| ())?,
    };

    if let Some(pretrained) = pretrained {
        let others = pretrained.companions.clone().without_tokenizer();
        // With another tokenizer, the token ids in the model's files mean other tokens.
        let is_own = with_own_tokenizer.is_some();
        companions.add(if is_own { others } else { others.without_ids() });
    }

    let trained_with = &material.provenance().tokenizer;
    match companions.tokenizer_id() {
        Some(kept) if kept != *trained_with => {
            let name = &spec.data.tokenizer;
            let message = format!(
                "{name} changed while the text was read: it was {trained_with}, and is now {kept}"
            );
            Err(Failure::refused(ExitCode::BadData, message))
        }
        _ => Ok(companions),
    }
}

/// Opens the weights of the model that a run starts from, and says which parameters are drawn at
/// random instead.
fn weights<'a>(
    pretrained: Option<&'a Pretrained>,
    spec: &CheckedSpec,
    material: &Material,
    device: &Device,
    progress: &Progress,
) -> Result<Option<Weights<'a>>> {
    let Some(pretrained) = pretrained else { return Ok(None) };
    let weights = pretrained.weights(spec, material.extents(), device)?;
    let drawn = match weights.drawn() {
        [] => String::new(),
        drawn => format!("; new and drawn at random: {}", drawn.join(", ")),
    };

    progress.note(&format!("weights: {}{drawn}", pretrained.name));
    Ok(Some(weights))
}

/// Continues a run from its last checkpoint, or begins it again if there is none yet.
fn resume(task: &TrainTask, run: &Path, progress: Progress) -> Result {
    let mut resumption = Resumption::open(run)?;
    resumption.notices().iter().for_each(|notice| output::note(notice));

    let origin = Origin::File(run.join(SPEC_FILE).display().to_string());
    let spec = spec_layers(task)?.over(resumption.spec(), origin)?;
    let spec = paths::absolute_where_changed(&spec, resumption.spec())?;
    let tokenizer = OfRun::find(run, &spec)?;
    let changed = resumption.change(spec.clone())?;
    let (device, device_name) = machine::open(&task.options.machine)?;

    let recording = recording(&spec)?;
    if has_tokens(&spec) {
        progress.note(&tokenizer.verify()?);
    }

    let as_trained = provenance::as_trained(&tokenizer.in_place(&spec)?, run)?;
    let material = loading::load(&as_trained, &mut |loading| progress.loading(loading))?;
    // Nothing in the folder is changed before this has passed: a refused resume leaves the run as it
    // was.
    resumption.check(&material, recording.as_ref(), steps(&spec, &material), &device)?;

    let step = resumption.step();
    let is_saved = resumption.has_checkpoint();
    introduction::introduce(&progress, &spec, &material, recording.as_ref(), &device_name)?;
    progress.note(&format!("run folder: {}", quoted(&run.to_string_lossy())));
    changed.iter().for_each(|change| progress.note(&format!("changed: {change}")));

    // Cosine, a shortened warm-up and the times of decisions depend on the number of steps. The steps
    // so far had other values than a run of the new length would have had.
    let depends_on_steps = spec.optimizer.schedule == Schedule::Cosine
        || spec.tying.decide_until < 1.0
        || !spec.tying.grow.is_empty()
        || spec.optimizer.warmup_steps > resumption.step();

    if depends_on_steps && changed.iter().any(|change| change.key == "training.steps") {
        progress.note(
            "from here on, learning rate and times of decisions follow the new number of steps",
        );
    }

    progress.note(&if is_saved {
        format!("resuming after step {}", whole(step))
    } else {
        "there is no checkpoint yet: beginning again at step 0".to_owned()
    });

    // A checkpoint has all weights, so the model that the run started from need not exist any more.
    let pretrained = if is_saved { None } else { Pretrained::of_spec(&spec, &progress)? };
    let weights = weights(pretrained.as_ref(), &spec, &material, &device, &progress)?;
    let lookup = |name: &str| weights.as_ref().map_or(Ok(None), |weights| weights.lookup(name));
    let from: Option<dlt_train::Weights<'_>> = if weights.is_some() { Some(&lookup) } else { None };
    let fresh = provenance::of(&spec, &material, &device_name);

    warn_of_other_bits(run, &fresh);
    let (trainer, notices) =
        Trainer::resume(resumption, material, recording.as_ref(), from, device)?;
    drop(weights);
    notices.iter().for_each(|notice| progress.note(notice));

    if has_tokens(&spec) && tokenizer.is_unkept() {
        // Earlier versions kept no copy of the tokenizer. `verify` has just confirmed that this is
        // the one of the run.
        trainer.folder().keep(&Companions::named(
            tokenizer.name(),
            hub::config()?.as_ref(),
            &|_| (),
        )?)?;
    }

    trainer.folder().note_resumed(fresh.clone(), provenance::resumed(fresh, step, &changed))?;
    let events = Events::open(trainer.folder(), task.options.tensorboard);
    carry_out(trainer, &spec, progress, events)
}

/// Warns if program, threads or machine differ from those that the run began with: only with the
/// same ones are results equal bit for bit.
fn warn_of_other_bits(run: &Path, now: &Provenance) {
    let Ok(then) = RunFolder::read_provenance(run) else { return };

    for (what, then, now) in [
        ("threads", then.threads.to_string(), now.threads.to_string()),
        ("processor", then.host.cpu, now.host.cpu.clone()),
        ("device", then.device, now.device.clone()),
        ("version", then.version, now.version.clone()),
        ("revision", then.revision.unwrap_or_default(), now.revision.clone().unwrap_or_default()),
    ] {
        if then != now {
            tracing::warn!(
                "the run began with {what} {then}, and now has {now}: last bits may differ"
            );
        }
    }
}

/// Trains to the end, evaluates the best model and prints the result.
fn carry_out(
    mut trainer: Trainer,
    spec: &CheckedSpec,
    mut progress: Progress,
    mut events: Events,
) -> Result {
    let out = trainer.folder().path().to_owned();
    progress.begin(trainer.step(), trainer.steps(), spec);

    // Shared: the trainer shows evaluations through it, and `advance` shows steps.
    let progress = Rc::new(RefCell::new(progress));
    let watched = Rc::clone(&progress);
    trainer
        .watch_evaluations(Box::new(move |evaluating| watched.borrow_mut().evaluating(evaluating)));

    let trainer = advance(trainer, &progress, &mut events)?;
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
    let summary = summary?;
    progress.borrow().end();

    let ending = Ending { spec, summary: &summary, state: &state, binding: &binding, run: &out };
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

/// Number of steps of the whole run.
fn steps(spec: &CheckedSpec, material: &Material) -> usize {
    spec.steps(material.examples(Split::Train).count())
}

/// The recording that a replaying policy follows, if the spec names one. If the path is a run
/// folder, its own recording is used.
fn recording(spec: &CheckedSpec) -> Result<Option<Recording>> {
    if spec.agent.recording.is_empty() {
        return Ok(None);
    }

    let path = Path::new(&spec.agent.recording);
    let file = if path.is_dir() { path.join(STATES_FILE) } else { path.to_owned() };
    if !file.is_file() {
        let message = format!("agent.recording: no recording of decisions at {}", file.display());
        return Err(Failure::refused(ExitCode::BadData, message));
    }

    Ok(Some(RunFolder::read_recording(&file)?))
}

/// Makes steps until all are done or the user interrupts the run.
fn advance(
    mut trainer: Trainer,
    progress: &RefCell<Progress>,
    events: &mut Events,
) -> Result<Trainer> {
    interrupt::watch();
    let again =
        format!("dlt train --resume {}", quoted(&trainer.folder().path().to_string_lossy()));

    loop {
        let advanced = trainer.advance();
        events.follow();

        let report = match advanced {
            Ok(Some(report)) => report,
            Ok(None) => return Ok(trainer),
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
        if interrupt::is_asked() {
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
