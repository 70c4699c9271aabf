//! Choosing tokens.

use dlt_kernels::Kernels;
use dlt_models::binding::Binding;
use dlt_models::generation::{Continuation, Sampling, generate};
use dlt_spec::seeds;

use crate::fixtures::{PAPER, drawn};

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
    assert_eq!(counts(&greedy), [0, 20_000, 0, 0]);
}

#[test]
fn frequencies_are_the_softmax() {
    let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
    for (count, logit) in counts(&Sampling::new(1.0, None, 1.0).expect("valid")).iter().zip(LOGITS) {
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
    let refusal = |temperature, k, p| Sampling::new(temperature, k, p).expect_err("out of range").to_string();
    assert_eq!(refusal(-1.0, None, 1.0), "temperature: expected a number of at least 0, came -1");
    assert_eq!(refusal(f64::NAN, None, 1.0), "temperature: expected a number of at least 0, came NaN");
    assert_eq!(refusal(1.0, Some(0), 1.0), "top-k: expected at least 1, came 0");
    assert_eq!(refusal(1.0, None, 0.0), "top-p: expected more than 0 and at most 1, came 0");
}

#[test]
fn generation_is_seeded_and_outlives_the_context() {
    let model = drawn(Binding::frozen(4), PAPER, Kernels::Fused);
    let run = |seed| {
        let (mut out, mut rng) = (Vec::new(), seeds::stream(seed, "generation"));
        let sampling = Sampling::new(1.0, None, 1.0).expect("valid");
        let wanted = Continuation { prompt: &[1, 2], tokens: 20, context: 9, stop: None, sampling };
        generate(&model, &wanted, &mut rng, |id| out.push(id)).expect("generates");
        out
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert_eq!(run(1).len(), 20);
}
