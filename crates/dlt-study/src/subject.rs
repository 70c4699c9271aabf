//! What is trained, and on which data, at each scale: a column of a table.

use crate::excerpt;
use crate::scale::Scale;

/// The texts of Tables 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Corpus {
    WikiText2,
    WikiText103,
    Lambada,
    OneBillion,
}

/// The tasks of Table 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GlueTask {
    Sst2,
    Cola,
    Qnli,
    Mrpc,
    Rte,
}

/// A model with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// Table 4, second column: GPT-2 of 12 layers on Shakespeare.
    Shakespeare,
    /// Table 1, and Table 4's first column.
    Gpt2(Corpus),
    /// Table 2.
    Bert(Corpus),
    /// Table 3, at a size that a laptop can hold without tying.
    Memory,
    /// Table 3, at the paper's size.
    MemoryPaper,
    /// Table 5: ViT on CIFAR-10.
    Vision,
    /// Table 6.
    Glue(GlueTask),
    /// Where tying pays, by learning rate, steps between decisions, and share of training with
    /// decisions.
    Regime,
    /// Our method compared with conventional training, fixed patterns, chance and the paper's
    /// method.
    Method,
}

/// The settings of a subject at a scale, before a row changes them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ground {
    pub(crate) preset: &'static str,
    pub(crate) data: Option<&'static str>,
    pub(crate) settings: Vec<String>,
}

impl Corpus {
    pub(crate) const ALL: [Self; 4] =
        [Self::WikiText2, Self::WikiText103, Self::Lambada, Self::OneBillion];

    /// Its name in the catalogue of data sets.
    pub(crate) fn data(self) -> &'static str {
        match self {
            Self::WikiText2 => "wikitext-2",
            Self::WikiText103 => "wikitext-103",
            Self::Lambada => "lambada",
            Self::OneBillion => "lm1b",
        }
    }

    /// The paper's name for it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::WikiText2 => "Wiki-2",
            Self::WikiText103 => "Wiki-103",
            Self::Lambada => "Lambada",
            Self::OneBillion => "1-billion",
        }
    }
}

impl GlueTask {
    pub(crate) const ALL: [Self; 5] = [Self::Sst2, Self::Cola, Self::Qnli, Self::Mrpc, Self::Rte];

    /// Its name in the catalogue of data sets.
    pub(crate) fn data(self) -> &'static str {
        match self {
            Self::Sst2 => "glue/sst2",
            Self::Cola => "glue/cola",
            Self::Qnli => "glue/qnli",
            Self::Mrpc => "glue/mrpc",
            Self::Rte => "glue/rte",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Sst2 => "SST-2",
            Self::Cola => "CoLA",
            Self::Qnli => "QNLI",
            Self::Mrpc => "MRPC",
            Self::Rte => "RTE",
        }
    }
}

/// Why a scale leaves out a subject: too much text for minutes, or no data.
const NOT_HERE: &str = "not at this scale";

impl Subject {
    /// Its name, which is also its folder.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Shakespeare => "shakespeare".to_owned(),
            Self::Gpt2(corpus) => format!("gpt2-{}", corpus.data()),
            Self::Bert(corpus) => format!("bert-{}", corpus.data()),
            Self::Memory => "memory".to_owned(),
            Self::MemoryPaper => "memory-paper".to_owned(),
            Self::Vision => "vit-cifar10".to_owned(),
            Self::Glue(task) => task.data().replace('/', "-"),
            Self::Regime => "regime".to_owned(),
            Self::Method => "method".to_owned(),
        }
    }

    /// The subject whose models are fine-tuned on GLUE.
    pub(crate) fn pretrained(scale: Scale) -> Self {
        match scale {
            Scale::Paper => Self::Gpt2(Corpus::OneBillion),
            Scale::Smoke | Scale::Laptop | Scale::Long => Self::Gpt2(Corpus::WikiText2),
        }
    }

    /// Its settings at a scale.
    ///
    /// # Errors
    ///
    /// The reason, if the scale does not have the subject.
    pub(crate) fn ground(self, scale: Scale) -> Result<Ground, &'static str> {
        match scale {
            Scale::Smoke => self.smoke(),
            Scale::Laptop => self.laptop(),
            Scale::Long => self.long(),
            Scale::Paper => self.paper(),
        }
    }

    fn smoke(self) -> Result<Ground, &'static str> {
        let text = [
            "training.steps=12",
            "evaluation.every_steps=6",
            "evaluation.windows=4",
            "evaluation.final_windows=4",
            "tying.decide_every=2",
        ];

        let text = |more: &[&str]| {
            Ok(ground("smoke", None, &[&["model.layers=4"], &text[..], more].concat()))
        };

        match self {
            Self::Shakespeare | Self::Regime | Self::Method | Self::Gpt2(Corpus::WikiText2) => {
                text(&[])
            }
            Self::Bert(Corpus::WikiText2) => {
                text(&["model.architecture=bert", "model.attention=causal"])
            }
            Self::Memory | Self::MemoryPaper => text(&["model.layers=6"]),
            Self::Gpt2(_) | Self::Bert(_) => Err(NOT_HERE),
            Self::Vision => Ok(ground(
                "vit-cifar",
                Some("cifar10"),
                &[
                    "model.layers=4",
                    "model.width=16",
                    "model.heads=2",
                    "training.steps=12",
                    "training.batch=8",
                    "evaluation.every_steps=6",
                    "tying.decide_every=2",
                    "agent.reward=accuracy",
                ],
            )),
            Self::Glue(GlueTask::Sst2 | GlueTask::Cola | GlueTask::Rte) => Ok(ground(
                "smoke",
                None,
                &["training.steps=6", "training.batch=8", "evaluation.every_steps=3"],
            )),
            Self::Glue(_) => Err(NOT_HERE),
        }
    }

    fn laptop(self) -> Result<Ground, &'static str> {
        // A killed cell loses at most two minutes of work.
        let often = "checkpoint.every_minutes=2.0";
        let rate = "optimizer.learning_rate=1e-3";
        let wikitext = [
            rate,
            "training.steps=1200",
            "evaluation.every_steps=300",
            "evaluation.windows=200",
            often,
        ];

        Ok(match self {
            Self::Shakespeare => ground("shakespeare-12", None, &[rate, often]),
            Self::Regime => ground("shakespeare-12", None, &["training.steps=400", often]),
            // Each row sets its own rate.
            Self::Method => ground("shakespeare-12", None, &[often]),
            Self::Gpt2(Corpus::WikiText2) => {
                let size = ["name=gpt2-wikitext-2", "model.layers=48", "model.width=64"];
                ground("shakespeare-12", Some("wikitext-2"), &[&size[..], &wikitext].concat())
            }
            Self::Bert(Corpus::WikiText2) => ground(
                "bert-small",
                Some("wikitext-2"),
                &[&["name=bert-wikitext-2"], &wikitext[..]].concat(),
            ),
            Self::Gpt2(_) | Self::Bert(_) => return Err(NOT_HERE),
            Self::Memory => ground(
                "gpt2-paper",
                None,
                &[
                    "name=gpt2-24x1024",
                    "model.layers=24",
                    "model.width=1024",
                    "training.batch=4",
                    "training.micro_batch=auto",
                    "training.steps=24",
                    "tying.decide_every=2",
                    "evaluation.windows=1",
                    "evaluation.every_steps=1000",
                    "data.split=[0.96,0.02,0.02]",
                ],
            ),
            Self::MemoryPaper => ground(
                "gpt2-paper",
                None,
                &[
                    "training.steps=5",
                    "tying.decide_every=2",
                    "evaluation.windows=1",
                    "evaluation.every_steps=1000",
                    "data.split=[0.99,0.005,0.005]",
                ],
            ),
            Self::Vision => ground(
                "vit-cifar",
                Some("cifar10"),
                &[
                    rate,
                    "data.split=[0.8,0.1,0.1]",
                    "optimizer.schedule=cosine",
                    "optimizer.warmup_steps=50",
                    "agent.reward=accuracy",
                    often,
                ],
            ),
            Self::Glue(GlueTask::Sst2) => {
                ground("smoke", None, &[FINETUNING_RATE, "model.context=64", "training.steps=800"])
            }
            Self::Glue(GlueTask::Cola) => {
                ground("smoke", None, &[FINETUNING_RATE, "model.context=64"])
            }
            Self::Glue(GlueTask::Rte) => ground("smoke", None, &[FINETUNING_RATE]),
            Self::Glue(_) => return Err(NOT_HERE),
        })
    }

    /// The regime in which the paper says that tying pays, small enough to run while the machine does
    /// other work.
    fn long(self) -> Result<Ground, &'static str> {
        if self != Self::Method {
            return Err(NOT_HERE);
        }

        let settings = [
            "name=method-long",
            "model.width=64",
            "model.context=64",
            "training.steps=auto",
            "training.epochs=60",
            "evaluation.every_steps=50",
            "checkpoint.every_minutes=2.0",
        ];

        Ok(ground("shakespeare-12", Some(excerpt::NAME), &settings))
    }

    fn paper(self) -> Result<Ground, &'static str> {
        let long = [
            "training.steps=auto",
            "training.epochs=300",
            "training.batch=16",
            "model.context=256",
        ];

        Ok(match self {
            Self::Method => return Err(NOT_HERE),
            Self::Shakespeare | Self::Regime => ground("gpt2-small", None, &long),
            Self::Gpt2(corpus) => ground("gpt2-paper", Some(corpus.data()), &[]),
            Self::Bert(corpus) => ground("bert-paper", Some(corpus.data()), &[]),
            Self::Memory | Self::MemoryPaper => ground("gpt2-paper", None, &["training.steps=600"]),
            Self::Vision => ground("vit-paper", None, &["agent.reward=accuracy"]),
            Self::Glue(_) => ground("smoke", None, &[]),
        })
    }
}

const FINETUNING_RATE: &str = "optimizer.learning_rate=5e-4";

fn ground(preset: &'static str, data: Option<&'static str>, settings: &[&str]) -> Ground {
    Ground { preset, data, settings: settings.iter().map(|&setting| setting.to_owned()).collect() }
}
