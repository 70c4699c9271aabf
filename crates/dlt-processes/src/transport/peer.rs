//! Who a process of the run is, and whether one on the same host still runs.

use std::path::Path;

/// A process of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its host, as MPI names it.
    pub(super) host: String,
    /// Its number there.
    pub(super) id: u32,
    /// Which numbering that is: containers on one host can each have their own.
    numbering: String,
    /// When it began, in the ticks of its host. A number is given again; with this it is one
    /// process.
    begun: Option<u64>,
}

/// What `/proc` says about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    ended: bool,
    begun: u64,
}

impl Peer {
    /// Words of a process in what the processes tell each other at the start.
    pub(super) const WORDS: usize = 256;

    /// This process.
    pub(super) fn own(host: String) -> Self {
        let id = std::process::id();
        let numbering = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let numbering = numbering.to_string_lossy().into_owned();
        Self { host, id, numbering, begun: entry(id).map(|entry| entry.begun) }
    }

    /// For the others. Names are cut if they have no room.
    pub(super) fn words(&self) -> Vec<u32> {
        let begun = self.begun.map_or(0, |begun| begun + 1);
        let mut words = vec![self.id, begun as u32, (begun >> 32) as u32];

        for (name, room) in [(&self.numbering, 32), (&self.host, Self::WORDS - 3 - 32 - 2)] {
            let bytes: Vec<u8> = name.bytes().take(4 * room).collect();
            words.push(u32::try_from(bytes.len()).unwrap_or_default());
            let whole = bytes.chunks(4).map(|bytes| {
                let mut word = [0; 4];
                word[..bytes.len()].copy_from_slice(bytes);
                u32::from_le_bytes(word)
            });
            words.extend(whole.chain(std::iter::repeat(0)).take(room));
        }

        words
    }

    /// A process from the words that it has sent.
    pub(super) fn from_words(words: &[u32]) -> Self {
        let begun = u64::from(words[1]) | u64::from(words[2]) << 32;
        let name = |at: usize| -> String {
            let bytes: Vec<u8> =
                words[at + 1..].iter().flat_map(|word| word.to_le_bytes()).collect();
            let length = bytes.len().min(words[at] as usize);
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };

        Self { host: name(36), id: words[0], numbering: name(3), begun: begun.checked_sub(1) }
    }

    /// Whether this process can look the other up.
    pub(super) fn is_near(&self, other: &Self) -> bool {
        self.host == other.host
            && !self.numbering.is_empty()
            && self.numbering == other.numbering
            && self.begun.is_some()
            && other.begun.is_some()
    }

    /// Whether a process on this host has ended. One that has ended and was not waited for, a
    /// zombie, counts. Only for a process that is near.
    pub(super) fn has_ended(&self) -> bool {
        entry(self.id).is_none_or(|entry| entry.ended || Some(entry.begun) != self.begun)
    }
}

/// The process that reports the loss of others, at least one: the lowest of those that are not lost
/// and can look a lost one up, or else the lowest that is not lost. One on another host may not be
/// able to: libraries wait for their launcher to print that a connection is gone, and the launcher
/// is busy then. `own` reports if all are lost.
pub(super) fn speaker(peers: &[Peer], lost: &[usize], own: usize) -> usize {
    let left = || (0..peers.len()).filter(|rank| !lost.contains(rank));
    let is_near = |rank: &usize| lost.iter().any(|&lost| peers[*rank].is_near(&peers[lost]));
    left().find(is_near).or_else(|| left().next()).unwrap_or(own)
}

fn entry(id: u32) -> Option<Entry> {
    let text =
        std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).ok()?;
    read(&text)
}

/// Reads a line of `/proc/ID/stat`. The second field is the name in brackets, which can hold
/// anything; the state is the next field, and the start is the 20th of those.
fn read(text: &str) -> Option<Entry> {
    let fields = &text[text.rfind(')')? + 1..];
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let begun = fields.nth(18)?.parse().ok()?;
    Some(Entry { ended: matches!(state, "Z" | "X" | "x"), begun })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_words_give_the_process_back() {
        let own = Peer::own("node-17.example".to_owned());
        let words = own.words();
        assert_eq!(words.len(), Peer::WORDS);
        assert_eq!(Peer::from_words(&words), own);

        let unknown = Peer { begun: None, numbering: String::new(), ..own };
        assert_eq!(Peer::from_words(&unknown.words()), unknown);
    }

    #[test]
    fn a_process_that_ended_is_noticed_before_and_after_it_is_waited_for() {
        let own = Peer::own("here".to_owned());
        assert!(own.is_near(&own) && !own.has_ended());

        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let begun = entry(child.id()).map(|entry| entry.begun);
        let other = Peer { id: child.id(), begun, ..own.clone() };
        assert!(own.is_near(&other) && !other.has_ended());

        child.kill().expect("killed");
        let mut tries = 0;
        while !other.has_ended() {
            tries += 1;
            assert!(tries < 1000, "a zombie counts as ended");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().expect("waited");
        assert!(other.has_ended());

        // Another process with the number of one that ended.
        assert!(Peer { begun: Some(1), ..own.clone() }.has_ended());
    }

    #[test]
    fn processes_elsewhere_are_not_looked_up() {
        let own = Peer::own("here".to_owned());
        assert!(!own.is_near(&Peer { host: "there".to_owned(), ..own.clone() }));
        assert!(!own.is_near(&Peer { numbering: "pid:[1]".to_owned(), ..own.clone() }));
        assert!(!own.is_near(&Peer { begun: None, ..own.clone() }));
    }

    #[test]
    fn the_lowest_process_on_the_host_of_a_lost_one_reports() {
        let own = Peer::own("a".to_owned());
        let other = Peer { host: "b".to_owned(), ..own.clone() };
        let peers = [own.clone(), own, other.clone(), other.clone(), other];
        for (lost, reports) in [
            (vec![1], 0),
            (vec![0], 1),
            (vec![2], 3),
            (vec![4], 2),
            (vec![0, 1], 2),
            (vec![1, 3], 0),
        ] {
            assert_eq!(speaker(&peers, &lost, 9), reports, "{lost:?}");
        }
        assert_eq!(speaker(&peers, &[0, 1, 2, 3, 4], 3), 3);
    }

    #[test]
    fn names_with_brackets_and_blanks_are_read() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        let ended = |state: &str| read(&format!("17 (a) b (c)) {state} {rest}"));
        assert_eq!(ended("S"), Some(Entry { ended: false, begun: 4711 }));
        assert_eq!(ended("T"), Some(Entry { ended: false, begun: 4711 }));
        assert_eq!(ended("Z"), Some(Entry { ended: true, begun: 4711 }));
        assert_eq!(read("17 (a) S 1 2"), None);
        assert_eq!(read(""), None);
    }
}
