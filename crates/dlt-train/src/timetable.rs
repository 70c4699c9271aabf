//! When decisions are made, and of which kind each one is.

use dlt_agent::Turn;
use dlt_spec::CheckedSpec;
use dlt_spec::spec::{DecideUnit, Decision, FirstDecision, PolicyKind};
use dlt_state::{Recording, Row, State};

/// Tolerance for rounding, so that a split that meets the budget exactly is still made.
const ROUNDING: f64 = 1e-9;

/// When decisions are made. A decision is made before the training step that follows it, so the
/// last state is always trained and evaluated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Timetable {
    /// At equal distances, as the spec says (DEVIATIONS rows 6, 9, 26, 40).
    Regular(Clock),
    /// At the steps of a recording, whatever distances the spec says.
    Recorded(Vec<usize>),
    /// Splits, each after its number of training steps, then swaps at equal distances (row 41).
    Growing { splits: Vec<usize>, swaps: Option<Clock> },
}

/// Equal distances between decisions, in training steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clock {
    /// Training steps before the first decision.
    first: usize,
    /// Training steps between two decisions; at least 1.
    every: usize,
    /// Training steps from which on no decision is made.
    until: usize,
}

impl Clock {
    /// Whether a decision is due after `done` training steps.
    fn rings_after(&self, done: usize) -> bool {
        let Self { first, every, until } = *self;
        done >= first && (done - first).is_multiple_of(every) && done < until
    }

    /// Whether a decision is due after `done` training steps or later.
    fn rings_from(&self, done: usize) -> bool {
        // The first ring at or after `done`. Saturating: a spec may set distances up to the
        // greatest number, which then means never.
        let missed = done.saturating_sub(self.first).div_ceil(self.every);
        self.first.saturating_add(missed.saturating_mul(self.every)) < self.until
    }
}

impl Timetable {
    /// The timetable of a run of `steps` steps over `train_windows` windows. `recording` holds the
    /// decisions that `agent.recording` names.
    pub(crate) fn new(
        spec: &CheckedSpec,
        steps: usize,
        train_windows: usize,
        recording: Option<&Recording>,
    ) -> Self {
        let tying = &spec.tying;
        let every = every(spec, train_windows);
        let until = (tying.decide_until * steps as f64).round() as usize;

        // First: a replay follows the steps of its recording, whatever `tying.decision` says.
        if let Some(recording) = recording.filter(|_| spec.agent.policy.replays()) {
            return Self::Recorded(recording.rows().iter().map(Row::step).collect());
        }

        match tying.decision {
            Decision::Joint | Decision::PerLayer | Decision::Single => {
                let first = match tying.first_decision {
                    FirstDecision::AfterK => every,
                    FirstDecision::AtStep0 => 1,
                    FirstDecision::BeforeFirstStep => 0,
                };

                Self::Regular(Clock { first, every, until })
            }
            Decision::Split => Self::Growing { splits: splits(spec, steps, &[]), swaps: None },
            Decision::Swap => {
                let splits = splits(spec, steps, &[]);
                // Counted from the last split, so that the state it leads to is trained for a whole
                // distance before the first swap.
                let first = splits.last().copied().unwrap_or(0).saturating_add(every);
                Self::Growing { splits, swaps: Some(Clock { first, every, until }) }
            }
        }
    }

    /// The decisions due after `done` training steps, in order.
    pub(crate) fn turns_after(&self, done: usize) -> Vec<Turn> {
        match self {
            Self::Regular(clock) => {
                Vec::from_iter(clock.rings_after(done).then_some(Turn::Regular))
            }
            Self::Recorded(steps) => {
                steps.iter().filter(|&&step| step == done).map(|_| Turn::Regular).collect()
            }
            Self::Growing { splits, swaps } => {
                // `tying.grow` may name one time twice: then two splits are due at one step.
                let splits = splits.iter().filter(|&&step| step == done).map(|_| Turn::Split);
                let swap = swaps.filter(|clock| clock.rings_after(done)).map(|_| Turn::Swap);
                splits.chain(swap).collect()
            }
        }
    }

    /// The timetable of a run that continues after the decisions in `recording`. If the number of
    /// steps was raised, the times of splits have moved. Splits that were made are not made again;
    /// they count for groups and budget with the steps at which they were made.
    pub(crate) fn behind(self, recording: &Recording, spec: &CheckedSpec, steps: usize) -> Self {
        let Self::Growing { splits: planned, swaps } = self else { return self };
        let groups = |state: &State| state.n_independent();

        // A split is known by one more group than before; a swap keeps their number.
        let before =
            std::iter::once(recording.initial()).chain(recording.rows().iter().map(Row::state));
        let grown = before
            .zip(recording.rows())
            .filter(|(before, row)| groups(row.state()) > groups(before));

        let made: Vec<usize> = grown.map(|(_, row)| row.step()).collect();
        let splits = match planned.strip_prefix(made.as_slice()) {
            // The splits so far were made at their planned steps, so the rest of the plan holds.
            // Planning again takes the splits made to be the first ones of `tying.grow`, which they
            // are not if the budget left one out.
            Some(rest) => rest.to_vec(),
            None => splits(spec, steps, &made),
        };

        Self::Growing { splits, swaps }
    }

    /// Number of splits in the timetable.
    pub(crate) fn n_splits(&self) -> usize {
        match self {
            Self::Growing { splits, .. } => splits.len(),
            Self::Regular(_) | Self::Recorded(_) => 0,
        }
    }

    /// Whether any decision is due after `done` training steps or later.
    pub(crate) fn decides_from(&self, done: usize) -> bool {
        match self {
            Self::Regular(clock) => clock.rings_from(done),
            Self::Recorded(steps) => steps.iter().any(|&step| step >= done),
            Self::Growing { splits, swaps } => {
                splits.iter().any(|&step| step >= done)
                    || swaps.is_some_and(|clock| clock.rings_from(done))
            }
        }
    }
}

/// Training steps between two decisions, k; at least 1.
pub(crate) fn every(spec: &CheckedSpec, train_windows: usize) -> usize {
    match spec.tying.decide_unit {
        DecideUnit::Steps => spec.tying.decide_every,
        DecideUnit::Epochs => {
            spec.tying.decide_every.saturating_mul(spec.steps_per_pass(train_windows)).max(1)
        }
    }
}

/// Training steps before each split that a run of `steps` steps still makes. `made` holds the steps
/// after which it has already made splits.
fn splits(spec: &CheckedSpec, steps: usize, made: &[usize]) -> Vec<usize> {
    shares_and_steps(spec, steps, made).into_iter().map(|(_, step)| step).collect()
}

/// The same splits, each with its time in `tying.grow`: (time, training steps before it), as groups
/// and budget allow. A split needs a step before it, to learn from, and a step after it, to be
/// trained.
fn shares_and_steps(spec: &CheckedSpec, steps: usize, made: &[usize]) -> Vec<(f64, usize)> {
    let tying = &spec.tying;
    let layers = spec.model.layers;
    let trained = |step: usize| steps.saturating_sub(step) as f64;
    let start = spec.initial_state().n_independent();
    let mut groups = start + made.len();

    // Blocks summed over all steps, and the most that the budget allows. A split adds one block for
    // every step after it.
    let mut blocks =
        start as f64 * steps as f64 + made.iter().map(|&step| trained(step)).sum::<f64>();
    let most = tying.budget * layers as f64 * steps as f64 * (1.0 + ROUNDING);
    let last = steps.saturating_sub(1);
    let mut splits = Vec::new();

    for &share in tying.grow.iter().skip(made.len()) {
        let step = ((share * steps as f64).round() as usize).max(1).min(last);
        // A split that is too dear is skipped, and the loop continues: a later one costs less, so
        // it can still fit.
        if last == 0 || groups >= tying.groups.or(layers) || blocks + trained(step) > most {
            continue;
        }

        splits.push((share, step));
        groups += 1;
        blocks += trained(step);
    }

    splits
}

/// Assumed number of steps of a run whose length is not known.
const USUAL_STEPS: usize = 10_000;

/// Number of groups after the last split; `None` if the spec does not split groups. If
/// `training.steps` is `auto`, the number is that of a long run: a very short one can have fewer.
#[must_use]
pub fn grown_groups(spec: &CheckedSpec) -> Option<usize> {
    let steps = spec.training.steps.or(USUAL_STEPS);
    grows(spec).then(|| spec.initial_state().n_independent() + splits(spec, steps, &[]).len())
}

/// The times of `tying.grow` at which groups are split, as groups and budget allow; empty if groups
/// are not split at the times of the spec. `steps` is the length of the run, if it is known.
#[must_use]
pub fn split_times(spec: &CheckedSpec, steps: Option<usize>) -> Vec<f64> {
    if !grows(spec) {
        return Vec::new();
    }
    let steps = steps.unwrap_or_else(|| spec.training.steps.or(USUAL_STEPS));
    shares_and_steps(spec, steps, &[]).into_iter().map(|(share, _)| share).collect()
}

/// Whether groups are split at the times of the spec. They are not if the policy is `none`, or if
/// it replays a recording.
pub(crate) fn grows(spec: &CheckedSpec) -> bool {
    let is_other = spec.agent.policy == PolicyKind::None || spec.agent.policy.replays();
    matches!(spec.tying.decision, Decision::Split | Decision::Swap) && !is_other
}

/// Number of decisions that a run over `train_windows` windows makes; `None` if the policy is
/// `none`. `recording` holds the decisions that `agent.recording` names.
#[must_use]
pub fn due_decisions(
    spec: &CheckedSpec,
    train_windows: usize,
    recording: Option<&Recording>,
) -> Option<usize> {
    let steps = spec.steps(train_windows);
    let table = Timetable::new(spec, steps, train_windows, recording);
    let decides = spec.agent.policy != PolicyKind::None;
    decides.then(|| (0..steps).map(|done| table.turns_after(done).len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlt_spec::{Overlay, Spec};

    fn spec(assignments: &[&str]) -> CheckedSpec {
        let overlays: Vec<_> =
            assignments.iter().map(|one| Overlay::from_assignment(one).expect("a key")).collect();
        Spec::assemble(&overlays).expect("known keys").check().expect("a spec that can train")
    }

    /// Steps after which a decision is due, of 60 steps over 80 windows in batches of 8.
    fn due(assignments: &[&str]) -> Vec<usize> {
        let table = Timetable::new(&spec(assignments), 60, 80, None);
        let due: Vec<_> = (0..60).filter(|&done| !table.turns_after(done).is_empty()).collect();

        for done in 0..70 {
            assert_eq!(
                table.decides_from(done),
                due.iter().any(|&step| step >= done),
                "{done}: {due:?}"
            );
        }

        due
    }

    fn growth<'a>(more: &[&'a str]) -> Vec<&'a str> {
        let ground =
            ["model.layers=12", "tying.decision=split", "tying.initial=tied", "agent.policy=even"];
        [&ground[..], more].concat()
    }

    #[test]
    fn decisions_come_when_each_reading_says() {
        assert_eq!(due(&["tying.first_decision=after-k"]), [15, 30, 45]);
        assert_eq!(due(&["tying.first_decision=at-step-0"]), [1, 16, 31, 46]);
        assert_eq!(due(&["tying.first_decision=before-first-step"]), [0, 15, 30, 45]);
    }

    #[test]
    fn decisions_end_with_their_share_of_training() {
        assert_eq!(due(&["tying.decide_until=0.5"]), [15]);
        assert_eq!(due(&["tying.decide_until=0.51"]), [15, 30]);
        assert_eq!(due(&["tying.decide_until=0.0"]), [0; 0]);
    }

    #[test]
    fn decisions_are_counted_in_passes_where_the_spec_says_so() {
        assert_eq!(due(&["tying.decide_unit=epochs", "tying.decide_every=2"]), [20, 40]);
        let whole = due(&["tying.decide_unit=epochs", "tying.decide_every=9223372036854775807"]);
        assert_eq!(whole, [0; 0]);
    }

    #[test]
    fn splits_come_at_their_shares_of_training() {
        let turns = |assignments: &[&str], done| {
            Timetable::new(&spec(assignments), 60, 80, None).turns_after(done)
        };
        let grow = growth(&["tying.grow=[0.1, 0.5, 0.5]"]);
        assert_eq!(due(&grow), [6, 30]);
        assert_eq!(turns(&grow, 6), [Turn::Split]);
        assert_eq!(turns(&grow, 30), [Turn::Split, Turn::Split]);

        // A split learns from a step before it and is trained in a step after it.
        assert_eq!(due(&growth(&["tying.grow=[0.0001, 0.9999]"])), [1, 59]);
        let one = Timetable::new(&spec(&grow), 1, 80, None);
        assert_eq!(one, Timetable::Growing { splits: Vec::new(), swaps: None });
    }

    #[test]
    fn splits_that_were_made_are_not_made_again_where_steps_are_raised() {
        let made = |steps: &[usize]| {
            let mut recording = Recording::new(12);
            for (index, &step) in steps.iter().enumerate() {
                let state = dlt_state::pattern::leading(12, index + 2);
                recording.push(step, state.into(), None).expect("rising steps");
            }

            recording
        };

        let behind = |more: &[&str], steps: usize, done: &[usize]| {
            let spec = spec(&growth(&[&["tying.grow=[0.1, 0.25, 0.5]"], more].concat()));
            match Timetable::new(&spec, steps, 80, None).behind(&made(done), &spec, steps) {
                Timetable::Growing { splits, .. } => splits,
                other => panic!("{other:?}"),
            }
        };

        assert_eq!(behind(&[], 60, &[]), [6, 15, 30]);
        assert_eq!(behind(&[], 60, &[6]), [15, 30]);
        assert_eq!(behind(&[], 600, &[6]), [150, 300]);
        assert_eq!(behind(&[], 600, &[6, 15, 30]), [0; 0]);

        // Splits at the steps at which they were made cost more of the budget than at their new
        // times: 600 + 594 + 585 + 300 of 7200 blocks.
        assert_eq!(behind(&["tying.budget=0.28"], 600, &[6, 15]), [0; 0]);
        assert_eq!(behind(&["tying.budget=0.29"], 600, &[6, 15]), [300]);

        // A split that the budget left out stays left out after a stop: the rest is that of the
        // same timetable.
        assert_eq!(behind(&["tying.budget=0.15"], 60, &[]), [15]);
        assert_eq!(behind(&["tying.budget=0.15"], 60, &[15]), [0; 0]);

        let clock = Timetable::new(&spec(&[]), 60, 80, None);
        assert_eq!(clock.clone().behind(&made(&[6]), &spec(&[]), 60), clock);
    }

    #[test]
    fn swaps_come_behind_the_last_split() {
        let swap =
            growth(&["tying.decision=swap", "agent.policy=conflict", "tying.grow=[0.1, 0.2]"]);
        assert_eq!(due(&swap), [6, 12, 27, 42, 57]);

        let table = Timetable::new(&spec(&swap), 60, 80, None);
        assert_eq!(table.turns_after(27), [Turn::Swap]);

        let swap = [&swap[..], &["tying.decide_until=0.5"]].concat();
        assert_eq!(due(&swap), [6, 12, 27]);

        let at_once =
            growth(&["tying.decision=swap", "agent.policy=conflict", "tying.initial=sequence"]);
        assert_eq!(due(&at_once), [15, 30, 45]);
    }

    #[test]
    fn splits_stop_at_groups_and_at_the_budget() {
        let grow =
            |more: &[&str]| due(&growth(&[&["tying.grow=[0.1, 0.25, 0.5, 0.75]"], more].concat()));
        assert_eq!(grow(&[]), [6, 15, 30, 45]);
        assert_eq!(grow(&["tying.groups=3"]), [6, 15]);

        let groups = |more: &[&str]| {
            grown_groups(&spec(&growth(&[&["tying.grow=[0.1, 0.5]"], more].concat())))
        };
        assert_eq!(groups(&[]), Some(3));
        assert_eq!(groups(&["tying.groups=2"]), Some(2));

        let times = |more: &[&str], steps| {
            let more = [&["tying.grow=[0.1, 0.25, 0.5, 0.75]"], more].concat();
            split_times(&spec(&growth(&more)), steps)
        };

        assert_eq!(times(&["tying.groups=3"], None), [0.1, 0.25]);
        assert_eq!(times(&["tying.budget=0.15"], Some(60)), [0.25]);

        // A run of one step splits nothing.
        assert_eq!(times(&[], Some(1)), [0.0; 0]);
        assert_eq!(times(&["agent.policy=replay", "agent.recording=states.jsonl"], None), [0.0; 0]);
        assert_eq!(groups(&["agent.policy=none"]), None);
        assert_eq!(groups(&["agent.policy=replay", "agent.recording=states.jsonl"]), None);
        assert_eq!(grown_groups(&spec(&[])), None);
        assert_eq!(grow(&["tying.groups=1"]), [0; 0]);

        // One block throughout costs 60 of the 720 of a conventional model; the splits add 54, 45,
        // 30 and 15.
        assert_eq!(grow(&["tying.budget=0.2834"]), [6, 15, 30, 45]);
        assert_eq!(grow(&["tying.budget=0.2833"]), [6, 15, 30]);

        // A split that costs too much is left out; a later one can still be made.
        assert_eq!(grow(&["tying.budget=0.16"]), [6]);
        assert_eq!(grow(&["tying.budget=0.15"]), [15]);
        assert_eq!(grow(&["tying.budget=0.05"]), [0; 0]);
    }
}
