//! A disk that fails: at every call of a save, in every way, the last complete checkpoint stays.

use std::cell::Cell;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::rc::Rc;

use dlt_spec::ExitCode;
use dlt_train::Trainer;
use dlt_train::checkpoint::CheckpointFolder;
use dlt_train::disk::{Disk, DiskFile, SystemDisk, UnnamedFile};

use crate::bench::{Bench, finish};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The disk is full, for this call.
    Full,
    /// The disk has become read-only: this call and all after it fail.
    ReadOnly,
    /// A write accepts half of its bytes, and the next one fails.
    Short,
    /// The process ends here: nothing after this reaches the disk, not even buffered bytes.
    Death,
}

/// The system's disk, except for one call.
#[derive(Clone)]
struct FaultyDisk {
    fault: Fault,
    /// Calls that succeed before the failure.
    left: Rc<Cell<usize>>,
    has_failed: Rc<Cell<bool>>,
}

impl FaultyDisk {
    fn new(fault: Fault, left: usize) -> Self {
        Self { fault, left: Rc::new(Cell::new(left)), has_failed: Rc::new(Cell::new(false)) }
    }

    /// Whether this call is to go through.
    fn pass(&self) -> io::Result<()> {
        let error = match self.fault {
            Fault::Full | Fault::Short => io::ErrorKind::StorageFull,
            Fault::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Fault::Death => io::ErrorKind::Other,
        };

        let lasting = matches!(self.fault, Fault::ReadOnly | Fault::Death);
        if self.has_failed.get() {
            return if lasting { Err(error.into()) } else { Ok(()) };
        }

        match self.left.get() {
            0 => {
                self.has_failed.set(true);
                Err(error.into())
            }
            left => {
                self.left.set(left - 1);
                Ok(())
            }
        }
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    file: Box<dyn DiskFile>,
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.pass()?;
        Ok(Box::new(FaultyFile { disk: self.clone(), file: SystemDisk.create(path)? }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.pass().and_then(|()| SystemDisk.create_folder(path))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass().and_then(|()| SystemDisk.link(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass().and_then(|()| SystemDisk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.pass().and_then(|()| SystemDisk.remove(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.pass().and_then(|()| SystemDisk.sync_folder(path))
    }

    fn unnamed(&self, folder: &Path) -> io::Result<Box<dyn UnnamedFile>> {
        self.pass().and_then(|()| SystemDisk.unnamed(folder))
    }
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Small pieces, so that a save makes many calls.
        let piece = &bytes[..bytes.len().min(16 << 10)];
        match self.disk.pass() {
            Err(error) if self.disk.fault == Fault::Short && !piece.is_empty() => {
                self.file.write_all(&piece[..piece.len() / 2])?;
                Err(error)
            }
            passed => passed.and_then(|()| self.file.write(piece)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for FaultyFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.pass()?;
        self.file.seek(to)
    }
}

impl DiskFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.pass()?;
        self.file.sync()
    }
}

const SETTINGS: [&str; 2] = ["training.steps=14", "evaluation.every_steps=4"];

/// A run after nine steps, with a checkpoint of step six and a better model since.
fn begun(bench: &Bench, run: &str) -> Trainer {
    let mut trainer = bench.trainer(run, &SETTINGS, None);
    for step in 1..=9 {
        trainer.advance().expect("it does not diverge").expect("it has not ended");
        if step == 6 {
            trainer.save_checkpoint().expect("saved");
        }
    }

    trainer
}

#[test]
fn law_whatever_call_of_a_save_fails_a_complete_checkpoint_is_left() {
    let bench = Bench::new();
    bench.run("whole", &SETTINGS);

    let whole = bench.outcome("whole");
    let mut calls = 0;

    for fault in [Fault::Full, Fault::ReadOnly, Fault::Short, Fault::Death] {
        for call in 0.. {
            let run = format!("{fault:?}-{call}");
            let mut trainer = begun(&bench, &run);
            let disk = FaultyDisk::new(fault, call);
            let saved = trainer.save_checkpoint_on(&disk);

            if !disk.has_failed.get() {
                saved.expect("nothing failed");
                calls += call;
                break;
            }

            // If a link fails, the file is copied instead, and a leftover need not be removed.
            if let Err(error) = &saved {
                assert_eq!(error.exit_code(), ExitCode::Resources, "{run}: {error}");
                assert!(error.to_string().contains("checkpoint"), "{run}: {error}");
            }

            drop(trainer);
            let found = CheckpointFolder::of(&bench.path(&run)).newest().expect("readable");
            assert!(found.refused.is_empty(), "{run}: {:?}", found.refused);

            let step = found.checkpoint.expect("one is left").step();
            assert!(step == 9 || (step == 6 && saved.is_err()), "{run}: {step}, {saved:?}");

            // Runs are short, but there are many, so only every third is run to its end.
            if call % 3 == 0 {
                let (trainer, _) = bench.resume(&run, &SETTINGS, None);
                assert_eq!(trainer.step(), step);
                finish(trainer);
                bench.outcome(&run).assert_same(&whole, &run);
            }
        }
    }

    assert!(calls > 4 * 8, "{calls} calls");
}

#[test]
fn a_save_can_be_tried_again() {
    let bench = Bench::new();
    let mut trainer = begun(&bench, "a");
    trainer.save_checkpoint_on(&FaultyDisk::new(Fault::Full, 5)).expect_err("full");
    assert_eq!(trainer.last_checkpoint(), Some(6));
    trainer.save_checkpoint().expect("there is room again");
    assert_eq!(trainer.last_checkpoint(), Some(9));

    let leftover = std::fs::read_dir(bench.path("a").join("checkpoint")).expect("there");
    let leftover = leftover.filter(|entry| {
        entry.as_ref().expect("an entry").path().extension() == Some("partial".as_ref())
    });
    assert_eq!(leftover.count(), 0);
}
