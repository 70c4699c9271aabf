//! Runs that are killed at random moments, without warning, end as the runs that were left alone.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dlt_spec::record::{DecisionRow, MetricRow, without_times};

use crate::workplace::Workplace;

/// Kills of a run of the paper's method.
const KILLS: usize = 50;

/// Kills of a run that grows.
const KILLS_OF_GROWTH: usize = 16;

/// Kills of a run that searches.
const KILLS_OF_SEARCH: usize = 12;

/// Seed of the moments of the kills. What a process is doing at that moment depends on the machine.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A tokenizer of letters instead of words: the model is then tiny, and a process starts quickly.
fn tokenizer() -> String {
    let letters: Vec<_> = (0..26u8).map(|i| format!("\"{}\":{i}", char::from(b'a' + i))).collect();
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{{"type":"WhitespaceSplit"}},"post_processor":null,"decoder":null,
        "model":{{"type":"WordLevel","vocab":{{{},"[UNK]":26}},"unk_token":"[UNK]"}}}}"#,
        letters.join(",")
    )
}

pub(crate) const SPEC: &str = r#"
name = "killed"
[model]
layers = 4
width = 16
heads = 2
context = 8
dropout = 0.1
[data]
source = "letters.txt"
tokenizer = "letters.json"
[training]
steps = 240
batch = 4
[evaluation]
every_steps = 7
windows = 4
[optimizer]
learning_rate = 1e-2
[checkpoint]
every_steps = 2
[tying]
decide_every = 3
"#;

/// Splits and swaps that gradients decide, averaged and gated, with rewards that need a loss
/// measured earlier.
const GROWTH: &str = r#"
decision = "swap"
initial = "tied"
grow = [0.02, 0.05, 0.1]
groups = 3
merge = "average"
gate = 0.001
moments = "inherit"
group_rate = "inverse"
[agent]
policy = "conflict"
reward = "gain"
reward_timing = "after-steps"
"#;

/// Searches before every third step, so that a process is mostly in the middle of one.
const SEARCH: &str = r#"
initial = "independent"
group_rate = "inverse"
moments = "inherit"
[agent]
policy = "mcts"
budget = 30
price = 0.05
reward_batches = 2
"#;

pub(crate) fn place(spec: &str) -> Workplace {
    let place = Workplace::new();
    place.write("letters.json", tokenizer());

    let mut word = 1usize;
    let text: String = (0..4000)
        .map(|i| {
            word = (word * 5 + i / 3) % 26;
            format!("{} ", char::from(b'a' + word as u8))
        })
        .collect();
    place.write("letters.txt", text);
    place.write("spec.toml", spec);

    place
}

fn spawn(place: &Workplace, arguments: &[&str]) -> Child {
    let mut command: Command = place.command(arguments);
    command.args(["--quiet", "--threads", "1"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Numbers in `0..below`, evenly spread.
pub(crate) struct Moments(u64);

impl Moments {
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Everything that two runs with the same result have in common.
#[derive(PartialEq)]
pub(crate) struct Outcome {
    metrics: Vec<String>,
    states: String,
    pub(crate) summary: serde_json::Value,
    model: Vec<u8>,
}

pub(crate) fn outcome(place: &Workplace, run: &str) -> Outcome {
    let lines = |name: &str| place.read(&format!("{run}/{name}"));
    let summary = without_times(&lines("summary.json"));
    Outcome {
        metrics: lines("metrics.jsonl").lines().map(without_times).collect(),
        states: lines("states.jsonl"),
        summary: serde_json::from_str(&summary).unwrap(),
        model: fs::read(place.path(run).join("model.safetensors")).unwrap(),
    }
}

/// The tensors of the checkpoint at the end: weights, moments and recording.
pub(crate) fn end(place: &Workplace, run: &str) -> Vec<u8> {
    let steps = place.json(&format!("{run}/summary.json"))["steps"].as_u64().unwrap();
    let name = format!("{run}/checkpoint/step-{steps:012}.safetensors");
    let bytes = fs::read(place.path(&name)).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();

    // The rest is progress, which holds times.
    let tensors = json["progress"]["data_offsets"][0].as_u64().unwrap() as usize;
    assert!(tensors > 10_000, "weights and moments are compared");

    bytes[header..header + tensors].to_vec()
}

/// Waits for a process for so long, or until a file is being written in the folder `aim`. Returns
/// the status if the process ended by itself.
fn wait(child: &mut Child, limit: Duration, aim: Option<&Path>) -> Option<ExitStatus> {
    let is_partial = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.path().extension() == Some("partial".as_ref()))
    };
    let began = Instant::now();

    while began.elapsed() < limit {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }

        // In the first half of the time, the files may be remains of an earlier process, which a
        // resume removes.
        let entries = aim.filter(|_| began.elapsed() > limit / 2).map(fs::read_dir);
        if entries.is_some_and(|entries| entries.is_ok_and(|mut entries| entries.any(is_partial))) {
            return None;
        }

        if aim.is_none() {
            sleep(Duration::from_millis(1));
        }
    }

    None
}

fn said(child: Child) -> String {
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned()
}

#[test]
fn law_fifty_kills_at_random_change_nothing() {
    kill(&place(SPEC), KILLS, &mut OneProcess);
}

/// Collected gradients, the losses of the gate, and the loss that a reward needs all survive a
/// kill.
#[test]
fn law_kills_at_random_change_nothing_of_a_run_that_grows() {
    let place = place(&format!("{SPEC}{GROWTH}"));
    kill(&place, KILLS_OF_GROWTH, &mut OneProcess);

    let decisions = decisions(&place, "alone");
    let has = |what: &dyn Fn(&DecisionRow) -> bool| decisions.iter().any(what);
    assert!(has(&|row| row.refused), "expected a decision that the gate undoes");
    assert!(
        has(&|row| row.unlikeness.is_some() && row.tied_events > 0),
        "expected a swap that passes the gate"
    );

    assert!(
        has(&|row| row.conflict.is_some() && row.unlikeness.is_none()),
        "expected a split by gradients"
    );
    assert!(has(&|row| row.reward.is_some() && row.loss_before.is_some()), "expected a gain");
}

/// A search that a kill interrupts is made again, with the same candidates.
#[test]
fn law_kills_at_random_change_nothing_of_a_run_that_searches() {
    let place = place(&format!("{SPEC}{SEARCH}"));
    kill(&place, KILLS_OF_SEARCH, &mut OneProcess);

    let decisions = decisions(&place, "alone");
    assert!(decisions.iter().all(|row| row.search.is_some_and(|search| search.passes > 2)));
    assert!(decisions.iter().any(|row| row.tied_events > 0), "expected a search that ties");
}

fn decisions(place: &Workplace, run: &str) -> Vec<DecisionRow> {
    let row = |line: &str| match MetricRow::from_line(line).unwrap() {
        MetricRow::Decision(row) => Some(row),
        _ => None,
    };
    place.read(&format!("{run}/metrics.jsonl")).lines().filter_map(row).collect()
}

/// How a run is started and killed.
pub(crate) trait Killer {
    /// Starts the program with these arguments.
    fn start(&mut self, place: &Workplace, arguments: &[&str], moments: &mut Moments) -> Child;

    /// Kills it, without warning, and returns once nothing of it runs.
    fn kill(&mut self, place: &Workplace, child: &mut Child, moments: &mut Moments);

    /// By when it is killed, if a run that is left alone takes so long.
    fn limit(&self, whole: Duration) -> Duration {
        whole / 6
    }

    /// What of a run can be compared.
    fn outcome(&self, place: &Workplace, run: &str) -> Outcome {
        outcome(place, run)
    }
}

/// A run of one process.
struct OneProcess;

impl Killer for OneProcess {
    fn start(&mut self, place: &Workplace, arguments: &[&str], _: &mut Moments) -> Child {
        spawn(place, arguments)
    }

    fn kill(&mut self, _: &Workplace, child: &mut Child, _: &mut Moments) {
        // On Unix this is SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Kills runs of the place's spec until there were `most` kills, and compares each run with one
/// process that is left alone.
pub(crate) fn kill(place: &Workplace, most: usize, killer: &mut impl Killer) {
    let began = Instant::now();
    let mut alone = spawn(place, &["train", "spec.toml", "--out", "alone"]);
    assert!(alone.wait().unwrap().success(), "{}", said(alone));

    let whole = began.elapsed();
    let mut moments = Moments(SEED);
    let mut kills = 0;
    let mut rounds = 0;

    while kills < most {
        let run = format!("killed-{rounds}");
        rounds += 1;

        // A kill may also come after the run has finished.
        while !place.path(&run).join("summary.json").is_file() {
            // Without a spec there is no run yet that could be resumed.
            let is_begun = place.path(&run).join("spec.toml").is_file();
            if !is_begun {
                let _ = fs::remove_dir_all(place.path(&run));
            }

            let arguments: &[&str] = if is_begun {
                &["train", "--resume", &run]
            } else {
                &["train", "spec.toml", "--out", &run]
            };
            let mut child = killer.start(place, arguments, &mut moments);

            // A random moment; but once there were enough kills, the run is left alone.
            let limit = Duration::from_micros(moments.next(killer.limit(whole).as_micros() as u64));
            let limit = if kills < most { limit } else { Duration::from_secs(120) };

            // Every third kill is aimed at a save: it happens as soon as one is seen.
            let aim = (kills % 3 == 0).then(|| place.path(&run).join("checkpoint"));
            match wait(&mut child, limit, aim.as_deref()) {
                Some(status) => {
                    assert!(status.success(), "{}", said(child));
                    break;
                }
                None => {
                    killer.kill(place, &mut child, &mut moments);
                    kills += 1;
                    assert!(kills < 10 * most, "the run never finishes");
                }
            }
        }

        let [alone, killed] = ["alone", &run].map(|run| killer.outcome(place, run));
        assert!(alone == killed, "{run} has another result");
        assert!(end(place, "alone") == end(place, &run), "{run} ended with other weights");
        place.dlt(&["doctor", &run]).ok();
    }

    assert!(kills >= most && rounds < most, "{kills} kills in {rounds} runs");
}
