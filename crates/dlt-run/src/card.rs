//! The model card: what a model is, what it was trained on, how good it is, and how to use and cite
//! it.

use std::path::Path;

use dlt_data::catalogue;
use dlt_models::Model;
use dlt_report::numbers::{self, typed, whole};
use dlt_spec::CheckedSpec;
use dlt_spec::record::Summary;
use dlt_spec::spec::{Architecture, DecideUnit, Decision, Marks, Objective, PolicyKind};
use dlt_train::split_times;

use crate::export::Form;
use crate::map;
use crate::saved::Saved;

/// What a card is made from.
pub(crate) struct Card<'a> {
    pub(crate) saved: &'a Saved,
    pub(crate) model: &'a Model,
    /// The run's result; `None` if it has not finished.
    pub(crate) summary: Option<&'a Summary>,
    pub(crate) form: Form,
}

impl Card<'_> {
    /// The whole card, in Markdown.
    pub(crate) fn text(&self) -> String {
        let spec = &self.saved.spec;
        let mut text = self.header();
        text += &format!("# {}\n\n{}\n\n", spec.name, self.summary_sentence());
        text += &format!("## Use\n\n```python\n{}```\n\n", self.usage());
        text += "## Who uses whose weights\n\n";

        text += &format!(
            "```text\n{}```\n\n",
            map::draw(&self.saved.state, Some(self.model.binding()))
        );

        text += &format!(
            "Storage of each layer, by the lowest layer that uses it: `{:?}`.\n\n",
            self.owners()
        );
        text += &format!("## Data\n\n{}\n\n", self.data());
        text += &format!("## Results\n\n{}\n", self.results());
        text += &format!("## Settings\n\n{}\n", self.settings());
        text += CITATION;

        text
    }

    /// The front matter, which model hubs read.
    fn header(&self) -> String {
        let library = match self.form {
            Form::HuggingFace => "library_name: transformers\n",
            Form::Tied => "",
        };
        format!("---\n{library}tags:\n- dynamic-layer-tying\n---\n\n")
    }

    fn summary_sentence(&self) -> String {
        let model = &self.saved.spec.model;
        let kind = model.architecture.title();
        let does = match model.objective {
            Objective::NextToken => "predicts the token that follows",
            Objective::MaskedToken => "predicts tokens that are hidden",
            Objective::Classes => "classifies its input",
        };

        let layers = model.layers;
        let distinct = self.model.binding().n_distinct();
        let Parameters { stored, expanded } = Parameters::of(self.model);

        format!(
            "A {kind} of {layers} layers of width {}, {} heads, that {does}. Its {layers} layers have {distinct} distinct \
             sets of weights: {} parameters, {} with every layer written out. It was made by dlt {}, which trains \
             transformers whose layers learn to share their weights.",
            model.width,
            model.heads,
            whole(stored),
            whole(expanded),
            env!("CARGO_PKG_VERSION"),
        )
    }

    fn usage(&self) -> String {
        let model = &self.saved.spec.model;
        if self.form == Form::Tied {
            return "# read_tied_model.py is an example in dlt's repository; it needs only Python.\n\
                    from read_tied_model import read\n\
                    metadata, tensors = read(\"model.safetensors\")  # every layer with its own name\n"
                .to_owned();
        }

        let class = match (model.architecture, model.objective) {
            (Architecture::Vit, _) => "AutoModelForImageClassification",
            (_, Objective::Classes) => "AutoModelForSequenceClassification",
            (_, Objective::MaskedToken) => "AutoModelForMaskedLM",
            (_, Objective::NextToken) => "AutoModelForCausalLM",
        };

        let (reader, name) = match model.architecture {
            Architecture::Vit => ("AutoImageProcessor", "processor"),
            _ => ("AutoTokenizer", "tokenizer"),
        };

        format!(
            "from transformers import {class}, {reader}\n\
             model = {class}.from_pretrained(\"PATH\")\n\
             {name} = {reader}.from_pretrained(\"PATH\")\n"
        )
    }

    fn owners(&self) -> Vec<usize> {
        self.model.binding().partition()
    }

    fn data(&self) -> String {
        let data = &self.saved.spec.data;
        // A path says something about a machine, not about the data: only its last part is shown.
        let name = match catalogue::find(data.source.split('@').next().unwrap_or_default()) {
            Some(entry) => format!("`{}`: {}; licence: {}", entry.name, entry.size, entry.licence),
            None if data.source.starts_with("hf:") => format!("`{}`", data.source),
            None => format!("`{}`, files that are not published here", file_name(&data.source)),
        };

        match self.saved.spec.model.architecture {
            Architecture::Vit => format!("{name}."),
            _ => {
                let marks = match data.marks {
                    Marks::None => "nothing is put around a text",
                    Marks::Template => "the tokens of its template are put around a text",
                };

                format!("{name}. Tokenizer: `{}`; {marks}.", file_name(&data.tokenizer))
            }
        }
    }

    fn results(&self) -> String {
        let Some(summary) = self.summary else { return "The run has no result yet.\n".to_owned() };
        let mut text = "| | this model | floor |\n|---|---|---|\n".to_owned();
        let mut row = |name: &str, ours: String, floor: String| {
            text += &format!("| {name} | {ours} | {floor} |\n")
        };

        match summary.validation_scores {
            Some(validation) => {
                for (split, scores) in
                    [("validation", Some(validation)), ("test", summary.test_scores)]
                {
                    let Some(scores) = scores else { continue };
                    let floor =
                        format!("{} (most frequent class)", decimal(scores.majority_accuracy, 4));
                    row(&format!("{split} accuracy"), decimal(scores.accuracy, 4), floor);

                    for (name, score) in
                        [("Matthews correlation", scores.matthews), ("F1", scores.f1)]
                    {
                        if let Some(score) = score {
                            row(&format!("{split} {name}"), decimal(score, 4), String::new());
                        }
                    }
                }
            }
            None => {
                let [ours, floor] =
                    [summary.validation_perplexity, summary.unigram_perplexity].map(Some);
                for (split, ours, floor) in [
                    ("validation", ours, floor),
                    ("test", summary.test_perplexity, summary.unigram_test_perplexity),
                ] {
                    let (Some(ours), Some(floor)) = (ours, floor) else { continue };
                    let floor = format!("{} (unigrams)", perplexity(floor));
                    row(&format!("{split} perplexity"), perplexity(ours), floor);
                }
            }
        }

        let mean = summary.block_parameters_mean;
        let whole_model = summary.conventional_block_parameters;
        let share = decimal(mean / whole_model as f64, 3);

        row(
            "trainable parameters in blocks, mean over training",
            decimal(mean, 0),
            whole(whole_model),
        );

        text + &format!("\nThat is {share} of the block parameters of a model without tying.\n")
    }

    /// A paragraph about the factors of residual branches, if there were any.
    fn factors(&self) -> String {
        let factors = self.saved.spec.residual_factors();
        if factors.iter().all(|&factor| factor == 1.0) {
            return String::new();
        }

        let factors: Vec<_> = factors.into_iter().map(|factor| decimal(factor, 3)).collect();
        format!(
            "\n\nIn training, each layer multiplied its residual branches by a factor (`tying.residual_scale = \"uses\"`): \
             {}. The weights of the projections that end the branches contain these factors, so `spec.toml` says \"none\".",
            factors.join(", "),
        )
    }

    fn settings(&self) -> String {
        let spec = &self.saved.spec;
        let step = self.saved.step;
        let optimizer = &spec.optimizer;
        let training = &spec.training;

        let context = match spec.model.architecture {
            Architecture::Vit => format!("{0} x {0} pixels", spec.model.picture),
            _ => format!("{} tokens", spec.model.context),
        };

        format!(
            "Seed {}, the weights of step {}, batches of {} windows of {context}, AdamW with a learning rate of {}, {}. \
             `spec.toml` has every setting.{}\n",
            spec.seed,
            whole(step),
            training.batch,
            optimizer.learning_rate,
            decisions(spec, self.summary.map(|summary| summary.steps)),
            self.factors(),
        )
    }
}

/// When decisions are made, in words. `steps` is the length of the run, if it is known.
fn decisions(spec: &CheckedSpec, steps: Option<usize>) -> String {
    let tying = &spec.tying;
    if spec.agent.policy == PolicyKind::None {
        return "no decisions".to_owned();
    }
    if spec.agent.policy.replays() {
        return "the decisions of a recording".to_owned();
    }

    let unit = match tying.decide_unit {
        DecideUnit::Steps => "steps",
        DecideUnit::Epochs => "passes",
    };

    let every = format!("every {} {unit}", tying.decide_every);
    let shares = split_times(spec, steps);
    let times: Vec<_> = shares.iter().map(|share| format!("{:.0} %", 100.0 * share)).collect();
    let splits = format!("splits after {} of training", times.join(", "));

    match tying.decision {
        Decision::Joint | Decision::PerLayer | Decision::Single => format!("a decision {every}"),
        Decision::Split if !shares.is_empty() => splits,
        Decision::Split => "no decisions".to_owned(),
        Decision::Swap if !shares.is_empty() => format!("{splits}, then a swap {every}"),
        Decision::Swap => format!("a swap {every}"),
    }
}

/// Number of parameters of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// As it is stored: each distinct block once.
    pub stored: usize,
    /// With every layer written out.
    pub expanded: usize,
}

impl Parameters {
    pub(crate) fn of(model: &Model) -> Self {
        let shared = model.n_shared_parameters();
        let layers = model.binding().n_layers();

        Self {
            stored: shared + model.n_parameters_in_blocks(model.binding().n_distinct()),
            expanded: shared + model.n_parameters_in_blocks(layers),
        }
    }
}

fn decimal(number: f64, decimals: usize) -> String {
    typed(&numbers::decimal(number, decimals))
}

fn perplexity(number: f64) -> String {
    typed(&numbers::perplexity(number))
}

/// The last part of a path.
pub(crate) fn file_name(path: &str) -> String {
    Path::new(path)
        .file_name()
        .map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}

const CITATION: &str = "\
## Cite

The method is that of [*Dynamic Layer Tying for Parameter-Efficient Transformers*](https://arxiv.org/abs/2401.12819) by Tamir
David-Hay and Lior Wolf:

```bibtex
@inproceedings{david-hay2024dynamic,
  title     = {Dynamic Layer Tying for Parameter-Efficient Transformers},
  author    = {David-Hay, Tamir and Wolf, Lior},
  booktitle = {The Twelfth International Conference on Learning Representations (ICLR)},
  year      = {2024},
  url       = {https://arxiv.org/abs/2401.12819}
}
```
";

#[cfg(test)]
mod tests {
    use dlt_spec::{Overlay, Spec};

    use super::*;

    /// What a card says about twelve layers that grow by splits, with `more` assignments.
    fn said(more: &[&str], steps: Option<usize>) -> String {
        let growth = [
            "model.layers=12",
            "tying.decision=split",
            "tying.grow=[0.1, 0.25, 0.5]",
            "tying.initial=tied",
            "agent.policy=grow",
        ];

        let assignments = growth.iter().chain(more);
        let overlays: Vec<_> =
            assignments.map(|one| Overlay::from_assignment(one).unwrap()).collect();

        decisions(&Spec::assemble(&overlays).unwrap().check().unwrap(), steps)
    }

    #[test]
    fn a_card_says_the_splits_that_are_made() {
        assert_eq!(said(&[], Some(100)), "splits after 10 %, 25 %, 50 % of training");
        assert_eq!(said(&["tying.groups=3"], Some(100)), "splits after 10 %, 25 % of training");
        assert_eq!(said(&["tying.groups=1"], Some(100)), "no decisions");

        let swap = ["tying.decision=swap", "agent.policy=conflict", "tying.groups=2"];
        assert_eq!(
            said(&swap, Some(100)),
            "splits after 10 % of training, then a swap every 15 steps"
        );

        let alone = ["tying.decision=swap", "agent.policy=conflict", "tying.groups=1"];
        assert_eq!(said(&alone, None), "a swap every 15 steps");
    }

    #[test]
    fn a_card_of_a_replay_says_nothing_of_splits() {
        for policy in ["agent.policy=replay", "agent.policy=permuted-replay"] {
            let replay = [policy, "agent.recording=states.jsonl"];
            assert_eq!(said(&replay, Some(100)), "the decisions of a recording");
        }
        assert_eq!(said(&["agent.policy=none"], None), "no decisions");
    }
}
