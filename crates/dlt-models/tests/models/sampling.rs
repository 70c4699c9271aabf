//! Choosing tokens.

use std::collections::BTreeSet;

use dlt_models::generation::Sampling;
use dlt_spec::seeds;

const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, -1.0];

fn counts(sampling: &Sampling) -> [usize; 4] {
    let mut rng = seeds::stream(5, "sampling");
    let mut counts = [0; 4];
    for _ in 0..20_000 {
        counts[sampling.choose(&LOGITS, &mut rng) as usize] += 1;
    }
    counts
}

#[test]
fn zero_temperature_takes_the_most_likely_token() {
    let greedy = Sampling::new(0.0, None, 1.0).expect("valid");
    assert_eq!(greedy, Sampling::GREEDY);
    assert_eq!(counts(&greedy), [0, 20_000, 0, 0]);
}

#[test]
fn the_lowest_id_wins_among_equals() {
    let mut rng = seeds::stream(5, "sampling");
    assert_eq!(Sampling::GREEDY.choose(&[-3.0, 1.0, 1.0], &mut rng), 1);

    let top_2 = Sampling::new(1.0, Some(2), 1.0).expect("valid");
    let nucleus = Sampling::new(1.0, None, 0.5).expect("valid");

    for _ in 0..100 {
        assert!(top_2.choose(&[0.5; 4], &mut rng) < 2);
        assert!(nucleus.choose(&[0.5; 4], &mut rng) < 2);
    }
}

/// The tokens that can be drawn, found by sorting everything.
fn reference(logits: &[f32], top_k: usize, top_p: f64) -> BTreeSet<u32> {
    let mut ranked: Vec<(u32, f64)> =
        (0..).zip(logits.iter().map(|&logit| f64::from(logit).exp())).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(top_k);

    let total = ranked.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut kept = 0.0;
    let count = ranked.iter().take_while(|(_, weight)| {
        let more = kept < top_p * total;
        kept += weight;
        more
    });

    count.map(|&(id, _)| id).collect()
}

#[test]
fn matches_reference_candidates_of_many_tokens() {
    let logits: Vec<f32> = (0..300_u16).map(|id| f32::from(id * 77 % 300) / 300.0).collect();
    let mut rng = seeds::stream(5, "sampling");

    for (top_k, top_p) in [
        (None, 0.1),
        (None, 0.7),
        (None, 0.97),
        (Some(150), 1.0),
        (Some(150), 0.6),
        (Some(999), 0.5),
    ] {
        let sampling = Sampling::new(1.0, top_k, top_p).expect("valid");

        // The least likely is drawn about 40 times.
        let drawn: BTreeSet<u32> =
            (0..20_000).map(|_| sampling.choose(&logits, &mut rng)).collect();
        assert_eq!(drawn, reference(&logits, top_k.unwrap_or(300), top_p), "{top_k:?} {top_p}");
    }
}

#[test]
fn a_penalty_falls_once_on_each_token_that_is_there() {
    let penalised = |penalty: f64, present: &[u32]| {
        let sampling = Sampling::GREEDY.penalising_repetition(penalty).expect("valid");
        let mut logits = LOGITS;
        sampling.penalise(&mut logits, present.iter().copied());
        logits
    };

    assert_eq!(penalised(2.0, &[0, 1, 3]), [0.0, 1.0, 1.0, -2.0]);
    assert_eq!(penalised(0.5, &[1]), [0.0, 4.0, 1.0, -1.0]);
    assert_eq!(penalised(1.0, &[0, 1, 2, 3]), LOGITS);
    assert_eq!(penalised(2.0, &[9]), LOGITS);
}

#[test]
fn frequencies_are_the_softmax() {
    let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
    for (count, logit) in counts(&Sampling::new(1.0, None, 1.0).expect("valid")).iter().zip(LOGITS)
    {
        let p = f64::from(logit).exp() / total;

        // Five standard deviations of a binomial share.
        assert!((*count as f64 / 20_000.0 - p).abs() < 5.0 * (p * (1.0 - p) / 20_000.0).sqrt());
    }
}

#[test]
fn top_k_and_top_p_cut_the_tail() {
    let top_2 = counts(&Sampling::new(1.0, Some(2), 1.0).expect("valid"));
    assert!(top_2[0] == 0 && top_2[3] == 0 && top_2[2] > 0);

    // The likeliest token has probability 0.64, the two likeliest 0.88.
    let nucleus = counts(&Sampling::new(1.0, None, 0.6).expect("valid"));
    assert_eq!(nucleus, [0, 20_000, 0, 0]);

    let wider = counts(&Sampling::new(1.0, None, 0.7).expect("valid"));
    assert!(wider[0] == 0 && wider[3] == 0 && wider[2] > 0);
}

#[test]
fn rejects_settings_out_of_range() {
    let refusal =
        |temperature, k, p| Sampling::new(temperature, k, p).expect_err("out of range").to_string();
    assert_eq!(refusal(-1.0, None, 1.0), "temperature: expected a number of at least 0, got -1");
    assert_eq!(
        refusal(f64::NAN, None, 1.0),
        "temperature: expected a number of at least 0, got NaN"
    );
    assert_eq!(refusal(1.0, Some(0), 1.0), "top-k: expected at least 1, got 0");
    assert_eq!(refusal(1.0, None, 0.0), "top-p: expected more than 0 and at most 1, got 0");

    let penalty = |penalty| {
        Sampling::GREEDY.penalising_repetition(penalty).expect_err("out of range").to_string()
    };
    assert_eq!(penalty(0.0), "repetition penalty: expected a number above 0, got 0");
    assert_eq!(penalty(f64::INFINITY), "repetition penalty: expected a number above 0, got inf");
}
