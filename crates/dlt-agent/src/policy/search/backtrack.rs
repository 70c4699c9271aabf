//! Downhill, one change after the other, with a way back.

use super::Step;
use super::ledger::Ledger;
use crate::error::AgentError;
use dlt_state::Draw;

/// Judges the next untried change of the cheapest state that has one; of equals, of the earliest.
///
/// A change that makes a state cheaper is thus followed at once. Where no change does, the search
/// goes back to the cheapest state that it has left. It ends with the budget, or when every state
/// is judged.
pub(super) fn run(ledger: &mut Ledger<'_>, draw: &mut impl Draw) -> Result<(), AgentError> {
    // By the place of a judged state; `None` before its changes are listed.
    let mut untried: Vec<Option<Vec<Step>>> = vec![None];

    while ledger.left() > 0 {
        let judged = ledger.judged();
        let open = |place: &usize| untried[*place].as_ref().is_none_or(|left| !left.is_empty());
        let cheapest = (0..judged.len())
            .filter(open)
            .min_by(|&one, &other| judged[one].cost.total_cmp(&judged[other].cost));

        let Some(place) = cheapest else { break };
        let left = match &mut untried[place] {
            Some(left) => left,
            none => none.insert(Step::all(&judged[place].state, draw)),
        };

        if let Some(step) = left.pop() {
            let state = step.from(&judged[place].state)?;
            ledger.judge(&state)?;
        }
        untried.resize(ledger.judged().len(), None);
    }

    Ok(())
}
