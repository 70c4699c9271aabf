//! How much memory a graph needs, computed from shapes alone.

use super::operation::{RecomputedFrom, Trained};
use super::run::Needs;
use super::{Graph, Step};

/// Bytes of an f32 number.
const F32: usize = size_of::<f32>();

/// Bytes that a graph holds besides its parameters and their gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// What the forward pass keeps for the backward pass, the input included.
    pub kept: usize,
    /// Peak of a forward pass that keeps nothing.
    pub result: usize,
    /// Peak of a forward pass that keeps what the backward pass needs.
    pub forward: usize,
    /// Peak of the backward pass, with what is kept and all gradients of values.
    pub backward: usize,
    /// Peak while what the backward pass needs is computed again from the input.
    pub replay: usize,
}

impl Graph {
    /// The memory of the passes. `trained` are the parameters that get gradients, `activation`
    /// is the bytes of one number of an activation.
    #[must_use]
    pub fn footprint(&self, trained: Trained<'_>, activation: usize) -> Footprint {
        Books { graph: self, activation }.footprint(trained)
    }
}

/// What a graph holds, value by value.
struct Books<'a> {
    graph: &'a Graph,
    /// Bytes of a number of an activation.
    activation: usize,
}

impl Books<'_> {
    fn footprint(&self, trained: Trained<'_>) -> Footprint {
        let needs = self.graph.needs(trained);
        let last = self.graph.steps.len();
        let with_result = |mut needs: Needs| {
            needs.values[last] = true;
            needs
        };

        Footprint {
            kept: self.kept(&needs),
            result: self.most_forward(&with_result(self.graph.nothing())),
            replay: self.most_forward(&needs),
            forward: self.most_forward(&with_result(self.graph.needs(trained))),
            backward: self.most_backward(trained, &needs),
        }
    }

    fn shape(&self, number: usize) -> &[usize] {
        self.graph.step(number).map_or(&self.graph.input, |step| &step.shape)
    }

    fn size(&self, number: usize) -> usize {
        self.activation * self.shape(number).iter().product::<usize>()
    }

    /// Bytes of the f32 copies that an operation on the CPU makes of these values while it runs, if
    /// it makes any and activations have another format.
    fn widened(&self, step: &Step, values: impl Iterator<Item = usize>) -> usize {
        if self.activation == F32 || !step.operation.widens() {
            0
        } else {
            values.map(|number| self.size(number) / self.activation * F32).sum()
        }
    }

    fn saved_size(&self, number: usize) -> usize {
        let saved =
            |step: &Step| step.operation.saved_bytes(self.shape(step.inputs[0]), self.activation);
        self.graph.step(number).map_or(0, saved)
    }

    fn working_size(&self, step: &Step) -> usize {
        step.operation.working_bytes(self.shape(step.inputs[0]), self.activation)
    }

    fn kept(&self, needs: &Needs) -> usize {
        let numbers = 0..=self.graph.steps.len();
        let values = numbers.clone().filter(|&number| needs.values[number]);
        let saved = numbers.filter(|&number| needs.saved[number]);
        values.map(|number| self.size(number)).sum::<usize>()
            + saved.map(|number| self.saved_size(number)).sum::<usize>()
    }

    /// Peak of the forward pass, which it follows step by step like `Graph::compute`. The caller
    /// may hold the input, so that counts throughout.
    fn most_forward(&self, needs: &Needs) -> usize {
        let mut readers = self.graph.readers(needs);
        let mut now = self.size(0);
        let mut most = self.size(0);

        for number in 1..=self.graph.steps.len() {
            if !self.graph.runs(number, &readers, needs) {
                continue;
            }

            // While an operation runs, its inputs and its result exist at the same time.
            let step = &self.graph.steps[number - 1];
            let inputs = &step.inputs;
            let saved = if needs.saved[number] { self.saved_size(number) } else { 0 };
            now += self.size(number) + saved;
            let wide = self.widened(step, inputs.iter().copied().chain([number]));
            most = most.max(now + wide + self.working_size(step));

            if readers[number] == 0 && !needs.values[number] {
                now -= self.size(number);
            }

            for &input in inputs {
                readers[input] -= 1;
                if readers[input] == 0 && !needs.values[input] && input > 0 {
                    now -= self.size(input);
                }
            }
        }

        most
    }

    /// Peak of the backward pass, which it follows step by step like [`Graph::backward`].
    fn most_backward(&self, trained: Trained<'_>, needs: &Needs) -> usize {
        let last = self.graph.steps.len();
        let mut there = needs.values.clone();
        let mut gradient = vec![false; last + 1];

        gradient[last] = true;
        let mut now = self.kept(needs) + self.size(last);
        let mut most = now;

        for number in (1..=last).rev() {
            let step = &self.graph.steps[number - 1];
            if !std::mem::take(&mut gradient[number]) {
                continue;
            }
            if step.operation.reads(trained).inputs {
                step.inputs.iter().for_each(|&input| now += self.find_size(input, &mut there));
            }

            // The gradients of the inputs, and the one inside the operation: of what GELU is
            // applied to.
            let inside = if step.operation.recomputed_from() == RecomputedFrom::Saved {
                self.size(number)
            } else {
                0
            };
            let of_inputs: usize = step.inputs.iter().map(|&input| self.size(input)).sum();

            // Widened are the gradient, the inputs that are read, and the gradients of all inputs.
            let read = if step.operation.reads(trained).inputs { &step.inputs[..] } else { &[] };
            let wide = step.inputs.iter().chain(read).copied().chain([number]);
            let working = inside + self.working_size(step);
            most = most.max(now + of_inputs + working + self.widened(step, wide));
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

    /// Bytes that are added when a value that is not there is computed again, with what it is
    /// computed from. Marks it as there.
    fn find_size(&self, number: usize, there: &mut [bool]) -> usize {
        if std::mem::replace(&mut there[number], true) {
            return 0;
        }

        let inputs = match self.graph.step(number) {
            Some(step) if step.operation.recomputed_from() == RecomputedFrom::Inputs => {
                step.inputs.clone()
            }
            _ => Vec::new(),
        };

        self.size(number)
            + inputs.into_iter().map(|input| self.find_size(input, there)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::{DType, Device, Tensor};
    use dlt_kernels::{Gelu, Kernels};
    use dlt_spec::spec::{Attention, AttentionBias, FeedForwardBias, Output, Own, Pooling, Unit};

    use crate::architecture::{Architecture, Form, HeadSettings};
    use crate::batch::Dims;
    use crate::division::Keeps;
    use crate::families::bert::Bert;
    use crate::families::gpt2::Gpt2;
    use crate::families::llama::Llama;
    use crate::families::qwen3::Qwen3;
    use crate::families::rotary::Turning;
    use crate::families::vit::Vit;
    use crate::graph::{ModelGraphs, Reading, Rows, Run, SideInputs, Trained};

    const WINDOWS: usize = 2;
    const TOKENS: usize = 10;
    /// Width, that of the feed-forward layer, heads, heads of keys.
    const C: usize = 12;
    const F: usize = 20;
    const H: usize = 3;
    const G: usize = 1;
    /// Width of a head that is not C / H.
    const D: usize = 6;

    fn form(head: HeadSettings) -> Form {
        Form {
            layers: 3,
            width: C,
            heads: H,
            feed_forward: F,
            norm_epsilon: 1e-5,
            initial_std: 0.1,
            residual_factors: Vec::new(),
            keeps: Keeps::NOTHING,
            head,
        }
    }

    /// Each family, with what its head reads.
    fn families() -> [(Arc<dyn Architecture>, Reading); 7] {
        let positions = TOKENS;
        let vocabulary = 11;
        let gelu = Gelu::Tanh;
        let classes = |pooling| form(HeadSettings::of_classes(4, pooling));
        let own = HeadSettings { output: Output::Own, ..HeadSettings::NEXT_TOKEN };
        let wide = Llama {
            form: form(HeadSettings::NEXT_TOKEN),
            key_heads: H,
            head_width: D,
            attention_bias: AttentionBias::All,
            feed_forward_bias: FeedForwardBias::All,
            positions,
            vocabulary,
            turning: Turning::plain(1e4),
        };
        let bert =
            |form, attention| Arc::new(Bert { form, positions, vocabulary, gelu, attention });

        [
            (
                Arc::new(Gpt2 {
                    form: form(HeadSettings::NEXT_TOKEN),
                    positions,
                    vocabulary,
                    gelu,
                }),
                Reading::All,
            ),
            (bert(form(HeadSettings::NEXT_TOKEN), Attention::Causal), Reading::Picked(7)),
            (bert(classes(Pooling::Mean), Attention::Full), Reading::Mean),
            (
                Arc::new(Vit { form: classes(Pooling::First), picture: 6, patch: 2, gelu }),
                Reading::Picked(WINDOWS),
            ),
            (
                Arc::new(Llama {
                    form: form(own),
                    key_heads: G,
                    head_width: C / H,
                    attention_bias: AttentionBias::None,
                    feed_forward_bias: FeedForwardBias::None,
                    positions,
                    vocabulary,
                    turning: Turning::plain(1e4),
                }),
                Reading::All,
            ),
            (Arc::new(wide.clone()), Reading::All),
            (Arc::new(Qwen3 { decoder: wide }), Reading::All),
        ]
    }

    fn graphs(architecture: &dyn Architecture, reading: Reading) -> ModelGraphs {
        let layouts = [architecture.shared_layout(), architecture.block_layout()].map(Arc::new);
        let dims = Dims { windows: WINDOWS, tokens: TOKENS, reading };
        ModelGraphs::new(architecture, &layouts[0], &layouts[1], &dims).expect("a model")
    }

    #[test]
    fn law_what_is_kept_is_what_was_predicted() {
        for (architecture, reading) in families() {
            let graphs = graphs(architecture.as_ref(), reading);
            let rows = match reading {
                Reading::All => None,
                Reading::Picked(rows) => {
                    let places = Tensor::arange(0, rows as u32, &Device::Cpu).expect("memory");
                    Some(Rows::Picked(places))
                }
                Reading::Mean => Some(Rows::Mean(vec![TOKENS, 3])),
            };

            let side_inputs = SideInputs { rows, ..SideInputs::default() };
            for (name, graph) in
                [("stem", &graphs.stem), ("block", &graphs.block), ("head", &graphs.head)]
            {
                let weights = graph.layout.draw(1, "layer 0", &Device::Cpu).expect("memory");
                for (trained, dtype, residual_factor) in passes() {
                    let run = Run {
                        side_inputs: &side_inputs,
                        residual_factor,
                        trained,
                        ..Run::plain(Kernels::Fused, &weights)
                    };

                    let input = || {
                        Tensor::ones(graph.input.as_slice(), dtype, &Device::Cpu).expect("memory")
                    };
                    let predicted = graph.footprint(trained, dtype.size_in_bytes()).kept;
                    let what = format!("{name} of {architecture:?} in {dtype:?}");
                    let (result, trace) = graph.forward(input(), &run).expect("a pass");

                    assert_eq!(result.dtype(), dtype, "{what}");
                    assert_eq!(trace.bytes(), predicted, "{what}");

                    // What is kept has the format of activations, except for the sums of
                    // attention's softmax.
                    let sums = [WINDOWS, H, TOKENS, 2];
                    for tensor in trace.tensors().filter(|tensor| tensor.dims() != sums) {
                        assert_eq!(tensor.dtype(), dtype, "{what}: {:?}", tensor.dims());
                    }

                    // Only blocks are ever replayed.
                    if name == "block" {
                        let again = graph.replay(input(), &run).expect("a pass");
                        assert_eq!(again.bytes(), predicted, "{what}");
                    }

                    let ones = result.ones_like().expect("memory");
                    let back = graph.backward(trace, ones, &run, None).expect("a pass");
                    assert!(back.is_none_or(|gradient| gradient.dtype() == dtype), "{what}");
                }
            }
        }
    }

    /// Where only what layers keep trains, less is kept, as predicted, and nothing else has a gradient.
    #[test]
    fn law_what_is_kept_for_kept_parameters_is_what_was_predicted() {
        let all_own = [vec![Own::Norms], vec![Own::Scales], vec![Own::Biases, Own::Scales]];
        for (unit, own) in Unit::ALL.iter().flat_map(|unit| all_own.clone().map(|own| (unit, own)))
        {
            let keeps = Keeps { unit: *unit, own };
            let form = Form { keeps: keeps.clone(), ..form(HeadSettings::NEXT_TOKEN) };
            let (positions, vocabulary, gelu) = (TOKENS, 11, Gelu::Tanh);
            let architecture = Gpt2 { form, positions, vocabulary, gelu };
            let division = architecture.division();
            let dims = Dims { windows: WINDOWS, tokens: TOKENS, reading: Reading::All };
            let shared = Arc::new(architecture.shared_layout());
            let graph = ModelGraphs::new(&architecture, &shared, division.all(), &dims)
                .expect("a model")
                .block;
            let weights = graph.layout.draw(1, "layer 0", &Device::Cpu).expect("memory");
            let marked = Trained::Marked(division.is_kept());

            for dtype in DTYPES {
                let kept = |trained| graph.footprint(trained, dtype.size_in_bytes()).kept;
                assert!(kept(Trained::Nothing) <= kept(marked), "{keeps:?}");
                assert!(kept(marked) <= kept(Trained::All), "{keeps:?}");

                let run = Run { trained: marked, ..Run::plain(Kernels::Fused, &weights) };
                let input = Tensor::ones(graph.input.as_slice(), dtype, &Device::Cpu);
                let (result, trace) = graph.forward(input.expect("memory"), &run).expect("a pass");
                assert_eq!(trace.bytes(), kept(marked), "{keeps:?} in {dtype:?}");

                let mut sums = vec![None; weights.len()];
                let ones = result.ones_like().expect("memory");
                graph.backward(trace, ones, &run, Some(&mut sums)).expect("a pass");
                let has: Vec<bool> = sums.iter().map(Option::is_some).collect();
                assert_eq!(has, division.is_kept(), "{keeps:?}");
            }
        }
    }

    /// Whether weights train, the format of activations, and the factor of residual branches.
    fn passes() -> impl Iterator<Item = (Trained<'static>, DType, f64)> {
        let kinds = [Trained::Nothing, Trained::All]
            .into_iter()
            .flat_map(|trained| DTYPES.map(move |dtype| (trained, dtype)));
        kinds.flat_map(|(trained, dtype)| [1.0, 0.25].map(move |factor| (trained, dtype, factor)))
    }

    /// The formats of activations.
    const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

    /// Counted by hand: the results of norms, of gates and of GELU are computed again.
    #[test]
    fn blocks_keep_so_many_bytes() {
        for activation in [2, 4] {
            blocks_keep(activation);
        }
    }

    fn blocks_keep(activation: usize) {
        let rows = WINDOWS * TOKENS * activation;
        let sums = 2 * WINDOWS * TOKENS * H * 4;

        // The input; queries, keys and values; the heads' result; the first sum; what GELU is
        // applied to. Besides, two f32 sums for each head and row.
        let pre_norm = rows * (C + 3 * C + C + C + F) + sums;

        // A post-norm block keeps its second sum too, which the second norm reads.
        let post_norm = pre_norm + rows * C;

        // Llama has fewer keys and values, and gate and up side by side.
        let gated = rows * (C + (C + 2 * G * C / H) + C + C + 2 * F) + sums;

        // Heads with their own width: the input and the result of attention are wider than the
        // residual stream. Biases keep nothing, and neither do norms of heads: what they make is
        // computed again, and so is its rotation.
        let wide = rows * (C + 3 * H * D + H * D + C + 2 * F) + sums;
        let kept = families().map(|(architecture, reading)| {
            graphs(architecture.as_ref(), reading).block.footprint(Trained::All, activation).kept
        });
        assert_eq!(kept, [pre_norm, post_norm, post_norm, pre_norm, gated, wide, wide]);
    }

    #[test]
    fn law_a_pass_that_keeps_less_takes_less() {
        for (architecture, reading) in families() {
            let graphs = graphs(architecture.as_ref(), reading);
            let [narrow, wide] =
                [2, 4].map(|activation| graphs.block.footprint(Trained::All, activation));
            for footprint in [narrow, wide] {
                // Equal if attention itself is the peak: it holds the same in both.
                assert!(
                    footprint.result <= footprint.forward && footprint.kept < footprint.forward
                );
                assert!(footprint.forward < footprint.backward);
                assert!(footprint.replay <= footprint.forward);
            }

            // The sums of attention's softmax are f32 in both.
            assert!(narrow.kept < wide.kept && 2 * narrow.kept > wide.kept);
        }
    }
}
