//! How the processes of one run send numbers to each other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// What processes send: words of 32 bits. An f32 is one word with its bits, an f64 or a u64 two,
/// low half first. All processes of a run are on machines of one byte order.
pub type Words = Vec<u32>;

/// What an exchange is about, for messages about failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What is exchanged, in the plural: `gradients`.
    pub what: &'static str,
    /// Training steps done.
    pub step: usize,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after step {}", self.what, self.step)
    }
}

/// Why an exchange failed: which process, on which host, what was exchanged, and what to do. The
/// text is whole, for a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// The processes of a run, as one of them sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// Number of this process, from 0.
    pub rank: usize,
    /// The host of each process, by rank. Its length is the number of processes, R.
    pub hosts: Arc<[String]>,
    /// Name and version of what carries the words: `Open MPI 4.1.4`.
    pub engine: String,
}

impl World {
    /// The world of a run of one process.
    #[must_use]
    pub fn alone() -> Self {
        Self { rank: 0, hosts: Arc::new([String::new()]), engine: String::new() }
    }

    /// Number of processes, R.
    #[must_use]
    pub fn size(&self) -> usize {
        self.hosts.len()
    }
}

/// Carries words between the processes of one run.
///
/// All processes begin the same exchanges in the same order, and finish them in that order. Several
/// exchanges can be under way. A begun exchange makes progress while the process computes.
pub trait Transport {
    /// This process and the others.
    fn world(&self) -> &World;

    /// Begins an exchange, and returns without waiting. Process p gets `outgoing[p]`. It is known
    /// beforehand how many words come from process p: `expected[p]`. What a process has for itself
    /// is empty, and it expects nothing of itself.
    ///
    /// # Errors
    /// [`TransportError`] if a process is gone.
    fn begin(
        &mut self,
        subject: Subject,
        outgoing: Vec<Words>,
        expected: Vec<usize>,
    ) -> Result<(), TransportError>;

    /// Waits for the oldest exchange that was begun and is not finished: the words that each process
    /// has sent, by rank.
    ///
    /// # Errors
    /// [`TransportError`] if a process is gone or silent for too long. No other call may follow.
    fn finish(&mut self) -> Result<Vec<Words>, TransportError>;

    /// Ends the exchange with the other processes, once each of them has called this. A transport
    /// that is dropped instead has failed.
    ///
    /// # Errors
    /// [`TransportError`] if a process is gone.
    fn close(self: Box<Self>) -> Result<(), TransportError> {
        Ok(())
    }
}

/// Processes that are threads of one program, for tests and for trying a run of several processes
/// without an engine.
pub struct Threads {
    world: World,
    /// To each process, by rank.
    to: Vec<Sender<Words>>,
    /// From each process, by rank.
    from: Vec<Receiver<Words>>,
    /// What each process is to send in the exchanges under way, oldest first.
    expected: VecDeque<(Subject, Vec<usize>)>,
}

impl Threads {
    /// One transport for each of `size` threads, by rank.
    #[must_use]
    pub fn among(size: usize) -> Vec<Self> {
        let hosts: Arc<[String]> = vec!["threads".to_owned(); size].into();
        // Receivers and senders by the process that will own them.
        let mut to: Vec<Vec<Sender<Words>>> = (0..size).map(|_| Vec::new()).collect();
        let mut from: Vec<Vec<Receiver<Words>>> = (0..size).map(|_| Vec::new()).collect();

        for sender in &mut to {
            for receiver in &mut from {
                let (send, receive) = channel();
                sender.push(send);
                receiver.push(receive);
            }
        }

        let ends = to.into_iter().zip(from).enumerate();
        ends.map(|(rank, (to, from))| Self {
            world: World { rank, hosts: Arc::clone(&hosts), engine: "threads".to_owned() },
            to,
            from,
            expected: VecDeque::new(),
        })
        .collect()
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.world.rank;
        (0..self.world.size()).filter(move |&rank| rank != own)
    }
}

impl Transport for Threads {
    fn world(&self) -> &World {
        &self.world
    }

    fn begin(
        &mut self,
        subject: Subject,
        mut outgoing: Vec<Words>,
        expected: Vec<usize>,
    ) -> Result<(), TransportError> {
        for rank in self.others() {
            let words = std::mem::take(&mut outgoing[rank]);
            self.to[rank].send(words).map_err(|_| gone(rank, subject))?;
        }

        self.expected.push_back((subject, expected));
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Words>, TransportError> {
        let Some((subject, expected)) = self.expected.pop_front() else {
            return Err(TransportError("no exchange is under way".to_owned()));
        };

        let mut words: Vec<Words> = vec![Words::new(); self.world.size()];
        for rank in self.others() {
            let got = self.from[rank].recv().map_err(|_| gone(rank, subject))?;
            if got.len() != expected[rank] {
                return Err(TransportError(format!(
                    "expected {} words of {subject} from process {rank}, got {}",
                    expected[rank],
                    got.len()
                )));
            }
            words[rank] = got;
        }

        Ok(words)
    }
}

fn gone(rank: usize, subject: Subject) -> TransportError {
    TransportError(format!("process {rank} is gone while exchanging {subject}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_under_way_end_in_their_order() {
        let subject = Subject { what: "numbers", step: 3 };
        let mut ends = Threads::among(2);
        let mut second = ends.pop().expect("two");
        let mut first = ends.pop().expect("two");

        for word in [7, 8] {
            first.begin(subject, vec![vec![], vec![word]], vec![0, 2]).expect("begun");
            second.begin(subject, vec![vec![word, word], vec![]], vec![1, 0]).expect("begun");
        }

        for word in [7, 8] {
            assert_eq!(first.finish(), Ok(vec![vec![], vec![word, word]]));
            assert_eq!(second.finish(), Ok(vec![vec![word], vec![]]));
        }

        first.begin(subject, vec![vec![], vec![1]], vec![0, 1]).expect("begun");
        second.begin(subject, vec![vec![], vec![]], vec![0, 0]).expect("begun");
        let error = second.finish().expect_err("one word too many");
        assert_eq!(
            error.to_string(),
            "expected 0 words of numbers after step 3 from process 0, got 1"
        );

        drop(second);
        assert!(first.finish().expect_err("nothing came").to_string().contains("got 0"));
    }
}
