//! Beam search that begins again with a wider beam until its budget is spent ("Complete Anytime Beam
//! Search", Zhang 1998).

use super::Step;
use super::ledger::Ledger;
use crate::error::AgentError;
use dlt_state::Draw;
use std::collections::BTreeSet;

/// Searches with a beam of `width` states. If that ends before the budget does, it begins again with
/// twice the width, until a beam leaves nothing out.
pub(super) fn run(
    ledger: &mut Ledger<'_>,
    mut width: usize,
    draw: &mut impl Draw,
) -> Result<(), AgentError> {
    while sweep(ledger, width, draw)? == Swept::Part && ledger.left() > 0 {
        width = width.saturating_mul(2);
    }
    Ok(())
}

/// What a beam has gone through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Swept {
    /// Every state.
    Whole,
    /// A part: it left states out, or the budget is spent.
    Part,
}

/// Judges all changes of a beam's states, and makes the `width` cheapest of those that are new in
/// this sweep the next beam, until no state is new. States of earlier sweeps cost no pass.
fn sweep(ledger: &mut Ledger<'_>, width: usize, draw: &mut impl Draw) -> Result<Swept, AgentError> {
    let mut beam = vec![0];
    let mut seen = BTreeSet::from([ledger.judged()[0].state.clone()]);
    let mut swept = Swept::Whole;

    while !beam.is_empty() {
        let mut next = Vec::new();
        for place in beam {
            let from = ledger.judged()[place].state.clone();
            for step in Step::all(&from, draw) {
                let state = step.from(&from)?;
                if seen.insert(state.clone()) {
                    match ledger.judge(&state)? {
                        Some(place) => next.push(place),
                        None => return Ok(Swept::Part),
                    }
                }
            }
        }

        let cost = |place: usize| ledger.judged()[place].cost;
        next.sort_by(|&one, &other| cost(one).total_cmp(&cost(other)).then(one.cmp(&other)));
        if next.len() > width {
            swept = Swept::Part;
            next.truncate(width);
        }
        beam = next;
    }

    Ok(swept)
}
