//! What the definitions of operations share.
//!
//! Each operation is defined in candle's own operations, in its own file next to its loops. The
//! definition is the reference of the tests, and what runs on other devices and dtypes.

use candle_core::{Result, Tensor, Var, bail};

/// The sum of rows of `width`.
pub(crate) fn row_sum(x: &Tensor, width: usize) -> Result<Tensor> {
    x.detach().contiguous()?.reshape(((), width))?.sum(0)
}

/// Gradients of `Σ f(inputs) ∘ gradient`, by candle's autograd.
pub(crate) fn gradients<const N: usize>(
    inputs: [&Tensor; N],
    gradient: &Tensor,
    f: impl FnOnce([&Tensor; N]) -> Result<Tensor>,
) -> Result<[Tensor; N]> {
    let mut leaves = Vec::with_capacity(N);
    for input in inputs {
        leaves.push(Var::from_tensor(&input.detach().contiguous()?)?);
    }

    // candle starts a backward pass from a scalar: this one has `gradient` as the gradient of y.
    let y = f(std::array::from_fn(|i| leaves[i].as_tensor()))?;
    let mut store = (y * gradient.detach())?.sum_all()?.backward()?;

    let mut found = Vec::with_capacity(N);
    for leaf in &leaves {
        match store.remove(leaf) {
            Some(gradient) => found.push(gradient.detach()),
            None => found.push(leaf.zeros_like()?),
        }
    }

    Ok(std::array::from_fn(|i| found[i].clone()))
}

/// `into += other`.
pub(crate) fn add_in_place(into: &Tensor, other: &Tensor) -> Result<()> {
    overwrite(into, &(into.detach() + other.detach())?)
}

/// Copies `value` into the memory of `into`.
pub(crate) fn overwrite(into: &Tensor, value: &Tensor) -> Result<()> {
    if !into.is_contiguous() {
        bail!("expected a contiguous tensor to write to, got strides {:?}", into.stride())
    }

    // A flat view of a contiguous tensor shares its memory.
    into.detach().flatten_all()?.slice_set(&value.flatten_all()?.contiguous()?, 0, 0)
}
