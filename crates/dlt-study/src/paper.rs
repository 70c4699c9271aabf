//! What the paper reports, number by number.

use crate::row::Row;
use crate::subject::{Corpus, GlueTask};

/// A column of Table 1 or 2: conventional training, then the full method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Language {
    pub(crate) perplexity: [&'static str; 2],
    /// Conventional, mean over training, at the end.
    pub(crate) parameters: [&'static str; 3],
    pub(crate) independent: [&'static str; 3],
    pub(crate) seconds_per_epoch: [&'static str; 2],
}

/// Table 1.
pub(crate) fn gpt2(corpus: Corpus) -> Language {
    let (perplexity, mean, end, independent, seconds_per_epoch) = match corpus {
        Corpus::WikiText2 => {
            (["53.57", "49.37"], "171M", "264M", ["48", "4.395", "7"], ["148.5", "165"])
        }
        Corpus::WikiText103 => {
            (["22.32", "22.35"], "151M", "142M", ["48", "2.309", "6"], ["3609.5", "4010.5"])
        }
        Corpus::Lambada => {
            (["94.96", "93.84"], "166M", "326M", ["48", "3.547", "9"], ["26376.5", "29307.2"])
        }
        Corpus::OneBillion => {
            (["88.35", "72.35"], "218M", "203M", ["48", "4.486", "10"], ["15440", "17155.5"])
        }
    };

    Language { perplexity, parameters: ["1.6B", mean, end], independent, seconds_per_epoch }
}

/// Table 2.
pub(crate) fn bert(corpus: Corpus) -> Language {
    let (perplexity, mean, end, independent, seconds_per_epoch) = match corpus {
        Corpus::WikiText2 => {
            (["70.15", "69.27"], "52M", "46M", ["12", "2.36", "3"], ["51.2", "26.5"])
        }
        Corpus::WikiText103 => {
            (["154.2", "132.6"], "52M", "46M", ["12", "2.83", "5"], ["1244.6", "644.5"])
        }
        Corpus::Lambada => {
            (["202.70", "156.30"], "52M", "67M", ["12", "1.88", "3"], ["5324.1", "2757.1"])
        }
        Corpus::OneBillion => {
            ([">1000", "215.50"], "57M", "60M", ["12", "2.45", "3"], ["9095.3", "4704.4"])
        }
    };

    Language { perplexity, parameters: ["376M", mean, end], independent, seconds_per_epoch }
}

/// Table 3, in MB: peak and average, conventional and tied.
pub(crate) const MEMORY: [[f64; 2]; 2] = [[12_566.66, 4_514.31], [10_223.08, 3_395.16]];

/// Table 4: Wiki-2 and Shakespeare.
pub(crate) fn ablation(row: Row) -> Option<[f64; 2]> {
    Some(match row {
        Row::Shallow => [54.64, 167.3],
        Row::Static => [59.35, 185.3],
        Row::Permuted => [65.21, 172.2],
        Row::Replayed => [50.05, 161.3],
        Row::Replicated => [235.8, 202.9],
        Row::AllTrain => [50.18, 159.3],
        Row::Cycle => [51.93, 176.6],
        Row::CycleReversed => [52.83, 180.0],
        Row::Sequence => [54.01, 173.9],
        Row::Conventional => [53.57, 173.2],
        Row::Full => [49.37, 161.1],
        _ => return None,
    })
}

/// Table 5: quantity, ViT, the paper's method.
pub(crate) const VISION: [(&str, &str, &str); 5] = [
    ("Accuracy", "0.999", "0.995"),
    ("# trainable params (mean)", "630M", "80M"),
    ("# trainable params (end of training)", "630M", "139M"),
    ("# trainable layers (mean)", "32", "5.5"),
    ("# trainable layers (end of training)", "32", "7"),
];

/// Table 6: accuracy, conventional and ours.
pub(crate) fn glue(task: GlueTask) -> [f64; 2] {
    match task {
        GlueTask::Sst2 => [0.811, 0.799],
        GlueTask::Cola => [0.691, 0.691],
        GlueTask::Qnli => [0.608, 0.599],
        GlueTask::Mrpc => [0.697, 0.697],
        GlueTask::Rte => [0.527, 0.541],
    }
}

/// Table 6: trainable parameters, conventional and ours.
pub(crate) const GLUE_PARAMETERS: [&str; 2] = ["1.5B", "235M"];

/// Notes on figures of the paper that contradict each other, for below the table.
pub(crate) fn contradictions(table: u8) -> &'static [&'static str] {
    match table {
        1 => &[
            "The paper's own figures disagree. End parameters of 264M, 142M, 326M and 203M belong to \
             6, 2, 8 and 4 blocks; the paper says 7, 6, 9 and 10 layers. The 1-billion model ends \
             with 10 layers and 203M here, and with 5 layers and 235M in Table 6. The time per epoch \
             is exactly 1.111 times the conventional one in all four columns. The text describes the \
             times of Table 1 as those of Table 2, and the other way round.",
        ],
        2 => &[
            "The paper's own figures disagree. A model with 12 layers of width 768 and 50,257 tokens \
             has 124M parameters, not 376M. The time per epoch is 0.517 to 0.518 of the conventional \
             one in all four columns.",
        ],
        3 => {
            &["The weights, gradients and moments of 1,556.4 M parameters, in two bytes each, are \
             12,451 MB. So the paper's 12,566.66 MB hold hardly any activations: the authors' code \
             counts allocated bytes between steps."]
        }
        6 => &[
            "For the same model, the paper gives 5 layers and 235M trainable parameters here, and 10 \
             layers and 203M in Table 1.",
        ],
        _ => &[],
    }
}
