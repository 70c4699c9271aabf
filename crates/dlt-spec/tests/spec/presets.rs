use dlt_spec::fields::{self, FIELDS};
use dlt_spec::presets::{
    DEFAULT_PRESET, METHOD_SECTIONS, METHODS, PRESETS, Preset, method, preset,
};
use dlt_spec::spec::*;
use dlt_spec::{ExitCode, Origin, Overlay, Spec, SpecError, diff};
use toml::Value;

const MODELS: [&str; 10] = [
    "smoke",
    "shakespeare-12",
    "shakespeare-one-block",
    "gpt2-small",
    "gpt2-paper",
    "bert-small",
    "bert-paper",
    "llama-small",
    "vit-cifar",
    "vit-paper",
];

/// The key that is refused if this model is trained with this method.
fn refused(preset: &str, method: &str) -> Option<&'static str> {
    match (method, preset.starts_with("vit")) {
        // Its reward is an accuracy, which text does not have.
        ("reference-vision", false) => Some("agent.reward"),
        // It reads the last position, which in a picture has seen no more than the others.
        ("reference-glue", true) => Some("model.pooling"),
        _ => None,
    }
}

/// The defaults that a method changes, with its values.
fn changes(method_name: &str) -> Vec<(&'static str, String)> {
    let spec = method(method_name).unwrap().spec().unwrap();
    diff(&Spec::default(), &spec).into_iter().map(|change| (change.key, change.to)).collect()
}

/// Whether a key is in a section of which a method replaces every setting.
fn is_of_method(key: &str) -> bool {
    METHOD_SECTIONS.contains(&fields::find(key).unwrap().section())
}

/// The keys in which two methods differ.
fn difference(a: &str, b: &str) -> Vec<&'static str> {
    let [a, b] = [a, b].map(|name| method(name).unwrap().spec().unwrap());
    diff(&a, &b).iter().map(|change| change.key).collect()
}

fn names(presets: &[Preset]) -> Vec<&'static str> {
    presets.iter().map(Preset::name).collect()
}

#[test]
fn every_preset_passes_with_every_method_that_is_for_it() {
    assert_eq!(names(PRESETS), MODELS);
    assert_eq!(
        names(METHODS),
        ["paper", "reference", "reference-vision", "reference-glue", "short", "growth"]
    );
    assert!(preset(DEFAULT_PRESET).is_ok());

    for preset in PRESETS {
        let spec = preset.spec().unwrap();
        assert_eq!(spec.name, preset.name());
        spec.check().unwrap();

        for method in METHODS {
            let spec =
                Spec::assemble(&[preset.overlay().unwrap(), method.overlay().unwrap()]).unwrap();
            assert_eq!(toml::from_str::<Spec>(&fields::render(&spec)).unwrap(), spec);

            let found: Vec<&str> = match spec.check() {
                Ok(_) => Vec::new(),
                Err(SpecError::Invalid { violations }) => {
                    violations.iter().map(|found| found.key).collect()
                }
                Err(error) => panic!("{error}"),
            };

            let expected: Vec<&str> = refused(preset.name(), method.name()).into_iter().collect();
            assert_eq!(found, expected, "{} with {}", preset.name(), method.name());
        }
    }
}

#[test]
fn every_preset_says_source_cost_expectation_and_command() {
    for preset in PRESETS.iter().chain(METHODS) {
        let header = preset.header();
        for entry in ["Source:", "Cost:", "Expect:", "Command: dlt train --"] {
            assert!(
                header.lines().any(|line| line.starts_with(entry)),
                "{}: {entry}",
                preset.name()
            );
        }

        assert!(!header.starts_with("Source:"), "{} starts with what it is", preset.name());
    }
}

#[test]
fn law_a_method_replaces_every_method_setting_of_a_preset() {
    for method in METHODS {
        let overlay = method.overlay().unwrap();
        for field in FIELDS.iter().filter(|field| is_of_method(field.key())) {
            assert!(
                overlay.keys().any(|key| key == field.key()),
                "{} lacks {}",
                method.name(),
                field.key()
            );
        }

        for section in ["", "training"] {
            let foreign = |key: &str| fields::find(key).unwrap().section() == section;
            assert!(!overlay.keys().any(foreign), "{} settles a length or a name", method.name());
        }
    }
}

#[test]
fn law_a_method_on_top_of_another_leaves_nothing_of_it() {
    for below in METHODS {
        for above in METHODS {
            let overlays = [below, above].map(|method| method.overlay().unwrap());
            let both = Spec::assemble(&overlays).unwrap();
            let alone = above.spec().unwrap();
            let rest = diff(&alone, &both).into_iter().map(|change| change.key);
            let rest: Vec<_> = rest.filter(|key| is_of_method(key)).collect();
            assert!(rest.is_empty(), "{} over {}: {rest:?}", above.name(), below.name());
        }
    }
}

#[test]
fn the_file_of_a_method_repeats_no_default() {
    let default = Spec::default();
    for method in METHODS {
        let file = Overlay::from_toml(Origin::File(method.name().into()), method.text()).unwrap();
        for (key, value) in file.values().filter(|(key, _)| is_of_method(key)) {
            let same = *value == fields::find(key).unwrap().value(&default);
            assert!(!same, "{} repeats {key} = {value}", method.name());
        }
    }
}

/// The paper's value is a word of what the table quotes; where the paper gives none, the optimizer
/// has the value of the authors' code.
#[test]
fn the_default_method_has_the_values_that_the_table_quotes() {
    let default = Spec::default();
    for field in FIELDS.iter().filter(|field| is_of_method(field.key())) {
        let quote = match field.paper() {
            Some(quote) => quote.value,
            None if field.section() == "optimizer" => field.authors_code(),
            None => "",
        };

        // "never stops" is the share 1.
        if quote.is_empty() || field.key() == "tying.decide_until" {
            continue;
        }

        let value = field.value(&default);
        let is_it = |word: &str| match &value {
            Value::String(value) => word == value,
            Value::Integer(value) => word.parse() == Ok(*value),
            Value::Float(value) => word.parse() == Ok(*value),
            _ => false,
        };

        let mut words = quote.split([' ', ',', ';', ':']);
        assert!(words.any(is_it), "{} = {value}, but the table quotes {quote}", field.key());
    }
}

#[test]
fn every_value_of_a_method_has_its_source_beside_it() {
    for method in METHODS {
        for line in
            method.text().lines().filter(|line| line.contains(" = ") && !line.starts_with('#'))
        {
            let (_, source) =
                line.split_once(" # ").unwrap_or_else(|| panic!("{}: {line}", method.name()));
            let known =
                ["row ", "section ", "Alg. ", "Eq. ", "not stated", "none: ", "without effect"];
            assert!(known.iter().any(|word| source.contains(word)), "{}: {line}", method.name());
        }
    }
}

#[test]
fn the_paper_method_is_the_default() {
    let spec = method("paper").unwrap().spec().unwrap();
    assert!(diff(&Spec::default(), &spec).is_empty(), "{:?}", diff(&Spec::default(), &spec));
}

#[test]
fn the_reference_method_differs_from_the_paper_exactly_in_the_rows_of_the_authors_code() {
    let expected = [
        ("model.gelu", "\"erf\""),
        ("model.dropout", "0.2"),
        ("data.pipeline", "\"blocks\""),
        ("data.order", "\"sweep\""),
        ("evaluation.select_on", "\"validation-and-test\""),
        ("tying.decision", "\"per-layer\""),
        ("tying.decide_every", "4"),
        ("tying.first_decision", "\"before-first-step\""),
        ("tying.gradient", "\"owner\""),
        ("tying.untie", "\"alias\""),
        ("tying.retied", "\"keep\""),
        ("tying.moments", "\"resume\""),
        ("tying.state_vector", "\"raw\""),
        ("agent.network", "\"reference\""),
        ("agent.weight_decay", "0.01"),
        ("agent.epsilon_floor", "0.01"),
        ("agent.epsilon_decay_per", "\"sweep\""),
        ("agent.reward", "\"neg-ppl-clipped\""),
        ("agent.reward_timing", "\"after-steps\""),
    ];
    assert_eq!(changes("reference"), expected.map(|(key, to)| (key, to.to_owned())));
}

#[test]
fn the_reference_methods_of_pictures_and_of_glue_differ_from_that_of_language_in_their_rows() {
    assert_eq!(
        difference("reference", "reference-vision"),
        [
            "model.norm_epsilon",
            "model.dropout",
            "data.pipeline",
            "data.normalise",
            "tying.decide_every",
            "agent.epsilon_floor",
            "agent.reward",
        ]
    );

    assert_eq!(
        difference("reference", "reference-glue"),
        [
            "model.objective",
            "model.classes",
            "model.pooling",
            "data.pipeline",
            "data.order",
            "data.framing",
            "evaluation.select_on",
            "tying.initial",
            "agent.policy",
        ]
    );

    let vision = method("reference-vision").unwrap().spec().unwrap();
    assert_eq!((vision.tying.decide_every, vision.agent.epsilon_floor), (10, 0.1));
    assert_eq!(
        (vision.agent.reward, vision.data.normalise),
        (Reward::NegAccuracy, Normalise::Half)
    );

    let glue = method("reference-glue").unwrap().spec().unwrap();
    assert_eq!((glue.model.objective, glue.model.classes), (Objective::Classes, Size::Fixed(1)));
    assert_eq!((glue.model.pooling, glue.data.framing), (Pooling::LastPosition, Framing::Bare));
    assert_eq!((glue.agent.policy, glue.optimizer.learning_rate), (PolicyKind::None, 1e-4));
}

#[test]
fn the_glue_method_starts_from_a_model_and_leaves_a_grouping_that_is_set_over_it() {
    let fine_tuned = |assignments: &[&str]| {
        let mut overlays = [preset("smoke").unwrap(), method("reference-glue").unwrap()]
            .map(|preset| preset.overlay().unwrap())
            .to_vec();
        overlays.extend(assignments.iter().map(|text| Overlay::from_assignment(text).unwrap()));
        Spec::assemble(&overlays).unwrap().check().unwrap()
    };

    let start = "model.start=runs/smoke-1";
    assert_eq!(fine_tuned(&[start]).initial_state().owners(), [0, 1, 2]);
    assert_eq!(fine_tuned(&[start, "tying.initial=[0, 1, 1]"]).initial_state().owners(), [0, 1, 1]);
}

#[test]
fn the_large_preset_has_the_papers_values() {
    let spec = preset("gpt2-paper").unwrap().spec().unwrap().check().unwrap();
    // Section 4 and Table 1.
    assert_eq!((spec.model.layers, spec.model.width, spec.model.heads), (48, 1600, 16));
    assert_eq!(
        (spec.training.epochs, spec.training.batch, spec.training.steps),
        (300, 16, Size::AUTO)
    );
    assert_eq!((spec.tying.decide_every, spec.optimizer.learning_rate), (15, 1e-4));

    // Table 3.
    assert_eq!(spec.model.context, 256);

    // Section 4 and Alg. 1, line 27.
    let agent = &spec.agent;
    assert_eq!((agent.hidden, agent.learning_rate, agent.gamma), (128, 1e-3, 0.99));
    assert_eq!((agent.epsilon_start, agent.epsilon_decay, agent.epsilon_floor), (1.0, 0.95, 0.1));
}

#[test]
fn rejects_an_unknown_preset_with_the_nearest() {
    let error = preset("shakespear").unwrap_err();
    let text = "unknown preset `shakespear`; the nearest is `shakespeare-12`, and there are smoke, \
                shakespeare-12, shakespeare-one-block, gpt2-small, gpt2-paper, bert-small, \
                bert-paper, llama-small, vit-cifar, vit-paper";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.exit_code(), ExitCode::Usage);

    let error = method("refrence").unwrap_err();

    assert_eq!(
        error.to_string(),
        "unknown method `refrence`; the nearest is `reference`, and there are paper, reference, \
         reference-vision, reference-glue, short, growth"
    );
}

#[test]
fn the_smoke_preset_decides_and_evaluates() {
    let spec = preset("smoke").unwrap().spec().unwrap().check().unwrap();
    let steps = spec.steps(1000);
    assert_eq!((spec.model.layers, spec.model.width, spec.model.context, steps), (3, 32, 32, 30));
    assert!(steps / spec.tying.decide_every >= 3 && steps / spec.evaluate_every(1000) >= 2);
}
