//! A model that continues sequences, token by token.

use std::cell::RefCell;

use candle_core::{D, DType, Tensor};
use dlt_kernels::KeyValues;
use dlt_spec::spec::Objective;

use crate::batch::{Dims, Input, Tokens};
use crate::error::Context;
use crate::graph::{Caches, ModelGraphs, Reading, Rows, Run, SideInputs};
use crate::{Model, ModelError, Result};

/// A model, with the keys and values of the tokens that some sequences hold at each layer. New
/// tokens are computed without those before them.
///
/// Keys and values are f32 whatever the format of the model's activations, so that the cache is not
/// rounded again when it is read. The weights of every distinct block are in memory once, also
/// those of frozen layers, which are otherwise drawn at each use. Sequences are independent of each
/// other and may hold different numbers of tokens.
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a Model,
    shared: Vec<Tensor>,
    /// All weights of each layer; those that layers share are in memory once.
    weights: Vec<Vec<Tensor>>,
    /// One cache for each layer.
    caches: Vec<Caches>,
    capacity: usize,
    /// The graphs of the last step with one token for each sequence: most steps have the shape of
    /// the step before.
    step: Option<(Dims, ModelGraphs)>,
}

impl<'a> Decoder<'a> {
    /// `sequences` sequences that hold nothing yet, each with room for `capacity` tokens. Memory
    /// for all of them is allocated at once: `2 L R G D capacity` numbers for R sequences.
    ///
    /// # Errors
    /// [`ModelError::Objective`] for a model that does not predict the next token;
    /// [`ModelError::Batch`] for no sequences, or for a capacity that is not from 1 to the model's
    /// positions; fails if the device has no memory left.
    pub fn new(model: &'a Model, sequences: usize, capacity: usize) -> Result<Self> {
        let architecture = model.architecture();
        let got = match architecture.head_settings().objective {
            Objective::NextToken => None,
            Objective::MaskedToken => Some("masked tokens"),
            Objective::Classes => Some("classes"),
        };

        if let Some(got) = got {
            return Err(ModelError::Objective { expected: "the next token", got });
        }

        let positions = architecture.max_tokens();
        if sequences == 0 || !(1..=positions).contains(&capacity) {
            let expected = format!("sequences of 1 to {positions} tokens");
            return refuse(expected, format!("{sequences} sequences of {capacity} tokens"));
        }

        let heads = architecture.key_heads();
        let width = architecture.head_width();
        let binding = model.binding();
        let layers = 0..binding.n_layers();

        let cache = |_| {
            let values =
                KeyValues::new(sequences, capacity, heads, width, DType::F32, model.device())
                    .context(|| {
                        format!("keys and values of {sequences} sequences of {capacity} tokens")
                    })?;

            Ok(Caches { values: RefCell::new(values), sequences: Vec::new() })
        };

        // Tied weights of a frozen layer are drawn at each call. Nobody shares them.
        let weights = layers.clone().map(|layer| model.weights(layer)).collect::<Result<_>>()?;

        let caches = layers.map(cache).collect::<Result<_>>()?;
        Ok(Self { model, shared: model.shared().tensors(), weights, caches, capacity, step: None })
    }

    /// How many tokens each sequence can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many tokens a sequence holds; 0 if there is no such sequence.
    #[must_use]
    pub fn held(&self, sequence: usize) -> usize {
        self.caches.first().map_or(0, |caches| caches.values.borrow().filled(sequence))
    }

    /// Forgets all but the first `tokens` of a sequence.
    ///
    /// # Errors
    /// Fails if there is no such sequence or it holds fewer tokens.
    pub fn truncate(&mut self, sequence: usize, tokens: usize) -> Result<()> {
        for caches in &mut self.caches {
            caches.values.get_mut().truncate(sequence, tokens)?;
        }
        Ok(())
    }

    /// Adds T tokens to each of these sequences. Returns the logits of what follows the last of
    /// them.
    ///
    /// After an error the sequences hold what they held before.
    ///
    /// # Shapes
    /// `sequences`: N distinct numbers; `tokens`: N x T ids; result N times V numbers.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for no tokens, ids outside the vocabulary, or more tokens than a
    /// sequence has room for; fails for sequences that do not exist or are not distinct.
    pub fn feed(&mut self, sequences: &[usize], tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        let model = self.model;
        let windows = sequences.len();
        let input = Input::Tokens(Tokens::of(tokens));
        let (input, tokens, mut side_inputs) =
            input.prepare(windows, model.architecture(), model.device())?;
        let held: Vec<usize> = sequences.iter().map(|&sequence| self.held(sequence)).collect();

        if let Some((held, sequence)) =
            held.iter().zip(sequences).find(|(held, _)| *held + tokens > self.capacity)
        {
            let expected =
                format!("at most {} more tokens in sequence {sequence}", self.capacity - held);
            return refuse(expected, tokens.to_string());
        }

        // Scores of a vocabulary are large: the head reads only the last token of each window.
        let mut dims = Dims { windows, tokens, reading: Reading::All };
        if tokens > 1 {
            let last: Vec<u32> = (1..=windows).map(|window| (window * tokens - 1) as u32).collect();
            side_inputs.rows = Some(Rows::Picked(Tensor::from_vec(last, windows, model.device())?));
            dims.reading = Reading::Picked(windows);
        }

        side_inputs.first.clone_from(&held);
        for caches in &mut self.caches {
            caches.sequences = sequences.to_vec();
        }

        let logits = self.forward(&input, &side_inputs, dims);
        if logits.is_err() {
            // Some layers may have cached the new tokens already.
            for (&sequence, held) in sequences.iter().zip(held) {
                // A sequence that does not exist holds nothing to forget.
                let _ = self.truncate(sequence, held);
            }
        }

        logits
    }

    /// Logits of the rows that `dims` reads; every layer caches its keys and values.
    fn forward(
        &mut self,
        input: &Tensor,
        side_inputs: &SideInputs,
        dims: Dims,
    ) -> Result<Vec<Vec<f32>>> {
        let model = self.model;
        let graphs = match self.step.take() {
            Some((of, graphs)) if of == dims => graphs,
            _ => model.graphs(&dims)?,
        };

        let run = Run { side_inputs, ..Run::plain(model.kernels(), &self.shared) };
        let mut x = graphs.stem.result(model.stem_rows(input)?, &run)?;

        for (layer, caches) in self.caches.iter().enumerate() {
            let run = run.of_layer(model.architecture(), layer, &self.weights[layer]);
            x = graphs.block.result(x, &Run { caches: Some(caches), ..run })?;
        }

        // (B, T, C) or (N, C) -> (N, C)
        let hidden = graphs.head.result(x, &run)?.flatten_to(D::Minus2)?;
        if dims.tokens == 1 {
            self.step = Some((dims, graphs));
        }

        Ok(model.project(&hidden)?.to_vec2()?)
    }
}

fn refuse<T>(expected: String, got: String) -> Result<T> {
    Err(ModelError::Batch { expected, got })
}
