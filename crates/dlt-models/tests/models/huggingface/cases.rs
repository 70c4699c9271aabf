//! The fixtures: models that transformers wrote, and what it computes with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{Device, Tensor};
use dlt_kernels::Kernels;
use dlt_models::Model;
use dlt_models::architecture::{self, of_spec};
use dlt_models::batch::{Input, Padding, Tokens, Wanted};
use dlt_models::binding::Binding;
use dlt_models::huggingface::{Weights, read_config};
use dlt_spec::size::Extents;
use dlt_spec::spec::{Architecture, Objective, Size};
use dlt_spec::{CheckedSpec, Spec};
use dlt_state::State;

use crate::fixtures::{PAPER, path, tensors};

pub(crate) const CASES: [&str; 20] = [
    "gpt2-causal",
    "gpt2-erf",
    "gpt2-classes",
    "bert-causal",
    "bert-masked",
    "bert-classes",
    "vit-classes",
    "llama-causal",
    "llama-tied",
    "llama-classes",
    "llama-biases",
    "llama-linear",
    "llama-dynamic",
    "llama-yarn",
    "llama-yarn-unrounded",
    "llama-longrope",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3-biases",
];

/// One fixture.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) spec: CheckedSpec,
    /// Windows, B.
    pub(crate) windows: usize,
    /// The class of each window, if classes are predicted.
    pub(crate) labels: Vec<u32>,
    oracle: BufferedSafetensors,
    ids: Vec<u32>,
    types: Option<Vec<u32>>,
    lengths: Option<Vec<usize>>,
    pixels: Vec<f32>,
}

/// What the loss of a fixture counts.
pub(crate) enum Counted {
    Some(Vec<Option<u32>>),
    Classes(Vec<u32>),
}

impl Counted {
    pub(crate) fn borrow(&self) -> Wanted<'_> {
        match self {
            Self::Some(targets) => Wanted::Some(targets),
            Self::Classes(labels) => Wanted::Classes(labels),
        }
    }
}

/// The spec of a `config.json`.
pub(crate) fn spec(config: &Path) -> CheckedSpec {
    let model = read_config(config).expect("a config").model;
    Spec { model, ..Spec::default() }.check().expect("a model that can be")
}

pub(crate) fn architecture(spec: &CheckedSpec) -> Arc<dyn architecture::Architecture> {
    of_spec(spec, Extents::default())
}

/// The weights of a folder in a model whose layers are all independent.
pub(crate) fn load(
    spec: &CheckedSpec,
    folder: &Path,
    kernels: Kernels,
) -> dlt_models::Result<Model> {
    let architecture = architecture(spec);
    let weights = Weights::open(folder, architecture.as_ref(), &Device::Cpu)?;
    let binding = Binding::of_state(&State::independent(spec.model.layers));
    let lookup = |name: &str| weights.lookup(name);
    Model::from_weights(architecture, binding, PAPER, kernels, &lookup, None, &Device::Cpu)
}

impl Case {
    pub(crate) fn new(name: &'static str) -> Self {
        let folder = path("huggingface").join(name);
        let oracle = tensors(&format!("huggingface/{name}/oracle.safetensors"));
        let read = |name: &str| {
            oracle.get(name).is_ok().then(|| oracle.load(name, &Device::Cpu).expect("read"))
        };
        let flat = |name: &str| read(name).map(|tensor| tensor.flatten_all().expect("memory"));

        let whole = |name: &str| flat(name).map(|tensor| tensor.to_vec1::<u32>().expect("u32"));
        let lengths = whole("lengths");
        let mut spec = spec(&folder.join("config.json"));
        let input = read("input_ids").or_else(|| read("pixel_values")).expect("an input");

        // These frequencies depend on the length of a text, so the fixture has texts that are
        // longer than the positions of its config.
        let tokens = input.dims()[1];
        if spec.model.architecture == Architecture::Llama && tokens > spec.positions() {
            let mut longer = Spec { model: spec.model.clone(), ..Spec::default() };
            longer.model.positions = Size::Fixed(tokens);
            spec = longer.check().expect("a model that can be");
        }

        let is_classes = spec.model.objective == Objective::Classes;

        Self {
            name,
            windows: input.dim(0).expect("windows"),
            labels: if is_classes { whole("labels").expect("labels") } else { Vec::new() },
            ids: whole("input_ids").unwrap_or_default(),
            types: whole("token_type_ids"),
            lengths: lengths.map(|all| all.into_iter().map(|length| length as usize).collect()),
            pixels: flat("pixel_values").map_or_else(Vec::new, |all| all.to_vec1().expect("f32")),
            spec,
            folder,
            oracle,
        }
    }

    pub(crate) fn model(&self, kernels: Kernels) -> Model {
        load(&self.spec, &self.folder, kernels).expect("the fixture holds every weight")
    }

    pub(crate) fn ids(&self) -> Vec<u32> {
        self.ids.clone()
    }

    pub(crate) fn input(&self) -> Input<'_> {
        if !self.pixels.is_empty() {
            return Input::Pictures(&self.pixels);
        }

        Input::Tokens(Tokens {
            ids: &self.ids,
            types: self.types.as_deref(),
            lengths: self.lengths.as_deref(),
            padding: Padding::Hidden,
        })
    }

    /// What the loss counts.
    pub(crate) fn wanted(&self) -> Counted {
        match self.spec.model.objective {
            Objective::Classes => Counted::Classes(self.labels.clone()),
            Objective::MaskedToken => {
                let labels =
                    self.oracle("labels").flatten_all().and_then(|flat| flat.to_vec1::<i32>());
                let labels =
                    labels.expect("i32").into_iter().map(|label| u32::try_from(label).ok());
                Counted::Some(labels.collect())
            }
            Objective::NextToken => {
                let tokens = self.ids.len() / self.windows;
                let next = |at: usize| (!(at + 1).is_multiple_of(tokens)).then(|| self.ids[at + 1]);
                Counted::Some((0..self.ids.len()).map(next).collect())
            }
        }
    }

    pub(crate) fn oracle(&self, name: &str) -> Tensor {
        self.oracle.load(name, &Device::Cpu).expect("the fixture has it")
    }

    /// Every gradient by the name of its weight.
    pub(crate) fn gradients(&self) -> Vec<(String, Tensor)> {
        let names = self.oracle.tensors().into_iter().map(|(name, _)| name);
        let own = names.filter_map(|name| name.strip_prefix("gradient/").map(str::to_owned));
        own.map(|name| (name.clone(), self.oracle(&format!("gradient/{name}")))).collect()
    }

    /// Every tensor of the model's file.
    pub(crate) fn file(&self) -> Vec<(String, Tensor)> {
        read_all(&self.folder.join("model.safetensors"))
    }
}

/// Every tensor of a safetensors file, by name.
pub(crate) fn read_all(path: &Path) -> Vec<(String, Tensor)> {
    let all = candle_core::safetensors::load(path, &Device::Cpu).expect("safetensors");
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}
