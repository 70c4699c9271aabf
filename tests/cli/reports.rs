//! `dlt report`: a page, figures and JSON of runs.

use std::fs;

use serde_json::Value;

use crate::workplace::Workplace;

#[test]
fn a_page_is_one_file_that_needs_nothing_else() {
    let place = Workplace::new();
    place.train("run", &[]);
    place.dlt(&["report", "run"]).ok();

    let page = place.read("run/report.html");
    let addresses = page.replace("http://www.w3.org/", "");
    assert!(!addresses.contains("http://") && !addresses.contains("https://"), "{page}");
    assert!(page.contains("default-src 'none'") && page.contains("Finished: 12 steps"));
    assert!(page.len() < 1_000_000, "{} bytes", page.len());

    // What is shown is what was recorded.
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    let data: Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    let shown: Vec<&Value> = data["runs"][0]["moments"]
        .as_array()
        .unwrap()
        .iter()
        .skip(1)
        .map(|moment| &moment["state"])
        .collect();

    let states = place.read("run/states.jsonl");
    let recorded: Vec<Value> = states
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["state"].clone())
        .collect();
    assert_eq!(shown, recorded.iter().collect::<Vec<_>>());

    // `dlt doctor` does not object to a page in a run folder.
    place.dlt(&["doctor", "run"]).ok();
}

#[test]
fn hostile_names_are_shown_and_never_obeyed() {
    let place = Workplace::new();
    let name = "x'><script>alert(1)<.script> & \"y\" <!-- \u{2028}";
    place.train(name, &[]);
    place.dlt(&["report", name, "--out", "page.html"]).ok();

    let page = place.read("page.html");
    assert_eq!(page.matches("<script").count(), 2, "the data and the page's own");
    assert!(!page.contains("alert(1)<.script>") && page.contains("alert(1)&lt;.script&gt;"));
    assert_eq!(page.matches("<!--").count(), 1);
}

#[test]
fn a_page_replaces_a_page_and_nothing_else() {
    let place = Workplace::new();
    place.train("run", &[]);
    place.dlt(&["report", "run"]).ok();
    place.dlt(&["report", "run"]).ok();
    place.write("mine.html", "<!doctype html> my own");

    let said = place.dlt(&["report", "run", "--out", "mine.html"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("is no page of dlt report; --force"), "{said:?}");
    assert_eq!(place.read("mine.html"), "<!doctype html> my own");

    // It does not replace a run's own files either.
    let spec = place.read("run/spec.toml");
    assert_eq!(place.dlt(&["report", "run", "--out", "run/spec.toml"]).code, Some(2));
    assert_eq!(place.read("run/spec.toml"), spec);
    place.dlt(&["report", "run", "--out", "mine.html", "--force"]).ok();
    assert!(place.read("mine.html").contains("A page of dlt report"));

    let left: Vec<_> =
        fs::read_dir(place.path("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
}

#[test]
fn several_runs_stand_beside_each_other() {
    let place = Workplace::new();
    place.train("tied", &[]);
    place.train("plain", &["--set", "agent.policy=none", "--set", "tying.initial=independent"]);

    let said = place.dlt(&["report", "tied", "plain"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("give --out"), "{said:?}");
    place.dlt(&["report", "tied", "plain", "--out", "both.html"]).ok();

    let page = place.read("both.html");
    assert!(
        page.contains("2 runs compared")
            && page.contains("Differences are relative to <b>plain</b>")
    );

    let said = place.dlt(&["report", "tied", "plain", "--json"]).ok();
    let runs: Value = serde_json::from_str(&said.out).unwrap();
    let summary = place.json("tied/summary.json");

    assert_eq!(runs[0]["validation_perplexity"], summary["validation_perplexity"]);
    assert_eq!(runs[0]["independent_layers_mean"], summary["independent_layers_mean"]);
    assert_eq!(
        (&runs[1]["name"], &runs[1]["method"]),
        (&"plain".into(), &"conventional training".into())
    );
    assert!(!place.path("tied/report.html").exists(), "no page where none was asked for");
}

#[test]
fn figures_are_written_in_both_forms() {
    let place = Workplace::new();
    place.train("run", &[]);
    place.dlt(&["report", "run", "--figures", "figures/new"]).ok();

    for name in ["replication-map", "loss", "states", "independent", "agent", "memory"] {
        assert!(place.read(&format!("figures/new/{name}.svg")).contains("<svg"), "{name}");
        let png = fs::read(place.path(&format!("figures/new/{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{name}");
    }

    assert!(!place.path("run/report.html").exists());
}

#[test]
fn a_run_that_was_stopped_gives_a_page_that_says_so() {
    let place = Workplace::new();
    place.train("run", &[]);
    fs::remove_file(place.path("run/summary.json")).unwrap();
    place.dlt(&["report", "run"]).ok();

    assert!(
        place
            .read("run/report.html")
            .contains("Not finished when this page was made: step 12 of 12")
    );
}

#[test]
fn rejects_what_is_no_run_before_it_writes() {
    let place = Workplace::new();
    let said = place.dlt(&["report", "nothing", "--out", "page.html"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.err.contains("nothing: not a run folder"), "{said:?}");
    assert!(!place.path("page.html").exists());
}
