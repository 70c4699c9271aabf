//! Fixed sharings with any number of groups.

/// Which layers share a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pattern {
    /// Runs of neighbours.
    Neighbours,
    /// Layer i with layer i + N.
    Cycle,
    /// Forward and back: 0 1 2 2 1 0.
    Reversed,
    /// The first and the last layer on their own, with runs of neighbours between them.
    FreeEnds,
}

impl Pattern {
    pub(crate) const ALL: [Self; 4] =
        [Self::Neighbours, Self::Cycle, Self::Reversed, Self::FreeEnds];

    /// Its word in names and in labels.
    pub(super) fn words(self) -> [&'static str; 2] {
        match self {
            Self::Neighbours => ["sequence", "sequence of neighbours"],
            Self::Cycle => ["cycle", "cycle"],
            Self::Reversed => ["reversed", "cycle reversed"],
            Self::FreeEnds => ["free-ends", "middle shared, ends free"],
        }
    }

    /// The owner of each layer: the lowest of its group.
    pub(crate) fn owners(self, layers: usize, groups: usize) -> Vec<usize> {
        let group = |layer: usize| match self {
            Self::Neighbours => layer * groups / layers,
            Self::Cycle => layer % groups,
            Self::Reversed => (layer % (2 * groups)).min(2 * groups - 1 - layer % (2 * groups)),
            Self::FreeEnds if layer == 0 => 0,
            Self::FreeEnds if layer + 1 == layers => groups - 1,
            Self::FreeEnds => 1 + (layer - 1) * (groups - 2) / (layers - 2),
        };

        let lowest =
            |layer| (0..layer).find(|&lower| group(lower) == group(layer)).unwrap_or(layer);
        (0..layers).map(lowest).collect()
    }
}

#[cfg(test)]
mod tests {
    use dlt_state::State;

    use super::*;

    #[test]
    fn patterns_are_what_they_are_called() {
        let of = |pattern: Pattern| pattern.owners(12, 4);
        assert_eq!(of(Pattern::Neighbours), [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9]);
        assert_eq!(of(Pattern::Cycle), [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(of(Pattern::Reversed), [0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3]);
        assert_eq!(of(Pattern::FreeEnds), [0, 1, 1, 1, 1, 1, 6, 6, 6, 6, 6, 11]);
    }

    #[test]
    fn law_a_pattern_is_a_state_with_as_many_groups_as_it_says() {
        for pattern in Pattern::ALL {
            for layers in 4..14 {
                for groups in 3..=layers {
                    let owners = pattern.owners(layers, groups);
                    let state = State::new(owners.clone());
                    let state =
                        state.unwrap_or_else(|error| panic!("{pattern:?} {owners:?}: {error}"));

                    assert_eq!(state.n_independent(), groups, "{pattern:?}: {owners:?}");
                }
            }
        }
    }
}
