//! A vocabulary that is larger than that of the model whose weights a run starts from.

use std::collections::BTreeMap;

use candle_core::Tensor;
use dlt_models::architecture::{Architecture, of_spec};
use dlt_spec::size::Extents;
use dlt_spec::spec::{Size, StartVocabulary};
use dlt_spec::{CheckedSpec, Spec};

use crate::failure::Result;

/// What is added to weights: rows to the tables of tokens, and to what is counted by tokens.
pub(crate) struct Growth {
    /// Rows of each parameter that grows, by its name.
    rows: BTreeMap<String, usize>,
}

impl Growth {
    /// The model that the weights are of, and how they grow to one of this spec.
    pub(crate) fn of(
        spec: &CheckedSpec,
        data: Extents,
        start: Extents,
    ) -> Result<(Box<dyn Architecture>, Self)> {
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

    /// A parameter with the rows that it lacks: each is the mean of those that there are, so that
    /// the new tokens begin as likely as the usual one.
    pub(crate) fn grow(&self, name: &str, tensor: Tensor) -> dlt_models::Result<Tensor> {
        let Some(&rows) = self.rows.get(name) else { return Ok(tensor) };
        let missing = rows.saturating_sub(tensor.dim(0)?);
        if missing == 0 {
            return Ok(tensor);
        }

        let mut shape = tensor.dims().to_vec();
        shape[0] = missing;

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
        // What is not counted by tokens stays as it is, and so does everything where nothing grows.
        let norm = Tensor::new(&[1_f32, 2.0, 3.0], &Device::Cpu).unwrap();
        assert_eq!(growth.grow("transformer.ln_f.weight", norm).unwrap().dims(), [3]);

        let (_, none) = Growth::of(&spec, Extents::of_text(5), Extents::of_text(5)).unwrap();
        assert_eq!(none.grow(name, table).unwrap().dims(), [3, 2]);
    }
}
