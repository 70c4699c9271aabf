//! When the others were heard last, and what is due. It is told the time, and reads no clock.

use std::time::{Duration, Instant};

/// How often each process tells each other that it runs.
const BEAT: Duration = Duration::from_secs(1);
/// How often processes on the same host are looked up. When one ends, the launcher ends the others
/// a second later. A message must be out before that.
const LOOK: Duration = Duration::from_millis(200);
/// How often notes are read.
const LISTEN: Duration = Duration::from_millis(5);

/// What a process knows about the others.
pub(super) struct Watch {
    own: usize,
    limit: Duration,
    others: Vec<Other>,
    turned: Instant,
    /// Until when the others may know more than this process, which was frozen itself.
    doubtful: Option<Instant>,
    next_beat: Instant,
    next_look: Instant,
    next_listen: Instant,
}

#[derive(Clone, Copy)]
struct Other {
    heard: Instant,
    closed: bool,
}

impl Watch {
    pub(super) fn new(own: usize, size: usize, limit: Duration, now: Instant) -> Self {
        let other = Other { heard: now, closed: false };
        Self {
            own,
            limit,
            others: vec![other; size],
            turned: now,
            doubtful: None,
            next_beat: now,
            // One after the other, so that mostly one notices an end and the others hear it.
            next_look: now
                + LOOK * u32::try_from(own).unwrap_or(0) / u32::try_from(size).unwrap_or(1),
            next_listen: now,
        }
    }

    /// To be called at least every few milliseconds. A longer gap means that this process itself
    /// was frozen: what it did not hear then says nothing about the others.
    pub(super) fn turn(&mut self, now: Instant) {
        if now.duration_since(self.turned) > self.limit / 2 {
            self.doubtful = Some(now + self.limit);
            for other in &mut self.others {
                other.heard = now;
            }
        }

        self.turned = now;
    }

    pub(super) fn hears(&mut self, rank: usize, now: Instant) {
        if let Some(other) = self.others.get_mut(rank) {
            other.heard = now;
        }
    }

    /// A process has said that it sends nothing more.
    pub(super) fn closes(&mut self, rank: usize) {
        if let Some(other) = self.others.get_mut(rank) {
            other.closed = true;
        }
    }

    /// The others that have not closed, by rank.
    pub(super) fn watched(&self) -> impl Iterator<Item = usize> {
        let others = self.others.iter().enumerate();
        others.filter(|(rank, other)| *rank != self.own && !other.closed).map(|(rank, _)| rank)
    }

    /// Those that were silent for too long. If there is one, those that nearly were belong to it:
    /// a host that is cut off takes all of its processes along.
    pub(super) fn silent(&self, now: Instant) -> Vec<usize> {
        let longer = |limit: Duration| {
            let is_silent =
                move |&rank: &usize| now.duration_since(self.others[rank].heard) >= limit;
            self.watched().filter(is_silent)
        };

        if longer(self.limit).next().is_none() {
            return Vec::new();
        }
        longer(self.limit.saturating_sub(2 * BEAT).max(self.limit / 2)).collect()
    }

    /// Whether what this process finds out about others is in doubt, since it was frozen itself.
    pub(super) fn doubts(&self, now: Instant) -> bool {
        self.doubtful.is_some_and(|end| now <= end)
    }

    pub(super) fn is_time_to_beat(&mut self, now: Instant) -> bool {
        due(&mut self.next_beat, BEAT, now)
    }

    pub(super) fn is_time_to_look(&mut self, now: Instant) -> bool {
        due(&mut self.next_look, LOOK, now)
    }

    pub(super) fn is_time_to_listen(&mut self, now: Instant) -> bool {
        due(&mut self.next_listen, LISTEN, now)
    }
}

/// Whether something is due that recurs.
fn due(next: &mut Instant, every: Duration, now: Instant) -> bool {
    let is_due = now >= *next;
    if is_due {
        *next = now + every;
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn seconds(number: f64) -> Duration {
        Duration::from_secs_f64(number)
    }

    /// Lets time pass in steps that a running process makes.
    fn pass(watch: &mut Watch, from: Instant, to: Instant) {
        let mut now = from;
        while now < to {
            now += Duration::from_millis(10);
            watch.turn(now);
        }
    }

    #[test]
    fn a_process_is_silent_after_the_limit_and_not_before() {
        let start = Instant::now();
        let mut watch = Watch::new(1, 4, LIMIT, start);
        pass(&mut watch, start, start + seconds(10.0));
        assert!(!watch.doubts(start + seconds(10.0)));
        for rank in [0, 3] {
            watch.hears(rank, start + seconds(10.0));
        }

        assert!(watch.silent(start + seconds(19.9)).is_empty());
        assert_eq!(watch.silent(start + seconds(20.0)), [2]);
        // Those of a host that is cut off are silent since nearly the same moment.
        assert_eq!(watch.silent(start + seconds(28.1)), [0, 2, 3]);

        watch.closes(2);
        assert!(watch.silent(start + seconds(29.9)).is_empty());
        assert_eq!(watch.watched().collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn a_process_that_was_frozen_blames_nobody() {
        let start = Instant::now();
        let mut watch = Watch::new(0, 2, LIMIT, start);
        let back = start + seconds(100.0);
        watch.turn(back);

        assert!(watch.silent(back).is_empty());
        assert!(watch.doubts(back + seconds(1.0)));
        assert!(!watch.doubts(back + seconds(20.1)));
        assert_eq!(watch.silent(back + LIMIT), [1]);
    }

    #[test]
    fn what_recurs_is_due_once_in_each_interval() {
        let start = Instant::now();
        let mut watch = Watch::new(0, 2, LIMIT, start);
        assert!(watch.is_time_to_beat(start) && !watch.is_time_to_beat(start + seconds(0.9)));
        assert!(watch.is_time_to_beat(start + seconds(1.0)));
        assert!(watch.is_time_to_look(start) && !watch.is_time_to_look(start + seconds(0.1)));
        assert!(watch.is_time_to_listen(start) && watch.is_time_to_listen(start + seconds(0.1)));
    }
}
