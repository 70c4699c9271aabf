//! The models, networks and processors of a prediction. Each constant says where its number is from.

use anyhow::Result;
use dlt_spec::spec::Size;
use dlt_spec::{CheckedSpec, Spec};

use super::step::{Compute, Exchange, Link, Links};
use crate::cost::operations_per_step;

/// Processes of the rows.
pub(super) const RANKS: [usize; 3] = [8, 64, 512];
/// Windows of a process in a step, T and V of every model.
pub(super) const WINDOWS: usize = 8;
pub(super) const TOKENS: usize = 1024;
pub(super) const VOCABULARY: usize = 50_257;
/// Windows of the batch of strong scaling, and the most windows that count as a usual batch: that of
/// GPT-2 (Radford et al. 2019, section 2.3: a batch of 512 windows of 1,024 tokens).
pub(super) const BATCH: u32 = 512;
/// Milliseconds of a step of 12 x 768 with 8 windows, measured in bf16 on one H200
/// (data/results/gpu/README.md: 47.3 ms, 173,099 tokens/s).
pub(super) const STEP_MS: f64 = 47.3;
/// GPU memory that the same step held (data/results/gpu/README.md: 3,456 MiB).
const STEP_BYTES: f64 = 3456.0 * 1024.0 * 1024.0;
/// Memory of an H200, from its data sheet.
pub(super) const MEMORY_BYTES: f64 = 141e9;
/// Bytes of an H200 a second to the other GPUs of its node: NVIDIA's data sheet says 900 GB/s both
/// ways together.
const NVLINK: f64 = 450e9;
/// Bytes of one of the ConnectX-7 adapters of a DGX H200, which has one of 400 Gb/s for each GPU.
const INFINIBAND: f64 = 50e9;
/// Bytes of 100 Gb/s a second.
const ETHERNET: f64 = 12.5e9;
/// Seconds of a hop in NCCL's tuning table for large messages (src/graph/tuning.cc, `hwLat`, ring,
/// Simple: 3.4 us by NVLink and 14.0 us by network).
const NVLINK_LATENCY_S: f64 = 3.4e-6;
const NETWORK_LATENCY_S: f64 = 14.0e-6;
/// Microseconds to begin an exchange (the same table, `baseLat`, ring, Simple: 8.4 us).
pub(super) const BEGINNING_US: f64 = 8.4;
/// GPUs of a node.
pub(super) const NODE: usize = 8;
/// Tensors of a block, and those outside of blocks: two tables, a gain and an offset.
const TENSORS_OF_BLOCK: usize = 12;
const SHARED_TENSORS: usize = 4;
const BYTES_OF_F32: f64 = 4.0;

/// What is predicted.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) networks: Vec<Network>,
    /// Numbers of processes.
    pub(super) ranks: Vec<usize>,
    /// Milliseconds of a step of 12 x 768 in one process.
    pub(super) step_ms: f64,
    /// Windows that are divided among the processes in strong scaling.
    pub(super) batch: usize,
    /// Whether each tensor is exchanged by itself.
    pub(super) by_tensor: bool,
}

/// A network under its name.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) name: &'static str,
    pub(super) links: Links,
}

impl Network {
    /// The name of a network that options describe.
    pub(super) const GIVEN: &str = "given";

    /// NVLink within nodes of 8, and between nodes a 400 Gb/s InfiniBand adapter for each GPU.
    pub(super) fn nvlink() -> Self {
        Self::new(
            "NVLink",
            Link { latency_s: NVLINK_LATENCY_S, bandwidth: NVLINK },
            Link { latency_s: NETWORK_LATENCY_S, bandwidth: INFINIBAND },
        )
    }

    /// 100 Gb/s Ethernet to every other process, without a faster way to any.
    pub(super) fn ethernet() -> Self {
        let link = Link { latency_s: NETWORK_LATENCY_S, bandwidth: ETHERNET };
        Self::new("Ethernet", link, link)
    }

    /// A network of this many gigabytes a second and microseconds a message. What is not given is
    /// that of Ethernet.
    pub(super) fn given(bandwidth: Option<f64>, latency: Option<f64>) -> Self {
        let link = Link {
            latency_s: latency.map_or(NETWORK_LATENCY_S, |us| us * 1e-6),
            bandwidth: bandwidth.map_or(ETHERNET, |gigabytes| gigabytes * 1e9),
        };
        Self::new(Self::GIVEN, link, link)
    }

    fn new(name: &'static str, within: Link, between: Link) -> Self {
        Self { name, links: Links { node: NODE, within, between, overhead_s: 0.0 } }
    }

    pub(super) fn with_overhead(mut self, us: f64) -> Self {
        self.links.overhead_s = us * 1e-6;
        self
    }
}

/// A GPT-2 with its layers in groups.
#[derive(Clone, Debug)]
pub(super) struct Model {
    spec: CheckedSpec,
    /// Owners, at equal distances from layer 0 on.
    groups: usize,
}

impl Model {
    /// A model of these layers, width and heads, with its layers in `groups` groups.
    pub(super) fn new([layers, width, heads]: [usize; 3], groups: usize) -> Result<Self> {
        let mut spec = Spec { name: "scale".to_owned(), ..Spec::default() };
        spec.model.layers = layers;
        spec.model.width = width;
        spec.model.heads = heads;
        spec.model.context = TOKENS;
        spec.model.vocabulary = Size::Fixed(VOCABULARY);
        spec.training.batch = WINDOWS;
        Ok(Self { spec: spec.check()?, groups })
    }

    /// Parameters outside of blocks: the token table, which is the head too, the table of positions,
    /// and the last norm.
    fn shared(&self) -> f64 {
        ((VOCABULARY + TOKENS + 2) * self.spec.model.width) as f64
    }

    /// Parameters of a block of GPT-2, the only family of this page: four products of C x C, two of
    /// C x 4 C, their biases, and two norms.
    fn block(&self) -> f64 {
        let width = self.spec.model.width;
        (width * (12 * width + 13)) as f64
    }

    pub(super) fn parameters(&self) -> f64 {
        self.shared() + self.groups as f64 * self.block()
    }

    /// Operations of a step of [`WINDOWS`] windows. Tying changes none.
    fn operations(&self) -> f64 {
        operations_per_step(&self.spec, WINDOWS, false)
    }

    /// The computation of a process with so many windows, in passes of at most [`WINDOWS`].
    /// `step_ms` is the time of [`WINDOWS`] windows of 12 x 768; others follow by their operations.
    /// Two thirds of a pass are backward.
    pub(super) fn compute(&self, step_ms: f64, windows: f64) -> Result<Compute> {
        let measured = Self::new(SMALL, SMALL[0])?;
        let pass_s = step_ms * 1e-3 * self.operations() / measured.operations();
        let passes = windows / WINDOWS as f64;

        Ok(Compute { step_s: pass_s * passes, backward_s: pass_s * passes.min(1.0) * 2.0 / 3.0 })
    }

    /// What is exchanged in a step, in the order of the backward pass. A group's gradient is whole
    /// once its lowest layer, the owner, has been visited, and that of the token table at the end.
    pub(super) fn exchanges(&self, by_tensor: bool) -> Vec<Exchange> {
        let layers = self.spec.model.layers;
        let head = (VOCABULARY * self.spec.model.width) as f64;
        let attention = (2 * TOKENS * self.spec.model.width) as f64;
        let layer = self.block() + attention;
        let all = head + layers as f64 * layer;

        let exchange = |parameters: f64, ready: f64, tensors: usize, is_shared: bool| Exchange {
            gradient_bytes: BYTES_OF_F32 * parameters,
            weight_bytes: BYTES_OF_F32 * parameters,
            ready,
            messages: if by_tensor { tensors } else { 1 },
            is_shared,
        };

        let owners = (0..self.groups).rev().map(|group| group * layers / self.groups);
        let blocks = owners.map(|owner| {
            let ready = (head + (layers - owner) as f64 * layer) / all;
            exchange(self.block(), ready, TENSORS_OF_BLOCK, false)
        });

        blocks.chain([exchange(self.shared(), 1.0, SHARED_TENSORS, true)]).collect()
    }

    /// Bytes of a process: weights and gradients, its part of both moments, activations, and what is
    /// sent and received in the largest exchange. Activations are those of the measured step, by
    /// layers and width.
    pub(super) fn memory_bytes(&self, ranks: usize) -> Result<f64> {
        let measured = Self::new(SMALL, SMALL[0])?;
        let states = 4.0 * BYTES_OF_F32;
        let size = |model: &Self| (model.spec.model.layers * model.spec.model.width) as f64;
        let activations =
            (STEP_BYTES - states * measured.parameters()) * size(self) / size(&measured);
        let largest = BYTES_OF_F32 * self.shared().max(self.block());

        Ok(self.parameters() * BYTES_OF_F32 * (2.0 + 2.0 / ranks as f64)
            + activations
            + 2.0 * largest)
    }
}

/// Layers, width and heads of the models.
pub(super) const SMALL: [usize; 3] = [12, 768, 12];
pub(super) const LARGE: [usize; 3] = [48, 1600, 25];

#[cfg(test)]
mod tests {
    use super::*;

    fn model(size: [usize; 3], groups: usize) -> Model {
        Model::new(size, groups).unwrap()
    }

    #[test]
    fn parameters_are_those_of_gpt2() {
        assert_eq!(model(SMALL, 12).parameters(), 124_439_808.0);
        assert_eq!(model(LARGE, 48).parameters(), 1_557_611_200.0);
    }

    #[test]
    fn the_recorded_step_takes_its_time_and_others_theirs_by_operations() {
        let compute = model(SMALL, 12).compute(47.3, 8.0).unwrap();
        assert!((compute.step_s - 0.0473).abs() < 1e-15, "{compute:?}");
        assert!((compute.backward_s - 0.0473 * 2.0 / 3.0).abs() < 1e-15, "{compute:?}");

        // 64 windows are 8 passes, and only the last of them hides an exchange.
        let long = model(SMALL, 12).compute(47.3, 64.0).unwrap();
        assert!((long.step_s - 8.0 * 0.0473).abs() < 1e-15);
        assert_eq!(long.backward_s, compute.backward_s);

        // 12.0 times the operations, by hand: 1,713 million weights and scores against 142.6.
        let large = model(LARGE, 4).compute(47.3, 8.0).unwrap();
        assert!((large.step_s / compute.step_s - 12.0).abs() < 0.05, "{large:?}");
    }

    #[test]
    fn law_fewer_groups_send_fewer_bytes_later() {
        let bytes = |groups: usize| -> f64 {
            model(SMALL, groups).exchanges(false).iter().map(|one| one.gradient_bytes).sum()
        };
        assert_eq!(bytes(12), 4.0 * 124_439_808.0);

        for (fewer, more) in [(1, 2), (2, 4), (4, 12)] {
            assert!(bytes(fewer) < bytes(more));
            let ready = |groups: usize| model(SMALL, groups).exchanges(false)[0].ready;
            assert!(ready(fewer) > ready(more));
        }
    }

    #[test]
    fn exchanges_are_in_the_order_in_which_gradients_are_whole() {
        for (size, groups) in [(SMALL, 12), (SMALL, 4), (LARGE, 48), (LARGE, 1)] {
            let exchanges = model(size, groups).exchanges(false);
            assert_eq!(exchanges.len(), groups + 1);
            assert!(exchanges.windows(2).all(|pair| pair[0].ready <= pair[1].ready));
            assert!(exchanges.iter().all(|one| one.ready > 0.0));
            // Layer 0 owns itself, so its gradient is whole when the backward pass ends.
            let last = &exchanges[groups - 1..];
            assert!(last.iter().all(|one| (one.ready - 1.0).abs() < 1e-12), "{last:?}");
            assert!(last[1].is_shared && !last[0].is_shared);
        }
    }

    #[test]
    fn memory_of_one_process_is_what_was_measured_and_two_buffers() {
        let buffers = 2.0 * 4.0 * model(SMALL, 12).shared();
        let memory = |ranks| model(SMALL, 12).memory_bytes(ranks).unwrap();
        assert!((memory(1) - STEP_BYTES - buffers).abs() < 1.0);
        // Of moments, 8 processes have an eighth each.
        assert!((memory(1) - memory(8) - 7.0 * 124_439_808.0).abs() < 1.0);
    }
}
