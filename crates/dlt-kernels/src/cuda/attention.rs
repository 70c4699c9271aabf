//! Attention in blocks of query rows: scores exist for one block at a time.

use super::elementwise::dropout_numbers;
use super::{Launch, Machine, Memory, Number, Source, fresh_f32, plain, run};
use crate::attention::{Attention, Mask, Sizes};
use crate::composed::repeated;
use candle_core::{D, DType, Result, Tensor, bail};

/// Scores that exist at a time: 256 MiB of f32.
const BLOCK_SCORES: usize = 1 << 26;
/// Rows of a block: fewer make poor matrix products, more compute more of what a causal mask hides.
const BLOCK_ROWS: (usize, usize) = (16, 256);

/// The result, and of each row of scores the largest one and one over the sum of exponentials. `rows` are in a block,
/// or as many as fit where there is no number.
pub fn attention(
    machine: &dyn Machine,
    qkv: &Tensor,
    attention: &Attention<'_>,
    rows: Option<usize>,
) -> Result<[Tensor; 2]> {
    let heads = Heads::new(qkv, attention, rows)?;
    let sums = fresh_f32(machine, heads.sizes.sum_dims(), qkv)?;
    let mut out = Vec::new();
    for block in heads.blocks() {
        let scores = heads.scores(block)?;
        let launch = heads.launch("attention_probabilities", block)?;
        let memory = [Memory::Write(&scores), Memory::Read(&heads.lengths), Memory::Write(&sums)];
        run(machine, &launch, &memory)?;
        out.push(scores.matmul(&heads.value.narrow(2, 0, block.seen)?)?);
    }
    Ok([side_by_side(&Tensor::cat(&out, 2)?)?, sums])
}

/// Gradient of `qkv`, from the sums that [`attention`] gave.
pub fn attention_gradient(
    machine: &dyn Machine,
    qkv: &Tensor,
    sums: &Tensor,
    attention: &Attention<'_>,
    gradient: &Tensor,
    rows: Option<usize>,
) -> Result<Tensor> {
    let heads = Heads::new(qkv, attention, rows)?;
    let Sizes { tokens, heads: count, head_width, .. } = heads.sizes;
    let [sums, gradient] = plain([sums, gradient])?;
    let gradient = apart(&gradient, [0, count], head_width)?;
    let (mut of_query, mut of_key, mut of_value) = (Vec::new(), None, None);
    for block in heads.blocks() {
        let Block { start, rows, seen } = block;
        let (key, value) = (heads.key.narrow(2, 0, seen)?, heads.value.narrow(2, 0, seen)?);
        let gradient = gradient.narrow(2, start, rows)?.contiguous()?;
        let (scores, of_scores) = (heads.scores(block)?, gradient.matmul(&value.t()?)?);
        let launch = heads.launch("attention_gradients", block)?;
        let written = [Memory::Write(&scores), Memory::Write(&of_scores)];
        let read = [Memory::Read(&heads.lengths), Memory::Read(&sums)];
        run(machine, &launch, &[written, read].concat())?;
        of_query.push(of_scores.matmul(&key)?);
        add_rows(&mut of_key, &of_scores.t()?.matmul(&heads.query_rows(block)?)?, tokens)?;
        add_rows(&mut of_value, &scores.t()?.matmul(&gradient)?, tokens)?;
    }
    let (Some(of_key), Some(of_value)) = (of_key, of_value) else {
        bail!("attention_gradient: expected at least one token, came none")
    };
    let parts = [Tensor::cat(&of_query, 2)?, heads.shared(&of_key)?, heads.shared(&of_value)?];
    let parts = parts.iter().map(side_by_side).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&parts, D::Minus1)
}

/// Rows `start..start + rows` of every head, which see the keys `0..seen`.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    rows: usize,
    seen: usize,
}

/// All heads of all windows: queries, keys and values (B, H, T, D), each key head as often as it is used.
struct Heads<'a> {
    sizes: Sizes,
    attention: &'a Attention<'a>,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    /// Tokens that are real in each window, (B).
    lengths: Tensor,
    block_rows: usize,
}

impl<'a> Heads<'a> {
    fn new(qkv: &Tensor, attention: &'a Attention<'a>, rows: Option<usize>) -> Result<Self> {
        let &Attention { heads, key_heads, lengths, .. } = attention;
        let sizes = Sizes::new("attention", qkv, heads, key_heads)?;
        let Sizes { batch, tokens, head_width, .. } = sizes;
        let [qkv] = plain([qkv])?;
        let part = |range| apart(&qkv, range, head_width);
        let lengths = (0..batch).map(|window| lengths.map_or(tokens, |lengths| lengths[window]) as u32);
        let fit = BLOCK_SCORES / (batch * heads * tokens);
        Ok(Heads {
            sizes,
            attention,
            query: part([0, heads])?,
            key: repeated(&part([heads, key_heads])?, heads)?,
            value: repeated(&part([heads + key_heads, key_heads])?, heads)?,
            lengths: Tensor::from_vec(lengths.collect(), batch, qkv.device())?,
            block_rows: rows.unwrap_or_else(|| fit.clamp(BLOCK_ROWS.0, BLOCK_ROWS.1)),
        })
    }

    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let (tokens, block_rows, mask) = (self.sizes.tokens, self.block_rows, self.attention.mask);
        (0..tokens).step_by(block_rows).map(move |start| {
            let rows = block_rows.min(tokens - start);
            Block { start, rows, seen: if mask == Mask::Causal { start + rows } else { tokens } }
        })
    }

    fn query_rows(&self, Block { start, rows, .. }: Block) -> Result<Tensor> {
        self.query.narrow(2, start, rows)?.contiguous()
    }

    /// `q kᵀ` of a block, (B, H, rows, seen).
    fn scores(&self, block: Block) -> Result<Tensor> {
        self.query_rows(block)?.matmul(&self.key.narrow(2, 0, block.seen)?.t()?)
    }

    fn launch(&self, kernel: &str, Block { start, rows, seen }: Block) -> Result<Launch> {
        let Sizes { batch, tokens, heads, head_width, .. } = self.sizes;
        let causal = usize::from(self.attention.mask == Mask::Causal);
        let dtype = self.query.dtype();
        let launch = Launch::of_rows(Source::Attention, kernel, dtype, batch * heads * rows, seen)?;
        let launch = launch.with_sizes([heads, tokens, start, rows, seen, causal])?;
        let scale = Number::F32(1.0 / (head_width as f32).sqrt());
        Ok(launch.with([scale]).with(dropout_numbers(self.attention.dropout)))
    }

    /// The sum over the query heads that share a key head, (B, G, T, D), in the dtype of the queries.
    fn shared(&self, gradient: &Tensor) -> Result<Tensor> {
        let Sizes { batch, tokens, key_heads, head_width, .. } = self.sizes;
        let group = self.sizes.group();
        let sum = match group {
            1 => gradient.clone(),
            _ => gradient.reshape((batch, key_heads, group, tokens * head_width))?.sum(2)?,
        };
        sum.reshape((batch, key_heads, tokens, head_width))?.to_dtype(self.query.dtype())
    }
}

/// Heads `first..first + count` of rows that hold them side by side: (B, T, ...) becomes (B, count, T, D).
fn apart(x: &Tensor, [first, count]: [usize; 2], head_width: usize) -> Result<Tensor> {
    let (batch, tokens, _) = x.dims3()?;
    x.narrow(2, first * head_width, count * head_width)?
        .reshape((batch, tokens, count, head_width))?
        .transpose(1, 2)?
        .contiguous()
}

/// The other way round: (B, H, T, D) becomes (B, T, H D).
fn side_by_side(x: &Tensor) -> Result<Tensor> {
    let (batch, heads, tokens, head_width) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((batch, tokens, heads * head_width))
}

/// Adds rows of (B, H, seen, D) to the first of (B, H, tokens, D), in f32.
fn add_rows(into: &mut Option<Tensor>, rows: &Tensor, tokens: usize) -> Result<()> {
    let term = rows.to_dtype(DType::F32)?.pad_with_zeros(2, 0, tokens - rows.dim(2)?)?;
    *into = Some(match into.take() {
        Some(sum) => (sum + term)?,
        None => term,
    });
    Ok(())
}
