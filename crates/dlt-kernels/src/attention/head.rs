//! One head of one sequence, in blocks of rows: scores exist for one block at a time.

use super::blocks::{BLOCK_ROWS, Block, Scope, Sum};
use crate::lanes::{dot_of, exp, exp_and_sum, largest, vectorised};
use crate::matrix::{By, Into, Panel, View, multiply};

/// The arguments of one head: tokens x width of queries, keys x width of keys and of values.
pub(super) struct Head<'a> {
    pub(super) scope: Scope,
    pub(super) query: View<'a>,
    pub(super) key: View<'a>,
    pub(super) value: View<'a>,
}

/// What the backward pass of one head reads besides the arguments.
pub(super) struct Outer<'a> {
    pub(super) out: View<'a>,
    pub(super) gradient: View<'a>,
    pub(super) sums: &'a [Sum],
}

impl Head<'_> {
    /// Writes the result (T, D) to `out`, and the sum of each row of scores to `sums`.
    pub(super) fn forward(&self, out: &mut Panel<'_>, sums: &mut [Sum]) {
        let scope = self.scope;
        let mut scores = vec![0.0; BLOCK_ROWS.min(scope.tokens) * scope.keys];
        let keys = self.key.transposed();

        for block in scope.blocks() {
            let Block { start, rows, seen } = block;
            let scores = &mut scores[..rows * seen];
            self.scores(block, &keys, scores);

            let sums = &mut sums[start..start + rows];
            vectorised!(|| {
                for (i, row) in scores.chunks_exact_mut(seen).enumerate() {
                    let (visible, hidden) = row.split_at_mut(scope.visible(start + i));
                    let most = largest(visible);
                    let sum = exp_and_sum(visible, most);

                    // The product with the values reads whole rows of the block.
                    hidden.fill(0.0);
                    sums[i] = Sum { most, inverse: 1.0 / sum };
                }
            });

            scope.drop_scores(block, scores, seen);

            let mut out = out.rows(start, rows);
            multiply(
                &mut out,
                Into::Set,
                1.0,
                View::new(scores, rows, seen, seen),
                self.value.rows(0, seen),
                By::Thread,
            );

            // The division by the sum comes after the product: a row of the result has only D
            // elements, a row of scores has `seen`.
            for (i, sum) in sums.iter().enumerate() {
                out.row(i).iter_mut().for_each(|out| *out *= sum.inverse);
            }
        }
    }

    /// Writes the gradient of the query (T, D), and adds those of key and value (keys, D).
    pub(super) fn backward(
        &self,
        outer: &Outer<'_>,
        [of_query, of_key, of_value]: [&mut Panel<'_>; 3],
    ) {
        let scope = self.scope;
        let size = BLOCK_ROWS.min(scope.tokens) * scope.keys;
        let mut probabilities = vec![0.0; size];
        let mut gradients = vec![0.0; size];
        let keys = self.key.transposed();
        let values = self.value.transposed();
        let scale = scope.scale();

        for block in scope.blocks() {
            let Block { start, rows, seen } = block;
            let p = &mut probabilities[..rows * seen];
            let g = &mut gradients[..rows * seen];
            let out = outer.out.rows(start, rows);
            let gradient = outer.gradient.rows(start, rows);

            self.scores(block, &keys, p);

            // dP = dO Vᵀ: (rows, D) x (D, seen).
            let g_panel = &mut Panel::new(g, rows, seen, seen);
            let values = View::new(&values, scope.width, seen, scope.keys);
            multiply(g_panel, Into::Set, 1.0, gradient, values, By::Thread);

            scope.drop_scores(block, g, seen);

            vectorised!(|| {
                for (i, (p, g)) in
                    p.chunks_exact_mut(seen).zip(g.chunks_exact_mut(seen)).enumerate()
                {
                    let visible = scope.visible(start + i);
                    // The softmax's gradient is P ∘ (dP - Σ P ∘ dP). A row's sum of P ∘ dP
                    // equals that of O ∘ dO, also under dropout, and the latter has only D
                    // terms.
                    let along = dot_of(out.row(i), gradient.row(i), |g| g);
                    let Sum { most, inverse } = outer.sums[start + i];

                    for (p, g) in p[..visible].iter_mut().zip(&mut g[..visible]) {
                        *p = exp(*p - most) * inverse;
                        *g = *p * (*g - along);
                    }

                    p[visible..].fill(0.0);
                    g[visible..].fill(0.0);
                }
            });

            // Only now: the loop above needs the probabilities before dropout, the gradient of the
            // values needs them after it.
            scope.drop_scores(block, p, seen);

            let p = View::new(p, rows, seen, seen);
            let g = View::new(g, rows, seen, seen);
            multiply(
                &mut of_query.rows(start, rows),
                Into::Set,
                scale,
                g,
                self.key.rows(0, seen),
                By::Thread,
            );

            multiply(
                &mut of_key.rows(0, seen),
                Into::Add,
                scale,
                g.t(),
                self.query.rows(start, rows),
                By::Thread,
            );
            multiply(&mut of_value.rows(0, seen), Into::Add, 1.0, p.t(), gradient, By::Thread);
        }
    }

    /// Writes `scale · q kᵀ` of a block (rows, seen), from the transposed keys (D, keys). They are
    /// made once for all blocks, so that no product has to pack them.
    fn scores(&self, Block { start, rows, seen }: Block, keys: &[f32], scores: &mut [f32]) {
        let into = &mut Panel::new(scores, rows, seen, seen);
        let keys = View::new(keys, self.scope.width, seen, self.scope.keys);
        multiply(
            into,
            Into::Set,
            self.scope.scale(),
            self.query.rows(start, rows),
            keys,
            By::Thread,
        );
    }
}
