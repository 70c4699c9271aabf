//! Pages of runs: what they show, and what they must never do.

use std::fs;
use std::path::{Path, PathBuf};

use dlt_report::page::{Live, MARKER, Page, PageKind};
use dlt_report::{Digest, Run};
use dlt_spec::record::{METRICS_FILE, PROVENANCE_FILE, SPEC_FILE, STATES_FILE, SUMMARY_FILE};
use dlt_spec::spec::Architecture;
use dlt_spec::{Overlay, Spec, fields, presets};
use dlt_state::{Action, Recording};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::folder::Folder as Gated;

/// A page of a usual run is far smaller than this.
const MOST_BYTES: usize = 1_000_000;

/// A name that, without escaping, would end a script, a comment, an attribute and a place of the
/// template.
const HOSTILE: &str = "a\"'><script>alert(1)<.script><!-- {{data}} \u{2028}\u{2029} onload=x &lt;";

struct Folder {
    _temporary: TempDir,
    path: PathBuf,
}

/// A run folder of this many layers, with a decision every five steps.
fn folder(name: &str, layers: usize, steps: usize, sets: &[&str]) -> Folder {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join(name);
    fs::create_dir(&path).unwrap();

    let mut overlays = vec![presets::preset("smoke").unwrap().overlay().unwrap()];
    overlays.push(Overlay::from_assignment(&format!("model.layers={layers}")).unwrap());
    overlays.extend(sets.iter().map(|set| Overlay::from_assignment(set).unwrap()));

    let spec = Spec::assemble(&overlays).unwrap().check().unwrap();
    let decides = spec.agent.policy != dlt_spec::spec::PolicyKind::None;
    let mut recording = Recording::starting_from(spec.initial_state());
    let mut lines = vec![json!({"kind": "header", "schema": 1}).to_string()];

    for step in 1..=steps {
        let state = recording.state_at(step - 1).clone();
        lines.push(
            json!({"kind": "step", "step": step, "loss": 5.0 + 1.0 / step as f64, "learning_rate": 1e-3,
                "gradient_norm": 1.0, "tokens": step * 128, "independent_layers": state.n_independent(),
                "distinct_layers": state.n_independent(), "trainable_parameters": 100_000,
                "block_parameters": state.n_independent() * 12_704, "elapsed_ms": step as f64, "tokens_per_s": 1000.0,
                "current_rss_mb": 70.0 + (step % 7) as f64})
            .to_string(),
        );

        if decides && step.is_multiple_of(5) {
            let visit = recording.rows().len();
            let action = Action::new(
                (0..layers).map(|layer| (layer * 7 + visit * 5) % (layer + 1)).collect(),
            )
            .unwrap();
            let row = recording.push(step, action, None).unwrap();

            lines.push(
                json!({"kind": "decision", "step": step, "visit": visit, "state": row.state().owners(),
                    "explored": visit.is_multiple_of(2), "epsilon": 0.5, "reward": -250.5, "q_predicted": 0.25,
                    "q_target": -1.5, "q_loss": 3.0, "tied_events": 0, "untied_events": 0, "elapsed_ms": 1.0})
                .to_string(),
            );
        }
    }

    lines.push(
        json!({"kind": "evaluation", "step": steps, "split": "validation", "loss": 4.5, "perplexity": 4.5_f64.exp(),
            "tokens": 100, "elapsed_ms": 9.0})
        .to_string(),
    );
    fs::write(path.join(SPEC_FILE), fields::render(&spec)).unwrap();
    fs::write(path.join(PROVENANCE_FILE), provenance().to_string()).unwrap();
    fs::write(path.join(METRICS_FILE), lines.join("\n") + "\n").unwrap();
    fs::write(path.join(STATES_FILE), recording.to_text()).unwrap();

    Folder { _temporary: temporary, path }
}

fn provenance() -> Value {
    json!({"schema": 1, "version": "0.1.0", "revision": "0123abcd", "toolchain": "rustc 1.95.0",
        "host": {"cpu": HOSTILE, "cores": 2, "os": "linux x86_64"}, "threads": 2, "device": "cpu", "seed": 1,
        "spec_fingerprint": "0123456789abcdef", "started_at": 1_795_646_713,
        "data": {"source": HOSTILE, "sha256": "ab".repeat(32), "tokenizer": "gpt2", "train_tokens": 1000,
            "validation_tokens": 100, "test_tokens": 100},
        "command_line": ["/usr/local/bin/dlt", "train", "--data", HOSTILE]})
}

fn finish(path: &Path, steps: usize) {
    let summary = json!({"schema": 1, "name": "smoke", "seed": 1, "steps": steps, "best_step": steps, "validation_loss": 4.5,
        "validation_perplexity": 90.02, "test_perplexity": 91.25, "unigram_perplexity": 427.5,
        "unigram_test_perplexity": 418.5, "bits_per_byte": 2.25, "trainable_parameters_mean": 1500.0,
        "trainable_parameters_end": 1000, "block_parameters_mean": 750.0, "block_parameters_end": 250,
        "conventional_parameters": 2000, "conventional_block_parameters": 1000, "independent_layers_mean": 3.25,
        "independent_layers_end": 2, "distinct_layers_mean": 3.5, "distinct_layers_end": 2, "tokens_per_s": 4739.0,
        "seconds_per_epoch": 61.0, "elapsed_s": 3.0, "elapsed_training_s": 2.0, "elapsed_deciding_s": 0.01,
        "elapsed_rewarding_s": 0.05, "peak_rss_mb": 73.6, "predicted_peak_rss_mb": 69.5, "mean_rss_mb": 73.5,
        "weights_gradients_moments_mb_peak": 26.4});
    fs::write(path.join(SUMMARY_FILE), summary.to_string()).unwrap();
}

/// Divides the perplexity of a finished run by 1.25.
fn better(path: &Path) {
    let better = fs::read_to_string(path.join(SUMMARY_FILE)).unwrap().replace("90.02", "72.016");
    fs::write(path.join(SUMMARY_FILE), better).unwrap();
}

fn document(run: &Run) -> String {
    Page::new(std::slice::from_ref(run), PageKind::Still).document()
}

/// The JSON that the page's script reads.
fn data(document: &str) -> Value {
    let (_, rest) = document.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_page_asks_the_network_for_nothing() {
    let folder = folder("run", 4, 20, &[]);
    finish(&folder.path, 20);

    let page = document(&Run::read(&folder.path).unwrap());
    assert_eq!(page.lines().nth(1), Some(MARKER));

    // The names of XML namespaces are not requested.
    let addresses =
        page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "");

    for address in
        ["http:", "https:", "//cdn", "url(", "@import", "src=", "<link rel=\"stylesheet\""]
    {
        assert!(!addresses.contains(address), "{address}");
    }

    assert!(
        page.contains("default-src 'none'; style-src 'sha256-") && !page.contains("unsafe-inline")
    );
    assert!(!page.contains("connect-src"), "a page of a file asks nobody for news");
    assert!(page.len() < MOST_BYTES, "{} bytes", page.len());
}

#[test]
fn a_hostile_name_stays_a_name() {
    let folder = folder(&HOSTILE.replace('/', "."), 4, 20, &[]);
    let page = document(&Run::read(&folder.path).unwrap());

    // Only the data and the page's script are script elements.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(
        page.contains("a&quot;&#39;&gt;&lt;script&gt;alert(1)&lt;.script&gt;&lt;!-- {{data}}"),
        "shown as it is"
    );
    assert_eq!(page.matches("<!--").count(), 1, "the marker is the only comment");
    assert!(!page.contains("\" onload") && !page.contains("'><"));
    assert_eq!(data(&page)["runs"][0]["layers"], 4);
}

#[test]
fn the_data_hold_every_state_with_what_is_frozen() {
    let folder = folder("run", 5, 20, &[]);
    let run = Run::read(&folder.path).unwrap();
    let data = data(&document(&run));
    let moments = data["runs"][0]["moments"].as_array().unwrap().clone();

    assert_eq!(moments.len(), 5);
    assert_eq!((&moments[0]["step"], &moments[0]["frozen"]), (&json!(0), &json!([1, 2, 3, 4])));

    for (moment, row) in moments[1..].iter().zip(run.recording.rows()) {
        assert_eq!(moment["state"], json!(row.state().owners()));
        assert_eq!(moment["step"], row.step());
        assert_eq!((&moment["frozen"], &moment["before"]), (&Value::Null, &Value::Null));
        assert_eq!((&moment["epsilon"], &moment["reward"]), (&json!(0.5), &json!(-250.5)));
    }

    // Decisions take effect in the step that follows.
    assert_eq!(moments[1]["distinct"], run.recording.rows()[0].state().n_independent());
}

#[test]
fn a_layer_stays_frozen_until_the_reading_of_its_method_says_otherwise() {
    let frozen = |sets: &[&str], rows: &[(Vec<usize>, Option<usize>)]| {
        let folder = folder("run", 4, 20, sets);
        let mut recording = Recording::new(4);
        for (index, (action, layer)) in rows.iter().enumerate() {
            recording.push(5 * (index + 1), Action::new(action.clone()).unwrap(), *layer).unwrap();
        }

        fs::write(folder.path.join(STATES_FILE), recording.to_text()).unwrap();
        let data = data(&document(&Run::read(&folder.path).unwrap()));
        let moments = data["runs"][0]["moments"].as_array().unwrap().clone();

        moments.iter().map(|moment| moment["frozen"].clone()).collect::<Vec<_>>()
    };

    let joint = [(vec![0, 0, 2, 0], None), (vec![0, 1, 2, 0], None)];
    assert_eq!(
        frozen(&["tying.first_tie=replicate"], &joint),
        [json!([1, 2, 3]), Value::Null, Value::Null]
    );

    assert_eq!(
        frozen(&["tying.first_tie=literal"], &joint),
        [json!([1, 2, 3]), json!([1, 3]), json!([3])]
    );
    let in_turn = [(vec![0, 1, 0, 0], Some(1)), (vec![0, 1, 0, 0], Some(2))];
    let sets = ["tying.decision=per-layer", "tying.first_tie=replicate"];

    assert_eq!(frozen(&sets, &in_turn), [json!([1, 2, 3]), json!([2, 3]), json!([3])]);
    // Layer 2 now uses the weights of layer 1, which are still frozen.
    let of_frozen = [(vec![0, 0, 1, 0], Some(2)), (vec![0, 0, 2, 0], Some(2))];
    let sets = ["tying.decision=per-layer", "tying.retied=keep"];

    assert_eq!(frozen(&sets, &of_frozen), [json!([1, 2, 3]), json!([1, 2, 3]), json!([1, 3])]);
}

#[test]
fn a_run_under_way_says_so() {
    let folder = folder("run", 4, 20, &[]);
    let run = Run::read(&folder.path).unwrap();
    let page = document(&run);

    assert!(page.contains("Unfinished when this page was made: step 20 of 30"), "{page}");
    assert!(page.contains("Validation perplexity so far") && page.contains("90.02"));

    let digest = Digest::of(&run);
    assert_eq!((digest.finished, digest.steps, digest.test_perplexity), (false, 20, None));
    assert!(
        (digest.block_share_end().unwrap() - digest.independent_layers_end.unwrap() as f64 / 4.0)
            .abs()
            < 1e-12
    );
    finish(&folder.path, 20);

    let page = document(&Run::read(&folder.path).unwrap());
    assert!(page.contains("Finished: 20 steps in 3.0 s") && page.contains("unigram floor 427.50"));
}

/// A step says how many parameters it trained in blocks, and the rules of the spec in how many
/// blocks.
#[test]
fn a_run_under_way_knows_the_size_of_a_block_by_its_first_step() {
    for (initial, trained) in [("frozen", 1), ("trainable", 4), ("independent", 4)] {
        let folder = folder("run", 4, 20, &[&format!("tying.initial={initial}")]);
        let metrics = folder.path.join(METRICS_FILE);
        let text = fs::read_to_string(&metrics).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();

        let mut first: Value = serde_json::from_str(&lines[1]).unwrap();
        first["block_parameters"] = json!(trained * 12_704);
        lines[1] = first.to_string();
        fs::write(&metrics, lines.join("\n") + "\n").unwrap();

        let digest = Digest::of(&Run::read(&folder.path).unwrap());
        assert_eq!(digest.conventional_block_parameters, Some(4 * 12_704), "{initial}");
    }

    let none = Digest::of(&Run::read(&folder("run", 4, 0, &[]).path).unwrap());
    assert_eq!(none.conventional_block_parameters, None);
}

#[test]
fn a_run_that_has_not_made_a_step_gives_a_page() {
    let folder = folder("run", 4, 0, &[]);
    fs::write(
        folder.path.join(METRICS_FILE),
        json!({"kind": "header", "schema": 1}).to_string() + "\n",
    )
    .unwrap();

    let page = document(&Run::read(&folder.path).unwrap());
    assert!(page.contains("No decision has been made") && page.contains("Not shown: "));
}

#[test]
fn settings_that_differ_from_the_paper_come_first() {
    let folder = folder("run", 4, 20, &[]);
    let page = document(&Run::read(&folder.path).unwrap());
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    let folded = place("<summary>As in the paper</summary>");

    assert!(place("<code>model.width</code>") < folded, "32, not 1,600");
    assert!(
        place("<code>agent.gamma</code>") > folded || place("<code>agent.hidden</code>") > folded
    );
    assert!(place("<code>seed</code>") > place("<summary>Not stated in the paper</summary>"));

    for field in fields::FIELDS {
        let key = format!("<code>{}</code></th>", field.key());
        let is_shown = field.is_used_by(Architecture::Gpt2);
        assert_eq!(page.matches(&key).count(), usize::from(is_shown), "{key}");
    }
}

#[test]
fn runs_are_compared_with_the_first_conventional_one() {
    let tied = folder("tied", 4, 20, &[]);
    let plain = folder("plain", 4, 20, &["agent.policy=none", "tying.initial=independent"]);
    for folder in [&tied, &plain] {
        finish(&folder.path, 20);
    }

    better(&plain.path);
    let runs = [Run::read(&tied.path).unwrap(), Run::read(&plain.path).unwrap()];
    let page = Page::new(&runs, PageKind::Still).document();

    assert!(
        page.contains("2 runs compared") && page.contains("+25.0 %"),
        "90.02 is 1.25 times 72.016"
    );
    assert!(page.contains("Differences are relative to <b>plain</b>"));

    assert!(page.contains("Different settings") && page.contains("<code>agent.policy</code>"));
    let page = Page::new(&runs[..1], PageKind::Still).document();
    assert!(!page.contains("Differences are relative to"));
}

#[test]
fn rejects_a_difference_between_runs_whose_losses_are_of_other_things() {
    let plain = folder("plain", 4, 20, &["agent.policy=none", "tying.initial=independent"]);
    finish(&plain.path, 20);
    better(&plain.path);

    let plain = Run::read(&plain.path).unwrap();
    let other_sha = ("ab".repeat(32), "cd".repeat(32));
    let cases: [(&[&str], &str, &str, &str); 7] = [
        (&["evaluation.final_windows=4"], "", "", "other windows evaluated"),
        (&[], &other_sha.0, &other_sha.1, "other data"),
        (&[], "\"tokenizer\":\"gpt2\"", "\"tokenizer\":\"a/bytes\"", "another tokenizer"),
        (&[], "\"validation_tokens\":100", "\"validation_tokens\":101", "other splits"),
        (&["data.split=[0.8,0.1,0.1]"], "", "", "other splits"),
        (&["data.pipeline=blocks"], "", "", "other settings of data"),
        (
            &["model.architecture=bert", "model.objective=masked-token", "model.attention=full"],
            "",
            "",
            "another objective",
        ),
    ];

    for (sets, from, to, why) in cases {
        let other = folder("other", 4, 20, sets);
        finish(&other.path, 20);

        let path = other.path.join(PROVENANCE_FILE);
        let provenance = fs::read_to_string(&path).unwrap();
        assert!(provenance.contains(from), "{provenance}");
        fs::write(&path, provenance.replacen(from, to, 1)).unwrap();

        let runs = [plain.clone(), Run::read(&other.path).unwrap()];
        let page = Page::new(&runs, PageKind::Still).document();
        assert!(
            page.contains(&format!("Not comparable with the first run: other ({why}")),
            "{why}"
        );
        assert!(!page.contains("+25.0 %"), "{why}");
    }

    let same = folder("same", 4, 20, &["data.order=sweep", "tying.decision=per-layer"]);
    finish(&same.path, 20);

    let page = Page::new(&[plain, Run::read(&same.path).unwrap()], PageKind::Still).document();

    assert!(
        page.contains("+25.0 %") && !page.contains("Not comparable with"),
        "what training alone sees"
    );
}

#[test]
fn each_run_is_compared_with_a_conventional_one_of_its_own_data() {
    let conventional = ["agent.policy=none", "tying.initial=independent"];
    let folders = ["a", "b"].map(|name| folder(name, 4, 20, &conventional));
    let tied = folder("tied", 4, 20, &[]);

    for path in [&folders[0].path, &folders[1].path, &tied.path] {
        finish(path, 20);
    }

    folders.iter().for_each(|folder| better(&folder.path));
    for folder in [&folders[1], &tied] {
        let path = folder.path.join(PROVENANCE_FILE);
        let other = fs::read_to_string(&path).unwrap().replace(&"ab".repeat(32), &"cd".repeat(32));
        fs::write(path, other).unwrap();
    }

    let runs =
        [&folders[0].path, &folders[1].path, &tied.path].map(|path| Run::read(path).unwrap());
    let page = Page::new(&runs, PageKind::Still).document();
    assert_eq!(page.matches("+25.0 %").count(), 1, "of the tied run to b");
    assert!(page.contains("Differences are relative to <b>a, b</b>"), "{page}");
}

#[test]
fn a_long_run_of_a_deep_model_stays_small() {
    let folder = folder("run", 48, 20_000, &["tying.decide_every=5"]);
    let page = document(&Run::read(&folder.path).unwrap());
    assert!(page.len() < MOST_BYTES, "{} bytes", page.len());
    assert_eq!(
        page.matches(" src=\"data:image/png;base64,").count(),
        1,
        "the strips of 48 layers are a picture"
    );

    let run = &data(&page)["runs"][0];
    let moments = run["moments"].as_array().unwrap();
    assert_eq!(
        (run["decisions"].as_u64(), moments.last().unwrap()["decision"].as_u64()),
        (Some(4000), Some(4000))
    );
    assert!(moments.len() > 100, "{} moments", moments.len());

    assert!(
        moments[1]["before"].is_array(),
        "the change of a decision is shown although the previous one is absent"
    );
}

#[test]
fn every_colour_of_the_figures_is_given() {
    let style = include_str!("../../assets/page.css");
    for (_, variable) in dlt_report::figure::PAGE_COLOURS {
        // Light, dark by the system, dark by the button, and print.
        assert_eq!(style.matches(&format!("{variable}: #")).count(), 4, "{variable}");
    }
}

#[test]
fn a_watched_run_grows_is_cut_back_breaks_and_heals() {
    let folder = folder("run", 4, 20, &[]);
    let metrics = folder.path.join(METRICS_FILE);
    let whole = fs::read_to_string(&metrics).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let write = |count: usize, ending: &str| {
        fs::write(&metrics, lines[..count].join("\n") + "\n" + ending).unwrap();
    };

    let steps = |live: &mut Live| {
        let snapshot = live.look();
        let news: Value = serde_json::from_str(&snapshot.news).unwrap();
        (
            news["steps"].as_u64().unwrap(),
            news["trouble"].as_str().map(str::to_owned),
            snapshot.version.clone(),
        )
    };

    write(4, "");
    let mut live = Live::open(&folder.path).unwrap();
    let (first, trouble, version) = steps(&mut live);

    assert_eq!((first, trouble), (3, None));
    assert_eq!(steps(&mut live).2, version, "nothing new, the same version");

    write(6, &lines[6][..10]);

    let (grown, trouble, newer) = steps(&mut live);
    assert_eq!((grown, trouble), (5, None), "a line without its end is not read");
    assert_ne!(newer, version);
    write(3, "");
    assert_eq!(steps(&mut live).0, 2, "cut back");
    write(12, "");

    let (again, trouble, _) = steps(&mut live);
    assert!(again > 5 && trouble.is_none(), "and gone on");
    fs::write(&metrics, format!("{}\nnonsense\n", lines[..15].join("\n"))).unwrap();

    let (held, trouble, _) = steps(&mut live);
    assert_eq!(held, again, "the last known state stays");
    assert!(trouble.unwrap().contains("metrics.jsonl: line 16"));
    assert!(live.snapshot().page.contains("cannot be read now"));

    let states = folder.path.join(STATES_FILE);
    let wide = Recording::new(65_536).to_text();
    let decided = fs::read_to_string(&states).unwrap();

    fs::write(&metrics, lines[..16].join("\n") + "\n").unwrap();
    for (text, says) in
        [(wide, "expected decisions about the 4 layers"), ("1".repeat(3 << 20), "line 1")]
    {
        fs::write(&states, text).unwrap();
        let trouble = steps(&mut live).1.unwrap();
        assert!(trouble.contains("states.jsonl: ") && trouble.contains(says), "{trouble}");
    }

    fs::write(&states, decided).unwrap();
    let elsewhere = folder.path.with_file_name("elsewhere");
    fs::rename(&folder.path, &elsewhere).unwrap();
    assert!(steps(&mut live).1.unwrap().contains("not a run folder"));
    fs::rename(&elsewhere, &folder.path).unwrap();
    write(lines.len(), "");
    finish(&folder.path, 20);
    assert_eq!(steps(&mut live).1, None, "healed");
    assert!(live.snapshot().news.contains("\"finished\":true"));
    assert!(live.snapshot().page.contains("connect-src 'self'"));
}

#[test]
fn rejects_what_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let error = Live::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("not a run folder"), "{error}");
}

#[test]
fn a_decision_that_was_undone_is_shown_as_undone() {
    let build = |is_gated: bool| {
        let mut folder = if is_gated { Gated::gated(4) } else { Gated::new(4) };
        folder.decision(10, vec![0, 0, 2, 2], 0.0);

        if is_gated {
            folder.refused(20, vec![0, 0, 0, 0]);
        }

        folder.step(30, 3.0);
        document(&folder.read())
    };

    let page = build(true);
    assert!(page.contains(">undone</th>"), "{page}");
    assert_eq!(page.matches("<td>yes</td>").count(), 1);

    let moments = &data(&page)["runs"][0]["moments"];
    let undone = |index: usize| &moments[index]["undone"];
    assert_eq!((undone(1), undone(2)), (&Value::Null, &json!(true)));
    assert_eq!(moments[2]["state"], moments[1]["state"]);

    // If no decision can be undone, there is no such column.
    assert!(!build(false).contains(">undone</th>"));
}
