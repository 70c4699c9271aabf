//! Normal numbers from random words.

use crate::lanes::vectorised;

/// Fills `out` with normal numbers of mean zero and standard deviation `std`, by Box and Muller's
/// transform of uniform 32-bit words. Word `i` of the first half gives a radius, and word `i` of
/// the second half an angle. The two together give number `i` of both halves. The same words give
/// the same bits on every machine.
///
/// # Panics
/// When there are not as many words as numbers, or an odd number of them.
pub fn normals(words: &[u32], std: f32, out: &mut [f32]) {
    assert!(
        words.len() == out.len() && words.len().is_multiple_of(2),
        "as many words as numbers, in pairs"
    );

    let half = words.len() / 2;
    let (radii, angles) = words.split_at(half);
    let (cosines, sines) = out.split_at_mut(half);

    vectorised!(|| {
        for (((cosine, sine), &radius), &angle) in
            cosines.iter_mut().zip(sines.iter_mut()).zip(radii).zip(angles)
        {
            let radius = std * (-2.0 * log_of_unit(radius)).sqrt();
            let (sin, cos) = turn(angle);
            *cosine = radius * cos;
            *sine = radius * sin;
        }
    });
}

/// `ln((word + 1/2) / 2³²)`, never above zero.
#[inline(always)]
fn log_of_unit(word: u32) -> f32 {
    /// Bits of the square root of one half. Mantissas are moved between it and twice it.
    const ROOT_HALF: u32 = 0x3f35_04f3;
    const LN_2: f32 = std::f32::consts::LN_2;

    // word + 1/2 = 2^exponent · (1 + t), with 1 + t from the root of 1/2 to the root of 2.
    let bits = (word as f32 + 0.5).to_bits();
    let exponent = bits.wrapping_sub(ROOT_HALF) & 0xff80_0000;
    let t = f32::from_bits(bits.wrapping_sub(exponent)) - 1.0;

    // ln(1 + t) / t, minimax on the range of t, relative error 3e-8.
    let mut p = 8.722_355e-2f32;
    p = p.mul_add(t, -1.436_684_3e-1);
    p = p.mul_add(t, 1.495_226_7e-1);
    p = p.mul_add(t, -1.656_239_3e-1);
    p = p.mul_add(t, 1.995_683_4e-1);
    p = p.mul_add(t, -2.500_207_4e-1);
    p = p.mul_add(t, 3.333_418_6e-1);
    p = p.mul_add(t, -4.999_998_8e-1);
    p = p.mul_add(t, 1.0);

    let exponent = ((exponent as i32) >> 23) - 32;
    // Rounding must not make it positive: the caller takes the root of its negative.
    let log = (exponent as f32).mul_add(LN_2, p * t);
    if log > 0.0 { 0.0 } else { log }
}

/// Sine and cosine of `word / 2³²` of a whole turn.
#[inline(always)]
fn turn(word: u32) -> (f32, f32) {
    const SHARE: f32 = std::f32::consts::TAU / 4_294_967_296.0;
    // The nearest whole quarter of a turn, and the rest: at most an eighth of a turn to either
    // side.
    let quarter = word.wrapping_add(1 << 29) >> 30;
    let x = SHARE * word.wrapping_sub(quarter << 30) as i32 as f32;
    let square = x * x;

    // Minimax on the range of x, errors 3e-9 and 5e-11.
    let mut s = -1.950_402_2e-4f32;
    s = s.mul_add(square, 8.332_037e-3);
    s = s.mul_add(square, -1.666_665_1e-1);
    s = s.mul_add(square, 1.0);

    let s = s * x;
    let mut c = 2.437_993e-5f32;
    c = c.mul_add(square, -1.388_661_9e-3);
    c = c.mul_add(square, 4.166_661_7e-2);
    c = c.mul_add(square, -0.5);
    c = c.mul_add(square, 1.0);

    let (sin, cos) = if quarter & 1 == 0 { (s, c) } else { (c, s) };
    // Quarters 2 and 3 have a negative sine, 1 and 2 a negative cosine.
    let negate = |x: f32, yes: u32| f32::from_bits(x.to_bits() ^ (yes & 2) << 30);

    (negate(sin, quarter), negate(cos, quarter.wrapping_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two units in the last place of the largest value.
    const TOLERANCE: f64 = 2.4e-7;

    #[test]
    fn matches_reference_sine_and_cosine() {
        for i in 0..100_003u32 {
            let word = i.wrapping_mul(42_949);
            let angle = f64::from(word) / 2f64.powi(32) * std::f64::consts::TAU;
            let (sin, cos) = turn(word);

            assert!((f64::from(sin) - angle.sin()).abs() < TOLERANCE, "sin of {word}: {sin}");
            assert!((f64::from(cos) - angle.cos()).abs() < TOLERANCE, "cos of {word}: {cos}");
        }
    }

    #[test]
    fn matches_reference_logarithm() {
        for word in [0, 1, 2, 3, 1000, 1 << 20, (1 << 31) - 1, 1 << 31, u32::MAX - 300, u32::MAX] {
            let expected = ((f64::from(word) + 0.5) / 2f64.powi(32)).ln();
            let got = f64::from(log_of_unit(word));

            // Near one, the word itself has more bits than f32.
            assert!((got - expected).abs() < TOLERANCE * expected.abs().max(1.0), "{word}: {got}");
        }
    }

    #[test]
    fn law_a_number_depends_on_its_two_words_only() {
        let words: Vec<u32> = (0..200u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
        let draw = |words: &[u32]| {
            let mut out = vec![0.0; words.len()];
            normals(words, 2.0, &mut out);
            out
        };

        let all = draw(&words);
        for i in [0, 1, 63, 99] {
            assert_eq!(draw(&[words[i], words[100 + i]]), [all[i], all[100 + i]]);
        }

        assert!(all.iter().all(|x| x.is_finite()));
    }
}
