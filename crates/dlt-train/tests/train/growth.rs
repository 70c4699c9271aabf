//! Splits, averaged merges and the gate, in whole runs.

use std::sync::Arc;

use candle_core::Device;
use dlt_kernels::{Gelu, Kernels};
use dlt_models::backward::TrainingPass;
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::{Batch, Model};
use dlt_spec::Spec;
use dlt_spec::record::DecisionRow;
use dlt_spec::spec::{Checkpointing, Merge, Moments, TyingSpec};
use dlt_state::{Recording, State};
use dlt_train::optimizer::Optimizer;

use crate::bench::{Bench, finish, losses};
use crate::fixtures::{adamw, gpt2};

/// Growth from one block by two splits.
const GROWTH: [&str; 6] = [
    "tying.decision=split",
    "tying.grow=[0.25, 0.5]",
    "tying.initial=tied",
    "tying.moments=inherit",
    "tying.group_rate=inverse",
    "agent.policy=even",
];

fn growth<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&GROWTH[..], more].concat()
}

/// Runs to the end. Returns the decisions and the recording.
fn run(bench: &Bench, name: &str, settings: &[&str]) -> (Vec<DecisionRow>, Recording) {
    finish(bench.trainer(name, settings, None));
    (bench.decisions(name), bench.recording(name))
}

#[test]
fn even_growth_halves_the_largest_group_at_its_times() {
    let bench = Bench::new();
    let (rows, recording) = run(&bench, "even", &growth(&[]));
    let states: Vec<_> =
        recording.iter().map(|(step, state)| (step, state.owners().to_vec())).collect();

    assert_eq!(states, [(6, vec![0, 0, 2, 2]), (12, vec![0, 1, 2, 2])]);
    assert!(rows.iter().all(|row| row.untied_events == 1 && row.conflict.is_none()), "{rows:?}");
}

/// The loss before a split and right after it are the same bits, whatever policy chose it, because
/// the new block is a copy.
#[test]
fn law_a_split_keeps_the_function() {
    let policies = ["agent.policy=even", "agent.policy=grow", "agent.policy=random"];
    let scales = ["tying.residual_scale=none", "tying.residual_scale=uses"];

    for (policy, scale) in
        policies.into_iter().flat_map(|policy| scales.map(|scale| (policy, scale)))
    {
        let bench = Bench::new();
        let (rows, recording) = run(&bench, "a", &growth(&[policy, scale, "agent.reward=gain"]));
        assert_eq!(recording.rows().len(), 2, "{policy}");

        for row in rows {
            assert_eq!(row.reward, Some(0.0), "{policy}: {row:?}");
            assert!(
                row.loss_before.is_some_and(f64::is_finite) && row.loss_after.is_none(),
                "{policy}"
            );
        }
    }
}

#[test]
fn a_split_by_gradients_says_how_much_they_disagree() {
    let bench = Bench::new();
    let settings = growth(&["agent.policy=grow", "tying.grow=[0.25, 0.25, 0.5]"]);
    let (rows, recording) = run(&bench, "grow", &settings);
    let sizes: Vec<_> =
        recording.iter().map(|(step, state)| (step, state.n_independent())).collect();

    assert_eq!(sizes, [(6, 2), (6, 3), (12, 4)]);

    for row in rows {
        // Unit gradients of L layers are at most 2 apart: the disagreement of a bipartition is at
        // most L.
        assert!(row.conflict.is_some_and(|conflict| conflict > 0.0 && conflict <= 4.0), "{row:?}");
    }
}

/// The residual factors of the start stay when groups change, and a run without them has other
/// losses.
#[test]
fn scaled_branches_keep_the_factors_of_the_start() {
    let bench = Bench::new();
    let scaled = growth(&["tying.residual_scale=uses"]);
    let mut trainer = bench.trainer("scaled", &scaled, None);

    while trainer.advance().unwrap().is_some() {
        let architecture = trainer.model().architecture();
        assert_eq!([0, 1, 2, 3].map(|layer| architecture.residual_factor(layer)), [0.25; 4]);
    }

    trainer.finish().unwrap();
    assert_eq!(bench.recording("scaled").iter().last().unwrap().1.n_independent(), 3);
    finish(bench.trainer("plain", &growth(&[]), None));
    assert_ne!(losses(&bench.metrics("scaled")), losses(&bench.metrics("plain")));
}

/// A run that replays the splits of a run with statistics has the same losses, bit for bit.
#[test]
fn law_gathering_statistics_changes_no_weight() {
    let bench = Bench::new();
    let (_, recording) = run(&bench, "grow", &growth(&["agent.policy=grow"]));
    let replay =
        ["tying.decision=joint", "tying.grow=[]", "agent.policy=replay", "agent.recording=grow"];

    finish(bench.trainer("replay", &growth(&replay), Some(&recording)));
    assert_eq!(losses(&bench.metrics("grow")), losses(&bench.metrics("replay")));
}

/// Every decision that ties is measured before and after, and undone if the loss rises by more than
/// the gate.
#[test]
fn a_gate_undoes_what_raises_the_loss() {
    let bench = Bench::new();
    let settings = [
        "agent.policy=random",
        "tying.initial=independent",
        "tying.decide_every=2",
        "tying.gate=0.0",
    ];

    let (rows, recording) = run(&bench, "gated", &settings);
    assert_eq!(recording.version(), Recording::GATED_VERSION);

    let mut state = State::independent(4);
    let mut refused = 0;
    for (row, recorded) in rows.iter().zip(recording.rows()) {
        assert_eq!(row.refused, recorded.refused().is_some(), "{row:?}");
        assert_eq!(row.state, recorded.state().owners(), "{row:?}");

        match (row.loss_before, row.loss_after) {
            (Some(before), Some(after)) => assert_eq!(row.refused, after > before, "{row:?}"),
            _ => assert!(!row.refused && row.tied_events == 0, "{row:?}"),
        }

        // Without a tie there is nothing to measure.
        if row
            .action
            .as_ref()
            .is_some_and(|action| State::new(action.clone()).is_ok_and(|asked| asked == state))
        {
            assert!(row.loss_after.is_none(), "{row:?}");
        }

        if row.refused {
            assert_eq!(row.state, state.owners(), "{row:?}");
            assert_eq!((row.tied_events, row.untied_events), (0, 0));
            refused += 1;
        }

        state = recorded.state().clone();
    }

    assert!(refused > 0 && refused < rows.len(), "{refused} of {}", rows.len());
}

/// A gate that lets all decisions pass measures them and changes nothing else. The random policy
/// learns nothing from the measurements.
#[test]
fn law_a_gate_that_lets_all_pass_changes_no_weight() {
    let bench = Bench::new();
    let open = ["agent.policy=random", "tying.initial=independent"];
    let (rows, _) = run(&bench, "open", &open);
    let (gated, recording) = run(&bench, "gated", &[&open[..], &["tying.gate=1e9"]].concat());

    assert!(recording.rows().iter().all(|row| row.refused().is_none()));
    assert!(gated.iter().any(|row| row.loss_after.is_some()));

    let states =
        |rows: &[DecisionRow]| rows.iter().map(|row| row.state.clone()).collect::<Vec<_>>();
    assert_eq!(states(&rows), states(&gated));
    assert_eq!(losses(&bench.metrics("open")), losses(&bench.metrics("gated")));
}

/// Weights and moments after a decision was undone are those of before it, bit for bit, in the
/// steps that follow too.
#[test]
fn law_what_was_undone_leaves_nothing_behind() {
    for moments in [Moments::Fresh, Moments::Inherit, Moments::Resume] {
        for merge in [Merge::Overwrite, Merge::Average] {
            let tying = TyingSpec { moments, merge, ..Spec::default().tying };
            let start = || {
                let architecture = Arc::new(gpt2([4, 12, 3, 20, 8, 31], Gelu::Tanh));
                let binding = Binding::of_state(&State::new(vec![0, 0, 2, 3]).expect("a state"));
                let model = Model::new(
                    architecture,
                    binding,
                    Rules::from(&tying),
                    Kernels::Fused,
                    7,
                    &Device::Cpu,
                )
                .expect("a small model fits");

                (model, Optimizer::new(&adamw(), &tying))
            };

            let (mut touched, mut optimizer) = start();
            let (left_alone, mut other) = start();
            step(&touched, &mut optimizer);
            step(&left_alone, &mut other);

            let blocks = touched.hold();
            let rest = optimizer.hold();
            let from = State::new(vec![0, 0, 2, 3]).expect("a state");
            let to = State::new(vec![0, 1, 0, 1]).expect("a state");
            let change = Change { from: &from, to: &to, action: to.as_action(), visited: None };
            let settlement = touched.apply(&change).expect("applied");

            optimizer.settle(&settlement).expect("settled");
            assert_ne!(weights(&touched), weights(&left_alone));
            touched.go_back(blocks);
            optimizer.go_back(rest);

            for _ in 0..2 {
                assert_eq!(weights(&touched), weights(&left_alone), "{moments:?}, {merge:?}");
                step(&touched, &mut optimizer);
                step(&left_alone, &mut other);
            }

            let changed = optimizer.slots().keys().eq(other.slots().keys());
            assert!(changed, "{moments:?}, {merge:?}: moments of the same layers");
        }
    }
}

fn step(model: &Model, optimizer: &mut Optimizer) {
    let batch = Batch::next_token(&[1, 2, 3, 4, 5, 6, 7, 8], &[2, 3, 4, 5, 6, 7, 8, 9], 1);
    let pass = TrainingPass {
        checkpointing: Checkpointing::None,
        dropout: None,
        scale: 0.125,
        sketch: None,
    };

    let (_, gradients) = model.gradients(&batch, &pass).expect("a pass");
    let norm = gradients.norm().expect("a norm");
    optimizer.step(model, gradients, norm, 0.01).expect("a step");
}

/// The weights that each layer computes with.
fn weights(model: &Model) -> Vec<Vec<f32>> {
    let layers = (0..4).flat_map(|layer| {
        let tensors = model.bank().weights(model.binding().storage(layer)).expect("weights");
        tensors
            .into_iter()
            .map(|tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("f32"))
    });

    layers.collect()
}

/// A run with a raised number of steps makes the splits that it has not made, at their new times,
/// and no split twice.
#[test]
fn a_run_whose_steps_are_raised_splits_no_more_than_it_says() {
    let bench = Bench::new();
    finish(bench.trainer("raised", &growth(&[]), None));

    let (trainer, _) = bench.resume("raised", &growth(&["training.steps=80"]), None);
    finish(trainer);

    let steps: Vec<_> = bench.recording("raised").iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [6, 12]);
}

/// A recording can be replayed under the spec that made it. Decisions that were undone change
/// nothing in the replay either.
#[test]
fn law_a_run_that_grew_is_replayed_bit_for_bit_under_its_own_spec() {
    let swaps = [
        "tying.decision=swap",
        "tying.grow=[0.1, 0.2]",
        "tying.initial=tied",
        "tying.moments=inherit",
        "tying.merge=average",
        "tying.decide_every=2",
        "tying.gate=0.0",
        "agent.policy=random",
    ];

    for settings in [growth(&["agent.policy=grow"]), swaps.to_vec()] {
        let bench = Bench::new();
        let (_, recording) = run(&bench, "made", &settings);
        let undone = recording.rows().iter().filter(|row| row.refused().is_some()).count();

        assert_eq!(undone > 0, settings.contains(&"tying.gate=0.0"), "{settings:?}");
        let again = [&settings[..], &["agent.policy=replay", "agent.recording=made"]].concat();
        finish(bench.trainer("again", &again, Some(&recording)));
        assert_eq!(losses(&bench.metrics("made")), losses(&bench.metrics("again")), "{settings:?}");
    }
}

/// Two groups are merged by averaging, at a constant number of groups.
#[test]
fn swaps_keep_the_number_of_groups() {
    let bench = Bench::new();
    let settings = [
        "tying.decision=swap",
        "tying.initial=sequence",
        "tying.merge=average",
        "tying.moments=inherit",
        "tying.decide_every=2",
    ];

    for policy in ["agent.policy=conflict", "agent.policy=random"] {
        let name = policy.rsplit('=').next().expect("a name");
        let (rows, recording) = run(&bench, name, &[&settings[..], &[policy]].concat());
        assert!(recording.iter().all(|(_, state)| state.n_independent() == 2), "{policy}");
        assert!(rows.len() > 5);

        let moved = rows.iter().any(|row| row.tied_events > 0);
        assert!(moved || name == "conflict", "{policy}: {rows:?}");
    }
}

/// A gain is the fall of the loss on the same batches, measured `k` steps later.
#[test]
fn a_late_gain_is_the_fall_of_the_loss_on_the_same_batches() {
    let bench = Bench::new();
    let settings = [
        "tying.decision=single",
        "agent.policy=random",
        "agent.reward=gain",
        "agent.reward_timing=after-steps",
        "optimizer.learning_rate=1e-9",
        "tying.initial=independent",
    ];

    let (rows, _) = run(&bench, "late", &settings);
    // Almost nothing is learned at this rate, so only ties change the loss, and the losses of the
    // same batches can be compared.
    for row in rows.iter().filter(|row| row.reward.is_some()) {
        let gain = row.reward.expect("rewarded");
        if row.tied_events == 0 {
            assert!(gain.abs() < 1e-5, "{row:?}");
        }
    }

    assert!(
        rows.iter()
            .any(|row| row.tied_events > 0 && row.reward.is_some_and(|gain| gain.abs() > 1e-5))
    );
}
