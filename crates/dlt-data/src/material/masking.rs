//! Hides tokens that a model has to predict, as in BERT's training.

use rand::{Rng, SeedableRng, seq::index::sample};
use rand_chacha::ChaCha8Rng;

/// Of ten tokens to be predicted: how many the mask replaces, and how many the mask or a random
/// token replaces.
const OF_TEN: [u32; 2] = [8, 9];

/// How tokens are hidden.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Masking {
    /// The id of the mask.
    pub(super) token: u32,
    /// Number of tokens that may be drawn at random: the tokenizer's vocabulary.
    pub(super) words: usize,
    /// Share of a window's tokens that are to be predicted, from 0 to 1.
    pub(super) share: f64,
}

impl Masking {
    /// Hides tokens of a window, at least one. Of ten, eight become the mask on average, one
    /// becomes a random token and one stays. Returns the original tokens at these positions. The
    /// draws depend only on the seed, the pass and the window's index.
    pub(super) fn hide(
        &self,
        window: &mut [u32],
        seed: u64,
        pass: u64,
        index: usize,
    ) -> Vec<Option<u32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Pass and index in different halves, so that each pair has its own stream.
        rng.set_stream(pass.rotate_left(32) ^ index as u64);

        let count = ((window.len() as f64 * self.share).round() as usize).clamp(1, window.len());
        let mut targets = vec![None; window.len()];
        for place in sample(&mut rng, window.len(), count) {
            targets[place] = Some(window[place]);
            let [masked, random] = OF_TEN;
            match rng.random_range(0..10) {
                kind if kind < masked => window[place] = self.token,
                kind if kind < random => window[place] = rng.random_range(0..self.words as u32),
                _ => {}
            }
        }

        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASKING: Masking = Masking { token: 100, words: 100, share: 0.15 };

    #[test]
    fn law_what_is_hidden_is_drawn_anew_in_each_pass_and_the_same_again() {
        let hide = |pass, index| {
            let mut window: Vec<u32> = (0..40).collect();
            let targets = MASKING.hide(&mut window, 3, pass, index);
            (window, targets)
        };

        assert_eq!(hide(1, 5), hide(1, 5));
        assert_ne!(hide(1, 5), hide(2, 5));
        assert_ne!(hide(1, 5), hide(1, 6));

        let (window, targets) = hide(1, 5);
        assert_eq!(targets.iter().flatten().count(), 6);

        for (place, (token, target)) in window.into_iter().zip(targets).enumerate() {
            match target {
                Some(was) => assert_eq!(was, place as u32),
                None => assert_eq!(token, place as u32),
            }
        }
    }

    #[test]
    fn law_of_ten_hidden_tokens_eight_are_masks_and_one_is_random() {
        let mut masks = 0.0;
        let mut kept = 0.0;
        let mut all = 0.0;

        for index in 0..2_000 {
            let mut window = vec![7; 100];
            let targets = MASKING.hide(&mut window, 1, 0, index);
            for (token, _) in window.into_iter().zip(targets).filter(|(_, target)| target.is_some())
            {
                all += 1.0;
                masks += f64::from(u8::from(token == MASKING.token));
                kept += f64::from(u8::from(token == 7));
            }
        }

        assert_eq!(all, 30_000.0);
        // Five standard errors; a hundredth of the random tokens equals the original one.
        assert!((masks / all - 0.8f64).abs() < 5.0 * (0.16f64 / all).sqrt(), "{masks}");
        assert!((kept / all - 0.101f64).abs() < 5.0 * (0.09f64 / all).sqrt(), "{kept}");
    }

    #[test]
    fn the_shortest_window_hides_its_only_token() {
        assert_eq!(MASKING.hide(&mut [3], 1, 0, 0), [Some(3)]);
    }
}
