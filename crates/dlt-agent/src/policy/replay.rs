//! Replay of a recording row by row, as it is or with its layers permuted (ablations iii and iv).

use super::{Choice, Draws, Policy, PolicySnapshot, Situation, Visit};
use crate::error::{AgentError, grouping, same_depth};
use dlt_spec::{CheckedAgent, seeds};
use dlt_state::{Action, Recording, Row, State, random_permutation};

/// Replays the rows of a recording in turn, one per decision. After its end it repeats the last
/// one.
#[derive(Clone, Debug)]
pub struct ReplayPolicy {
    rows: Vec<ReplayedRow>,
    position: usize,
}

/// One decision to repeat.
#[derive(Clone, Debug)]
struct ReplayedRow {
    action: Action,
    visit: Visit,
}

impl ReplayPolicy {
    /// Replays `recording` from state `initial`: each row's action, for the layers that the row was
    /// made for.
    ///
    /// # Errors
    /// [`AgentError::Recording`] if it is empty, [`AgentError::Depth`] if it has another depth, and
    /// [`AgentError::OtherChoice`] if a row for one layer changes the choice of another. Such a
    /// recording was edited, or starts in another state than `initial`.
    pub fn new(recording: &Recording, initial: &State) -> Result<Self, AgentError> {
        same_depth("the recording", initial.n_layers(), recording.n_layers())?;
        let rows = recording.rows().iter().map(|row| ReplayedRow {
            action: row.action().clone(),
            visit: row.layer().map_or(Visit::All, Visit::Layer),
        });

        let policy = Self::from_rows(rows.collect())?;
        policy.check_visits(initial.as_action())?;
        Ok(policy)
    }

    /// Replays `recording` with layer `i` renamed to `permutation[i]`. Each state is relabelled,
    /// and each group is named by its least member again. Every decision covers all layers, because
    /// renaming a group can change the choice of several layers.
    ///
    /// # Errors
    /// [`AgentError::Recording`] if it is empty, [`AgentError::Depth`] if it has another depth than
    /// `n_layers`, and [`AgentError::Grouping`] if `permutation` is not a permutation of that
    /// depth.
    pub fn permuted(
        recording: &Recording,
        permutation: &[usize],
        n_layers: usize,
    ) -> Result<Self, AgentError> {
        same_depth("the recording", n_layers, recording.n_layers())?;
        let relabelled = |row: &Row| {
            let state = row.state().relabel(permutation);
            let state = state.map_err(grouping("the permutation of the recording"))?;
            Ok(ReplayedRow { action: state.into(), visit: Visit::All })
        };

        let rows = recording.rows().iter().map(relabelled).collect::<Result<_, AgentError>>()?;
        Self::from_rows(rows)
    }

    fn from_rows(rows: Vec<ReplayedRow>) -> Result<Self, AgentError> {
        if rows.is_empty() {
            return Err(AgentError::Recording { reason: "it has no rows" });
        }
        Ok(Self { rows, position: 0 })
    }

    /// Checks that each row for one layer only changes that layer's entry.
    fn check_visits(&self, initial: &Action) -> Result<(), AgentError> {
        let before = std::iter::once(initial).chain(self.rows.iter().map(|row| &row.action));
        for (index, (before, row)) in before.zip(&self.rows).enumerate() {
            let Visit::Layer(visited) = row.visit else { continue };
            let mut differences = before.values().iter().zip(row.action.values()).enumerate();
            let other =
                differences.find(|(layer, (before, after))| *layer != visited && before != after);

            if let Some((changed, _)) = other {
                return Err(AgentError::OtherChoice { row: index, visited, changed });
            }
        }

        Ok(())
    }
}

impl Policy for ReplayPolicy {
    fn choose(&mut self, situation: &Situation<'_>) -> Result<Choice, AgentError> {
        let (row, visit) = match self.rows.get(self.position) {
            Some(row) => (row, row.visit),
            // After the end the visit is that of the situation: the last row repeats for whichever
            // layer has its turn.
            None => (&self.rows[self.rows.len() - 1], situation.visit),
        };

        same_depth("the recording", situation.action.n_layers(), row.action.n_layers())?;
        let choice = Choice::new(row.action.clone(), visit);
        self.position = (self.position + 1).min(self.rows.len());

        Ok(choice)
    }

    fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot::Replay { position: self.position }
    }

    fn restore(&mut self, snapshot: &PolicySnapshot) -> Result<(), AgentError> {
        match snapshot {
            PolicySnapshot::Replay { position } if *position <= self.rows.len() => {
                self.position = *position;
                Ok(())
            }
            PolicySnapshot::Replay { position } => Err(AgentError::Mismatch {
                place: "position in the recording",
                expected: format!("at most {}", self.rows.len()),
                got: position.to_string(),
            }),
            other => Err(other.mismatch("replay")),
        }
    }
}

/// The permutation of `permuted-replay`: that of the setup, or if it is empty, a uniform one from
/// the stream `permutation` of the root seed.
#[must_use]
pub fn replay_permutation(setup: &CheckedAgent) -> Vec<usize> {
    if setup.agent.permutation.is_empty() {
        random_permutation(setup.layers, &mut Draws(&mut seeds::stream(setup.seed, "permutation")))
    } else {
        setup.agent.permutation.clone()
    }
}
