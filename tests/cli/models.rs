//! Small models of every family, and data for them, for tests of import, export and fine-tuning.

use std::fs;

use crate::workplace::{Said, Workplace};

/// Bytes of a record of CIFAR-10's binary files.
const RECORD: usize = 1 + 3 * 32 * 32;

/// What every small run has in common.
const SMALL: [&str; 21] = [
    "--preset",
    "smoke",
    "--steps",
    "6",
    "--quiet",
    "--threads",
    "1",
    "--set",
    "model.layers=4",
    "--set",
    "model.width=16",
    "--set",
    "model.heads=4",
    "--set",
    "model.context=24",
    "--set",
    "data.tokenizer=bytes",
    "--set",
    "tying.decide_every=2",
    "--set",
    "evaluation.every_steps=3",
];

/// Growth from one block, whose residual branches have a factor of a quarter: multiplying a weight
/// by it is exact.
pub(crate) const SCALED: [&str; 10] = [
    "--set",
    "tying.initial=tied",
    "--set",
    "tying.decision=split",
    "--set",
    "tying.grow=[0.3, 0.6]",
    "--set",
    "agent.policy=even",
    "--set",
    "tying.residual_scale=uses",
];

/// A model family with an objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gpt2,
    BertCausal,
    BertMasked,
    Vit,
    Llama,
    Qwen3,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Gpt2, Self::BertCausal, Self::BertMasked, Self::Vit, Self::Llama, Self::Qwen3];

    /// Its settings in a spec.
    fn sets(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &["model.dropout=0.1", "model.positions=40"],
            Self::BertCausal => {
                &["model.architecture=bert", "model.gelu=erf", "model.norm_epsilon=1e-12"]
            }
            Self::BertMasked => &[
                "model.architecture=bert",
                "model.objective=masked-token",
                "model.attention=full",
                "model.gelu=erf",
            ],
            Self::Vit => &[
                "model.architecture=vit",
                "model.objective=classes",
                "model.attention=full",
                "model.pooling=first",
                "model.patch=8",
                "model.gelu=erf",
            ],
            Self::Llama => &[
                "model.architecture=llama",
                "model.key_heads=2",
                "model.output=own",
                "model.feed_forward=40",
            ],
            Self::Qwen3 => &["model.architecture=qwen3", "model.key_heads=2", "model.head_width=6"],
        }
    }

    pub(crate) fn data(self) -> &'static str {
        if self == Self::Vit { "pictures.bin" } else { "text.txt" }
    }
}

/// A folder with text, pictures, and sentences with their class.
pub(crate) fn place() -> Workplace {
    let place = Workplace::new();
    place.write("pictures.bin", pictures(80));
    fs::create_dir(place.path("SST")).unwrap();
    place.write("SST/train.tsv", sentences(96));
    place.write("SST/dev.tsv", sentences(24));

    place
}

/// Trains a small model.
pub(crate) fn train(place: &Workplace, kind: Kind, name: &str, more: &[&str]) -> Said {
    place.dlt(&training(kind, name, more)).ok()
}

/// The arguments that train a small model.
pub(crate) fn training<'a>(kind: Kind, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "--data", kind.data(), "--out", name];
    arguments.extend(SMALL);
    arguments.extend(kind.sets().iter().flat_map(|set| ["--set", set]));
    arguments.extend(more);
    arguments
}

/// Loss on the validation split, as it is printed.
pub(crate) fn loss(place: &Workplace, run: &str) -> String {
    let said = place.dlt(&["eval", run, "--json", "--threads", "1"]).ok();
    let line: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    line["loss"].to_string()
}

/// Pictures whose brightness depends on their class.
fn pictures(count: usize) -> Vec<u8> {
    let record = |row: usize| {
        let class = row % 10;
        let pixel = move |at: usize| ((class * 24 + (at * 7 + row) % 13) % 256) as u8;
        std::iter::once(class as u8).chain((0..RECORD - 1).map(pixel))
    };

    (0..count).flat_map(record).collect()
}

/// Rows as in the files of SST-2; the first word depends on the class.
fn sentences(count: usize) -> String {
    let row = |row: usize| {
        let word = if row.is_multiple_of(2) { "bad" } else { "good" };
        format!("{word} film {}\t{}\n", row % 7, row % 2)
    };
    std::iter::once("sentence\tlabel\n".to_owned()).chain((0..count).map(row)).collect()
}
