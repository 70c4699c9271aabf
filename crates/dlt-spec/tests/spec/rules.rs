mod families;
mod parts;
mod searches;

use dlt_spec::size::Extents;
use dlt_spec::spec::{Initial, Size};
use dlt_spec::{ExitCode, Spec, SpecError, Violation};

use crate::with;

/// Violations of the default spec with these assignments.
fn violations(assignments: &[&str]) -> Vec<Violation> {
    violations_of(&with(assignments).expect("known keys of the right type"))
}

fn violations_of(spec: &Spec) -> Vec<Violation> {
    match spec.check() {
        Ok(_) => Vec::new(),
        Err(SpecError::Invalid { violations }) => violations,
        Err(error) => panic!("{error}"),
    }
}

/// Each of these cases breaks exactly one rule, of this key, and the message contains this text.
fn each_breaks(cases: &[(&[&str], &str, &str)]) {
    for (assignments, key, part) in cases {
        let found = violations(assignments);
        assert_eq!(found.len(), 1, "{assignments:?}: {found:?}");
        assert_eq!(found[0].key, *key, "{assignments:?}");
        assert!(found[0].to_string().contains(part), "{assignments:?}: {}", found[0]);
    }
}

fn all_pass(cases: &[&[&str]]) {
    for assignments in cases {
        assert_eq!(violations(assignments), [], "{assignments:?}");
    }
}

/// A vision transformer of 65 tokens.
const VIT: [&str; 4] = [
    "model.architecture=vit",
    "model.objective=classes",
    "model.attention=full",
    "model.pooling=first",
];

#[test]
fn rejects_a_depth_of_0() {
    each_breaks(&[
        (
            &["model.layers=0"],
            "model.layers",
            "`model.layers` is 0: must be a whole number from 1 to 4096",
        ),
        (&["model.layers=4097"], "model.layers", "4096"),
    ]);
}

#[test]
fn rejects_a_depth_of_1_with_a_policy() {
    each_breaks(&[(&["model.layers=1"], "agent.policy", "nothing to decide")]);
    all_pass(&[&["model.layers=1", "agent.policy=none"]]);
}

#[test]
fn rejects_heads_that_do_not_divide_the_width() {
    each_breaks(&[
        (&["model.heads=5"], "model.heads", "is 5: must be a divisor of model.width = 128"),
        (&["model.heads=256"], "model.heads", "divisor"),
        (&["model.heads=0"], "model.heads", "from 1"),
        (&["model.width=0"], "model.width", "from 1"),
    ]);
}

#[test]
fn rejects_sizes_of_0_and_contexts_of_1() {
    for key in [
        "model.feed_forward",
        "training.batch",
        "training.steps",
        "training.epochs",
        "agent.hidden",
    ] {
        each_breaks(&[(&[&format!("{key}=0")], key, "is 0: must be")]);
    }

    for key in
        ["evaluation.batch", "evaluation.windows", "evaluation.every_steps", "agent.reward_batches"]
    {
        each_breaks(&[(&[&format!("{key}=0")], key, "is 0: must be")]);
    }

    for key in ["model.context", "model.vocabulary"] {
        each_breaks(&[(&[&format!("{key}=1")], key, "is 1: must be")]);
    }
}

#[test]
fn rejects_fewer_positions_than_context() {
    each_breaks(&[(&["model.positions=127"], "model.positions", "at least model.context = 128")]);
    all_pass(&[&["model.positions=128"], &["model.positions=129"]]);
}

#[test]
fn rejects_sizes_whose_bytes_cannot_be_counted() {
    each_breaks(&[
        (&["model.width=2000000000"], "model.width", "to address"),
        (
            &["model.feed_forward=2147483647", "model.layers=4096", "model.width=2147483644"],
            "model.width",
            "to address",
        ),
        (&["model.vocabulary=2147483647", "model.width=1000000000"], "model.width", "to address"),
        (&["model.context=2147483647", "training.batch=2147483647"], "model.width", "to address"),
    ]);

    let mut spec = Spec::default();
    spec.model.width = usize::MAX;
    assert_eq!(violations_of(&spec)[0].key, "model.width");
}

#[test]
fn rejects_numbers_that_a_file_cannot_hold() {
    let mut spec = Spec { seed: u64::MAX, ..Spec::default() };
    spec.tying.decide_every = usize::MAX;
    spec.training.steps = Size::Fixed(usize::MAX);

    let keys: Vec<_> = violations_of(&spec).iter().map(|found| found.key).collect();
    assert_eq!(keys, ["seed", "training.steps", "tying.decide_every"]);
    assert!(violations_of(&spec)[0].value.contains("18446744073709551615"));
}

#[test]
fn rejects_a_name_that_is_no_folder() {
    for name in ["", "a/b", "..", ".hidden", "a b", "a\\\\b", "\u{e9}"] {
        each_breaks(&[(&[&format!("name=\"{name}\"")], "name", "hyphens")]);
    }
    all_pass(&[&["name=wiki-2_k15.v1"]]);
}

#[test]
fn rejects_probabilities_outside_their_range() {
    for (key, wrong) in [
        ("model.dropout", ["1.0", "-0.1", "nan"]),
        ("optimizer.beta1", ["1.0", "-0.1", "nan"]),
        ("optimizer.beta2", ["1.0", "-0.1", "nan"]),
        ("optimizer.final_share", ["1.1", "-0.1", "nan"]),
        ("tying.decide_until", ["1.1", "-0.1", "nan"]),
        ("agent.gamma", ["1.1", "-0.1", "nan"]),
        ("agent.epsilon_start", ["1.1", "-0.1", "nan"]),
        ("agent.epsilon_decay", ["1.1", "0.0", "nan"]),
        ("agent.epsilon_floor", ["1.1", "-0.1", "nan"]),
    ] {
        for value in wrong {
            each_breaks(&[(&[&format!("{key}={value}")], key, "must be a number")]);
        }
    }
}

#[test]
fn rejects_rates_that_are_not_positive_and_finite() {
    for key in [
        "optimizer.learning_rate",
        "agent.learning_rate",
        "optimizer.epsilon",
        "model.norm_epsilon",
    ] {
        for value in ["0", "-1e-3", "inf", "nan"] {
            each_breaks(&[(&[&format!("{key}={value}")], key, "above 0, finite")]);
        }
    }

    for key in ["optimizer.weight_decay", "agent.weight_decay"] {
        for value in ["-1e-3", "inf", "nan"] {
            each_breaks(&[(&[&format!("{key}={value}")], key, "at least 0, finite")]);
        }
    }
}

#[test]
fn rejects_a_clip_norm_of_0_or_nan_but_not_inf() {
    for value in ["0", "-1", "nan", "-inf"] {
        each_breaks(&[(
            &[&format!("optimizer.clip_norm={value}")],
            "optimizer.clip_norm",
            "above 0, inf allowed",
        )]);
    }

    all_pass(&[&["optimizer.clip_norm=inf"]]);
}

#[test]
fn rejects_a_split_that_is_no_partition() {
    each_breaks(&[
        (&["data.split=[0.9, 0.1, 0.1]"], "data.split", "sum is 1"),
        (&["data.split=[0.9, 0.1, 0.0]"], "data.split", "above 0"),
        (&["data.split=[1.1, 0.1, -0.2]"], "data.split", "above 0"),
        (&["data.split=[nan, 0.5, 0.5]"], "data.split", "above 0"),
    ]);
    all_pass(&[&["data.split=[0.8, 0.1, 0.1]"], &["data.split=[0.7, 0.2, 0.1]"]]);
}

#[test]
fn rejects_the_end_of_text_between_documents_of_blocks() {
    each_breaks(&[(
        &["data.pipeline=blocks", "data.separator=end-of-text"],
        "data.separator",
        "around each block",
    )]);
    all_pass(&[&["data.separator=end-of-text"], &["data.pipeline=blocks", "data.separator=line"]]);
}

#[test]
fn rejects_an_empty_source_or_tokenizer() {
    each_breaks(&[
        (&["data.source="], "data.source", "not empty"),
        (&["data.tokenizer="], "data.tokenizer", "not empty"),
    ]);
}

#[test]
fn rejects_a_micro_batch_that_does_not_divide_the_batch() {
    each_breaks(&[
        (
            &["training.micro_batch=3"],
            "training.micro_batch",
            "is 3: must be a divisor of training.batch = 8",
        ),
        (&["training.micro_batch=16"], "training.micro_batch", "divisor"),
        (&["training.micro_batch=0"], "training.micro_batch", "from 1"),
    ]);

    let spec = with(&["training.micro_batch=2"]).unwrap().check().unwrap();
    assert_eq!((spec.micro_batch(), spec.micro_batches()), (2, 4));
}

/// It ends with training, so that a preset can be tried with a few steps.
#[test]
fn a_warmup_may_be_longer_than_training() {
    all_pass(&[
        &["training.steps=10", "optimizer.warmup_steps=11"],
        &["optimizer.warmup_steps=11"],
    ]);
}

#[test]
fn rejects_decisions_every_0_steps() {
    each_breaks(&[(&["tying.decide_every=0"], "tying.decide_every", "from 1")]);
}

#[test]
fn rejects_groupings_that_are_no_state_of_this_depth() {
    for key in ["tying.initial", "agent.pattern"] {
        for (owners, reason) in [
            ("[0, 0, 1]", "expected an owner"),
            ("[0, 2, 2]", "expected at most 1"),
            ("[0, 0]", "expected 3 layers, got 2"),
            ("[]", "expected 3 layers, got 0"),
            ("[1, 1, 1]", "expected at most 0"),
        ] {
            each_breaks(&[(&["model.layers=3", &format!("{key}={owners}")], key, reason)]);
        }

        all_pass(&[&["model.layers=3", &format!("{key}=[0, 1, 1]")]]);
    }
}

#[test]
fn rejects_a_permutation_that_is_none() {
    let replay = ["model.layers=3", "agent.policy=permuted-replay", "agent.recording=states.jsonl"];
    for permutation in ["[0, 1]", "[0, 1, 1]", "[1, 2, 3]", "[0, 1, 2, 3]"] {
        let assignment = format!("agent.permutation={permutation}");
        each_breaks(&[(
            &[&replay[..], &[&assignment]].concat(),
            "agent.permutation",
            "each of 0 to 2 once",
        )]);
    }

    all_pass(&[&replay, &[&replay[..], &["agent.permutation=[2, 0, 1]"]].concat()]);
}

#[test]
fn rejects_a_permutation_of_another_policy() {
    each_breaks(&[(
        &["model.layers=3", "agent.permutation=[2, 0, 1]"],
        "agent.permutation",
        "unless agent.policy is \"permuted-replay\"",
    )]);
}

#[test]
fn rejects_a_replay_without_a_recording_and_a_recording_without_a_replay() {
    each_breaks(&[
        (&["agent.policy=replay"], "agent.recording", "the path of a states.jsonl"),
        (&["agent.policy=permuted-replay"], "agent.recording", "the path of a states.jsonl"),
        (&["agent.recording=states.jsonl"], "agent.recording", "empty unless"),
    ]);
    all_pass(&[&["agent.policy=replay", "agent.recording=states.jsonl"]]);
}

#[test]
fn rejects_the_fixed_policy_without_a_pattern() {
    each_breaks(&[(&["agent.policy=fixed"], "agent.pattern", "other than \"frozen\"")]);
    let fixed = with(&["model.layers=3", "agent.policy=fixed", "agent.pattern=cycle"]).unwrap();
    assert_eq!(fixed.check().unwrap().agent_setup().pattern().owners(), [0, 1, 0]);
}

#[test]
fn rejects_per_layer_settings_of_joint_decisions() {
    let sweep = "data.order=sweep";
    each_breaks(&[
        (&["tying.state_vector=raw"], "tying.state_vector", "per-layer"),
        (&["agent.epsilon_decay_per=sweep"], "agent.epsilon_decay_per", "no sweep"),
        (&[sweep], "data.order", "visits layers one by one"),
        (
            &[sweep, "tying.decision=per-layer", "agent.policy=none"],
            "data.order",
            "visits layers one by one",
        ),
    ]);

    all_pass(&[&[
        sweep,
        "tying.decision=per-layer",
        "tying.state_vector=raw",
        "agent.epsilon_decay_per=sweep",
    ]]);
}

#[test]
fn rejects_a_literal_first_tie_where_every_visit_applies() {
    each_breaks(&[(
        &["tying.retied=keep", "tying.first_tie=literal"],
        "tying.first_tie",
        "\"replicate\" unless tying.retied is \"follow\"",
    )]);

    all_pass(&[
        &["tying.retied=keep"],
        &["tying.first_tie=literal"],
        &["tying.retied=keep", "tying.first_tie=replicate"],
        &["tying.retied=follow", "tying.first_tie=literal"],
    ]);
}

#[test]
fn rejects_a_trainable_start_without_decisions_that_settle_it() {
    let start = "tying.initial=trainable";
    each_breaks(&[
        (
            &[start, "agent.policy=none"],
            "tying.initial",
            "must be \"independent\" where agent.policy is \"none\"",
        ),
        (&[start, "tying.tie=replicate"], "tying.initial", "must be \"frozen\" or \"independent\""),
        (&[start, "tying.retied=keep"], "tying.retied", "must be \"follow\" where tying.initial"),
        (
            &["agent.policy=fixed", "agent.pattern=trainable"],
            "agent.pattern",
            "\"trainable\" only says how a run starts",
        ),
    ]);

    all_pass(&[
        &[start],
        &[start, "tying.first_tie=literal"],
        &[start, "tying.decision=per-layer"],
    ]);
    let spec = with(&[start, "model.layers=3"]).unwrap().check().unwrap();
    assert_eq!((spec.initial_state().owners(), spec.starts_trainable()), (&[0, 0, 0][..], true));
}

#[test]
fn residual_factors_are_those_of_the_start() {
    let factors = |set: &[&str]| with(set).unwrap().check().unwrap().residual_factors();
    let uses = "tying.residual_scale=uses";
    let third = 1.0 / 3.0;

    for (initial, expected) in [
        ("tied", [0.25; 4]),
        ("independent", [1.0; 4]),
        ("frozen", [1.0; 4]),
        ("trainable", [1.0; 4]),
        ("cycle", [0.5; 4]),
        ("[0, 1, 1, 1]", [1.0, third, third, third]),
    ] {
        let initial = format!("tying.initial={initial}");
        assert_eq!(factors(&["model.layers=4", uses, &initial]), expected, "{initial}");
        assert_eq!(factors(&["model.layers=4", &initial]), [1.0; 4], "{initial}");
    }
}

#[test]
fn rejects_replication_where_layers_would_share_weights() {
    let replicate = "tying.tie=replicate";
    for initial in ["tied", "cycle", "cycle-reversed", "sequence", "[0, 1, 1]"] {
        let initial = format!("tying.initial={initial}");
        each_breaks(&[(
            &["model.layers=3", replicate, &initial],
            "tying.initial",
            "must be \"frozen\" or \"independent\" where tying.tie is \"replicate\"",
        )]);
    }

    each_breaks(&[
        (&[replicate, "tying.gradient=owner"], "tying.gradient", "must be \"sum\" where tying.tie"),
        (&[replicate, "tying.untie=alias"], "tying.untie", "must be \"copy\" where tying.tie"),
        (&[replicate, "tying.retied=keep"], "tying.retied", "must be \"follow\" where tying.tie"),
        (
            &[replicate, "model.layers=3", "tying.initial=[0, 0]"],
            "tying.initial",
            "expected 3 layers, got 2",
        ),
    ]);

    all_pass(&[
        &[replicate],
        &[
            replicate,
            "tying.initial=independent",
            "tying.decision=per-layer",
            "tying.first_tie=literal",
        ],
        &[replicate, "model.layers=3", "tying.initial=[0, 1, 2]", "tying.moments=resume"],
    ]);
}

#[test]
fn rejects_exploration_that_starts_below_its_floor() {
    each_breaks(&[(
        &["agent.epsilon_start=0.05"],
        "agent.epsilon_start",
        "is 0.05: must be at least agent.epsilon_floor = 0.1",
    )]);
    all_pass(&[&["agent.epsilon_start=0.1"], &["agent.epsilon_start=0", "agent.epsilon_floor=0"]]);
}

#[test]
fn every_violation_is_reported_at_once_in_the_order_of_the_file() {
    let spec =
        with(&["tying.decide_every=0", "model.heads=5", "agent.gamma=2", "training.batch=0"])
            .unwrap();
    let error = spec.check().unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::BadSpec);

    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(lines[0], "4 values of the spec cannot be used:");

    for (line, key) in lines[1..].iter().zip([
        "model.heads",
        "training.batch",
        "tying.decide_every",
        "agent.gamma",
    ]) {
        assert!(line.starts_with(&format!("  `{key}` is ")), "{text}");
    }
}

#[test]
fn rejects_hand_made_specs_of_another_layout() {
    let spec = Spec { schema: 2, ..Spec::default() };
    assert_eq!(violations_of(&spec)[0].key, "schema");
}

#[test]
fn accessors_resolve_what_is_left_open() {
    let spec = with(&["model.layers=4", "tying.initial=cycle"]).unwrap().check().unwrap();
    let data = Extents { vocabulary: 100, classes: 3 };
    assert_eq!(
        (spec.feed_forward(), spec.tokens(), spec.positions(), spec.key_heads()),
        (512, 128, 128, 4)
    );
    assert_eq!(spec.extents(data), data);
    assert_eq!((spec.micro_batch(), spec.micro_batches(), spec.evaluation_batch()), (8, 1, 8));
    assert_eq!((spec.steps_per_pass(81), spec.steps(81), spec.evaluate_every(81)), (10, 10, 10));
    assert_eq!((spec.steps_per_pass(7), spec.evaluate_every(7)), (0, 1));
    assert_eq!(spec.initial_state().owners(), [0, 1, 0, 1]);
    assert!(!spec.starts_frozen());

    let fixed =
        ["model.feed_forward=3", "model.positions=200", "model.vocabulary=9", "training.steps=5"];
    let classes = ["model.classes=2"];
    let more = [
        "evaluation.batch=2",
        "evaluation.every_steps=4",
        "tying.decision=per-layer",
        "data.order=sweep",
    ];

    let spec = with(&[&fixed[..], &more, &classes].concat()).unwrap().check().unwrap();
    assert_eq!((spec.feed_forward(), spec.tokens(), spec.positions()), (3, 128, 200));
    assert_eq!(spec.extents(data), Extents { vocabulary: 9, classes: 2 });
    assert_eq!((spec.steps(81), spec.evaluation_batch(), spec.evaluate_every(81)), (5, 2, 4));
    assert_eq!(spec.steps_per_pass(81), 11 * 15);
    assert!(spec.starts_frozen());
    assert_eq!(spec.initial_state().n_independent(), 1);

    let vit = with(&[&VIT[..], &["model.picture=48", "model.patch=16"]].concat())
        .unwrap()
        .check()
        .unwrap();
    assert_eq!((vit.tokens(), vit.positions()), (10, 10));

    let llama = with(&["model.architecture=llama", "model.key_heads=2"]).unwrap().check().unwrap();
    assert_eq!(llama.key_heads(), 2);
}

#[test]
fn every_named_grouping_is_a_state_of_every_depth() {
    for layers in 1..=7 {
        for name in [
            "frozen",
            "independent",
            "tied",
            "cycle",
            "cycle-reversed",
            "cycle-reversed-as-written",
            "sequence",
        ] {
            let spec = with(&[
                &format!("model.layers={layers}"),
                &format!("tying.initial={name}"),
                "agent.policy=none",
            ]);
            assert_eq!(spec.unwrap().check().unwrap().initial_state().n_layers(), layers);
        }
    }

    let mut spec = Spec::default();
    spec.tying.initial = Initial::Owners((0..12).collect());
    assert_eq!(spec.check().unwrap().initial_state().n_independent(), 12);
}

/// A run that grows by splits: the base of the cases below.
const GROWTH: [&str; 4] =
    ["tying.decision=split", "tying.grow=[0.3, 0.5]", "tying.initial=tied", "agent.policy=grow"];

/// Growth with more assignments over it.
fn growth<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&GROWTH[..], more].concat()
}

#[test]
fn rejects_splits_without_times_or_out_of_order() {
    each_breaks(&[
        (&growth(&["tying.grow=[0.5, 0.3]"]), "tying.grow", "in rising order"),
        (&growth(&["tying.grow=[]"]), "tying.grow", "at least one time"),
        (&growth(&["tying.grow=[0.0]"]), "tying.grow", "above 0 and below 1"),
        (&growth(&["tying.grow=[1.0]"]), "tying.grow", "above 0 and below 1"),
        (
            &["tying.grow=[0.5]"],
            "tying.grow",
            "tying.decision is \"split\" or \"swap\": set tying.grow=[]",
        ),
        (
            &growth(&["model.layers=4", "tying.groups=5"]),
            "tying.groups",
            "at most model.layers = 4",
        ),
        (&growth(&["tying.groups=0"]), "tying.groups", "1"),
        (&growth(&["tying.budget=0.0"]), "tying.budget", "above 0 and at most 1"),
        (
            &growth(&["tying.decision=swap", "agent.policy=conflict", "tying.grow=[]"]),
            "tying.initial",
            "one group cannot be swapped",
        ),
    ]);

    all_pass(&[
        &growth(&[]),
        &growth(&["tying.grow=[0.3, 0.3, 0.9]", "tying.groups=3", "tying.budget=0.25"]),
        &growth(&[
            "tying.decision=swap",
            "agent.policy=conflict",
            "tying.grow=[]",
            "tying.initial=sequence",
        ]),
    ]);
}

#[test]
fn rejects_policies_that_cannot_make_the_decisions() {
    each_breaks(&[
        (&["agent.policy=grow"], "agent.policy", "where tying.decision is \"joint\""),
        (&["agent.policy=even"], "agent.policy", "(tying.decision = \"split\")"),
        (&["agent.policy=conflict"], "agent.policy", "(\"swap\")"),
        (
            &growth(&["agent.policy=q"]),
            "agent.policy",
            "\"grow\", \"even\", \"random\" or \"none\"",
        ),
        (&growth(&["agent.policy=conflict"]), "agent.policy", "\"grow\", \"even\""),
        (&growth(&["tying.decision=swap"]), "agent.policy", "\"conflict\", \"random\" or \"none\""),
        (
            &["tying.decision=single", "agent.policy=fixed", "agent.pattern=cycle"],
            "agent.policy",
            "\"q\", \"random\" or \"none\"",
        ),
        (
            &growth(&["model.objective=classes", "training.trains=head", "data.source=glue/sst2"]),
            "agent.policy",
            "needs no gradients",
        ),
    ]);

    all_pass(&[
        &growth(&["agent.policy=even"]),
        &growth(&["agent.policy=random"]),
        &growth(&["tying.decision=swap", "agent.policy=random"]),
        &["tying.decision=single"],
        &["tying.decision=single", "agent.policy=random"],
        // A run is replayed with its own spec, whatever `tying.decision` it has.
        &growth(&["agent.policy=replay", "agent.recording=states.jsonl"]),
        &growth(&[
            "tying.decision=swap",
            "agent.policy=permuted-replay",
            "agent.recording=states.jsonl",
        ]),
        &["tying.decision=single", "agent.policy=replay", "agent.recording=states.jsonl"],
    ]);
}

#[test]
fn rejects_splits_averages_and_gates_over_weights_that_are_elsewhere_than_the_state_says() {
    let grounds: [(&[&str], &str); 3] = [
        (&GROWTH, "where tying.decision is"),
        (&["tying.merge=average"], "where tying.merge is"),
        (&["tying.gate=0.1"], "where tying.gate is"),
    ];

    for (ground, place) in grounds {
        for key in ["tying.tie", "tying.untie", "tying.retied", "tying.gradient"] {
            let other = match key {
                "tying.tie" => "tying.tie=replicate",
                "tying.untie" => "tying.untie=alias",
                "tying.retied" => "tying.retied=keep",
                _ => "tying.gradient=owner",
            };

            let found = violations(&[ground, &["tying.initial=independent", other]].concat());
            let about: Vec<_> = found.iter().filter(|violation| violation.key == key).collect();
            assert_eq!(about.len(), 1, "{ground:?} with {other}: {found:?}");
            assert!(about[0].to_string().contains(place), "{ground:?} with {other}: {}", about[0]);
        }

        all_pass(&[ground]);
    }

    for initial in ["tying.initial=frozen", "tying.initial=trainable"] {
        each_breaks(&[(&growth(&[initial]), "tying.initial", "where groups are split")]);
    }

    each_breaks(&[(&["tying.gate=-0.1"], "tying.gate", "at least 0")]);
}
