//! `dlt data`, and training on data sets that are fetched, with a local server instead of the hub.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use dlt_data::catalogue::{CATALOGUE, LearningTask};
use dlt_hub_stand_in::{Column, Fault, Repository, RequestKind, StandIn, catalogue, parquet};

use crate::workplace::{Said, Workplace};

/// Variables that would lead the client to another place.
const ELSEWHERE: [&str; 14] = [
    "HF_ENDPOINT",
    "HF_HUB_CACHE",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_OFFLINE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "XDG_CACHE_HOME",
];

/// A folder, a hub with the whole catalogue, and separate caches.
pub(crate) struct World {
    pub(crate) place: Workplace,
    pub(crate) hub: StandIn,
}

impl World {
    pub(crate) fn new() -> Self {
        let hub = StandIn::start();
        catalogue(600).into_iter().for_each(|repository| hub.serve(repository));
        Self { place: Workplace::new(), hub }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        for name in ELSEWHERE {
            command.env_remove(name);
        }

        command.env("HF_ENDPOINT", self.hub.endpoint()).env("HF_HOME", self.place.path("hf"));
        command.env("DLT_CACHE", self.place.path("cache"));
        command
    }

    fn dlt(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Every file below a folder with its content. Links are followed. Locks are left out, and so are
/// notes of inode numbers, which differ between folders.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|ending| ending != "lock" && ending != "checked")
            {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(path).unwrap_or_default());
            }
        }
    }

    found
}

#[test]
fn the_catalogue_is_listed_and_explained() {
    let place = Workplace::new();
    let list = place.dlt(&["data", "list"]).ok().out;
    for entry in CATALOGUE {
        assert!(list.contains(&format!("  {} ", entry.name)), "{list}");
        let info = place.dlt(&["data", "info", entry.name]).ok().out;
        for part in [entry.size, entry.licence, entry.splits, entry.paper, entry.revision] {
            assert!(info.contains(part), "{info}");
        }
    }

    let said = place.dlt(&["data", "info", "nothing"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("wikitext-2"), "{}", said.err);
}

#[test]
fn every_task_with_classes_of_the_catalogue_is_fetched_and_trained_on() {
    let world = World::new();
    let mut trained = 0;

    for entry in CATALOGUE.iter().filter(|entry| entry.task != LearningTask::LanguageModel) {
        let name = entry.name;
        let out = entry.name.replace('/', "-");
        let mut arguments = vec!["train", "--steps", "3", "--data", name, "--out", &out, "--quiet"];

        arguments.extend(match entry.task {
            LearningTask::Images => ["--preset", "vit-cifar", "--set", "model.width=32"],
            _ => ["--preset", "smoke", "--set", "model.objective=classes"],
        });

        for set in [
            "evaluation.every_steps=3",
            "training.batch=4",
            "data.tokenizer=gpt2",
            "optimizer.warmup_steps=0",
        ] {
            arguments.extend(["--set", set]);
        }

        world.dlt(&arguments).ok();
        let summary = world.place.json(&format!("{out}/summary.json"));
        assert_eq!(summary["steps"], 3, "{name}");

        let accuracy = summary["test_scores"]["accuracy"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&accuracy), "{name}: {accuracy}");

        let said = world.place.json(&format!("{out}/provenance.json"))["data"]["commit"].clone();
        assert!(said.as_str().unwrap().starts_with(entry.repository.unwrap()), "{name}: {said}");
        trained += 1;
    }

    assert_eq!(trained, 7);
}

#[test]
fn every_text_of_the_catalogue_is_fetched_and_trained_on() {
    let world = World::new();
    for entry in CATALOGUE.iter().filter(|entry| entry.task == LearningTask::LanguageModel) {
        let name = entry.name;
        let small =
            ["--set", "data.tokenizer=bytes", "--set", "evaluation.every_steps=3", "--quiet"];
        let mut arguments =
            vec!["train", "--preset", "smoke", "--steps", "3", "--data", name, "--out", name];

        arguments.extend(small);
        if name == "shakespeare" {
            // Every other test trains on it, and it takes long to evaluate.
            continue;
        }

        world.dlt(&arguments).ok();
        assert_eq!(world.place.json(&format!("{name}/summary.json"))["steps"], 3, "{name}");

        let commit = world.place.json(&format!("{name}/provenance.json"))["data"]["commit"].clone();
        let commit = commit.as_str().unwrap();
        assert!(commit.starts_with(&format!("{}@", entry.repository.unwrap())), "{commit}");
    }

    // Once it is in the cache, the hub gets no more requests.
    let asked = world.hub.requests().len();
    world.dlt(&["data", "tokenize", "ptb", "--tokenizer", "bytes"]).ok();
    assert_eq!(world.hub.requests().len(), asked);
}

#[test]
fn tokenizing_counts_the_whole_and_the_splits_and_cleaning_empties_the_cache() {
    let world = World::new();
    let text = "To be, or not to be, that is the question.\n".repeat(50);
    world.place.write("my.txt", &text);

    let out = world.dlt(&["data", "tokenize", "my.txt"]).ok().out;
    // 14 tokens a line, by GPT-2's published tokenizer.
    assert!(out.contains("whole text") && out.contains(" 700 "), "{out}");
    assert!(out.contains("tokenizer gpt2, vocabulary 50,257"), "{out}");
    world.place.write("large.txt", text.repeat(100));

    let out = world.dlt(&["data", "tokenize", "large.txt"]).ok().out;
    assert!(out.contains("tokenized 0.2 MB in"), "every byte once: {out}");

    let tokens = || tree(&world.place.path("cache")).len();
    assert_eq!(tokens(), 6);

    for (name, says, train) in [("glue/rte", "examples", "600"), ("cifar10", "pictures", "540")] {
        let out = world.dlt(&["data", "tokenize", name]).ok().out;
        assert!(out.contains(says) && out.contains(train), "{out}");
    }

    assert_eq!(tokens(), 8);
    let out = world.dlt(&["data", "clean"]).ok().out;
    assert!(out.contains("removed 8 files"), "{out}");
    assert_eq!(tokens(), 0);
}

#[test]
fn a_revision_is_pinned_and_a_fetch_shows_the_commit() {
    let world = World::new();
    let table = parquet(&[Column::Text("sentence", vec!["old words ".repeat(9)])], 1);
    let old = ["train", "validation", "test"].iter().fold(
        Repository::dataset("ptb-text-only/ptb_text_only").at("v1"),
        |repository, split| {
            repository.file(&format!("penn_treebank/{split}/0000.parquet"), table.clone())
        },
    );

    let commit = old.commit();
    world.hub.serve(old);

    let newest = world.dlt(&["data", "fetch", "ptb"]).ok().out;
    assert!(
        newest.starts_with("ptb-text-only/ptb_text_only at ") && !newest.contains(&commit),
        "{newest}"
    );

    for revision in ["v1", &commit] {
        let out = world.dlt(&["data", "fetch", "ptb", "--revision", revision]).ok().out;
        assert!(out.contains(&commit) && out.contains("penn_treebank/train/0000.parquet"), "{out}");
    }

    let out = world
        .dlt(&["data", "tokenize", "ptb", "--revision", "v1", "--tokenizer", "bytes"])
        .ok()
        .out;
    assert!(out.contains(&commit) && out.contains(" 270"), "{out}");

    // Offline, cached data work, and other data give a message that says why not.
    let offline = |arguments: &[&str]| said(world.command(arguments).env("HF_HUB_OFFLINE", "1"));
    offline(&["data", "tokenize", "ptb", "--tokenizer", "bytes"]).ok();

    let refused = offline(&["data", "fetch", "wikitext-2"]);
    assert!(refused.err.contains("HF_HUB_OFFLINE"), "{}", refused.err);
}

#[test]
fn a_tokenizer_of_ones_own_is_made_and_trained_with() {
    let world = World::new();
    let made = world
        .dlt(&["data", "tokenizer", "train", "text.txt", "--vocabulary", "400", "--out", "t.json"])
        .ok();
    assert!(made.out.contains("400 tokens in t.json"), "{}", made.out);

    let again = world.dlt(&[
        "data",
        "tokenizer",
        "train",
        "text.txt",
        "--vocabulary",
        "400",
        "--out",
        "t.json",
    ]);
    assert!(again.err.contains("already exists"), "{}", again.err);

    let run = ["train", "--preset", "smoke", "--data", "text.txt", "--steps", "3", "--out", "run"];
    world.dlt(&[&run[..], &["--set", "data.tokenizer=t.json"]].concat()).ok();

    let summary = world.place.json("run/summary.json");
    assert!(summary["bits_per_byte"].as_f64().is_some_and(|bits| bits > 0.0), "{summary}");

    let evaluated = world.dlt(&["eval", "run", "--json"]).ok().out;
    assert!(evaluated.contains("bits_per_byte") && evaluated.contains("perplexity"), "{evaluated}");
}

#[test]
fn regression_rows_without_text_give_one_warning_and_the_column_is_said() {
    let world = World::new();
    let mut rows: Vec<Option<String>> =
        (0..90).map(|row| Some(format!("row {row} of some words"))).collect();
    rows[40] = None;

    let numbers = (0..90).map(|row| format!("r{row}")).collect();
    world.place.write(
        "rows.parquet",
        parquet(&[Column::Text("id", numbers), Column::MaybeText("body", rows)], 20),
    );

    let said = world.dlt(&["data", "tokenize", "rows.parquet", "--tokenizer", "bytes"]).ok();
    assert_eq!(said.err.matches("count as empty").count(), 1, "{}", said.err);
    assert!(said.err.contains("row 41: no text"), "{}", said.err);
    assert!(said.out.contains("the text is the column \"body\", found"), "{}", said.out);

    let train = [
        "train",
        "--preset",
        "smoke",
        "--steps",
        "2",
        "--data",
        "rows.parquet::body",
        "--out",
        "run",
    ];

    let more = [
        "--set",
        "data.tokenizer=bytes",
        "--set",
        "data.on_bad_row=skip",
        "--set",
        "training.batch=2",
    ];

    let said = world.dlt(&[&train[..], &more].concat()).ok();
    assert_eq!(said.err.matches("rows are left out").count(), 1, "{}", said.err);
    assert!(said.err.contains("the text is the column \"body\""), "{}", said.err);

    let data = &world.place.json("run/provenance.json")["data"];
    assert_eq!(
        (&data["column"]["name"], &data["column"]["chosen"]),
        (&"body".into(), &"named".into())
    );
    assert_eq!((&data["bad_rows"]["skipped"], &data["bad_rows"]["empty"]), (&1.into(), &0.into()));
}

#[test]
fn a_proxy_is_used_and_no_token_is_told() {
    let world = World::new();
    let secret = "hf_verysecret";
    let through = said(
        world
            .command(&["-vv", "data", "fetch", "wikitext-2"])
            .env("HF_ENDPOINT", "http://hub.invalid")
            .env("HTTP_PROXY", world.hub.endpoint())
            .env("HF_TOKEN", secret),
    )
    .ok();

    let requests = world.hub.requests();
    assert!(
        requests.iter().any(|request| request.is_proxied && request.host.contains("hub.invalid")),
        "{requests:?}"
    );

    assert!(
        requests
            .iter()
            .any(|request| request.authorization.as_deref() == Some("Bearer hf_verysecret"))
    );
    assert!(!format!("{through:?}").contains(secret));

    // A token that another program has saved is found, and never shown either.
    fs::create_dir_all(world.place.path("hf")).unwrap();
    fs::write(world.place.path("hf/token"), format!("{secret}2\n")).unwrap();

    for code in [401, 403, 404] {
        world.hub.misbehave(RequestKind::Listing, 1, Fault::Status { code, retry_after: None });
        let refused = world.dlt(&["-vv", "data", "fetch", "ptb"]);
        assert_eq!(refused.code, Some(4), "{refused:?}");
        assert!(
            refused.err.contains(&code.to_string()) && !refused.err.contains("verysecret"),
            "{}",
            refused.err
        );
    }

    let last = world.hub.requests().last().unwrap().authorization.clone();
    assert_eq!(last.as_deref(), Some("Bearer hf_verysecret2"));
}

/// Runs the command and kills it after each of these pauses, then runs it to its end.
fn killed_after(world: &World, arguments: &[&str], pauses: &[u64]) {
    for pause in pauses {
        let mut child =
            world.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(*pause));

        // An error means that it has already ended.
        drop(child.kill());
        child.wait().unwrap();
    }

    world.dlt(arguments).ok();
}

#[test]
fn a_process_that_is_killed_anywhere_ends_with_the_same_files_byte_for_byte() {
    let rows: Vec<String> =
        (0..40_000).map(|row| format!("row {row} of some words {}", row * 7919)).collect();
    let repository = || {
        ["train", "test"].iter().fold(Repository::dataset("someone/words"), |repository, split| {
            let table = parquet(&[Column::Text("text", rows.clone())], 5_000);
            repository.file(&format!("data/{split}-00000-of-00001.parquet"), table)
        })
    };

    let drip = || Fault::Drip { bytes: 60_000, pause: Duration::from_millis(40) };
    let arguments = ["data", "tokenize", "hf:someone/words"];
    let undisturbed = World::new();
    let killed = World::new();

    for world in [&undisturbed, &killed] {
        world.hub.serve(repository());
        world.hub.misbehave(RequestKind::Content, usize::MAX, drip());
    }

    undisturbed.dlt(&arguments).ok();
    killed_after(&killed, &arguments, &[30, 150, 300, 450, 600, 750, 900, 1_100, 1_400]);

    for folder in ["cache", "hf"] {
        let expected = tree(&undisturbed.place.path(folder));
        let ours = tree(&killed.place.path(folder));
        assert!(!expected.is_empty());
        assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        assert!(ours == expected, "files in {folder} differ");
    }

    let resumed = killed
        .hub
        .requests()
        .iter()
        .any(|request| request.range.is_some_and(|(first, _)| first > 0));
    assert!(resumed, "no download was resumed where it had been cut");
}

#[test]
fn two_processes_that_build_one_cache_at_once_both_have_it() {
    let world = World::new();
    let text = fs::read_to_string(world.place.path("text.txt")).unwrap().repeat(40);
    world.place.write("large.txt", &text);

    let outs: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| world.dlt(&["data", "tokenize", "large.txt"]).ok().out))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });

    let counts = |out: &String| out.lines().take(5).map(str::to_owned).collect::<Vec<_>>();
    assert!(outs.iter().all(|out| counts(out) == counts(&outs[0])), "{outs:?}");

    let files = tree(&world.place.path("cache"));
    assert_eq!(files.len(), 3, "{:?}", files.keys());
}
