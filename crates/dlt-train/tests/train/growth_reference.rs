//! Growth from one block follows PyTorch: splits, averaged merges, a swap, a block that scatters,
//! and the gate. The splits that sketches find are those of exact gradients.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use dlt_agent::{Agent, Evidence, GrowPolicy, Measured, Occasion, Turn};
use dlt_data::{Batches, Split, Windows};
use dlt_kernels::{Gelu, Kernels};
use dlt_models::backward::{Gradients, TrainingPass};
use dlt_models::binding::{Binding, Change, Rules};
use dlt_models::parameters::Layout;
use dlt_models::{Batch, Model, ModelError};
use dlt_spec::spec::{Checkpointing, Decision, GroupRate, Merge, Moments, Reward, TyingSpec};
use dlt_spec::{Spec, seeds};
use dlt_state::State;
use dlt_train::optimizer::{Optimizer, ParameterMoments};
use rand::RngCore;
use serde_json::Value;

use crate::bench::{Bench, finish};
use crate::fixtures::{adamw, count, counts, distance, gpt2, json, number, tensors, tokens};

/// The oracle in f32 differs by up to 8e-7 from itself in f64.
const LOSS_TOLERANCE: f64 = 2e-5;
/// Relative. The oracle in f32 differs by up to 1.2e-5 from itself in f64.
const NORM_TOLERANCE: f64 = 2e-4;
/// The oracle in f32 differs by up to 3.3e-6 from itself in f64.
const GRADIENT_TOLERANCE: f64 = 5e-5;
/// Twenty-four AdamW steps at 1e-2 and less. The oracle in f32 differs by up to 6e-7 from itself in
/// f64.
const WEIGHT_TOLERANCE: f64 = 2e-5;
/// Decayed means of gradients clipped to norm 1. The oracle in f32 differs by up to 5e-7 from
/// itself in f64.
const FIRST_MOMENT_TOLERANCE: f64 = 1e-5;
/// Decayed means of their squares. The oracle in f32 differs by up to 1e-9 from itself in f64.
const SECOND_MOMENT_TOLERANCE: f64 = 1e-7;

#[test]
fn matches_reference_growth_through_splits_merges_and_the_gate() {
    let oracle = json("growth/training.json");
    let cases = oracle["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 3);

    for case in cases {
        for kernels in [Kernels::Fused, Kernels::Composed] {
            let mut run = Run::new(&oracle, case, kernels);
            for step in 0..run.batches.len() {
                run.decide_before(step);
                run.train(step);
            }

            assert_eq!((run.decided, run.refused), (10, 1));
            run.check_final();
        }
    }
}

/// A run through the oracle's script.
struct Run<'a> {
    case: &'a Value,
    script: &'a [Value],
    batches: &'a [Value],
    gradient_steps: Vec<usize>,
    gate: f64,
    gate_windows: &'a Value,
    model: Model,
    optimizer: Optimizer,
    state: State,
    decided: usize,
    refused: usize,
}

impl<'a> Run<'a> {
    fn new(oracle: &'a Value, case: &'a Value, kernels: Kernels) -> Self {
        let moments = match case["moments"].as_str() {
            Some("inherit") => Moments::Inherit,
            Some("resume") => Moments::Resume,
            _ => Moments::Fresh,
        };

        let tying = TyingSpec {
            moments,
            merge: Merge::Average,
            group_rate: GroupRate::Inverse,
            ..Spec::default().tying
        };

        let sizes = ["layers", "width", "heads", "feed_forward", "positions", "vocabulary"];
        let architecture = gpt2(sizes.map(|key| count(&oracle["config"][key])), Gelu::Tanh);
        let state = State::all_tied(architecture.form.layers);
        let file = tensors("gpt2/transitions_initial.safetensors");
        let lookup = |name: &str| file.load(name, &Device::Cpu).map(Some).map_err(ModelError::from);
        let binding = Binding::of_state(&state);

        let rules = Rules::from(&tying);
        let model = Model::from_weights(
            Arc::new(architecture),
            binding,
            rules,
            kernels,
            &lookup,
            None,
            &Device::Cpu,
        )
        .expect("the fixture holds every weight");

        Self {
            case,
            script: oracle["script"].as_array().expect("a script"),
            batches: oracle["batches"].as_array().expect("batches"),
            gradient_steps: counts(&oracle["gradient_steps"]),
            gate: number(&oracle["gate"]),
            gate_windows: &oracle["gate_windows"],
            model,
            optimizer: Optimizer::new(&adamw(), &tying),
            state,
            decided: 0,
            refused: 0,
        }
    }

    fn what(&self, step: usize) -> String {
        format!("{} with {:?} kernels, step {step}", self.case["moments"], self.model.kernels())
    }

    /// Carries out the decision before a step, if there is one, and undoes it if the gate refuses
    /// it.
    fn decide_before(&mut self, step: usize) {
        let Some(scripted) = self.script.iter().find(|each| count(&each["before_step"]) == step)
        else {
            return;
        };

        let expected = &self.case["decisions"][self.decided];
        let what = self.what(step);
        self.decided += 1;

        let to = State::new(counts(&scripted["state"])).expect("a state");
        let change = Change { from: &self.state, to: &to, action: to.as_action(), visited: None };
        let keeps = self.model.keeps_function(&change).expect("states of this depth");

        assert_eq!(Some(keeps), expected["keeps_function"].as_bool(), "{what}");

        let before = self.gate_loss();
        let held = (self.model.hold(), self.optimizer.hold());
        let settlement = self.model.apply(&change).expect("applied");

        self.optimizer.settle(&settlement).expect("settled");
        let after = self.gate_loss();
        for (ours, theirs) in [(before, &expected["loss_before"]), (after, &expected["loss_after"])]
        {
            let theirs = number(theirs);
            assert!((ours - theirs).abs() < LOSS_TOLERANCE, "{what}: {ours} for {theirs}");
        }

        // Copies change no bit.
        assert!(!keeps || before == after, "{what}: {before} before, {after} after");

        let gated = scripted["gated"].as_bool().expect("whether there is a gate") && !keeps;
        let passes = !gated || after - before <= self.gate;

        assert_eq!(Some(passes), expected["passes"].as_bool(), "{what}");
        if passes {
            self.state = to;
        } else {
            self.refused += 1;
            self.model.go_back(held.0);
            self.optimizer.go_back(held.1);
            assert_eq!(self.gate_loss(), before, "{what}");
        }

        assert_eq!(self.state.owners(), counts(&expected["state"]), "{what}");
        assert_eq!(self.model.binding().partition(), self.state.owners(), "{what}");
    }

    /// Mean loss on the windows of the gate.
    fn gate_loss(&self) -> f64 {
        let (inputs, targets) = tokens(self.gate_windows);
        let windows = self.gate_windows.as_array().expect("windows").len();
        let batch = Batch::next_token(&inputs, &targets, windows);
        self.model.loss_sum(&batch).expect("a loss") / targets.len() as f64
    }

    /// Mean loss and gradients of the batch of a step.
    fn gradients(&self, step: usize, sketch: Option<u64>) -> (f64, Gradients) {
        let (inputs, targets) = tokens(&self.batches[step]);
        let windows = self.batches[step].as_array().expect("windows").len();
        let n = targets.len() as f64;
        let batch = Batch::next_token(&inputs, &targets, windows);

        let pass = TrainingPass {
            checkpointing: Checkpointing::None,
            dropout: None,
            scale: 1.0 / n,
            sketch,
        };

        let (loss, gradients) = self.model.gradients(&batch, &pass).expect("a pass");
        (loss / n, gradients)
    }

    fn train(&mut self, step: usize) {
        let (loss, gradients) = self.gradients(step, None);
        let norm = gradients.norm().expect("a norm");
        let what = self.what(step);
        let expected = number(&self.case["losses"][step]);

        assert!((loss - expected).abs() < LOSS_TOLERANCE, "{what}: loss {loss} for {expected}");
        let expected = number(&self.case["gradient_norms"][step]);
        assert!(
            (norm / expected - 1.0).abs() < NORM_TOLERANCE,
            "{what}: norm {norm} for {expected}"
        );

        if self.gradient_steps.contains(&step) {
            let shared = (self.shared_prefix(), self.model.shared().layout(), &gradients.shared);
            let slots = gradients.slots.iter();
            let blocks = slots
                .map(|(&slot, own)| (self.block_prefix(slot), self.model.bank().layout(), own));

            for (prefix, layout, own) in std::iter::once(shared).chain(blocks) {
                self.compare(
                    &format!("gradient-{step}/"),
                    &prefix,
                    layout,
                    own,
                    GRADIENT_TOLERANCE,
                );
            }

            assert_eq!(
                gradients.slots.keys().copied().collect::<Vec<_>>(),
                self.owners(),
                "{what}"
            );
        }

        self.optimizer.step(&self.model, gradients, norm, 1e-2).expect("a step");
    }

    fn owners(&self) -> Vec<usize> {
        (0..self.state.n_layers()).filter(|&layer| self.state.is_independent(layer)).collect()
    }

    fn shared_prefix(&self) -> String {
        self.model.architecture().shared_prefix().to_owned()
    }

    fn block_prefix(&self, layer: usize) -> String {
        self.model.architecture().block_prefix(layer)
    }

    /// Compares tensors of one layout with those of the oracle that are named
    /// `{kind}{prefix}{name}`.
    fn compare(&self, kind: &str, prefix: &str, layout: &Layout, ours: &[Tensor], tolerance: f64) {
        assert_eq!(layout.entries().len(), ours.len(), "{kind}{prefix}");
        let file = tensors(&format!("growth/{}", self.case["file"].as_str().expect("a file")));

        for (entry, ours) in layout.entries().iter().zip(ours) {
            let name = format!("{kind}{prefix}{}", entry.name);
            let theirs = file.load(&name, &Device::Cpu).expect("the fixture holds it");
            let apart = distance(&name, ours, &theirs);

            assert!(apart < tolerance, "{}: {name} is {apart} off", self.what(self.batches.len()));
            let from_zero = distance(&name, &theirs.zeros_like().expect("zeros"), &theirs);
            assert!(from_zero > tolerance, "{name} would pass as 0");
        }
    }

    fn check_final(&self) {
        let file = tensors(&format!("growth/{}", self.case["file"].as_str().expect("a file")));
        for (name, ours) in self.model.named_tensors().expect("weights") {
            let theirs = file.load(&name, &Device::Cpu).expect("the fixture holds it");
            let apart = distance(&name, &ours, &theirs);
            assert!(apart < WEIGHT_TOLERANCE, "{}: {name} is {apart} off", self.case["moments"]);
        }

        let steps = &self.case["final_steps"];
        let check =
            |prefix: String, layout: &Layout, moments: &[ParameterMoments], steps: &Value| {
                let of = |moment: fn(&ParameterMoments) -> &Tensor| -> Vec<Tensor> {
                    moments.iter().map(|each| moment(each).clone()).collect()
                };
                self.compare(
                    "exp_avg/",
                    &prefix,
                    layout,
                    &of(|each| &each.first),
                    FIRST_MOMENT_TOLERANCE,
                );

                self.compare(
                    "exp_avg_sq/",
                    &prefix,
                    layout,
                    &of(|each| &each.second),
                    SECOND_MOMENT_TOLERANCE,
                );

                let taken: Vec<_> = moments.iter().map(|each| each.step as usize).collect();
                assert_eq!(
                    taken,
                    vec![count(steps); taken.len()],
                    "{}: steps of {prefix}",
                    self.case["moments"]
                );
            };

        check(
            self.shared_prefix(),
            self.model.shared().layout(),
            self.optimizer.shared(),
            &steps["rest"],
        );

        let owners = self.owners();
        for &owner in &owners {
            let moments = &self.optimizer.slots()[&owner];
            check(
                self.block_prefix(owner),
                self.model.bank().layout(),
                moments,
                &steps[owner.to_string()],
            );
        }

        assert_eq!(owners.len() + 1, steps.as_object().expect("steps by owner").len());
        // Moments that wait for their layer to be an owner again. Only `resume` keeps any.
        let kept = self.optimizer.slots().iter().filter(|(slot, _)| !owners.contains(slot));
        let kept: serde_json::Map<_, _> =
            kept.map(|(slot, moments)| (slot.to_string(), moments[0].step.into())).collect();

        assert_eq!(&Value::Object(kept), &self.case["kept_steps"], "{}", self.case["moments"]);
    }
}

/// Projections of each step.
const PROJECTIONS: u64 = 300;
/// Tolerance for products of two gradients, as a share of the product of their norms: four standard
/// errors. One error is at most √2/16 over the root of three steps of 300 projections, which is 0.3
/// %.
const PRODUCT_TOLERANCE: f64 = 0.012;
/// The disagreements are 1.34 and 0.75; those of the second best splits are 1.20 and 0.47. A
/// disagreement sums cosines of both signs, whose errors partly cancel, so it is off by up to
/// 0.002.
const DISAGREEMENT_TOLERANCE: f64 = 0.02;

#[test]
fn matches_reference_splits_of_exact_gradients_from_many_sketches() {
    let oracle = json("growth/training.json");
    let mut run = Run::new(&oracle, &oracle["cases"][0], Kernels::Fused);
    let splits = run.case["splits"].as_array().expect("splits");
    let n_layers = run.state.n_layers();
    let mut agent = grower(n_layers);
    let mut products = vec![0.0; n_layers * n_layers];

    let mut steps = 0.0;
    let mut found = 0;

    for step in 0..run.batches.len() {
        if run.script.iter().any(|each| count(&each["before_step"]) == step) {
            let expected = &splits[found];
            let products = std::mem::replace(&mut products, vec![0.0; n_layers * n_layers]);
            let products: Vec<_> = products.iter().map(|sum| sum / steps).collect();

            check_products(&products, &expected["products"], n_layers);
            let evidence =
                Evidence { n_layers, products, distances: Vec::new(), norms: Vec::new() };
            let occasion = Occasion { turn: Turn::Split, evidence: Some(&evidence) };
            let decision = agent.decide(&occasion).expect("a split");

            assert_eq!(decision.state.owners(), counts(&run.script[found]["state"]), "step {step}");
            let ours = decision.conflict.expect("measured");
            let theirs = number(&expected["disagreement"]);

            assert!(
                (ours - theirs).abs() < DISAGREEMENT_TOLERANCE,
                "step {step}: {ours} for {theirs}"
            );

            // The best split is better than the others by more than the tolerance.
            assert!(
                theirs - number(&expected["next"]) > DISAGREEMENT_TOLERANCE,
                "step {step}: {expected}"
            );
            let reward = agent.reward(Measured::of_loss(1.0), None).expect("a reward");
            agent.learn(reward).expect("nothing to learn");
            steps = 0.0;
            found += 1;
            run.decide_before(step);
        }

        if found == splits.len() {
            break;
        }

        for projection in 0..PROJECTIONS {
            let (_, gradients) = run.gradients(step, Some(step as u64 * PROJECTIONS + projection));
            let sketched = gradients.sketches.expect("requested").products();
            products
                .iter_mut()
                .zip(sketched)
                .for_each(|(sum, product)| *sum += product / PROJECTIONS as f64);
        }

        run.train(step);
        steps += 1.0;
    }

    assert_eq!(found, 2);
}

/// An agent that splits by the disagreement of gradients, from one group.
fn grower(n_layers: usize) -> Agent {
    let initial = State::all_tied(n_layers);
    Agent::with_policy(Box::new(GrowPolicy), Reward::NegPpl, Decision::Split, initial)
}

fn check_products(ours: &[f64], theirs: &Value, n_layers: usize) {
    let theirs: Vec<_> = theirs.as_array().expect("products").iter().map(number).collect();
    assert_eq!(ours.len(), theirs.len());

    for (at, (ours, expected)) in ours.iter().zip(&theirs).enumerate() {
        let i = at / n_layers;
        let j = at % n_layers;
        let norms = (theirs[i * n_layers + i] * theirs[j * n_layers + j]).sqrt();
        let apart = (ours - expected).abs() / norms;

        assert!(
            apart < PRODUCT_TOLERANCE,
            "layers {i} and {j}: {ours} for {expected}, {apart} apart"
        );
    }
}

/// Relative. Right after a split, the gradients here are still summed in the blocks before it, in
/// another order in f32.
const AGAIN_TOLERANCE: f64 = 1e-5;

/// A run decides from the mean of the products of its own batches since the last decision; each
/// step has its own projection. They are drawn again here, and the agent makes the same splits with
/// the same disagreement.
#[test]
fn a_run_splits_by_the_products_of_its_own_batches() {
    let bench = Bench::new();
    let settings = [
        "tying.decision=split",
        "tying.grow=[0.25, 0.5, 0.5]",
        "tying.initial=tied",
        "agent.policy=grow",
        "model.dropout=0.0",
    ];
    finish(bench.trainer("run", &settings, None));

    let rows = bench.decisions("run");
    assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), [6, 12, 12]);

    let spec = bench.spec(&settings);
    let windows = bench.splits(&spec).windows(Split::Train).expect("windows");
    let order = seeds::stream(spec.seed, "data");
    let mut batches = Batches::new(windows.count(), spec.training.batch, order).expect("batches");
    let mut trainer = bench.trainer("again", &settings, None);
    let mut agent = grower(spec.model.layers);

    let mut sums = vec![0.0; spec.model.layers.pow(2)];
    let mut since = 0;

    for step in 0..=12 {
        for row in rows.iter().filter(|row| row.step == step) {
            let products = sums.iter().map(|sum| sum / f64::from(since)).collect();
            let distances = Vec::new();
            let norms = Vec::new();
            let evidence = Evidence { n_layers: spec.model.layers, products, distances, norms };
            let occasion = Occasion { turn: Turn::Split, evidence: Some(&evidence) };
            let decision = agent.decide(&occasion).expect("a split");

            assert_eq!(decision.state.owners(), row.state, "{step}");
            let ours = decision.conflict.expect("measured");
            let theirs = row.conflict.expect("recorded");

            assert!(
                (ours / theirs - 1.0).abs() < AGAIN_TOLERANCE,
                "step {step}: {ours} for {theirs}"
            );
            let reward = agent.reward(Measured::of_loss(1.0), None).expect("a reward");
            agent.learn(reward).expect("nothing to learn");
        }

        if rows.iter().any(|row| row.step == step) {
            sums.fill(0.0);
            since = 0;
        }

        let seed = seeds::stream(spec.seed, &format!("sketch/{step}")).next_u64();
        let products = run_products(trainer.model(), &windows, batches.next_batch(), seed);
        sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        since += 1;
        trainer.advance().expect("it trains");
    }
}

/// Products of the positions' gradients on a batch of windows.
fn run_products(model: &Model, windows: &Windows, chosen: &[usize], seed: u64) -> Vec<f64> {
    let context = windows.context();
    let mut inputs = vec![0; chosen.len() * context];
    let mut targets = vec![0; chosen.len() * context];
    let places = inputs.chunks_mut(context).zip(targets.chunks_mut(context));

    for (&window, (input, target)) in chosen.iter().zip(places) {
        windows.fill(window, input, target).expect("a window");
    }

    let batch = Batch::next_token(&inputs, &targets, chosen.len());
    let scale = 1.0 / targets.len() as f64;
    let pass = TrainingPass {
        checkpointing: Checkpointing::None,
        dropout: None,
        scale,
        sketch: Some(seed),
    };

    let (_, gradients) = model.gradients(&batch, &pass).expect("a pass");
    gradients.sketches.expect("requested").products()
}
