//! Resizing by bilinear interpolation, bit for bit as Pillow and therefore the reference's image
//! processor do it. Each channel is resized first across, then down, in whole numbers of 8 bits
//! with weights of 22 binary places.

use std::f64;

/// Binary places of a weight.
const PLACES: u32 = 22;

/// The pixels that form one pixel of the result, and their weights.
struct Taps {
    start: usize,
    weights: Vec<i32>,
}

/// Resizes a square channel from `side` to `to` pixels a row.
pub(super) fn resized(channel: &[u8], side: usize, to: usize) -> Vec<u8> {
    let taps = taps(side, to);
    let mut across = vec![0; side * to];
    for (row, wide) in channel.chunks_exact(side).zip(across.chunks_exact_mut(to)) {
        for (pixel, taps) in wide.iter_mut().zip(&taps) {
            *pixel = sum(taps, |at| row[at]);
        }
    }

    let mut result = Vec::with_capacity(to * to);
    for taps in &taps {
        result.extend((0..to).map(|column| sum(taps, |row| across[row * to + column])));
    }

    result
}

fn sum(taps: &Taps, pixel: impl Fn(usize) -> u8) -> u8 {
    // Starting at one half rounds to nearest when the binary places are cut off.
    let half = 1_i32 << (PLACES - 1);
    let weighted = taps.weights.iter().zip(taps.start..);
    let total = weighted.fold(half, |total, (&weight, at)| total + i32::from(pixel(at)) * weight);
    (total >> PLACES).clamp(0, 255) as u8
}

/// For each pixel of the result, the weights of a triangle over the nearest pixels. If the result
/// is smaller, the triangle covers all pixels that fall into one of its pixels.
fn taps(side: usize, to: usize) -> Vec<Taps> {
    let scale = side as f64 / to as f64;
    let support = scale.max(1.0);

    (0..to)
        .map(|pixel| {
            let center = (pixel as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(side);
            let weight = |at: usize| (1.0 - ((at as f64 - center + 0.5) / support).abs()).max(0.0);
            let weights: Vec<f64> = (start..end).map(weight).collect();
            let total: f64 = weights.iter().sum();

            let fixed = |weight: f64| (weight / total * f64::from(1_u32 << PLACES) + 0.5) as i32;
            Taps { start, weights: weights.into_iter().map(fixed).collect() }
        })
        .collect()
}
