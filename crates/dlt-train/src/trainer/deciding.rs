//! Lines 8 to 28 of Algorithm 1: one decision, from the evidence before it to what the agent learns
//! from it.

use dlt_agent::{Agent, AgentError, Decision, MAX_LOSS, Measured, Occasion, Searched, Turn, Visit};
use dlt_data::BatchPosition;
use dlt_models::Model;
use dlt_models::binding::Change;
use dlt_spec::record::{DecisionRow, MetricRow, SearchRow};
use dlt_spec::spec::{Order, RewardTiming};
use dlt_state::{EventCounts, State};

use super::Trainer;
use crate::clock::Clock;
use crate::evaluation::Losses;
use crate::run_state::Probe;
use crate::{Result, TrainError, memory};

/// Bytes that a decision must free before memory is given back to the system. The next step then
/// needs fresh pages for its values, which only pays for large blocks.
const GIVE_BACK_FROM: usize = 64 << 20;

/// What became of a decision.
struct Outcome {
    /// Ties and unties that it made; none if it was undone.
    events: EventCounts,
    /// The loss before the decision and the place of its batches, if the gate or the reward needs
    /// them.
    before: Option<Probe>,
    /// What was measured right after the decision, on the same batches.
    after: Option<Measured>,
    refused: bool,
}

impl Trainer {
    /// Runs a part of a decision and adds its time to `deciding_s`. The forward passes in it are
    /// not counted there: they add their own time to `rewarding_s`.
    pub(super) fn deciding<R>(&mut self, part: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let started = Clock::start();
        let rewarding_s = self.run.times.rewarding_s;
        let result = part(self);
        self.run.times.deciding_s +=
            started.elapsed_s() - (self.run.times.rewarding_s - rewarding_s);
        result
    }

    /// Whether the coming step should sketch its gradients: the policy reads their products, and
    /// another decision follows.
    pub(super) fn needs_sketches(&self) -> bool {
        let wants = self.agent.as_ref().is_some_and(|agent| agent.wants().products);
        wants && self.timetable.decides_from(self.run.step + 1)
    }

    /// Makes one decision: decide, apply, reward, learn. Returns the decision's row, with its
    /// reward if that was measured at once; `None` without an agent.
    pub(super) fn decide(&mut self, turn: Turn) -> Result<Option<DecisionRow>> {
        // The agent decides only after it has learned from its last decision.
        self.reward_pending()?;

        // Taken out while it decides: a search has the model of this trainer judge its candidates.
        let Some(mut agent) = self.agent.take() else { return Ok(None) };
        let from = agent.current_state().clone();
        let chosen = self.choose(&mut agent, &from, turn);
        self.agent = Some(agent);

        let (decision, at) = chosen?;
        let outcome = self.enter(&from, &decision, at)?;

        // The authors' code starts a fresh shuffle at each visit of a layer (DEVIATIONS row 19).
        if self.spec.data.order == Order::Sweep {
            self.train.restart()?;
        }

        self.record(&from, &decision, &outcome)?;
        let Outcome { before, after, refused, .. } = outcome;
        let gains = self.spec.agent.reward.needs_loss_before();
        let at_once = self.spec.agent.reward_timing == RewardTiming::AtOnce;

        match after {
            // A decision that was undone is rewarded by the loss that it would have led to. This is
            // the only chance to do so: later losses are those of the old state.
            Some(after) if refused || (gains && at_once) => {
                self.learn(measurable(after, refused), before.map(|probe| probe.loss))
            }
            _ => {
                // The reward waits. A gain is then measured on the batches of `before`, so their
                // place is kept.
                self.run.probe = before.filter(|_| gains);
                if at_once { self.reward_pending() } else { Ok(self.run.pending.clone()) }
            }
        }
    }

    /// The agent's next decision, and the place of the batches that a search judged its candidates
    /// on.
    fn choose(
        &mut self,
        agent: &mut Agent,
        from: &State,
        turn: Turn,
    ) -> Result<(Decision, Option<BatchPosition>)> {
        let evidence = self.run.statistics.evidence(agent, &self.model)?;
        let mut at = None;
        let mut failure = None;

        let mut judge = |candidate: &State| {
            self.judge(from, candidate, &mut at).map_err(|error| {
                failure = Some(error);
                AgentError::NotJudged
            })
        };

        let own = agent.decide_by(&Occasion { turn, evidence: evidence.as_ref() }, &mut judge);

        // What the judge failed of says more than that it failed.
        if let Some(failure) = failure {
            return Err(failure);
        }

        let decision = self.exchange.decision(own?)?;
        let passes = decision.searched.map_or(0, |searched| searched.passes);
        self.run.search_passes += passes;

        Ok((decision, at))
    }

    /// The loss that the model would have in state `candidate`. All candidates of a decision are
    /// judged on the batches at `at`, which the first of them draws.
    fn judge(
        &mut self,
        from: &State,
        candidate: &State,
        at: &mut Option<BatchPosition>,
    ) -> Result<f64> {
        match at {
            Some(at) => self.rewards.resume(at.clone())?,
            None => {
                self.restart_rewards()?;
                *at = Some(self.rewards.position());
            }
        }

        let foreseen = self.model.foreseen(&Change::joint(from, candidate))?;
        let loss = self.measure_in(Some(&foreseen))?.loss;
        // Another state may have any loss; the present one is that of the run.
        if candidate == from && !loss.is_finite() {
            return Err(self.not_measurable(loss));
        }

        Ok(loss)
    }

    /// Carries a decision out. If the spec has a gate and the decision changes what the model
    /// computes, the loss is measured before and after it. A decision that raises the loss by more
    /// than the gate is undone. No step trains in between, so the held weights and moments are
    /// exactly those from before (DEVIATIONS row 43). `searched_at` is the place of the batches that
    /// a search judged on; they are measured on again.
    fn enter(
        &mut self,
        from: &State,
        decision: &Decision,
        searched_at: Option<BatchPosition>,
    ) -> Result<Outcome> {
        let events = from.transition_to(&decision.state)?.event_counts();
        let gate = self.spec.tying.gate;
        let gains = self.spec.agent.reward.needs_loss_before();
        let change = change(from, decision);
        let gated = gate.is_finite() && !self.model.keeps_function(&change)?;

        // Measured before anything changes. A decision that only copies weights keeps the loss, so
        // the gate has nothing to measure.
        let before = if gated || gains { Some(self.probe(searched_at)?) } else { None };

        // No copy: blocks are replaced by a decision, never written, so holding them is enough.
        let held = gated.then(|| (self.model.hold(), self.optimizer.hold()));

        let settlement = self.model.apply(&change)?;
        self.optimizer.settle(&settlement)?;

        // The summary compares the measured peak of memory with the greatest prediction over all
        // bindings.
        let predicted = memory::predict(
            &*self.architecture,
            &self.spec,
            self.material.widest(),
            self.model.binding(),
            self.exchange.world().size(),
        )?;
        self.run.predicted_bytes = self.run.predicted_bytes.max(predicted.peak);

        let mut outcome = Outcome { events, before, after: None, refused: false };
        if let (Some((blocks, moments)), Some(before)) = (held, &outcome.before) {
            let after = self.measure_at(before)?;

            // A NaN fails this comparison, so a loss that is not a number never passes.
            let passes = after.loss - before.loss <= gate;
            outcome.after = Some(after);

            if !passes {
                // Weights and moments go back together: moments belong to slots of the binding.
                self.model.go_back(blocks);
                self.optimizer.go_back(moments);

                outcome.refused = true;
                outcome.events = EventCounts::default();

                if let Some(agent) = &mut self.agent {
                    agent.refuse()?;
                }
            }
        }

        // Weights and both moments of the blocks that are gone. Nothing else is freed: between two
        // steps there are no gradients and no activations.
        let freed = settlement.tied.len() * self.model.bank().layout().n_parameters();
        let freed = freed * 3 * size_of::<f32>();
        if freed >= GIVE_BACK_FROM && !outcome.refused {
            memory::give_back();
        }

        Ok(outcome)
    }

    /// Adds a decision to the recording and to `states.jsonl`, and keeps its row for the metrics
    /// until the reward is known.
    fn record(&mut self, from: &State, decision: &Decision, outcome: &Outcome) -> Result<()> {
        let layer = visited(decision);
        let action = decision.action.clone();
        let row = if outcome.refused {
            self.recording.push_refused(self.run.step, action, layer)?
        } else {
            self.recording.push(self.run.step, action, layer)?
        };

        self.folder.state_line(&row.to_line())?;

        let state = if outcome.refused { from } else { &decision.state };
        self.run.pending = Some(DecisionRow {
            step: self.run.step,
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
            search: decision.searched.map(search_row),
            tied_events: outcome.events.tied,
            untied_events: outcome.events.untied,
            elapsed_ms: self.clock.elapsed_ms(),
        });

        Ok(())
    }

    /// Whether the k training steps between a decision and its late reward are done.
    pub(super) fn is_reward_due(&self) -> bool {
        self.run.pending.as_ref().is_some_and(|row| self.run.step - row.step >= self.reward_after)
    }

    /// Measures the reward of the pending decision, and lets the agent learn from it. `None` if no
    /// decision is pending.
    pub(super) fn reward_pending(&mut self) -> Result<Option<DecisionRow>> {
        if self.run.pending.is_none() {
            return Ok(None);
        }

        match self.run.probe.take() {
            // The same batches as before the decision: the difference of the losses is then free of
            // the noise between batches.
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

    /// Rewards the pending decision by what was measured; `before` is the loss before the decision.
    fn learn(&mut self, measured: Measured, before: Option<f64>) -> Result<Option<DecisionRow>> {
        let (Some(mut row), Some(agent)) = (self.run.pending.take(), &mut self.agent) else {
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

    /// Measures the loss on the reward batches at `at`, or on the next ones, and keeps their place
    /// so that they can be drawn again.
    fn probe(&mut self, at: Option<BatchPosition>) -> Result<Probe> {
        match at {
            Some(at) => self.rewards.resume(at)?,
            None => self.restart_rewards()?,
        }

        // Before the batches are drawn, and after the shuffle: `measure_at` returns to this place.
        let at = self.rewards.position();
        let loss = self.measure()?.loss;
        if loss.is_finite() { Ok(Probe { at, loss }) } else { Err(self.not_measurable(loss)) }
    }

    /// Loss and accuracy now, on the batches of a probe.
    fn measure_at(&mut self, probe: &Probe) -> Result<Measured> {
        self.rewards.resume(probe.at.clone())?;
        self.measure()
    }

    /// Loss and accuracy on the next `agent.reward_batches` batches of rewards, without dropout.
    fn measure(&mut self) -> Result<Measured> {
        self.measure_in(None)
    }

    /// The same of a model that is not entered, or of that of the run.
    fn measure_in(&mut self, foreseen: Option<&Model>) -> Result<Measured> {
        let started = Clock::start();
        let mut measured = Losses::default();
        let share = self.exchange.share();
        let pieces = self.spec.micro_batches();
        let own = share.items(self.spec.agent.reward_batches * pieces);
        let model = foreseen.unwrap_or(&self.model);

        for batch in 0..self.spec.agent.reward_batches {
            // Every process draws every batch, so that the order stays the same in all of them.
            let drawn = self.rewards.next()?.pieces(self.spec.micro_batch());
            for (number, (_, piece)) in drawn.enumerate() {
                if own.contains(&(batch * pieces + number)) {
                    measured.add(model, &piece)?;
                }
            }
        }

        let measured = self.exchange.losses(measured)?.measured();
        self.run.times.rewarding_s += started.elapsed_s();
        Ok(measured)
    }

    /// Starts a fresh shuffle before a measurement, if the spec says so.
    fn restart_rewards(&mut self) -> Result<()> {
        match self.spec.data.order {
            Order::Sweep => self.rewards.restart(),
            Order::Pass => Ok(()),
        }
    }

    fn not_measurable(&self, loss: f64) -> TrainError {
        TrainError::Diverged {
            step: self.run.step,
            loss,
            tensor: "the loss of the reward's batch".to_owned(),
        }
    }
}

/// The one layer that was decided; `None` if all were, or none.
fn visited(decision: &Decision) -> Option<usize> {
    match decision.visit {
        Visit::Layer(layer) => Some(layer),
        Visit::All | Visit::Nothing => None,
    }
}

/// What a search did, as the metrics show it.
fn search_row(searched: Searched) -> SearchRow {
    let Searched { candidates, passes, loss_before, loss_after } = searched;
    SearchRow { candidates, passes, loss_before, loss_after }
}

/// The decision as the binding takes it: from which state to which, by which action.
fn change<'a>(from: &'a State, decision: &'a Decision) -> Change<'a> {
    Change { from, to: &decision.state, action: &decision.action, visited: visited(decision) }
}

/// The measurement that a decision is rewarded by. The loss of a refused decision may be infinite
/// or not a number. It then counts as [`MAX_LOSS`], the worst one, with an accuracy of 0.
fn measurable(measured: Measured, refused: bool) -> Measured {
    if measured.loss.is_finite() || !refused {
        return measured;
    }

    Measured { loss: MAX_LOSS, accuracy: measured.accuracy.map(|_| 0.0) }
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

        // In a state that stays, such a loss means that the run has diverged.
        assert!(measurable(wrong, false).loss.is_nan());
    }
}
