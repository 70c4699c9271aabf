//! Layers that share only parts of their blocks, through every command.

use crate::models::{Kind, loss, place, train};
use crate::workplace::Workplace;

/// Halves and small parameters, without scales: exports have the same bits.
const PARTS: [&str; 6] = [
    "--set",
    "tying.unit=attention",
    "--set",
    "tying.own=['norms', 'biases']",
    "--set",
    "tying.exempt=[3]",
];

/// The same with scales, which are multiplied into the weights of what transformers reads.
const SCALES: [&str; 2] = ["--set", "tying.own=['norms', 'scales']"];

/// How far the loss may move where scales are multiplied into weights, as a share of it: products
/// are rounded once more.
const FOLDED: f64 = 1e-5;

fn moved_back(place: &Workplace, format: &str) -> String {
    place.dlt(&["export", "run", "--format", format, "--out", format]).ok();
    let back = format!("back-{format}");
    place.dlt(&["import", format, "--out", &back]).ok();
    loss(place, &back)
}

#[test]
fn law_models_that_share_parts_come_back_bit_for_bit() {
    for kind in Kind::ALL {
        let place = place();
        train(&place, kind, "run", &[&PARTS[..], &["--set", "training.steps=7"]].concat());
        let expected = loss(&place, "run");

        for format in ["hf", "tied"] {
            assert_eq!(moved_back(&place, format), expected, "{kind:?} {format}");
        }
        let shown = place.dlt(&["inspect", "back-tied"]).ok().out;
        assert!(shown.contains("(each layer's own)"), "{shown}");
    }
}

#[test]
fn law_scales_leave_in_the_weights_and_stay_in_the_tied_form() {
    for kind in Kind::ALL {
        let place = place();
        train(&place, kind, "run", &[&SCALES[..], &["--set", "training.steps=7"]].concat());
        let number = |loss: String| loss.parse::<f64>().unwrap();
        let expected = loss(&place, "run");

        assert_eq!(moved_back(&place, "tied"), expected, "{kind:?}");
        let said = place.dlt(&["export", "run", "--format", "hf", "--out", "said"]).ok();
        assert!(said.err.contains("scales of layers (tying.own)"), "{}", said.err);
        assert!(place.read("said/spec.toml").contains("\nown = [\"norms\"]"), "{kind:?}");

        let folded = number(moved_back(&place, "hf"));
        let apart = (folded - number(expected)).abs();
        assert!(apart <= FOLDED * folded, "{kind:?}: {apart} apart");
    }
}

#[test]
fn a_task_is_learned_with_the_parts_held() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &PARTS);
    let task = ["--task", "glue/sst2", "--data", "SST", "--steps", "2", "--threads", "1"];
    place.dlt(&[&["finetune", "run", "--out", "tuned"], &task[..]].concat()).ok();

    let spec = place.read("tuned/spec.toml");
    assert!(spec.contains("unit = \"attention\""), "{spec}");
    assert!(spec.contains("own = [\"norms\", \"biases\"]"), "{spec}");
}

#[test]
fn rejects_to_start_without_the_scales_of_a_model() {
    let place = place();
    train(&place, Kind::Gpt2, "run", &SCALES);
    let from = ["train", "--from", "run", "--data", "text.txt", "--steps", "2", "--threads", "1"];
    let said = place.dlt(&[&from[..], &["--out", "plain"]].concat());
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.err.contains("`tying.own` is [], but the model has scales"), "{}", said.err);

    // With scales it starts with those of the model; without any, they begin at 1.
    place.dlt(&[&from[..], &["--out", "scaled"], &SCALES].concat()).ok();
    train(&place, Kind::Gpt2, "unscaled", &[]);
    let from = ["train", "--from", "unscaled", "--data", "text.txt", "--steps", "2"];
    place.dlt(&[&from[..], &["--threads", "1", "--out", "new"], &SCALES].concat()).ok();
}
