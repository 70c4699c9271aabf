//! Lines 8 to 28 of Algorithm 1: a decision, from what is known before it to what is learned from
//! it.

use dlt_agent::{Decision, MAX_LOSS, Measured, Occasion, Turn, Visit};
use dlt_models::binding::Change;
use dlt_spec::record::{DecisionRow, MetricRow};
use dlt_spec::spec::{Order, Reward, RewardTiming};
use dlt_state::{EventCounts, State};

use super::Trainer;
use crate::checkpoint::Probe;
use crate::clock::Clock;
use crate::evaluation::Evaluation;
use crate::{Result, TrainError, memory};

/// Bytes that a decision has to free before memory is given back to the system. That costs fresh
/// pages for the next step's values, which is worth it for large blocks only.
const GIVE_BACK_FROM: usize = 64 << 20;

/// What a decision came to.
struct Outcome {
    /// What it changed; nothing where it was undone.
    events: EventCounts,
    /// The loss before it, and where its batches are, where anybody asked.
    before: Option<Probe>,
    /// What was measured right after it, on the same batches.
    after: Option<Measured>,
    refused: bool,
}

impl Trainer {
    /// Does a part of a decision, and books its time; that of forward passes is booked by
    /// themselves.
    pub(super) fn deciding<R>(&mut self, part: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let started = Clock::start();
        let rewarding_s = self.times.rewarding_s;
        let result = part(self);
        self.times.deciding_s += started.elapsed_s() - (self.times.rewarding_s - rewarding_s);
        result
    }

    /// Whether the next decision's policy learns from gradients, of which the coming step has some.
    pub(super) fn needs_sketches(&self) -> bool {
        let wants = self.agent.as_ref().is_some_and(|agent| agent.wants().products);
        wants && self.timetable.decides_from(self.step + 1)
    }

    /// Decide, apply, reward, learn.
    pub(super) fn decide(&mut self, turn: Turn) -> Result<Option<DecisionRow>> {
        self.reward_pending()?;
        let Some(agent) = &mut self.agent else { return Ok(None) };
        let evidence = self.statistics.evidence(agent, &self.model)?;
        let decision = agent.decide(&Occasion { turn, evidence: evidence.as_ref() })?;
        let from = agent.current_state().clone();
        let outcome = self.enter(&from, &decision)?;

        if self.spec.data.order == Order::Sweep {
            self.train.restart()?;
        }

        self.record(&from, &decision, &outcome)?;
        let Outcome { before, after, refused, .. } = outcome;
        let gains = self.spec.agent.reward == Reward::Gain;
        let at_once = self.spec.agent.reward_timing == RewardTiming::AtOnce;

        match after {
            // What was undone is rewarded with what it would have come to: nothing comes of it
            // later.
            Some(after) if refused || (gains && at_once) => {
                self.learn(measurable(after, refused), before.map(|probe| probe.loss))
            }
            _ => {
                self.probe = before.filter(|_| gains);
                if at_once { self.reward_pending() } else { Ok(self.pending.clone()) }
            }
        }
    }

    /// Carries a decision out. Where it changes what the model computes and there is a gate, the
    /// loss is measured on both sides of it, and what raises it by more than the gate is undone:
    /// nothing has trained in between, so that what was held is what was there.
    fn enter(&mut self, from: &State, decision: &Decision) -> Result<Outcome> {
        let events = from.transition_to(&decision.state)?.event_counts();
        let gate = self.spec.tying.gate;
        let gains = self.spec.agent.reward == Reward::Gain;
        let change = change(from, decision);
        let gated = gate.is_finite() && !self.model.keeps_function(&change)?;
        let before = if gated || gains { Some(self.probe()?) } else { None };

        let held = gated.then(|| (self.model.hold(), self.optimizer.hold()));

        let settlement = self.model.apply(&change)?;
        self.optimizer.settle(&settlement)?;

        let predicted = memory::predict(&self.spec, &self.material, self.model.binding())?;
        self.predicted_bytes = self.predicted_bytes.max(predicted.peak);

        let mut outcome = Outcome { events, before, after: None, refused: false };
        if let (Some((blocks, moments)), Some(before)) = (held, &outcome.before) {
            let after = self.measure_at(before)?;
            // A loss that is no number is above every gate.
            let passes = after.loss - before.loss <= gate;
            outcome.after = Some(after);

            if !passes {
                self.model.go_back(blocks);
                self.optimizer.go_back(moments);
                outcome.refused = true;
                outcome.events = EventCounts::default();

                if let Some(agent) = &mut self.agent {
                    agent.refuse()?;
                }
            }
        }

        // Weights and both moments of blocks that went; between two steps nothing else lives.
        let freed = settlement.tied.len() * self.model.n_block_parameters() * 3 * size_of::<f32>();
        if freed >= GIVE_BACK_FROM && !outcome.refused {
            memory::give_back();
        }

        Ok(outcome)
    }

    /// Notes a decision in the recording, and for the metrics.
    fn record(&mut self, from: &State, decision: &Decision, outcome: &Outcome) -> Result<()> {
        let layer = visited(decision);
        let action = decision.action.clone();
        let row = match outcome.refused {
            true => self.recording.push_refused(self.step, action, layer)?,
            false => self.recording.push(self.step, action, layer)?,
        };

        self.folder.state_line(&row.to_line())?;
        let state = if outcome.refused { from } else { &decision.state };
        self.pending = Some(DecisionRow {
            step: self.step,
            visit: self.recording.rows().len() - 1,
            layer,
            action: Some(decision.action.values().to_vec()),
            state: state.owners().to_vec(),
            explored: decision.exploration.is_some_and(|exploration| exploration.explored),
            epsilon: decision.exploration.map(|exploration| exploration.epsilon),
            reward: None,
            q_predicted: None,
            q_target: None,
            q_loss: None,
            conflict: decision.conflict,
            unlikeness: decision.unlikeness,
            refused: outcome.refused,
            loss_before: outcome.before.as_ref().map(|probe| probe.loss),
            loss_after: outcome.after.map(|measured| measured.loss),
            tied_events: outcome.events.tied,
            untied_events: outcome.events.untied,
            elapsed_ms: self.clock.elapsed_ms(),
        });

        Ok(())
    }

    /// Whether the k training steps are over that a late reward waits for.
    pub(super) fn is_reward_due(&self) -> bool {
        self.pending.as_ref().is_some_and(|row| self.step - row.step >= self.reward_after)
    }

    /// Measures the reward of the decision that waits for it, and lets the agent learn.
    pub(super) fn reward_pending(&mut self) -> Result<Option<DecisionRow>> {
        if self.pending.is_none() {
            return Ok(None);
        }

        match self.probe.take() {
            Some(probe) => {
                let measured = self.measure_at(&probe)?;
                self.learn(measured, Some(probe.loss))
            }
            None => {
                self.restart_rewards()?;
                let measured = self.measure()?;
                self.learn(measured, None)
            }
        }
    }

    /// Rewards the decision that waits for it with what was measured, `before` being the loss
    /// before it.
    fn learn(&mut self, measured: Measured, before: Option<f64>) -> Result<Option<DecisionRow>> {
        let (Some(mut row), Some(agent)) = (self.pending.take(), &mut self.agent) else {
            return Ok(None);
        };

        if !measured.loss.is_finite() {
            return Err(self.not_measurable(measured.loss));
        }

        let reward = agent.reward(measured, before)?;
        let update = agent.learn(reward)?;
        row.reward = Some(reward);
        row.q_predicted = update.map(|update| update.predicted);
        row.q_target = update.map(|update| update.target);
        row.q_loss = update.map(|update| update.loss);
        self.folder.metric(&MetricRow::Decision(row.clone()))?;

        Ok(Some(row))
    }

    /// The loss on the next batches of rewards, which can be drawn again.
    fn probe(&mut self) -> Result<Probe> {
        self.restart_rewards()?;
        let at = self.rewards.position();
        let loss = self.measure()?.loss;
        if loss.is_finite() { Ok(Probe { at, loss }) } else { Err(self.not_measurable(loss)) }
    }

    /// What is measured now on the batches of a probe.
    fn measure_at(&mut self, probe: &Probe) -> Result<Measured> {
        self.rewards.resume(probe.at.clone())?;
        self.measure()
    }

    /// What is measured on the next batches of rewards.
    fn measure(&mut self) -> Result<Measured> {
        let started = Clock::start();
        let mut measured = Evaluation::default();

        for _ in 0..self.spec.agent.reward_batches {
            for (_, piece) in self.rewards.next()?.pieces(self.spec.micro_batch()) {
                measured.add(&self.model, &piece)?;
            }
        }

        self.times.rewarding_s += started.elapsed_s();
        Ok(measured.measured())
    }

    /// A fresh shuffle before each measurement, where the spec says so.
    fn restart_rewards(&mut self) -> Result<()> {
        match self.spec.data.order {
            Order::Sweep => self.rewards.restart(),
            Order::Pass => Ok(()),
        }
    }

    fn not_measurable(&self, loss: f64) -> TrainError {
        TrainError::Diverged {
            step: self.step,
            loss,
            tensor: "the loss of the reward's batch".to_owned(),
        }
    }
}

/// The one layer that was decided; `None` where all were.
fn visited(decision: &Decision) -> Option<usize> {
    match decision.visit {
        Visit::Layer(layer) => Some(layer),
        Visit::All | Visit::Nothing => None,
    }
}

fn change<'a>(from: &'a State, decision: &'a Decision) -> Change<'a> {
    Change { from, to: &decision.state, action: &decision.action, visited: visited(decision) }
}

/// What a decision is rewarded with. The loss of one that was undone may be no number: it then
/// counts as the greatest that a perplexity is made of.
fn measurable(measured: Measured, refused: bool) -> Measured {
    match measured.loss.is_finite() || !refused {
        true => measured,
        false => Measured { loss: MAX_LOSS, accuracy: measured.accuracy.map(|_| 0.0) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_undone_for_a_loss_that_is_no_number_has_the_worst_reward() {
        let measured = |loss, accuracy| Measured { loss, accuracy };
        let wrong = measured(f64::NAN, Some(f64::NAN));
        assert_eq!(measurable(wrong, true), measured(MAX_LOSS, Some(0.0)));
        assert_eq!(measurable(measured(f64::INFINITY, None), true), measured(MAX_LOSS, None));
        assert_eq!(measurable(measured(3.0, None), true), measured(3.0, None));

        // In force, such a loss is a run that has diverged.
        assert!(measurable(wrong, false).loss.is_nan());
    }
}
