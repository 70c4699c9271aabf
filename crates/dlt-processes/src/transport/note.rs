//! What the threads that carry tell each other besides the words of the exchanges.

use dlt_train::Words;

/// Why processes are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Their host has no such process.
    Ended,
    /// Nothing came for this many seconds.
    Silent(u32),
}

/// Processes that the run has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) why: Why,
    /// By rank, at least one.
    pub(super) ranks: Vec<usize>,
}

/// A note from one process to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It runs.
    Alive,
    /// It has noticed a loss, and ends.
    Lost(Loss),
    /// It ends after an error of its own.
    Left,
    /// It has finished all of its exchanges and sends nothing more.
    Closed,
}

impl Note {
    pub(super) fn words(&self) -> Words {
        let rank = |rank: &usize| u32::try_from(*rank).unwrap_or(u32::MAX);
        match self {
            Self::Alive => vec![0],
            Self::Left => vec![1],
            Self::Closed => vec![2],
            Self::Lost(Loss { why: Why::Ended, ranks }) => {
                [3].into_iter().chain(ranks.iter().map(rank)).collect()
            }
            Self::Lost(Loss { why: Why::Silent(seconds), ranks }) => {
                [4, *seconds].into_iter().chain(ranks.iter().map(rank)).collect()
            }
        }
    }

    /// A note from its words. `None` if they are none of this version of the program.
    pub(super) fn from_words(words: &[u32]) -> Option<Self> {
        let lost = |why, ranks: &[u32]| {
            let ranks = ranks.iter().map(|&rank| rank as usize).collect();
            Some(Self::Lost(Loss { why, ranks }))
        };

        match words {
            [0] => Some(Self::Alive),
            [1] => Some(Self::Left),
            [2] => Some(Self::Closed),
            [3, ranks @ ..] if !ranks.is_empty() => lost(Why::Ended, ranks),
            [4, seconds, ranks @ ..] if !ranks.is_empty() => lost(Why::Silent(*seconds), ranks),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_words_give_the_note_back() {
        let loss = |why| Note::Lost(Loss { why, ranks: vec![2, 5] });
        let lost = [loss(Why::Ended), loss(Why::Silent(20))];
        for note in [Note::Alive, Note::Left, Note::Closed].into_iter().chain(lost) {
            assert_eq!(Note::from_words(&note.words()), Some(note));
        }

        assert_eq!(Note::from_words(&[]), None);
        assert_eq!(Note::from_words(&[3]), None);
        assert_eq!(Note::from_words(&[9]), None);
    }
}
