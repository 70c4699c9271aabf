//! Softmax cross-entropy together with the output projection before it, in chunks of rows.

use super::elementwise::{add_bias, add_or_set};
use super::{Grid, KernelFile, Launch, Machine, Memory, Number, row_sum, run};
use crate::{HeadGradients, HeadSums, Projection};
use candle_core::{DType, Result, Tensor, bail};

/// Logits that exist at a time: 256 MiB of f32. With fewer, a large GPU would wait.
const CHUNK_LOGITS: usize = 1 << 26;
/// The fewest rows of a chunk.
const FEWEST_ROWS: usize = 16;

/// The length of a row of logits is a multiple of this. cuBLAS is much slower with rows that begin
/// at other places, and GPT-2's vocabulary is odd.
const LOGITS_ALIGNMENT: usize = 8;

/// Rows of a chunk, for a vocabulary.
fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_LOGITS / vocabulary).max(FEWEST_ROWS)
}

/// What [`crate::Kernels::cross_entropy`] returns, from arguments that it has checked. A chunk has
/// `rows` rows, or as many as fit.
pub fn cross_entropy(
    machine: &dyn Machine,
    hidden: &Tensor,
    projection: Projection<'_>,
    targets: &Tensor,
    scale: f64,
    sums: HeadSums<'_>,
    rows: Option<usize>,
) -> Result<HeadGradients> {
    let head = Head::new(hidden, projection, targets, rows)?;
    let mut table = sums.table.map(Tensor::detach);
    let mut bias = sums.bias.map(Tensor::detach);
    let mut losses = Vec::new();
    let mut of_hidden = Vec::new();

    for start in head.chunks() {
        let (hidden, targets) = head.chunk(start)?;
        let logits = head.logits(machine, &hidden)?;
        losses.push(head.exponentials(machine, &logits, &targets, Some(scale))?);

        // The kernel has replaced the logits by their gradient, (rows, V).
        of_hidden.push(logits.matmul(&head.table)?);
        let of_table = logits.t()?.matmul(&hidden)?.narrow(0, 0, head.vocabulary)?;
        add_or_set(machine, &mut table, &of_table)?;

        if projection.bias.is_some() {
            let of_bias = row_sum(machine, &logits, head.row)?.narrow(0, 0, head.vocabulary)?;
            add_or_set(machine, &mut bias, &of_bias)?;
        }
    }

    let Some(table) = table else { bail!("cross_entropy: expected at least one row, got none") };
    let hidden = Tensor::cat(&of_hidden, 0)?;
    Ok(HeadGradients { loss_sum: total(&losses)?, hidden, table, bias })
}

/// What [`crate::Kernels::cross_entropy_sum`] returns.
pub fn cross_entropy_sum(
    machine: &dyn Machine,
    hidden: &Tensor,
    projection: Projection<'_>,
    targets: &Tensor,
    rows: Option<usize>,
) -> Result<f64> {
    let head = Head::new(hidden, projection, targets, rows)?;
    let mut losses = Vec::new();

    for start in head.chunks() {
        let (hidden, targets) = head.chunk(start)?;
        let logits = head.logits(machine, &hidden)?;
        losses.push(head.exponentials(machine, &logits, &targets, None)?);
    }

    total(&losses)
}

/// A projection and its rows.
struct Head {
    hidden: Tensor,
    /// In the dtype of the hidden rows, padded with rows of zeros to as many rows as a row of
    /// logits has elements.
    table: Tensor,
    /// Padded to the same length.
    bias: Option<Tensor>,
    targets: Tensor,
    vocabulary: usize,
    /// Elements of a row of logits. Those from `vocabulary` on have no meaning.
    row: usize,
    chunk_rows: usize,
}

impl Head {
    fn new(
        hidden: &Tensor,
        projection: Projection<'_>,
        targets: &Tensor,
        rows: Option<usize>,
    ) -> Result<Self> {
        let [hidden, table, targets] = super::plain([hidden, projection.table, targets])?;
        let vocabulary = table.dim(0)?;
        let row = vocabulary.next_multiple_of(LOGITS_ALIGNMENT);
        let padded = |tensor: &Tensor| tensor.pad_with_zeros(0, 0, row - vocabulary);

        Ok(Head {
            table: padded(&table.to_dtype(hidden.dtype())?)?,
            bias: projection.bias.map(|bias| padded(&bias.detach())).transpose()?,
            row,
            hidden,
            targets,
            vocabulary,
            chunk_rows: rows.unwrap_or_else(|| chunk_rows(vocabulary)),
        })
    }

    fn rows(&self) -> usize {
        self.targets.elem_count()
    }

    fn chunks(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.rows()).step_by(self.chunk_rows)
    }

    /// Hidden rows and targets of the chunk from `start`.
    fn chunk(&self, start: usize) -> Result<(Tensor, Tensor)> {
        let rows = self.chunk_rows.min(self.rows() - start);
        Ok((self.hidden.narrow(0, start, rows)?, self.targets.narrow(0, start, rows)?))
    }

    /// Logits of some rows, (rows, `row`).
    fn logits(&self, machine: &dyn Machine, hidden: &Tensor) -> Result<Tensor> {
        let logits = hidden.matmul(&self.table.t()?)?;
        if let Some(bias) = &self.bias {
            add_bias(machine, &logits, bias)?;
        }
        Ok(logits)
    }

    /// The loss of each row, in f64. With a scale, the logits are replaced by the gradient of the
    /// scaled sum of the losses.
    fn exponentials(
        &self,
        machine: &dyn Machine,
        logits: &Tensor,
        targets: &Tensor,
        scale: Option<f64>,
    ) -> Result<Tensor> {
        let rows = targets.elem_count();
        let losses = machine.fresh(rows.into(), DType::F64, logits.device())?;
        let kernel = if scale.is_some() { "cross_entropy_gradient" } else { "cross_entropy" };
        let grid = Grid::Rows { rows, width: self.vocabulary };
        let launch = Launch::new(KernelFile::Loss, kernel, logits.dtype(), grid)?;
        let launch = launch.with_sizes([self.vocabulary, self.row])?;
        let launch = launch.with(scale.map(|scale| Number::F32(scale as f32)));

        let first = if scale.is_some() { Memory::Write(logits) } else { Memory::Read(logits) };
        run(machine, &launch, &[first, Memory::Read(targets), Memory::Write(&losses)])?;
        Ok(losses)
    }
}

/// The sum of all rows' losses, first to last.
fn total(losses: &[Tensor]) -> Result<f64> {
    Ok(Tensor::cat(losses, 0)?.to_vec1::<f64>()?.iter().sum())
}
