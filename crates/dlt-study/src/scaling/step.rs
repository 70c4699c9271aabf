//! The time of a training step of several processes, as a function of their network and of what they
//! exchange.

/// A way from one process to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Link {
    /// Seconds of a message, whatever its length.
    pub(super) latency_s: f64,
    /// Bytes per second that a process sends, while it receives as many.
    pub(super) bandwidth: f64,
}

/// The ways between the processes of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Links {
    /// Processes of a node.
    pub(super) node: usize,
    /// The way to a process of the same node.
    pub(super) within: Link,
    /// The way to a process of another node.
    pub(super) between: Link,
    /// Seconds of a process's processor to begin an exchange. It computes nothing meanwhile.
    pub(super) overhead_s: f64,
}

/// The computation of one process in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Compute {
    /// Seconds of all of it, up to and with the update.
    pub(super) step_s: f64,
    /// Seconds of the last backward pass, in which gradients become whole.
    pub(super) backward_s: f64,
}

/// Tensors that are exchanged together: gradients as soon as they are whole, and weights after the
/// update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exchange {
    /// Bytes of the gradients, before they are cut into pieces.
    pub(super) gradient_bytes: f64,
    /// Bytes of the weights, before they are cut into pieces.
    pub(super) weight_bytes: f64,
    /// The share of the last backward pass that is done when the gradients are whole, from 0 to 1.
    pub(super) ready: f64,
    /// Messages to each other process, each way.
    pub(super) messages: usize,
    /// Whether it is that of the shared parameters, which are mostly the token table.
    pub(super) is_shared: bool,
}

/// The time of a step, in seconds, by what it is spent on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) compute_s: f64,
    /// Exchange of gradients after the end of the backward pass.
    pub(super) gradients_s: f64,
    /// Exchange of weights.
    pub(super) weights_s: f64,
    /// The processor's time to begin exchanges.
    pub(super) overhead_s: f64,
}

/// What can take most of the time that a step of several processes needs besides computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The number of messages, by their latency and by the overhead of an exchange.
    Messages,
    /// The bytes of the token table. Its gradient is whole last, because its head is used first and
    /// its rows last.
    Table,
    /// The bytes of gradients of blocks that the backward pass does not hide, the last one's at
    /// least.
    Gradients,
    /// The bytes of weights of blocks. Nothing hides them.
    Weights,
}

/// The step of one of `ranks` processes.
///
/// An exchange of n bytes in m messages to each process takes
///
/// ```text
/// p (m latency + n / R / bandwidth) within the node + the same for the q processes of other nodes
/// ```
///
/// because a process sends a piece of n / R bytes to each other one, one message after the other.
/// Gradients are exchanged in the order of `exchanges`. Each exchange begins when its gradients are
/// whole and the one before it has ended, during the backward pass. The weights follow when the last
/// gradient has arrived, because the global norm needs all of them. Each exchange costs the overhead
/// twice.
pub(super) fn step(links: &Links, ranks: usize, compute: Compute, exchanges: &[Exchange]) -> Step {
    let begun_s = compute.step_s - compute.backward_s;
    let ended_s = exchanges.iter().fold(begun_s, |free_s, one| {
        let ready_s = begun_s + one.ready * compute.backward_s;
        free_s.max(ready_s) + links.exchange_s(ranks, one.gradient_bytes, one.messages)
    });

    let weights =
        exchanges.iter().map(|one| links.exchange_s(ranks, one.weight_bytes, one.messages));
    let begins: usize =
        if ranks > 1 { exchanges.iter().map(|one| 2 * one.messages).sum() } else { 0 };

    Step {
        compute_s: compute.step_s,
        gradients_s: (ended_s - compute.step_s).max(0.0),
        weights_s: weights.sum(),
        overhead_s: begins as f64 * links.overhead_s,
    }
}

/// Bytes that a process sends in a step, and its messages.
pub(super) fn sent(ranks: usize, exchanges: &[Exchange]) -> (f64, usize) {
    let others = ranks - 1;
    let bytes: f64 = exchanges.iter().map(|one| one.gradient_bytes + one.weight_bytes).sum();
    let messages: usize = exchanges.iter().map(|one| 2 * one.messages).sum();
    (bytes * others as f64 / ranks as f64, messages * others)
}

impl Links {
    fn exchange_s(&self, ranks: usize, bytes: f64, messages: usize) -> f64 {
        let within = ranks.min(self.node) - 1;
        let between = ranks - 1 - within;
        let piece = bytes / ranks as f64;

        [(within, self.within), (between, self.between)]
            .into_iter()
            .map(|(others, link)| {
                others as f64 * (messages as f64 * link.latency_s + piece / link.bandwidth)
            })
            .sum()
    }
}

impl Step {
    pub(super) fn total_s(&self) -> f64 {
        self.compute_s + self.exchange_s()
    }

    /// Seconds that nothing hides.
    pub(super) fn exchange_s(&self) -> f64 {
        self.gradients_s + self.weights_s + self.overhead_s
    }
}

impl Cause {
    const ALL: [Self; 4] = [Self::Messages, Self::Table, Self::Gradients, Self::Weights];

    /// The cause without which the step would be shortest.
    pub(super) fn first(
        links: &Links,
        ranks: usize,
        compute: Compute,
        exchanges: &[Exchange],
    ) -> Self {
        let without = |cause: Self| {
            let (links, exchanges) = cause.removed(links, exchanges);
            step(&links, ranks, compute, &exchanges).total_s()
        };

        let mut first = Self::Messages;
        for cause in Self::ALL {
            if without(cause) < without(first) {
                first = cause;
            }
        }

        first
    }

    fn removed(self, links: &Links, exchanges: &[Exchange]) -> (Links, Vec<Exchange>) {
        let mut links = *links;
        let mut exchanges = exchanges.to_vec();
        if self == Self::Messages {
            links.within.latency_s = 0.0;
            links.between.latency_s = 0.0;
            links.overhead_s = 0.0;
        }

        for one in &mut exchanges {
            let is_table = self == Self::Table && one.is_shared;
            if is_table || (self == Self::Gradients && !one.is_shared) {
                one.gradient_bytes = 0.0;
            }
            if is_table || (self == Self::Weights && !one.is_shared) {
                one.weight_bytes = 0.0;
            }
        }

        (links, exchanges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums in another order differ in the last bits.
    const ROUNDING: f64 = 1e-12;

    const COMPUTE: Compute = Compute { step_s: 0.3, backward_s: 0.2 };

    fn links(latency_s: f64, bandwidth: f64) -> Links {
        let link = Link { latency_s, bandwidth };
        Links { node: 8, within: link, between: link, overhead_s: 0.0 }
    }

    fn exchange(bytes: f64, ready: f64) -> Exchange {
        let is_shared = ready == 1.0;
        Exchange { gradient_bytes: bytes, weight_bytes: bytes, ready, messages: 1, is_shared }
    }

    fn exchanges() -> Vec<Exchange> {
        vec![exchange(4e6, 0.4), exchange(4e6, 0.9), exchange(9e6, 1.0)]
    }

    #[test]
    fn law_without_latency_infinite_bandwidth_leaves_only_computation() {
        for ranks in [1, 2, 8, 64, 4096] {
            let step = step(&links(0.0, f64::INFINITY), ranks, COMPUTE, &exchanges());
            assert!((step.total_s() - COMPUTE.step_s).abs() < ROUNDING, "{ranks}: {step:?}");
        }
    }

    #[test]
    fn law_one_process_exchanges_nothing() {
        let links = Links { overhead_s: 1.0, ..links(1.0, 1.0) };
        assert_eq!(step(&links, 1, COMPUTE, &exchanges()).exchange_s(), 0.0);
        assert_eq!(sent(1, &exchanges()), (0.0, 0));
    }

    #[test]
    fn law_without_overlap_the_step_is_the_sum_of_its_parts() {
        let late: Vec<Exchange> =
            exchanges().iter().map(|one| Exchange { ready: 1.0, ..*one }).collect();

        for ranks in [2, 8, 64] {
            let links = links(1e-5, 1e9);
            let (bytes, messages) = sent(ranks, &late);
            let sum = COMPUTE.step_s + bytes / 1e9 + messages as f64 * 1e-5;
            let total = step(&links, ranks, COMPUTE, &late).total_s();
            assert!((total - sum).abs() < ROUNDING, "{ranks}: {total} {sum}");

            let hidden = step(&links, ranks, COMPUTE, &exchanges()).total_s();
            assert!(hidden < total, "{ranks}: overlap hid nothing");
        }
    }

    #[test]
    fn law_a_better_network_and_fewer_bytes_never_take_longer() {
        let total = |latency_s: f64, bandwidth: f64, exchanges: &[Exchange]| {
            step(&links(latency_s, bandwidth), 64, COMPUTE, exchanges).total_s()
        };
        let all = exchanges();

        for bandwidth in [1e7, 1e8, 1e9, 1e10] {
            assert!(total(1e-5, 2.0 * bandwidth, &all) < total(1e-5, bandwidth, &all));
            assert!(total(0.0, bandwidth, &all) < total(1e-5, bandwidth, &all));
            assert!(total(1e-5, bandwidth, &all[1..]) < total(1e-5, bandwidth, &all));
        }
    }

    #[test]
    fn a_small_case_agrees_with_its_computation_by_hand() {
        // 4 processes, 2 on a node: 1 other within, 2 between. Pieces of 1,000 and of 2,000 bytes.
        let links = Links {
            node: 2,
            within: Link { latency_s: 1.0, bandwidth: 1000.0 },
            between: Link { latency_s: 3.0, bandwidth: 500.0 },
            overhead_s: 0.25,
        };
        // The first takes 1 + 1 + 2 (3 + 2) = 12 s, the second 1 + 2 + 2 (3 + 4) = 17 s.
        let exchanges = [exchange(4000.0, 0.5), exchange(8000.0, 1.0)];
        // The backward pass lasts from 10 to 30. The first gradients are exchanged from 20 to 32,
        // the second from 32 to 49, and then the weights for 29 s.
        let compute = Compute { step_s: 30.0, backward_s: 20.0 };

        let step = step(&links, 4, compute, &exchanges);
        let expected =
            Step { compute_s: 30.0, gradients_s: 19.0, weights_s: 29.0, overhead_s: 1.0 };
        assert_eq!(step, expected);
        assert_eq!(step.total_s(), 79.0);
        // 3 / 4 of 2 x 12,000 bytes; 2 exchanges each way with 3 others.
        assert_eq!(sent(4, &exchanges), (18_000.0, 12));
    }

    #[test]
    fn an_exchange_in_more_messages_pays_their_latency_only() {
        let more: Vec<Exchange> =
            exchanges().iter().map(|one| Exchange { messages: 12, ready: 1.0, ..*one }).collect();
        let one: Vec<Exchange> = more.iter().map(|one| Exchange { messages: 1, ..*one }).collect();
        let total =
            |exchanges: &[Exchange]| step(&links(1e-5, 1e9), 8, COMPUTE, exchanges).total_s();

        // 11 more messages to 7 others, in 3 exchanges each way.
        let messages = 11 * 7 * 3 * 2;
        assert!((total(&more) - total(&one) - f64::from(messages) * 1e-5).abs() < ROUNDING);
    }

    #[test]
    fn the_first_cause_is_what_the_step_waits_for() {
        let first =
            |links: &Links, exchanges: &[Exchange]| Cause::first(links, 8, COMPUTE, exchanges);
        let block = |gradient_bytes: f64, weight_bytes: f64, ready: f64| Exchange {
            gradient_bytes,
            weight_bytes,
            is_shared: false,
            ..exchange(0.0, ready)
        };

        assert_eq!(first(&links(1.0, 1e9), &exchanges()), Cause::Messages);
        assert_eq!(first(&links(0.0, 1e6), &exchanges()), Cause::Table);
        assert_eq!(first(&links(0.0, 1e6), &[block(9e6, 1e6, 1.0)]), Cause::Gradients);
        // The same bytes as gradients are hidden by the backward pass.
        assert_eq!(first(&links(0.0, 1e9), &[block(9e6, 1e6, 0.1)]), Cause::Weights);
    }
}
