//! Moments at rest: training with them equals training without, bit for bit, and memory holds no
//! more than it must.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use dlt_kernels::{Gelu, Kernels};
use dlt_models::backward::TrainingPass;
use dlt_models::binding::{Binding, Change, Rules, Settlement};
use dlt_models::{Batch, Model};
use dlt_spec::spec::{
    Checkpointing, FirstTie, Gradient, Merge, Moments, Retied, Tie, TyingSpec, Untie,
};
use dlt_spec::{ExitCode, Spec};
use dlt_state::State;
use dlt_train::checkpoint::CheckpointFolder;
use dlt_train::disk::{Disk, DiskFile, SystemDisk, UnnamedFile};
use dlt_train::optimizer::resting::RestingPlace;
use dlt_train::optimizer::{Optimizer, ParameterMoments};
use dlt_train::{TrainError, Trainer};

use crate::bench::{Bench, finish};
use crate::fixtures::{adamw, gpt2};

/// A model of four layers, its optimizer, and its current state.
struct Training {
    model: Model,
    optimizer: Optimizer,
    state: State,
}

impl Training {
    fn new(place: Option<RestingPlace>, untie: Untie, gradient: Gradient) -> Self {
        let retied = Retied::Follow;
        let first_tie = FirstTie::Replicate;
        let rules =
            Rules { tie: Tie::Share, gradient, untie, retied, first_tie, merge: Merge::Overwrite };
        let architecture = Arc::new(gpt2([4, 12, 3, 20, 8, 31], Gelu::Tanh));
        let model =
            Model::new(architecture, Binding::frozen(4), rules, Kernels::Fused, 7, &Device::Cpu)
                .expect("it fits");

        let tying = TyingSpec { moments: Moments::Resume, ..Spec::default().tying };
        let optimizer = Optimizer::new(&adamw(), &tying);
        let optimizer = match place {
            Some(place) => optimizer.resting_in(place),
            None => optimizer,
        };

        Self { model, optimizer, state: State::all_tied(4) }
    }

    fn decide(&mut self, owners: [usize; 4]) -> Settlement {
        let next = State::new(owners.to_vec()).expect("a state");
        let change =
            Change { from: &self.state, to: &next, action: next.as_action(), visited: None };
        let settlement = self.model.apply(&change).expect("applied");
        self.state = next;
        settlement
    }

    fn step(&mut self) {
        let ids: Vec<u32> = (0..25).map(|i| (i * i * 7 + i * 3 + 5) % 31).collect();
        let batch = Batch::next_token(&ids[..24], &ids[1..], 3);
        let pass = TrainingPass {
            checkpointing: Checkpointing::None,
            dropout: None,
            scale: 1.0 / 24.0,
            sketch: None,
        };

        self.optimizer.prepare(&self.model).expect("there is memory");
        let (_, gradients) = self.model.gradients(&batch, &pass).expect("a pass");
        let norm = gradients.norm().expect("a norm");

        self.optimizer.step(&self.model, gradients, norm, 1e-2).expect("a step");
    }

    fn weights(&self) -> Vec<(String, Vec<u32>)> {
        let tensors = self.model.named_tensors().expect("weights");
        tensors.into_iter().map(|(name, tensor)| (name, bits(&tensor))).collect()
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("f32");
    values.into_iter().map(f32::to_bits).collect()
}

fn moment_bits(moments: &[ParameterMoments]) -> Vec<(Vec<u32>, Vec<u32>, u64)> {
    moments
        .iter()
        .map(|moments| (bits(&moments.first), bits(&moments.second), moments.step))
        .collect()
}

/// Layers become independent, are tied, and become independent again, two of them twice.
const SCRIPT: [[usize; 4]; 8] = [
    [0, 1, 2, 3],
    [0, 0, 2, 3],
    [0, 0, 0, 0],
    [0, 1, 0, 3],
    [0, 1, 1, 1],
    [0, 0, 2, 0],
    [0, 1, 2, 3],
    [0, 1, 0, 1],
];

#[test]
fn law_moments_at_rest_change_no_bit_and_take_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    for untie in [Untie::Copy, Untie::Alias] {
        for gradient in [Gradient::Sum, Gradient::Owner] {
            let place = RestingPlace::on(Arc::new(SystemDisk), folder.path(), 1);
            let mut resting = Training::new(Some(place), untie, gradient);
            let mut held = Training::new(None, untie, gradient);
            let mut rested = 0;

            for owners in SCRIPT {
                for training in [&mut resting, &mut held] {
                    let settlement = training.decide(owners);
                    training.optimizer.settle(&settlement).expect("settled");
                    training.step();
                    training.step();
                }

                assert!(resting.weights() == held.weights(), "{untie:?} {gradient:?} {owners:?}");
                let independent: Vec<_> =
                    (0..4).filter(|&i| resting.model.binding().trains_alone(i)).collect();
                assert_eq!(
                    resting.optimizer.slots().keys().copied().collect::<Vec<_>>(),
                    independent
                );

                let parameters = resting.model.n_shared_parameters()
                    + independent.len() * resting.model.n_block_parameters();
                assert_eq!(resting.optimizer.bytes(), 2 * 4 * parameters, "{owners:?}");

                let at_rest = resting
                    .optimizer
                    .resting()
                    .values()
                    .map(|resting| resting.bytes())
                    .sum::<usize>();

                assert_eq!(
                    resting.optimizer.bytes() + at_rest,
                    held.optimizer.bytes(),
                    "{owners:?}"
                );
                rested += at_rest;
            }

            assert!(rested > 0, "nothing rested");
            for (slot, moments) in held.optimizer.slots() {
                let expected = moment_bits(moments);
                let got = match resting.optimizer.resting().get(slot) {
                    Some(resting) => moment_bits(&resting.wake().expect("it reads")),
                    None => moment_bits(&resting.optimizer.slots()[slot]),
                };

                assert!(got == expected, "{untie:?} {gradient:?}: moments of layer {slot}");
            }
        }
    }

    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "files at rest have no names");
}

#[test]
fn small_moments_stay_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut training =
        Training::new(Some(RestingPlace::in_folder(folder.path())), Untie::Copy, Gradient::Sum);
    for owners in SCRIPT {
        let settlement = training.decide(owners);
        training.optimizer.settle(&settlement).expect("settled");
        training.step();
    }

    assert!(training.optimizer.resting().is_empty());
    assert_eq!(training.optimizer.slots().len(), 4);
}

/// Moments of a block are 1.2 MB, above the size from which on they rest on disk.
const LARGE: [&str; 8] = [
    "model.width=112",
    "tying.moments=resume",
    "tying.decide_every=2",
    "agent.policy=random",
    "optimizer.learning_rate=0.001",
    "training.steps=20",
    "evaluation.every_steps=10",
    "checkpoint.keep_last=100",
];

/// Open files of this process without a name, in a folder.
#[cfg(target_os = "linux")]
fn unnamed_files(folder: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux lists them");
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| {
            target.starts_with(folder) && target.to_string_lossy().ends_with(" (deleted)")
        })
        .count()
}

/// Layers that a checkpoint holds moments of, and those among them that are not independent.
fn saved_moments(path: &Path) -> (usize, usize) {
    let bytes = std::fs::read(path).expect("there");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = header.metadata().clone().expect("there");
    let independent: Vec<usize> =
        metadata["independent"].split(',').map(|layer| layer.parse().expect("a layer")).collect();

    let saved = |layer: &usize| {
        let name = format!("moments/second/transformer.h.{layer}.mlp.c_fc.weight");
        tensors.names().iter().any(|&found| found == name)
    };

    let saved: Vec<_> = (0..4).filter(saved).collect();
    (saved.len(), saved.iter().filter(|layer| !independent.contains(layer)).count())
}

#[test]
fn law_a_resumed_run_with_moments_at_rest_is_the_run_left_alone() {
    let bench = Bench::new();
    bench.run("whole", &LARGE);

    let whole = bench.outcome("whole");
    let mut trainer = bench.trainer("stopped", &LARGE, None);
    let advance = |trainer: &mut Trainer| {
        trainer.advance().expect("it does not diverge").expect("there is more")
    };
    let mut at_rest = 0;

    for stop in [5, 8, 11, 14, 17] {
        while trainer.step() < stop {
            advance(&mut trainer);
        }

        trainer.save_checkpoint().expect("saved");
        let (_, path) = &CheckpointFolder::of(&bench.path("stopped")).list().expect("readable")[0];
        let (saved, resting) = saved_moments(path);

        assert!(saved >= resting);
        #[cfg(target_os = "linux")]
        assert_eq!(unnamed_files(&bench.path("stopped")), resting, "step {stop}");
        at_rest += resting;
        advance(&mut trainer);
        drop(trainer);
        (trainer, _) = bench.resume("stopped", &LARGE, None);
        assert_eq!(trainer.step(), stop);
        #[cfg(target_os = "linux")]
        assert_eq!(unnamed_files(&bench.path("stopped")), resting, "resumed at step {stop}");
    }

    assert!(at_rest > 2, "{at_rest} layers rested");
    finish(trainer);
    bench.outcome("stopped").assert_same(&whole, "resumed with moments at rest");
}

/// The system's disk, except that calls on files without names fail from some call on, or that it
/// forgets a byte.
#[derive(Clone)]
struct WornDisk {
    /// Calls that succeed before the first failure.
    left: Arc<AtomicUsize>,
    forgets: bool,
}

impl WornDisk {
    fn new(left: usize, forgets: bool) -> Self {
        Self { left: Arc::new(AtomicUsize::new(left)), forgets }
    }

    fn place(&self, folder: &Path) -> RestingPlace {
        RestingPlace::on(Arc::new(self.clone()), folder, 1)
    }

    fn pass(&self) -> io::Result<()> {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

struct WornFile {
    disk: WornDisk,
    file: Box<dyn UnnamedFile>,
}

impl Read for WornFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.disk.pass()?;
        let read = self.file.read(into)?;
        if let (true, Some(byte)) = (self.disk.forgets, into[..read].first_mut()) {
            *byte ^= 1;
        }

        Ok(read)
    }
}

impl Write for WornFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.pass()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.pass()?;
        self.file.flush()
    }
}

impl Seek for WornFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.pass()?;
        self.file.seek(to)
    }
}

impl UnnamedFile for WornFile {}

impl Disk for WornDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        SystemDisk.create(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_folder(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_folder(path)
    }

    fn unnamed(&self, folder: &Path) -> io::Result<Box<dyn UnnamedFile>> {
        self.pass()?;
        Ok(Box::new(WornFile { disk: self.clone(), file: SystemDisk.unnamed(folder)? }))
    }
}

/// Trains layer 2 by itself, then puts its moments to rest.
fn laid_down(place: RestingPlace) -> (Training, dlt_train::Result<()>) {
    let mut training = Training::new(Some(place), Untie::Copy, Gradient::Sum);
    let settlement = training.decide([0, 0, 2, 0]);
    training.optimizer.settle(&settlement).expect("nothing rests yet");
    training.step();

    let settlement = training.decide([0, 0, 0, 0]);
    let settled = training.optimizer.settle(&settlement);
    (training, settled)
}

fn check_message(error: &TrainError, action: &str, folder: &Path) {
    let text = error.to_string();
    assert_eq!(error.exit_code(), ExitCode::Resources, "{text}");
    for part in [action, "layer 2", &folder.display().to_string(), "dlt train --resume"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn rejects_a_disk_that_fails_at_any_call_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut failed = 0;

    for call in 0.. {
        let (training, settled) = laid_down(WornDisk::new(call, false).place(folder.path()));
        let Err(error) = settled else { break };
        failed += 1;
        check_message(&error, "cannot write", folder.path());
        assert!(training.optimizer.slots().contains_key(&2), "call {call}: the moments are gone");
        assert!(training.optimizer.resting().is_empty());
    }

    assert!(failed > 24, "{failed} calls");
    let missing = folder.path().join("gone");
    let (_, settled) = laid_down(RestingPlace::on(Arc::new(SystemDisk), &missing, 1));

    check_message(&settled.expect_err("no such folder"), "cannot write", &missing);
}

#[test]
fn rejects_moments_that_do_not_read_as_they_were_written() {
    let folder = tempfile::tempdir().expect("a folder");

    for (forgets, reason) in [(false, "storage"), (true, "differ from those written")] {
        let disk = WornDisk::new(usize::MAX, forgets);
        let (mut training, settled) = laid_down(disk.place(folder.path()));
        settled.expect("the disk writes");

        if !forgets {
            disk.left.store(5, Ordering::Relaxed);
        }

        let settlement = training.decide([0, 0, 2, 0]);
        let error = training.optimizer.settle(&settlement).expect_err("the disk does not read");
        check_message(&error, "cannot read", folder.path());
        assert!(error.to_string().contains(reason), "{error}");
        assert!(training.optimizer.resting().contains_key(&2), "they are still there");
    }
}
