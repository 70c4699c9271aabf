//! Weights for a larger vocabulary than that of the model that a run starts from.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use dlt_models::architecture::{Architecture, of_spec};
use dlt_spec::size::Extents;
use dlt_spec::spec::{Size, StartVocabulary};
use dlt_spec::{CheckedSpec, Spec};

use crate::Result;

/// The rows that are added to weights: to token tables, and to other parameters with a row for each
/// token.
pub(crate) struct Growth {
    /// Number of rows after growth, for each parameter that grows, by its name.
    rows: BTreeMap<String, usize>,
}

impl Growth {
    /// The layout of the model that the weights belong to, and how they grow to fit this spec.
    pub(crate) fn of(
        spec: &CheckedSpec,
        data: Extents,
        start: Extents,
    ) -> Result<(Arc<dyn Architecture>, Self)> {
        let grown = of_spec(spec, data);
        let is_larger = spec.model.vocabulary.or(data.vocabulary) > start.vocabulary;
        if spec.model.start_vocabulary == StartVocabulary::Same || !is_larger {
            return Ok((grown, Self { rows: BTreeMap::new() }));
        }

        let mut own = Spec::clone(spec);
        own.model.vocabulary = Size::Fixed(start.vocabulary);

        let own = of_spec(&own.check()?, Extents { vocabulary: start.vocabulary, ..data });
        let prefix = grown.shared_prefix();
        let new = grown.shared_layout();
        let old = own.shared_layout();
        let pairs = new.entries().iter().zip(old.entries());

        let rows = pairs
            .filter(|(new, old)| new.shape != old.shape)
            .map(|(new, _)| (format!("{prefix}{}", new.name), new.shape[0]))
            .collect();

        Ok((own, Self { rows }))
    }

    /// A parameter with the rows that it lacks. A new row is the mean of the existing rows, so that
    /// a new token begins as likely as an average one.
    pub(crate) fn grow(&self, name: &str, tensor: Tensor) -> dlt_models::Result<Tensor> {
        let Some(&rows) = self.rows.get(name) else { return Ok(tensor) };
        let missing = rows.saturating_sub(tensor.dim(0)?);
        if missing == 0 {
            return Ok(tensor);
        }

        let mut shape = tensor.dims().to_vec();
        shape[0] = missing;

        // (1, ...) -> (missing, ...), then below the existing rows.
        let added = tensor.mean_keepdim(0)?.broadcast_as(shape)?.contiguous()?;
        Ok(Tensor::cat(&[tensor, added], 0)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_new_row_is_the_mean_of_the_others() {
        let mut spec = Spec::default();
        spec.model.vocabulary = Size::Fixed(5);
        spec.model.start_vocabulary = StartVocabulary::Grow;

        let spec = spec.check().unwrap();
        let (own, growth) = Growth::of(&spec, Extents::of_text(5), Extents::of_text(3)).unwrap();
        let name = "transformer.wte.weight";
        let shapes: Vec<_> =
            own.shared_layout().entries().iter().map(|entry| entry.shape[0]).collect();

        assert!(shapes.contains(&3) && !shapes.contains(&5), "{shapes:?}");
        let table = Tensor::new(&[[1_f32, 2.0], [3.0, 4.0], [5.0, 9.0]], &Device::Cpu).unwrap();
        let grown = growth.grow(name, table.clone()).unwrap().to_vec2::<f32>().unwrap();

        assert_eq!(grown, [[1.0, 2.0], [3.0, 4.0], [5.0, 9.0], [3.0, 5.0], [3.0, 5.0]]);
        // Parameters without a row for each token do not grow, and without growth nothing does.
        let norm = Tensor::new(&[1_f32, 2.0, 3.0], &Device::Cpu).unwrap();
        assert_eq!(growth.grow("transformer.ln_f.weight", norm).unwrap().dims(), [3]);

        let (_, none) = Growth::of(&spec, Extents::of_text(5), Extents::of_text(5)).unwrap();
        assert_eq!(none.grow(name, table).unwrap().dims(), [3, 2]);
    }
}
