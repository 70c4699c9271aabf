//! Where each head is in a tensor whose rows hold heads side by side.

use crate::matrix::{Panel, View};
use candle_core::{Result, Tensor, bail};

/// The dimensions of queries, keys and values.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Heads of keys, and as many of values.
    pub(crate) key_heads: usize,
    pub(crate) head_width: usize,
}

impl Sizes {
    pub(crate) fn new(op: &str, qkv: &Tensor, heads: usize, key_heads: usize) -> Result<Self> {
        let (batch, tokens, width) = match *qkv.dims() {
            [batch, tokens, width] => (batch, tokens, width),
            ref other => {
                bail!("{op}: expected qkv of shape [batch, tokens, width], got {other:?}")
            }
        };

        if heads == 0 || key_heads == 0 || !heads.is_multiple_of(key_heads) {
            bail!(
                "{op}: expected the number of query heads to be a multiple of that of key heads, \
                 got {heads} heads and {key_heads} key heads"
            )
        }

        let columns = heads.saturating_add(key_heads.saturating_mul(2));
        if !width.is_multiple_of(columns) {
            bail!(
                "{op}: expected a last dimension that is a multiple of \
                 {heads} heads + 2 x {key_heads} key heads, got {width}"
            )
        }

        if qkv.elem_count() == 0 {
            bail!("{op}: expected a non-empty qkv, got shape {:?}", qkv.dims())
        }

        Ok(Sizes { batch, tokens, heads, key_heads, head_width: width / columns })
    }

    /// Heads in a row of queries, keys and values.
    pub(super) fn columns(self) -> usize {
        self.heads + 2 * self.key_heads
    }

    /// Query heads that share a key head.
    pub(crate) fn group(self) -> usize {
        self.heads / self.key_heads
    }

    /// Shape of the result, (B, T, H D).
    pub(crate) fn dims(self) -> (usize, usize, usize) {
        (self.batch, self.tokens, self.heads * self.head_width)
    }

    /// Shape of the sums, (B, H, T, 2).
    pub(crate) fn sum_dims(self) -> (usize, usize, usize, usize) {
        (self.batch, self.heads, self.tokens, 2)
    }

    /// Rows of scores of all heads, B H T.
    pub(super) fn rows(self) -> usize {
        self.batch * self.heads * self.tokens
    }

    /// The first `rows` tokens of head `column` of a window, (rows, D), where each row of `data`
    /// holds `columns` heads.
    pub(super) fn view(
        self,
        data: &[f32],
        columns: usize,
        [batch, column]: [usize; 2],
        rows: usize,
    ) -> View<'_> {
        let stride = columns * self.head_width;
        let start = batch * self.tokens * stride + column * self.head_width;
        View::new(&data[start..], rows, self.head_width, stride)
    }

    /// Every head of a buffer to write: for each window its `columns` heads, (T, D) each.
    pub(super) fn panels(self, data: &mut [f32], columns: usize) -> Vec<Panel<'_>> {
        let stride = columns * self.head_width;
        data.chunks_exact_mut(self.tokens * stride)
            .flat_map(|batch| Panel::new(batch, self.tokens, stride, stride).split(columns))
            .collect()
    }

    /// Every key head of the gradient of `qkv` to write, with its query heads.
    pub(super) fn groups(self, data: &mut [f32]) -> Vec<Group<'_>> {
        let stride = self.columns() * self.head_width;
        let mut groups = Vec::with_capacity(self.batch * self.key_heads);

        for batch in data.chunks_exact_mut(self.tokens * stride) {
            let mut queries = Panel::new(batch, self.tokens, stride, stride).split(self.columns());
            let values = queries.split_off(self.heads + self.key_heads);
            let keys = queries.split_off(self.heads);
            let mut queries = queries.into_iter();

            for (key, value) in keys.into_iter().zip(values) {
                groups.push(Group {
                    queries: queries.by_ref().take(self.group()).collect(),
                    key,
                    value,
                });
            }
        }

        groups
    }
}

/// A head of keys and of values, and the query heads that use it.
pub(super) struct Group<'a> {
    pub(super) queries: Vec<Panel<'a>>,
    pub(super) key: Panel<'a>,
    pub(super) value: Panel<'a>,
}
