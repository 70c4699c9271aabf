use dlt_spec::fields::{self, FIELDS};
use dlt_spec::presets::{DEFAULT_PRESET, METHODS, PRESETS, Preset, method, preset};
use dlt_spec::size::{ModelSize, block_parameters, shared_parameters};
use dlt_spec::spec::*;
use dlt_spec::{ExitCode, Spec, diff};

/// Sections that belong to the method.
const METHOD_SECTIONS: [&str; 3] = ["optimizer", "tying", "agent"];

/// GPT-2's vocabulary (section 4 of the paper).
const VOCABULARY: usize = 50_257;

fn names(presets: &[Preset]) -> Vec<&'static str> {
    presets.iter().map(Preset::name).collect()
}

#[test]
fn every_preset_and_every_preset_with_every_method_passes() {
    assert_eq!(names(PRESETS), ["smoke", "shakespeare-12", "gpt2-small", "gpt2-paper"]);
    assert_eq!(names(METHODS), ["paper", "reference"]);
    assert!(preset(DEFAULT_PRESET).is_ok());
    for preset in PRESETS {
        let spec = preset.spec().unwrap();
        assert_eq!(spec.name, preset.name());
        spec.check().unwrap();
        for method in METHODS {
            let spec = Spec::assemble(&[preset.overlay().unwrap(), method.overlay().unwrap()]).unwrap();
            spec.check().unwrap();
            assert_eq!(toml::from_str::<Spec>(&fields::render(&spec)).unwrap(), spec);
        }
    }
}

#[test]
fn every_preset_says_source_cost_expectation_and_command() {
    for preset in PRESETS.iter().chain(METHODS) {
        let header = preset.header();
        for entry in ["Source:", "Cost:", "Expect:", "Command: dlt train --"] {
            assert!(header.lines().any(|line| line.starts_with(entry)), "{}: {entry}", preset.name());
        }
        assert!(!header.starts_with("Source:"), "{} starts with what it is", preset.name());
    }
}

#[test]
fn law_a_method_replaces_every_method_setting_of_a_preset() {
    for method in METHODS {
        let overlay = method.overlay().unwrap();
        for field in FIELDS.iter().filter(|field| METHOD_SECTIONS.contains(&field.section())) {
            assert!(overlay.keys().any(|key| key == field.key()), "{} lacks {}", method.name(), field.key());
        }
        for section in ["", "training"] {
            let foreign = |key: &str| fields::find(key).unwrap().section() == section;
            assert!(!overlay.keys().any(foreign), "{} settles a length or a name", method.name());
        }
    }
}

#[test]
fn every_value_of_a_method_has_its_source_beside_it() {
    for method in METHODS {
        for line in method.text().lines().filter(|line| line.contains(" = ") && !line.starts_with('#')) {
            let (_, source) = line.split_once(" # ").unwrap_or_else(|| panic!("{}: {line}", method.name()));
            let known = ["row ", "section ", "Alg. ", "Eq. ", "not stated", "none: ", "without effect"];
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
    let spec = method("reference").unwrap().spec().unwrap();
    let changes: Vec<(&str, String)> =
        diff(&Spec::default(), &spec).into_iter().map(|change| (change.key, change.to)).collect();
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
    assert_eq!(changes, expected.map(|(key, to)| (key, to.to_owned())));
}

#[test]
fn the_large_preset_has_the_papers_values() {
    let spec = preset("gpt2-paper").unwrap().spec().unwrap().check().unwrap();
    // Section 4 and Table 1.
    assert_eq!((spec.model.layers, spec.model.width, spec.model.heads), (48, 1600, 16));
    assert_eq!((spec.training.epochs, spec.training.batch, spec.training.steps), (300, 16, Size::AUTO));
    assert_eq!((spec.tying.decide_every, spec.optimizer.learning_rate), (15, 1e-4));
    // Table 3.
    assert_eq!(spec.model.context, 256);
    // Section 4 and Alg. 1, line 27.
    let agent = &spec.agent;
    assert_eq!((agent.hidden, agent.learning_rate, agent.gamma), (128, 1e-3, 0.99));
    assert_eq!((agent.epsilon_start, agent.epsilon_decay, agent.epsilon_floor), (1.0, 0.95, 0.1));
}

#[test]
fn the_large_preset_has_the_papers_parameter_counts() {
    let spec = preset("gpt2-paper").unwrap().spec().unwrap().check().unwrap();
    let size = spec.size(VOCABULARY).unwrap();
    // Table 1: 1.6B; with the authors' T + 1 positions, 1,556.4 M.
    assert_eq!(size.conventional, 1_556_382_400);
    assert_eq!(size.with_blocks(48), size.conventional);
    // Figure of Table 1, WikiText-2, end of training: 264 M is six blocks.
    assert_eq!(size.with_blocks(6) / 1_000_000, 265);
    let positions =
        Spec { model: ModelSpec { positions: Size::Fixed(257), ..spec.model.clone() }, ..(*spec).clone() };
    assert_eq!(positions.check().unwrap().size(VOCABULARY).unwrap().conventional, 1_556_384_000);
}

#[test]
fn parameter_counts_follow_from_the_shapes() {
    for (c, f) in [(1, 4), (32, 128), (768, 3072), (1600, 6400), (5, 7)] {
        let attention = (c * 3 * c + 3 * c) + (c * c + c);
        let feed_forward = (c * f + f) + (f * c + c);
        let norms = 2 * (c + c);
        assert_eq!(block_parameters(c, f), Some(attention + feed_forward + norms));
        if f == 4 * c {
            assert_eq!(block_parameters(c, f), Some(12 * c * c + 13 * c));
        }
        assert_eq!(shared_parameters(100, 9, c), Some(100 * c + 9 * c + 2 * c));
    }
    // GPT-2 small, as published: 124,439,808.
    let small = preset("gpt2-small").unwrap().spec().unwrap();
    assert_eq!(ModelSize::new(&small.model, VOCABULARY).unwrap().conventional, 124_439_808);
}

#[test]
fn rejects_parameter_counts_that_do_not_fit() {
    assert_eq!(block_parameters(usize::MAX, 4), None);
    assert_eq!(block_parameters(1 << 31, usize::MAX), None);
    assert_eq!(shared_parameters(usize::MAX, 1, 1), None);
    assert_eq!(shared_parameters(1 << 40, 1, 1 << 40), None);
    let model = ModelSpec { layers: usize::MAX, ..Spec::default().model };
    assert_eq!(ModelSize::new(&model, 10), None);
}

#[test]
fn rejects_an_unknown_preset_with_the_nearest() {
    let error = preset("shakespear").unwrap_err();
    let text = "unknown preset `shakespear`; the nearest is `shakespeare-12`, and there are smoke, shakespeare-12, \
                gpt2-small, gpt2-paper";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.exit_code(), ExitCode::Usage);
    let error = method("refrence").unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown method `refrence`; the nearest is `reference`, and there are paper, reference"
    );
}

#[test]
fn the_smoke_preset_decides_and_evaluates() {
    let spec = preset("smoke").unwrap().spec().unwrap().check().unwrap();
    let steps = spec.steps(1000);
    assert_eq!((spec.model.layers, spec.model.width, spec.model.context, steps), (3, 32, 32, 30));
    assert!(steps / spec.tying.decide_every >= 3 && steps / spec.evaluate_every(1000) >= 2);
}
