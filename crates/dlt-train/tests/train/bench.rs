//! A bench for whole runs: made-up material, tiny models, and the results of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use dlt_data::{Material, Places, TokenSplits};
use dlt_models::Model;
use dlt_models::architecture::of_spec;
use dlt_models::file::ModelFile;
use dlt_spec::record::{
    self, DataProvenance, DecisionRow, EvaluationRow, Host, MetricRow, Provenance, StepRow, Summary,
};
use dlt_spec::{CheckedSpec, Overlay, Spec, presets};
use dlt_state::Recording;
use dlt_train::checkpoint::CheckpointFolder;
use dlt_train::{MODEL_FILE, Plan, Resumption, RunFolder, TrainError, Trainer, saved_model};

use crate::materials;

/// The results of a run; see [`Bench::outcome`].
#[derive(PartialEq)]
pub(crate) struct Outcome {
    metrics: Vec<String>,
    states: Vec<u8>,
    summary: String,
    model: Vec<u8>,
    end: BTreeMap<String, Vec<u8>>,
}

impl Outcome {
    /// The same, without some figures of the summary.
    pub(crate) fn without(mut self, figures: &[&str]) -> Self {
        let mut summary: serde_json::Value = serde_json::from_str(&self.summary).expect("JSON");
        let map = summary.as_object_mut().expect("an object");
        map.retain(|figure, _| !figures.contains(&figure.as_str()));
        self.summary = summary.to_string();
        self
    }

    /// Fails unless both outcomes are equal bit for bit, and names the part that differs.
    pub(crate) fn assert_same(&self, other: &Self, what: &str) {
        assert_eq!(self.metrics, other.metrics, "{what}");
        assert_eq!(self.states, other.states, "{what}");
        assert_eq!(self.summary, other.summary, "{what}");
        assert!(self.model == other.model, "{what}: the best model");

        assert_eq!(
            self.end.keys().collect::<Vec<_>>(),
            other.end.keys().collect::<Vec<_>>(),
            "{what}"
        );
        let differs = self.end.iter().find(|(name, data)| other.end[*name] != **data);
        assert!(differs.is_none(), "{what}: {}", differs.map_or("", |(name, _)| name));
        assert!(self.end.len() > 20, "{what}: weights and moments are compared");
    }
}

pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        materials::write(folder.path());
        Self { folder }
    }

    /// The spec of a tiny GPT-2 on a text, with other settings. `method NAME` is a method; `@`
    /// means the folder.
    pub(crate) fn spec(&self, settings: &[&str]) -> CheckedSpec {
        let base = [
            "data.source='@/text.txt'",
            "data.tokenizer='@/tokenizer.json'",
            "model.layers=4",
            "model.width=16",
            "model.context=8",
            "training.steps=24",
            "training.batch=4",
            "evaluation.every_steps=8",
            "optimizer.learning_rate=0.01",
            "tying.decide_every=3",
        ];

        let mut overlays =
            vec![presets::preset("smoke").and_then(|preset| preset.overlay()).expect("smoke")];
        let folder = self.folder.path().display().to_string();

        for setting in base.iter().chain(settings) {
            overlays.push(match setting.strip_prefix("method ") {
                Some(method) => {
                    presets::method(method).and_then(|method| method.overlay()).expect("there")
                }
                None => {
                    Overlay::from_assignment(&setting.replace('@', &folder)).expect("an assignment")
                }
            });
        }

        Spec::assemble(&overlays).and_then(|spec| spec.check()).expect("a good spec")
    }

    pub(crate) fn material(&self, spec: &CheckedSpec) -> Material {
        Material::load(spec, Places::default(), &mut |_| {}).expect("the data are good")
    }

    /// The tokens of a spec's text.
    pub(crate) fn splits(&self, spec: &CheckedSpec) -> TokenSplits {
        self.material(spec).tokens().expect("a text").clone()
    }

    pub(crate) fn path(&self, run: &str) -> PathBuf {
        self.folder.path().join("runs").join(run)
    }

    pub(crate) fn trainer(
        &self,
        run: &str,
        settings: &[&str],
        recording: Option<&Recording>,
    ) -> Trainer {
        let spec = self.spec(settings);
        let folder =
            RunFolder::create(&self.path(run), &spec, &provenance()).expect("a fresh folder");
        let prepared = self.plan(spec, recording).and_then(|plan| plan.with_weights(None));
        Trainer::new(prepared.expect("it fits"), folder)
    }

    /// The plan of a run on this bench's data.
    pub(crate) fn plan(
        &self,
        spec: CheckedSpec,
        recording: Option<&Recording>,
    ) -> dlt_train::Result<Plan> {
        let material = self.material(&spec);
        Plan::new(spec, material, recording, Device::Cpu)
    }

    /// Resumes a run, with a spec that differs from the run's in `settings`.
    pub(crate) fn resume(
        &self,
        run: &str,
        settings: &[&str],
        recording: Option<&Recording>,
    ) -> (Trainer, Vec<String>) {
        self.try_resume(run, settings, recording).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_resume(
        &self,
        run: &str,
        settings: &[&str],
        recording: Option<&Recording>,
    ) -> dlt_train::Result<(Trainer, Vec<String>)> {
        let mut resumption = Resumption::open(&self.path(run))?;
        let spec = self.spec(settings);
        resumption.change(spec.clone())?;

        let notices = resumption.notices().to_vec();
        let plan = resumption.plan(self.material(&spec), recording, Device::Cpu)?;
        let (trainer, more) = Trainer::resume(plan, None)?;

        Ok((trainer, [notices, more].concat()))
    }

    /// Everything that is equal in two runs with the same result: metrics, decisions, summary, best
    /// model, and the weights and moments at the end.
    pub(crate) fn outcome(&self, run: &str) -> Outcome {
        let read = |name: &str| {
            std::fs::read(self.path(run).join(name))
                .unwrap_or_else(|error| panic!("{name}: {error}"))
        };

        let lines = |name: &str| -> Vec<String> {
            String::from_utf8(read(name))
                .expect("text")
                .lines()
                .map(record::without_times)
                .collect()
        };

        let checkpoints = CheckpointFolder::of(&self.path(run)).list().expect("readable");
        let last = std::fs::read(&checkpoints[0].1).expect("a checkpoint");
        let tensors = safetensors::SafeTensors::deserialize(&last)
            .expect("every reader of safetensors reads it");
        let of = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            (name, view.data().to_vec())
        };

        let summary = String::from_utf8(read(record::SUMMARY_FILE)).expect("text");

        Outcome {
            metrics: lines(record::METRICS_FILE),
            states: read(record::STATES_FILE),
            summary: record::without_times(&summary),
            model: read(MODEL_FILE),
            end: tensors
                .tensors()
                .into_iter()
                .filter(|(name, _)| name != "progress")
                .map(of)
                .collect(),
        }
    }

    /// Why a run is refused before its first step.
    pub(crate) fn refusal(&self, settings: &[&str], recording: Option<&Recording>) -> TrainError {
        self.plan(self.spec(settings), recording).err().expect("it should be refused")
    }

    pub(crate) fn run(&self, run: &str, settings: &[&str]) -> Summary {
        finish(self.trainer(run, settings, None))
    }

    pub(crate) fn metrics(&self, run: &str) -> Vec<MetricRow> {
        let text =
            std::fs::read_to_string(self.path(run).join(record::METRICS_FILE)).expect("metrics");
        text.lines().map(|line| MetricRow::from_line(line).expect("a row")).collect()
    }

    pub(crate) fn steps(&self, run: &str) -> Vec<StepRow> {
        let row = |row| if let MetricRow::Step(row) = row { Some(row) } else { None };
        self.metrics(run).into_iter().filter_map(row).collect()
    }

    pub(crate) fn decisions(&self, run: &str) -> Vec<DecisionRow> {
        let row = |row| if let MetricRow::Decision(row) = row { Some(row) } else { None };
        self.metrics(run).into_iter().filter_map(row).collect()
    }

    /// Evaluations of a split, in order; the last is that of the kept model after training.
    pub(crate) fn evaluations(&self, run: &str, split: record::Split) -> Vec<EvaluationRow> {
        let row = |row| if let MetricRow::Evaluation(row) = row { Some(row) } else { None };
        self.metrics(run).into_iter().filter_map(row).filter(|row| row.split == split).collect()
    }

    /// The model in a file of this bench.
    pub(crate) fn model(&self, path: &Path, settings: &[&str]) -> Model {
        let spec = self.spec(settings);
        let extents = self.material(&spec).extents();
        let file = ModelFile::open(path).expect("a model file");
        saved_model(&file, of_spec(&spec, extents), &spec, &Device::Cpu)
            .expect("a model of this spec")
    }

    /// Saves a model, so that it can be examined after the run has continued.
    pub(crate) fn keep(&self, model: &Model, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        model.save(&path, &BTreeMap::new()).expect("written");
        path
    }

    pub(crate) fn recording(&self, run: &str) -> Recording {
        RunFolder::read_recording(&self.path(run).join(record::STATES_FILE)).expect("a recording")
    }
}

pub(crate) fn finish(mut trainer: Trainer) -> Summary {
    while trainer.advance().expect("it does not diverge").is_some() {}
    trainer.finish().expect("it finishes")
}

pub(crate) fn provenance() -> Provenance {
    Provenance {
        schema: record::RECORD_SCHEMA,
        version: "test".to_owned(),
        revision: None,
        toolchain: "test".to_owned(),
        host: Host {
            cpu: "test".to_owned(),
            cores: 1,
            os: "test".to_owned(),
            product_engine: None,
        },
        threads: 1,
        processes: None,
        device: "cpu".to_owned(),
        seed: 1,
        spec_fingerprint: "test".to_owned(),
        figures_revision: None,
        data: DataProvenance {
            source: "test".to_owned(),
            commit: None,
            column: None,
            bad_rows: None,
            sha256: "test".to_owned(),
            tokenizer: "test".to_owned(),
            train_tokens: 0,
            validation_tokens: 0,
            test_tokens: Some(0),
            boundary: None,
            plan: None,
            class_names: Vec::new(),
        },
        command_line: Vec::new(),
        started_at: 0,
        resumed: Vec::new(),
    }
}

pub(crate) fn losses(rows: &[MetricRow]) -> Vec<f64> {
    let loss = |row: &MetricRow| match row {
        MetricRow::Step(step) => Some(step.loss),
        _ => None,
    };
    rows.iter().filter_map(loss).collect()
}
