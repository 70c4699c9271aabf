//! The seam between the processes of one run. The loop calls it wherever a run of several processes
//! would differ from a run of one.

mod transport;

use dlt_agent::Decision;
use dlt_models::backward::Gradients;

use crate::Result;
use crate::evaluation::Evaluation;
pub use transport::{Subject, Threads, Transport, TransportError, Words, World};

/// What the processes of a run exchange. Each process has the whole model and the whole agent, and
/// computes on its own part of every batch.
///
/// All processes make the same calls in the same order, so a call needs no name: of a training
/// step, [`losses`](Self::losses) then [`gradients`](Self::gradients); of a decision before it,
/// [`decision`](Self::decision), with `losses` for each measurement of a reward or a gate; of an
/// evaluation, `losses`. After a call every process must hold the same bits, because each
/// continues from them by itself.
///
/// # Errors
/// An error ends the run of the process that gets it. The run folder is then as after a kill.
pub trait Exchange {
    /// Sums of a training step, a measurement or an evaluation over all processes: losses,
    /// predictions, counts of classes. `own` are those of this process's windows.
    ///
    /// # Errors
    /// Fails if the exchange does.
    fn losses(&mut self, own: Evaluation) -> Result<Evaluation>;

    /// Replaces the gradients of this process's windows by their sums over all processes. It is
    /// called between the backward pass and the global norm, so norm, clipping and update are then
    /// the same everywhere.
    ///
    /// # Shapes
    /// Those of the layouts: `shared` first, then the slots by rising number. A tied or frozen layer
    /// has no gradient, so nothing of it is exchanged. Sketches are linear in the gradients and are
    /// summed as they are.
    ///
    /// # Errors
    /// Fails if the exchange does.
    fn gradients(&mut self, own: &mut Gradients) -> Result<()>;

    /// The decision of process 0, which every process carries out after `step` training steps.
    /// `own` is this process's, from the same agent and the same losses.
    ///
    /// # Errors
    /// Fails if the exchange does, or if `own` differs from the decision of process 0: their agents
    /// then no longer agree.
    fn decision(&mut self, step: usize, own: Decision) -> Result<Decision>;

    /// Whether this process writes the run folder and reports progress: true in process 0 alone. It
    /// is asked before each write, and exchanges nothing.
    fn writes(&self) -> bool;
}

/// The exchange of a run of one process. It does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Exchange for Alone {
    fn losses(&mut self, own: Evaluation) -> Result<Evaluation> {
        Ok(own)
    }

    fn gradients(&mut self, _: &mut Gradients) -> Result<()> {
        Ok(())
    }

    fn decision(&mut self, _: usize, own: Decision) -> Result<Decision> {
        Ok(own)
    }

    fn writes(&self) -> bool {
        true
    }
}
