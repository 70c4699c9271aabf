//! A graph with weights: its forward and its backward pass.

use candle_core::Tensor;
use dlt_kernels::Kernels;

use super::operation::{
    Backward, BlockPacks, Call, ParameterSums, RecomputedFrom, Trained, absent,
};
use super::side_inputs::{Caches, NOTHING, SideInputs};
use super::{Graph, Step};
use crate::Result;
use crate::architecture::{Architecture, DropoutPass};

/// What a graph runs with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) kernels: Kernels,
    /// The weights, in the order of the layout.
    pub(crate) parameters: &'a [Tensor],
    /// Where the packed form of each parameter is kept, if it outlives an operation.
    pub(crate) packs: Option<BlockPacks<'a>>,
    /// The parameters that get gradients.
    pub(crate) trained: Trained<'a>,
    pub(crate) dropout: Option<DropoutPass>,
    /// Number of the graph's first dropout site in the whole model.
    pub(crate) first_site: usize,
    /// Factor of the residual branches of the layer, if the graph is a block's.
    pub(crate) residual_factor: f64,
    pub(crate) side_inputs: &'a SideInputs,
    pub(crate) caches: Option<&'a Caches>,
}

impl<'a> Run<'a> {
    /// A run without dropout, without side inputs, with a factor of 1 for branches, and with gradients
    /// of all parameters.
    pub(crate) fn plain(kernels: Kernels, parameters: &'a [Tensor]) -> Self {
        let packs = None;
        let dropout = None;
        let first_site = 0;
        let residual_factor = 1.0;

        Self {
            kernels,
            parameters,
            packs,
            trained: Trained::All,
            dropout,
            first_site,
            residual_factor,
            side_inputs: &NOTHING,
            caches: None,
        }
    }

    /// The same run of a layer's block: with its weights and its factor.
    pub(crate) fn of_layer<'b>(
        &self,
        architecture: &dyn Architecture,
        layer: usize,
        weights: &'b [Tensor],
    ) -> Run<'b>
    where
        'a: 'b,
    {
        Run { parameters: weights, residual_factor: architecture.residual_factor(layer), ..*self }
    }
}

/// What a forward pass keeps for the backward pass, by the number of the value: the values
/// themselves, and what operations saved besides their results.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    values: Vec<Option<Tensor>>,
    saved: Vec<Option<Tensor>>,
}

#[cfg(test)]
impl Trace {
    /// Bytes of the kept tensors.
    pub(super) fn bytes(&self) -> usize {
        let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.tensors().map(size).sum()
    }

    /// The kept tensors.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.values.iter().chain(&self.saved).flatten()
    }
}

/// Which values and which saved tensors are needed, by number; value 0 is the input.
pub(super) struct Needs {
    pub(super) values: Vec<bool>,
    pub(super) saved: Vec<bool>,
}

impl Graph {
    fn call<'a>(&self, run: &Run<'a>, step: &Step, inputs: Vec<Option<Tensor>>) -> Call<'a> {
        Call {
            kernels: run.kernels,
            parameters: run.parameters,
            packs: run.packs,
            trained: run.trained,
            dropout: run.dropout,
            first_site: run.first_site,
            residual_factor: run.residual_factor,
            side_inputs: run.side_inputs,
            caches: run.caches,
            window_dims: [self.input[0], self.input[1]],
            data: step.inputs.iter().map(|&input| input == 0 && self.takes_data).collect(),
            inputs,
        }
    }

    /// The result, without anything for a backward pass.
    pub(crate) fn result(&self, input: Tensor, run: &Run<'_>) -> Result<Tensor> {
        let mut needs = self.nothing();
        needs.values[self.steps.len()] = true;
        self.compute(input, run, &needs)?.values.pop().flatten().ok_or_else(|| absent("a result"))
    }

    /// The result, and what the backward pass needs.
    pub(crate) fn forward(&self, input: Tensor, run: &Run<'_>) -> Result<(Tensor, Trace)> {
        // The result is computed in any case; whether it is also kept is up to the operations.
        let mut needs = self.needs(run.trained);
        let keeps_result = std::mem::replace(&mut needs.values[self.steps.len()], true);
        let mut trace = self.compute(input, run, &needs)?;
        let result = trace.values[self.steps.len()].clone().ok_or_else(|| absent("a result"))?;

        // The caller has the result. A second reference would keep its memory until the backward
        // pass.
        if !keeps_result {
            trace.values[self.steps.len()] = None;
        }

        Ok((result, trace))
    }

    /// What the backward pass needs, computed from the input. Operations that only the result
    /// depends on do not run.
    pub(crate) fn replay(&self, input: Tensor, run: &Run<'_>) -> Result<Trace> {
        self.compute(input, run, &self.needs(run.trained))
    }

    /// The gradient of the input, if it has one, from the gradient of the result. Gradients of
    /// parameters are added to `into`.
    pub(crate) fn backward(
        &self,
        mut trace: Trace,
        gradient: Tensor,
        run: &Run<'_>,
        mut into: ParameterSums<'_>,
    ) -> Result<Option<Tensor>> {
        let mut gradients: Vec<Option<Tensor>> = vec![None; self.steps.len() + 1];
        gradients[self.steps.len()] = Some(gradient);

        for (number, step) in self.numbered().rev() {
            // A value without a gradient has no influence on the result.
            let Some(gradient) = gradients[number].take() else { continue };
            let reads = step.operation.reads(run.trained);
            let mut inputs = vec![None; step.inputs.len()];

            if reads.inputs {
                for (slot, &number) in inputs.iter_mut().zip(&step.inputs) {
                    *slot = Some(self.find(number, &mut trace, run)?);
                }
            }

            let back = Backward {
                call: self.call(run, step, inputs),
                gradient: &gradient,
                result: trace.values[number].as_ref(),
                saved: trace.saved[number].as_ref(),
            };
            let of_inputs = step.operation.backward(&back, into.as_deref_mut())?;

            // The loop goes from the last operation to the first, so no later round reads these.
            trace.values[number] = None;
            trace.saved[number] = None;
            drop(gradient);

            // A value that several operations read has the sum of their gradients.
            for (&input, term) in step.inputs.iter().zip(of_inputs) {
                gradients[input] = Some(match gradients[input].take() {
                    Some(sum) => run.kernels.add(&sum, &term)?,
                    None => term,
                });
            }
        }

        Ok(gradients[0].take())
    }

    /// A value that was kept, or that is computed again from what was kept.
    fn find(&self, number: usize, trace: &mut Trace, run: &Run<'_>) -> Result<Tensor> {
        if let Some(value) = &trace.values[number] {
            return Ok(value.clone());
        }

        let Some(step) = self.step(number) else { return Err(absent("its input")) };
        let value = match step.operation.recomputed_from() {
            RecomputedFrom::Nothing => return Err(absent("a value")),
            RecomputedFrom::Inputs => {
                let inputs =
                    step.inputs.iter().map(|&input| self.find(input, trace, run).map(Some));
                let inputs = inputs.collect::<Result<_>>()?;
                step.operation.forward(&self.call(run, step, inputs), false)?.value
            }
            RecomputedFrom::Saved => {
                let saved = trace.saved[number].as_ref().ok_or_else(|| absent("a saved value"))?;
                step.operation.recompute(&self.call(run, step, Vec::new()), saved)?
            }
        };

        // An earlier operation may read the same value; it is freed with the step that made it.
        trace.values[number] = Some(value.clone());
        Ok(value)
    }

    /// Computes what is needed. Every other value is freed as soon as its last reader has run.
    fn compute(&self, input: Tensor, run: &Run<'_>, needs: &Needs) -> Result<Trace> {
        let mut readers = self.readers(needs);
        let mut trace = Trace {
            values: vec![None; self.steps.len() + 1],
            saved: vec![None; self.steps.len() + 1],
        };

        trace.values[0] = Some(input);
        for (number, step) in self.numbered() {
            if !self.runs(number, &readers, needs) {
                continue;
            }

            let inputs = step.inputs.iter().map(|&input| trace.values[input].clone()).collect();
            let outcome =
                step.operation.forward(&self.call(run, step, inputs), needs.saved[number])?;
            trace.saved[number] = outcome.saved;

            if readers[number] > 0 || needs.values[number] {
                trace.values[number] = Some(outcome.value);
            }

            // Values without further readers are freed now, unless the backward pass needs them.
            for &input in &step.inputs {
                readers[input] -= 1;
                if readers[input] == 0 && !needs.values[input] {
                    trace.values[input] = None;
                }
            }
        }

        Ok(trace)
    }

    /// For each value, how many of the operations that run read it.
    pub(super) fn readers(&self, needs: &Needs) -> Vec<usize> {
        let mut readers = vec![0; self.steps.len() + 1];

        // From the last to the first, so that all readers of a value are counted before it is
        // decided whether the value's own operation runs.
        for number in (1..=self.steps.len()).rev() {
            if self.runs(number, &readers, needs) {
                for &input in &self.steps[number - 1].inputs {
                    readers[input] += 1;
                }
            }
        }

        readers
    }

    /// Whether an operation has to run: its result is read, or its result or what it saves is
    /// needed.
    pub(super) fn runs(&self, number: usize, readers: &[usize], needs: &Needs) -> bool {
        readers[number] > 0 || needs.values[number] || needs.saved[number]
    }

    /// What the forward pass has to keep for the backward pass.
    pub(super) fn needs(&self, trained: Trained<'_>) -> Needs {
        let mut needs = self.nothing();
        for (number, step) in self.numbered() {
            let reads = step.operation.reads(trained);
            if reads.inputs {
                step.inputs.iter().for_each(|&input| self.keep(input, &mut needs));
            }
            if reads.result {
                self.keep(number, &mut needs);
            }

            needs.saved[number] |= reads.saved;
        }

        needs
    }

    /// Marks a value as needed, or what it is computed from again.
    fn keep(&self, number: usize, needs: &mut Needs) {
        match self.step(number).map(|step| (step, step.operation.recomputed_from())) {
            None | Some((_, RecomputedFrom::Nothing)) => needs.values[number] = true,
            Some((step, RecomputedFrom::Inputs)) => {
                step.inputs.iter().for_each(|&input| self.keep(input, needs))
            }
            Some((_, RecomputedFrom::Saved)) => needs.saved[number] = true,
        }
    }

    /// Operations by the number of the value that they compute.
    fn numbered(&self) -> impl DoubleEndedIterator<Item = (usize, &Step)> {
        self.steps.iter().enumerate().map(|(index, step)| (index + 1, step))
    }

    /// No value at all.
    pub(super) fn nothing(&self) -> Needs {
        let none = vec![false; self.steps.len() + 1];
        Needs { values: none.clone(), saved: none }
    }

    /// The operation that computes a value; none for the input.
    pub(super) fn step(&self, number: usize) -> Option<&Step> {
        number.checked_sub(1).map(|index| &self.steps[index])
    }
}
