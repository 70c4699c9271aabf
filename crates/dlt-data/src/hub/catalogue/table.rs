//! The table itself.

use super::{
    Columns, Entry, Joining,
    LearningTask::{self, Classification, Images, LanguageModel},
    OWN_SPLITS, Part, Tail, validation_from_train,
};
use crate::text::corpus::SHAKESPEARE;

const MAIN: &str = "main";
/// The hub's own conversion, which is read if the repository itself is a loading script.
const CONVERTED: &str = "refs/convert/parquet";
const OWN: &str = "train, validation and test as published";
const GLUE_OWN: &str = "train and validation as published; the published test split has no labels";
const GLUE: &str = "nyu-mll/glue";
const VALIDATION_OF_LM1B: Tail = Tail::Percent(1);
const VALIDATION_OF_CIFAR10: Tail = Tail::Rows(5_000);

/// All data sets that have a name, in the order in which they are shown.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        size: "0.8 MB; 248,125 GPT-2 tokens",
        licence: "public domain",
        repository: None,
        revision: "",
        splits: "train, validation and test as shipped: validation and test are the ends of works",
        paper: "Table 4, GPT-2 of 12 layers on \"Shakespeare\": perplexity 161.1, \
                conventional 173.2",
        ..text(SHAKESPEARE, "", "", "")
    },
    Entry {
        size: "1.1 MB; 338,025 GPT-2 tokens",
        licence: "public domain",
        revision: CONVERTED,
        splits: "train, validation and test as published: 90, 5 and 5 % of the characters",
        paper: "the authors' code uses it for Table 4's \"Shakespeare\"; the text describes \
                another one",
        ..text("tiny_shakespeare", "karpathy/tiny_shakespeare", "default", "text")
    },
    Entry {
        size: "13 MB; 2,448,382 / 258,659 / 295,877 GPT-2 tokens",
        paper: "Table 1, GPT-2: perplexity 49.37, conventional 53.57; Table 2, BERT: 69.27, \
                70.15; Table 4",
        ..wikitext("wikitext-2", "wikitext-2-v1")
    },
    Entry {
        size: "13 MB",
        paper: "does not say whether Wiki-2 is this or the version with <unk>",
        ..wikitext("wikitext-2-raw", "wikitext-2-raw-v1")
    },
    Entry {
        size: "0.5 GB",
        paper: "Table 1, GPT-2: perplexity 22.35, conventional 22.32; Table 2, BERT: 132.6, 154.2",
        ..wikitext("wikitext-103", "wikitext-103-v1")
    },
    Entry {
        size: "0.5 GB",
        paper: "does not say whether Wiki-103 is this or the version with <unk>",
        ..wikitext("wikitext-103-raw", "wikitext-103-raw-v1")
    },
    Entry {
        size: "1 GB: 2,662 novels to train on, 4,869 and 5,153 passages",
        licence: "CC BY 4.0",
        splits: "train, validation and test as published; a row is a novel or a passage",
        paper: "Table 1, GPT-2: perplexity 93.84, conventional 94.96; Table 2, BERT: 156.30, \
                202.70",
        ..text("lambada", "cimec/lambada", "plain_text", "text")
    },
    Entry {
        size: "4 GB: 30,301,028 sentences to train on, 306,688 to test",
        licence: "Apache 2.0 (the benchmark's scripts); news texts of WMT 2011",
        revision: CONVERTED,
        splits: "train and test as published; validation is the last 1 % of the rows of train, \
                 which are not trained on",
        paper: "Table 1, GPT-2: perplexity 72.35, conventional 88.35; Table 2, BERT: 215.50, \
                over 1000; Table 6",
        parts: validation_from_train(VALIDATION_OF_LM1B),
        ..text("lm1b", "billion-word-benchmark/lm1b", "plain_text", "text")
    },
    Entry {
        size: "5 MB: 42,068 / 3,370 / 3,761 sentences",
        licence: "LDC user agreement",
        revision: CONVERTED,
        paper: "not used",
        ..text("ptb", "ptb-text-only/ptb_text_only", "penn_treebank", "sentence")
    },
    Entry {
        name: "cifar10",
        task: Images,
        size: "50,000 / 10,000 pictures of 32 x 32 pixels, 10 classes",
        licence: "research use",
        repository: Some("uoft-cs/cifar10"),
        revision: MAIN,
        config: "plain_text",
        splits: "train and test as published; validation is the last 5,000 rows of train, which \
                 are not trained on",
        paper: "Table 5, ViT of 32 layers: accuracy 0.995, conventional 0.999",
        parts: validation_from_train(VALIDATION_OF_CIFAR10),
        columns: Columns::Picture,
    },
    Entry {
        size: "67,349 / 872 / 1,821 sentences",
        paper: "Table 6: accuracy 0.799, conventional 0.811",
        ..glue("glue/sst2", "sst2", "sentence", None)
    },
    Entry {
        size: "8,551 / 1,043 / 1,063 sentences",
        paper: "Table 6: accuracy 0.691, conventional 0.691",
        ..glue("glue/cola", "cola", "sentence", None)
    },
    Entry {
        size: "104,743 / 5,463 / 5,463 pairs",
        paper: "Table 6: accuracy 0.599, conventional 0.608",
        ..glue("glue/qnli", "qnli", "question", Some("sentence"))
    },
    Entry {
        size: "3,668 / 408 / 1,725 pairs",
        paper: "Table 6: accuracy 0.697, conventional 0.697",
        ..glue("glue/mrpc", "mrpc", "sentence1", Some("sentence2"))
    },
    Entry {
        size: "2,490 / 277 / 3,000 pairs",
        paper: "Table 6: accuracy 0.541, conventional 0.527",
        ..glue("glue/rte", "rte", "sentence1", Some("sentence2"))
    },
    Entry {
        size: "635 / 71 / 146 pairs",
        paper: "not in Table 6; the authors' code has it",
        ..glue("glue/wnli", "wnli", "sentence1", Some("sentence2"))
    },
];

/// What data sets for language modelling share.
const fn text(
    name: &'static str,
    repository: &'static str,
    config: &'static str,
    column: &'static str,
) -> Entry {
    entry(
        name,
        LanguageModel,
        repository,
        config,
        Columns::Text { column, joining: Joining::Lines },
        OWN_SPLITS,
    )
}

const fn wikitext(name: &'static str, config: &'static str) -> Entry {
    let columns = Columns::Text { column: "text", joining: Joining::WikiText };
    let entry = entry(name, LanguageModel, "Salesforce/wikitext", config, columns, OWN_SPLITS);
    Entry { licence: "CC BY-SA 3.0 and GFDL", ..entry }
}

const fn glue(
    name: &'static str,
    config: &'static str,
    first: &'static str,
    second: Option<&'static str>,
) -> Entry {
    let entry =
        entry(name, Classification, GLUE, config, Columns::Sentences { first, second }, OWN_SPLITS);
    Entry { licence: "of its sources; research use", splits: GLUE_OWN, ..entry }
}

const fn entry(
    name: &'static str,
    task: LearningTask,
    repository: &'static str,
    config: &'static str,
    columns: Columns,
    parts: [Part; 3],
) -> Entry {
    Entry {
        name,
        task,
        size: "",
        licence: "",
        repository: Some(repository),
        revision: MAIN,
        config,
        splits: OWN,
        paper: "",
        parts,
        columns,
    }
}
