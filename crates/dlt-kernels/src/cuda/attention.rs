//! Attention in blocks of query rows: scores exist for one block at a time.

use super::elementwise::dropout_numbers;
use super::{
    Grid, KernelFile, Launch, Machine, Memory, Number, fresh, fresh_f32, plain, run, written,
};
use crate::attention::{Attention, Mask, Sizes};
use candle_core::{DType, Result, Tensor, bail};

/// Scores that exist at a time: 256 MiB of f32.
const BLOCK_SCORES: usize = 1 << 26;
/// Fewest and most rows of a block: fewer make slow matrix products, more compute more of what a
/// causal mask hides.
const BLOCK_ROWS: (usize, usize) = (16, 256);

/// The result (B, T, H D), and for each row of scores the largest one and one over the sum of
/// exponentials, (B, H, T, 2). A block has `rows` rows, or as many as fit.
pub fn attention(
    machine: &dyn Machine,
    qkv: &Tensor,
    attention: &Attention<'_>,
    rows: Option<usize>,
) -> Result<[Tensor; 2]> {
    let heads = Heads::new(machine, qkv, attention, rows)?;
    let out = fresh(machine, heads.sizes.dims(), &heads.query)?;
    let sums = fresh_f32(machine, heads.sizes.sum_dims(), qkv)?;

    for block in heads.blocks() {
        let scores = heads.scores(block)?;
        let launch = heads.launch("attention_probabilities", block)?;
        let memory = [Memory::Write(&scores), Memory::Read(&heads.lengths), Memory::Write(&sums)];
        run(machine, &launch, &memory)?;

        // (B, H, rows, seen) x (B, H, seen, D)
        let rows = scores.matmul(&heads.value.narrow(2, 0, block.seen)?)?;
        heads.join(machine, "join_heads", &rows, &out, block.start, 0)?;
    }

    Ok([out, sums])
}

/// Gradient of `qkv`, from the sums that [`attention`] returned.
pub fn attention_gradient(
    machine: &dyn Machine,
    qkv: &Tensor,
    sums: &Tensor,
    attention: &Attention<'_>,
    gradient: &Tensor,
    rows: Option<usize>,
) -> Result<Tensor> {
    let heads = Heads::new(machine, qkv, attention, rows)?;
    let [sums, gradient] = plain([sums, gradient])?;
    // Without key heads, all columns are those of queries: (B, H, T, D).
    let gradient = split(machine, &gradient, Sizes { key_heads: 0, ..heads.sizes })?.get(0)?;
    let out = fresh(machine, qkv.shape(), &heads.query)?;
    let mut of_key = None;
    let mut of_value = None;

    // The last block comes first: it sees all keys, so its result has room for what the others add.
    for block in heads.blocks().rev() {
        let Block { start, rows, seen } = block;
        let key = heads.key.narrow(2, 0, seen)?;
        let value = heads.value.narrow(2, 0, seen)?;
        let gradient = gradient.narrow(2, start, rows)?;
        let scores = heads.scores(block)?;
        let of_scores = gradient.matmul(&value.t()?)?;

        let launch = heads.launch("attention_gradients", block)?;
        let written = [Memory::Write(&scores), Memory::Write(&of_scores)];
        let read = [Memory::Read(&heads.lengths), Memory::Read(&sums)];
        run(machine, &launch, &[written, read].concat())?;

        // Now `scores` holds probabilities after dropout, and `of_scores` the gradient of `q kᵀ`.
        heads.join(machine, "join_heads", &of_scores.matmul(&key)?, &out, start, 0)?;
        add_heads(machine, &mut of_key, &of_scores.t()?.matmul(&heads.query_rows(block)?)?)?;
        add_heads(machine, &mut of_value, &scores.t()?.matmul(&gradient)?)?;
    }

    // The columns of a row: H heads of queries, then G of keys, then G of values.
    for (part, sum) in [of_key, of_value].into_iter().enumerate() {
        let Some(sum) = sum else {
            bail!("attention_gradient: expected at least one token, got none")
        };
        heads.join(
            machine,
            "join_sums",
            &sum,
            &out,
            0,
            heads.sizes.heads + part * heads.sizes.key_heads,
        )?;
    }

    Ok(out)
}

/// Rows `start..start + rows` of every head, which see the keys `0..seen`.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    rows: usize,
    seen: usize,
}

/// All heads of all windows: queries, keys and values, (B, H, T, D) each. A key head is repeated
/// for each query head that uses it.
struct Heads<'a> {
    sizes: Sizes,
    attention: &'a Attention<'a>,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    /// The number of real tokens in each window, (B).
    lengths: Tensor,
    block_rows: usize,
}

impl<'a> Heads<'a> {
    fn new(
        machine: &dyn Machine,
        qkv: &Tensor,
        attention: &'a Attention<'a>,
        rows: Option<usize>,
    ) -> Result<Self> {
        let &Attention { heads, key_heads, lengths, .. } = attention;
        let sizes = Sizes::new("attention", qkv, heads, key_heads)?;
        let Sizes { batch, tokens, .. } = sizes;
        let [qkv] = plain([qkv])?;
        let parts = split(machine, &qkv, sizes)?;
        let lengths =
            (0..batch).map(|window| lengths.map_or(tokens, |lengths| lengths[window]) as u32);

        // Rows of scores over all keys, in all heads of all windows.
        let fit = BLOCK_SCORES / (batch * heads * tokens);

        Ok(Heads {
            sizes,
            attention,
            query: parts.get(0)?,
            key: parts.get(1)?,
            value: parts.get(2)?,
            lengths: Tensor::from_vec(lengths.collect(), batch, qkv.device())?,
            block_rows: rows.unwrap_or_else(|| fit.clamp(BLOCK_ROWS.0, BLOCK_ROWS.1)),
        })
    }

    fn blocks(&self) -> impl DoubleEndedIterator<Item = Block> + use<> {
        let tokens = self.sizes.tokens;
        let block_rows = self.block_rows;
        let mask = self.attention.mask;

        (0..tokens).step_by(block_rows).map(move |start| {
            let rows = block_rows.min(tokens - start);
            Block { start, rows, seen: if mask == Mask::Causal { start + rows } else { tokens } }
        })
    }

    fn query_rows(&self, Block { start, rows, .. }: Block) -> Result<Tensor> {
        self.query.narrow(2, start, rows)
    }

    /// `q kᵀ` of a block, (B, H, rows, seen).
    fn scores(&self, block: Block) -> Result<Tensor> {
        self.query_rows(block)?.matmul(&self.key.narrow(2, 0, block.seen)?.t()?)
    }

    fn launch(&self, kernel: &str, Block { start, rows, seen }: Block) -> Result<Launch> {
        let Sizes { batch, tokens, heads, head_width, .. } = self.sizes;
        let causal = usize::from(self.attention.mask == Mask::Causal);
        let dtype = self.query.dtype();
        let grid = Grid::Rows { rows: batch * heads * rows, width: seen };
        let launch = Launch::new(KernelFile::Attention, kernel, dtype, grid)?;
        let launch = launch.with_sizes([heads, tokens, start, rows, seen, causal])?;
        let scale = Number::F32(1.0 / (head_width as f32).sqrt());
        Ok(launch.with([scale]).with(dropout_numbers(self.attention.dropout)))
    }

    /// Writes heads (B, H, rows, D) into rows `start..` of `out` (B, T, W), as adjacent columns
    /// from head `first` on. Queries are written as they are, keys and values as the sum over the
    /// query heads that share one.
    fn join(
        &self,
        machine: &dyn Machine,
        kernel: &str,
        rows_of_heads: &Tensor,
        out: &Tensor,
        start: usize,
        first: usize,
    ) -> Result<()> {
        let Sizes { batch, tokens, heads, head_width, .. } = self.sizes;
        let rows = rows_of_heads.dim(2)?;
        let width = out.dim(2)?;
        let group = if first < heads { 1 } else { self.sizes.group() };
        let grid = Grid::GroupsOfRows { rows: batch * rows, width: heads / group * head_width };
        let launch = Launch::new(KernelFile::Attention, kernel, out.dtype(), grid)?;
        let first = first * head_width;
        let launch =
            launch.with_sizes([rows, start, tokens, heads, group, head_width, first, width])?;

        run(machine, &launch, &[Memory::Read(rows_of_heads), Memory::Write(out)])
    }
}

/// The heads in the columns of `x` (B, T, W) as separate rows, (1 or 3, B, H, T, D): queries, and
/// where `sizes` has key heads also keys and values. A key head is repeated for each query head
/// that uses it.
fn split(machine: &dyn Machine, x: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let Sizes { batch, tokens, heads, key_heads, head_width } = sizes;
    let parts = if key_heads == 0 { 1 } else { 3 };
    let out = fresh(machine, (parts, batch, heads, tokens, head_width), x)?;
    let width = x.dim(2)?;

    let grid = Grid::GroupsOfRows { rows: batch * tokens, width };
    let launch = Launch::new(KernelFile::Attention, "split_heads", x.dtype(), grid)?;
    let launch = launch.with_sizes([batch, tokens, heads, key_heads, head_width, width])?;
    written(machine, &launch, &[x], out)
}

/// Adds rows of heads (B, H, seen, D) to the first rows of `into` (B, H, T, D), in f32. Where
/// `into` is `None`, it becomes these rows.
fn add_heads(machine: &dyn Machine, into: &mut Option<Tensor>, rows: &Tensor) -> Result<()> {
    let Some(into) = into else {
        *into = Some(rows.to_dtype(DType::F32)?);
        return Ok(());
    };

    let (_, _, tokens, head_width) = into.dims4()?;
    let count = rows.elem_count();
    let grid = Grid::Elements(count);
    let launch = Launch::new(KernelFile::Attention, "add_heads", rows.dtype(), grid)?;
    let launch =
        launch.with_count(count).with_sizes([rows.dim(2)? * head_width, tokens * head_width])?;

    run(machine, &launch, &[Memory::Write(into), Memory::Read(rows)])
}
