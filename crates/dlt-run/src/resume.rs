//! Continues a run from its last checkpoint, or begins it again if there is none yet.

use std::path::{Path, PathBuf};

use dlt_data::Companions;
use dlt_report::numbers::whole;
use dlt_report::shell::quoted;
use dlt_spec::record::{Provenance, ResumeProvenance, SPEC_FILE};
use dlt_spec::spec::{Activations, Products, Schedule, TrainingSpec};
use dlt_spec::{Change, CheckedSpec, Origin};
use dlt_train::{Exchange, ResumePlan, Resumption, RunFolder, Share, Trainer};

use crate::begin::{Site, load, recording, weights};
use crate::observer::{Introduction, Observer};
use crate::pretrained::{Pretrained, has_tokens};
use crate::processes::{agree_on_run, all, first_then_all};
use crate::spec_layers::SpecLayers;
use crate::tokenizer::OfRun;
use crate::{Result, paths, provenance};

/// A run that is about to be continued. Its folder is locked, and nothing in it has changed.
pub struct Resuming {
    run: PathBuf,
    resumption: Resumption,
    tokenizer: OfRun,
    /// What the user changes.
    changed: Vec<Change>,
}

impl Resuming {
    /// Locks a run folder, finds its last checkpoint, and lays the changes over its spec: file,
    /// options and `--set` of `changes`.
    ///
    /// # Errors
    /// If it is no run folder, another process writes into it, none of its checkpoints can be used,
    /// or a change would make this another run.
    pub fn open(run: &Path, changes: &SpecLayers<'_>, observer: &dyn Observer) -> Result<Self> {
        Self::open_among(run, changes, observer, &mut Exchange::alone())
    }

    /// As [`open`](Self::open), in one of the processes of `exchange`. Process 0 locks the folder.
    ///
    /// # Errors
    /// As [`open`](Self::open); in every process if one of them fails.
    pub fn open_among(
        run: &Path,
        changes: &SpecLayers<'_>,
        observer: &dyn Observer,
        exchange: &mut Exchange,
    ) -> Result<Self> {
        let own = Self::open_own(run, changes, observer, exchange.writes());
        all(exchange, "the run folder", own)
    }

    fn open_own(
        run: &Path,
        changes: &SpecLayers<'_>,
        observer: &dyn Observer,
        writes: bool,
    ) -> Result<Self> {
        let mut resumption = Resumption::open_among(run, writes)?;
        resumption.notices().iter().for_each(|notice| observer.remark(notice));

        let origin = Origin::File(run.join(SPEC_FILE).display().to_string());
        let spec = changes.over(resumption.spec(), origin)?;
        let spec = paths::absolute_where_changed(&spec, resumption.spec())?;
        let tokenizer = OfRun::find(run, &spec)?;
        let changed = resumption.change(spec)?;

        Ok(Self { run: run.to_owned(), resumption, tokenizer, changed })
    }

    /// Loads the data, checks everything, and returns the trainer after the last saved step.
    ///
    /// # Errors
    /// If data, tokenizer or recording are no longer those of the run, no steps are left to do, or
    /// the run does not fit into memory. Then nothing in the folder has changed.
    pub fn resume(self, site: &Site<'_>) -> Result<Trainer> {
        self.resume_among(site, &mut Exchange::alone())
    }

    /// As [`resume`](Self::resume), in one of the processes of `exchange`, which the trainer takes
    /// if nothing fails. Their number may differ from that of the run so far.
    ///
    /// # Errors
    /// As [`resume`](Self::resume); in every process if one of them fails, or continues another run.
    pub fn resume_among(self, site: &Site<'_>, exchange: &mut Exchange) -> Result<Trainer> {
        let share = exchange.share();
        let mut ready = first_then_all(exchange, "the data", || self.prepare(site, share))?;
        ready.resumed.processes = provenance::processes(exchange.world());
        let Ready { planned, pretrained, fresh, unkept, resumed } = ready;
        let step = resumed.step.to_string();
        agree_on_run(exchange, &fresh, &[("the checkpoint of step", &step)])?;

        let spec = planned.plan().spec();
        let material = planned.plan().material();
        let weights = weights(pretrained.as_ref(), spec, material, &site.device, site.observer);
        let weights = all(exchange, "the weights", weights)?;
        let lookup = |name: &str| weights.as_ref().map_or(Ok(None), |weights| weights.lookup(name));
        let from: Option<dlt_train::Weights<'_>> =
            if weights.is_some() { Some(&lookup) } else { None };

        let (trainer, notices) = Trainer::resume_among(planned, from, exchange)?;
        notices.iter().for_each(|notice| site.observer.note(notice));

        if let Some(companions) = unkept {
            trainer.folder().keep(&companions)?;
        }

        trainer.folder().note_resumed(fresh, resumed)?;
        Ok(trainer)
    }

    /// Loads the data and checks everything.
    fn prepare(self, site: &Site<'_>, share: Share) -> Result<Ready> {
        let Self { run, resumption, tokenizer, changed } = self;
        let Site { device, device_name, places, program, observer } = site;
        let spec = resumption.spec().clone();
        let recording = recording(&spec)?;

        if has_tokens(&spec) {
            observer.note(&tokenizer.verify(places.hub)?);
        }

        let as_trained = provenance::as_trained(&tokenizer.in_place(&spec)?, &run)?;
        let material = load(&as_trained, *places, *observer)?;
        let step = resumption.step();
        let is_saved = resumption.has_checkpoint();
        // A refused resume leaves the run as it was.
        let planned = resumption.plan_among(share, material, recording.as_ref(), device.clone())?;
        let plan = planned.plan();

        observer.introduce(&Introduction::of(&spec, plan, recording.as_ref(), device_name)?);
        observer.note(&format!("run folder: {}", quoted(&run.to_string_lossy())));
        changed.iter().for_each(|change| observer.note(&format!("changed: {change}")));

        if changed.iter().any(|change| change.key == "training.steps")
            && depends_on_steps(&spec, step)
        {
            observer.note(
                "from here on, learning rate and times of decisions follow the new number of steps",
            );
        }

        observer.note(&if is_saved {
            format!("resuming after step {}", whole(step))
        } else {
            "there is no checkpoint yet: beginning again at step 0".to_owned()
        });

        // A checkpoint has all weights, so the model that the run started from need not exist any
        // more.
        let pretrained =
            if is_saved { None } else { Pretrained::of_spec(&spec, places.hub, *observer)? };
        let fresh = provenance::of(&spec, plan.material(), device_name, program);

        // Earlier versions kept no copy of the tokenizer. `verify` has just confirmed that this is
        // the one of the run. It is read before the folder changes, as it may be gone by now.
        let is_unkept = has_tokens(&spec) && tokenizer.is_unkept();
        let unkept = is_unkept
            .then(|| Companions::named(tokenizer.name(), places.hub, &|_| ()))
            .transpose()?;

        warn_of_other_bits(&run, &fresh, &spec.training);
        let resumed = provenance::resumed(fresh.clone(), step, &changed);
        Ok(Ready { planned, pretrained, fresh, unkept, resumed })
    }
}

/// A run that can be continued, as soon as its weights are read.
struct Ready {
    planned: ResumePlan,
    /// The model that it begins with again, if there is no checkpoint.
    pretrained: Option<Pretrained>,
    /// The provenance of what follows.
    fresh: Provenance,
    /// The tokenizer's files, if the folder has none.
    unkept: Option<Companions>,
    resumed: ResumeProvenance,
}

/// Whether something after `step` follows the number of steps of the whole run: a cosine, a
/// shortened warm-up, or the times of decisions. The steps so far had other values than a run of
/// another length would have had.
fn depends_on_steps(spec: &CheckedSpec, step: usize) -> bool {
    spec.optimizer.schedule == Schedule::Cosine
        || spec.tying.decide_until < 1.0
        || !spec.tying.grow.is_empty()
        || spec.optimizer.warmup_steps > step
}

/// Warns if program, threads or machine differ from those that the run began with: only with the
/// same ones are results equal bit for bit.
fn warn_of_other_bits(run: &Path, now: &Provenance, training: &TrainingSpec) {
    let Ok(then) = RunFolder::read_provenance(run) else { return };
    let engine = |provenance: &Provenance| match (training.activations, training.products) {
        (Activations::F32, Products::F32) => None,
        _ => provenance.host.product_engine.clone(),
    };

    // Earlier builds multiplied bf16 matrices in f32.
    let of_earlier = || "f32".to_owned();
    let [engine_then, engine_now] =
        [&then, now].map(|provenance| engine(provenance).unwrap_or_else(of_earlier));

    for (what, then, now) in [
        ("threads", then.threads.to_string(), now.threads.to_string()),
        ("processor", then.host.cpu, now.host.cpu.clone()),
        ("products of bf16 by", engine_then, engine_now),
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
