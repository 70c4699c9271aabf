//! Products of f32 matrices from three products of bf16. A number is split into the nearest bf16,
//! its *head*, and the nearest bf16 of what is left, its *rest*. Head times head, head times rest and
//! rest times head are summed; rest times rest is below what f32 keeps of a product.

use super::{Packed, product};
use crate::matrix::{Into, View};

/// Places along the depth, and columns, that are packed at a time: together 24 MiB.
const DEPTH: usize = 2048;
const COLUMNS: usize = 2048;

/// `out = scale · a · b`, or `out += scale · a · b`, row after row.
///
/// # Panics
/// When the shapes do not fit, which is a bug in the caller.
pub(crate) fn multiply(out: &mut [f32], into: Into, scale: f32, a: View<'_>, b: View<'_>) {
    let [rows, depth] = a.size();
    let [_, width] = b.size();

    for first in (0..depth).step_by(DEPTH) {
        let places = first..(first + DEPTH).min(depth);
        let left = a.part(0..rows, places.clone()).operand().in_three();
        let into = if first > 0 { Into::Add } else { into };

        for start in (0..width).step_by(COLUMNS) {
            let columns = start..(start + COLUMNS).min(width);
            let right = b.part(places.clone(), columns).t().operand().in_three();

            product(left, &Packed::right(right), (&mut *out, width), |_, columns, sums, out| {
                let out = &mut out[start..][columns];
                let pairs = out.iter_mut().zip(&*sums);
                match into {
                    Into::Set => pairs.for_each(|(out, &sum)| *out = sum * scale),
                    Into::Add => pairs.for_each(|(out, &sum)| *out += sum * scale),
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{By, Panel};
    use crate::sequence::uniform;

    /// Numbers of very different sizes, with all bits of f32.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let sizes = uniform(seed + 1000).map(|x| 2f32.powi((8.0 * x) as i32));
        uniform(seed).zip(sizes).take(count).map(|(x, size)| x * size).collect()
    }

    #[test]
    fn law_three_products_are_within_their_bound_of_the_exact_product() {
        // Whole stretches of depth and columns, and more.
        for [m, k, n] in [[1, 1, 1], [5, 40, 33], [70, 600, 20], [3, DEPTH + 70, COLUMNS + 40]] {
            let a = numbers(m * k, 1);
            let b = numbers(k * n, 2);

            // Each operand as it is, and transposed in memory.
            let turned = |x: &[f32], rows: usize, columns: usize| {
                View::new(x, rows, columns, columns).transposed()
            };
            let (at, bt) = (turned(&a, m, k), turned(&b, k, n));

            for (a_view, b_view) in [
                (View::new(&a, m, k, k), View::new(&b, k, n, n)),
                (View::new(&at, k, m, m).t(), View::new(&bt, n, k, k).t()),
            ] {
                for (into, scale) in [(Into::Set, 1.0), (Into::Add, -0.5)] {
                    let mut out = vec![2.0; m * n];
                    let panel = &mut Panel::new(&mut out, m, n, n);
                    crate::matrix::multiply(panel, into, scale, a_view, b_view, By::Thirds);

                    let (mut wrong, mut whole) = (0.0, 0.0);
                    let before = if into == Into::Add { 2.0 } else { 0.0 };
                    for (at, &got) in out.iter().enumerate() {
                        let (i, j) = (at / n, at % n);
                        let terms =
                            (0..k).map(|t| f64::from(a[i * k + t]) * f64::from(b[t * n + j]));
                        let (sum, size) =
                            terms.fold((0.0, 0.0), |(sum, size), x: f64| (sum + x, size + x.abs()));
                        let expected = before + f64::from(scale) * sum;

                        // The two rests of a number, and their product: 2^-18 of a term each.
                        let bound = 1.2e-5 * f64::from(scale.abs()) * size + 1e-6 * before;
                        let error = f64::from(got) - expected;
                        assert!(error.abs() <= bound, "{m} {k} {n} at {at}: {got} for {expected}");
                        wrong += error * error;
                        whole += expected * expected;
                    }

                    assert!(wrong < (1e-5f64).powi(2) * whole, "{m} {k} {n}: {wrong} of {whole}");
                }
            }
        }
    }

    #[test]
    fn law_three_products_are_far_nearer_than_one() {
        let [m, k, n] = [40, 500, 40];
        let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
        let (a, b) = (View::new(&a, m, k, k), View::new(&b, k, n, n));
        let exact = crate::matrix::product(a, b, By::Threads);

        let distance = |got: &[f32]| {
            let squares = got.iter().zip(&exact).map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let three = distance(&crate::matrix::product(a, b, By::Thirds));
        let mut one = vec![0.0; m * n];
        product(
            a.operand(),
            &Packed::right(b.t().operand()),
            (&mut one, n),
            |_, columns, sums, out| {
                out[columns].copy_from_slice(sums);
            },
        );

        assert!(three < distance(&one) / 200.0, "{three} and {}", distance(&one));
    }
}
