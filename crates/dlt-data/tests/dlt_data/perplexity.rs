use dlt_data::{bits_per_byte, unigram_perplexity};
use proptest::prelude::*;

/// Sums and exponentials of a few hundred terms in f64.
const ROUNDING: f64 = 1e-9;

#[test]
fn known_distributions_have_their_perplexity() {
    let uniform: Vec<u32> = (0..64).collect();
    assert!((unigram_perplexity(&uniform) - 64.0).abs() < ROUNDING);
    assert!((unigram_perplexity(&[5; 10]) - 1.0).abs() < ROUNDING);

    // One half, one quarter, one quarter: 1.5 bits.
    assert!((unigram_perplexity(&[9, 9, 3, 0]) - 2_f64.powf(1.5)).abs() < ROUNDING);
    assert!((unigram_perplexity(&[]) - 1.0).abs() < ROUNDING);
}

proptest! {
    /// Gibbs' inequality: any other distribution gives these tokens a higher perplexity.
    #[test]
    fn law_no_unigram_model_is_better(
        tokens in prop::collection::vec(0_u32..8, 1..200),
        weights in prop::collection::vec(0.01_f64..1.0, 8),
    ) {
        let total: f64 = weights.iter().sum();
        let nll: f64 = tokens.iter().map(|&token| -(weights[token as usize] / total).ln()).sum();
        prop_assert!(unigram_perplexity(&tokens) <= (nll / tokens.len() as f64).exp() + ROUNDING);
    }
}

#[test]
fn bits_per_byte_of_a_uniform_byte_model_is_eight() {
    assert!((bits_per_byte(100.0 * 256_f64.ln(), 100) - 8.0).abs() < ROUNDING);
}
