use crate::{TOKENIZER, write};
use dlt_data::{
    Example, Framing, HubConfig, SentenceIds, Split, Tokenizer,
    catalogue::{CATALOGUE, LearningTask},
    load_sentences, read_sentences, truncated_lengths,
};
use dlt_hub_stand_in::{StandIn, catalogue};
use dlt_spec::spec::DataSpec;
use proptest::prelude::*;
use tempfile::TempDir;
use tokenizers::{
    Encoding,
    utils::truncation::{
        TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings,
    },
};

fn named(source: &str) -> DataSpec {
    DataSpec { source: source.to_owned(), ..DataSpec::default() }
}

fn example(first: &str, second: Option<&str>, label: Option<u32>) -> Example {
    Example { first: first.to_owned(), second: second.map(str::to_owned), label }
}

/// A tokenizer of words with BERT's special tokens.
fn bert() -> Tokenizer {
    let folder = TempDir::new().unwrap();
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e", "x", "y", "z"];
    let vocabulary: Vec<String> =
        words.iter().zip(0..).map(|(word, id)| format!("{word:?}: {id}")).collect();

    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [], "pre_tokenizer": {{"type": "WhitespaceSplit"}},
        "model": {{"type": "WordLevel", "vocab": {{{}}}, "unk_token": "[UNK]"}}}}"#,
        vocabulary.join(", ")
    );

    Tokenizer::from_file(&write(&folder, "tokenizer.json", json)).unwrap()
}

#[test]
fn pairs_are_framed_padded_and_masked_as_bert_users_expect() {
    let tokenizer = bert();
    let framing = Framing::bert(&tokenizer).unwrap();
    let examples = [example("a b", Some("x"), Some(1)), example("c", None, None)];
    let ids = SentenceIds::new(&examples, &tokenizer, &framing, 16).unwrap();
    let batch = ids.batch(&[0, 1]).unwrap();

    assert_eq!((batch.rows, batch.width), (2, 6));
    assert_eq!(batch.ids, [2, 4, 5, 3, 9, 3, 2, 6, 3, 0, 0, 0]);
    assert_eq!(batch.types, [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(batch.mask, [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
    assert_eq!((batch.lengths, batch.labels), (vec![6, 3], vec![Some(1), None]));
    assert_eq!(ids.batch(&[1]).unwrap().width, 3);
    assert_eq!(ids.full_batch(&[1]).unwrap().width, 16);
    assert!(ids.batch(&[2]).is_err());
}

#[test]
fn gpt2_ends_sentences_and_the_reference_joins_them_without_a_mask() {
    let examples = [example("to be", Some(" or not"), Some(0)), example("to", None, Some(1))];
    let end = 50_256;
    let ids = |text: &str| TOKENIZER.encode(text).unwrap();
    let framing = Framing::gpt2(&TOKENIZER).unwrap();
    let batch =
        SentenceIds::new(&examples, &TOKENIZER, &framing, 32).unwrap().batch(&[0, 1]).unwrap();

    let expected =
        [ids("to be"), vec![end], ids(" or not"), vec![end], ids("to"), vec![end; 5]].concat();
    assert_eq!(batch.ids, expected);
    assert_eq!(batch.mask, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);

    let framing = Framing::reference(&TOKENIZER).unwrap();
    let batch =
        SentenceIds::new(&examples, &TOKENIZER, &framing, 32).unwrap().batch(&[0, 1]).unwrap();
    assert_eq!(batch.ids, [ids("to be"), ids(" or not"), ids("to"), vec![end; 3]].concat());
    assert_eq!((batch.mask, batch.lengths), (vec![1; 8], vec![4, 1]));
    assert!(Framing::bert(&TOKENIZER).unwrap_err().to_string().contains("[CLS]"));
}

proptest! {
    #[test]
    fn matches_reference_truncation_of_the_fast_tokenizers(
        first in 0_usize..20,
        second in 0_usize..20,
        room in 0_usize..30,
    ) {
        let encoding = |length: usize| {
            let mut encoding = Encoding::default();
            for _ in 0..length {
                let one = Encoding::new(
                    vec![7], vec![0], vec!["x".to_owned()], vec![None], vec![(0, 0)], vec![0],
                    vec![1], vec![], Default::default(),
                );
                encoding.merge_with(one, false);
            }

            encoding
        };

        let settings = TruncationParams {
            max_length: room, strategy: TruncationStrategy::LongestFirst, stride: 0,
            direction: TruncationDirection::Right,
        };

        let (left, right) =
            truncate_encodings(encoding(first), Some(encoding(second)), &settings).unwrap();
        prop_assert_eq!(truncated_lengths(first, second, room), (left.len(), right.unwrap().len()));
    }
}

#[test]
fn long_pairs_lose_the_end_of_the_longer_sentence() {
    let tokenizer = bert();
    let framing = Framing::bert(&tokenizer).unwrap();
    let examples = [example("a b c d e", Some("x y"), None)];
    let rows = |longest| {
        SentenceIds::new(&examples, &tokenizer, &framing, longest).unwrap().batch(&[0]).unwrap().ids
    };

    assert_eq!(rows(8), [2, 4, 5, 6, 3, 9, 10, 3]);
    assert_eq!(rows(5), [2, 4, 3, 9, 3]);

    let error = SentenceIds::new(&examples, &tokenizer, &framing, 3).unwrap_err().to_string();
    assert!(error.contains("more than the 3 tokens of the frame"), "{error}");
}

#[test]
fn every_task_of_glue_is_fetched_and_learned_from_in_a_few_steps() {
    let hub = StandIn::start();
    let folder = TempDir::new().unwrap();
    catalogue(40).into_iter().for_each(|repository| hub.serve(repository));

    let config =
        HubConfig { endpoint: hub.endpoint(), ..HubConfig::new(folder.path().join("hub")) };
    for entry in CATALOGUE.iter().filter(|entry| entry.task == LearningTask::Classification) {
        let splits = load_sentences(&named(entry.name), Some(&config), None, &mut |_| ()).unwrap();
        assert_eq!(
            Split::ALL.map(|split| splits.split(split).len()),
            [40, 10, 10],
            "{}",
            entry.name
        );
        assert_eq!((splits.classes, splits.train[3].label), (2, Some(1)));

        let is_pair = !["glue/sst2", "glue/cola"].contains(&entry.name);
        assert_eq!(splits.train[0].second.is_some(), is_pair);
        assert!(splits.test.iter().all(|example| example.label.is_none()));
        assert!(splits.train.iter().all(|example| !splits.validation.contains(example)));

        let ids =
            SentenceIds::new(&splits.train, &TOKENIZER, &Framing::gpt2(&TOKENIZER).unwrap(), 64)
                .unwrap();
        let losses = train_on_words(&ids, splits.train.len());
        assert!(losses[9] < 0.7 * losses[0], "{}: {losses:?}", entry.name);
    }

    for name in ["wikitext-2", "cifar10", "shakespeare", "hf:cimec/lambada"] {
        let error =
            load_sentences(&named(name), Some(&config), None, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("not for classification of sentences"), "{error}");
    }
}

/// Logistic regression on which tokens occur: ten steps of its batches, with the loss of each.
fn train_on_words(ids: &SentenceIds, count: usize) -> Vec<f64> {
    let all: Vec<usize> = (0..count).collect();
    let batch = ids.batch(&all).unwrap();
    let mut weights = vec![0.0; TOKENIZER.vocabulary()];
    let mut losses = Vec::new();

    for _ in 0..10 {
        let mut loss = 0.0;
        let mut gradient = vec![0.0; weights.len()];

        for row in 0..batch.rows {
            let range = row * batch.width..(row + 1) * batch.width;
            let seen = range.filter(|&at| batch.mask[at] == 1).map(|at| batch.ids[at] as usize);
            let seen: Vec<usize> = seen.collect();
            let score: f64 = seen.iter().map(|&id| weights[id]).sum();
            let probability = 1.0 / (1.0 + (-score).exp());
            let label = f64::from(batch.labels[row].unwrap());

            loss -= (label * probability.ln() + (1.0 - label) * (1.0 - probability).ln())
                / batch.rows as f64;

            for &id in &seen {
                gradient[id] += (probability - label) / batch.rows as f64;
            }
        }

        losses.push(loss);
        weights.iter_mut().zip(&gradient).for_each(|(weight, slope)| *weight -= 0.5 * slope);
    }

    losses
}

#[test]
fn original_files_of_every_task_are_read() {
    let folder = TempDir::new().unwrap();
    let read = |name: &str, content: &str| read_sentences(&write(&folder, name, content)).unwrap();
    assert_eq!(
        read("sst2.tsv", "sentence\tlabel\nit \"is \t1\n"),
        [example("it \"is ", None, Some(1))]
    );

    assert_eq!(
        read("cola.tsv", "gj04\t0\t*\tWe go.\ngj04\t1\t\tOk"),
        [example("We go.", None, Some(0)), example("Ok", None, Some(1))]
    );

    let rte = read(
        "rte.tsv",
        "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n1\tc\td\tentailment\n",
    );
    assert_eq!(rte, [example("a", Some("b"), Some(1)), example("c", Some("d"), Some(0))]);

    let qnli = read("qnli.tsv", "index\tquestion\tsentence\tlabel\n0\tq\ts\tentailment\n");
    assert_eq!(qnli, [example("q", Some("s"), Some(0))]);

    let mrpc = read(
        "mrpc.tsv",
        "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\ta\tb\r\n",
    );
    assert_eq!(mrpc, [example("a", Some("b"), Some(1))]);
    assert_eq!(read("test.tsv", "index\tsentence\n0\twords\n"), [example("words", None, None)]);

    for (content, says) in [
        ("one\ttwo\n", "first line"),
        ("sentence\tlabel\na\tb\tc\n", "row 2: expected 2 fields"),
        ("sentence\tlabel\na\tgood\n", "row 2: expected a class below 1000000, got \"good\""),
        ("sentence\tlabel\na\t1000000\n", "row 2: expected a class below 1000000, got \"1000000\""),
    ] {
        let error = read_sentences(&write(&folder, "bad.tsv", content)).unwrap_err().to_string();
        assert!(error.contains("bad.tsv") && error.contains(says), "{error}");
    }
}

#[test]
fn a_folder_of_original_files_is_a_data_set() {
    let folder = TempDir::new().unwrap();
    write(&folder, "train_full.tsv", "sentence\tlabel\na\t0\nb\t2\n");

    let source = folder.path().to_string_lossy().into_owned();
    write(&folder, "dev.tsv", "sentence\tlabel\nc\t1\n");

    let splits = load_sentences(&named(&source), None, None, &mut |_| ()).unwrap();
    assert_eq!(
        (splits.train.len(), splits.validation.len(), splits.test.len(), splits.classes),
        (2, 1, 0, 3)
    );

    let error = load_sentences(&named("no/such"), None, None, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("no/such"), "{error}");
}
