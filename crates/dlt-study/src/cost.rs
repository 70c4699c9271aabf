//! What a cell will cost, before it is run. Its time comes from records of the cell or of similar
//! ones, and otherwise by arithmetic from its spec. Its memory comes from `dlt`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use dlt_spec::spec::{
    Architecture, Decision, Initial, InitialName, Pipeline, PolicyKind, Size, Tie,
};
use dlt_spec::{CheckedSpec, fields};
use serde_json::Value;

use crate::cell::{Cell, CellId, Job};
use crate::child::Child;
use crate::excerpt;
use crate::grid::grid_entry;
use crate::record::{Done, Outcome, Records};
use crate::scale::Scale;
use crate::spread::Spread;
use crate::subject::Subject;

/// Operations per second of one thread in training, as measured on the main job.
const RATE: f64 = 120e9;
/// Time that a run needs besides its training steps, to start, to read data and to evaluate. It is
/// used without a similar record. The cells of scale smoke, some fifty that hardly train, took 99 s
/// on two cores.
const BESIDES: Duration = Duration::from_millis(1800);
const GPT2_VOCABULARY: usize = 50_257;
/// Sentences in a batch, and passes, of `dlt finetune` by default.
const FINETUNING_BATCH: usize = 32;
const FINETUNING_EPOCHS: usize = 3;
/// The share of a task's sentences that is trained on: the last twentieth is its test split.
const FINETUNING_SHARE: f64 = 0.95;
/// Tokens of GPT-2's tokenizer per word, as in WikiText-2: 2,448,382 tokens of 2,088,628 words.
const TOKENS_TO_A_WORD: f64 = 1.172;
const LIMIT: Duration = Duration::from_secs(60);
/// The device whose records count. Records from other devices say nothing about time on a CPU.
const CPU: &str = "cpu";

/// What is known about the time of cells.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    scale: Scale,
    /// Threads of each cell.
    threads: usize,
    /// Seconds of one thread, for each cell that was run on a CPU.
    taken: BTreeMap<CellId, f64>,
    /// Seconds of one thread per operation, as the median of each subject's cells.
    of_subjects: BTreeMap<Subject, f64>,
    /// Operations per second of one thread, without a record of the subject.
    rate: f64,
}

/// The time of several cells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Forecast {
    /// The time of the cells that have a forecast.
    pub(crate) time: Duration,
    /// Number of cells without a forecast.
    pub(crate) unknown: usize,
}

impl Costs {
    /// Costs from the records of these cells, for runs with `threads` threads per cell.
    pub(crate) fn new(cells: &[Cell], records: &Records, scale: Scale, threads: usize) -> Self {
        let mut costs = Self {
            scale,
            threads: threads.max(1),
            taken: BTreeMap::new(),
            of_subjects: BTreeMap::new(),
            rate: RATE,
        };

        let mut paces: BTreeMap<Subject, Vec<f64>> = BTreeMap::new();
        for cell in cells {
            let Some(taken) = records.get(&cell.id).and_then(|record| on_cpu(&record.outcome))
            else {
                continue;
            };

            costs.taken.insert(cell.id.clone(), taken);
            if let Ok(Some(operations)) = operations(cell, scale)
                && operations > 0.0
            {
                paces.entry(cell.subject).or_default().push(taken / operations);
            }
        }

        let median = |paces: Vec<f64>| Spread::of(paces).map(|spread| spread.median);
        let all = median(paces.values().flatten().copied().collect());
        costs.rate = all.map_or(RATE, |pace| 1.0 / pace);
        costs.of_subjects = paces
            .into_iter()
            .filter_map(|(subject, paces)| Some((subject, median(paces)?)))
            .collect();

        costs
    }

    /// The time of a cell. `None` if no similar cell was recorded and its number of steps depends on
    /// unknown data.
    pub(crate) fn time(&self, cell: &Cell) -> Option<Duration> {
        if let Job::Predict { .. } = cell.job {
            return Some(Duration::ZERO);
        }

        let threads = self.threads as f64;
        let by_arithmetic = || {
            let operations = operations(cell, self.scale).ok()??;
            Some(operations / (self.rate * threads) + BESIDES.as_secs_f64())
        };

        let seconds = self.recorded_s(cell).map(|taken| taken / threads).or_else(by_arithmetic);
        // A time too large for a `Duration` is no forecast.
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// Seconds of one thread, as recorded for the cell or for similar ones. `None` without a record.
    pub(crate) fn recorded_s(&self, cell: &Cell) -> Option<f64> {
        let by_pace = || {
            let pace = self.of_subjects.get(&cell.subject)?;
            Some(operations(cell, self.scale).ok()?? * pace)
        };

        self.taken.get(&cell.id).copied().or_else(by_pace)
    }

    /// The time of several cells, `jobs` of them at once.
    pub(crate) fn forecast<'c>(
        &self,
        cells: impl IntoIterator<Item = &'c Cell>,
        jobs: usize,
    ) -> Forecast {
        let mut forecast = Forecast::default();
        for cell in cells {
            match self.time(cell) {
                Some(time) => {
                    forecast.time = forecast.time.saturating_add(time / jobs.max(1) as u32)
                }
                None => forecast.unknown += 1,
            }
        }

        forecast
    }

    /// Operations per second of a cell, without a similar record.
    pub(crate) fn rate(&self) -> f64 {
        self.rate * self.threads as f64
    }
}

impl Forecast {
    /// `about 5 min, without 3 cells of unknown time`.
    pub(crate) fn text(&self) -> String {
        let time = duration(self.time);
        match self.unknown {
            0 => format!("about {time}"),
            unknown => format!("about {time}, without {} of unknown time", cells(unknown)),
        }
    }
}

fn cells(count: usize) -> String {
    if count == 1 { "1 cell".to_owned() } else { format!("{count} cells") }
}

/// Seconds of one thread that a run took on a CPU.
fn on_cpu(outcome: &Outcome) -> Option<f64> {
    let Outcome::Done(done) = outcome else { return None };
    let Done { summary, provenance, .. } = &**done;
    let seconds = summary.elapsed_s * provenance.threads.max(1) as f64;
    (provenance.device == CPU && seconds.is_finite() && seconds > 0.0).then_some(seconds)
}

/// Operations of a training step. Each weight of a matrix counts 6 per position: 2 forward, and
/// twice that backward. Blocks count as those of GPT-2, BERT and ViT, which the study trains.
pub(crate) fn operations_per_step(spec: &CheckedSpec, batch: usize, has_classes: bool) -> f64 {
    let positions = (batch * spec.tokens()) as f64;
    let layers = spec.model.layers as f64;
    let width = spec.model.width as f64;
    let block = width * (4.0 * width + 2.0 * spec.feed_forward() as f64);
    let vocabulary = spec.model.vocabulary.or(GPT2_VOCABULARY) as f64;
    let head = if has_classes { 0.0 } else { vocabulary * width };

    let attention = 2.0 * layers * spec.tokens() as f64 * width;
    6.0 * positions * (layers * block + head + attention)
}

/// Steps of a cell, from its spec. If the spec counts epochs, the size of the data decides; `None` if
/// that size is not known.
pub(crate) fn steps(cell: &Cell, spec: &CheckedSpec) -> Option<usize> {
    let data = cell.data().unwrap_or(&spec.data.source);

    match &cell.job {
        Job::Predict { .. } => Some(0),
        Job::Finetune { .. } if !cell.settings.iter().any(|one| one.sets("training.steps")) => {
            let sentences = (sentences(data)? * FINETUNING_SHARE) as usize;
            Some(FINETUNING_EPOCHS * (sentences / FINETUNING_BATCH))
        }
        Job::Train { .. } | Job::Finetune { .. } => match spec.training.steps {
            Size::Fixed(steps) => Some(steps),
            Size::Auto(_) => Some(spec.steps(examples(data, spec)?)),
        },
    }
}

/// Windows or pictures of a pass over the training split.
fn examples(data: &str, spec: &CheckedSpec) -> Option<usize> {
    if data == "cifar10" {
        return Some(45_000);
    }

    // A block holds T - 1 tokens of the text, between two end-of-text tokens.
    let window = match spec.data.pipeline {
        Pipeline::Stream => spec.model.context,
        Pipeline::Blocks => spec.model.context - 1,
    };

    Some(tokens(data)? as usize / window.max(1))
}

/// Training tokens of the texts of the paper. Tokens that were not counted are estimated from the
/// words that the makers of the text give: 103,227,021 of WikiText-103, 203 million of LAMBADA, and
/// 768,648,884 of 1-Billion-Word.
fn tokens(data: &str) -> Option<f64> {
    Some(match data {
        "shakespeare" => 222_975.0,
        excerpt::NAME => excerpt::TRAIN_TOKENS,
        "wikitext-2" => 2_448_382.0,
        "wikitext-103" => 103_227_021.0 * TOKENS_TO_A_WORD,
        "lambada" => 203e6 * TOKENS_TO_A_WORD,
        "lm1b" => 768_648_884.0 * TOKENS_TO_A_WORD,
        _ => return None,
    })
}

/// Sentences or pairs in the training file of a task.
fn sentences(task: &str) -> Option<f64> {
    Some(match task {
        "glue/sst2" => 67_349.0,
        "glue/cola" => 8_551.0,
        "glue/qnli" => 104_743.0,
        "glue/mrpc" => 3_668.0,
        "glue/rte" => 2_490.0,
        _ => return None,
    })
}

/// The spec that determines the size of a cell. A fine-tuned cell has the spec of its start.
fn sized(cell: &Cell, scale: Scale) -> Result<CheckedSpec> {
    let like = match &cell.job {
        Job::Finetune { .. } => {
            grid_entry(Subject::pretrained(scale), cell.row, cell.seed, scale).cell()
        }
        _ => None,
    };

    Ok(like.as_ref().unwrap_or(cell).spec()?)
}

/// Operations of a whole cell; `None` if the number of steps is not known.
pub(crate) fn operations(cell: &Cell, scale: Scale) -> Result<Option<f64>> {
    let spec = sized(cell, scale)?;
    let own = cell.spec()?;
    let (batch, has_classes) = match cell.job {
        Job::Finetune { .. } => (FINETUNING_BATCH, true),
        _ => (spec.training.batch, spec.model.architecture == Architecture::Vit),
    };

    let per_step = operations_per_step(&spec, batch, has_classes);
    Ok(steps(cell, &own).map(|steps| (steps as f64 + searching(&spec, steps)) * per_step))
}

/// The cost of searches in a run of so many steps, in steps. A forward pass is a third of a step.
fn searching(spec: &CheckedSpec, steps: usize) -> f64 {
    if !spec.agent.policy.searches() {
        return 0.0;
    }

    let deciding = spec.tying.decide_until * steps as f64;
    (deciding / spec.tying.decide_every as f64).floor() * spec.agent.budget as f64 / 3.0
}

/// What `dlt` predicts of the memory of cells. It is asked once for cells of one size.
pub(crate) struct Memories<'a> {
    dlt: &'a Path,
    scale: Scale,
    known: Vec<(CheckedSpec, f64)>,
}

impl<'a> Memories<'a> {
    pub(crate) fn new(dlt: &'a Path, scale: Scale) -> Self {
        Self { dlt, scale, known: Vec::new() }
    }

    /// Peak memory of a cell in 10^6 bytes, besides the program and its data.
    pub(crate) fn mb(&mut self, cell: &Cell) -> Result<f64> {
        let spec = sized(cell, self.scale)?;

        // `tying` counts, because the times of splits decide how many blocks a run ends with.
        let is_like = |other: &CheckedSpec| {
            other.model == spec.model
                && other.training == spec.training
                && other.agent.policy == spec.agent.policy
                && other.tying == spec.tying
        };
        if let Some((_, memory)) = self.known.iter().find(|(other, _)| is_like(other)) {
            return Ok(*memory);
        }

        let memory = memory_mb(self.dlt, &spec)?;
        self.known.push((spec, memory));
        Ok(memory)
    }
}

/// Peak memory of training in 10^6 bytes, in the state that a run of this kind usually has.
fn memory_mb(dlt: &Path, spec: &CheckedSpec) -> Result<f64> {
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .context("cannot make a temporary file")?;
    std::fs::write(file.path(), fields::render(spec)).context("cannot write a temporary file")?;

    let child = Child::new(dlt)
        .arguments(["inspect", "--json", "--memory"])
        .arguments([file.path().display().to_string()]);
    let finished =
        child.run(LIMIT).map_err(|failure| anyhow::anyhow!("dlt inspect --memory: {failure}"))?;
    let wanted = usual_state(spec);

    for line in finished.stdout.lines() {
        let row: Value = serde_json::from_str(line).context("dlt inspect --memory --json")?;
        if row["state"] == wanted {
            return row["peak_bytes"]
                .as_f64()
                .map(|bytes| bytes / 1e6)
                .context("dlt inspect --memory --json printed no peak_bytes");
        }
    }

    anyhow::bail!("dlt inspect --memory --json has no line for the state `{wanted}`")
}

/// The usual state of a run, under the name that `dlt inspect --memory` gives it.
fn usual_state(spec: &CheckedSpec) -> &'static str {
    let is_independent = spec.tying.initial == Initial::Named(InitialName::Independent);
    match (spec.agent.policy, spec.tying.tie, spec.tying.decision) {
        _ if is_independent => "no layer tied",
        (PolicyKind::None, ..) => "at the start",
        (_, Tie::Replicate, _) => "no layer tied",
        (.., Decision::Split | Decision::Swap) => "after the last split",
        _ => "usual under a random policy",
    }
}

/// A time in words: `5 s`, `10 min`, `2.0 h`, `12 days`.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5400.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 200_000.0 => format!("{:.1} h", seconds / 3600.0),
        seconds => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Plan;
    use crate::grid::{self, Part};
    use crate::results::{self, CELLS};
    use crate::row::Row;

    fn cell(subject: Subject, row: Row, scale: Scale) -> Cell {
        grid_entry(subject, row, 1, scale).cell().unwrap()
    }

    fn all(scale: Scale) -> Vec<Cell> {
        grid::cells(&Part::all(scale), Plan { scale, seeds: None })
    }

    fn recorded() -> Records {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        Records::read(&results::folder(root, Scale::Laptop).join(CELLS)).unwrap()
    }

    #[test]
    fn the_main_job_costs_what_its_preset_says() {
        let cell = cell(Subject::Shakespeare, Row::Full, Scale::Laptop);
        // The preset's comment says 56 GFLOP a step.
        let step = operations_per_step(&cell.spec().unwrap(), 8, false);
        assert!((52e9..60e9).contains(&step), "{step:e}");
        assert_eq!(operations(&cell, Scale::Laptop).unwrap(), Some(800.0 * step));
    }

    #[test]
    fn a_cell_that_was_recorded_is_expected_to_take_as_long_as_then() {
        let cells = all(Scale::Laptop);
        let records = recorded();
        let full = cell(Subject::Shakespeare, Row::Full, Scale::Laptop);
        let Outcome::Done(done) = &records.get(&full.id).unwrap().outcome else {
            panic!("it is recorded")
        };

        assert_eq!(done.provenance.threads, 1);
        let costs = |threads| Costs::new(&cells, &records, Scale::Laptop, threads);
        let seconds = |threads| costs(threads).time(&full).unwrap().as_secs_f64();

        assert!((seconds(1) - done.summary.elapsed_s).abs() < 0.01);
        assert!((seconds(2) - done.summary.elapsed_s / 2.0).abs() < 0.01);
    }

    #[test]
    fn a_cell_that_was_not_recorded_is_scaled_from_those_of_its_subject() {
        let cells = all(Scale::Laptop);
        let costs = Costs::new(&cells, &recorded(), Scale::Laptop, 1);
        let known = cell(Subject::Shakespeare, Row::Full, Scale::Laptop);
        let seed_9 = grid_entry(Subject::Shakespeare, Row::Full, 9, Scale::Laptop).cell().unwrap();

        assert!(!costs.taken.contains_key(&seed_9.id));
        let ratio =
            costs.time(&seed_9).unwrap().as_secs_f64() / costs.time(&known).unwrap().as_secs_f64();
        assert!((0.5..2.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_run_that_hardly_trains_takes_as_long_as_it_takes_to_start() {
        let smoke = all(Scale::Smoke);
        let forecast = Costs::new(&smoke, &Records::default(), Scale::Smoke, 2).forecast(&smoke, 1);
        let runs =
            smoke.iter().filter(|cell| !matches!(cell.job, Job::Predict { .. })).count() as u32;
        assert!(forecast.time >= BESIDES * runs && forecast.unknown == 0, "{forecast:?}");
    }

    #[test]
    fn every_cell_of_every_scale_has_a_forecast() {
        for scale in Scale::ALL {
            let cells = all(scale);
            let costs = Costs::new(&cells, &Records::default(), scale, 1);

            for cell in &cells {
                let time =
                    costs.time(cell).unwrap_or_else(|| panic!("{scale:?}: {} has none", cell.id));
                assert!(
                    !time.is_zero() || matches!(cell.job, Job::Predict { .. }),
                    "{scale:?}: {}",
                    cell.id
                );
            }
        }
    }

    #[test]
    fn epochs_are_steps_by_the_size_of_the_data() {
        let paper = cell(Subject::Gpt2(crate::subject::Corpus::WikiText2), Row::Full, Scale::Paper);
        let spec = paper.spec().unwrap();
        let a_pass = 2_448_382 / 256 / 16;
        assert_eq!(steps(&paper, &spec), Some(300 * a_pass));
    }

    #[test]
    fn cells_without_a_forecast_are_counted_and_said() {
        let mut unknown =
            cell(Subject::Gpt2(crate::subject::Corpus::WikiText2), Row::Full, Scale::Paper);
        unknown.job =
            Job::Train { preset: "gpt2-paper", method: Some("paper"), data: Some("somebody's") };

        let known = cell(Subject::Shakespeare, Row::Full, Scale::Laptop);
        let costs = Costs::new(&[], &Records::default(), Scale::Laptop, 1);
        assert_eq!(costs.time(&unknown), None);

        let forecast = costs.forecast([&unknown, &known], 1);
        assert_eq!((forecast.time, forecast.unknown), (costs.time(&known).unwrap(), 1));
        assert!(
            forecast.text().ends_with(", without 1 cell of unknown time"),
            "{}",
            forecast.text()
        );

        let none = costs.forecast([&unknown, &unknown], 1);
        assert_eq!(none.text(), "about 0 s, without 2 cells of unknown time");
    }

    #[test]
    fn nothing_to_do_takes_no_time_and_never_less() {
        let costs = Costs::new(&[], &Records::default(), Scale::Laptop, 1);
        assert_eq!(costs.forecast([], 2).text(), "about 0 s");
    }

    #[test]
    fn times_are_said_in_units_of_their_size() {
        let said = [5, 600, 7200, 1_000_000].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(said, ["5 s", "10 min", "2.0 h", "12 days"]);
    }
}
