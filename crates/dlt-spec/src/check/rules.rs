//! Every rule: first those of each value by itself, from the table of fields, then those between
//! values.

mod agent;
mod growth;
mod rotary;

use super::grouping;
use crate::error::Violation;
use crate::fields::{self, FIELDS, Field, words_of};
use crate::size::{self, CHANNELS};
use crate::spec::*;

/// How far the sum of `data.split` may be from 1: fractions such as 0.9 are not exact in binary.
const SPLIT_TOLERANCE: f64 = 1e-6;

/// Replaces `auto` where only the order of magnitude of a model counts: GPT-2's vocabulary.
const USUAL_VOCABULARY: usize = 50_257;

/// Replaces `auto` for the number of classes.
const USUAL_CLASSES: usize = 10;

/// The sizes that, together with the width, decide how large a model and its windows are.
const SIZES: &[&str] = &[
    "model.layers",
    "model.heads",
    "model.key_heads",
    "model.head_width",
    "model.feed_forward",
    "model.context",
    "model.positions",
    "model.vocabulary",
    "model.classes",
    "model.picture",
    "model.patch",
];

/// More rows of norms, token types and class tokens than any family has in a block or outside of
/// its blocks.
const FEW_ROWS: usize = 16;

/// Bytes of a parameter in training: weight, gradient and two moments, of four bytes each.
const TRAINING_BYTES: usize = 16;

/// All violations, in the order of the file.
pub(super) fn violations(spec: &Spec) -> Vec<Violation> {
    let mut rules = Rules { spec, violations: Vec::new() };
    rules.each_value(|_| true);

    // First the rules of an agent by itself. Of two rules for one field, the first that is broken
    // gives the message.
    rules.agent();
    rules.model();
    rules.family();
    rules.own_fields();
    rules.heads();
    rules.rotary();
    rules.objective();
    rules.data();
    rules.training();
    rules.tying();
    rules.recording();
    rules.growth();
    rules.sorted()
}

/// The violations among the fields that an agent is built from, in the order of the file.
pub(super) fn violations_of_agent(spec: &Spec) -> Vec<Violation> {
    let mut rules = Rules { spec, violations: Vec::new() };
    rules.each_value(|field| field.section() == "agent" || agent::OTHERS.contains(&field.key()));
    rules.agent();
    rules.sorted()
}

struct Rules<'a> {
    spec: &'a Spec,
    violations: Vec<Violation>,
}

/// What a key must be: words, or a function that makes them where the rule is broken.
trait Rule {
    fn text(self) -> String;
}

impl Rule for &str {
    fn text(self) -> String {
        self.to_owned()
    }
}

impl<F: FnOnce() -> String> Rule for F {
    fn text(self) -> String {
        self()
    }
}

impl Rules<'_> {
    /// The rule of each value by itself, for the fields that are `included`.
    fn each_value(&mut self, included: impl Fn(&Field) -> bool) {
        for field in FIELDS.iter().filter(|field| included(field)) {
            let value = field.value(self.spec);
            self.holds(field.key(), || field.values().allow(&value), || field.values().to_string());
        }
    }

    fn sorted(self) -> Vec<Violation> {
        let mut violations = self.violations;
        violations.sort_by_key(|found| FIELDS.iter().position(|field| field.key() == found.key));
        violations
    }

    /// Records that `key` must be as the rule says unless `test` holds. If `key` already broke a
    /// rule, nothing is recorded: one mistake gives one message.
    fn holds(&mut self, key: &'static str, test: impl FnOnce() -> bool, rule: impl Rule) {
        self.holds_given(key, &[], test, rule);
    }

    /// The same for a test that depends on other keys. If one of them already broke a rule, the
    /// test is not run: it may divide by a size that was checked before.
    fn holds_given(
        &mut self,
        key: &'static str,
        depends_on: &[&str],
        test: impl FnOnce() -> bool,
        rule: impl Rule,
    ) {
        let broken = |key: &str| self.violations.iter().any(|found| found.key == key);
        if broken(key) || depends_on.iter().any(|key| broken(key)) || test() {
            return;
        }

        let value =
            fields::find(key).map_or_else(String::new, |field| field.value(self.spec).to_string());
        self.violations.push(Violation { key, value, rule: rule.text() });
    }

    fn model(&mut self) {
        let model = &self.spec.model;
        self.holds_given(
            "model.heads",
            &["model.width"],
            || {
                let is_free = model.architecture.is_rotary() && model.head_width != Size::AUTO;
                is_free || model.width.is_multiple_of(model.heads)
            },
            || format!("a divisor of model.width = {}", model.width),
        );

        let heads = model.heads;
        self.holds_given(
            "model.key_heads",
            &["model.heads"],
            || match model.key_heads {
                Size::Auto(_) => true,
                Size::Fixed(key_heads) if model.architecture.is_rotary() => {
                    heads.is_multiple_of(key_heads)
                }
                Size::Fixed(key_heads) => key_heads == heads,
            },
            || {
                format!(
                    "a divisor of model.heads = {heads} in {}, \"auto\" elsewhere",
                    names(ROTARY)
                )
            },
        );

        let is_picture = model.architecture == Architecture::Vit;
        self.holds_given(
            "model.patch",
            &["model.picture"],
            || !is_picture || model.picture.is_multiple_of(model.patch),
            || format!("a divisor of model.picture = {}", model.picture),
        );

        let context = model.context;
        self.holds_given(
            "model.positions",
            &["model.context", "model.picture", "model.patch"],
            || match (model.positions, is_picture) {
                (Size::Auto(_), _) => true,
                (Size::Fixed(positions), true) => Some(positions) == size::tokens(model),
                (Size::Fixed(positions), false) => positions >= context,
            },
            || {
                if is_picture {
                    "\"auto\" in vit: as many as a picture has tokens".into()
                } else {
                    format!("at least model.context = {context}")
                }
            },
        );

        self.holds_given(
            "model.width",
            SIZES,
            || is_addressable(self.spec),
            "small enough, together with the other sizes, to address the model and a batch",
        );
    }

    /// What a family of transformer can predict and how.
    fn family(&mut self) {
        let ModelSpec { architecture, objective, attention, pooling, .. } = self.spec.model;
        let is_picture = architecture == Architecture::Vit;
        self.holds(
            "model.objective",
            || match objective {
                Objective::NextToken => !is_picture,
                Objective::MaskedToken => architecture == Architecture::Bert,
                Objective::Classes => true,
            },
            if is_picture {
                "\"classes\" in vit"
            } else {
                "\"next-token\" or \"classes\" except in bert"
            },
        );

        self.holds_given(
            "model.attention",
            &["model.objective"],
            || match (architecture.attention(), objective) {
                (Some(only), _) => attention == only,
                (None, Objective::NextToken) => attention == Attention::Causal,
                (None, Objective::MaskedToken) => attention == Attention::Full,
                (None, Objective::Classes) => true,
            },
            || match attention {
                Attention::Full => {
                    let rotary = names(ROTARY);
                    format!("\"causal\" in gpt2, {rotary}, and where the next token is predicted")
                }
                Attention::Causal => "\"full\" in vit and for masked tokens".into(),
            },
        );

        self.holds_given(
            "model.pooling",
            &["model.objective", "model.attention"],
            || match (objective, pooling, attention) {
                (Objective::NextToken | Objective::MaskedToken, ..) | (_, Pooling::Mean, _) => true,
                (_, Pooling::First, attention) => attention == Attention::Full,
                (_, Pooling::LastReal | Pooling::LastPosition, attention) => {
                    attention == Attention::Causal
                }
            },
            match attention {
                Attention::Causal => {
                    "\"last-real\", \"last-position\" or \"mean\": the first position sees only \
                     itself"
                }
                Attention::Full => "\"first\" or \"mean\" where every position sees all others",
            },
        );
    }

    /// Fields that only other families have keep their defaults.
    fn own_fields(&mut self) {
        let spec = self.spec;
        let default = Spec::default();
        let is_foreign = |field: &&Field| {
            field.is_refused_elsewhere() && !field.is_used_by(spec.model.architecture)
        };

        for field in FIELDS.iter().filter(is_foreign) {
            let value = field.value(&default);
            self.holds(
                field.key(),
                || field.value(spec) == value,
                || format!("{value} except in {}", names(field.families())),
            );
        }
    }

    /// Settings that fit only some objectives.
    fn objective(&mut self) {
        let objective = self.spec.model.objective;
        let trains = self.spec.training.trains;
        self.holds_given(
            "training.trains",
            &["model.objective"],
            || trains == Trains::All || objective == Objective::Classes,
            "\"all\" unless model.objective is \"classes\"",
        );

        let reward = self.spec.agent.reward;
        self.holds_given(
            "agent.reward",
            &["model.objective"],
            || !reward.needs_classes() || objective == Objective::Classes,
            "another reward unless model.objective is \"classes\"",
        );

        let pipeline = self.spec.data.pipeline;

        self.holds_given(
            "data.pipeline",
            &["model.objective"],
            || pipeline == Pipeline::Stream || objective != Objective::MaskedToken,
            "\"stream\" for masked tokens: blocks are for the objective \"next-token\"",
        );
    }

    fn data(&mut self) {
        let data = &self.spec.data;
        let sum: f64 = data.split.iter().sum();
        self.holds(
            "data.split",
            || (sum - 1.0).abs() <= SPLIT_TOLERANCE,
            || format!("fractions whose sum is 1, not {sum}"),
        );

        self.holds(
            "data.separator",
            || data.pipeline != Pipeline::Blocks || data.separator != Separator::EndOfText,
            "\"auto\" or \"line\" with data.pipeline = \"blocks\", which puts the end of text \
             around each block",
        );

        let visits = self.spec.tying.decision == Decision::PerLayer
            && self.spec.agent.policy != PolicyKind::None;

        self.holds(
            "data.order",
            || data.order != Order::Sweep || visits,
            "\"pass\" unless a policy visits layers one by one (tying.decision = \"per-layer\")",
        );
    }

    fn training(&mut self) {
        let TrainingSpec { batch, micro_batch, shards, activations, products, .. } =
            self.spec.training;
        self.holds_given(
            "training.shards",
            &["training.batch"],
            || shards.is_power_of_two() && batch.is_multiple_of(shards),
            || format!("a power of two that divides training.batch = {batch}"),
        );
        self.holds_given(
            "training.micro_batch",
            &["training.batch"],
            || batch.is_multiple_of(micro_batch.or(batch)),
            || format!("a divisor of training.batch = {batch}"),
        );

        self.holds_given(
            "training.products",
            &["training.activations"],
            || products == Products::F32 || activations == Activations::F32,
            || "\"f32\" with training.activations = \"bf16\", which has no f32 matrices".to_owned(),
        );

        // A micro-batch above a shard is cut to the shard; one below it must divide it.
        let shard = batch / shards.max(1);
        self.holds_given(
            "training.micro_batch",
            &["training.batch", "training.shards"],
            || shard == 0 || shard.is_multiple_of(micro_batch.or(batch).min(shard)),
            || format!("a divisor of the {shard} windows of a shard"),
        );
    }

    fn tying(&mut self) {
        let tying = &self.spec.tying;
        self.holds(
            "tying.initial",
            || {
                self.spec.model.start.is_empty()
                    || tying.initial != Initial::Named(InitialName::Frozen)
            },
            "\"independent\", \"tied\" or owners where model.start names a model: weights of \
             frozen layers are drawn, not read",
        );

        // A first decision has to settle, layer by layer, whose weights each layer uses.
        self.holds(
            "tying.retied",
            || {
                tying.initial != Initial::Named(InitialName::Trainable)
                    || tying.retied == Retied::Follow
            },
            "\"follow\" where tying.initial is \"trainable\"",
        );

        self.holds(
            "tying.first_tie",
            || tying.first_tie != FirstTie::Literal || tying.retied == Retied::Follow,
            "\"replicate\" unless tying.retied is \"follow\": with \"keep\" every visit \
             applies its action",
        );

        if tying.tie == Tie::Replicate {
            self.replication();
        }
    }

    /// Rules where no two layers ever share weights: settings of shared weights have no meaning
    /// there and must keep their defaults.
    fn replication(&mut self) {
        let tying = &self.spec.tying;
        let layers = self.spec.model.layers;
        self.holds_given(
            "tying.initial",
            &["model.layers"],
            || {
                tying.initial == Initial::Named(InitialName::Frozen)
                    || grouping(&tying.initial, layers)
                        .is_ok_and(|state| state.n_independent() == layers)
            },
            "\"frozen\" or \"independent\" where tying.tie is \"replicate\": in other \
             groupings layers share weights before the first decision",
        );

        let only = |word: &str| {
            format!("\"{word}\" where tying.tie is \"replicate\": no weights are shared")
        };
        self.holds("tying.gradient", || tying.gradient == Gradient::Sum, || only("sum"));
        self.holds("tying.untie", || tying.untie == Untie::Copy, || only("copy"));
        self.holds("tying.retied", || tying.retied == Retied::Follow, || only("follow"));
    }

    /// The recording that the replaying policies need, and the others must not have.
    fn recording(&mut self) {
        let agent = &self.spec.agent;
        let replays = agent.policy.replays();

        self.holds(
            "agent.recording",
            || agent.recording.is_empty() != replays,
            if replays {
                "the path of a states.jsonl for a policy that replays one"
            } else {
                "empty unless agent.policy is \"replay\" or \"permuted-replay\""
            },
        );
    }
}

/// Families as words, for a message.
fn names(families: &[Architecture]) -> String {
    words_of(families).join(" and ")
}

/// Whether the number of bytes for training the whole model, and for the widest activation of a
/// batch, can be addressed: no allocation may be larger than `isize::MAX`.
fn is_addressable(spec: &Spec) -> bool {
    let model = &spec.model;
    let vocabulary = model.vocabulary.or(USUAL_VOCABULARY);
    let weights = most_parameters(model, vocabulary)
        .and_then(|parameters| parameters.checked_mul(TRAINING_BYTES));
    let tokens = size::tokens(model);

    // Scores of attention are T numbers a token, scores of the vocabulary V.
    let widest = size::feed_forward(model)
        .zip(tokens)
        .map(|(width, tokens)| width.max(vocabulary).max(tokens));

    let windows = spec.training.micro_batch.or(spec.training.batch);
    let activation = widest
        .and_then(|width| width.checked_mul(tokens?))
        .and_then(|numbers| numbers.checked_mul(windows)?.checked_mul(size_of::<f32>()));

    let fits = |bytes: Option<usize>| bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok());
    fits(weights) && fits(activation)
}

/// At least as many parameters as a model has with no layer tied, in any family. It is counted in
/// rows of the residual stream, each with a bias.
fn most_parameters(model: &ModelSpec, vocabulary: usize) -> Option<usize> {
    // A block: queries, keys, values, their output and norms of heads; a feed-forward layer with a
    // gate; a few rows of norms.
    let heads = size::head_width(model)?.checked_mul(model.heads)?;
    let block = heads
        .checked_mul(6)?
        .checked_add(size::feed_forward(model)?.checked_mul(3)?)?
        .checked_add(FEW_ROWS)?;

    let patch = match model.architecture {
        Architecture::Vit => model.patch.checked_mul(model.patch)?.checked_mul(CHANNELS)?,
        _ => 0,
    };

    // Outside of the blocks: tables of tokens at the input and the output, positions, classes,
    // patches, a dense layer, and a few rows of norms.
    let shared = vocabulary
        .checked_mul(2)?
        .checked_add(model.positions.or(size::tokens(model)?))?
        .checked_add(model.classes.or(USUAL_CLASSES))?
        .checked_add(patch)?
        .checked_add(model.width)?
        .checked_add(FEW_ROWS)?;

    let rows = block.checked_mul(model.layers)?.checked_add(shared)?;
    rows.checked_mul(model.width.checked_add(1)?)
}
