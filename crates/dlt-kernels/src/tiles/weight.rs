//! Weights whose packed form outlives one product.

use candle_core::{Result, Tensor};
use std::sync::OnceLock;

use super::{Operand, Packed};
use crate::host;

/// A weight (out, in) of an affine map, and where its packed forms are kept.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    pub(crate) tensor: &'a Tensor,
    packs: Option<&'a Packs>,
}

/// The packed forms of one weight, for products with activations of bf16 on the CPU. The first
/// product in each direction makes one. While this exists, the weight must keep its values.
#[derive(Debug, Default)]
pub struct Packs {
    outputs: OnceLock<Packed>,
    inputs: OnceLock<Packed>,
}

impl<'a> From<&'a Tensor> for Weight<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Weight { tensor, packs: None }
    }
}

impl<'a> Weight<'a> {
    /// A weight whose packed forms are kept in `packs`, which must be of this weight alone.
    #[must_use]
    pub fn kept(tensor: &'a Tensor, packs: Option<&'a Packs>) -> Self {
        Weight { tensor, packs }
    }

    /// Calls `then` with the weight as the right operand of `x · weightᵀ`.
    pub(crate) fn with_outputs<R>(self, then: impl FnOnce(&Packed) -> Result<R>) -> Result<R> {
        let (outputs, inputs) = self.tensor.dims2()?;
        let pack = |data: &[f32]| Packed::right(Operand::of_rows(data, outputs, inputs, inputs));
        self.with(self.packs.map(|packs| &packs.outputs), pack, then)
    }

    /// Calls `then` with the weight as the right operand of `gradient · weight`.
    pub(crate) fn with_inputs<R>(self, then: impl FnOnce(&Packed) -> Result<R>) -> Result<R> {
        let (outputs, inputs) = self.tensor.dims2()?;
        let pack = |data: &[f32]| Packed::right(Operand::of_columns(data, inputs, outputs, inputs));
        self.with(self.packs.map(|packs| &packs.inputs), pack, then)
    }

    fn with<R>(
        self,
        kept: Option<&OnceLock<Packed>>,
        pack: impl FnOnce(&[f32]) -> Packed,
        then: impl FnOnce(&Packed) -> Result<R>,
    ) -> Result<R> {
        if let Some(packed) = kept.and_then(OnceLock::get) {
            return then(packed);
        }

        let packed = host::read([self.tensor], |[data]| Ok(pack(data)))?;
        match kept {
            Some(kept) => then(kept.get_or_init(|| packed)),
            None => then(&packed),
        }
    }
}
