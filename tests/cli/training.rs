//! `dlt train`: the run folder, the result, and that the seed decides everything.

use dlt_spec::Spec;
use dlt_spec::record::{Summary, without_times};
use dlt_state::Recording;

use crate::workplace::{Said, Workplace};

/// Files of a finished run.
const FILES: [&str; 9] = [
    "checkpoint",
    "companions",
    "lock",
    "metrics.jsonl",
    "model.safetensors",
    "provenance.json",
    "spec.toml",
    "states.jsonl",
    "summary.json",
];

/// What a summary holds at least.
const SUMMARY_KEYS: [&str; 24] = [
    "validation_perplexity",
    "test_perplexity",
    "unigram_perplexity",
    "trainable_parameters_mean",
    "trainable_parameters_end",
    "block_parameters_mean",
    "block_parameters_end",
    "conventional_parameters",
    "conventional_block_parameters",
    "independent_layers_mean",
    "independent_layers_end",
    "distinct_layers_mean",
    "distinct_layers_end",
    "tokens_per_s",
    "seconds_per_epoch",
    "elapsed_s",
    "bits_per_byte",
    "peak_rss_mb",
    "mean_rss_mb",
    "weights_gradients_moments_mb_peak",
    "steps",
    "seed",
    "name",
    "best_step",
];

#[test]
fn a_finished_run_holds_every_file_and_every_key_of_the_summary() {
    let place = Workplace::new();
    place.train("run", &["--seed", "5"]);

    let mut files: Vec<_> = std::fs::read_dir(place.path("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, FILES);

    let summary = place.json("run/summary.json");
    for key in SUMMARY_KEYS {
        assert!(
            summary.get(key).is_some_and(|value| !value.is_null()),
            "{key} is missing in {summary}"
        );
    }

    assert_eq!((summary["steps"].as_u64(), summary["seed"].as_u64()), (Some(12), Some(5)));
    let spec: Spec = toml::from_str(&place.read("run/spec.toml")).unwrap();

    // The run works from any folder: its paths are absolute.
    let source = place.path("text.txt").to_string_lossy().into_owned();
    assert_eq!((spec.seed, spec.data.source, spec.tying.decide_every), (5, source, 2));

    let recording = Recording::parse(&place.read("run/states.jsonl")).unwrap();
    assert_eq!(recording.iter().map(|(step, _)| step).collect::<Vec<_>>(), [2, 4, 6, 8, 10]);
}

#[test]
fn provenance_says_which_program_data_and_machine() {
    let place = Workplace::new();
    place.train("run", &["--threads", "1", "--device", "cpu"]);

    let provenance = place.json("run/provenance.json");
    assert_eq!(provenance["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (provenance["threads"].as_u64(), provenance["device"].as_str()),
        (Some(1), Some("cpu"))
    );
    assert!(provenance["toolchain"].as_str().unwrap().starts_with("rustc "), "{provenance}");
    assert_eq!(provenance["data"]["source"], "text.txt");
    assert_eq!(provenance["data"]["sha256"].as_str().unwrap().len(), 64);

    let typed = provenance["command_line"].as_array().unwrap();
    assert!(typed.iter().any(|argument| argument == "--threads"), "{provenance}");
}

#[test]
fn law_a_seed_settles_the_metrics() {
    let place = Workplace::new();
    let metrics = |name: &str, seed: &str| -> Vec<String> {
        place.train(name, &["--seed", seed, "--threads", "2"]);
        place.read(&format!("{name}/metrics.jsonl")).lines().map(without_times).collect()
    };

    let first = metrics("a", "1");
    assert!(first.len() > 12 + 5 + 3, "steps, decisions and validations: {first:?}");
    assert_eq!(first, metrics("b", "1"));
    assert_ne!(first, metrics("c", "2"));
    assert_eq!(place.read("a/states.jsonl"), place.read("b/states.jsonl"));
}

#[test]
fn the_result_names_what_it_is_measured_against() {
    let place = Workplace::new();
    let said = place.train("my run", &[]);
    let summary: Summary = serde_json::from_str(&place.read("my run/summary.json")).unwrap();

    for part in [
        "validation perplexity",
        "test perplexity",
        "unigram floor",
        "bits per byte",
        "trainable parameters",
        "share of conventional",
        "independent layers",
        "distinct layers",
        "tokens/s",
        "resident memory",
        "weights + gradients + moments",
        "● independent",
        "What to try next",
        "generate 'my run'",
        "--set agent.policy=none --set tying.initial=independent --out 'my run-conventional'",
    ] {
        assert!(said.out.contains(part), "{part} is missing in\n{}", said.out);
    }

    assert!(said.out.contains(&format!("{:.3}", summary.bits_per_byte)), "{}", said.out);
}

#[test]
fn progress_is_plain_lines_where_nobody_watches_and_quiet_has_none() {
    let place = Workplace::new();
    let said = place.train("told", &[]);
    assert!(
        said.err.contains("step 12/12") && said.err.contains("validation perplexity"),
        "{}",
        said.err
    );
    assert!(!said.err.contains('\u{1b}') && !said.out.contains('\u{1b}'), "{said:?}");
    assert!(!said.out.contains("step 12/12"), "{}", said.out);

    // The device is named because a program with CUDA would warn if it looked for a GPU in vain.
    let said = place.train("quiet", &["--quiet", "--device", "cpu"]);
    assert_eq!(said.err, "");
    assert!(said.out.contains("validation perplexity"), "{}", said.out);
}

#[test]
fn a_run_without_a_decision_or_with_a_short_warmup_says_so() {
    let place = Workplace::new();
    let short =
        ["train", "--preset", "smoke", "--data", "text.txt", "--steps", "3", "--out", "short"];
    let said = place.dlt(&[&short[..], &["--set", "optimizer.warmup_steps=50"]].concat()).ok();

    assert!(
        said.err.contains("no decision is due in 3 steps (tying.decide_every = 5"),
        "{}",
        said.err
    );
    assert!(said.out.contains("no decision was made in 3 steps"), "{}", said.out);
    assert!(said.err.contains("warm-up: shortened from 50 to all 3 steps"), "{}", said.err);
    assert_eq!(place.json("short/summary.json")["decisions"], 0);

    let said = place.train("usual", &[]);
    assert!(
        !said.err.contains("no decision is due") && !said.err.contains("warm-up"),
        "{}",
        said.err
    );
    assert!(!said.out.contains("no decision was made"), "{}", said.out);
    assert_eq!(place.json("usual/summary.json")["decisions"], 5);
}

#[test]
fn the_last_evaluation_is_bounded_on_request_and_says_so() {
    let place = Workplace::new();
    place.train("all", &["--threads", "1"]);

    let said = place.train("some", &["--threads", "1", "--set", "evaluation.final_windows=4"]);
    assert!(said.err.contains("at most 4 windows of each split"), "{}", said.err);
    assert!(said.out.contains("only for the first 4 windows of each split"), "{}", said.out);

    let last = |run: &str| {
        let metrics = place.read(&format!("{run}/metrics.jsonl"));
        let row: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        row["tokens"].as_u64().unwrap()
    };

    assert!(last("some") < last("all"));
    let some = place.json("some/summary.json");
    let all = place.json("all/summary.json");

    assert_eq!(
        (&some["final_windows"], &all["final_windows"]),
        (&4.into(), &serde_json::Value::Null)
    );

    assert_ne!(
        some["unigram_perplexity"], all["unigram_perplexity"],
        "the floor is of the same text"
    );
    assert_eq!(some["best_step"], all["best_step"]);
}

#[test]
fn more_threads_than_cores_are_not_started() {
    let place = Workplace::new();
    let cores = std::thread::available_parallelism().unwrap().get();
    let arguments = |out: &'static str| {
        [
            "train", "--preset", "smoke", "--data", "text.txt", "--steps", "1", "--quiet", "--out",
            out,
        ]
    };

    let by_option = place.dlt(&[&arguments("option")[..], &["--threads", "4000"]].concat()).ok();
    let mut command = place.command(&arguments("variable"));
    let by_variable = Said::by(command.env("RAYON_NUM_THREADS", "4000")).ok();

    for (run, said) in [("option", by_option), ("variable", by_variable)] {
        assert_eq!(said.err.matches(&format!("using {cores}")).count(), 1, "{run}: {}", said.err);
        assert_eq!(place.json(&format!("{run}/provenance.json"))["threads"], cores, "{run}");
    }
}

#[test]
fn the_loss_falls() {
    let place = Workplace::new();
    place.train("run", &["--set", "training.steps=80", "--set", "optimizer.learning_rate=3e-3"]);
    let summary: Summary = serde_json::from_str(&place.read("run/summary.json")).unwrap();
    // An untrained model is about as unsure as the vocabulary is large.
    assert!(summary.validation_perplexity < 50_257.0 / 10.0, "{summary:?}");
}

#[test]
fn a_finished_run_can_be_replayed_from_its_folder() {
    let place = Workplace::new();
    place.train("first", &[]);

    let replay = ["--set", "agent.policy=replay", "--set", "agent.recording=first", "--seed", "9"];
    place.train("again", &replay);

    let states =
        |name: &str| Recording::parse(&place.read(&format!("{name}/states.jsonl"))).unwrap();
    let owners = |recording: &Recording| -> Vec<_> {
        recording.iter().map(|(step, state)| (step, state.owners().to_vec())).collect()
    };
    assert_eq!(owners(&states("first")), owners(&states("again")));

    let losses = |name: &str| {
        place.json(&format!("{name}/summary.json"))["validation_loss"].as_f64().unwrap()
    };
    assert_ne!(losses("first"), losses("again"), "another seed has other weights");
}

#[test]
fn the_spec_of_a_run_trains_the_same_run_again() {
    let place = Workplace::new();
    place.train("first", &["--seed", "3"]);
    place.dlt(&["train", "first/spec.toml", "--out", "again"]).ok();
    assert_eq!(place.read("first/spec.toml"), place.read("again/spec.toml"));
    assert_eq!(place.read("first/states.jsonl"), place.read("again/states.jsonl"));
}

#[test]
fn the_reference_method_reports_what_choosing_on_test_would_have_given() {
    let place = Workplace::new();
    let said = place.train("run", &["--method", "reference"]);
    let summary = place.json("run/summary.json");
    assert!(summary["test_perplexity_selected_on_test"].is_f64(), "{summary}");
    assert!(said.out.contains("if the model were chosen on test"), "{}", said.out);
}

#[test]
fn a_run_goes_to_a_folder_named_for_it_and_its_seed() {
    let place = Workplace::new();
    let small = ["--set", "model.layers=2", "--steps", "2", "--seed", "11", "--set", "name=mine"];
    let mut arguments = vec!["train", "--preset", "smoke", "--data", "text.txt"];

    arguments.extend(small);
    place.dlt(&arguments).ok();
    assert!(place.path("runs/mine-text-11/summary.json").is_file());
}

#[test]
fn a_file_stands_over_a_method_and_the_program_says_so() {
    let place = Workplace::new();
    place.write("spec.toml", "name = \"mine\"\n[tying]\ndecide_every = 3\n");

    let said =
        place.train("run", &["spec.toml", "--method", "reference", "--set", "agent.gamma=0.5"]);
    assert!(
        said.err.contains("spec.toml overrides --method reference in tying.decide_every\n"),
        "{}",
        said.err
    );

    let spec: Spec = toml::from_str(&place.read("run/spec.toml")).unwrap();
    let gradient = serde_json::to_value(spec.tying.gradient).unwrap();
    assert_eq!((&*spec.name, spec.model.layers, spec.agent.gamma), ("mine", 3, 0.5));

    assert_eq!(
        (gradient.as_str(), spec.tying.decide_every),
        (Some("owner"), 2),
        "--set overrides the file"
    );
}

#[test]
fn a_file_without_a_preset_stands_on_the_plain_defaults() {
    let place = Workplace::new();
    place.write("spec.toml", "[model]\nlayers = 2\nwidth = 16\nheads = 2\ncontext = 16\n");
    place.dlt(&["train", "spec.toml", "--data", "text.txt", "--steps", "2", "--out", "run"]).ok();

    let mut expected = Spec::default();
    (expected.model.layers, expected.model.width, expected.model.heads, expected.model.context) =
        (2, 16, 2, 16);
    expected.data.source = place.path("text.txt").to_string_lossy().into_owned();
    expected.training.steps = dlt_spec::spec::Size::Fixed(2);
    assert_eq!(toml::from_str::<Spec>(&place.read("run/spec.toml")).unwrap(), expected);
}
