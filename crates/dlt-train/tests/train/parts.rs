//! Whole runs whose layers share only parts of their blocks, and spare some layers.

use dlt_models::architecture::of_spec;
use dlt_state::State;

use crate::bench::{Bench, losses};
use crate::materials::KINDS;

/// Halves and small parameters that layers keep.
const PARTS: [&[&str]; 4] = [
    &["tying.unit=attention"],
    &["tying.unit=feed-forward", "tying.own=norms"],
    &["tying.own=['norms', 'scales', 'biases']"],
    &["tying.unit=attention", "tying.own=['scales', 'biases']"],
];

const UNTIED: [&str; 4] =
    ["tying.initial=independent", "agent.policy=none", "model.dropout=0.1", "training.steps=8"];

/// Where no layer is ever tied, a run has the same losses whatever layers could share. Scales are
/// trained parameters of their own, so they are left out.
#[test]
fn law_an_untied_run_has_the_same_losses_whatever_layers_keep() {
    for kind in KINDS {
        let bench = Bench::new();
        let settings = [kind.settings, &UNTIED].concat();
        let plain = bench.run("plain", &settings);

        for (number, parts) in PARTS.iter().enumerate() {
            if parts.iter().any(|part| part.contains("scales")) {
                continue;
            }
            let run = number.to_string();
            let other = bench.run(&run, &[&settings[..], parts].concat());
            let what = format!("{} {parts:?}", kind.name);

            assert_eq!(losses(&bench.metrics("plain")), losses(&bench.metrics(&run)), "{what}");
            assert_eq!(plain.validation_loss, other.validation_loss, "{what}");
            assert_eq!(plain.block_parameters_end, other.block_parameters_end, "{what}");
            assert_eq!(
                plain.weights_gradients_moments_mb_peak, other.weights_gradients_moments_mb_peak,
                "{what}"
            );
        }
    }
}

/// What is counted, held and predicted agree: tied parameters once for each group, kept ones for
/// each layer.
#[test]
fn law_parameters_and_memory_are_those_of_groups_and_of_what_layers_keep() {
    for kind in KINDS {
        for parts in PARTS {
            let bench = Bench::new();
            let tied = ["tying.initial=[0, 0, 2, 0]", "agent.policy=none", "training.steps=3"];
            let settings = [kind.settings, &tied, parts].concat();
            let summary = bench.run("tied", &settings);
            let what = format!("{} {parts:?}", kind.name);

            let spec = bench.spec(&settings);
            let material = bench.material(&spec);
            let architecture = of_spec(&spec, material.extents());
            let division = architecture.division();
            let in_blocks = 2 * division.tied().n_parameters() + 4 * division.kept().n_parameters();
            let shared = architecture.shared_layout().n_parameters();
            let plain = architecture.block_layout().n_parameters();

            assert_eq!(summary.block_parameters_end, in_blocks, "{what}");
            assert_eq!(summary.trainable_parameters_end, shared + in_blocks, "{what}");
            assert_eq!(summary.conventional_block_parameters, 4 * plain, "{what}");

            let predicted = dlt_train::memory::predict(
                &*architecture,
                &spec,
                material.widest(),
                &spec.initial_binding(),
                1,
            )
            .expect("a prediction")
            .step;
            let lasting = predicted.weights + predicted.gradients + predicted.moments;
            assert_eq!(lasting, 4 * 4 * (shared + in_blocks), "{what}");
            assert_eq!(summary.weights_gradients_moments_mb_peak, lasting as f64 / 1e6, "{what}");
        }
    }
}

/// While tied parameters are frozen, what layers keep trains.
#[test]
fn what_layers_keep_trains_from_the_first_step() {
    let bench = Bench::new();
    let settings = ["tying.own=norms", "agent.policy=none", "training.steps=2"];
    let mut trainer = bench.trainer("frozen", &settings, None);
    let gains = |trainer: &dlt_train::Trainer| -> Vec<Vec<f32>> {
        let of = |layer| trainer.model().bank().kept(layer).tensors()[0].to_vec1().expect("f32");
        (0..4).map(of).collect()
    };

    let before = gains(&trainer);
    trainer.advance().expect("a step");
    let after = gains(&trainer);
    for layer in 0..4 {
        assert_ne!(before[layer], after[layer], "layer {layer}");
        assert_eq!(trainer.optimizer().kept()[&layer][0].step, 1);
    }
    assert!(trainer.model().binding().is_frozen(1));
    assert_eq!(trainer.optimizer().slots().len(), 1);
}

/// From the same weights, tied layers with parameters of their own learn something else.
#[test]
fn what_layers_keep_changes_what_a_tied_run_learns() {
    let bench = Bench::new();
    let tied = ["tying.initial=tied", "agent.policy=none", "training.steps=60"];
    let plain = bench.run("plain", &tied);
    let own = bench.run("own", &[&tied[..], &["tying.own=['norms', 'scales']"]].concat());
    let half = bench.run("half", &[&tied[..], &["tying.unit=attention"]].concat());

    for other in [&own, &half] {
        assert!(other.trainable_parameters_end > plain.trainable_parameters_end);
        assert_ne!(other.validation_loss, plain.validation_loss);
    }
}

const SPARING: [&str; 2] = ["model.layers=6", "tying.exempt=ends"];

fn spares_ends(state: &State) -> bool {
    let alone = |layer: usize| state.owners().iter().filter(|&&owner| owner == layer).count() == 1;
    alone(0) && alone(5)
}

/// Whatever decides, no state of a run has a tie with an exempt layer.
#[test]
fn law_no_state_of_a_run_touches_an_exempt_layer() {
    let growth = ["tying.initial=tied", "tying.decision=split", "tying.grow=[0.2, 0.4, 0.6]"];
    let swaps = ["tying.decision=swap", "tying.initial=[0, 1, 1, 3, 3, 5]"];
    let methods: [&[&str]; 8] = [
        &["agent.policy=random"],
        &["agent.policy=q", "tying.decision=per-layer", "data.order=sweep"],
        &["agent.policy=q", "tying.decision=single", "tying.initial=independent"],
        &["agent.policy=fixed", "agent.pattern=tied", "tying.initial=trainable"],
        &["agent.policy=random", "tying.tie=replicate"],
        &[&growth[..], &["agent.policy=grow"]].concat(),
        &[&growth[..], &["agent.policy=even", "tying.unit=attention"]].concat(),
        &[&swaps[..], &["agent.policy=conflict", "tying.merge=average"]].concat(),
    ];

    for method in methods {
        let bench = Bench::new();
        bench.run("run", &[&SPARING, method].concat());
        let recording = bench.recording("run");
        assert!(spares_ends(recording.initial()), "{method:?}");
        assert!(recording.rows().iter().all(|row| spares_ends(row.state())), "{method:?}");
        assert!(!recording.rows().is_empty(), "{method:?}");
    }
}

/// A recording of a run that spares no layer is replayed without its ties with exempt layers.
#[test]
fn a_recording_is_replayed_without_ties_of_exempt_layers() {
    let bench = Bench::new();
    let random = ["model.layers=6", "agent.policy=random", "tying.decide_every=4"];
    bench.run("recorded", &random);
    let recording = bench.recording("recorded");
    let settings = [&SPARING[..], &["agent.policy=replay", "agent.recording=recorded"]].concat();

    let trainer = bench.trainer("replayed", &settings, Some(&recording));
    crate::bench::finish(trainer);
    let replayed = bench.recording("replayed");
    let exempt = bench.spec(&settings).exempt();
    assert_eq!(replayed.rows().len(), recording.rows().len());
    for (row, was) in replayed.rows().iter().zip(recording.rows()) {
        assert_eq!(*row.state(), exempt.spare_state(was.state()));
    }
}
