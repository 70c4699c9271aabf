//! Softmax cross-entropy together with the output projection before it.

mod head;
mod tiled;

use crate::choice::Backend;
use crate::matrix::{Into, product_workspace};
use crate::rounding::{rounded, widened};
use crate::shape::{checked_ids, expect_same, expect_vector, matrix};
use crate::{Kernels, composed, cuda, host};
use candle_core::{DType, Result, Tensor, Var, bail};
use head::{Head, Sums};

/// Rows of logits that exist at a time in candle's own operations.
const CHUNK_ROWS: usize = 256;

/// An output projection, with logits `hidden · tableᵀ + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// A row for each entry of the vocabulary, (V, C).
    pub table: &'a Tensor,
    /// A number for each entry, (V), as in BERT.
    pub bias: Option<&'a Tensor>,
}

/// Tensors to which [`Kernels::cross_entropy`] adds gradients, in place. Where one is `None`, it
/// makes a tensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadSums<'a> {
    /// The sum for the table, (V, C).
    pub table: Option<&'a Tensor>,
    /// The sum for the bias, (V).
    pub bias: Option<&'a Tensor>,
}

/// What [`Kernels::cross_entropy`] returns.
#[derive(Clone, Debug)]
pub struct HeadGradients {
    /// Sum of `-log p(target)` over the rows in nats, not scaled.
    pub loss_sum: f64,
    /// Gradient of `scale · loss_sum` with respect to the hidden rows, (N, C).
    pub hidden: Tensor,
    /// Gradient of `scale · loss_sum` with respect to the table, (V, C), or the given sum with that
    /// gradient added to it.
    pub table: Tensor,
    /// The same for the bias, (V), where the projection has one.
    pub bias: Option<Tensor>,
}

impl Kernels {
    /// Loss and gradients of `scale · Σ -log softmax(hidden · tableᵀ + bias)[target]`. It works in
    /// chunks of rows, so that the N x V logits never exist at once. Gradients of table and bias are
    /// added to `sums`.
    ///
    /// # Shapes
    /// `hidden` (N, C), `projection` (V, C) and (V), `targets` u32 (N), `sums` as the projection.
    ///
    /// # Errors
    /// When a tensor is empty, a shape does not fit, a target is not below V, a sum shares memory
    /// with another tensor, or there is a sum for a bias but no bias.
    pub fn cross_entropy(
        self,
        hidden: &Tensor,
        projection: Projection<'_>,
        targets: &Tensor,
        scale: f64,
        sums: HeadSums<'_>,
    ) -> Result<HeadGradients> {
        let checked = check("cross_entropy", hidden, projection, targets)?;
        check_sums("cross_entropy", hidden, projection, sums)?;

        let Projection { table, bias } = projection;
        // The table takes the place of an absent tensor, which changes no decision.
        let given = [bias, sums.table, sums.bias].map(|tensor| tensor.unwrap_or(table));
        match self.backend(&[hidden], &[table, given[0], given[1], given[2]]) {
            Backend::Host => {}
            Backend::Cuda => {
                let machine = &cuda::Launcher;
                return cuda::cross_entropy(
                    machine, hidden, projection, targets, scale, sums, None,
                );
            }
            Backend::Composed => {
                return definition(hidden, projection, targets, scale, sums);
            }
            Backend::Widened => {
                let [hidden] = widened([hidden])?;
                let made = self.cross_entropy(&hidden, projection, targets, scale, sums)?;
                return Ok(HeadGradients { hidden: rounded(&made.hidden)?, ..made });
            }
        }

        let sum = |into: Option<&Tensor>, of: &Tensor| {
            into.map_or_else(|| of.zeros_like(), |into| Ok(into.detach()))
        };
        let writes = if sums.table.is_some() { Into::Add } else { Into::Set };
        let of_table = sum(sums.table, table)?;
        let of_bias = bias.map(|bias| sum(sums.bias, bias)).transpose()?;

        let run = |into: Sums<'_>| {
            host::read([table, bias.unwrap_or(table)], |[table, vector]| {
                let bias = bias.map(|_| vector);
                let targets = &checked;
                let scale = scale as f32;

                if hidden.dtype() == DType::BF16 {
                    return host::read_as([hidden], |[rows]| {
                        let head = tiled::Head { hidden: rows, table, bias, targets };
                        let (loss, gradient) = head.gradients(scale, into);
                        Ok((loss, host::tensor(gradient, hidden.shape())?))
                    });
                }

                host::read([hidden], |[rows]| {
                    let (loss, gradient) =
                        Head::new(rows, table, bias, targets, self.by()).gradients(scale, into);
                    Ok((loss, host::tensor(gradient, hidden.shape())?))
                })
            })
        };

        let (loss_sum, of_hidden) = host::write(&of_table, |table| match &of_bias {
            Some(of_bias) => {
                host::write(of_bias, |bias| run(Sums { table, writes, bias: Some(bias) }))
            }
            None => run(Sums { table, writes, bias: None }),
        })?;

        Ok(HeadGradients { loss_sum, hidden: of_hidden, table: of_table, bias: of_bias })
    }

    /// `Σ -log softmax(hidden · tableᵀ + bias)[target]` in nats, for evaluation: without gradients,
    /// in chunks of rows.
    ///
    /// # Shapes
    /// As [`Kernels::cross_entropy`].
    ///
    /// # Errors
    /// As [`Kernels::cross_entropy`].
    pub fn cross_entropy_sum(
        self,
        hidden: &Tensor,
        projection: Projection<'_>,
        targets: &Tensor,
    ) -> Result<f64> {
        let checked = check("cross_entropy_sum", hidden, projection, targets)?;
        let Projection { table, bias } = projection;
        match self.backend(&[hidden], &[table, bias.unwrap_or(table)]) {
            Backend::Host => {}
            Backend::Cuda => {
                return cuda::cross_entropy_sum(&cuda::Launcher, hidden, projection, targets, None);
            }
            Backend::Composed => return sum_definition(hidden, projection, targets),
            Backend::Widened => {
                let [hidden] = widened([hidden])?;
                return self.cross_entropy_sum(&hidden, projection, targets);
            }
        }

        host::read([table, bias.unwrap_or(table)], |[table, vector]| {
            let bias = bias.map(|_| vector);
            let targets = &checked;

            if hidden.dtype() == DType::BF16 {
                return host::read_as([hidden], |[hidden]| {
                    Ok(tiled::Head { hidden, table, bias, targets }.loss_sum())
                });
            }

            host::read([hidden], |[hidden]| {
                Ok(Head::new(hidden, table, bias, targets, self.by()).loss_sum())
            })
        })
    }
}

/// Numbers (f32) that the fused [`Kernels::cross_entropy`] holds while it runs: the logits of a
/// chunk of rows, a copy of those rows, the gradient of all `rows`, and the chunk as the product
/// for the table's gradient packs it. For bf16 rows the exponentials of a group of rows can be more.
#[must_use]
pub fn cross_entropy_workspace(
    format: DType,
    rows: usize,
    width: usize,
    vocabulary: usize,
) -> usize {
    let vocabulary = vocabulary.max(1);
    let chunk = head::chunk_rows(vocabulary).min(rows);
    let kept = if format == DType::BF16 { tiled::workspace(rows, width, vocabulary) } else { 0 };
    let logits =
        chunk * (vocabulary + width) + rows * width + product_workspace(vocabulary, chunk, width);
    logits.max(kept)
}

fn check(
    op: &str,
    hidden: &Tensor,
    projection: Projection<'_>,
    targets: &Tensor,
) -> Result<Vec<u32>> {
    let (rows, width) = matrix(op, "hidden", hidden)?;
    let (vocabulary, table_width) = matrix(op, "table", projection.table)?;
    if table_width != width {
        bail!(
            "{op}: expected table of shape [{vocabulary}, {width}], \
             got [{vocabulary}, {table_width}]"
        )
    }

    if let Some(bias) = projection.bias {
        expect_vector(op, "bias", bias, vocabulary)?;
    }
    if targets.dims() != [rows] {
        bail!("{op}: expected targets of shape [{rows}], got {:?}", targets.dims())
    }

    checked_ids(op, targets, vocabulary)
}

fn check_sums(
    op: &str,
    hidden: &Tensor,
    projection: Projection<'_>,
    sums: HeadSums<'_>,
) -> Result<()> {
    let Projection { table, bias } = projection;
    let read = [hidden, table, bias.unwrap_or(table)];

    if let Some(into) = sums.table {
        expect_same(op, "the table's sum", table, into)?;
        host::expect_apart(op, into, &read)?;
    }

    match (bias, sums.bias) {
        (Some(bias), Some(into)) => {
            expect_same(op, "the bias's sum", bias, into)?;
            host::expect_apart(op, into, &[&read[..], sums.table.as_slice()].concat())
        }
        (None, Some(_)) => bail!("{op}: expected no sum for a missing bias, got one"),
        (_, None) => Ok(()),
    }
}

/// [`Kernels::cross_entropy`] in candle's own operations.
fn definition(
    hidden: &Tensor,
    projection: Projection<'_>,
    targets: &Tensor,
    scale: f64,
    sums: HeadSums<'_>,
) -> Result<HeadGradients> {
    let sum = |into: Option<&Tensor>, of: &Tensor| {
        into.map_or_else(|| of.zeros_like(), |into| Ok(into.clone()))
    };
    let table_sum = sum(sums.table, projection.table)?;
    let bias_sum = projection.bias.map(|bias| sum(sums.bias, bias)).transpose()?;
    let variable = |tensor: &Tensor| Var::from_tensor(&tensor.detach().contiguous()?);

    let mut loss_sum = 0.0;
    let mut of_hidden = Vec::new();

    for start in (0..hidden.dim(0)?).step_by(CHUNK_ROWS) {
        let length = CHUNK_ROWS.min(hidden.dim(0)? - start);
        // Leaves of this chunk alone, so that its graph is dropped with it.
        let hidden = variable(&hidden.narrow(0, start, length)?)?;
        let table = variable(projection.table)?;
        let bias = projection.bias.map(variable).transpose()?;
        let leaves = Projection { table: &table, bias: bias.as_deref() };
        let loss = chunk_loss(&hidden, leaves, &targets.narrow(0, start, length)?)?;

        loss_sum += loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let mut gradients = (loss * scale)?.backward()?;
        let mut take = |leaf: &Tensor| match gradients.remove(leaf) {
            Some(gradient) => Ok(gradient.detach()),
            None => bail!("cross_entropy: expected a gradient of each argument, got none"),
        };

        of_hidden.push(take(&hidden)?);
        composed::add_in_place(&table_sum, &take(&table)?)?;

        if let (Some(bias_sum), Some(bias)) = (&bias_sum, &bias) {
            composed::add_in_place(bias_sum, &take(bias)?)?;
        }
    }

    Ok(HeadGradients {
        loss_sum,
        hidden: Tensor::cat(&of_hidden, 0)?,
        table: table_sum,
        bias: bias_sum,
    })
}

/// [`Kernels::cross_entropy_sum`] in candle's own operations.
fn sum_definition(hidden: &Tensor, projection: Projection<'_>, targets: &Tensor) -> Result<f64> {
    let (rows, _) = hidden.dims2()?;
    let table = projection.table.detach();
    let bias = projection.bias.map(Tensor::detach);
    let mut loss_sum = 0.0;

    for start in (0..rows).step_by(CHUNK_ROWS) {
        let length = CHUNK_ROWS.min(rows - start);
        let hidden = hidden.detach().narrow(0, start, length)?;
        let projection = Projection { table: &table, bias: bias.as_ref() };
        let loss = chunk_loss(&hidden, projection, &targets.narrow(0, start, length)?)?;

        loss_sum += loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }

    Ok(loss_sum)
}

fn chunk_loss(hidden: &Tensor, projection: Projection<'_>, targets: &Tensor) -> Result<Tensor> {
    let mut logits = hidden.contiguous()?.matmul(&projection.table.t()?)?;
    if let Some(bias) = projection.bias {
        logits = logits.broadcast_add(bias)?;
    }

    // Detached: the loss does not depend on the shift, so no gradient goes through it.
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(1)?.log()?;
    let targets = targets.contiguous()?.unsqueeze(1)?;

    (log_sum - shifted.gather(&targets, 1)?)?.sum_all()
}
