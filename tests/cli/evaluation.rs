//! `dlt eval`: the same numbers as in the summary, and the loss on any other text.

use serde_json::Value;

use crate::workplace::Workplace;

fn parse(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn the_splits_give_what_the_summary_says() {
    let place = Workplace::new();
    place.train("run", &["--threads", "2"]);

    let summary = place.json("run/summary.json");
    let validation = parse(&place.dlt(&["eval", "run", "--json", "--threads", "2"]).ok().out);
    assert_eq!(validation["loss"], summary["validation_loss"]);
    assert_eq!(validation["unigram_perplexity"], summary["unigram_perplexity"]);
    assert_eq!(validation["bits_per_byte"], summary["bits_per_byte"]);

    let test =
        parse(&place.dlt(&["eval", "run", "--split", "test", "--json", "--threads", "2"]).ok().out);
    assert_eq!(
        (&test["split"], &test["perplexity"]),
        (&"test".into(), &summary["test_perplexity"])
    );

    let table = place.dlt(&["eval", "run"]).ok().out;
    assert!(table.contains("perplexity") && table.contains("unigram floor"), "{table}");
}

#[test]
fn a_text_gives_its_loss_and_its_predicted_tokens() {
    let place = Workplace::new();
    place.train("run", &[]);
    place.write("said.txt", "To be, or not to be, that is the question");

    let measured = parse(&place.dlt(&["eval", "run", "--text", "said.txt", "--json"]).ok().out);
    let keys: Vec<_> = measured.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["loss", "tokens"]);

    // Twelve tokens, of which the first is not predicted.
    assert_eq!(measured["tokens"], 11);

    // Nearly untrained: about as unsure as the vocabulary of 50,257 is large.
    let loss = measured["loss"].as_f64().unwrap();
    assert!((8.0..=12.0).contains(&loss), "{loss}");

    let alone =
        place.dlt(&["eval", "run/model.safetensors", "--text", "said.txt", "--json"]).ok().out;
    assert_eq!(parse(&alone), measured, "the model file is enough");
}

#[test]
fn a_text_that_has_changed_since_training_is_told() {
    let place = Workplace::new();
    place.train("run", &[]);

    let text = place.read("text.txt");
    place.write("text.txt", format!("{text}\nmore"));

    let said = place.dlt(&["eval", "run"]).ok();
    assert!(said.err.contains("have changed since"), "{}", said.err);
}
