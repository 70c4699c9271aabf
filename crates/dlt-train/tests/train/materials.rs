//! Material of every kind, and the settings of a tiny model for each.

use std::fmt::Write;
use std::path::Path;

/// A kind of material with a model family that learns from it. In settings `@` means the folder of
/// the bench.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) settings: &'static [&'static str],
    pub(crate) has_classes: bool,
}

pub(crate) const BERT: Kind =
    Kind { name: "bert", settings: &["model.architecture=bert"], has_classes: false };

/// The tokenizer has no mask: the vocabulary gets one more entry.
pub(crate) const MASKED: Kind = Kind {
    name: "masked tokens",
    settings: &[
        "model.architecture=bert",
        "model.objective=masked-token",
        "model.attention=full",
        "data.mask_share=0.4",
    ],
    has_classes: false,
};

pub(crate) const LLAMA: Kind = Kind {
    name: "llama",
    settings: &["model.architecture=llama", "model.key_heads=1", "model.output=own"],
    has_classes: false,
};

/// Heads are wider than C / H, and the output is the token table.
pub(crate) const QWEN3: Kind = Kind {
    name: "qwen3",
    settings: &["model.architecture=qwen3", "model.key_heads=1", "model.head_width=8"],
    has_classes: false,
};

/// Pictures that are cropped and flipped at random.
pub(crate) const PICTURES: Kind = Kind {
    name: "pictures",
    settings: &[
        "model.architecture=vit",
        "model.objective=classes",
        "model.attention=full",
        "model.pooling=first",
        "model.picture=8",
        "data.source='@/pictures.bin'",
        "data.split=[0.7,0.15,0.15]",
        "data.augment=crop-flip",
    ],
    has_classes: true,
};

/// Sentences of different widths, padded.
pub(crate) const SENTENCES: Kind = Kind {
    name: "sentences",
    settings: &[
        "model.objective=classes",
        "model.context=12",
        "data.source='@/sentences'",
        "data.tokenizer='@/ended.json'",
    ],
    has_classes: true,
};

/// Pairs of sentences between marks, with types of tokens.
pub(crate) const PAIRS: Kind = Kind {
    name: "pairs",
    settings: &[
        "model.architecture=bert",
        "model.objective=classes",
        "model.attention=full",
        "model.pooling=mean",
        "model.context=12",
        "data.source='@/pairs'",
        "data.tokenizer='@/marked.json'",
    ],
    has_classes: true,
};

/// The authors' reading: a single score at the last position, padding seen.
pub(crate) const BARE: Kind = Kind {
    name: "bare sentences",
    settings: &[
        "model.architecture=llama",
        "model.objective=classes",
        "model.classes=1",
        "model.pooling=last-position",
        "model.context=12",
        "data.framing=bare",
        "data.source='@/sentences'",
        "data.tokenizer='@/ended.json'",
    ],
    has_classes: true,
};

/// All kinds.
pub(crate) const KINDS: [Kind; 8] = [BERT, MASKED, LLAMA, QWEN3, PICTURES, SENTENCES, PAIRS, BARE];

/// Writes all files that the kinds name.
pub(crate) fn write(folder: &Path) {
    let put =
        |name: &str, content: &[u8]| std::fs::write(folder.join(name), content).expect("written");
    put("text.txt", text(2_000).as_bytes());
    put("tokenizer.json", tokenizer(&[]).as_bytes());
    put("ended.json", tokenizer(&["<|endoftext|>"]).as_bytes());
    put("marked.json", tokenizer(&["[PAD]", "[CLS]", "[SEP]"]).as_bytes());
    put("pictures.bin", &(0..80).flat_map(picture).collect::<Vec<_>>());

    for name in ["sentences", "pairs"] {
        std::fs::create_dir(folder.join(name)).expect("made");
    }

    for (split, first, count) in [("train", 0, 80), ("dev", 80, 20)] {
        put(&format!("sentences/{split}.tsv"), table(first, count, &["sentence"]).as_bytes());
        put(
            &format!("pairs/{split}.tsv"),
            table(first, count, &["sentence1", "sentence2"]).as_bytes(),
        );
    }
}

/// Words 0 to 19 in an order in which each word almost determines the next, so that a model can
/// learn it.
fn text(words: usize) -> String {
    let mut text = String::new();
    let mut word = 1usize;
    for i in 0..words {
        let _ = write!(text, "w{word} ");
        word = (word * 3 + usize::from(i % 7 == 0)) % 20;
    }

    text
}

/// A tokenizer file with one token per word, and some more.
fn tokenizer(more: &[&str]) -> String {
    let words = (0..20).map(|word| format!("w{word}"));
    let words = words.chain(["[UNK]".to_owned()]).chain(more.iter().map(|&word| word.to_owned()));
    let words: Vec<String> = words.zip(0..).map(|(word, id)| format!("{word:?}:{id}")).collect();

    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{{"type":"WhitespaceSplit"}},"post_processor":null,"decoder":null,
        "model":{{"type":"WordLevel","vocab":{{{}}},"unk_token":"[UNK]"}}}}"#,
        words.join(",")
    )
}

/// A table like GLUE's with two classes: sentences of two to eight words, from the first ten words
/// or from the last ten.
fn table(first: usize, count: usize, columns: &[&str]) -> String {
    let mut table = format!("{}\tlabel\n", columns.join("\t"));
    for row in first..first + count {
        let class = row % 2;
        for column in 0..columns.len() {
            let words = 2 + (row * 5 + column * 3) % 7;
            let words =
                (0..words).map(|at| format!("w{}", class * 10 + (row * 7 + at * 3 + column) % 10));
            table += &(words.collect::<Vec<_>>().join(" ") + "\t");
        }

        let _ = writeln!(table, "{class}");
    }

    table
}

/// A record like those of CIFAR-10. Each of the three classes is bright in its own channel.
fn picture(row: usize) -> Vec<u8> {
    let class = row * 7 % 3;
    let noise = |at: usize| ((at * at * 31 + at * 17 + row * 101) % 90) as u8;
    let pixel = |at: usize| noise(at) + if at / 1024 == class { 150 } else { 20 };
    std::iter::once(class as u8).chain((0..3 * 1024).map(pixel)).collect()
}
