//! Named parameters in a fixed order, and their initial values.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use dlt_spec::seeds;
use rand::Rng;
use rayon::prelude::*;

use crate::error::Context;
use crate::{ModelError, Result};

/// The initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with mean zero and this standard deviation.
    Normal(f64),
    /// All the same value.
    Constant(f32),
}

/// Name, shape and initial values of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name, as in the Hugging Face model of the same architecture.
    pub name: &'static str,
    /// Shape; weights of linear layers are (out, in).
    pub shape: Vec<usize>,
    /// Initial values.
    pub init: Init,
}

/// The parameters of a block, or those outside of blocks, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout(Vec<Entry>);

impl Layout {
    /// A layout of these entries.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    /// The entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Number of elements in all parameters together.
    #[must_use]
    pub fn n_parameters(&self) -> usize {
        self.0.iter().map(|entry| entry.shape.iter().product::<usize>()).sum()
    }

    /// Number of the parameter of this name.
    ///
    /// # Errors
    /// [`ModelError::Weight`] if there is none.
    pub fn number(&self, name: &str) -> Result<usize> {
        self.0.iter().position(|entry| entry.name == name).ok_or_else(|| ModelError::Weight {
            name: name.to_owned(),
            expected: Vec::new(),
            got: "the layout has no such name".to_owned(),
        })
    }

    /// The initial values of every parameter, a pure function of the root seed and of `place`
    /// (`layer 3`, `shared`). They do not depend on what was drawn before or on the number of
    /// threads.
    ///
    /// # Errors
    /// Fails if the device has no memory left.
    pub fn draw(&self, seed: u64, place: &str, device: &Device) -> Result<Vec<Tensor>> {
        (0..self.0.len()).map(|index| self.draw_one(seed, place, index, device)).collect()
    }

    /// The initial values of one parameter, by its number.
    ///
    /// # Errors
    /// Fails if the device has no memory left.
    pub fn draw_one(
        &self,
        seed: u64,
        place: &str,
        index: usize,
        device: &Device,
    ) -> Result<Tensor> {
        let Entry { name, shape, init } = &self.0[index];
        let tensor = match *init {
            Init::Constant(value) => Tensor::full(value, shape.as_slice(), device),
            Init::Normal(std) => {
                let stream = format!("weights/{place}/{name}");
                let values = normals(seed, &stream, shape.iter().product(), std as f32);
                Tensor::from_vec(values, shape.as_slice(), device)
            }
        };

        tensor.context(|| format!("drawing the initial {name} of {place}"))
    }

    /// The tensors of this layout as f32, from a lookup by name with the prefix. Checks their
    /// shapes.
    ///
    /// # Errors
    /// [`ModelError::Weight`] for a tensor that is missing or has another shape.
    pub fn take(
        &self,
        prefix: &str,
        lookup: &dyn Fn(&str) -> Result<Option<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        self.0
            .iter()
            .map(|entry| {
                let name = format!("{prefix}{}", entry.name);
                let refuse = |got| ModelError::Weight {
                    name: name.clone(),
                    expected: entry.shape.clone(),
                    got,
                };

                let tensor = lookup(&name)?.ok_or_else(|| refuse("it is missing".to_owned()))?;
                if tensor.dims() != entry.shape {
                    return Err(refuse(format!("got {:?}", tensor.dims())));
                }

                Ok(tensor.to_dtype(DType::F32)?.contiguous()?)
            })
            .collect()
    }
}

/// Normal numbers that one task draws, from as many words of the stream.
const CHUNK: usize = 1 << 14;

/// `n` normal numbers from the named stream. Every chunk of the sequence can be drawn alone, so the
/// numbers do not depend on the threads.
fn normals(seed: u64, name: &str, n: usize, std: f32) -> Vec<f32> {
    let start = seeds::stream(seed, name);
    let mut values = vec![0f32; n];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let mut rng = start.clone();
        rng.set_word_pos((chunk * CHUNK) as u128);

        // Each number depends on words of both halves of its chunk, so the last chunk is drawn
        // whole.
        let mut words = [0; CHUNK];
        rng.fill(&mut words[..]);

        let mut drawn = [0.0; CHUNK];
        dlt_kernels::normals(&words, std, &mut drawn);
        values.copy_from_slice(&drawn[..values.len()]);
    });

    values
}

/// Trainable parameters with their layout.
#[derive(Clone, Debug)]
pub struct Parameters {
    layout: Arc<Layout>,
    variables: Vec<Var>,
}

impl Parameters {
    /// Variables with the values of these tensors, which are in the order of `layout`.
    ///
    /// # Errors
    /// Fails if the device has no memory left.
    pub fn new(layout: &Arc<Layout>, tensors: &[Tensor]) -> Result<Self> {
        debug_assert_eq!(layout.entries().len(), tensors.len());
        let variables = tensors.iter().map(Var::from_tensor).collect::<candle_core::Result<_>>()?;
        Ok(Self { layout: Arc::clone(layout), variables })
    }

    /// A copy of the values, in new storage.
    ///
    /// # Errors
    /// Fails if the device has no memory left.
    pub fn duplicate(&self) -> Result<Self> {
        Self::new(&self.layout, &self.tensors())
    }

    /// `1 - share` times these values plus `share` times the others, in new storage. These values
    /// stay as they are.
    ///
    /// # Errors
    /// Fails if the device has no memory left.
    pub fn blended(&self, other: &Self, share: f64) -> Result<Self> {
        let pairs = self.variables.iter().zip(&other.variables);
        let tensors = pairs.map(|(own, other)| blended(own, other, share));
        Self::new(&self.layout, &tensors.collect::<Result<Vec<_>>>()?)
    }

    /// Overwrites the values.
    ///
    /// # Errors
    /// Fails if a shape differs.
    pub fn set(&self, tensors: &[Tensor]) -> Result<()> {
        for (variable, tensor) in self.variables.iter().zip(tensors) {
            variable.set(tensor)?;
        }
        Ok(())
    }

    /// The parameters with these names, in the order of the layout. They are the same variables,
    /// not copies.
    #[must_use]
    pub fn of_names(&self, names: &[&str]) -> Self {
        let named = self.layout.entries().iter().zip(&self.variables);
        let (entries, variables): (Vec<_>, Vec<_>) = named
            .filter(|(entry, _)| names.contains(&entry.name))
            .map(|(entry, variable)| (entry.clone(), variable.clone()))
            .unzip();

        Self { layout: Arc::new(Layout::new(entries)), variables }
    }

    /// The variables, in the order of the layout.
    #[must_use]
    pub fn variables(&self) -> &[Var] {
        &self.variables
    }

    /// Names, shapes and order.
    #[must_use]
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The values, in the order of the layout. They are views of the variables, so they change when
    /// the variables are set.
    #[must_use]
    pub fn tensors(&self) -> Vec<Tensor> {
        self.variables.iter().map(Var::as_detached_tensor).collect()
    }
}

/// `1 - share` times one tensor plus `share` times another, in new storage.
///
/// # Errors
/// Fails if shapes differ or the device has no memory left.
pub fn blended(own: &Tensor, other: &Tensor, share: f64) -> Result<Tensor> {
    Ok((own.detach().affine(1.0 - share, 0.0)? + other.detach().affine(share, 0.0)?)?)
}
