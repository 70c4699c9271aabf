//! The words of a run, carried by MPI.

mod carrier;
mod flight;
mod note;
mod peer;
mod report;
mod watch;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dlt_train::{Subject, Transport, TransportError, Words, World};

use crate::error::{ProcessesError, Result};
use crate::launch::Launch;
use carrier::{Carrier, Ends, Job};

/// The shortest limit on silence: signs of life come every second.
const SHORTEST_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks whether the thread still runs.
const LOOK: Duration = Duration::from_secs(1);
/// How long the processes have to meet, if the limit on their silence is not longer.
const MEETING: Duration = Duration::from_secs(60);
/// How long a process that ends after an error of its own takes to tell the others.
const LEAVING: Duration = Duration::from_secs(1);

/// How the processes of a run meet, and what happens if one is lost.
pub struct Options {
    /// After how long without a sign of life a process is lost: 20 s unless there is a reason. A
    /// process that computes or writes gives signs all the time; one that is stopped, frozen or cut
    /// off gives none. At least 2 s, since signs come every second.
    pub limit: Duration,
    /// What [`Launch::found`] says, to be compared with what MPI finds.
    pub launch: Option<Launch>,
    /// Called once, in another thread, if the run cannot continue. The calls that wait get the
    /// error only after it returns. A program prints the message here if it is the one that
    /// speaks, and exits: waiting for the other processes would be in vain.
    pub on_lost: Box<dyn Fn(&Lost) + Send>,
}

/// The end of a run that was not the run's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Which process, on which host, what was exchanged, and what to do.
    pub error: TransportError,
    /// Whether this process is the one to print the message. The others end silently, so that a
    /// terminal shows it once.
    pub speaks: bool,
}

/// The processes of a run that MPI connects, as one of them sees them.
///
/// A background thread owns MPI. It carries the words of all exchanges under way while this process
/// computes, tells the other processes every second that this one runs, and watches them.
///
/// At the end of a run, every process calls [`close`](Self::close). One that drops its `Mpi`
/// instead has failed: the others then end too.
pub struct Mpi {
    world: World,
    /// `None` once it is closed.
    jobs: Option<Sender<Job>>,
    answers: Receiver<Vec<Words>>,
    failure: Arc<OnceLock<TransportError>>,
    turns: Arc<AtomicU64>,
    limit: Duration,
    /// Exchanges that are begun and not finished, oldest first.
    underway: VecDeque<Subject>,
}

impl Mpi {
    /// Starts MPI, and meets the other processes of the run. A process can do it once.
    ///
    /// If MPI itself fails to start, as without a launcher that it knows, it prints why and ends
    /// the process.
    ///
    /// # Errors
    /// - [`ProcessesError::NotStarted`] if MPI was started before in this process, cannot be used
    ///   next to other threads, or the thread for it cannot be made;
    /// - [`ProcessesError::Apart`] if the launcher started another number of processes than MPI
    ///   finds;
    /// - [`ProcessesError::NotMet`] if another process does not come within a minute, or within the
    ///   limit if that is longer. Only an exit ends the process then: MPI waits on.
    pub fn start(mut options: Options) -> Result<Self> {
        options.limit = options.limit.max(SHORTEST_LIMIT);
        let (limit, patience) = (options.limit, options.limit.max(MEETING));
        let (job, jobs) = channel();
        let (answer, answers) = channel();
        let (ready, met) = channel();
        let failure = Arc::new(OnceLock::new());
        let turns = Arc::new(AtomicU64::new(0));
        let ends = Ends { jobs, answers: answer, turns: Arc::clone(&turns) };
        let failed = Arc::clone(&failure);

        let carry = move || {
            let carrier = match Carrier::meet(options, ends) {
                Ok(carrier) => carrier,
                Err(error) => return drop(ready.send(Err(error))),
            };
            if ready.send(Ok(carrier.world())).is_err() {
                return carrier.leave();
            }

            carrier.serve(&failed);
        };
        let thread = std::thread::Builder::new().name("mpi".to_owned());
        thread.spawn(carry).map_err(|error| ProcessesError::NotStarted {
            reason: format!("the thread for it cannot be made: {error}"),
        })?;

        let world = met.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => ProcessesError::NotMet { seconds: patience.as_secs() },
            RecvTimeoutError::Disconnected => ProcessesError::NotStarted {
                reason: "its thread has ended, see the message above".to_owned(),
            },
        })??;
        let underway = VecDeque::new();
        Ok(Self { world, jobs: Some(job), answers, failure, turns, limit, underway })
    }

    /// Ends MPI together with the other processes, once each has called this. It waits for those
    /// that still compute. No exchange may be under way.
    ///
    /// # Errors
    /// [`TransportError`] if a process is lost before that.
    pub fn close(mut self) -> std::result::Result<(), TransportError> {
        self.hand_over(Job::Close)?;
        // The thread sends no answer to this, but drops its end of the channel when it is done.
        let stuck = self.answer().err();
        self.jobs = None;
        self.failure.get().cloned().or(stuck).map_or(Ok(()), Err)
    }

    /// The next answer of the thread, or nothing once it has ended.
    ///
    /// # Errors
    /// Fails if the thread is stuck in a call of MPI for longer than the limit.
    fn answer(&self) -> std::result::Result<Option<Vec<Words>>, TransportError> {
        let (mut turns, mut stuck) = (self.turns.load(Ordering::Relaxed), Duration::ZERO);
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(words) => return Ok(Some(words)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }

            // Looks are counted and no clock is read: while this process is stopped, it makes none.
            let now = self.turns.load(Ordering::Relaxed);
            stuck = if now == turns { stuck + LOOK } else { Duration::ZERO };
            turns = now;
            if stuck >= self.limit {
                return Err(report::stuck(self.underway.front().copied(), stuck));
            }
        }
    }

    fn hand_over(&self, job: Job) -> std::result::Result<(), TransportError> {
        if let Some(error) = self.failure.get() {
            return Err(error.clone());
        }

        let sent = self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok());
        sent.ok_or_else(|| self.ended())
    }

    /// Why the thread has ended.
    fn ended(&self) -> TransportError {
        let error = self.failure.get().cloned();
        error.unwrap_or_else(|| TransportError("the thread that exchanges has ended".to_owned()))
    }
}

impl Transport for Mpi {
    fn world(&self) -> &World {
        &self.world
    }

    fn begin(
        &mut self,
        subject: Subject,
        outgoing: Vec<Words>,
        expected: Vec<usize>,
    ) -> std::result::Result<(), TransportError> {
        let size = self.world.size();
        if outgoing.len() != size || expected.len() != size {
            return Err(TransportError(format!(
                "expected words to and from {size} processes for {subject}, got {} and {}",
                outgoing.len(),
                expected.len()
            )));
        }

        self.hand_over(Job::Begin { subject, outgoing, expected })?;
        self.underway.push_back(subject);
        Ok(())
    }

    fn finish(&mut self) -> std::result::Result<Vec<Words>, TransportError> {
        if self.underway.is_empty() {
            return Err(TransportError("no exchange is under way".to_owned()));
        }

        self.hand_over(Job::Finish)?;
        let words = self.answer()?.ok_or_else(|| self.ended())?;
        self.underway.pop_front();
        Ok(words)
    }

    fn close(self: Box<Self>) -> std::result::Result<(), TransportError> {
        Mpi::close(*self)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if self.jobs.take().is_some() {
            // The thread hears that nothing more comes, and tells the others. It is done when it
            // drops its end of the channel. The process must not wait longer if it hangs.
            while self.answers.recv_timeout(LEAVING).is_ok() {}
        }
    }
}
