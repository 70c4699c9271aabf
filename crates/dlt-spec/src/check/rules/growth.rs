//! Rules of what we added to the method: splits, merges and the gate.

use super::Rules;
use crate::check::grouping;
use crate::spec::*;

impl Rules<'_> {
    pub(super) fn growth(&mut self) {
        self.splits();
        self.read_gradients();
        self.kept_function();
    }

    /// When splits come, and how many.
    fn splits(&mut self) {
        let tying = &self.spec.tying;
        let layers = self.spec.model.layers;
        let splits = matches!(tying.decision, Decision::Split | Decision::Swap);

        self.holds("tying.grow", || tying.grow.is_sorted(), "shares of training in rising order");

        self.holds(
            "tying.grow",
            || splits || tying.grow.is_empty(),
            "empty unless tying.decision is \"split\" or \"swap\": set tying.grow=[]",
        );

        self.holds(
            "tying.grow",
            || tying.decision != Decision::Split || !tying.grow.is_empty(),
            "at least one time where tying.decision is \"split\": nothing else is decided",
        );

        self.holds_given(
            "tying.initial",
            &["model.layers"],
            || {
                let groups = |asked: &Initial| {
                    let exempt = tying.exempt.of(layers).ok();
                    let spared =
                        grouping(asked, layers).ok().zip(exempt).and_then(|(state, exempt)| {
                            exempt.reduced(&exempt.spare_state(&state)).ok()
                        });
                    spared.map_or(2, |state| state.n_independent())
                };
                tying.decision != Decision::Swap
                    || !tying.grow.is_empty()
                    || groups(&tying.initial) > 1
            },
            "a grouping of two groups or more where tying.decision is \"swap\" and tying.grow \
             is empty: one group cannot be swapped",
        );

        self.holds_given(
            "tying.groups",
            &["model.layers"],
            || tying.groups.or(layers) <= layers,
            || format!("at most model.layers = {layers}"),
        );
    }

    /// Policies that read gradients of blocks need blocks that train.
    fn read_gradients(&mut self) {
        let policy = self.spec.agent.policy;
        let trains = self.spec.training.trains;

        self.holds_given(
            "agent.policy",
            &["training.trains"],
            || trains == Trains::All || !policy.reads_gradients(),
            "a policy that needs no gradients of blocks where training.trains is \"head\"",
        );
    }

    /// Splits copy weights, merges average them, the gate restores them, and a search judges states
    /// by them: each needs every layer to use the weights that the state names.
    fn kept_function(&mut self) {
        let tying = &self.spec.tying;
        let splits = matches!(tying.decision, Decision::Split | Decision::Swap);
        let searches = self.spec.agent.policy.searches();
        self.holds(
            "tying.merge",
            || !searches || tying.merge == Merge::Overwrite,
            "\"overwrite\" where agent.policy searches: an average would have to be made for every \
             state that is judged",
        );

        let needs = match (splits, tying.merge, tying.gate.is_finite(), searches) {
            (true, ..) => "tying.decision is \"split\" or \"swap\"",
            (_, Merge::Average, ..) => "tying.merge is \"average\"",
            (_, _, true, _) => "tying.gate is finite",
            (.., true) => "agent.policy searches",
            _ => return,
        };

        let only = |word: &str| format!("\"{word}\" where {needs}");
        self.holds("tying.tie", || tying.tie == Tie::Share, || only("share"));
        self.holds("tying.untie", || tying.untie == Untie::Copy, || only("copy"));
        self.holds("tying.retied", || tying.retied == Retied::Follow, || only("follow"));
        self.holds("tying.gradient", || tying.gradient == Gradient::Sum, || only("sum"));

        self.holds(
            "tying.initial",
            || {
                let named = |name| tying.initial == Initial::Named(name);
                !splits || !(named(InitialName::Frozen) || named(InitialName::Trainable))
            },
            "a grouping of trained layers, such as \"tied\", where groups are split",
        );
    }
}
