//! What the processes of one run exchange. A run of one process is the trivial case: it exchanges
//! nothing, and takes the same way through the loop.
//!
//! Each process has the whole model and the whole agent. It computes its shards of every batch, and
//! owns its share of each parameter: it sums the gradients of that share, holds its moments, and
//! makes its AdamW step. All sums are made here, in a fixed order, and never by the engine that
//! carries the numbers. So the bits of a run depend on `training.shards`, not on the number of
//! processes.

mod flight;
mod share;
mod transport;
mod words;

use std::collections::VecDeque;
use std::fmt::Display;

use dlt_agent::{Decision, Visit};
use dlt_spec::ExitCode;

use crate::clock::Clock;
use crate::evaluation::{Evaluation, Losses};
use crate::{Result, TrainError};
use flight::Flight;
pub(crate) use flight::{Key, Touched};
pub use share::Share;
pub use transport::{Subject, Threads, Transport, TransportError, Words, World};

/// The exchange between the processes of a run.
///
/// All processes make the same calls in the same order. Every call leaves the same bits in every
/// process, unless it says otherwise.
///
/// # Errors
/// [`TrainError::Exchange`] if a process is gone, silent for too long, or computes something else.
/// The run folder is then as after a kill.
pub struct Exchange {
    transport: Option<Box<dyn Transport>>,
    world: World,
    /// Training steps done, for messages.
    step: usize,
    /// Exchanges of gradients and weights that are under way, oldest first.
    flights: VecDeque<Flight>,
    traffic: Traffic,
    /// Whether all processes know that the run has failed.
    has_failed: bool,
}

/// What a process has exchanged so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Bytes that it has sent to other processes.
    pub sent_bytes: u64,
    /// Seconds that it has waited for words of other processes.
    pub waited_s: f64,
}

impl Default for Exchange {
    fn default() -> Self {
        Self::alone()
    }
}

impl Exchange {
    /// The exchange of a run of one process.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            transport: None,
            world: World::alone(),
            step: 0,
            flights: VecDeque::new(),
            traffic: Traffic::default(),
            has_failed: false,
        }
    }

    /// The exchange over a transport.
    #[must_use]
    pub fn over(transport: Box<dyn Transport>) -> Self {
        let world = transport.world().clone();
        Self { transport: Some(transport), world, ..Self::alone() }
    }

    /// The processes.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The share of this process.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { rank: self.world.rank, size: self.world.size() }
    }

    /// Whether this process writes the run folder and reports progress: process 0 alone does.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.world.rank == 0
    }

    /// What this process has exchanged so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// A process as messages name it.
    #[must_use]
    pub fn name_of(&self, rank: usize) -> String {
        format!("process {rank} on {}", self.world.hosts[rank])
    }

    /// Ends the exchange in order, once every process has called this. An exchange that is dropped
    /// instead has failed, and ends the other processes.
    ///
    /// # Errors
    /// As this type.
    pub fn close(self) -> Result<()> {
        self.transport.map_or(Ok(()), |transport| Ok(transport.close()?))
    }

    /// Returns what this process has made, once every process has made its own. `code` gives the
    /// exit code of an error.
    ///
    /// # Errors
    /// The error of this process, if all processes have the same one. Otherwise, in every process,
    /// [`TrainError::Process`] about the first one that failed. [`has_failed`](Self::has_failed) is
    /// true from then on.
    pub fn all<T, E: Display + From<TrainError>>(
        &mut self,
        what: &'static str,
        own: std::result::Result<T, E>,
        code: impl Fn(&E) -> ExitCode,
    ) -> std::result::Result<T, E> {
        let said = match &own {
            Ok(_) => String::new(),
            Err(error) => format!("{} {error}", code(error).number()),
        };

        let said = self.texts(what, &said)?;
        let failed = said.iter().enumerate().find_map(|(rank, said)| {
            let (code, message) = said.split_once(' ')?;
            Some((rank, ExitCode::from_number(code.parse().ok()?)?, message.to_owned()))
        });
        let Some((rank, code, message)) = failed else { return own };

        self.has_failed = true;
        if own.is_err() && said.iter().all(|other| *other == said[0]) {
            return own;
        }
        Err(TrainError::Process { process: self.name_of(rank), message, code }.into())
    }

    /// Whether [`all`](Self::all) has failed, so that every process knows that the run ends. They
    /// can then [`close`](Self::close) the exchange in order.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Says that messages are about what follows `step` training steps.
    pub(crate) fn at(&mut self, step: usize) {
        self.step = step;
    }

    /// What each process says, by rank. Every process may say something of another length.
    ///
    /// # Errors
    /// As this type.
    pub(crate) fn gather(&mut self, what: &'static str, own: Words) -> Result<Vec<Words>> {
        if self.share().is_whole() {
            return Ok(vec![own]);
        }

        let size = self.world.size();
        let to_all = |words: &Words| vec![words.clone(); size];
        let mut length = Words::new();
        words::push_u64(&mut length, own.len() as u64);
        self.begin(what, to_all(&length), vec![2; size])?;

        let lengths = self.finish()?;
        let length = |words: &Words| words::Reader(words).u64().unwrap_or_default() as usize;
        self.begin(what, to_all(&own), lengths.iter().map(length).collect())?;

        let mut said = self.finish()?;
        said[self.world.rank] = own;
        Ok(said)
    }

    /// A text that each process says, by rank.
    ///
    /// # Errors
    /// As this type.
    pub fn texts(&mut self, what: &'static str, own: &str) -> Result<Vec<String>> {
        let said = self.gather(what, words::of_text(own))?;
        Ok(said.iter().map(|words| words::to_text(words)).collect())
    }

    /// What process 0 says. What the others say does not count.
    ///
    /// # Errors
    /// As this type.
    pub(crate) fn of_first(&mut self, what: &'static str, own: bool) -> Result<bool> {
        Ok(self.flags(what, own)?[0])
    }

    /// Whether any process says yes.
    ///
    /// # Errors
    /// As this type.
    pub fn any(&mut self, what: &'static str, own: bool) -> Result<bool> {
        Ok(self.flags(what, own)?.contains(&true))
    }

    fn flags(&mut self, what: &'static str, own: bool) -> Result<Vec<bool>> {
        if self.share().is_whole() {
            return Ok(vec![own]);
        }

        let size = self.world.size();
        self.begin(what, vec![vec![u32::from(own)]; size], vec![1; size])?;
        let mut said: Vec<bool> =
            self.finish()?.iter().map(|words| words.first() == Some(&1)).collect();
        said[self.world.rank] = own;
        Ok(said)
    }

    /// Returns once every process has called it.
    ///
    /// # Errors
    /// As this type.
    pub fn meet(&mut self, what: &'static str) -> Result<()> {
        self.flags(what, true).map(drop)
    }

    /// The evaluation of what all processes have computed. Their losses are added one by one in the
    /// order of the examples, as one process would add them.
    ///
    /// # Errors
    /// As this type.
    pub(crate) fn losses(&mut self, own: Losses) -> Result<Evaluation> {
        if self.share().is_whole() {
            return Ok(own.total());
        }

        let mut all = Losses::default();
        for (rank, numbers) in self.numbers("losses", &own.to_numbers())?.iter().enumerate() {
            all.append(Losses::from_numbers(numbers).ok_or_else(|| {
                let name = self.name_of(rank);
                TrainError::Exchange(TransportError(format!("{name} has sent no losses")))
            })?);
        }
        Ok(all.total())
    }

    /// Checks that the decision of this process, after `step` training steps, is that of process 0:
    /// the same action, the same state.
    ///
    /// # Errors
    /// As this type; also if a decision differs, because the agents then no longer agree.
    pub(crate) fn decision(&mut self, own: Decision) -> Result<Decision> {
        let mut text = format!("{:?} {:?}", own.action.values(), own.state.owners());
        if let Visit::Layer(layer) = own.visit {
            text += &format!(" at layer {layer}");
        }

        let said = self.texts("decisions", &text)?;
        match said.iter().position(|other| *other != said[0]) {
            None => Ok(own),
            Some(rank) => Err(TrainError::Exchange(TransportError(format!(
                "{} decides {} after step {}, process 0 decides {}: their agents no longer agree",
                self.name_of(rank),
                said[rank],
                self.step,
                said[0],
            )))),
        }
    }

    /// The numbers of every process together, by rank.
    ///
    /// # Errors
    /// As this type.
    pub(crate) fn numbers(&mut self, what: &'static str, own: &[f64]) -> Result<Vec<Vec<f64>>> {
        let mut words = Words::with_capacity(2 * own.len());
        own.iter().for_each(|&number| words::push_f64(&mut words, number));

        let said = self.gather(what, words)?;
        let read = |words: &Words| {
            let mut reader = words::Reader(words);
            (0..words.len() / 2).map(|_| reader.f64()).collect::<std::result::Result<_, _>>()
        };
        let numbers: std::result::Result<_, TransportError> = said.iter().map(read).collect();
        Ok(numbers?)
    }

    fn begin(
        &mut self,
        what: &'static str,
        mut outgoing: Vec<Words>,
        mut expected: Vec<usize>,
    ) -> Result<()> {
        let own = self.world.rank;
        outgoing[own] = Words::new();
        expected[own] = 0;

        let words: usize = outgoing.iter().map(Vec::len).sum();
        self.traffic.sent_bytes += (words * size_of::<u32>()) as u64;

        let subject = Subject { what, step: self.step };
        match &mut self.transport {
            Some(transport) => Ok(transport.begin(subject, outgoing, expected)?),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<Vec<Words>> {
        let started = Clock::start();
        let words = match &mut self.transport {
            Some(transport) => transport.finish()?,
            None => vec![Words::new()],
        };
        self.traffic.waited_s += started.elapsed_s();
        Ok(words)
    }
}
