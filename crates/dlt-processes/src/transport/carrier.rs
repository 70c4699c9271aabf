//! The thread that owns MPI. It alone calls it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dlt_train::{Subject, TransportError, Words, World};
use mpi::Threading;
use mpi::traits::{Communicator, CommunicatorCollectives};

use super::flight::{Flight, Kind, Link, Refusal};
use super::note::{Loss, Note, Why};
use super::peer::{Peer, speaker};
use super::report::{self, Place};
use super::watch::Watch;
use super::{Lost, Options};
use crate::error::{ProcessesError, Result};

/// Between two looks at messages while this process computes: rare enough to leave it the core.
const AT_WORK: Duration = Duration::from_micros(200);
/// Between two looks while nothing is under way.
const AT_REST: Duration = Duration::from_millis(10);
/// Looks at messages before the thread sleeps again. Libraries copy a large message in parts, some
/// at each look.
const LOOKS: usize = 8;

/// How long a process that notices a loss listens whether another has reported it.
const SETTLING: Duration = Duration::from_millis(30);
/// How long its last notes have to leave.
const SENDING: Duration = Duration::from_millis(20);
/// How long a process that does not report waits for the one that does: if it ended first, the
/// launcher would end the other, maybe before its message is out.
const DEFERRING: Duration = Duration::from_millis(700);
/// The same, for a reporting process on another host, whose end cannot be seen.
const DEFERRING_FAR: Duration = Duration::from_millis(300);

/// What the thread is to do. No more jobs without a `Close` means that the process has failed.
pub(super) enum Job {
    Begin {
        subject: Subject,
        outgoing: Vec<Words>,
        expected: Vec<usize>,
    },
    /// The process waits for the oldest exchange.
    Finish,
    Close,
}

/// The thread's ends of what it shares with the rest of the process.
pub(super) struct Ends {
    pub(super) jobs: Receiver<Job>,
    pub(super) answers: Sender<Vec<Words>>,
    /// Grows while the thread runs. A call of MPI that does not return stops it.
    pub(super) turns: Arc<AtomicU64>,
}

/// Why the thread stops.
enum Stop {
    /// All processes have closed.
    Closed,
    /// This process ends without having closed.
    Leaving,
    /// Others are lost, as this process or another has noticed.
    Lost(Loss),
    /// Another process ends after an error of its own.
    Left(usize),
    /// MPI failed between this process and another.
    Refused(usize, Refusal),
}

/// An exchange under way.
struct Exchange {
    subject: Subject,
    sent: Vec<(usize, Flight)>,
    coming: Vec<(usize, Flight)>,
    /// What has come, by rank.
    words: Vec<Words>,
    expected: Vec<usize>,
}

pub(super) struct Carrier {
    link: Link,
    world: World,
    peers: Vec<Peer>,
    watch: Watch,
    limit: Duration,
    on_lost: Box<dyn Fn(&Lost) + Send>,
    ends: Ends,

    /// Oldest first.
    underway: VecDeque<Exchange>,
    /// What was exchanged last.
    last: Option<Subject>,
    /// How many exchanges the process waits for.
    awaited: usize,
    /// Messages of exchanges that are finished here, and notes, on their way to others.
    trailing: Vec<(usize, Flight)>,
    is_closing: bool,
}

impl Carrier {
    /// Starts MPI in this thread, and meets the others.
    pub(super) fn meet(options: Options, ends: Ends) -> Result<Self> {
        let not_started = |reason: &str| ProcessesError::NotStarted { reason: reason.to_owned() };
        let started = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, threading) =
            started.ok_or_else(|| not_started("this process has started it before"))?;
        if threading < Threading::Funneled {
            return Err(not_started(
                "the library supports no threads next to the one that uses it",
            ));
        }

        let version = mpi::environment::library_version().unwrap_or_default();
        let engine = engine(&version);
        let group = universe.world();
        let rank = usize::try_from(group.rank()).unwrap_or_default();
        let size = usize::try_from(group.size()).unwrap_or(1);
        if let Some(launch) = options.launch.filter(|launch| launch.size != size) {
            let (launcher, launched) = (launch.launcher, launch.size);
            return Err(ProcessesError::Apart { launcher, launched, engine, found: size });
        }

        let host = mpi::environment::processor_name().unwrap_or_else(|_| "unknown".to_owned());
        let mut words = vec![0; size * Peer::WORDS];
        group.all_gather_into(&Peer::own(host).words()[..], &mut words[..]);
        let peers: Vec<Peer> = words.chunks(Peer::WORDS).map(Peer::from_words).collect();
        let hosts: Arc<[String]> = peers.iter().map(|peer| peer.host.clone()).collect();

        Ok(Self {
            link: Link::new(universe),
            world: World { rank, hosts, engine },
            peers,
            watch: Watch::new(rank, size, options.limit, Instant::now()),
            limit: options.limit,
            on_lost: options.on_lost,
            ends,
            underway: VecDeque::new(),
            last: None,
            awaited: 0,
            trailing: Vec::new(),
            is_closing: false,
        })
    }

    pub(super) fn world(&self) -> World {
        self.world.clone()
    }

    /// Does the jobs until there are none left or the run fails, which `failed` then says.
    pub(super) fn serve(mut self, failed: &OnceLock<TransportError>) {
        let stop = loop {
            if let Err(stop) = self.turn() {
                break stop;
            }
        };

        let lost = match stop {
            // Dropping the link ends MPI, together with the others.
            Stop::Closed => return,
            Stop::Leaving => return self.leave(),
            Stop::Lost(loss) => self.lose(loss),
            Stop::Left(rank) => self.silently(report::left(rank, &self.peers, self.place())),
            Stop::Refused(rank, Refusal(reason)) => {
                self.tell(&Note::Left, &[]);
                let error = report::refused(rank, &self.peers, self.place(), &reason);
                Lost { error, speaks: true }
            }
        };

        (self.on_lost)(&lost);
        // Nobody else sets it.
        let _ = failed.set(lost.error);
        self.abandon();
    }

    /// Tells the others that this process ends after an error of its own.
    pub(super) fn leave(mut self) {
        self.tell(&Note::Left, &[]);
        self.abandon();
    }

    /// Ends the thread without ending MPI: that would wait for processes that are gone.
    fn abandon(self) {
        std::mem::forget(self.link);
    }

    /// One round: the next job, messages, the answer, the others.
    fn turn(&mut self) -> std::result::Result<(), Stop> {
        self.ends.turns.fetch_add(1, Ordering::Relaxed);
        let waits = self.awaited > 0 && !self.underway.is_empty();
        let is_idle = self.trailing.is_empty() && self.underway.iter().all(Exchange::has_landed);

        let job = if waits {
            std::thread::yield_now();
            self.ends.jobs.try_recv().map_err(|error| error == TryRecvError::Disconnected)
        } else {
            let pause = if is_idle && !self.is_closing { AT_REST } else { AT_WORK };
            self.ends
                .jobs
                .recv_timeout(pause)
                .map_err(|error| error == RecvTimeoutError::Disconnected)
        };
        match job {
            Ok(job) => self.take(job)?,
            Err(true) if !self.is_closing => return Err(Stop::Leaving),
            Err(_) => {}
        }

        let looks = if waits || is_idle { 1 } else { LOOKS };
        for _ in 0..looks {
            self.progress()?;
        }

        self.answer();
        self.keep_in_touch()?;

        let all_closed = self.is_closing && self.watch.watched().next().is_none();
        if all_closed && self.underway.is_empty() && self.trailing.is_empty() {
            return Err(Stop::Closed);
        }
        Ok(())
    }

    fn take(&mut self, job: Job) -> std::result::Result<(), Stop> {
        match job {
            Job::Begin { subject, outgoing, expected } => {
                self.begin(subject, outgoing, expected)?
            }
            Job::Finish => self.awaited += 1,
            Job::Close => {
                self.is_closing = true;
                for rank in self.others() {
                    self.send_note(rank, &Note::Closed)?;
                }
            }
        }

        Ok(())
    }

    fn others(&self) -> Vec<usize> {
        (0..self.world.size()).filter(|&rank| rank != self.world.rank).collect()
    }

    /// Posts the messages of an exchange. What is to come is posted first: the library can then
    /// place it where it belongs as it comes.
    fn begin(
        &mut self,
        subject: Subject,
        mut outgoing: Vec<Words>,
        expected: Vec<usize>,
    ) -> std::result::Result<(), Stop> {
        let words = vec![Words::new(); self.world.size()];
        let (mut coming, mut sent) = (Vec::new(), Vec::new());

        for rank in self.others() {
            let flight = self.link.receive(rank, expected[rank]);
            coming.push((rank, flight.map_err(|refusal| Stop::Refused(rank, refusal))?));
        }
        for rank in self.others() {
            let flight = self.link.send(Kind::Words, rank, std::mem::take(&mut outgoing[rank]));
            sent.push((rank, flight.map_err(|refusal| Stop::Refused(rank, refusal))?));
        }

        self.underway.push_back(Exchange { subject, sent, coming, words, expected });
        Ok(())
    }

    /// Lets MPI work on the oldest exchange that is not complete, and on what trails.
    fn progress(&mut self) -> std::result::Result<(), Stop> {
        if let Some(exchange) = self.underway.iter_mut().find(|exchange| !exchange.has_landed()) {
            exchange.progress()?;
        }

        land(&mut self.trailing, |_, _| Ok(()))
    }

    /// Gives the process what it waits for, if that has come.
    fn answer(&mut self) {
        while self.awaited > 0 {
            let Some(exchange) = self.underway.pop_front_if(|exchange| exchange.has_come()) else {
                return;
            };

            self.awaited -= 1;
            self.last = Some(exchange.subject);
            self.trailing.extend(exchange.sent);
            // If nobody takes it, the next turn finds that there are no more jobs.
            let _ = self.ends.answers.send(exchange.words);
        }
    }

    /// Tells the others that this process runs, and finds out about them.
    fn keep_in_touch(&mut self) -> std::result::Result<(), Stop> {
        let now = Instant::now();
        self.watch.turn(now);

        if self.watch.is_time_to_beat(now) && !self.is_closing {
            // One that has closed still waits for those that have not, and watches them.
            for rank in self.others() {
                self.send_note(rank, &Note::Alive)?;
            }
        }
        if self.watch.is_time_to_listen(now) {
            self.listen()?;
        }

        if self.watch.is_time_to_look(now) {
            let ranks = self.ended();
            if !ranks.is_empty() {
                return Err(Stop::Lost(Loss { why: Why::Ended, ranks }));
            }
        }

        let ranks = self.watch.silent(now);
        if ranks.is_empty() {
            return Ok(());
        }
        let seconds = u32::try_from(self.limit.as_secs()).unwrap_or(u32::MAX);
        Err(Stop::Lost(Loss { why: Why::Silent(seconds), ranks }))
    }

    /// Reads the notes that have come.
    fn listen(&mut self) -> std::result::Result<(), Stop> {
        let refused = |refusal| Stop::Refused(self.world.rank, refusal);
        while let Some((rank, words)) = self.link.note().map_err(refused)? {
            self.watch.hears(rank, Instant::now());
            match Note::from_words(&words) {
                Some(Note::Alive) | None => {}
                Some(Note::Closed) => self.watch.closes(rank),
                Some(Note::Left) => return Err(Stop::Left(rank)),
                Some(Note::Lost(loss)) => return Err(Stop::Lost(loss)),
            }
        }

        Ok(())
    }

    /// The processes on this host that have ended without having closed.
    fn ended(&self) -> Vec<usize> {
        let own = &self.peers[self.world.rank];
        let has_ended = |&rank: &usize| {
            let peer = &self.peers[rank];
            own.is_near(peer) && peer.has_ended()
        };
        self.watch.watched().filter(has_ended).collect()
    }

    /// The end of the run, since others are lost. It returns when this process may end.
    fn lose(&mut self, noticed: Loss) -> Lost {
        let place = self.place();

        // Another process may have noticed first, and have ended since. Its note says more than its
        // end does.
        let settled = Instant::now() + SETTLING;
        let mut loss = noticed;
        while Instant::now() < settled {
            match self.listen() {
                Err(Stop::Lost(reported)) => {
                    loss = reported;
                    break;
                }
                Err(Stop::Left(rank)) => {
                    return self.silently(report::left(rank, &self.peers, place));
                }
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }

        // A note that names no process of the run is not one of this program.
        loss.ranks.retain(|&rank| rank < self.world.size());
        if loss.ranks.contains(&self.world.rank) {
            return self.silently(report::given_up(self.world.rank, &self.peers, place));
        }

        self.tell(&Note::Lost(loss.clone()), &loss.ranks);
        let error = report::lost(&loss, &self.peers, place);
        let speaker = speaker(&self.peers, &loss.ranks, self.world.rank);
        if speaker != self.world.rank {
            self.defer_to(speaker);
        }
        let speaks = speaker == self.world.rank && !self.watch.doubts(Instant::now());
        Lost { error, speaks }
    }

    /// Waits until a process that reports has done so and ended.
    fn defer_to(&self, speaker: usize) {
        let (own, peer) = (&self.peers[self.world.rank], &self.peers[speaker]);
        if !own.is_near(peer) {
            return std::thread::sleep(DEFERRING_FAR);
        }

        let end = Instant::now() + DEFERRING;
        while !peer.has_ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn silently(&self, error: TransportError) -> Lost {
        Lost { error, speaks: false }
    }

    /// Tells the others something before this process ends, as far as that goes.
    fn tell(&mut self, note: &Note, except: &[usize]) {
        for rank in self.others().into_iter().filter(|rank| !except.contains(rank)) {
            // One that cannot be told will notice by itself.
            let _ = self.send_note(rank, note);
        }

        let end = Instant::now() + SENDING;
        while Instant::now() < end {
            let _ = land(&mut self.trailing, |_, _| Ok(()));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn send_note(&mut self, rank: usize, note: &Note) -> std::result::Result<(), Stop> {
        let flight = self.link.send(Kind::Note, rank, note.words());
        self.trailing.push((rank, flight.map_err(|refusal| Stop::Refused(rank, refusal))?));
        Ok(())
    }

    fn place(&self) -> Place {
        match (self.underway.front(), self.last) {
            (Some(exchange), _) => Place::Exchange(exchange.subject),
            (None, Some(subject)) => Place::After(subject),
            (None, None) => Place::Beginning,
        }
    }
}

impl Exchange {
    /// Whether everything has come that others send.
    fn has_come(&self) -> bool {
        self.coming.is_empty()
    }

    /// Whether MPI is done with it.
    fn has_landed(&self) -> bool {
        self.coming.is_empty() && self.sent.is_empty()
    }

    fn progress(&mut self) -> std::result::Result<(), Stop> {
        let Self { subject, words, expected, .. } = self;
        land(&mut self.coming, |rank, flight| {
            let (came, length) = flight.into_words();
            if length != expected[rank] {
                return Err(Refusal(format!(
                    "expected {} words of {subject}, got {length}",
                    expected[rank]
                )));
            }

            words[rank] = came;
            Ok(())
        })?;
        land(&mut self.sent, |_, _| Ok(()))
    }
}

/// Removes the messages that have landed, and hands each over.
fn land(
    flights: &mut Vec<(usize, Flight)>,
    mut landed: impl FnMut(usize, Flight) -> std::result::Result<(), Refusal>,
) -> std::result::Result<(), Stop> {
    let mut at = 0;
    while at < flights.len() {
        let (rank, flight) = &mut flights[at];
        let rank = *rank;
        let refused = |refusal| Stop::Refused(rank, refusal);

        if flight.landed().map_err(refused)? {
            let (_, flight) = flights.swap_remove(at);
            landed(rank, flight).map_err(refused)?;
        } else {
            at += 1;
        }
    }

    Ok(())
}

/// Name and version of a library in short, from what it says about itself: its first line, up to
/// the first comma, without the words and letters around the number.
fn engine(version: &str) -> String {
    let line = version.lines().next().unwrap_or_default();
    let name = line.split(',').next().unwrap_or_default();
    let words = name.split_whitespace().filter(|word| *word != "Version:");
    let words: Vec<&str> = words
        .map(|word| match word.strip_prefix('v') {
            Some(number) if number.starts_with(|first: char| first.is_ascii_digit()) => number,
            _ => word,
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_named_in_short() {
        let open_mpi = "Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4";
        assert_eq!(engine(open_mpi), "Open MPI 4.1.4");
        let mpich = "MPICH Version:\t4.0.2\nMPICH Release date:\tThu Apr 7\n";
        assert_eq!(engine(mpich), "MPICH 4.0.2");
        let intel = "Intel(R) MPI Library 2021.8 for Linux* OS\n";
        assert_eq!(engine(intel), "Intel(R) MPI Library 2021.8 for Linux* OS");
        assert_eq!(engine(""), "");
    }
}
