//! The plain spec, a small GPT-2 with the paper's method. Every preset is an overlay of it.

use super::*;

impl Default for Spec {
    /// A model of a few million parameters on the shipped text. The method is as the paper states
    /// it; where the paper is silent, the optimizer has the authors' settings.
    fn default() -> Self {
        Self {
            schema: SPEC_SCHEMA,
            name: "run".into(),
            seed: 1,
            model: ModelSpec::default(),
            data: DataSpec::default(),
            training: TrainingSpec::default(),
            evaluation: EvaluationSpec::default(),
            checkpoint: CheckpointSpec::default(),
            optimizer: OptimizerSpec::default(),
            tying: TyingSpec::default(),
            agent: AgentSpec::default(),
        }
    }
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self {
            architecture: Architecture::Gpt2,
            objective: Objective::NextToken,
            attention: Attention::Causal,
            layers: 12,
            width: 128,
            heads: 4,
            key_heads: Size::AUTO,
            head_width: Size::AUTO,
            attention_bias: AttentionBias::Auto,
            feed_forward_bias: FeedForwardBias::Auto,
            attention_window: Size::AUTO,
            feed_forward: Size::AUTO,
            context: 128,
            positions: Size::AUTO,
            vocabulary: Size::AUTO,
            output: Output::Tied,
            classes: Size::AUTO,
            pooling: Pooling::LastReal,
            picture: 32,
            patch: 4,
            rotary_base: 1e4,
            rotary_kind: RotaryKind::Llama3,
            rotary_stretch: [1.0, 1.0, 4.0, 8192.0],
            rotary_attention: 1.0,
            rotary_short: Vec::new(),
            rotary_long: Vec::new(),
            gelu: Gelu::Tanh,
            norm_epsilon: 1e-5,
            dropout: 0.0,
            initial_std: 0.02,
            start: String::new(),
            start_vocabulary: StartVocabulary::Same,
        }
    }
}

impl Default for DataSpec {
    fn default() -> Self {
        Self {
            source: "shakespeare".into(),
            tokenizer: "gpt2".into(),
            marks: Marks::None,
            split: [0.9, 0.05, 0.05],
            newlines: Newlines::Lf,
            on_bad_row: OnBadRow::Stop,
            csv_separator: CsvSeparator::Auto,
            separator: Separator::Auto,
            pipeline: Pipeline::Stream,
            order: Order::Pass,
            mask_share: 0.15,
            framing: Framing::Marked,
            normalise: Normalise::Own,
            augment: Augment::None,
        }
    }
}

impl Default for TrainingSpec {
    fn default() -> Self {
        Self {
            steps: Size::AUTO,
            epochs: 1,
            batch: 8,
            micro_batch: Size::AUTO,
            checkpointing: Checkpointing::None,
            activations: Activations::F32,
            non_finite: NonFinite::Stop,
            trains: Trains::All,
        }
    }
}

impl Default for EvaluationSpec {
    fn default() -> Self {
        Self {
            every_steps: Size::AUTO,
            batch: Size::AUTO,
            windows: Size::AUTO,
            final_windows: Size::AUTO,
            select_on: Selection::Validation,
        }
    }
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self { every_steps: Size::AUTO, every_minutes: 10.0, keep_last: 2 }
    }
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            decayed: Decayed::All,
            clip_norm: 1.0,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            final_share: 0.1,
        }
    }
}

impl Default for TyingSpec {
    fn default() -> Self {
        Self {
            initial: Initial::Named(InitialName::Frozen),
            decision: Decision::Joint,
            decide_every: 15,
            decide_unit: DecideUnit::Steps,
            decide_until: 1.0,
            first_decision: FirstDecision::AfterK,
            grow: Vec::new(),
            groups: Size::AUTO,
            budget: 1.0,
            tie: Tie::Share,
            merge: Merge::Overwrite,
            gate: f64::INFINITY,
            first_tie: FirstTie::Replicate,
            gradient: Gradient::Sum,
            untie: Untie::Copy,
            retied: Retied::Follow,
            moments: Moments::Fresh,
            group_rate: GroupRate::Same,
            residual_scale: ResidualScale::None,
            state_vector: StateVector::Canonical,
        }
    }
}

impl Default for AgentSpec {
    fn default() -> Self {
        Self {
            policy: PolicyKind::Q,
            pattern: Initial::Named(InitialName::Frozen),
            recording: String::new(),
            permutation: Vec::new(),
            network: Network::Paper,
            hidden: 128,
            learning_rate: 1e-3,
            weight_decay: 0.0,
            gamma: 0.99,
            epsilon_start: 1.0,
            epsilon_decay: 0.95,
            epsilon_floor: 0.1,
            epsilon_decay_per: DecayPer::Decision,
            state_scaling: Scaling::None,
            reward: Reward::NegPpl,
            credit: Credit::All,
            replay_memory: 0,
            replay_batch: 1,
            target_every: 0,
            reward_batches: 1,
            reward_timing: RewardTiming::AtOnce,
        }
    }
}
