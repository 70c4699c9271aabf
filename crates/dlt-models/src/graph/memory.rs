//! How much memory a graph takes, told from shapes alone.

use super::operation::Source;
use super::run::Needs;
use super::{Graph, Step};

/// Numbers (f32) that a graph holds beside its parameters and their gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Kept from the forward pass for the backward pass, the input included.
    pub kept: usize,
    /// Most at one time in a forward pass that keeps nothing.
    pub result: usize,
    /// Most at one time in a forward pass that keeps what the backward pass needs.
    pub forward: usize,
    /// Most at one time in the backward pass, what is kept and all gradients of values included.
    pub backward: usize,
    /// Most at one time in computing what is kept again from the input.
    pub replay: usize,
}

impl Graph {
    /// The memory of a pass with or without gradients of parameters.
    #[must_use]
    pub fn footprint(&self, trains: bool) -> Footprint {
        let (needs, last) = (self.needs(trains), self.steps.len());
        let with_result = |mut needs: Needs| {
            needs.values[last] = true;
            needs
        };
        Footprint {
            kept: self.kept(&needs),
            result: self.most_forward(&with_result(self.nothing())),
            replay: self.most_forward(&needs),
            forward: self.most_forward(&with_result(self.needs(trains))),
            backward: self.most_backward(trains, &needs),
        }
    }

    fn size(&self, number: usize) -> usize {
        self.step(number).map_or(&self.input, |step| &step.shape).iter().product()
    }

    fn saved_size(&self, number: usize) -> usize {
        let input = |step: &Step| self.step(step.inputs[0]).map_or(&self.input, |step| &step.shape).clone();
        self.step(number).map_or(0, |step| step.operation.saved_elements(&input(step)))
    }

    fn kept(&self, needs: &Needs) -> usize {
        let values = (0..=self.steps.len()).filter(|&number| needs.values[number]);
        let saved = (0..=self.steps.len()).filter(|&number| needs.saved[number]);
        values.map(|number| self.size(number)).sum::<usize>()
            + saved.map(|number| self.saved_size(number)).sum::<usize>()
    }

    /// Follows the forward pass step by step. Whoever calls it may hold on to the input, so it counts throughout.
    fn most_forward(&self, needs: &Needs) -> usize {
        let mut readers = self.readers(needs);
        let (mut now, mut most) = (self.size(0), self.size(0));
        for number in 1..=self.steps.len() {
            if !self.runs(number, &readers, needs) {
                continue;
            }
            let saved = if needs.saved[number] { self.saved_size(number) } else { 0 };
            now += self.size(number) + saved;
            most = most.max(now);
            if readers[number] == 0 && !needs.values[number] {
                now -= self.size(number);
            }
            for &input in &self.steps[number - 1].inputs {
                readers[input] -= 1;
                if readers[input] == 0 && !needs.values[input] && input > 0 {
                    now -= self.size(input);
                }
            }
        }
        most
    }

    /// Follows the backward pass step by step, as [`Graph::backward`] goes.
    fn most_backward(&self, trains: bool, needs: &Needs) -> usize {
        let last = self.steps.len();
        let mut there = needs.values.clone();
        let mut gradient = vec![false; last + 1];
        gradient[last] = true;
        let mut now = self.kept(needs) + self.size(last);
        let mut most = now;
        for number in (1..=last).rev() {
            let step = &self.steps[number - 1];
            if !std::mem::take(&mut gradient[number]) {
                continue;
            }
            if step.operation.reads(trains).inputs {
                step.inputs.iter().for_each(|&input| now += self.find_size(input, &mut there));
            }
            // The gradients of the inputs, and of what lies inside the operation.
            let inside = if step.operation.found_again() == Source::Saved { self.size(number) } else { 0 };
            let of_inputs: usize = step.inputs.iter().map(|&input| self.size(input)).sum();
            most = most.max(now + of_inputs + inside);
            now -= self.size(number);
            if std::mem::take(&mut there[number]) {
                now -= self.size(number);
            }
            if needs.saved[number] {
                now -= self.saved_size(number);
            }
            for &input in &step.inputs {
                if !std::mem::replace(&mut gradient[input], true) {
                    now += self.size(input);
                }
            }
            most = most.max(now);
        }
        most
    }

    /// Numbers that finding a value again adds to those that are there.
    fn find_size(&self, number: usize, there: &mut [bool]) -> usize {
        if std::mem::replace(&mut there[number], true) {
            return 0;
        }
        let inputs = match self.step(number) {
            Some(step) if step.operation.found_again() == Source::Inputs => step.inputs.clone(),
            _ => Vec::new(),
        };
        self.size(number) + inputs.into_iter().map(|input| self.find_size(input, there)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::{DType, Device, Tensor};
    use dlt_kernels::{Gelu, Kernels};

    use crate::architecture::{Architecture, Form, HeadSettings};
    use crate::gpt2::Gpt2;
    use crate::graph::{Graph, Reading, Run};

    const X: [usize; 3] = [2, 7, 12];

    fn block() -> (Graph, Vec<Tensor>) {
        let form = Form {
            layers: 3,
            width: 12,
            heads: 3,
            feed_forward: 20,
            norm_epsilon: 1e-5,
            initial_std: 0.1,
            head: HeadSettings::NEXT_TOKEN,
        };
        let architecture = Gpt2 { form, positions: 7, vocabulary: 11, gelu: Gelu::Tanh };
        let layout = Arc::new(architecture.block_layout());
        let graph = Graph::write(&layout, &X, Reading::All, |graph, x| architecture.block(graph, x));
        let graph = graph.expect("a block");
        let weights = layout.draw(1, "layer 0", &Device::Cpu).expect("memory");
        (graph, weights)
    }

    #[test]
    fn law_what_is_kept_is_what_was_predicted() {
        let (graph, weights) = block();
        let run = Run::plain(Kernels::Fused, &weights);
        let input = || Tensor::ones(&X, DType::F32, &Device::Cpu).expect("memory");
        for trains in [false, true] {
            let predicted = graph.footprint(trains).kept;
            let (_, trace) = graph.forward(input(), &run, trains).expect("a pass");
            assert_eq!(trace.elements(), predicted);
            assert_eq!(graph.replay(input(), &run, trains).expect("a pass").elements(), predicted);
        }
        // Input, queries, keys and values, heads' result, first sum, before GELU; two sums a head and row.
        let (rows, c, f, h) = (2 * 7, 12, 20, 3);
        assert_eq!(graph.footprint(true).kept, rows * (c + 3 * c + c + c + f) + 2 * rows * h);
    }

    #[test]
    fn law_a_pass_that_keeps_less_takes_less() {
        let (graph, _) = block();
        let footprint = graph.footprint(true);
        assert!(footprint.result < footprint.forward && footprint.kept < footprint.forward);
        assert!(footprint.forward < footprint.backward);
        assert!(footprint.replay <= footprint.forward);
    }
}
