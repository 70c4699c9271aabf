//! Figures: how much is drawn, that they are documents and pictures, and the messages if nothing can
//! be shown.

use std::collections::BTreeMap;
use std::fs;

use dlt_report::correlation::Correlations;
use dlt_report::figure::{
    self, CorrelationPanel, Figure, PAGE_COLOURS, Tradeoff, correlations, events, loss, memory,
    replication_map, state_strip, steps_independent, tradeoff, walk,
};
use dlt_report::picture::SCALE;
use dlt_report::{ReportError, Run};
use dlt_state::State;
use resvg::usvg::{Options, Tree};

use crate::folder::Folder;

/// Thirty steps of four layers with three decisions, the first of which ties nothing new.
fn run() -> Folder {
    let mut folder = Folder::new(4);
    for step in 1..=30 {
        match step {
            10 => folder.decision(step, vec![0, 0, 0, 0], -40_000.0),
            15 => folder.decision(step, vec![0, 1, 0, 1], -900.0),
            20 => folder.decision(step, vec![0, 0, 0, 3], -800.0),
            _ => {}
        }

        folder.step(step, if step == 7 { f64::NAN } else { 5.0 - 0.1 * step as f64 });
        if step % 10 == 0 {
            folder.validation(step, 4.0);
        }
    }

    folder
}

fn every(run: &Run) -> Vec<Figure> {
    let correlated = Correlations::new(vec![0, 3], vec![1.0, 0.94, 0.94, 1.0]).unwrap();
    let panel = CorrelationPanel { name: "tied", correlations: &correlated, range: None };

    vec![
        replication_map(run.state(), "a <map> & more").unwrap(),
        events(run).unwrap(),
        steps_independent(run).unwrap(),
        correlations("correlations", &[panel.clone(), panel]).unwrap(),
        loss(&[run]).unwrap(),
        loss(&[run, run, run]).unwrap(),
        state_strip(run).unwrap(),
        figure::agent(run).unwrap(),
        memory(&[run]).unwrap(),
        memory(&[run, run]).unwrap(),
        walk(run).unwrap(),
        tradeoff(&points(POINTS).unwrap()).unwrap(),
    ]
}

const POINTS: &str = r#"{"schema":1,"title":"a <b>","x":"blocks","y":"perplexity, test","series":[
{"name":"growth","is_line":false,"points":[{"label":"grow","x":0.25,"y":95.0,"least":94.0,"most":97.0},
{"label":"again","x":0.25,"y":95.0,"least":95.0,"most":95.0}]},
{"name":"by layers","is_line":true,"points":[{"label":"1","x":0.1,"y":130.0,"least":130.0,"most":130.0},
{"label":"12","x":1.0,"y":111.0,"least":111.0,"most":111.0}]}]}"#;

/// Writes a file of points and reads it.
fn points(text: &str) -> dlt_report::Result<Tradeoff> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points.json");
    fs::write(&path, text).unwrap();
    Tradeoff::read(&path)
}

fn count(figure: &Figure, part: &str) -> usize {
    figure.svg().matches(part).count()
}

/// Bars or cells of a colour.
fn rectangles(figure: &Figure, colour: &str) -> usize {
    let is_one =
        |line: &&str| line.starts_with("<rect") && line.contains(&format!("fill=\"{colour}\""));
    figure.svg().lines().filter(is_one).count()
}

fn refusal(result: dlt_report::Result<Figure>) -> String {
    match result.unwrap_err() {
        error @ ReportError::NothingToShow { .. } => error.to_string(),
        other => panic!("expected words that nothing is to be shown, got {other:?}"),
    }
}

#[test]
fn law_every_figure_is_a_document_with_a_title_and_a_picture_of_its_size() {
    let run = run().read();

    for figure in every(&run) {
        let tree = Tree::from_str(figure.svg(), &Options::default()).unwrap();
        for part in ["<title>", "<desc>", "role=\"img\""] {
            assert_eq!(count(&figure, part), 1, "{part} in {}", figure.title());
        }

        assert!(figure.svg().starts_with("<?xml") && figure.svg().ends_with("</svg>\n"));
        assert!(
            !figure.svg().contains("NaN") && !figure.svg().contains("inf\""),
            "{}",
            figure.svg()
        );

        let png = figure.png().unwrap();
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        let size = tree.size().to_int_size();

        assert_eq!([number(16), number(20)], [SCALE * size.width(), SCALE * size.height()]);
        assert!(!figure.alt().is_empty() && !figure.title().is_empty());
    }
}

#[test]
fn law_the_same_run_gives_the_same_bytes() {
    let run = run().read();
    for (a, b) in every(&run).iter().zip(every(&run)) {
        assert_eq!(a, &b);
        assert_eq!(a.png().unwrap(), b.png().unwrap());
    }
}

#[test]
fn law_on_a_page_no_colour_that_may_be_replaced_is_left_and_no_size() {
    let run = run().read();

    for figure in every(&run) {
        let element = figure.for_page();
        let start = element.split_once('>').unwrap().0;
        assert!(
            start.starts_with("<svg ")
                && start.contains(" viewBox=\"0 0 ")
                && !start.contains(" width=")
        );

        for (colour, variable) in PAGE_COLOURS {
            assert!(!element.contains(&format!("\"{colour}\"")), "{colour} in {}", figure.title());
            let uses = |text: &str, what: &str| text.matches(what).count();
            let written = uses(&element, &format!("\"var({variable})\""));

            assert_eq!(written, uses(figure.svg(), &format!("\"{colour}\"")), "{variable}");
        }

        Tree::from_str(&element, &Options::default()).unwrap();
    }
}

#[test]
fn law_a_map_has_a_mark_a_layer_an_arc_a_tie_and_a_loop_an_owner() {
    let mut owners = vec![0; 48];
    (owners[5], owners[47], owners[20]) = (5, 5, 20);

    for owners in [vec![0], vec![0, 1, 0, 1, 4], (0..12).collect(), owners] {
        let state = State::new(owners).unwrap();
        let figure = replication_map(&state, "map").unwrap();
        assert_eq!(count(&figure, "<circle"), state.n_layers());
        assert_eq!(count(&figure, "class=\"arc\""), state.n_layers() - state.n_independent());
        assert_eq!(count(&figure, "class=\"loop\""), state.n_independent());
        Tree::from_str(figure.svg(), &Options::default()).unwrap();
    }
}

#[test]
fn groups_are_told_apart_after_the_colours_are_used_up() {
    // Eight groups of two: the seventh has the colour of the first, and dashes.
    let state = State::new((0..16).map(|layer| layer % 8).collect()).unwrap();
    let figure = replication_map(&state, "map").unwrap();
    assert_eq!(count(&figure, "stroke-dasharray"), 2 * 2, "arc and loop of two groups");
}

#[test]
fn events_are_counted_by_bins_of_whole_decisions() {
    let figure = events(&run().read()).unwrap();
    // 10: nothing; 15: layer 1 untied, layer 3 tied; 20: layer 1 tied, layer 3 untied. Bins of five
    // steps.
    assert_eq!(rectangles(&figure, PAGE_COLOURS[4].0), 2 + 1, "two bars and the legend's");
    assert!(
        figure.svg().contains("tied to another owner (2)") && figure.svg().contains("untied (2)")
    );
    assert!(figure.svg().contains("events per 5 steps"));
}

#[test]
fn independence_has_a_bar_a_layer() {
    for n_layers in [1, 4, 48] {
        let mut folder = Folder::new(n_layers);
        folder.step(1, 1.0);

        let figure = steps_independent(&folder.read()).unwrap();
        assert_eq!(rectangles(&figure, PAGE_COLOURS[4].0), n_layers + 1, "and the legend's");
    }
}

#[test]
fn a_strip_has_a_field_for_each_stretch_of_an_owner() {
    let figure = state_strip(&run().read()).unwrap();
    let of =
        |figure: &Figure| figure.svg().lines().filter(|line| line.starts_with("<rect x=")).count();

    // Layers 0 and 2 never change, layers 1 and 3 twice each; four fields of the scale, one of the
    // legend.
    assert_eq!(of(&figure), 1 + 3 + 1 + 3 + 4 + 1);
    let mut folder = Folder::new(48);

    for step in 1..2000 {
        let action = (0..48).map(|layer| if step % 2 == 0 { layer } else { 0 }).collect();
        folder.decision(step, action, 0.0);
    }

    let figure = state_strip(&folder.read()).unwrap();
    assert!(of(&figure) < 48 * 601, "no more columns than can be seen");
    Tree::from_str(figure.svg(), &Options::default()).unwrap();
}

/// Memory for a picture grows with its fields, some kilobytes for each, so their number is bounded.
#[test]
fn figures_of_many_layers_are_thinned_or_refused() {
    let mut folder = Folder::new(1100);
    for step in 1..=300 {
        folder.step(step, 1.0);
        folder.decision(step, (0..1100).map(|layer| (layer * step) % (layer + 1)).collect(), 0.0);
    }

    let run = folder.read();
    let strip = state_strip(&run).unwrap();
    let bars = steps_independent(&run).unwrap();

    for figure in [&strip, &bars, &events(&run).unwrap(), &figure::agent(&run).unwrap()] {
        assert!(figure.svg().len() < 8_000_000, "{}: {} bytes", figure.title(), figure.svg().len());
    }

    assert!(
        strip.alt().contains("one in 5 is drawn") && bars.alt().contains("one in 2 of 1100 layers")
    );
    assert!(count(&strip, "<rect x=") > 10_000, "it still shows something");

    let error = replication_map(run.state(), "many").unwrap_err().to_string();
    assert!(error.contains("expected at most 512 layers, got 1100"), "{error}");
}

#[test]
fn rejects_documents_that_are_too_large_to_be_pictures() {
    let of = |body: &str, size: &str| {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{size}\" height=\"{size}\">{body}</svg>"
        );
        dlt_report::picture::png(&svg)
    };

    assert!(of("", "10").is_ok());
    assert!(of("", "5000").unwrap_err().contains("pixels, got 10000 x 10000"));
    assert!(of("", "99999999999").is_err());
    assert!(of(&" ".repeat(17 << 20), "10").unwrap_err().contains("bytes, got"));
}

#[test]
fn losses_have_a_mark_a_validation_and_a_tick_a_decision() {
    let run = run().read();
    let figure = loss(&[&run]).unwrap();

    // Each mark is a circle on a rim, and the legend has one.
    assert_eq!(count(&figure, "<circle"), 2 * (3 + 1));
    assert!(figure.svg().contains(">\ndecision\n") && figure.svg().contains("nats per token"));

    let names = loss(&[&run, &run]).unwrap();

    assert_eq!(
        names.svg().matches(">\na &lt;b&gt; &amp; c\n").count(),
        2,
        "a word of the legend a run"
    );
}

#[test]
fn long_runs_and_values_far_off_stay_small_and_inside() {
    let mut folder = Folder::new(2);
    for step in 1..=20_000 {
        let loss = if step % 5000 == 0 { 1e30 } else { 3.0 + (step % 7) as f64 };
        folder.step(step, if step > 19_000 { f64::INFINITY } else { loss });

        if step % 4 == 0 {
            folder.decision(step, vec![0, step / 4 % 2], if step < 100 { -1e9 } else { -20.0 });
        }
    }

    let run = folder.read();

    for figure in [loss(&[&run]).unwrap(), figure::agent(&run).unwrap(), memory(&[&run]).unwrap()] {
        assert!(figure.svg().len() < 400_000, "{}: {} bytes", figure.title(), figure.svg().len());
        let tree = Tree::from_str(figure.svg(), &Options::default()).unwrap();
        let drawn = tree.root().bounding_box();
        let size = tree.size();

        assert!(drawn.right() <= size.width() + 1.0 && drawn.top() >= -1.0, "{}", figure.title());
    }
}

#[test]
fn rejects_runs_without_anything_to_show_in_words() {
    let empty = Folder::new(3).read();
    for (figure, says) in [
        (loss(&[&empty]), "no finite loss"),
        (loss(&[]), "no finite loss"),
        (memory(&[&empty]), "no training step"),
        (memory(&[]), "no training step"),
        (steps_independent(&empty), "no training step"),
        (events(&empty), "none of its 0 decisions"),
        (state_strip(&empty), "no decision"),
        (figure::agent(&empty), "agent.policy"),
        (correlations("none", &[]), "none: expected at least two layers"),
    ] {
        let message = refusal(figure);
        assert!(message.contains(says), "{message}");
    }

    let mut nan = Folder::new(1);
    nan.step(1, f64::NAN);
    nan.validation(1, f64::INFINITY);
    nan.decision(1, vec![0], f64::NAN);

    let nan = nan.read();
    refusal(loss(&[&nan]));
    refusal(events(&nan));

    for figure in [figure::agent(&nan), state_strip(&nan), steps_independent(&nan), memory(&[&nan])]
    {
        Tree::from_str(figure.unwrap().svg(), &Options::default()).unwrap();
    }

    let single = Correlations::new(vec![2], vec![1.0]).unwrap();
    let panel = CorrelationPanel { name: "alone", correlations: &single, range: None };
    assert!(refusal(correlations("one", &[panel])).contains("alone: expected at least two layers"));
}

#[test]
fn shades_span_a_round_range_that_is_stated() {
    let stated = |least: f64, range: Option<std::ops::Range<f64>>| {
        let correlated = Correlations::new(vec![0, 1], vec![1.0, least, least, 1.0]).unwrap();
        let panel = CorrelationPanel { name: "p", correlations: &correlated, range };
        let svg = correlations("t", &[panel]).unwrap().svg().to_owned();
        let start = svg.find(">\ncolours from ").unwrap() + 2;

        svg[start..].lines().next().unwrap().to_owned()
    };

    assert_eq!(stated(0.934, None), "colours from 0.93 to 1");
    assert_eq!(stated(0.65, None), "colours from 0.6 to 1");
    assert_eq!(stated(0.002, None), "colours from 0 to 1");
    assert_eq!(stated(-0.01, None), "colours from 0 to 1");
    assert_eq!(stated(-0.31, None), "colours from −1 to 1");
    assert_eq!(stated(1.0, None), "colours from 0.9999 to 1");
    assert_eq!(stated(0.5, Some(0.25..0.75)), "colours from 0.25 to 0.75");
}

#[test]
fn heat_maps_have_a_cell_a_pair() {
    let n = 48;
    let values = (0..n * n).map(|at| if at % (n + 1) == 0 { 1.0 } else { 0.5 }).collect();
    let correlated = Correlations::new((0..n).collect(), values).unwrap();
    let panel =
        CorrelationPanel { name: "conventional", correlations: &correlated, range: Some(0.0..1.0) };
    let figure = correlations("48 layers", &[panel]).unwrap();

    let fields = figure.svg().lines().filter(|line| line.starts_with("<rect x=")).count();
    assert_eq!(fields, n * n + 64, "and 64 shades of the bar");
}

/// A model file with two matrices of two numbers each for layers 0 and 2. Layer 1 uses those of
/// layer 0.
fn model(folder: &Folder, weights: [[f32; 4]; 2], version: &str) -> std::path::PathBuf {
    model_of(folder, weights, &[("dlt-model", version), ("storage", "0,0,2")])
}

/// The same with these notes about the layout.
fn model_of(folder: &Folder, weights: [[f32; 4]; 2], notes: &[(&str, &str)]) -> std::path::PathBuf {
    let mut tensors = Vec::new();
    for (layer, weights) in [0, 2].into_iter().zip(weights) {
        for (name, half) in [("c_fc", &weights[..2]), ("c_proj", &weights[2..])] {
            let bytes: Vec<u8> = half.iter().flat_map(|number| number.to_le_bytes()).collect();
            tensors.push((format!("transformer.h.{layer}.mlp.{name}.weight"), bytes));
        }
    }
    let views: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, bytes)| {
            let view =
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], bytes)
                    .unwrap();
            (name.clone(), view)
        })
        .collect();
    let notes = notes.iter().chain(&[("frozen", ""), ("independent", "0,2")]);
    let notes = notes.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, safetensors::serialize(views, Some(notes)).unwrap()).unwrap();
    path
}

#[test]
fn matches_reference_correlations_reckoned_by_hand() {
    let folder = Folder::new(3);
    // Means 2.5 and 3; products of deviations sum to 5, squares to 5 and 10: 5 / sqrt(50).
    let path = model(&folder, [[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 5.0, 4.0]], "1");
    let expected = 5.0 / 50f64.sqrt();
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
    let found = Correlations::of_model(&path, None).unwrap();

    assert_eq!(found.layers(), [0, 2]);
    near(found.at(0, 1), expected);
    assert_eq!([found.at(0, 0), found.at(1, 1), found.at(1, 0)], [1.0, 1.0, found.at(0, 1)]);

    let all = Correlations::of_model(&path, Some(&[0, 1, 2])).unwrap();
    near(all.at(0, 1), 1.0);
    near(all.at(1, 2), expected);

    // The same numbers, far from 0: no digit of f32 may be lost.
    let far = 4_194_304.0;
    let path = model(
        &folder,
        [[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 5.0, 4.0].map(|number| number + far)],
        "1",
    );
    near(Correlations::of_model(&path, None).unwrap().at(0, 1), expected);

    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Correlations>(&text).unwrap(), found);
}

/// A layer that keeps its feed-forward weights has them under its own number, whatever it shares.
#[test]
fn weights_that_layers_keep_are_those_of_the_layer() {
    let folder = Folder::new(3);
    let weights = [[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 5.0, 4.0]];
    let plain = Correlations::of_model(&model(&folder, weights, "1"), None).unwrap();
    let kept = ("kept", "mlp.c_fc.weight,mlp.c_proj.weight");
    let path = model_of(&folder, weights, &[("dlt-model", "1"), ("storage", "0,0,0"), kept]);
    assert_eq!(Correlations::of_model(&path, None).unwrap(), plain);
}

#[test]
fn rejects_files_without_correlations() {
    let folder = Folder::new(3);
    let says = |weights, version, layers: Option<&[usize]>, expected: &str| {
        let error = Correlations::of_model(&model(&folder, weights, version), layers)
            .unwrap_err()
            .to_string();
        assert!(error.contains("model.safetensors: ") && error.contains(expected), "{error}");
    };

    let good = [[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 5.0, 4.0]];
    says(good, "4", None, "expected model layout version 1, 2 or 3, got 4");
    says(good, "2", None, "the metadata lacks its checksum");
    says(good, "1", Some(&[0, 3]), "expected layers below 3, got 3");

    says(
        [good[0], [2.0; 4]],
        "1",
        None,
        "layer 2: expected feed-forward weights that are finite and differ",
    );

    says(
        [good[0], [2.0, f32::NAN, 1.0, 0.0]],
        "1",
        None,
        "c_fc.weight`: expected finite numbers, got 1 of 2",
    );

    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 4, 40, whole.len() - 4] {
        fs::write(&path, &whole[..length]).unwrap();
        Correlations::of_model(&path, None).unwrap_err();
    }

    for text in [r#"{"layers":[0],"values":[]}"#, r#"{"layers":[0],"values":[1.5]}"#] {
        assert!(serde_json::from_str::<Correlations>(text).is_err(), "{text}");
    }
}

#[test]
fn a_walk_says_what_was_split_and_by_which_disagreement() {
    let mut folder = Folder::gated(4);
    folder.split(10, vec![0, 0, 2, 2], 0.5);
    folder.step(11, 4.0);
    folder.split(20, vec![0, 1, 2, 2], 0.25);
    folder.refused(25, vec![0, 1, 0, 2]);
    folder.decision(28, vec![0, 1, 1, 2], 0.0);
    folder.step(30, 3.0);

    let figure = walk(&folder.read()).unwrap();
    for word in
        ["2 leaves 0", "1 leaves 0", "disagreement", "a group is split", "undone by the gate"]
    {
        assert!(figure.svg().contains(word), "no {word} in\n{}", figure.svg());
    }

    for said in [
        " Step 10: 2 leaves 0 (disagreement 0.5000).",
        " Step 20: 1 leaves 0 (disagreement 0.2500).",
        " Step 25: undone by the gate.",
        " Step 28: 2 joins 1.",
    ] {
        assert!(figure.alt().contains(said), "no {said} in {}", figure.alt());
    }

    // Two splits at the strips and in the panel below, and one in the legend, each on a rim.
    assert_eq!(count(&figure, "<circle"), 2 * (2 + 2 + 1));
}

#[test]
fn a_walk_that_nobody_measured_is_its_strips_alone() {
    let mut folder = Folder::gated(4);
    folder.decision(10, vec![0, 0, 2, 2], 0.0);
    folder.step(30, 3.0);

    let figure = walk(&folder.read()).unwrap();
    assert!(
        !figure.svg().contains("disagreement") && figure.alt().contains("Step 10: 2 leaves 0.")
    );

    let mut idle = Folder::gated(4);
    idle.decision(10, vec![0, 0, 0, 0], 0.0);
    assert!(refusal(walk(&idle.read())).contains("no decision has changed the groups"));
}

#[test]
fn names_of_points_do_not_overlap() {
    let figure = tradeoff(&points(POINTS).unwrap()).unwrap();
    for word in ["grow", "again", "12", "by layers", "blocks", "perplexity, test"] {
        assert_eq!(count(&figure, &format!(">\n{word}\n<")), 1, "{word} in\n{}", figure.svg());
    }

    let crowd = r#"{"label":"grow","x":0.25,"y":95.0,"least":94.0,"most":97.0},"#;
    let crowded = points(&POINTS.replace(crowd, &crowd.repeat(9))).unwrap();
    let names = count(&tradeoff(&crowded).unwrap(), ">\ngrow\n<");

    assert!((1..9).contains(&names), "{names} of nine names at one place");
}

#[test]
fn rejects_points_that_cannot_be_drawn() {
    for (text, said) in [
        (POINTS.replace("\"schema\":1", "\"schema\":2"), "expected layout 1, got 2"),
        (POINTS.replace("\"x\":0.1", "\"x\":0.0"), "\"1\": expected finite numbers, x above 0"),
        (POINTS.replace("\"y\":130.0", "\"y\":1e999"), "points.json: "),
        (
            r#"{"schema":1,"title":"","x":"","y":"","series":[]}"#.to_owned(),
            "expected 1 to 500 points, got 0",
        ),
        ("[]".to_owned(), "points.json: "),
    ] {
        let error = points(&text).unwrap_err();
        assert!(matches!(error, ReportError::Format { .. }), "{error:?}");
        assert!(error.to_string().contains(said), "{error}");
    }
}
