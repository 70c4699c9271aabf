use dlt_spec::Spec;
use dlt_spec::spec::{Architecture, ModelSpec};

use super::{VIT, all_pass, each_breaks, violations_of};
use crate::with;

/// A BERT that predicts hidden tokens.
const MASKED: [&str; 3] =
    ["model.architecture=bert", "model.objective=masked-token", "model.attention=full"];

/// A BERT that predicts classes.
const CLASSES: [&str; 4] = [
    "model.architecture=bert",
    "model.objective=classes",
    "model.attention=full",
    "model.pooling=first",
];

#[test]
fn rejects_pictures_whose_tokens_cannot_be_counted() {
    let many = ["model.picture=1024", "model.patch=1", "training.batch=2147483647"];
    each_breaks(&[(&[&VIT[..], &many].concat(), "model.width", "to address")]);

    let mut spec = with(&VIT).unwrap();
    spec.model.picture = usize::MAX;

    let keys: Vec<_> = violations_of(&spec).iter().map(|found| found.key).collect();
    assert_eq!(keys, ["model.picture"]);
    spec.model = ModelSpec { architecture: Architecture::Gpt2, ..Spec::default().model };
    spec.model.patch = 0;
    assert_eq!(violations_of(&spec)[0].key, "model.patch");
}

#[test]
fn rejects_an_objective_that_a_family_does_not_have() {
    each_breaks(&[
        (
            &["model.architecture=vit"],
            "model.objective",
            "is \"next-token\": must be \"classes\" in vit",
        ),
        (
            &[&VIT[..], &["model.objective=masked-token"]].concat(),
            "model.objective",
            "\"classes\" in vit",
        ),
        (
            &["model.objective=masked-token"],
            "model.objective",
            "must be \"next-token\" or \"classes\" except in bert",
        ),
        (
            &[&MASKED[..], &["model.architecture=llama"]].concat(),
            "model.objective",
            "except in bert",
        ),
        (
            &[&MASKED[..], &["model.architecture=qwen3"]].concat(),
            "model.objective",
            "except in bert",
        ),
    ]);

    let of_classes = |family| [family, "model.objective=classes"];

    all_pass(&[
        &VIT,
        &MASKED,
        &CLASSES,
        &["model.architecture=bert"],
        &["model.architecture=llama"],
        &["model.architecture=qwen3"],
        &of_classes("model.architecture=gpt2"),
        &of_classes("model.architecture=bert"),
        &of_classes("model.architecture=llama"),
        &of_classes("model.architecture=qwen3"),
    ]);
}

#[test]
fn rejects_an_attention_that_sees_what_is_to_be_predicted_or_too_little() {
    let causal = "model.attention=causal";
    let full = "model.attention=full";
    let decoder =
        "must be \"causal\" in gpt2, llama and qwen3, and where the next token is predicted";
    let encoder = "must be \"full\" in vit and for masked tokens";

    each_breaks(&[
        (&[full], "model.attention", decoder),
        (&["model.objective=classes", full], "model.attention", decoder),
        (&["model.architecture=llama", full], "model.attention", decoder),
        (&["model.architecture=qwen3", full], "model.attention", decoder),
        (&["model.architecture=bert", full], "model.attention", decoder),
        (&[&VIT[..], &[causal]].concat(), "model.attention", encoder),
        (&[&MASKED[..], &[causal]].concat(), "model.attention", encoder),
    ]);
}

#[test]
fn rejects_a_pooling_of_positions_that_see_too_little() {
    let classes = "model.objective=classes";
    each_breaks(&[
        (&[classes, "model.pooling=first"], "model.pooling", "the first position sees only itself"),
        (
            &[&CLASSES[..], &["model.pooling=last-real"]].concat(),
            "model.pooling",
            "must be \"first\" or \"mean\" where every position sees all",
        ),
        (
            &[&VIT[..], &["model.pooling=last-position"]].concat(),
            "model.pooling",
            "\"first\" or \"mean\"",
        ),
    ]);

    all_pass(&[
        &[classes, "model.pooling=last-real"],
        &[classes, "model.pooling=last-position"],
        &[classes, "model.pooling=mean"],
        &[&VIT[..], &["model.pooling=mean"]].concat(),
        // They have no effect if no classes are predicted.
        &["model.pooling=first"],
    ]);
}

#[test]
fn rejects_patches_that_do_not_divide_the_picture() {
    let patch = |assignment| [&VIT[..], &[assignment]].concat();
    each_breaks(&[
        (&patch("model.patch=5"), "model.patch", "is 5: must be a divisor of model.picture = 32"),
        (&patch("model.patch=64"), "model.patch", "divisor"),
        (&patch("model.patch=0"), "model.patch", "from 1 to 1024"),
        (&patch("model.picture=1025"), "model.picture", "from 1 to 1024"),
    ]);
    all_pass(&[&patch("model.patch=32"), &["model.patch=5"]]);
}

#[test]
fn rejects_positions_of_a_picture_that_are_not_its_tokens() {
    for wrong in ["model.positions=64", "model.positions=66", "model.positions=128"] {
        each_breaks(&[(
            &[&VIT[..], &[wrong]].concat(),
            "model.positions",
            "must be \"auto\" in vit",
        )]);
    }

    all_pass(&[
        &[&VIT[..], &["model.positions=65"]].concat(),
        &[&VIT[..], &["model.context=2"]].concat(),
    ]);
}

#[test]
fn rejects_heads_of_keys_that_do_not_divide_the_heads() {
    let llama = "model.architecture=llama";
    let rule = "must be a divisor of model.heads = 4 in llama and qwen3, \"auto\" elsewhere";
    each_breaks(&[
        (&[llama, "model.key_heads=3"], "model.key_heads", rule),
        (&[llama, "model.key_heads=8"], "model.key_heads", rule),
        (&[llama, "model.key_heads=0"], "model.key_heads", "from 1"),
        (&["model.key_heads=2"], "model.key_heads", rule),
    ]);

    all_pass(&[
        &[llama, "model.key_heads=1"],
        &[llama, "model.key_heads=2"],
        &["model.architecture=qwen3", "model.key_heads=2"],
        &["model.key_heads=4"],
    ]);
}

#[test]
fn rejects_rotary_positions_that_cannot_turn_or_stretch() {
    let odd = ["model.width=12", "model.heads=4"];
    each_breaks(&[
        (
            &[&odd[..], &["model.architecture=llama"]].concat(),
            "model.heads",
            "must be a number that divides model.width = 12 into even widths",
        ),
        (
            &["model.rotary_stretch=[8, 4, 4, 8192]"],
            "model.rotary_stretch",
            "above that of the low bound",
        ),
        (
            &["model.rotary_stretch=[8, 4, 1, 8192]"],
            "model.rotary_stretch",
            "above that of the low bound",
        ),
        (&["model.rotary_stretch=[0, 1, 4, 8192]"], "model.rotary_stretch", "each above 0"),
        (&["model.rotary_base=0"], "model.rotary_base", "above 0"),
    ]);
    all_pass(&[&odd, &["model.architecture=llama", "model.rotary_stretch=[32, 1, 4, 8192]"]]);
}

#[test]
fn rejects_what_only_rotary_families_have_elsewhere() {
    for wrong in [
        "model.head_width=32",
        "model.attention_bias=all",
        "model.attention_bias=none",
        "model.feed_forward_bias=all",
        "model.attention_window=4096",
    ] {
        let key = wrong.split('=').next().unwrap();
        each_breaks(&[(&[wrong], key, "must be \"auto\" except in llama and qwen3")]);
        all_pass(&[&["model.architecture=llama", wrong], &["model.architecture=qwen3", wrong]]);
    }

    each_breaks(&[(
        &["model.rotary_kind=yarn"],
        "model.rotary_kind",
        "must be \"llama3\" except in llama and qwen3",
    )]);
}

#[test]
fn rejects_heads_and_windows_that_cannot_be() {
    let llama = "model.architecture=llama";
    each_breaks(&[
        (&[llama, "model.head_width=7"], "model.head_width", "must be even, for rotary positions"),
        (
            &[llama, "model.attention_window=127"],
            "model.attention_window",
            "must be at least model.context = 128",
        ),
        (&[llama, "model.heads=5"], "model.heads", "must be a divisor of model.width = 128"),
        (
            &["model.architecture=qwen3", "model.head_width=7"],
            "model.head_width",
            "must be even, for rotary positions",
        ),
    ]);

    // Heads with `head_width` need not divide the width of the stream.
    all_pass(&[
        &[llama, "model.heads=5", "model.head_width=6"],
        &[llama, "model.attention_window=128"],
    ]);
}

#[test]
fn rejects_rotary_kinds_without_what_they_need() {
    let llama = "model.architecture=llama";
    let long = [llama, "model.rotary_kind=longrope", "model.head_width=4"];
    let with = |more: &[&'static str]| [&long[..], more].concat();
    let two = "must be 2 numbers, one for each frequency";
    let none = "must be empty unless model.rotary_kind is \"longrope\"";

    each_breaks(&[
        (
            &with(&["model.rotary_short=[1.0]", "model.rotary_long=[1.0, 2.0]"]),
            "model.rotary_short",
            two,
        ),
        (&with(&["model.rotary_short=[1.0, 2.0]"]), "model.rotary_long", two),
        (&[llama, "model.rotary_short=[1.0]"], "model.rotary_short", none),
        (
            &with(&["model.rotary_short=[1.0, 0.0]", "model.rotary_long=[1.0, 2.0]"]),
            "model.rotary_short",
            "each above 0",
        ),
        (
            &[llama, "model.rotary_attention=1.1"],
            "model.rotary_attention",
            "must be 1 unless model.rotary_kind is",
        ),
        (
            &[llama, "model.rotary_stretch=[0.5, 1, 4, 8192]"],
            "model.rotary_stretch",
            "a factor of at least 1",
        ),
        (
            &[llama, "model.rotary_stretch=[2, 1, 4, 0.4]"],
            "model.rotary_stretch",
            "at least one token",
        ),
        (&[llama, "model.rotary_base=0.5"], "model.rotary_base", "must be at least 1"),
        (
            &[llama, "model.rotary_kind=yarn", "model.rotary_base=1"],
            "model.rotary_base",
            "above 1 under yarn",
        ),
    ]);

    all_pass(&[
        &with(&[
            "model.rotary_short=[1.0, 2.0]",
            "model.rotary_long=[3.0, 4.0]",
            "model.rotary_attention=1.1",
        ]),
        &[llama, "model.rotary_kind=yarn", "model.rotary_attention=1.1"],
        &[llama, "model.rotary_kind=dynamic", "model.rotary_stretch=[2, 1, 4, 64]"],
        &[llama, "model.rotary_kind=linear", "model.rotary_stretch=[2, 1, 4, 8192]"],
    ]);
}

#[test]
fn rejects_what_is_for_classes_where_none_are_predicted() {
    for (key, value, rule) in [
        ("training.trains", "head", "must be \"all\" unless model.objective is \"classes\""),
        (
            "agent.reward",
            "accuracy",
            "must be another reward unless model.objective is \"classes\"",
        ),
        ("agent.reward", "neg-accuracy", "another reward unless"),
    ] {
        let assignment: &str = &format!("{key}={value}");
        each_breaks(&[
            (&[assignment], key, rule),
            (&[&MASKED[..], &[assignment]].concat(), key, rule),
        ]);
        all_pass(&[&["model.objective=classes", assignment], &[&VIT[..], &[assignment]].concat()]);
    }
}

#[test]
fn rejects_classes_of_0_and_shares_of_nothing() {
    each_breaks(&[
        (&["model.classes=0"], "model.classes", "must be \"auto\" or a whole number from 1"),
        (&["data.mask_share=0"], "data.mask_share", "above 0 and below 1"),
        (&["data.mask_share=1"], "data.mask_share", "above 0 and below 1"),
    ]);
    all_pass(&[&["model.objective=classes", "model.classes=1"], &["model.classes=2"]]);
}

#[test]
fn rejects_blocks_of_the_next_token_for_masked_tokens() {
    each_breaks(&[(
        &[&MASKED[..], &["data.pipeline=blocks"]].concat(),
        "data.pipeline",
        "must be \"stream\" for masked tokens",
    )]);
}

#[test]
fn rejects_frozen_layers_of_a_model_that_is_read() {
    let start = "model.start=runs/smoke-1";
    each_breaks(&[(
        &[start],
        "tying.initial",
        "is \"frozen\": must be \"independent\", \"tied\" or owners where model.start names a \
         model: weights of frozen layers are drawn, not read",
    )]);

    all_pass(&[
        &[start, "tying.initial=independent"],
        &[start, "tying.initial=tied"],
        &[start, "model.layers=3", "tying.initial=[0, 0, 2]"],
        &["model.start=", "tying.initial=frozen"],
    ]);
}
