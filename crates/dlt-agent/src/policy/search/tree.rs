//! Monte-Carlo tree search with upper confidence bounds (UCT, Kocsis and Szepesvari 2006) and
//! progressive widening (Chaslot et al. 2008).

use super::Step;
use super::ledger::Ledger;
use crate::error::AgentError;
use dlt_state::{Draw, State};

/// Weight of what a node may be above its value. UCB1 has 2, with which a tree of some hundred visits
/// is hardly more than a draw.
const EXPLORATION: f64 = 0.1;

/// A judged state in the tree. Its place in the tree is that in the ledger: every judged state is
/// in the tree, once.
struct Node {
    parent: Option<usize>,
    /// Changes that were not tried yet.
    untried: Vec<Step>,
    children: Vec<usize>,
    /// Judgements of this state and of those below it.
    visits: usize,
    /// The greatest of their values: one good state is looked for, not a good mean.
    value: f64,
    /// Whether nothing is left to try here and below.
    is_done: bool,
}

impl Node {
    fn of_state(state: &State, parent: Option<usize>, draw: &mut impl Draw) -> Self {
        let untried = Step::all(state, draw);
        let children = Vec::new();
        Self { parent, untried, children, visits: 0, value: 0.0, is_done: false }
    }

    /// Whether it may get one more child: the number of children is at most the square root of the
    /// number of visits, rounded up. So a state with many changes is not tried in breadth alone.
    fn may_widen(&self) -> bool {
        self.children.len() * self.children.len() < self.visits
    }

    /// The value, and what it may be above that.
    fn bound(&self, of_parent: usize) -> f64 {
        self.value + (EXPLORATION * (of_parent as f64).ln() / self.visits as f64).sqrt()
    }
}

/// Judges one state after the other. Each is a child of the node that is reached from the present
/// state by the greatest bound. It ends with the budget, or when every state is judged.
pub(super) fn run(ledger: &mut Ledger<'_>, draw: &mut impl Draw) -> Result<(), AgentError> {
    let mut tree = vec![Node::of_state(&ledger.judged()[0].state, None, draw)];
    // The present state has a value of its own, as every other node; no bound reads it.
    tree[0].visits = 1;

    while ledger.left() > 0 {
        let Some((parent, state)) = select(&mut tree, ledger)? else { break };
        let Some(place) = ledger.judge(&state)? else { break };

        tree.push(Node::of_state(&state, Some(parent), draw));
        tree[parent].children.push(place);

        let value = value(ledger, place);
        let mut above = Some(place);
        while let Some(at) = above {
            tree[at].visits += 1;
            tree[at].value = tree[at].value.max(value);
            above = tree[at].parent;
        }
    }

    Ok(())
}

/// The next node to widen, and the state to widen it by. `None` if no node has anything left.
fn select(tree: &mut [Node], ledger: &Ledger<'_>) -> Result<Option<(usize, State)>, AgentError> {
    let mut at = 0;
    loop {
        let next = untried(&mut tree[at], &ledger.judged()[at].state, ledger)?;
        let node = &tree[at];
        let bound = |child: usize| tree[child].bound(node.visits);
        // Of equals the earliest: `max_by` returns the last.
        let open = node.children.iter().rev().copied().filter(|&child| !tree[child].is_done);
        let best = open.max_by(|&one, &other| bound(one).total_cmp(&bound(other)));

        match (best, next) {
            (Some(child), None) => at = child,
            (Some(child), Some(_)) if !node.may_widen() => at = child,
            (_, Some(state)) => return Ok(Some((at, state))),
            (None, None) => {
                // Nothing is left here, so another way down is looked for from above.
                tree[at].is_done = true;
                let Some(parent) = tree[at].parent else { return Ok(None) };
                at = parent;
            }
        }
    }
}

/// The state that the next change of a node leads to. Changes that lead to a state in the tree are
/// dropped; the one that is returned stays until its state is in the tree.
fn untried(
    node: &mut Node,
    state: &State,
    ledger: &Ledger<'_>,
) -> Result<Option<State>, AgentError> {
    while let Some(step) = node.untried.last() {
        let next = step.from(state)?;
        if !ledger.knows(&next) {
            return Ok(Some(next));
        }
        node.untried.pop();
    }

    Ok(None)
}

/// The value of a judged state: the share of the earlier ones that cost more, where equal ones count
/// half. A rank needs no unit, and one very bad state does not make all others look alike.
fn value(ledger: &Ledger<'_>, place: usize) -> f64 {
    let (earlier, own) = (&ledger.judged()[..place], ledger.judged()[place].cost);
    let dearer = earlier.iter().filter(|other| other.cost > own).count() as f64;
    let equal = earlier.iter().filter(|other| other.cost == own).count() as f64;
    (dearer + equal / 2.0) / place as f64
}
