//! Experiences: decisions and what they led to, and a memory of them.

use crate::error::AgentError;
use crate::exact;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// One decision and its result. Both vectors have L entries.
#[derive(Clone, Debug)]
pub struct Experience<'a> {
    /// The state vector before the decision.
    pub before: &'a [usize],
    /// The action: the layer that each layer was asked to copy. Only the entries of `layers` count.
    pub action: &'a [usize],
    /// The layers whose values learn from the reward, rising.
    pub layers: &'a [usize],
    /// The reward of the decision.
    pub reward: f64,
    /// The state vector that the decision led to.
    pub after: &'a [usize],
}

/// An [`Experience`] that owns its vectors, so that it can be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The state vector before the decision.
    pub before: Vec<usize>,
    /// The layer that each layer was asked to copy.
    pub action: Vec<usize>,
    /// The layers whose values learn from the reward, rising.
    pub layers: Vec<usize>,
    /// The reward.
    #[serde(with = "exact::f64_bits")]
    pub reward: f64,
    /// The state vector that the decision led to.
    pub after: Vec<usize>,
}

/// The last experiences, and random draws from them (DEVIATIONS row 48).
#[derive(Clone, Debug)]
pub struct ReplayMemory {
    /// Greatest number of experiences that are kept.
    capacity: usize,
    /// Number of experiences in one draw.
    batch: usize,
    experiences: VecDeque<Remembered>,
    rng: ChaCha8Rng,
}

/// Everything in a [`ReplayMemory`] that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySnapshot {
    /// The experiences, the oldest first.
    pub experiences: Vec<Remembered>,
    /// The random stream for the draws.
    pub rng: ChaCha8Rng,
}

impl ReplayMemory {
    /// A memory that keeps the last `capacity` experiences, and draws `batch` of them with random
    /// numbers from `rng`.
    #[must_use]
    pub fn new(capacity: usize, batch: usize, rng: ChaCha8Rng) -> Self {
        Self { capacity, batch, experiences: VecDeque::new(), rng }
    }

    /// A batch of different experiences, each set of them equally likely. If there are no more than
    /// a batch, it is all of them, the oldest first. The second value is the stream after the
    /// draws, for [`remember`](Self::remember).
    pub(crate) fn draw(&self) -> (Vec<Experience<'_>>, ChaCha8Rng) {
        let n = self.experiences.len();
        // A copy: if the update then fails, the memory and its stream are unchanged.
        let mut rng = self.rng.clone();
        let mut numbers: Vec<usize> = (0..n).collect();

        if n > self.batch {
            // The first steps of a Fisher-Yates shuffle, as many as are drawn.
            for place in 0..self.batch {
                numbers.swap(place, rng.random_range(place..n));
            }
            numbers.truncate(self.batch);
        }

        (numbers.into_iter().map(|number| self.experiences[number].as_experience()).collect(), rng)
    }

    /// Keeps `newest`, and forgets the oldest experience if there are too many. `rng` is the stream
    /// that [`draw`](Self::draw) returned.
    pub(crate) fn remember(&mut self, newest: &Experience<'_>, rng: ChaCha8Rng) {
        self.rng = rng;
        self.experiences.push_back(Remembered::from(newest));
        while self.experiences.len() > self.capacity {
            self.experiences.pop_front();
        }
    }

    pub(crate) fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot {
            experiences: self.experiences.iter().cloned().collect(),
            rng: self.rng.clone(),
        }
    }

    /// The memory that `snapshot` was made of. Fails if it has more experiences than are kept, or
    /// one that is impossible for `n_layers` layers.
    pub(crate) fn restored(
        &self,
        snapshot: &MemorySnapshot,
        n_layers: usize,
    ) -> Result<Self, AgentError> {
        let mismatch =
            |place, expected: String, got: String| AgentError::Mismatch { place, expected, got };
        let n = snapshot.experiences.len();
        if n > self.capacity {
            let expected = format!("at most {}", self.capacity);
            return Err(mismatch("experiences in the replay memory", expected, n.to_string()));
        }

        if let Some(wrong) =
            snapshot.experiences.iter().find(|experience| !experience.fits(n_layers))
        {
            let expected = format!("one about {n_layers} layers");
            return Err(mismatch(
                "an experience in the replay memory",
                expected,
                format!("{wrong:?}"),
            ));
        }

        let experiences = snapshot.experiences.iter().cloned().collect();
        Ok(Self { experiences, rng: snapshot.rng.clone(), ..*self })
    }
}

impl Remembered {
    /// The experience, with borrowed vectors.
    #[must_use]
    pub fn as_experience(&self) -> Experience<'_> {
        Experience {
            before: &self.before,
            action: &self.action,
            layers: &self.layers,
            reward: self.reward,
            after: &self.after,
        }
    }

    /// Whether the entries are possible for this number of layers. They index the Q-network's
    /// outputs, so an impossible one would panic in a later update.
    fn fits(&self, n_layers: usize) -> bool {
        let bounded = |values: &[usize]| {
            values.len() == n_layers
                && values.iter().enumerate().all(|(layer, &value)| value <= layer)
        };

        let layers = &self.layers;
        let decided = !layers.is_empty()
            && layers.is_sorted_by(|one, next| one < next)
            && layers.iter().all(|layer| (1..n_layers).contains(layer));

        decided
            && [&self.before, &self.action, &self.after].into_iter().all(|values| bounded(values))
    }
}

impl From<&Experience<'_>> for Remembered {
    fn from(experience: &Experience<'_>) -> Self {
        Self {
            before: experience.before.to_vec(),
            action: experience.action.to_vec(),
            layers: experience.layers.to_vec(),
            reward: experience.reward,
            after: experience.after.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn memory(capacity: usize, batch: usize) -> ReplayMemory {
        ReplayMemory::new(capacity, batch, dlt_spec::seeds::stream(1, "replay-memory"))
    }

    fn remember(memory: &mut ReplayMemory, reward: f64) {
        let newest =
            Experience { before: &[0, 0], action: &[0, 1], layers: &[1], reward, after: &[0, 1] };
        let rng = memory.draw().1;
        memory.remember(&newest, rng);
    }

    fn drawn(memory: &ReplayMemory) -> Vec<f64> {
        memory.draw().0.iter().map(|experience| experience.reward).collect()
    }

    #[test]
    fn the_oldest_experiences_are_forgotten_and_few_are_drawn_whole() {
        let mut memory = memory(3, 4);
        assert!(drawn(&memory).is_empty());

        for reward in 0..5_u8 {
            remember(&mut memory, f64::from(reward));
        }

        assert_eq!(drawn(&memory), [2.0, 3.0, 4.0]);
    }

    #[test]
    fn law_draws_are_of_different_experiences_and_equally_likely() {
        const DRAWS: usize = 12_000;
        let mut memory = memory(4, 2);
        (0..4_u8).for_each(|reward| remember(&mut memory, f64::from(reward)));

        let mut counts = BTreeMap::new();
        for _ in 0..DRAWS {
            let pair: Vec<u64> = drawn(&memory).into_iter().map(|reward| reward as u64).collect();
            assert_ne!(pair[0], pair[1]);
            *counts.entry(pair).or_insert(0_usize) += 1;
            memory.rng = memory.draw().1;
        }

        assert_eq!(counts.len(), 12, "every ordered pair");
        let expected = DRAWS as f64 / 12.0;

        for (pair, count) in counts {
            let off = (count as f64 - expected).abs();
            assert!(off < 5.0 * expected.sqrt(), "{pair:?} {count} times");
        }
    }
}
