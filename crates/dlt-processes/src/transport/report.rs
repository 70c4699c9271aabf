//! What a process says about the end of a run that it has not caused.

use std::time::Duration;

use dlt_train::{Subject, TransportError};

use super::note::{Loss, Why};
use super::peer::Peer;

/// Where a run was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Something was being exchanged.
    Exchange(Subject),
    /// Nothing was, since the exchange about this was finished.
    After(Subject),
    /// Nothing has been exchanged.
    Beginning,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exchange(subject) => write!(f, "while exchanging {subject}"),
            Self::After(subject) => write!(f, "between two exchanges, after step {}", subject.step),
            Self::Beginning => f.write_str("before the first exchange"),
        }
    }
}

/// Processes are lost.
pub(super) fn lost(loss: &Loss, peers: &[Peer], place: Place) -> TransportError {
    let named: Vec<String> = loss.ranks.iter().map(|&rank| named(rank, peers)).collect();
    let who = named.join(" and ");

    TransportError(match loss.why {
        Why::Ended => format!(
            "{who} ended {place}: look for its own message above, or for one of the system about \
             memory"
        ),
        Why::Silent(seconds) => format!(
            "{who} gave no sign of life for {seconds} s, {place}: check whether it is stopped, and \
             whether its host and the network work. --exchange-timeout sets the limit"
        ),
    })
}

/// A process ends after an error of its own.
pub(super) fn left(rank: usize, peers: &[Peer], place: Place) -> TransportError {
    let who = named(rank, peers);
    TransportError(format!("{who} stopped after an error {place}: see its message"))
}

/// The others continue without this process.
pub(super) fn given_up(own: usize, peers: &[Peer], place: Place) -> TransportError {
    let who = named(own, peers);
    TransportError(format!(
        "{who}, this one, was stopped for too long {place}: the others have ended"
    ))
}

/// MPI did not carry what was exchanged with a process.
pub(super) fn refused(rank: usize, peers: &[Peer], place: Place, reason: &str) -> TransportError {
    let who = named(rank, peers);
    TransportError(format!(
        "MPI failed between this process and {who} {place}: {reason}. Check that all processes \
         run the same program with the same settings, and that the network works"
    ))
}

/// A call of MPI has not returned.
pub(super) fn stuck(subject: Option<Subject>, time: Duration) -> TransportError {
    let what = subject
        .map_or_else(|| "at the end".to_owned(), |subject| format!("while exchanging {subject}"));
    TransportError(format!(
        "MPI has not returned for {} s, {what}: check whether all processes and the launcher run",
        time.as_secs()
    ))
}

fn named(rank: usize, peers: &[Peer]) -> String {
    match peers.get(rank) {
        Some(peer) => format!("process {rank} (host {}, process id {})", peer.host, peer.id),
        None => format!("process {rank}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_who_where_when_and_what_to_do() {
        let peers = [Peer::own("n01".to_owned()), Peer::own("n02".to_owned())];
        let place = Place::Exchange(Subject { what: "gradients", step: 12 });
        let id = std::process::id();

        let ended = lost(&Loss { why: Why::Ended, ranks: vec![1] }, &peers, place);
        assert_eq!(
            ended.to_string(),
            format!(
                "process 1 (host n02, process id {id}) ended while exchanging gradients after step \
                 12: look for its own message above, or for one of the system about memory"
            )
        );

        let place = Place::After(Subject { what: "losses", step: 3 });
        let silent = lost(&Loss { why: Why::Silent(20), ranks: vec![0, 1] }, &peers, place);
        let text = silent.to_string();
        assert!(text.contains("(host n01, ") && text.contains(") and process 1 (host n02, "));
        assert!(text.contains("no sign of life for 20 s, between two exchanges, after step 3: "));
        assert!(text.contains("--exchange-timeout"));
        assert!(
            lost(&Loss { why: Why::Ended, ranks: vec![7] }, &peers, Place::Beginning)
                .to_string()
                .starts_with("process 7 ended before the first exchange: ")
        );
    }
}
