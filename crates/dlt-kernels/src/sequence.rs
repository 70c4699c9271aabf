//! Numbers for tests.

use half::bf16;

/// Endless numbers in -1..1 from a fixed sequence.
pub(crate) fn uniform(seed: u32) -> impl Iterator<Item = f32> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    })
}

/// `count` of them, rounded to bf16.
pub(crate) fn narrow(count: usize, seed: u32) -> Vec<bf16> {
    uniform(seed).take(count).map(bf16::from_f32).collect()
}
