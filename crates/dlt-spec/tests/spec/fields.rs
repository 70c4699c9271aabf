use std::collections::BTreeSet;
use std::str::FromStr;

use dlt_spec::fields::{self, FIELDS, Values};
use dlt_spec::{Origin, Overlay, Spec, diff};
use proptest::prelude::*;
use toml::{Table, Value};

use crate::with;

fn leaves(prefix: &str, table: &Table) -> Vec<String> {
    table
        .iter()
        .flat_map(|(name, value)| match value {
            Value::Table(section) => leaves(&format!("{prefix}{name}."), section),
            _ => vec![format!("{prefix}{name}")],
        })
        .collect()
}

#[test]
fn law_the_table_has_exactly_the_fields_of_a_spec_in_their_order() {
    let serialised = leaves("", &Table::try_from(Spec::default()).unwrap());
    let table: Vec<String> = FIELDS.iter().map(|field| field.key().to_owned()).collect();
    assert_eq!(table, serialised);
    assert_eq!(table.iter().collect::<BTreeSet<_>>().len(), table.len());
}

#[test]
fn every_field_is_described_and_allows_its_default() {
    for (field, (key, value)) in FIELDS.iter().zip(fields::flatten(&Spec::default())) {
        assert_eq!(field.key(), key);
        assert!(field.meaning().ends_with('.'), "{key}");
        assert!(field.values().allow(&value), "{key} = {value}");

        if let Some(quote) = field.paper() {
            assert!(!quote.value.is_empty() && !quote.place.is_empty(), "{key}");
        }
    }
}

#[test]
fn every_word_of_every_field_is_read_and_no_other() {
    for field in FIELDS {
        for word in field.values().words() {
            // Each word is set alone, also `steps = "auto"`, so that no other field interferes.
            let spec = with(&[&format!("{}={word}", field.key())]).unwrap();
            let word = Value::String(word);
            let is_list = matches!(field.values(), Values::Words(_));
            let expected = if is_list { Value::Array(vec![word]) } else { word };
            assert_eq!(field.value(&spec), expected);
        }

        if matches!(field.values(), Values::Word(_)) {
            assert!(!field.values().words().is_empty(), "{}", field.key());
            assert!(with(&[&format!("{}=no-such-word", field.key())]).is_err(), "{}", field.key());
        }
    }
}

#[test]
fn words_are_those_of_the_method() {
    let words = |key| fields::find(key).unwrap().values().words();
    assert_eq!(words("tying.first_decision"), ["after-k", "at-step-0", "before-first-step"]);

    let rewards = [
        "neg-ppl",
        "neg-ppl-clipped",
        "neg-loss",
        "loss-delta",
        "gain",
        "accuracy",
        "neg-accuracy",
    ];
    assert_eq!(words("agent.reward"), rewards);

    let policies = [
        "none",
        "q",
        "random",
        "fixed",
        "replay",
        "permuted-replay",
        "grow",
        "conflict",
        "even",
        "backtrack",
        "beam",
        "mcts",
        "random-search",
    ];
    assert_eq!(words("agent.policy"), policies);
    assert_eq!(words("tying.decision"), ["joint", "per-layer", "split", "swap", "single"]);

    assert_eq!(
        words("tying.initial"),
        [
            "frozen",
            "trainable",
            "independent",
            "tied",
            "cycle",
            "cycle-reversed",
            "cycle-reversed-as-written",
            "sequence"
        ]
    );
}

#[test]
fn words_are_those_of_the_families_and_what_they_predict() {
    let words = |key| fields::find(key).unwrap().values().words();
    assert_eq!(words("model.attention_bias"), ["auto", "none", "inputs", "all"]);
    assert_eq!(words("model.feed_forward_bias"), ["auto", "none", "all"]);

    let kinds = ["llama3", "linear", "dynamic", "yarn", "yarn-unrounded", "longrope"];
    assert_eq!(words("model.rotary_kind"), kinds);
    assert_eq!(words("model.architecture"), ["gpt2", "bert", "vit", "llama", "qwen3"]);
    assert_eq!(words("model.objective"), ["next-token", "masked-token", "classes"]);
    assert_eq!(words("model.attention"), ["causal", "full"]);
    assert_eq!(words("model.output"), ["tied", "own"]);
    assert_eq!(words("model.pooling"), ["first", "last-real", "last-position", "mean"]);
    assert_eq!(words("data.framing"), ["marked", "bare"]);
    assert_eq!(words("data.normalise"), ["own", "half"]);
    assert_eq!(words("data.augment"), ["none", "flip", "crop-flip"]);
    assert_eq!(words("training.trains"), ["all", "head"]);
    assert_eq!(words("training.activations"), ["f32", "bf16"]);
    assert!(fields::find("model.classes").unwrap().meaning().contains("1 is a single score"));
}

#[test]
fn render_says_meaning_unit_and_source_above_each_value() {
    let text = fields::render(&Spec::default());
    let decide_every = "# Steps or passes between two decisions, k; see tying.decide_unit.\n# \
                        Values: a whole number from 1 to 9223372036854775807; unit: steps or \
                        passes.\n# Paper: 15 (section 4, Alg. 1 line 7).\n# Authors' code: 4 \
                        (language), 10 (vision), 15 (question answering).\ndecide_every = 15\n";
    assert!(text.contains(decide_every), "{text}");
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    assert_eq!(text.matches("\n[").count(), 8);
}

#[test]
fn render_reads_back_with_awkward_values() {
    let mut spec = Spec::default();
    spec.model.start = "hf:someone/a \"model\"".into();
    spec.model.rotary_stretch = [32.0, 1.0 / 3.0, 4.0, 8192.0];
    spec.data.source = "a \"quoted\" \\ path\nwith a line # and \u{e9}".into();
    spec.optimizer.clip_norm = f64::INFINITY;
    spec.optimizer.learning_rate = 1.0 / 3.0;
    spec.optimizer.epsilon = 5e-324;
    spec.seed = i64::MAX as u64;

    let text = fields::render(&spec);
    let overlay = Overlay::from_toml(Origin::File("spec.toml".into()), &text).unwrap();
    assert_eq!(overlay.keys().count(), fields::shown(&spec).count());
    assert_eq!(Spec::assemble(&[overlay]).unwrap(), spec);
    assert_eq!(toml::from_str::<Spec>(&text).unwrap(), spec);
}

#[test]
fn a_spec_shows_the_fields_of_its_family() {
    for family in fields::find("model.architecture").unwrap().values().words() {
        let spec = with(&[&format!("model.architecture={family}")]).unwrap();
        let text = fields::render(&spec);
        for field in FIELDS {
            let is_shown = text.contains(&format!("\n{} = ", field.name()));
            assert_eq!(is_shown, field.is_used_by(spec.model.architecture), "{}", field.key());
        }
    }

    let text = fields::render(&Spec::default());
    assert!(text.contains("\ngelu = ") && !text.contains("rotary_") && !text.contains("\npatch"));
    let llama = fields::render(&with(&["model.architecture=llama"]).unwrap());
    assert!(llama.contains("\nrotary_base = 10000.0\n") && !llama.contains("\ngelu = "));
}

#[test]
fn a_field_of_another_family_is_shown_where_it_is_set_and_may_be_in_an_older_file() {
    let spec = with(&["model.rotary_base=5e5"]).unwrap();
    let text = fields::render(&spec);
    assert!(text.contains("\nrotary_base = 500000.0\n") && !text.contains("rotary_kind"));
    assert_eq!(toml::from_str::<Spec>(&text).unwrap(), spec);

    // Files of earlier versions have every field.
    let origin = Origin::File("spec.toml".into());
    let overlay = Overlay::from_values(origin, fields::flatten(&spec)).unwrap();
    assert_eq!(overlay.keys().count(), FIELDS.len());
    assert_eq!(Spec::assemble(&[overlay]).unwrap(), spec);
}

/// An allowed value of a field, or a value of the right type outside its range.
fn value_of(field: usize) -> BoxedStrategy<Value> {
    match FIELDS[field].values() {
        Values::Whole(..) => (0..=i64::MAX).prop_map(Value::Integer).boxed(),
        Values::WholeOrAuto(..) => {
            prop_oneof![Just(Value::String("auto".into())), (0..=i64::MAX).prop_map(Value::Integer)]
                .boxed()
        }
        Values::Real(_) => {
            any::<f64>().prop_filter("no NaN", |x| !x.is_nan()).prop_map(Value::Float).boxed()
        }
        Values::Reals(count, _) => prop::collection::vec((0.0..1.0).prop_map(Value::Float), count)
            .prop_map(Value::Array)
            .boxed(),
        Values::RealList(_) => prop::collection::vec((0.0..1.0).prop_map(Value::Float), 0..4)
            .prop_map(Value::Array)
            .boxed(),
        Values::Word(words) => prop::sample::select(words()).prop_map(Value::String).boxed(),
        Values::Grouping(words) | Values::LayersOrWord(words) => {
            prop_oneof![prop::sample::select(words()).prop_map(Value::String), layers()].boxed()
        }
        Values::Layers => layers().boxed(),
        Values::Words(words) => prop::sample::subsequence(words(), 0..=words().len())
            .prop_map(|words| Value::Array(words.into_iter().map(Value::String).collect()))
            .boxed(),
        Values::Text | Values::MaybeText | Values::Name => {
            any::<String>().prop_map(Value::String).boxed()
        }
    }
}

fn layers() -> impl Strategy<Value = Value> {
    prop::collection::vec((0..64i64).prop_map(Value::Integer), 0..8).prop_map(Value::Array)
}

proptest! {
    #[test]
    fn law_a_value_that_is_set_is_the_only_change_and_survives_the_file(
        (index, value) in (0..FIELDS.len()).prop_flat_map(|index| (Just(index), value_of(index)))
    ) {
        let field = &FIELDS[index];
        // The schema of a file is checked before anything else, and has its own test.
        prop_assume!(field.key() != "schema");

        let spec = with(&[&format!("{}={value}", field.key())]).unwrap();
        prop_assert_eq!(field.value(&spec), value);
        prop_assert!(diff(&Spec::default(), &spec).iter().all(|change| change.key == field.key()));
        let shown = field.value(&spec).to_string();
        prop_assert_eq!(&Value::from_str(&shown).unwrap(), &field.value(&spec));

        let origin = Origin::File("spec.toml".into());
        let overlay = Overlay::from_toml(origin, &fields::render(&spec)).unwrap();
        prop_assert_eq!(Spec::assemble(&[overlay]).unwrap(), spec);
    }
}
